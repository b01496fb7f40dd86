"""SVHN, cropped digits (Netzer et al. 2011)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from framebench.domains.base import Domain
from framebench.domains.layout import find, titled, unofficial
from framebench.errors import InputError

PLACES = ("svhn/{split}_32x32.mat", "{split}_32x32.mat")
#: md5 of the official files, as published by torchvision, and the number of images per digit.
MD5 = {"train": "e26dedcc434d2e4c54c9b2d4a06d8373", "test": "eb5a983be6a315427106f1b164d9cef3"}
COUNTS = {"train": [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659],
          "test": [1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595]}


def load_svhn(data_root: Path | None, split: str = "test") -> Domain:
    """Load a split from ``svhn/<split>_32x32.mat``; ids are the official rows. Digit 0 (stored as 10) has label 0.

    Raises:
        InputError: if the data are missing or damaged.
    """
    path = find(data_root, "svhn", PLACES, split=split)
    from scipy.io import loadmat  # here: all commands import this module, few read SVHN

    try:
        content = loadmat(path, variable_names=["X", "y"])  # MATLAB's format can't run code
    except Exception as error:  # a damaged file raises nearly anything
        raise InputError(f"{path} can't be read ({' '.join(str(error).split())}); get the data set again") from None
    pixels, digits = content.get("X"), content.get("y")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 4 \
            or pixels.shape[:3] != (32, 32, 3) or not isinstance(digits, np.ndarray) or digits.dtype.kind not in "iu" \
            or digits.shape != (pixels.shape[3], 1):
        raise InputError(f"{path} must contain X (uint8 [32, 32, 3, n]) and y (integers [n, 1]); get the data set "
                         "again")
    labels = digits[:, 0].astype(np.int64)
    if len(labels) and (labels.min() < 1 or labels.max() > 10):
        raise InputError(f"{path} has labels from {labels.min()} to {labels.max()}, not 1 to 10; get the data set "
                         "again")
    labels %= 10
    title = f"SVHN {split}{unofficial(path.parent, {path.name: MD5[split]})}"
    return Domain("svhn", titled(title, labels, COUNTS[split]), tuple("0123456789"),
                  np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), labels)
