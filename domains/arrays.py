"""Readers of array files that do not trust the files: pickles are refused, and any damage is reported in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from framebench.errors import InputError
from framebench.files import regular


def read_npy(path: Path, shape: tuple[int | None, ...], kind: str) -> np.ndarray:
    """Memory-map an array.

    Args:
        path: A .npy file.
        shape: The shape that it must have; None stands for any length.
        kind: The dtypes that it may have: "B" for uint8 only, or numpy's letters for kinds, such as "iu" for integers.

    Raises:
        InputError: if the file is missing or damaged, contains Python objects, or has another shape or dtype.
    """
    return _checked(_opened(path, mmap=True), path, shape, kind)


def read_npz(path: Path, shapes: dict[str, tuple[tuple[int | None, ...], str]]) -> list[np.ndarray]:
    """Read those arrays of a .npz file that `shapes` names, with their shapes and kinds as in `read_npy`.

    Raises:
        InputError: if the file or an array is missing or damaged, contains Python objects, or has another shape or
            dtype.
    """
    archive = _opened(path, mmap=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{path} is not a .npz archive; get the data set again")
    found = []
    with archive:
        for name, (shape, kind) in shapes.items():
            try:
                member = archive[name]
            except KeyError:
                raise InputError(f"{path} has no array '{name}'; get the data set again") from None
            except Exception as error:  # a damaged archive raises nearly anything
                raise _damaged(path, error) from None
            found.append(_checked(member, f"the array '{name}' of {path}", shape, kind))
    return found


def read_bytes(path: Path, row: int) -> np.ndarray:
    """Memory-map a file of rows with `row` bytes each as uint8 [n, row].

    Raises:
        InputError: if the file is missing or empty, or its length is not a multiple of `row`.
    """
    try:
        size = regular(path).stat().st_size
        if size == 0 or size % row:
            raise InputError(f"{path} is damaged: it has {size:,} bytes, not a multiple of {row:,}; get the data set "
                             "again")
        return np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, row)
    except OSError as error:
        raise InputError(f"can't read {path} ({error.strerror}); get the data set again") from None


def _opened(path: Path, mmap: bool) -> Any:
    try:
        return np.load(regular(path), mmap_mode="r" if mmap else None, allow_pickle=False)
    except OSError as error:
        raise InputError(f"can't read {path} ({error.strerror or error}); get the data set again") from None
    except Exception as error:  # a damaged file raises nearly anything
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path} is damaged or not a plain array ({reason}); get the data set again")


def _checked(array: Any, what: Path | str, shape: tuple[int | None, ...], kind: str) -> np.ndarray:
    fits = isinstance(array, np.ndarray) and len(shape) == array.ndim and all(
        wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True))
    if not fits or (array.dtype != np.uint8 if kind == "B" else array.dtype.kind not in kind):
        wanted = f"{'uint8' if kind == 'B' else 'integers'} [{', '.join('n' if s is None else str(s) for s in shape)}]"
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"{what} must be {wanted}, not {found}; get the data set again")
    return np.asarray(array) if not isinstance(array, np.memmap) else array
