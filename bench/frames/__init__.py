"""Frame bounds of the layers of models."""
