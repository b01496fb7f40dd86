"""The harness: runs models on images, keeps one row per image, and turns rows into tables and reports.

The Python API is `framebench`.
"""
