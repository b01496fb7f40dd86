"""``python -m study COMMAND``: train and measure what is missing, and write the account."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from framebench.errors import InputError
from framebench.memory import keep_freed_memory
from study.account import write_account
from study.measure import measure_missing
from study.train import train_missing


def main() -> int:
    """Run a command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train what the manifest asks for and is not there")
    train.add_argument("--data-root", metavar="DIR", help="folder with CIFAR-10 (or $BENCH_DATA)")
    train.add_argument("--work", type=Path, default=Path("runs/study"), metavar="DIR",
                       help="where trainings keep their state")
    train.add_argument("--arms", nargs="+", metavar="A", help="these alone, all their seeds")
    measure = commands.add_parser("measure", help="measure the endpoints that are missing")
    measure.add_argument("--data-root", metavar="DIR", help="folder with the data sets (or $BENCH_DATA)")
    measure.add_argument("--endpoints", nargs="+", metavar="E", help="these alone")
    commands.add_parser("report", help="write docs/study.md, its figures and its appendix")
    given = parser.parse_args()
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if given.command == "train":
            train_missing(given.data_root, given.work, given.arms)
        elif given.command == "measure":
            measure_missing(given.data_root, given.endpoints)
        else:
            write_account()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
