"""Options of `bench train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.options.common import Spread, WithImages, option, out_folder
from bench.options.kinds import AT_LEAST_ONE, DATASET, INTEGER, NUMBER, PAIRS, SEED, TEXT, TRUTH, Kind
from framebench.models.recipe import INITS, PRECISIONS, WEIGHT_DECAY, Recipe

if TYPE_CHECKING:
    import torch

_REGULARIZER = "regularizer"


def dataset_option(help: str) -> Any:
    """Return the option that names a data set with a training part."""
    return option("--dataset", "cifar10", DATASET, f"{help}; also folder:PATH, with PATH/{{train,test}}/<class>/*",
                  metavar="D")


def _recipe(name: str, kind: Kind, help: str, flag: str = "", **more: Any) -> Any:
    """Return an option of the recipe, which has its default and its checks."""
    return option(flag or f"--{name.replace('_', '-')}", getattr(Recipe, name), kind, help, **more)


@dataclass(frozen=True, init=False)
class TrainOptions(WithImages, Spread):
    """Options of `bench train`: the recipe (`framebench.models.recipe.Recipe`), the data, and the files to keep."""

    command = "train"

    dataset: str = dataset_option("training set; `bench list` shows them")
    arch: str = _recipe("arch", TEXT, "architecture; `bench list` shows them", metavar="A")
    width: int | None = _recipe("width", INTEGER, "channels of the first stage", rule=AT_LEAST_ONE,
                                known_as="the architecture's usual width")
    epochs: int = _recipe("epochs", INTEGER, "passes over the training part")
    batch_size: int = _recipe("batch_size", INTEGER, "images per step", flag="--batch")
    lr: float = _recipe("lr", NUMBER, "peak learning rate of the one-cycle schedule")
    weight_decay: float | None = _recipe(
        "weight_decay", NUMBER, "weight decay of all weight matrices", known_as=f"{WEIGHT_DECAY:g}; 0 for layers whose "
        "scale the upper bound of a frame regularizer limits")
    label_smoothing: float = _recipe("label_smoothing", NUMBER, "share of the target spread over all classes")
    pad: int = _recipe("pad", INTEGER, "random crops shift the image by up to this many pixels")
    cutout: int = _recipe("cutout", INTEGER, "side of the blanked square; 0 for none")
    no_flip: bool = option("--no-flip", False, TRUTH, "do not flip training images horizontally, because left and "
                           "right matter; svhn's are never flipped")
    validation: int = _recipe("validation", INTEGER, "number of held-out training images")
    regularizer: str = _recipe("regularizer", TEXT, "none, frame, ...; `bench list` shows all", metavar="R",
                               group=_REGULARIZER)
    gamma: float | None = _recipe("gamma", NUMBER, "coefficient of the penalty", group=_REGULARIZER,
                                  known_as="the regularizer's own")
    every: int | None = _recipe("every", INTEGER, "apply the penalty every K steps, multiplied by K", metavar="K",
                                group=_REGULARIZER, known_as="the regularizer's own")
    regularizer_options: Mapping[str, Any] = option(
        "--option", None, PAIRS, "options of the regularizer, such as lower=0.5 upper=1.5 relative=true; see "
        "docs/regularizers.md", many="+", metavar="KEY=VALUE", group=_REGULARIZER)
    init: str = _recipe("init", TEXT, "initialisation of the weights", choices=INITS, group=_REGULARIZER)
    precision: str = option("--precision", "auto", TEXT, "auto: bf16 if the hardware computes it faster",
                            choices=("auto", *PRECISIONS))
    compile: bool = option("--compile", False, TRUTH, "compile the model (worthwhile on a GPU)")
    seeds: tuple[int, ...] = option("--seeds", (Recipe.seed,), INTEGER, "seeds; each is a separate training", many="+",
                                    rule=SEED, distinct=True, metavar="S")
    name: str | None = option("--name", None, TEXT, "name of the checkpoint; -sSEED is added for several seeds",
                              known_as="ARCH-wWIDTH-REGULARIZER")
    log_every: int = option("--log-every", 1, INTEGER, "log the layers' frame bounds every N epochs, and at "
                            "the first and last", rule=AT_LEAST_ONE, metavar="N")
    keep_every: int = option("--keep-every", 1, INTEGER, "keep every Nth epoch and the last one; 1 also keeps "
                             "half-epochs in the last third", rule=AT_LEAST_ONE, metavar="N")
    half: bool = option("--half", False, TRUTH, "store the weights as float16")
    out: Path = out_folder("runs/train")

    def _check(self) -> None:
        super()._check()
        for seed in self.seeds:
            self.recipe(seed)

    def recipe(self, seed: int, device: torch.device | None = None) -> Recipe:
        """Return the recipe for one seed.

        Args:
            seed: One of `seeds`.
            device: The device, which the precision "auto" depends on; None makes it fp32.

        Raises:
            InputError: for an invalid value.
        """
        from framebench.models.recipe import best_precision

        precision = self.precision
        if precision == "auto":
            precision = Recipe.precision if device is None else best_precision(device)
        names = ("arch", "width", "epochs", "batch_size", "lr", "weight_decay", "label_smoothing", "pad", "cutout",
                 "validation", "regularizer", "gamma", "every", "init")
        return Recipe(**{name: getattr(self, name) for name in names}, seed=seed, precision=precision,
                      regularizer_options=dict(self.regularizer_options),
                      flip=not self.no_flip and self.dataset != "svhn")  # a mirrored digit is another one or none

    def name_of(self, recipe: Recipe) -> str:
        """Return the name of a recipe's checkpoint."""
        base = self.name or "-".join([recipe.arch, f"w{recipe.width or 'default'}", recipe.regularizer])
        return base if len(self.seeds) == 1 else f"{base}-s{recipe.seed}"
