"""The benchmark from Python: the commands as functions, with the commands' options as keywords.

>>> import bench
>>> results = bench.attack(my_model, "baseline", n=100, budgets=[1, 10, 100])
>>> results.attack  # a data frame; in a notebook, `results` shows the report
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from bench.commands import attack as attack_command
from bench.commands import shift as shift_command
from bench.protocol_file import parse
from bench.reporting import Results
from bench.run import parser
from framebench.errors import InputError, unknown
from models.registry import LoadedModel, wrap

Model = str | nn.Module | tuple[str, nn.Module]


def attack(*models: Model, **options: Any) -> Results:
    """Attack models, as `bench attack` does.

    Args:
        models: Names (`models.registry.load`), modules from images [n, C, H, W] in [0, 1] to logits (put into eval
            mode; called by their class), or pairs (name, module); none for the shipped ones.
        options: The command's options, such as ``n=100, basis="dct", data_root="data"``; see `bench attack --help`.
            They override those of a ``protocol``. ``epsilon`` is a number or a list of numbers.
            Without ``out``, results go to a temporary folder, and nothing is kept from one call to the next.

    Returns:
        Tables as data frames, and the report.

    Raises:
        InputError: for what the command would refuse.
    """
    if (epsilon := options.get("epsilon")) is not None:
        options["epsilon"] = _numbers("epsilon", epsilon)
    results = attack_command.run(_arguments("attack", models, options))
    assert results is not None, "only --transfer-from, which is no option here, gives none"
    return results


def shift(*models: Model, **options: Any) -> Results:
    """Measure models under domain shift, as `bench shift` does; see `attack`."""
    return shift_command.run(_arguments("shift", models, options))


def _arguments(command: str, models: tuple[Model, ...], options: dict[str, Any]) -> argparse.Namespace:
    protocol = options.pop("protocol", None)
    arguments = parse(parser(), [command, *([] if protocol is None else ["--protocol", str(protocol)])])
    known = sorted(set(vars(arguments)) - {"command", "models", "transfer_from"})
    for name in options:
        if name not in known:
            raise unknown(f"option of bench.{command}", name, known)
    vars(arguments).update(options, models=[_known(model) for model in models] or arguments.models)
    out = options.get("out") or (arguments.protocol and arguments.protocol.options.get("out"))
    arguments.out = Path(out or tempfile.mkdtemp(prefix="bench-"))
    return arguments


def _numbers(name: str, given: Any) -> list[float]:
    """Return a number, or several, as a list."""
    try:
        return [float(number) for number in np.atleast_1d(given)]
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number or a list of numbers, not {given!r}") from None


def _known(model: Model) -> str | LoadedModel:
    if isinstance(model, str):
        return model
    name, module = model if isinstance(model, tuple) else (type(model).__name__, model)
    return wrap(module, name)
