"""A reader of CIFAR's pickled batches that can build lists, strings and arrays, and nothing else."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from framebench.errors import InputError
from framebench.files import regular

#: The function that rebuilds a pickled array. It is taken from an array, because numpy 2 moved it.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
#: The only names that are accepted: CIFAR's files refer to no others. The official files use numpy 1's path.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1") if encoding == "latin1" else b"",
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which CIFAR batches never do") from None


def read_batch(path: Path) -> dict[str, Any]:
    """Read one batch of the official python archive; anything but lists, strings and arrays is refused.

    Returns:
        The batch, with str keys: ``data`` uint8 [n, 3072] and ``labels`` (or ``fine_labels``).

    Raises:
        InputError: if the file can't be read, is damaged, or contains other objects.
    """
    try:
        batch = _ArrayUnpickler(io.BytesIO(regular(path).read_bytes()), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in batch.items()}
    except OSError as error:
        raise InputError(f"can't read {path} ({error.strerror}); get the data set again") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"{path} is not a batch of CIFAR's python archive ({error}); get the data set again") from None
