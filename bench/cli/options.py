"""Options that several commands share, and what they mean to torch."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from bench.options.protocol import NAMES, UseProtocol
from framebench.errors import InputError

if TYPE_CHECKING:
    import torch


def positive_int(text: str) -> int:
    """Parse an integer of at least 1 (for argparse)."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def seed_int(text: str) -> int:
    """Parse a seed: an integer from 0 to 2^63 - 1 (for argparse)."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 2^63 - 1, not {value}")
    return value


def add_compute(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and with what to compute."""
    group = parser.add_argument_group("computing (changes the speed, not the rows)")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto: a GPU if there (default)")
    group.add_argument("--threads", type=positive_int, default=None,
                       help="CPU threads (default: all cores that this process may use)")


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Add --data-root."""
    parser.add_argument("--data-root", metavar="DIR", default=None,
                        help="folder with data sets: cifar-10-batches-py/, or cifar10/{train,test}/<class>/* "
                        "(default: $BENCH_DATA)")


def add_protocol(parser: argparse.ArgumentParser, command: str) -> None:
    """Add --protocol, for a command that has a table in protocols."""
    parser.add_argument("--protocol", action=UseProtocol, command=command, default=None, metavar="P",
                        help=f"options of a protocol, which flags override: {', '.join(NAMES)}, or a FILE.toml with "
                        f"a table [{command}] of options")


def threads(given: int | None) -> int:
    """Return the number of CPU threads to use."""
    return given or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def report_line(out: Path) -> str:
    """Return the line that tells where the report in an output folder is, and how to open it."""
    return f"report: {out / 'report' / 'index.html'}  (bench browse {shlex.quote(str(out))})"


def device(name: str) -> torch.device:
    """Return the torch device that --device names.

    Raises:
        InputError: if torch does not know it or it is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"the device '{name}' is not available here; use --device cpu") from None
    return chosen
