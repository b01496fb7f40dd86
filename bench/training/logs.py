"""Reads the logs of trainings for figures: accuracy and loss of each epoch, and the frame bounds after it."""

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

#: File in a training's folder -> the columns that are read.
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
    """Return log files: the given files, and those in the given folders of trainings.

    Raises:
        InputError: if a folder has none.
    """
    files: list[Path] = []
    for path in paths:
        logs = [path / name for name in COLUMNS if (path / name).is_file()] if path.is_dir() else [path]
        if not logs:
            raise InputError(f"{path} holds neither {' nor '.join(COLUMNS)}; name the folder that a training wrote, "
                             "OUT/NAME")
        files += logs
    return files


def read_logs(paths: Iterable[Path]) -> TrainingLogs:
    """Read log files of trainings; their columns tell their kind.

    A training is named after its folder if the file still has its original name, else after the file.

    Raises:
        InputError: if a file is not a log, or two logs of a kind have the same name.
    """
    logs = TrainingLogs()
    for path in paths:
        kind, log = _read(path)
        name = path.resolve().parent.name if path.name in COLUMNS else path.stem.removesuffix("-layers")
        by_name = logs.bounds if kind == "layers.csv" else logs.epochs
        if name in by_name:
            raise InputError(f"{path} is the second log of a training called {name}; rename its folder, or the file")
        by_name[name] = log
    return logs


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
        if kinds[0] == "layers.csv":  # a line may be half-written, and an axis has no place for infinite values
            log = log.replace([np.inf, -np.inf], np.nan).dropna()
        if log.empty:
            raise ValueError("it has no line")
        return kinds[0], log
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error  # errors of pandas have no strerror
        raise InputError(f"{path} is not a log of a training ({' '.join(str(why).split())}); give OUT/NAME of a "
                         f"training, or its {' or '.join(COLUMNS)}") from None
