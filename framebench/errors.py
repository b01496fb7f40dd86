"""The one error that a user can cause, and the sentence that helps out of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave can't be used.

    The message is one line that says what is wrong and what to do; the command line prints it and exits with 2.
    """


class DamagedError(InputError):
    """Something has changed a file since it was written: its content does not match its checksum."""


class MissingDataError(InputError):
    """A data set is not where it was looked for."""


class DivergedError(InputError):
    """A training has no finite loss any more, or has shrunk its weights away: its recipe asks too much."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Build the error for a name that is none of `choices`, with the nearest ones as a suggestion."""
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return InputError(f"unknown {kind} '{name}'; {hint}")


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is used up; torch's own on a CPU is a mere RuntimeError."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or \
        "can't allocate memory" in str(error)


def printable(text: str) -> str:
    """Return a text with what does not print (escapes, line breaks, bytes that are no UTF-8) as backslash escapes.

    Names come from files and other people's code; a terminal would do what an escape in one says.
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
