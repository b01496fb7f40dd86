"""What all regularizers share: layers, sums, precision, state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import nn

from framebench.errors import InputError, unknown
from framebench.models.regularizers.layers import KINDS, Layer, checked_policy, find_layers
from framebench.models.regularizers.schedule import Schedule, Steps, checked_steps
from framebench.seeding import generator

_OPTION_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


@dataclass(frozen=True, kw_only=True)
class Regularizer:
    """A penalty on the weights of a model: call it with the model for a scalar tensor, the sum over its layers.

    A subclass is its `penalty` of one layer, its options (fields) and how it is trained with (class attributes).
    Autocast is switched off inside: sums of thousands of squares are nothing for bfloat16. Nor are they for TF32, which
    torch allows convolutions on CUDA by default: no penalty convolves. Matrix products take TF32 only in a program that
    has asked for it (torch.set_float32_matmul_precision), whose setting holds here too: the gradient is computed when
    `backward` is called, out of reach of anything switched off inside.

    Attributes:
        layers: The kinds of layers taken, of `framebench.models.regularizers.layers.CHOICES`.
        first: How many of these layers are taken, from the front in the order of registration; 0 for all.
        warmup: Share of the training over which the coefficient rises linearly from 0.
        steps: Pairs (share of the training, factor of the coefficient from there on), in rising order of the share;
            "SHARE:FACTOR" texts are taken too (`schedule.checked_steps`).
        folded: Whether a layer's kernel is first multiplied by the scale of the batch norm after it, which is weight /
            sqrt(running_var + eps). The penalty is then that of the operator that the network applies in eval mode.
            Layers without a batch norm are taken as they are. The running variance has no gradient but follows the
            scale of the kernel, so that nothing bounds that scale, and weight decay is kept.
        weight_decay: Whether the training keeps its weight decay beside it, whatever the options; see `holds_scale`.
        gamma: Coefficient to start from.
        every: Steps between two applications, each scaled by as much; chosen by cost (`benchmarks/regularizers.py`).
        training_options: Options that training sets unless told otherwise, where the exact value costs too much. An
            option `seed` it sets to its own seed (`framebench.models.recipe`).
    """

    layers: tuple[str, ...] = KINDS
    first: int = 0
    warmup: float = 0.0
    steps: Steps = ()
    folded: bool = False
    # Of the methods that draw or iterate: one tensor per layer. Whoever resumes a training must restore it.
    _state: dict[str, torch.Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)

    weight_decay: ClassVar[bool] = True
    gamma: ClassVar[float]
    every: ClassVar[int] = 1
    training_options: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        for option in fields(self):
            value, kinds = getattr(self, option.name), _OPTION_TYPES.get(str(option.type))
            if kinds is not None and type(value) not in kinds:  # a bool is an int, but not meant as one
                raise InputError(f"the option {option.name} must be of type {option.type}, not {value!r}")
        require_at_least(0, first=self.first)
        object.__setattr__(self, "layers", checked_policy(self.layers))
        object.__setattr__(self, "steps", checked_steps(self.steps))
        Schedule(self.warmup, self.steps)  # refuses what is no schedule

    @property
    def schedule(self) -> Schedule:
        """Factor of the coefficient in the course of training."""
        return Schedule(self.warmup, self.steps)

    @property
    def holds_scale(self) -> bool:
        """Whether the scale of the layers taken is bounded from above, which replaces their weight decay."""
        return not (self.weight_decay or self.folded)

    def taken_layers(self, module: nn.Module) -> list[Layer]:
        """Return the layers of a model that are penalised, with their batch norms if `folded`."""
        return find_layers(module, self.layers, first=self.first, folded=self.folded)

    def held_layers(self, module: nn.Module) -> list[Layer]:
        """Return the layers of a model whose scale is held, none where `holds_scale` is not."""
        return self.taken_layers(module) if self.holds_scale else []

    def __call__(self, module: nn.Module) -> torch.Tensor:
        """Return the penalty of a model, a differentiable scalar.

        Raises:
            InputError: if the policy takes no layer of the model, or it can't be traced to fold its batch norms.
        """
        return torch.stack(list(self.values(module).values())).sum()

    def values(self, module: nn.Module) -> dict[str, torch.Tensor]:
        """Return the summands by the names of their layers.

        Under `torch.no_grad` no state advances, so that looking at a training does not change it.
        """
        penalties = {}
        for layer in self.taken_layers(module):
            with torch.autocast(layer.module.weight.device.type, enabled=False):
                penalties[layer.name] = self.penalty(layer)
        return penalties

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the penalty of one layer."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return what a resumed training needs to go on identically: one tensor per layer, or nothing."""
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over a state that `state_dict` returned."""
        self._state.clear()
        self._state.update({name: tensor.clone() for name, tensor in state.items()})

    def _remember(self, layer: Layer, tensor: torch.Tensor) -> None:
        if torch.is_grad_enabled():
            self._state[layer.name] = tensor

    def _count(self, layer: Layer) -> int:
        """Return how often the layer was counted before, and count on."""
        count = int(self._state.get(layer.name, torch.zeros((), dtype=torch.int64)))
        self._remember(layer, torch.tensor(count + 1))
        return count


def seeded_normal(shape: tuple[int, ...], like: torch.Tensor, seed: int, purpose: str, *key: int) -> torch.Tensor:
    """Draw standard normal numbers that depend on the seed, the purpose and the key alone."""
    draws = torch.from_numpy(generator(seed, purpose, *key).standard_normal(shape))
    return draws.to(like.device, like.dtype)


def require_choice(choices: Iterable[str], **options: str) -> None:
    """Check that options are among the words that they can have.

    Raises:
        InputError: for the first that isn't.
    """
    for name, value in options.items():
        if value not in choices:
            raise unknown(f"value of the option {name}", str(value), choices)


def require_at_least(least: float, **options: float) -> None:
    """Check that options are finite numbers of at least `least`.

    Raises:
        InputError: for the first that isn't.
    """
    for name, value in options.items():
        if not (math.isfinite(value) and value >= least):
            raise InputError(f"the option {name} must be a finite number of at least {least:g}, not {value}")
