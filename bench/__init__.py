"""The harness: asks models for predictions, keeps a row per image, and turns rows into tables and reports."""
