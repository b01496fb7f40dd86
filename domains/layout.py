"""Where a published data set is under the data root, and whether its files are the official ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from framebench.errors import InputError, MissingDataError
from framebench.files import file_digest

#: Where a set may be under the data root, the preferred place first. A place that ends in "/" is a folder, any other is
#: a file. Parts in braces, such as ``{split}``, are filled in. Each set states its places once, beside its loader.
Places = tuple[str, ...]


def located(root: Path | None, places: Places, **parts: str) -> Path | None:
    """Return the first of `places` that exists under `root`, or None; `parts` are the values of parts in braces."""
    if root is None:
        return None
    for place in places:
        path = root / place.format(**parts)
        if path.is_dir() if place.endswith("/") else path.is_file():
            return path
    return None


def find(root: Path | None, name: str, places: Places, **parts: str) -> Path:
    """Return what `located` returns for the set `name`.

    Raises:
        MissingDataError: if there is no data root, or it has none of the places.
    """
    if root is None:
        raise MissingDataError(f"{name} needs --data-root DIR (or BENCH_DATA); the domain samples works without it")
    found = located(root, places, **parts)
    if found is not None:
        return found
    names = [place.format(**parts) for place in places]
    absent = f"neither {' nor '.join(names)}" if len(names) > 1 else f"no {names[0]}"
    above = next((folder for folder in root.absolute().parents[:2] if located(folder, places, **parts)), None)
    advice = "put the data there, or get them with `bench fetch`" if above is None else f"{above} has it: give that one"
    raise MissingDataError(f"{root} has {absent}, which {name} needs; {advice}")


def folder_of(places: Places) -> str:
    """Return the folder of the preferred place, which `bench fetch` puts the set into."""
    return places[0].partition("/")[0]


def unofficial(folder: Path, md5: Mapping[str, str]) -> str:
    """Return, for the title, that files of `folder` differ from these checksums (file name -> md5); else ""."""
    same = all(file_md5(folder / name) == expected for name, expected in md5.items())
    return "" if same else " (not the official files)"


def file_md5(path: Path) -> str:
    """Return the md5 of a file; the data sets publish no stronger checksum."""
    return file_digest(path, "md5")


def titled(title: str, labels: np.ndarray, published: Sequence[int] | int) -> str:
    """Return `title`; "partial" is added if the numbers of images are not the published ones.

    Args:
        title: What the data are.
        labels: int64 [n].
        published: Published number of images per class, or in total if only that is known.

    Raises:
        InputError: for a negative label.
    """
    if len(labels) and labels.min() < 0:
        raise InputError(f"{title}: there is a label {labels.min()}; labels count from 0; get the data set again")
    if isinstance(published, int):
        total, whole = published, len(labels) == published
    else:
        known = labels[labels < len(published)]  # `Domain` refuses others
        total, whole = sum(published), np.bincount(known, minlength=len(published)).tolist() == list(published)
    return title if whole else f"{title}, partial: {len(labels)} of {total} images" + (
        " in other proportions" if len(labels) == total else "")
