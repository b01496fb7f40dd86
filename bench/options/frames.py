"""Options of `bench frames`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.options.attack import models_option
from bench.options.common import Computed, option, out_folder
from bench.options.kinds import INTEGER, PIXELS, TEXT, TRUTH, Rule
from bench.options.report import Reported

if TYPE_CHECKING:
    from framebench.models.registry import LoadedModel


@dataclass(frozen=True, init=False)
class FramesOptions(Reported, Computed):
    """Options of `bench frames`: models, and the kind of frame bounds."""

    command = "frames"

    models: tuple[str | LoadedModel, ...] = models_option(
        "shipped names, .safetensors paths, python:FILE.py:FUNCTION")
    size: int = option("--size", 32, INTEGER, "side of the square input images", rule=PIXELS, metavar="PIXELS")
    padding: Literal["circular", "own"] = option(
        "--padding", "circular", TEXT, "circular: exact bounds with circular padding; own: estimated bounds (Lanczos) "
        "with the layer's own padding; the table marks those that have not converged",
        choices="framebench.models.spectrum:Padding", metavar="P")
    fold: bool = option("--fold", False, TRUTH, "fold each batch norm into the layer before it (pooling may be "
                        "between)")
    images: int = option("--images", 4, INTEGER, "real images whose activations are reconstructed; 0 for none",
                         metavar="N", rule=Rule(lambda value: 0 <= value <= 20,
                                                "must lie between 0 and 20, the number of images that foolbox ships"))
    out: Path = out_folder("runs")
