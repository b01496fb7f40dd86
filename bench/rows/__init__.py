"""The results on disk: rows of evaluations, and the facts about them."""
