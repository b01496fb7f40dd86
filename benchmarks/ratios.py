"""What a benchmark finds: ratios against a peer or a limit of the same run."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Names the file that ratios are added to, one JSON object per line; `benchmarks/run.py` sets it.
KEEP = "FRAMEBENCH_RATIOS"


@dataclass(frozen=True)
class Ratio:
    """A ratio.

    Attributes:
        what: What over what.
        value: The ratio.
        limit: What it should be; None where nothing is asked of it.
        at_most: Whether the limit is the largest value that is good; else it is the smallest.
    """

    what: str
    value: float
    limit: float | None = None
    at_most: bool = False

    @property
    def kept(self) -> bool:
        """Whether the limit is kept; where there is none, it is."""
        return self.limit is None or (self.value <= self.limit if self.at_most else self.value >= self.limit)

    @property
    def asked(self) -> str:
        """What is asked of it, in words; empty where nothing is."""
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
