"""Progress bars: in a terminal or a notebook, with few lines in a log file, and none with --quiet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm.std import tqdm

#: Seconds between two lines of a bar that is written to a file.
_SPARSE = 15.0
_QUIET = ContextVar("quiet", default=False)


def progress(total: int, *, desc: str, unit: str, initial: int = 0) -> tqdm[Any]:
    """Return a progress bar, to be used in a with statement.

    Args:
        total: Number of units.
        desc: Description.
        unit: Name of a unit, in the singular.
        initial: Number of units that are done already.
    """
    from tqdm.auto import tqdm as auto

    in_notebook = any(kind.__module__ == "tqdm.notebook" for kind in auto.__mro__)
    interval = 0.1 if in_notebook or sys.stderr.isatty() else _SPARSE
    # miniters=0: an update may show new text beside the bar before another unit is done.
    return auto(total=total, desc=desc, unit=unit, initial=initial, dynamic_ncols=True, mininterval=interval,
                miniters=0, unit_scale=unit == "B", unit_divisor=1024, disable=_QUIET.get())


@contextmanager
def quiet(on: bool = True) -> Iterator[None]:
    """Show no progress bars inside."""
    before = _QUIET.set(on)
    try:
        yield
    finally:
        _QUIET.reset(before)
