"""From options to rows: models are made ready, attacked and shifted."""
