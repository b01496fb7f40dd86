"""Attacks on image classifiers; `registry` has them by name, `base` says what an attack is."""
