"""What all packages of the benchmark share: the version, the error for bad input, seeding and file helpers."""

__version__ = "0.1.0"
