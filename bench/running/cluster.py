"""Workers that share a command's computing: processes on this machine, or the workers of a dask cluster.

dask starts, restarts and watches the workers, gives each the next task, and repeats the task of a worker that died. A
task is told by names, options and ids, and computed by a function of this package, which writes the result. So nothing
that is finished depends on the worker, the scheduler or the client being alive.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

import framebench
from bench.analysis.reporting import Results, write_report
from bench.options.common import Spread
from bench.options.report import ReportSettings
from bench.running.computing import threads
from bench.running.watch import WATCH
from framebench.domains import Domain
from framebench.errors import InputError
from framebench.extras import require
from framebench.memory import keep_freed_memory
from framebench.models.registry import LoadedModel
from framebench.progress import quiet
from framebench.user_code import UserFunction

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

_log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Workers that a task may end before it is given up.
DEATHS = 3
#: How often dask repeats a task that raised something, such as an error of a network disk.
_RETRIES = 2
#: Seconds within which a scheduler must answer.
_PATIENCE = 20
#: dask's topic of workers that hang.
_HUNG = "framebench-hung"
#: Slices for each worker, so that those who are done early find another one: half of the last one is lost.
_SLICES = 8

#: What dask measures of itself, fifty times a second and more: up to a tenth of the time of workers on busy cores.
_QUIET = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s",
          "distributed.admin.system-monitor.interval": "5s"}

_turn = threading.Lock()


class Pool:
    """Workers that are ready.

    Args:
        client: dask's.
        timeout: Seconds after which a worker without a sign of life is taken for dead; None for `Watch`'s own limit.
    """

    def __init__(self, client: Client, timeout: float | None = None) -> None:
        self._client, self._timeout = client, timeout

    @property
    def workers(self) -> int:
        """How many workers there are at present."""
        return max(1, len(self._client.nthreads()))

    def slices(self, left: Sequence[np.ndarray], *, least: int, most: int) -> list[list[np.ndarray]]:
        """Cut the ids of evaluations into slices: eight for each worker, but of at least and at most so many ids.

        Args:
            left: The ids of each evaluation.
            least: The fewest in a slice, where there are as many: fewer would not fill a core.
            most: The most in a slice: what is lost at most where a worker dies.
        """
        size = min(max(-(-sum(map(len, left)) // (_SLICES * self.workers)), least), most)
        return [[ids[start : start + size] for start in range(0, len(ids), size)] for ids in left]

    def compute(self, function: Callable[[Task], Result], tasks: Sequence[Task],
                done: Callable[[Task, Result], object], *, silent: bool = False) -> list[Task]:
        """Compute tasks on the workers. Those that are lost meanwhile are named to the user.

        Args:
            function: What computes one; of a module, since workers import it.
            tasks: Given out in this order; messages call them by their `str`.
            done: Called here with each task and its result, in the order in which they come.
            silent: Whether a task may be without a sign of life (`bench.running.watch`) for any time, unless the user
                has set a limit.

        Returns:
            The tasks that were given up, since each has ended several workers.

        Raises:
            InputError: what a task has raised, or if the scheduler is lost. The other tasks are taken back.
        """
        from distributed import KilledWorker, as_completed

        run = os.urandom(4).hex()
        # dask goes by the keys' alphabetical order.
        keys = [f"{function.__name__}-{run}-{i:09}" for i in range(len(tasks))]
        timeout = math.inf if silent and self._timeout is None else self._timeout
        calls = [_call(_computed, function, task, _versions(), Path.cwd(), timeout) for task in tasks]
        given, lost = dict(zip(keys, tasks, strict=True)), []
        for topic in (_HUNG, "all"):
            self._client.subscribe_topic(topic, lambda event: _tell(event[1], given))
        futures = self._client.map(pickle.loads, calls, key=keys, retries=_RETRIES, batch_size=1000)
        try:
            for future in as_completed(futures, loop=self._client.loop):
                try:
                    result = future.result()
                except KilledWorker:
                    lost.append(given[future.key])
                    continue
                except ImportError as error:
                    raise InputError(f"a worker lacks what this framebench has ({' '.join(str(error).split())}); "
                                     "install the same version there") from error
                except CancelledError:
                    raise InputError("the scheduler is gone; what is finished is kept, and the same command goes on "
                                     "once there is one") from None
                finally:
                    future.release()  # dask would compute it anew where the worker dies that has it in memory
                if isinstance(result, InputError):
                    raise result
                done(given[future.key], result)
        except BaseException:
            self._client.cancel(futures)
            raise
        finally:
            for topic in (_HUNG, "all"):
                self._client.unsubscribe_topic(topic)
        return lost


def _tell(event: Mapping[str, Any], given: Mapping[str, object]) -> None:
    """Tell of a worker that hangs, as it has said, or that dask has lost, and with which of the tasks `given`."""
    if event.get("key") in given:
        _log.warning("the worker %s %s, with %s; it is ended", event["worker"], event["why"], given[event["key"]])
    elif event.get("action") == "remove-worker" and not event["expected"]:
        for key in given.keys() & set(event["processing-tasks"]):
            _log.warning("the worker %s is lost, with %s", event["worker"], given[key])


@contextmanager
def pool(options: Spread, models: Collection[LoadedModel] = (), domains: Collection[str | Domain] = (),
         attacks: Collection[str | UserFunction] = ()) -> Iterator[Pool]:
    """Yield the workers that options ask for. Local ones end with this.

    Args:
        options: The options, which ask for some; where local workers are to share the cores, `threads` is filled in.
        models: What they are to load by name.
        domains: Likewise.
        attacks: Likewise.

    Raises:
        InputError: if dask is not installed, models, domains or attacks have no name to load them by, or there is no
            scheduler at the address.
    """
    flag = "--workers" if options.scheduler is None else "--scheduler"
    require("distributed", "cluster")
    for kind, names in (("model", [model.name for model in models if not model.given]),
                        ("domain", [domain.name for domain in domains if isinstance(domain, Domain)]),
                        ("attack", [str(attack) for attack in attacks if isinstance(attack, UserFunction)])):
        if names:
            raise InputError(f"the {kind} {names[0]} is an object of this process, which no worker can load; give "
                             f"{kind}s by name, or leave {flag} out")
    from distributed import Client

    if options.scheduler is not None:
        with _connected(options.scheduler) as client:
            yield _ready(client, options.worker_timeout)
        return
    assert options.workers is not None
    if options.threads is None:
        options.fill("threads", max(1, threads(None) // options.workers))
    cluster = _local(options.workers, _gpus(options.device))
    with cluster, Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(options.workers)
        yield _ready(client, options.worker_timeout)


def _ready(client: Client, timeout: float | None) -> Pool:
    if not client.nthreads():
        _log.info("the scheduler has no worker yet; waiting for the first one")
        client.wait_for_workers(1)
    for worker, versions in client.run(pickle.loads, _call(_versions), on_error="return").items():
        if versions != _versions():
            theirs = versions if isinstance(versions, str) else \
                f"no framebench that works ({' '.join(str(versions).split())})"
            raise InputError(f"the worker {worker} has {theirs}; install {_versions()} there, as it is here")
    found = Pool(client, timeout)
    _log.info("workers: %d; dask's dashboard: %s", found.workers, client.dashboard_link)
    return found


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    from distributed import Client

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a traceback where the scheduler is lost
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"there is no dask scheduler at {address} ({' '.join(str(error).split())[:200]}); give the "
                         "address that it printed, such as tcp://10.0.0.1:8786") from None
    with client:
        yield client


def _local(workers: int, gpus: Sequence[str]) -> SpecCluster:
    """Start worker processes, and a scheduler in this one, which all end with it."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    here = {"host": "127.0.0.1"}
    # Without a limit of memory: dask stops giving tasks to a worker that nears it, for ever where the memory is a
    # model's. And one task at a time: those that wait for their turn would be blamed for the death of a worker too.
    processes = {i: {"cls": Nanny, "options": {
        **here, "silence_logs": logging.ERROR, "nthreads": 1, "memory_limit": 0,
        "env": {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}}} for i in range(workers)}
    with dask.config.set({"distributed.scheduler.worker-saturation": 1.0,
                          "distributed.scheduler.allowed-failures": DEATHS - 1, **_QUIET}):
        return SpecCluster(processes, {"cls": Scheduler, "options": {**here, "dashboard_address": "127.0.0.1:0"}},
                           silence_logs=logging.WARNING)


def _gpus(device: str) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls the GPUs, where there are several and none is named."""
    if device not in ("auto", "cuda") or torch.cuda.device_count() < 2:
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else list(map(str, range(torch.cuda.device_count())))


class _Call:
    """A call that is made where it is unpickled.

    Pickled functions are found before dask starts a task, and where one can't be, dask tries for ever. With this, a
    worker that lacks a module of ours fails in the task, and says so.
    """

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.given


def _call(function: Callable[..., Any], *given: Any) -> bytes:
    """Return bytes of which `pickle.loads` makes what a function returns."""
    return pickle.dumps(_Call(function, *given))


def _versions() -> str:
    """Return the versions that must be the same everywhere; builds of torch for other devices may differ."""
    return f"framebench {framebench.__version__} with torch {torch.__version__.partition('+')[0]}"


def _computed(function: Callable[[Any], Any], task: Any, versions: str, folder: Path, timeout: float | None) -> Any:
    """Compute a task in a worker. An error of input is returned, since dask would repeat what raises it."""
    with _turn, quiet():  # a worker may have several threads, and models are not made for that
        try:
            if versions != _versions():
                raise refused(f"has {_versions()}; install {versions} there, as it is in this process")
            try:
                os.chdir(folder)  # names of files are relative to it
            except OSError as error:
                raise refused(f"can't enter {folder} ({error.strerror}); it needs the same files") from None
            keep_freed_memory()
            with WATCH.over(timeout, _end()):
                return function(task)
        except InputError as error:
            return error


def _end() -> Callable[[str], None]:
    """Return what tells the client why this worker hangs, and ends it."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def end(why: str) -> None:
        worker.log_event(_HUNG, {"worker": f"{worker.name} ({worker.address})", "key": key, "why": why})
        if not worker.address.startswith("inproc://"):  # it is the user's own process, which can only be told
            time.sleep(1)  # another thread sends it
            os._exit(1)

    return end


def reported(out: Path, settings: ReportSettings) -> Results:
    """Write the report of a run.

    Raises:
        InputError: if images were left out, after the report of the others is written.
    """
    results = write_report(out, settings)
    if settings.left_out:
        raise InputError(f"{len(settings.left_out)} slices were left out, as the report says; give the workers more "
                         "memory, or look into their logs; the same command tries these slices again")
    return results


def refused(why: str) -> InputError:
    """Return the error that names the worker that raises it, and goes on with `why`."""
    from distributed import get_worker

    worker = get_worker()
    return InputError(f"the worker {worker.name} ({worker.address}) {why}")
