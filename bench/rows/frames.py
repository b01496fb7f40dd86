"""Stored frame bounds: one JSON file per model and request under ``OUT/frames/``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framebench.errors import InputError
from framebench.files import atomic, seal, unseal


@dataclass(frozen=True)
class KeptFrames:
    """The bounds of a model's layers.

    Attributes:
        path: Their file.
        request: Name and digest of the model, size, padding, fold and images (`bench.options.frames.FramesOptions`),
            and a version.
        provenance: See `bench.running.provenance.provenance`.
        layers: One entry per layer: the numbers of ``frames.csv``, and the spectrum if it is exact.
    """

    path: Path
    request: dict[str, Any]
    provenance: dict[str, Any]
    layers: list[dict[str, Any]]


def kept_frames(out: Path) -> list[Path]:
    """Return the files of frame bounds in an output folder."""
    return sorted((out / "frames").glob("*.json"))


def read_frames(out: Path) -> list[KeptFrames]:
    """Read the frame bounds in an output folder.

    Raises:
        InputError: if a file is damaged or does not hold frame bounds.
    """
    return [_read(path) for path in kept_frames(out)]


def has_frames(out: Path, request: dict[str, Any]) -> bool:
    """Tell whether an output folder has the frame bounds of a request."""
    return any((out / "frames").glob(f"{_key(request)}-*.json"))


def keep_frames(out: Path, request: dict[str, Any], provenance: dict[str, Any], layers: list[dict[str, Any]]) -> None:
    """Store the frame bounds of a request; see `KeptFrames`."""
    content = json.dumps({"request": request, "provenance": provenance, "layers": layers}, indent=1)
    seal(out / "frames", _key(request), ".json", content.encode())


def take_frames(out: Path, others: Iterable[KeptFrames]) -> None:
    """Copy the frame bounds of another output folder that are missing in `out`."""
    for frames in others:
        if not has_frames(out, frames.request):
            with atomic(out / "frames" / frames.path.name) as temporary:
                temporary.write_bytes(frames.path.read_bytes())


def _key(request: dict[str, Any]) -> str:
    """Return the name of a request's file."""
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()[:16]


def _read(path: Path) -> KeptFrames:
    content = unseal(path)
    try:
        frames = KeptFrames(path, **json.loads(content))
        if not (isinstance(frames.request, dict) and isinstance(frames.provenance, dict)
                and {"model", "digest"} <= set(frames.request) and all(isinstance(row, dict) for row in frames.layers)):
            raise ValueError
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"{path} does not hold frame bounds; remove it, and bench frames measures them anew") from None
    return frames
