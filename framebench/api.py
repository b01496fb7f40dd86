"""The benchmark from Python: the commands as functions, with the commands' options as keywords."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench.options.attack import AttackOptions
from bench.options.common import Options
from bench.options.frames import FramesOptions
from bench.options.report import ReportOptions
from bench.options.shift import ShiftOptions
from bench.options.train import TrainOptions
from framebench.errors import InputError
from framebench.progress import quiet

if TYPE_CHECKING:
    from bench.analysis.reporting import Results
    from framebench.models.checkpoint import Card

#: A model: its name (`framebench.models.registry.load`), a module from images [n, C, H, W] in [0, 1] to logits [n,
#: classes], which is put into eval mode and called by its class, or a pair (name, module).
Model = str | nn.Module | tuple[str, nn.Module]


def attack(*models: Model, **options: Any) -> Results:
    """Attack models, as `bench attack` does.

    Args:
        models: See `Model`; none for the shipped ones.
        options: The fields of `AttackOptions`, such as ``n=100, basis="dct", data_root="data"``. They override those of
            a ``protocol``; one that is None is as if it were not given. Without ``out``, results go to a temporary
            folder, which is removed when Python ends, and nothing is kept from one call to the next.

    Returns:
        Tables as data frames, and the report.

    Raises:
        InputError: for what the command would refuse.
    """
    from bench.running.attacking import run

    chosen = AttackOptions(**_joined("models", models, options))
    if chosen.transfer_from is not None:
        raise InputError("attack gives no table of transfers; call bench.running.transferring.run(AttackOptions(...))")
    with _running(chosen):
        results = run(chosen)
    if results is None:
        raise InputError(f"the shard {chosen.shard} has none of the images; make fewer shards")
    return results


def shift(*models: Model, **options: Any) -> Results:
    """Measure models under domain shift, as `bench shift` does; options are the fields of `ShiftOptions`.

    See `attack` for the rest.
    """
    from bench.running.shifting import run

    chosen = ShiftOptions(**_joined("models", models, options))
    with _running(chosen):
        return run(chosen)


def frames(*models: Model, **options: Any) -> Results:
    """Compute the frame bounds of models' layers, as `bench frames` does; options are the fields of `FramesOptions`.

    See `attack` for the rest.
    """
    from bench.frames.bounds import run

    chosen = FramesOptions(**_joined("models", models, options))
    with _running(chosen):
        return run(chosen)


def train(**options: Any) -> list[tuple[Path, Card]]:
    """Train a checkpoint for every seed, as `bench train` does.

    Args:
        options: The fields of `TrainOptions`, such as ``arch="resnet20", regularizer="frame", data_root="data"``.

    Returns:
        The path of the weights, and the card, of each; the path is a model's name.

    Raises:
        InputError: for what the command would refuse.
    """
    from bench.training.train import run

    chosen = TrainOptions(**options)
    with _running(chosen, keep=True):
        return run(chosen)


def report(*out: str | Path, **options: Any) -> Results:
    """Rebuild tables and report of an output folder, as `bench report` does.

    Args:
        out: The folder, and those that are joined into it; none for ``runs``.
        options: The other fields of `ReportOptions`.

    Raises:
        InputError: for what the command would refuse.
    """
    from bench.analysis.reporting import run

    chosen = ReportOptions(**_joined("out", out, options))
    with _running(chosen, keep=True):
        return run(chosen)


def _joined(name: str, values: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return options with the one that stands first without a name; it may be given by its name instead."""
    if values and name in options:
        raise InputError(f"{name} are given twice, without a name and as {name}=; give them once")
    return {name: values, **options} if values else options


@contextmanager
def _running(options: Options, *, keep: bool = False) -> Iterator[None]:
    """Give a run a folder, unless it has one or is to be kept, and set torch's threads back after it."""
    if not keep and "out" not in options.given:
        options.fill("out", _temporary_folder())
    before = torch.get_num_threads()
    try:
        with quiet(options.quiet):
            yield
    finally:
        torch.set_num_threads(before)  # a predictor sets them, but this process has other things to do


def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="framebench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
