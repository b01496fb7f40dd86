"""The harness: asks models for predictions, keeps one row per image, and turns rows into tables and reports.

From Python it is used as `framebench`.
"""
