"""Progress bars for work that takes long only on large sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from framebench.progress import progress


@contextmanager
def counted(total: int, *, desc: str, unit: str, least: int) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with the number of units just done. Its progress bar disappears at the end.

    Args:
        total: How many units there are.
        desc: What is done.
        unit: What is counted, in the singular.
        least: With fewer units than this, no bar is shown.
    """
    if total < least:
        yield lambda _: None
        return
    with progress(total, desc=desc, unit=unit) as bar:
        bar.leave = False
        yield bar.update
