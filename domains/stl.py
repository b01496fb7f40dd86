"""STL-10 (Coates et al. 2011): nine of CIFAR-10's classes at 96x96."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from framebench.classes import CIFAR10
from framebench.domains.arrays import read_bytes
from framebench.domains.base import Domain
from framebench.domains.folder import CIFAR_SIZE
from framebench.domains.layout import find, titled, unofficial
from framebench.errors import InputError

PLACES = ("stl10_binary/",)
#: CIFAR-10's class for each class of STL-10; -1 means none.
#: STL-10's are airplane, bird, car, cat, deer, dog, horse, monkey, ship, truck.
CLASS_OF = np.array([0, 2, 1, 3, 4, 5, 7, -1, 8, 9])
#: md5 of the official files, as published by torchvision.
MD5 = {"test_X.bin": "7f263ba9f9e0b06b93213547f721ac82", "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e"}
PER_CLASS = 800


def load_stl10(data_root: Path | None) -> Domain:
    """Load the test images of the nine classes shared with CIFAR-10, reduced to 32x32 by averaging (PIL's BOX).

    An id is the position among the official rows that are not monkeys.

    Raises:
        InputError: if the data are missing or damaged.
    """
    folder = find(data_root, "stl10", PLACES)
    stored = read_bytes(folder / "test_X.bin", 3 * 96 * 96)
    classes = read_bytes(folder / "test_y.bin", 1)[:, 0].astype(np.int64)
    if len(classes) != len(stored):
        raise InputError(f"{folder} has {len(stored)} test images but {len(classes)} labels; get the data set again")
    if classes.min() < 1 or classes.max() > 10:
        raise InputError(f"{folder / 'test_y.bin'} has labels from {classes.min()} to {classes.max()}, not 1 to 10; "
                       "get the data set again")
    labels = CLASS_OF[classes - 1]
    kept = np.flatnonzero(labels >= 0)
    # Stored by channel, and within a channel by column.
    large = stored.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
    images = np.stack([np.asarray(CIFAR_SIZE(Image.fromarray(np.ascontiguousarray(large[i])))) for i in kept]) \
        if len(kept) else np.empty((0, 32, 32, 3), np.uint8)
    title = titled(f"STL-10 test{unofficial(folder, MD5)}", labels[kept],
                   [0 if name == "frog" else PER_CLASS for name in CIFAR10])
    return Domain("stl10", f"{title}, box-averaged from 96x96 to 32x32; monkeys left out, no frogs", CIFAR10,
                  images, labels[kept])
