"""The command line: it turns flags into options, calls the library and prints the results.

A command is a module with ``OPTIONS``, the type of its options, and ``run(options)``, which prints. Slow imports happen
in ``run``, so that help and errors in options are instant.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from typing import Any, NoReturn

from bench.cli import attack, browse, fetch, frames, listing, prune, report, shift, train
from bench.cli.flags import add_flags, read_flags
from bench.cli.messages import printed
from framebench import __version__
from framebench.errors import InputError, out_of_memory, printable
from framebench.memory import keep_freed_memory
from framebench.progress import quiet

COMMANDS = {module.OPTIONS.command: module
            for module in (attack, shift, train, prune, frames, fetch, listing, report, browse)}

_KEPT = "finished work is kept, and the same command resumes it"


#: What other tools, or other commands, call a flag -> its names here, of which a command has at most one.
_ELSEWHERE = {
    **dict.fromkeys(("--iterations", "--max-iterations", "--max-iter", "--steps"), ("--budgets",)),
    **dict.fromkeys(("--n-examples", "--num-samples", "--max-samples", "--limit"), ("-n",)),
    **dict.fromkeys(("--dataset", "--domain", "--domains"), ("--dataset", "--domain", "--domains")),
    "--gpu": ("--device",), "--num-workers": ("--workers",),
}


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises an `InputError`."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown words here: a command's parser knows its flags, the one above it does not."""
        found, unknown_words = super().parse_known_args(args, namespace)
        if unknown_words:
            self.error(f"unrecognized arguments: {' '.join(unknown_words)}{self._nearest(unknown_words)}")
        return found, unknown_words

    def _nearest(self, words: list[str]) -> str:
        flags = self._option_string_actions
        known = {word: next((name for name in names if name in flags), "") for word, names in _ELSEWHERE.items()}
        known |= {flag: flag for flag in flags if flag.startswith("--")}
        given = (word.partition("=")[0] for word in words if word.startswith("--"))
        near = [known[match] for word in given for match in difflib.get_close_matches(word, known, n=1, cutoff=0.7)
                if known[match]]  # a name that this command has nothing for gets no hint
        return f"; did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""

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
    """Run one command; return its exit code.

    Returns:
        0 done, 1 out of memory, 2 bad input or an unusable file or disk, 130 interrupted. All but 0 print one line on
        stderr.
    """
    try:
        arguments = parser().parse_args(argv)
        command = COMMANDS[arguments.command]
        options = read_flags(command.OPTIONS, arguments)
        keep_freed_memory()
        with printed(options.quiet), quiet(options.quiet):
            command.run(options)
    except InputError as error:
        return _failed(str(error), 2)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {_KEPT}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a full disk, a name that is too long, a file of another user, ...
        where = f"{error.filename}: " if error.filename is not None else ""
        return _failed(f"{where}{error.strerror or error}; {_KEPT} once the problem is solved", 2)
    except Exception as error:
        if not out_of_memory(error):
            raise  # a bug; the traceback is worth a report
        return _failed(f"out of memory ({type(error).__name__}: {str(error)[:200]}); {_KEPT}, with a smaller "
                       "--batch-size if it has one", 1)
    return 0


def _failed(message: str, code: int) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code
