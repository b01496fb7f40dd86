"""The benchmark from Python: the commands as functions, with the commands' options as keywords.

>>> import bench
>>> results = bench.attack(my_model, "baseline", n=100, budgets=[1, 10, 100])
>>> results.attack  # a data frame; in a notebook, `results` shows the report
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.analysis.reporting import Results
from bench.cli import attack as attack_command
from bench.cli import frames as frames_command
from bench.cli import shift as shift_command
from bench.options.protocol import convert, parse
from bench.run import COMMANDS, parser
from framebench.errors import InputError, unknown
from framebench.models.registry import LoadedModel, wrap

Model = str | nn.Module | tuple[str, nn.Module]


def attack(*models: Model, **options: Any) -> Results:
    """Attack models, as `bench attack` does.

    Args:
        models: Names (`framebench.models.registry.load`), modules from images [n, C, H, W] in [0, 1] to
            logits (put into eval mode; called by their class), or pairs (name, module); none for the shipped ones.
        options: The command's options, such as ``n=100, basis="dct", data_root="data"``; see `bench attack --help`.
            They override those of a ``protocol``; one that is None is as if it were not there. Numbers and lists may
            be numpy's, and a list of one may be its value.
            Without ``out``, results go to a temporary folder, which is removed when Python ends, and nothing is kept
            from one call to the next.

    Returns:
        Tables as data frames, and the report.

    Raises:
        InputError: for what the command would refuse.
    """
    arguments = _arguments("attack", models, options)
    with _threads_kept():
        results = attack_command.run(arguments)
    if results is None:
        raise InputError(f"the shard {arguments.shard} has none of the images; make fewer shards")
    return results


def shift(*models: Model, **options: Any) -> Results:
    """Measure models under domain shift, as `bench shift` does; see `attack`."""
    arguments = _arguments("shift", models, options)
    with _threads_kept():
        return shift_command.run(arguments)


def frames(*models: Model, **options: Any) -> Results:
    """Compute the frame bounds of models' layers, as `bench frames` does; see `attack`.

    Options are those of `bench frames --help`, such as ``size=64, padding="own", images=0``; ``log=[]`` takes the logs
    of trainings out of the report.
    """
    arguments = _arguments("frames", models, options)
    with _threads_kept():
        return frames_command.run(arguments)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Set torch's threads back, which a predictor sets to one, for what else this process does."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _arguments(command: str, models: tuple[Model, ...], options: dict[str, Any]) -> argparse.Namespace:
    own = argparse.ArgumentParser(add_help=False)
    COMMANDS[command].add_arguments(own)
    known = {action.dest: action for action in own._actions if action.dest not in ("models", "transfer_from")}
    given = {}
    for name, value in options.items():
        if name not in known:
            raise unknown(f"option of bench.{command}", name, known)
        if value is not None and name != "protocol":
            given[name] = convert(known[name], _plain(value), name)
    protocol = options.get("protocol")
    arguments = parse(parser(), [command, *([] if protocol is None else [f"--protocol={protocol}"])])
    used = getattr(arguments, "protocol", None)  # which not every command has
    kept = {} if used is None else used.options
    wrapped = [_known(model) for model in models]
    vars(arguments).update(given, models=wrapped or arguments.models)
    if "out" not in given and "out" not in kept:
        arguments.out = _temporary_folder()
    return arguments


def _plain(value: Any) -> Any:
    """Return numbers and arrays of numpy, tuples, ranges and paths as a protocol file has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(entry) for entry in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _known(model: Any) -> str | LoadedModel:
    if isinstance(model, str):
        return model
    name, module = model if isinstance(model, tuple) and len(model) == 2 else (type(model).__name__, model)
    if not isinstance(name, str) or not isinstance(module, nn.Module):
        raise InputError("a model must be a name, a torch.nn.Module, or a pair (name, torch.nn.Module), not a "
                         f"{type(model).__name__}")
    return wrap(module, name)
