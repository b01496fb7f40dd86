"""The logs of trainings, read to be drawn: what each epoch reached, and the frame bounds after it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from framebench.derived import check_derived
from framebench.errors import InputError
from framebench.files import regular

#: What a training writes into its folder -> the columns that are read.
COLUMNS = {"layers.csv": ["epoch", "layer", "lower", "upper"],
           "log.csv": ["epoch", "train_loss", "penalty", "train_accuracy", "validation_accuracy"]}


@dataclass(frozen=True)
class TrainingLogs:
    """Logs of several trainings.

    Attributes:
        bounds: Name of a training -> its frame bounds: columns epoch, layer, lower, upper.
        epochs: Name of a training -> columns epoch, train_loss (without the penalty), penalty, train_accuracy and
            validation_accuracy (in [0, 1]).
    """

    bounds: dict[str, pd.DataFrame] = field(default_factory=dict)
    epochs: dict[str, pd.DataFrame] = field(default_factory=dict)


def find_logs(paths: Iterable[Path]) -> list[Path]:
    """Return the logs that were named: files themselves, and what a training's folder has of them.

    Raises:
        InputError: if a folder has none.
    """
    found: list[Path] = []
    for path in paths:
        logs = [path / name for name in COLUMNS if (path / name).is_file()] if path.is_dir() else [path]
        if not logs:
            raise InputError(f"{path} holds neither {' nor '.join(COLUMNS)}; name the folder that a training wrote, "
                             "OUT/NAME")
        found += logs
    return found


def read_logs(paths: Iterable[Path]) -> TrainingLogs:
    """Read files that trainings wrote, each by the columns that it has.

    A training is called by its folder where the file has the name that it was written with, else by the file.

    Args:
        paths: The files, see `find_logs`.

    Raises:
        InputError: if a file can't be read as such, or two of a kind have one name.
    """
    logs = TrainingLogs()
    for path in paths:
        _add(logs, path)
    return logs


def _add(logs: TrainingLogs, path: Path) -> None:
    kind, log = _read(path)
    name = path.resolve().parent.name if path.name in COLUMNS else path.stem.removesuffix("-layers")
    among = logs.bounds if kind == "layers.csv" else logs.epochs
    if name in among:
        raise InputError(f"{path} is the second log of a training called {name}; rename its folder, or the file")
    among[name] = log


def _read(path: Path) -> tuple[str, pd.DataFrame]:
    try:
        content = regular(path).read_bytes()
        check_derived(path, content)
        log = pd.read_csv(io.BytesIO(content), dtype={"layer": str})  # the layers of an nn.Sequential are numbers
        kinds = [kind for kind, columns in COLUMNS.items() if set(columns) <= set(log.columns)]
        if not kinds:
            raise ValueError("it has neither's columns")
        columns = COLUMNS[kinds[0]]
        log = log[columns].astype({column: str if column == "layer" else float for column in columns})
        if kinds[0] == "layers.csv":  # a line may be half written, and what is not finite has no place on an axis
            log = log.replace([np.inf, -np.inf], np.nan).dropna()
        if log.empty:
            raise ValueError("it has no line")
        return kinds[0], log
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error  # pandas' own has no strerror
        raise InputError(f"{path} is not a log of a training ({' '.join(str(why).split())}); give OUT/NAME of a "
                         f"training, or its {' or '.join(COLUMNS)}") from None
