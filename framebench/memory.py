"""Settings of the C library's allocator for neural networks."""

from __future__ import annotations

import ctypes
import sys

# Of malloc.h: glibc's parameters of mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for later allocations.

    Activations are allocated and freed at every step. glibc returns blocks of their size to the kernel, so that each
    page is zeroed again and faults when first touched: 4 to 26% of the time of a step (`benchmarks/memory.py`). The
    price is fragmentation, which raises the peak by up to a fifth.

    Returns:
        Whether it was done; only glibc (Linux) supports it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
