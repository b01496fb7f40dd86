"""Typed options of every command: the only place of their defaults, choices, checks and messages."""
