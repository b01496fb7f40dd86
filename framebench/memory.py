"""The C library's allocator, told what a neural network needs."""

from __future__ import annotations

import ctypes
import sys

# Of malloc.h: glibc's parameters of mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next allocation.

    Activations are allocated and freed at every step. glibc gets blocks of such a size from the kernel and gives them
    back, so that every page of them is zeroed anew and faults when first touched: 4 to 26% of a step's time
    (`benchmarks/memory.py`). What is kept can't be joined to every later block, which raises the peak by up to a fifth.

    Returns:
        Whether it was done; only glibc (Linux) knows how, and other allocators need not be told.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
