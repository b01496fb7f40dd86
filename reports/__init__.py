"""Data frames to plots and pages. Needs no model and knows nothing of how the numbers were made."""
