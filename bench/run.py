"""The command line: ``python -m bench.run COMMAND``, also installed as ``bench``.

It parses, calls and prints. A subcommand is a module of `bench.cli` with ``add_arguments(parser)`` and
``run(arguments)``; these import torch only when they run, so that help and errors in options are instant.
"""

from __future__ import annotations

import argparse
import os
import sys

from bench.cli import attack, browse, fetch, frames, listing, prune, report, shift, train
from bench.options.protocol import parse
from framebench import __version__
from framebench.errors import InputError
from framebench.memory import keep_freed_memory

COMMANDS = {"attack": attack, "shift": shift, "train": train, "prune": prune, "frames": frames, "fetch": fetch,
            "list": listing, "report": report, "browse": browse}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = _Parser(prog="bench", description="Robustness of image classifiers: black-box attacks, with an interval on "
                  "every number and the same images and directions for every model.")
    top.add_argument("--version", action="version", version=f"framebench {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        sub = commands.add_parser(name, help=summary[0].lower() + summary[1:].rstrip("."), description=module.__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(sub)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 2 bad input (one line on stderr), 130 interrupted."""
    try:
        arguments = parse(parser(), argv)
        keep_freed_memory()
        COMMANDS[arguments.command].run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as head, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
