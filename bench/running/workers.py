"""A pool of workers that computes tasks: processes on this machine, or the workers of a dask cluster.

dask watches the workers, gives each the next task, and repeats the task of a worker that died. A task holds names,
options and ids. A function of this package computes it and writes the result. So finished work survives the death of
workers, scheduler and client.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bench.running.remote import HUNG, pickled_call, run_task, versions
from framebench.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

#: How often dask repeats a task that raised an error, such as one of a network disk.
_RETRIES = 2
#: Slices per worker. With several, a worker that is done early finds another one: half a slice is lost at the end.
_SLICES = 8


class Pool:
    """Workers that are ready.

    Args:
        client: A dask client.
        timeout: Seconds without a sign of life after which a worker counts as dead; None for the limit of `Watch`.
    """

    def __init__(self, client: Client, timeout: float | None = None) -> None:
        self._client, self._timeout = client, timeout

    @property
    def workers(self) -> int:
        """The current number of workers."""
        return max(1, len(self._client.nthreads()))

    def slices(self, left: Sequence[np.ndarray], *, least: int, most: int) -> list[list[np.ndarray]]:
        """Cut the ids of evaluations into slices: eight per worker, each of `least` to `most` ids.

        Args:
            left: Ids of each evaluation.
            least: Smallest size of a slice, except the last one of an evaluation: fewer would not fill a core.
            most: Largest size of a slice: this much is lost when a worker dies.
        """
        size = min(max(-(-sum(map(len, left)) // (_SLICES * self.workers)), least), most)
        return [[ids[start : start + size] for start in range(0, len(ids), size)] for ids in left]

    def compute(self, function: Callable[[Task], Result], tasks: Sequence[Task],
                done: Callable[[Task, Result], object], *, silent: bool = False) -> list[Task]:
        """Compute tasks on the workers. Log each worker that is lost, with its task.

        Args:
            function: Computes a task. It must be importable, since workers import it.
            tasks: Started in this order; messages call them by their `str`.
            done: Called in this process with each task and its result, as they come.
            silent: Whether a task may take any time without a sign of life (`bench.running.watch`), unless the user
                has set a limit.

        Returns:
            The tasks that were given up because each has ended several workers.

        Raises:
            InputError: raised by a task, or if the scheduler is lost. The other tasks are cancelled.
        """
        from distributed import KilledWorker, as_completed

        run = os.urandom(4).hex()
        # dask starts tasks in the alphabetical order of their keys.
        keys = [f"{function.__name__}-{run}-{i:09}" for i in range(len(tasks))]
        timeout = math.inf if silent and self._timeout is None else self._timeout
        calls = [pickled_call(run_task, function, task, versions(), Path.cwd(), timeout) for task in tasks]
        by_key, given_up = dict(zip(keys, tasks, strict=True)), []
        for topic in (HUNG, "all"):
            self._client.subscribe_topic(topic, lambda event: _log_loss(event[1], by_key))
        futures = self._client.map(pickle.loads, calls, key=keys, retries=_RETRIES, batch_size=1000)
        try:
            for future in as_completed(futures, loop=self._client.loop):
                try:
                    result = future.result()
                except KilledWorker:
                    given_up.append(by_key[future.key])
                    continue
                except ImportError as error:
                    raise InputError(f"a worker lacks a module that is installed here ({' '.join(str(error).split())})"
                                     "; install the same version there") from error
                except CancelledError:
                    raise InputError("the scheduler is not reachable; finished work is kept, and the same command "
                                     "resumes it once it is back") from None
                finally:
                    future.release()  # otherwise dask computes it again if the worker that holds the result dies
                if isinstance(result, InputError):
                    raise result
                done(by_key[future.key], result)
        except BaseException:
            self._client.cancel(futures)
            raise
        finally:
            for topic in (HUNG, "all"):
                self._client.unsubscribe_topic(topic)
        return given_up


def _log_loss(event: Mapping[str, Any], tasks: Mapping[str, object]) -> None:
    """Log that a worker hangs or is lost while it computes one of our tasks (key -> task)."""
    if event.get("key") in tasks:
        _log.warning("the worker %s %s while it computes %s; it is stopped", event["worker"], event["why"],
                     tasks[event["key"]])
    elif event.get("action") == "remove-worker" and not event["expected"]:
        for key in tasks.keys() & set(event["processing-tasks"]):
            _log.warning("the worker %s is lost, with %s", event["worker"], tasks[key])
