"""Fuzzing: ``python -m tests.faults.fuzz MINUTES [TARGET...]`` tries inputs at random for so long on every target.

The rule: an input works, or is refused by an `InputError`, which the command line prints as one line. Anything else is
a failure: another exception, half a minute without an answer, and, where a checksum goes with the input, an answer to
changed bytes. The inputs that fail are kept in the folder that is printed.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from framebench.errors import InputError
from tests.faults import command_lines, data, models, options, results

#: What is fuzzed: each prepares good input once, and then tries it with damage of every kind.
TARGETS = {target.__name__: target for target in (
    models.checkpoint, models.card, models.state_dict, results.kept_files, results.sealed_files, results.caches,
    results.training, results.logs, data.arrays, data.archives, data.images, data.listings, options.protocols,
    options.pairs, command_lines.commands)}
_SECONDS = 30
_MEMORY = 8 << 30


class _HangError(KeyboardInterrupt):
    """No answer in time; a KeyboardInterrupt, since that alone passes everywhere."""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _HangError
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _where(error: BaseException) -> str:
    """Return what tells one failure from another: its type, and the last of our lines that it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    last = frames[-1]
    return f"{type(error).__name__} {Path(last.filename).name}:{last.lineno} {' '.join(str(error).split())[:60]}"


def fuzz(name: str, minutes: float, failed: Path) -> tuple[collections.Counter[str], dict[str, str]]:
    """Try a target for so long; return how many inputs worked, were refused and failed, and the failures."""
    until, counts, failures = time.monotonic() + 60 * minutes, collections.Counter[str](), dict[str, str]()
    place = Path(tempfile.mkdtemp())
    target = TARGETS[name](place / "prepared")

    def once(drawn: Any) -> None:
        shutil.rmtree(place / "own", ignore_errors=True)
        (place / "own").mkdir()
        os.chdir(place / "own")
        try:
            with _limited():
                target(place / "own", drawn)
            counts["worked"] += 1
        except InputError:
            counts["refused"] += 1
        except (Exception, _HangError) as error:
            if type(error).__module__.startswith("hypothesis"):
                raise
            counts["failed"] += 1
            if (kind := _where(error)) not in failures:
                failures[kind] = "".join(traceback.format_exception(error))
                kept = failed / f"{name}-{len(failures)}"
                shutil.copytree(place / "own", kept, dirs_exist_ok=True)
                (kept / "traceback.txt").write_text(failures[kind], errors="backslashreplace")
                print(f"  {name}: {kind}", flush=True)

    some = settings(max_examples=50, deadline=None, database=None, phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck))
    while time.monotonic() < until:
        seed(int.from_bytes(os.urandom(4), "big"))(some(given(st.data())(once)))()
    os.chdir("/")
    shutil.rmtree(place)
    return counts, failures


def main(minutes: str, *names: str) -> int:
    """Fuzz the targets, all of them unless some are named; return 1 if one has failed."""
    logging.disable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    failed, bad = Path(tempfile.mkdtemp(prefix="failed-")), False
    os.environ["BENCH_CACHE"] = tempfile.mkdtemp(prefix="cache-")
    for name in names or TARGETS:
        counts, failures = fuzz(name, float(minutes), failed)
        bad |= bool(failures)
        print(f"{name}: {counts.total():,} inputs, {counts['worked']:,} worked, {counts['refused']:,} refused, "
              f"{counts['failed']:,} failed in {len(failures)} ways", flush=True)
    print(f"failures are in {failed}" if bad else "no failure")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
