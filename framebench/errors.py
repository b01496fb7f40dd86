"""The one error that a user can cause, and the sentence that helps out of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave can't be used.

    The message is one line that says what is wrong and what to do; the command line prints it and exits with 2.
    """


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
