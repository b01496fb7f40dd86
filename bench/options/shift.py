"""Options of `bench shift`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.options.attack import models_option
from bench.options.common import Batched, Spread, WithImages, option, out_folder
from bench.options.kinds import AT_LEAST_ONE, DOMAIN, INTEGER, SEED, TEXT, resolve
from bench.options.protocol import WithProtocol
from bench.options.report import Reported

if TYPE_CHECKING:
    from framebench.domains import Domain
    from framebench.models.registry import LoadedModel

_SEVERITIES = "framebench.domains.corruptions:SEVERITIES"


@dataclass(frozen=True, init=False)
class ShiftOptions(WithProtocol, Reported, WithImages, Batched, Spread):
    """Options of `bench shift`: models and images."""

    command = "shift"

    models: tuple[str | LoadedModel, ...] = models_option(
        "shipped names, .safetensors paths, RUN@EPOCH, python:FILE.py:FUNCTION")
    domains: tuple[str | Domain, ...] | None = option(
        "--domains", None, DOMAIN, "domains; `bench list` shows all", many="+", metavar="D",
        known_as="those under --data-root, and cifar10-c; without a data root samples and samples-c")
    n: int | None = option("-n", None, INTEGER, "use the first N images of each cell, in a fixed, class-balanced order",
                           metavar="N", rule=AT_LEAST_ONE, known_as="all")
    corruptions: tuple[str, ...] | None = option(
        "--corruptions", None, TEXT, "corruptions to apply", many="+", metavar="C", distinct=True,
        choices="framebench.domains.corruptions:NAMES", known_as="all 19: the benchmark's and the extra ones")
    severities: tuple[int, ...] = option("--severities", None, INTEGER, "severities to apply", many="+", metavar="S",
                                         distinct=True, choices=_SEVERITIES, known_as="all")
    match_clean: str | None = option(
        "--match-clean", None, TEXT, "from each training folder among the models, use the kept epoch whose held-out "
        "accuracy is nearest to that of model M", metavar="M")
    seed: int = option("--seed", 0, INTEGER, "seed of generated corruptions", rule=SEED)
    out: Path = out_folder("runs")

    def _check(self) -> None:
        super()._check()
        if self.severities is None:
            self.fill("severities", resolve(_SEVERITIES))
