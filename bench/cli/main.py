"""The command line: it turns flags into options, calls the library and prints what comes back.

A command is a module with ``OPTIONS``, the type of its options, and ``run(options)``, which prints. What these need
they import when they run, so that help and errors in options are instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from bench.cli import attack, browse, fetch, frames, listing, prune, report, shift, train
from bench.cli.flags import add_flags, read_flags
from bench.cli.messages import printed
from framebench import __version__
from framebench.errors import InputError
from framebench.memory import keep_freed_memory
from framebench.progress import quiet

COMMANDS = {module.OPTIONS.command: module
            for module in (attack, shift, train, prune, frames, fetch, listing, report, browse)}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are those of all other input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


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
        add_flags(sub, module.OPTIONS)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 2 bad input (one line on stderr), 130 interrupted."""
    try:
        arguments = parser().parse_args(argv)
        command = COMMANDS[arguments.command]
        options = read_flags(command.OPTIONS, arguments)
        keep_freed_memory()
        with printed(options.quiet), quiet(options.quiet):
            command.run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as head, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
