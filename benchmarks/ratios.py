"""Results of a benchmark: ratios to a peer or a limit of the same run."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Environment variable with the file to which ratios are appended as JSON lines; `benchmarks/run.py` sets it.
KEEP = "FRAMEBENCH_RATIOS"


@dataclass(frozen=True)
class Ratio:
    """A ratio.

    Attributes:
        what: Numerator and denominator, in words.
        value: The ratio.
        limit: Its limit; None if it has none.
        at_most: Whether the limit is an upper one, instead of a lower one.
    """

    what: str
    value: float
    limit: float | None = None
    at_most: bool = False

    @property
    def kept(self) -> bool:
        """Whether the limit is kept; True if there is none."""
        return self.limit is None or (self.value <= self.limit if self.at_most else self.value >= self.limit)

    @property
    def asked(self) -> str:
        """The limit in words; empty if there is none."""
        return "" if self.limit is None else f"at {'most' if self.at_most else 'least'} {self.limit:g}"


def conclude(ratios: Sequence[Ratio]) -> int:
    """Print ratios, keep them for `benchmarks/run.py`, and return the exit code: 1 if a limit is missed, else 0."""
    for ratio in ratios:
        word = "    " if ratio.limit is None else "ok  " if ratio.kept else "MISS"
        print(f"{word} {ratio.what}: {ratio.value:.3g}" + (f" ({ratio.asked})" if ratio.asked else ""), flush=True)
    if file := os.environ.get(KEEP):
        with Path(file).open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(dataclasses.asdict(ratio)) + "\n" for ratio in ratios)
    return 0 if all(ratio.kept for ratio in ratios) else 1
