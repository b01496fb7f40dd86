"""Starts workers on this machine, or connects to those of a dask cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from bench.options.common import Spread
from bench.running.computing import threads
from bench.running.remote import pickled_call, versions
from bench.running.workers import Pool
from framebench.domains import Domain
from framebench.errors import InputError
from framebench.extras import require
from framebench.models.registry import LoadedModel
from framebench.user_code import UserFunction

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

_log = logging.getLogger(__name__)

#: A task is given up after it has ended this many workers.
_DEATHS = 3
#: Seconds between searches for local workers that failed when they started.
_RESTART_EVERY = 5
#: Seconds within which a scheduler must answer.
_PATIENCE = 20
#: dask measures itself fifty times a second and more: up to a tenth of the time of workers on busy cores.
_QUIET = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s",
          "distributed.admin.system-monitor.interval": "5s"}


@contextmanager
def pool(options: Spread, models: Collection[LoadedModel] = (), domains: Collection[str | Domain] = (),
         attacks: Collection[str | UserFunction] = ()) -> Iterator[Pool]:
    """Yield the workers that the options ask for. Local ones end with the context.

    Args:
        options: Options with `workers` or `scheduler`. If local workers must share the cores, `threads` is filled in.
        models: Models that the workers will load by name.
        domains: Domains that the workers will load by name.
        attacks: Attacks that the workers will load by name.

    Raises:
        InputError: if dask is not installed, if models, domains or attacks have no name to load them by, if there is
            no scheduler at the address, or if no local worker can be started.
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
    with _local(options.workers, _gpus(options.device)) as cluster, Client(cluster, set_as_default=False) as client:
        yield _ready(client, options.worker_timeout)


def _ready(client: Client, timeout: float | None) -> Pool:
    """Return a client's workers, once there is one and all have our versions."""
    if not client.nthreads():
        _log.info("the scheduler has no worker yet; waiting for the first one")
        client.wait_for_workers(1)
    for worker, answer in client.run(pickle.loads, pickled_call(versions), on_error="return").items():
        if answer != versions():
            installed = answer if isinstance(answer, str) else \
                f"no framebench that works ({' '.join(str(answer).split())})"
            raise InputError(f"the worker {worker} has {installed}; install {versions()} there, as it is here")
    workers = Pool(client, timeout)
    _log.info("workers: %d; dask's dashboard: %s", workers.workers, client.dashboard_link)
    return workers


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    from distributed import Client

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # no traceback when the scheduler is lost
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"there is no dask scheduler at {address} ({' '.join(str(error).split())[:200]}); give the "
                         "address that it printed, such as tcp://10.0.0.1:8786") from None
    with client:
        yield client


@contextmanager
def _local(workers: int, gpus: Sequence[str]) -> Iterator[SpecCluster]:
    """Yield worker processes, and a scheduler in this process; they all end with the context.

    Raises:
        InputError: if no worker can be started.
    """
    import dask
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.core import Status
    from tornado.ioloop import PeriodicCallback

    here = {"host": "127.0.0.1"}
    with dask.config.set({"distributed.scheduler.worker-saturation": 1.0,
                          "distributed.scheduler.allowed-failures": _DEATHS - 1,
                          # On a busy machine a worker may take longer than dask's 15 s to come back.
                          "distributed.deploy.lost-worker-timeout": "1 day", **_QUIET}), \
            SpecCluster({}, {"cls": Scheduler, "options": {**here, "dashboard_address": "127.0.0.1:0"}},
                        silence_logs=logging.WARNING) as cluster:

        async def start(name: int) -> None:
            """Start a worker. If it fails, it is closed."""
            # No memory limit: near it, dask stops giving tasks to a worker, forever if the memory is a model's. One
            # task at a time: dask would blame waiting tasks for the death of a worker too.
            options: dict[str, Any] = {
                **here, "name": name, "nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL,
                "env": {"CUDA_VISIBLE_DEVICES": gpus[name % len(gpus)]} if gpus else {}}
            cluster.worker_spec[name] = {"cls": Nanny, "options": options}  # else the cluster would close it
            cluster.workers[name] = Nanny(cluster.scheduler_address, **options)
            with contextlib.suppress(Exception):
                await cluster.workers[name]

        async def start_all() -> None:
            await asyncio.gather(*map(start, range(workers)))

        async def restart_closed() -> None:
            """Start closed workers again; dask restarts only those that have run."""
            for name, nanny in list(cluster.workers.items()):
                if nanny.status in (Status.closed, Status.failed) and cluster.status == Status.running:
                    _log.warning("the worker %s failed when it started; it is started again", name)
                    await start(name)

        cluster.sync(start_all)
        if not any(nanny.status == Status.running for nanny in cluster.workers.values()):
            raise InputError(f"none of {workers} workers could be started; if memory is short, ask for fewer "
                             "--workers")
        loop, restarts = cluster.loop, PeriodicCallback(restart_closed, 1000 * _RESTART_EVERY)
        assert loop is not None  # it is there as long as the cluster is open
        loop.add_callback(restarts.start)
        try:
            yield cluster
        finally:
            loop.add_callback(restarts.stop)


def _gpus(device: str) -> list[str]:
    """Return CUDA_VISIBLE_DEVICES's names of the GPUs, if there are several and the device names none of them."""
    if device not in ("auto", "cuda") or torch.cuda.device_count() < 2:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))
