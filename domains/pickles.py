"""A reader of CIFAR's pickled batches that can build arrays and nothing else."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from framebench.errors import InputError

#: What a pickled array names as its maker, asked of an array, because numpy 2 moved it.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
#: The only names that CIFAR's files refer to; they keep numpy 1's path.
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
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no CIFAR batch does") from None


def read_batch(path: Path) -> dict[str, Any]:
    """Read one batch of the official python archive, refusing anything but lists, strings and arrays.

    Returns:
        The batch, keys as text: ``data`` uint8 [n, 3072] and ``labels`` (or ``fine_labels``).

    Raises:
        InputError: if the file can't be read, is damaged, or holds more than arrays.
    """
    try:
        batch = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in batch.items()}
    except OSError as error:
        raise InputError(f"can't read {path} ({error.strerror}); get the data set again") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"{path} is not a batch of CIFAR's python archive ({error}); get the data set again") from None
