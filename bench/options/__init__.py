"""Typed options of every command: the only home of their defaults, choices, checks and messages."""
