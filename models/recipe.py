"""All that a training depends on, besides its data.

Torch is imported only where it is needed: the command line reads defaults from `Recipe`, and help must be instant.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from framebench.errors import InputError, unknown

if TYPE_CHECKING:
    import torch
    from torch import nn

    from framebench.models.regularizers import Regularizer

#: Weight decay of weights whose scale no regularizer bounds.
WEIGHT_DECAY = 5e-4
#: Limit of coefficients: training is in float32, whose largest number is 3.4e38.
_LARGEST = 1e38
INITS = ("default", "delta-orthogonal")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """All that the weights depend on, besides the data.

    If `weight_decay`, `gamma`, `every` or options of the regularizer are omitted, they are filled in. So cards and
    training states contain all of them, and do not depend on later defaults. `dataclasses.replace` keeps the filled-in
    values: for another regularizer, or another seed of one that draws, build a new recipe.

    Attributes:
        arch: Architecture, a name of `framebench.models.architectures.ARCHITECTURES`.
        width: Channels of its first stage; None for its usual width.
        epochs: Passes over the training part.
        batch_size: Images per step.
        lr: Peak learning rate; it rises linearly from 0 over `warmup` of the steps, then falls linearly to 0.
        warmup: Share of the steps with a rising rate, in [0, 1).
        momentum: Nesterov momentum.
        weight_decay: L2 decay of weight matrices; biases and batch norms have none. A pair has one value for the layers
            whose scale the regularizer bounds (`Regularizer.holds_scale`) and one for the others. If omitted, these are
            0 and `WEIGHT_DECAY`.
        label_smoothing: Share of the target spread over all classes.
        pad: Crops are shifted by up to this many pixels.
        cutout: Side of the square that is blanked; 0 for none.
        flip: Whether every second view of an image is mirrored; not for digits.
        validation: Images held out of the training set, class-balanced, the same for every seed.
        seed: Seed of initialisation, order, augmentation and, unless its options contain another, the regularizer.
        precision: "fp32", or "bf16" for autocast.
        regularizer: "none", or a name of `framebench.models.regularizers.REGULARIZERS`.
        gamma: Coefficient of its penalty; if omitted, the regularizer's default.
        regularizer_options: Options of the regularizer. Omitted ones are taken from its `training_options`, or else its
            defaults, except that the seed of its draws is `seed`.
        every: Steps between two applications of the penalty, counted over the whole run; the penalty is multiplied by
            this number. If omitted, the regularizer's default.
        init: "default" (the architecture's own), or "delta-orthogonal" (arXiv 1806.05393).
    """

    arch: str = "resnet18"
    width: int | None = None
    epochs: int = 30
    batch_size: int = 256
    lr: float = 0.4
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float | tuple[float, float] = None  # type: ignore[assignment]  # filled in, as are gamma and every
    label_smoothing: float = 0.1
    pad: int = 4
    cutout: int = 0
    flip: bool = True
    validation: int = 2500
    seed: int = 0
    precision: str = "fp32"
    regularizer: str = "none"
    gamma: float = None  # type: ignore[assignment]  # None until __post_init__ takes the regularizer's
    regularizer_options: dict[str, Any] = field(default_factory=dict)
    every: int = None  # type: ignore[assignment]  # likewise
    init: str = "default"

    def __post_init__(self) -> None:
        from framebench.models.architectures import ARCHITECTURES

        if self.arch not in ARCHITECTURES:
            raise unknown("architecture", self.arch, ARCHITECTURES)
        if self.regularizer == "none":
            self._require_no_options()
        self._fill_in()
        positive = {"epochs": self.epochs, "batch size": self.batch_size, "learning rate": self.lr,
                    "interval of the penalty": self.every}
        for name, value in positive.items():
            if not 0 < value < _LARGEST:
                raise InputError(f"the {name} must be finite and above 0, below {_LARGEST:g}, not {value}")
        for name, value in {"warmup": self.warmup, "momentum": self.momentum,
                            "label smoothing": self.label_smoothing}.items():
            if not 0 <= value < 1:
                raise InputError(f"the {name} must lie in [0, 1), not {value}")
        for name, value in {"weight decay": min(self.decays), "pad": self.pad, "cutout": self.cutout,
                            "validation": self.validation, "gamma": self.gamma}.items():
            if not 0 <= value < _LARGEST:
                raise InputError(f"the {name} must be a finite number, 0 or above, below {_LARGEST:g}, not {value}")
        if self.init not in INITS:
            raise unknown("init", self.init, INITS)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.regularizer != "none" and not self.gamma:
            raise InputError(f"the regularizer {self.regularizer} with gamma 0 does nothing; give --gamma, or leave "
                             "out --regularizer")

    @property
    def decays(self) -> tuple[float, float]:
        """Weight decay of the layers whose scale the regularizer bounds, and of the others."""
        return self.weight_decay if isinstance(self.weight_decay, tuple) else (self.weight_decay, self.weight_decay)

    def _require_no_options(self) -> None:
        """Refuse options of a regularizer, except the values that are filled in without one, as on cards."""
        given = {"--gamma": self.gamma not in (None, 0), "--every": self.every not in (None, 1),
                 "--option": bool(self.regularizer_options)}
        if odd := [flag for flag, present in given.items() if present]:
            raise InputError(f"{' and '.join(odd)} can't be used without a regularizer; name one with --regularizer")

    def _fill_in(self) -> None:
        """Set omitted values, and all options of the regularizer."""
        from framebench.models.regularizers import REGULARIZERS, build

        regularizer = None
        if self.regularizer != "none":
            if self.regularizer not in REGULARIZERS:
                raise unknown("regularizer", self.regularizer, ["none", *REGULARIZERS])
            kind = REGULARIZERS[self.regularizer]
            drawn = {"seed": self.seed} if hasattr(kind, "seed") else {}
            regularizer = build(self.regularizer, **{**kind.training_options, **drawn, **self.regularizer_options})
            options = {option.name: getattr(regularizer, option.name) for option in fields(regularizer) if option.init}
            object.__setattr__(self, "regularizer_options", options)  # the dataclass is frozen
        if isinstance(self.weight_decay, tuple) and not (regularizer and regularizer.holds_scale):
            raise InputError(f"a pair of weight decays {self.weight_decay} needs a regularizer that holds the scale of "
                             f"its layers, as frame does; give one number with {self.regularizer}")
        defaults = {"weight_decay": _weight_decay(regularizer), "gamma": regularizer.gamma if regularizer else 0.0,
                    "every": regularizer.every if regularizer else 1}
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)


def filled_in(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe of a card with all values filled in and tuples restored, for comparisons.

    A recipe of another kind, such as that of a pruned model, is returned as a copy.
    """
    options = dict(recipe)
    if isinstance(options.get("weight_decay"), list):
        options["weight_decay"] = tuple(options["weight_decay"])
    try:
        return asdict(Recipe(**options))
    except (InputError, TypeError):
        return options


def parameter_groups(model: nn.Module, decays: tuple[float, float],
                     regularizer: Regularizer | None) -> list[dict[str, Any]]:
    """Group a model's parameters by weight decay, for an optimiser.

    Args:
        model: The model.
        decays: Weight decay of the weights whose scale the regularizer bounds, and of the other weight matrices
            (`Recipe.decays`). Biases and batch norms have none.
        regularizer: The regularizer, if there is one.

    Returns:
        The groups that are not empty, in the form that `torch.optim` takes.
    """
    held = {id(layer.module.weight) for layer in regularizer.held_layers(model)} if regularizer else set()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": [p for p in matrices if id(p) in held], "weight_decay": decays[0]},
              {"params": [p for p in matrices if id(p) not in held], "weight_decay": decays[1]},
              {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _weight_decay(regularizer: Regularizer | None) -> float | tuple[float, float]:
    from framebench.models.regularizers import KINDS

    if regularizer is None or not regularizer.holds_scale:
        return WEIGHT_DECAY
    all_layers = set(KINDS) <= set(regularizer.layers) and not regularizer.first
    return 0.0 if all_layers else (0.0, WEIGHT_DECAY)


def best_precision(device: torch.device) -> str:
    """Return "bf16" where the device computes it faster than fp32, else "fp32"."""
    import torch

    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type != "cpu":
        return "fp32"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_tile") else "fp32"
