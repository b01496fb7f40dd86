"""A model on a clean set and on four cells of a corrupted one, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.rows.parts import Rows
from tests.bench.analysis.making import cell_of

CELLS = [("fog", 1), ("fog", 5), ("contrast", 1), ("contrast", 5)]
CLEAN_OF = {"c": "d"}


def outcomes(seed: int, n: int = 400, clean: float = 0.9, shares: Any = (0.8, 0.5, 0.7, 0.2)) -> Any:
    """Return a clean column and four cells, bool [n] and [n, 4], that share their images' difficulty."""
    ease = np.random.default_rng(seed).random(n)
    return ease < clean, np.stack([ease < share for share in shares], axis=1)


def shifted(tmp_path: Path, model: str = "m", seed: int = 0, **options: Any) -> list[Rows]:
    """Return the rows of a model on the clean set "d" and on the corrupted set "c"."""
    clean, cells = outcomes(seed, **options)
    return [cell_of(tmp_path, clean, model=model, domain="d"),
            *(cell_of(tmp_path, cells[:, i], model=model, domain="c", corruption=name, severity=severity, clean="d0")
              for i, (name, severity) in enumerate(CELLS))]
