"""Random generators that depend on their seed, purpose and key only.

A draw for an image must not depend on its batch, shard or worker. So every draw comes from its own counter-based
generator, keyed by the seed, the purpose and the example's id.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """Return the generator of one purpose, e.g. ``generator(seed, "simba-order", example_id)``.

    Philox is keyed by a hash, so streams of different keys are independent. NumPy guarantees the raw stream of
    Philox; methods such as `permutation` may change between NumPy releases, which is why results record versions.
    """
    digest = hashlib.sha256(repr((int(seed), purpose, *(int(k) for k in key))).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
