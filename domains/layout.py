"""Where a published data set lies under the data root, and whether it is the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from framebench.errors import InputError
from framebench.files import file_digest


def find(root: Path | None, name: str, *candidates: str) -> Path:
    """Return the first of `candidates` (paths below `root`) that exists.

    Raises:
        InputError: if there is no data root or none of them is in it.
    """
    if root is None:
        raise InputError(f"{name} needs --data-root DIR (or BENCH_DATA); without data, the domain samples works")
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    absent = f"neither {' nor '.join(candidates)}" if len(candidates) > 1 else f"no {candidates[0]}"
    raise InputError(f"{root} has {absent}, which {name} needs; put it there, or see what `bench fetch` can get")


def is_official(folder: Path, md5: Mapping[str, str]) -> bool:
    """Tell whether the files of `folder` that `md5` names have the checksums that it gives."""
    return all(file_md5(folder / name) == expected for name, expected in md5.items())


def file_md5(path: Path) -> str:
    """Return the md5 of a file; data sets publish no better checksum."""
    return file_digest(path, "md5")


def titled(title: str, labels: np.ndarray, published: Sequence[int] | int) -> str:
    """Return `title`, with "partial" added where `labels` are not as many as published.

    Args:
        title: What the data are.
        labels: int64 [n].
        published: Images a class, or in all where only that is known.
    """
    if isinstance(published, int):
        total, whole = published, len(labels) == published
    else:
        counts = np.bincount(labels, minlength=len(published)).tolist()
        total, whole = sum(published), counts == list(published)
    return title if whole else f"{title}, partial: {len(labels)} of {total} images" + (
        " in other proportions" if len(labels) == total else "")
