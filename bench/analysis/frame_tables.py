"""The table ``frames.csv`` of frame bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.rows.frames import KeptFrames

#: The columns of ``frames.csv``; the first eight are a contract.
FRAME_COLUMNS = ["model", "layer", "side", "lower", "upper", "condition", "gershgorin_lower", "gershgorin_upper",
                 "lower_converged", "upper_converged", "kind", "c_out", "c_in", "kernel", "stride", "groups", "height",
                 "width", "padding", "batch_norm", "image", "images", "reconstruction_error", "recovered"]

#: Columns that can be empty.
_NUMBERS = ["gershgorin_lower", "gershgorin_upper", "reconstruction_error", "recovered"]


def frame_tables(kept: Sequence[KeptFrames], names: Mapping[tuple[str, str], str]) -> dict[str, pd.DataFrame]:
    """Return label -> one row per layer: `FRAME_COLUMNS`, and spectrum (a list, or None if it is not exact).

    Args:
        kept: What `bench.rows.frames.read_frames` returned, in the order of the tables.
        names: Name and digest of each model -> its unique name (`bench.analysis.labels.unique_names`).
    """
    labels = _labels([entry.request for entry in kept], names)
    return {label: _frame(entry, names[_model(entry.request)]) for label, entry in zip(labels, kept, strict=True)}


def ratio(frame: pd.DataFrame) -> pd.Series:
    """Return B/A of each layer, infinite if A is 0; a lower bound if A or B has not converged."""
    positive = frame["lower"] > 0
    return (frame["upper"] / frame["lower"].where(positive, 1)).where(positive, np.inf)


def _frame(entry: KeptFrames, model: str) -> pd.DataFrame:
    request, frame = entry.request, pd.DataFrame(entry.layers)
    return frame.astype(dict.fromkeys(_NUMBERS, float)).assign(
        model=model, padding=request["padding"], image=request["size"], images=request["images"],
        batch_norm="folded" if request["fold"] else "left out",
        condition=ratio(frame).where(frame[["lower_converged", "upper_converged"]].all(axis=1)),
    )[[*FRAME_COLUMNS, "spectrum"]]


def _model(request: Mapping[str, Any]) -> tuple[str, str]:
    return request["model"], request["digest"]


def _labels(requests: Sequence[Mapping[str, Any]], names: Mapping[tuple[str, str], str]) -> list[str]:
    """Return a label per request: the model's name, and the options in which the model's requests differ."""
    words: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "size": lambda r: f"{r['size']} pixels", "padding": lambda r: f"{r['padding']} padding",
        "fold": lambda r: "batch norm folded" if r["fold"] else "batch norm left out",
        "images": lambda r: f"{r['images']} images"}
    labels = []
    for request in requests:
        others = [other for other in requests if _model(other) == _model(request)]
        labels.append(", ".join([names[_model(request)], *(say(request) for key, say in words.items()
                                                           if any(other[key] != request[key] for other in others))]))
    return labels
