"""The worker's side of a shared run: how a task is received, run and refused."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import framebench
from bench.running.watch import WATCH
from framebench.errors import InputError
from framebench.memory import keep_freed_memory
from framebench.progress import quiet

#: dask's topic for workers that hang.
HUNG = "framebench-hung"

_turn = threading.Lock()


class _Call:
    """A call that is made where it is unpickled.

    dask unpickles functions before it starts a task, and where that fails, it tries forever. With this, a worker that
    lacks one of our modules fails inside the task and reports it.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def pickled_call(function: Callable[..., Any], *arguments: Any) -> bytes:
    """Return bytes that `pickle.loads` turns into what the function returns."""
    return pickle.dumps(_Call(function, *arguments))


def versions() -> str:
    """Return the versions that must be the same everywhere; builds of torch for other devices may differ."""
    return f"framebench {framebench.__version__} with torch {torch.__version__.partition('+')[0]}"


def run_task(function: Callable[[Any], Any], task: Any, expected: str, folder: Path, timeout: float | None) -> Any:
    """Run a task in a worker. An `InputError` is returned, since dask would repeat a task that raises.

    Args:
        function: The function that computes the task.
        task: The task.
        expected: The client's `versions`.
        folder: The client's working directory.
        timeout: Seconds of silence after which the worker ends itself; see `bench.running.watch.Watch.over`.
    """
    with _turn, quiet():  # a worker may have several threads, and models are not thread-safe
        try:
            if versions() != expected:
                raise refusal(f"has {versions()}; install {expected} there, as it is in this process")
            try:
                os.chdir(folder)  # file names are relative to it
            except OSError as error:
                raise refusal(f"can't enter {folder} ({error.strerror}); it needs the same files") from None
            keep_freed_memory()
            with WATCH.over(timeout, _end()):
                return function(task)
        except InputError as error:
            return error


def _end() -> Callable[[str], None]:
    """Return a function that tells the client why this worker hangs, and ends the worker."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def end(why: str) -> None:
        worker.log_event(HUNG, {"worker": f"{worker.name} ({worker.address})", "key": key, "why": why})
        if not worker.address.startswith("inproc://"):  # that would be the user's own process
            time.sleep(1)  # another thread sends the event
            os._exit(1)

    return end


def refusal(why: str) -> InputError:
    """Return an error that names this worker and goes on with `why`."""
    from distributed import get_worker

    worker = get_worker()
    return InputError(f"the worker {worker.name} ({worker.address}) {why}")
