"""The index of runs below a folder, comparisons of two of them, and the server that shows both."""
