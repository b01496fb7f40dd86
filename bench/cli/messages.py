"""The library's messages, printed."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from framebench.errors import printable

if TYPE_CHECKING:
    from bench.analysis.reporting import Results
    from framebench.models.checkpoint import Card

#: The parents of all loggers of the library.
LOGGERS = ("bench", "framebench")

_log = logging.getLogger(__name__)


class _Printer(logging.Handler):
    """Prints messages, and each warning once. A `BrokenPipeError` is not handled here."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        text = printable(record.getMessage())
        if record.levelno < logging.WARNING:
            print(text, flush=True)
        elif text not in self._warned:
            self._warned.add(text)
            print(f"warning: {text}", flush=True)


@contextmanager
def printed(quiet: bool) -> Iterator[None]:
    """Print the library's messages in the body: all of them, or with --quiet only warnings."""
    handler = _Printer(logging.WARNING if quiet else logging.INFO)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def print_warnings(results: Results) -> None:
    """Print the warnings of the results, unless they have been printed already."""
    for text in results.warnings:
        _log.warning("%s", text)


def print_answer(results: Results) -> None:
    """Print the answer, one line per sentence."""
    for sentence in results.answer:
        print(f"- {sentence}")


def report_line(out: Path) -> str:
    """Return a line with the path of an output folder's report and the command that opens it."""
    return f"report: {out / 'report' / 'index.html'}  (bench browse {shlex.quote(str(out))})"


def print_accuracies(path: Path, card: Card) -> None:
    """Print the accuracies and the path of a checkpoint that was written."""
    for entry in card.accuracy:
        print(f"{card.name}: {entry['accuracy']:.2%} ({entry['correct']} of {entry['n']}) on {entry['data']}")
    print(f"wrote {path} and {path.with_suffix('.json').name}", flush=True)
