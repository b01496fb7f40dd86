"""Frame bounds as they are kept: one JSON file per model and request under ``OUT/frames/``."""

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
        request: What was asked: the model's name and digest, size, padding, fold and images
            (`bench.options.frames.FramesOptions`), and a version.
        provenance: Where they come from, `bench.running.provenance.provenance`.
        layers: One entry per layer: the numbers of ``frames.csv``, and the spectrum where that is exact.
    """

    path: Path
    request: dict[str, Any]
    provenance: dict[str, Any]
    layers: list[dict[str, Any]]


def kept_frames(out: Path) -> list[Path]:
    """Return the files of all models that were measured into an output folder."""
    return sorted((out / "frames").glob("*.json"))


def read_frames(out: Path) -> list[KeptFrames]:
    """Read all that was measured into an output folder.

    Raises:
        InputError: if one of the files is damaged, or does not hold frame bounds.
    """
    return [_read(path) for path in kept_frames(out)]


def has_frames(out: Path, request: dict[str, Any]) -> bool:
    """Tell whether an output folder has the answer to a request."""
    return any((out / "frames").glob(f"{_key(request)}-*.json"))


def keep_frames(out: Path, request: dict[str, Any], provenance: dict[str, Any], layers: list[dict[str, Any]]) -> None:
    """Keep the answer to a request; see `KeptFrames`."""
    content = json.dumps({"request": request, "provenance": provenance, "layers": layers}, indent=1)
    seal(out / "frames", _key(request), ".json", content.encode())


def take_frames(out: Path, others: Iterable[KeptFrames]) -> None:
    """Add what was measured into another output folder and is missing in `out`."""
    for theirs in others:
        if not has_frames(out, theirs.request):
            with atomic(out / "frames" / theirs.path.name) as temporary:
                temporary.write_bytes(theirs.path.read_bytes())


def _key(request: dict[str, Any]) -> str:
    """Return what the file of a request is called."""
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()[:16]


def _read(path: Path) -> KeptFrames:
    content = unseal(path)
    try:
        kept = json.loads(content)
        frames = KeptFrames(path, **kept)
        if not (isinstance(frames.request, dict) and isinstance(frames.provenance, dict)
                and {"model", "digest"} <= set(frames.request) and all(isinstance(row, dict) for row in frames.layers)):
            raise ValueError
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"{path} does not hold frame bounds; remove it, and bench frames measures them anew") from None
    return frames
