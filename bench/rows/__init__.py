"""What is kept: rows of evaluations, and what they are of."""
