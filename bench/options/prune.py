"""Options of `bench prune`."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from bench.options.common import Computed, WithImages, option, out_folder
from bench.options.kinds import AT_LEAST_ONE, INTEGER, NUMBER, SHARE, TEXT
from bench.options.train import dataset_option
from framebench.errors import InputError

#: Default number of training images that score filters.
_IMAGES = 1000


@dataclass(frozen=True, init=False)
class PruneOptions(WithImages, Computed):
    """Options of `bench prune`: the checkpoint, the share to remove, and the criterion."""

    command = "prune"

    model: str = option("MODEL", MISSING, TEXT, "a shipped name, a .safetensors path or RUN@EPOCH", positional=True)
    share: float = option("--share", MISSING, NUMBER, "share of the filters (or weights) of all convolutions to "
                          "remove, between 0 and 1; each layer keeps at least one", rule=SHARE, metavar="S")
    criterion: str = option("--criterion", "taylor", TEXT, "taylor: |activation * gradient|, or |w * gradient| for "
                            "weights; magnitude: the norm, without data", choices="framebench.models.prune:CRITERIA",
                            metavar="C")
    units: str = option("--structured", "filters", TEXT, "filters: whole channels, ranked relative to their layer; "
                        "weights: individual weights", choices="framebench.models.prune:UNITS", metavar="UNITS")
    dataset: str = dataset_option("data set that the model was trained on")
    images: int | None = option(
        "--images", None, INTEGER, "for taylor: use the first N training images of the fixed, class-balanced order",
        rule=AT_LEAST_ONE, metavar="N", known_as=f"{_IMAGES}")
    name: str | None = option("--name", None, TEXT, "name of the pruned checkpoint",
                              known_as="MODEL-CRITERION-STRUCTURED-SHARE")
    out: Path = out_folder("runs/prune")

    def _check(self) -> None:
        if self.criterion == "taylor":
            self.fill("images", self.images or _IMAGES)
        elif self.images:
            raise InputError("--images without --criterion taylor does nothing; leave it out")

    def name_of(self, source: str) -> str:
        """Return the name of a checkpoint's pruned copy."""
        return self.name or f"{source}-{self.criterion}-{self.units}-{self.share:g}"
