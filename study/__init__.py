"""The study: its trainings, measurements and account, made by `python -m study` (see ``--help``)."""
