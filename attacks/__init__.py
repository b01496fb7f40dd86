"""Attacks on classifiers that are seen only through their logits."""
