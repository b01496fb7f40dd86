"""The benchmark from Python: the commands as functions, with the commands' options as keywords."""

from __future__ import annotations

import atexit
import inspect
import os
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from bench.options.attack import AttackOptions
from bench.options.common import Computed, Options, Spread, default_of, described, in_python, options_of
from bench.options.frames import FramesOptions
from bench.options.report import ReportOptions
from bench.options.shift import ShiftOptions
from bench.options.train import TrainOptions
from framebench.errors import InputError
from framebench.progress import quiet

if TYPE_CHECKING:
    import pandas as pd

    from bench.analysis.reporting import Results
    from framebench.models.checkpoint import Card

#: A model: its name or path (`framebench.models.registry.load`), a module from images [n, C, H, W] in [0, 1] to logits
#: [n, classes], which is put into eval mode and called by its class, or a pair (name, module).
Model = str | os.PathLike[str] | nn.Module | tuple[str, nn.Module]

Function = TypeVar("Function", bound=Callable[..., Any])
Chosen = TypeVar("Chosen", bound=Options)


def _listing(kind: type[Options], *, keep: bool = False, without: Iterable[str] = ()) -> Callable[[Function], Function]:
    """Derive the signature and the docstring of a function from a command's options.

    Args:
        kind: The options.
        keep: Whether results are kept if no folder is given.
        without: Names of options that the function does not have, or not as keywords.
    """
    def decorated(function: Function) -> Function:
        given = inspect.signature(function)
        parameters = [one for one in given.parameters.values() if one.kind is inspect.Parameter.VAR_POSITIONAL]
        lines = []
        for name, option in sorted(options_of(kind).items(), key=lambda item: item[1].group != ""):  # its own first
            if name in without:
                continue
            default = default_of(kind, name)
            if name == "out" and not keep:
                option, default = replace(option, known_as="a folder that is removed when Python ends"), None
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default))
            if option.choices and isinstance(option.choices, tuple):
                option = replace(option, help=f"{option.help}; one of {', '.join(option.choices)}")
            lines.append(textwrap.fill(f"{name}: {in_python(described(option, default), kind)}", 110,
                                       initial_indent=" " * 4, subsequent_indent=" " * 8))
        function.__signature__ = given.replace(parameters=parameters)  # type: ignore[attr-defined]
        function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Options:", *lines])
        return function
    return decorated


@_listing(AttackOptions, without=("models", "transfer_from"))
def attack(*models: Model, **options: Any) -> Results:
    """Attack models, as `bench attack` does.

    Args:
        models: See `Model`, or one list of them; none for the shipped ones.
        options: See below, such as ``n=100, basis="dct", data_root="data"``. They override those of a ``protocol``; one
            that is None is as if it were not given. Without ``out``, results go to a temporary folder, which is
            removed when Python ends, and nothing is kept from one call to the next.

    Returns:
        Tables as data frames, and the report.

    Raises:
        InputError: for what the command would refuse.
    """
    from bench.running import attacking

    with _running(AttackOptions, _joined("models", models, options)) as chosen:
        if chosen.transfer_from is not None:
            raise InputError("attack gives no table of transfers; call framebench.transfer")
        attacked = attacking.attack(chosen)
        if attacked is None:
            raise InputError(f"the shard {chosen.shard} has none of the images; make fewer shards")
        return attacked.results


#: Options of `bench attack` that don't apply to transfers: those of the attack and of workers.
_ATTACKING = {"models", *{*options_of(Spread)} - {*options_of(Computed)},
              *(name for name, option in options_of(AttackOptions).items()
                if not option.group and name not in ("transfer_from", "domain"))}


@_listing(AttackOptions, without=_ATTACKING)
def transfer(*models: Model, **options: Any) -> pd.DataFrame:
    """Let models classify images that others were attacked with, as `bench attack --transfer-from` does.

    >>> framebench.attack("baseline", save_adversarial=True, out="runs")
    >>> framebench.transfer("ocnn", transfer_from=Path("runs/adversarial").iterdir(), out="runs")

    Args:
        models: See `attack`.
        options: See below; ``transfer_from`` must be given.

    Returns:
        The new entries of ``transfer.csv``, see docs/definitions.md.

    Raises:
        InputError: for what the command would refuse.
    """
    from bench.running.transferring import run

    with _running(AttackOptions, _joined("models", models, options)) as chosen:
        if chosen.transfer_from is None:
            raise InputError("transfer needs transfer_from, folders of attacked images (adversarial/EVALUATION below "
                             "an output folder)")
        return run(chosen)


@_listing(ShiftOptions, without=["models"])
def shift(*models: Model, **options: Any) -> Results:
    """Measure models under domain shift, as `bench shift` does.

    See `attack` for the rest.
    """
    from bench.running.shifting import run

    with _running(ShiftOptions, _joined("models", models, options)) as chosen:
        return run(chosen)


@_listing(FramesOptions, without=["models"])
def frames(*models: Model, **options: Any) -> Results:
    """Compute the frame bounds of models' layers, as `bench frames` does.

    See `attack` for the rest.
    """
    from bench.frames.bounds import run

    with _running(FramesOptions, _joined("models", models, options)) as chosen:
        return run(chosen)


@_listing(TrainOptions, keep=True)
def train(**options: Any) -> list[tuple[Path, Card]]:
    """Train a checkpoint for every seed, as `bench train` does.

    Args:
        options: See below, such as ``arch="resnet20", regularizer="frame", data_root="data"``.

    Returns:
        The path of the weights, and the card, of each; the path is a model's name.

    Raises:
        InputError: for what the command would refuse.
    """
    from bench.training.train import run

    with _running(TrainOptions, options, keep=True) as chosen:
        return run(chosen)


@_listing(ReportOptions, keep=True, without=["out"])
def report(*out: str | os.PathLike[str], **options: Any) -> Results:
    """Rebuild tables and report of an output folder, as `bench report` does.

    Args:
        out: The folder, and those that are joined into it; none for ``runs``.
        options: See below.

    Raises:
        InputError: for what the command would refuse.
    """
    from bench.analysis.reporting import run

    with _running(ReportOptions, _joined("out", out, options), keep=True) as chosen:
        return run(chosen)


def _joined(name: str, values: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return options, including the one that is given by positional arguments or by its name."""
    if not values:
        return options
    if name in options:
        raise InputError(f"{name} are given twice, without a name and as {name}=; give them once")
    (first, *others) = values
    several = isinstance(first, list | Set | Iterator) or (isinstance(first, tuple) and not _is_pair(first))
    return {name: first if several and not others else values, **options}


def _is_pair(value: tuple[Any, ...]) -> bool:
    """Return whether a tuple is a name and a module, not two names."""
    return len(value) == 2 and isinstance(value[0], str) and not isinstance(value[1], str | os.PathLike)


@contextmanager
def _running(kind: type[Chosen], given: dict[str, Any], *, keep: bool = False) -> Iterator[Chosen]:
    """Build options and run with them: in a temporary folder, unless one is given or results are kept.

    Messages name keywords instead of flags, and torch's number of threads is restored afterwards.
    """
    before = torch.get_num_threads()
    try:
        chosen = kind(**given)
        if not keep and "out" not in chosen.given:
            chosen.fill("out", _temporary_folder())
        with quiet(chosen.quiet):
            yield chosen
    except InputError as error:
        error.args = (in_python(str(error), kind),)
        raise
    finally:
        torch.set_num_threads(before)  # a predictor changes it


def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="framebench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
