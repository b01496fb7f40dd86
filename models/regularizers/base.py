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

    A subclass defines the `penalty` of one layer, options (fields) and training defaults (class attributes). Autocast
    is disabled inside, since bfloat16 is too coarse for sums of thousands of squares. So is TF32, the default of
    convolutions on CUDA: no penalty uses convolutions. TF32 in matrix products is off unless the program enables it.

    Attributes:
        layers: Kinds of the regularized layers, of `framebench.models.regularizers.layers.CHOICES`.
        first: Number of these layers, from the front in the order of registration; 0 for all.
        warmup: Share of the training over which the coefficient rises linearly from 0.
        steps: Pairs (share of the training, factor of the coefficient from there on), in ascending order; strings
            "SHARE:FACTOR" are accepted too (`schedule.checked_steps`).
        folded: Whether a kernel is multiplied by the scale of the batch norm after it, weight / sqrt(running_var +
            eps), if there is one: the penalty is then that of the operator in eval mode. The running variance has no
            gradient but follows the scale of the kernel, so that scale is not bounded, and weight decay is kept.
        weight_decay: Whether weight decay is kept for any options; see `holds_scale`.
        gamma: Default coefficient.
        every: Steps between two applications, each multiplied by this number; by cost (`benchmarks/regularizers.py`).
        training_options: Defaults in a training, if the exact value costs too much. An option `seed` defaults to the
            seed of the training (`framebench.models.recipe`).
    """

    layers: tuple[str, ...] = KINDS
    first: int = 0
    warmup: float = 0.0
    steps: Steps = ()
    folded: bool = False
    # State of methods that draw or iterate, one tensor per layer; a resumed training must restore it.
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
        """Factor of the coefficient during training."""
        return Schedule(self.warmup, self.steps)

    @property
    def holds_scale(self) -> bool:
        """Whether the penalty bounds the scale of its layers from above, which replaces their weight decay."""
        return not (self.weight_decay or self.folded)

    def taken_layers(self, module: nn.Module) -> list[Layer]:
        """Return the regularized layers of a model, with their batch norms if `folded`."""
        return find_layers(module, self.layers, first=self.first, folded=self.folded)

    def held_layers(self, module: nn.Module) -> list[Layer]:
        """Return the layers of a model whose scale is bounded; none if `holds_scale` is false."""
        return self.taken_layers(module) if self.holds_scale else []

    def __call__(self, module: nn.Module) -> torch.Tensor:
        """Return the penalty of a model, a differentiable scalar.

        Raises:
            InputError: if no layer of the model is selected, or it can't be traced to fold its batch norms.
        """
        return torch.stack(list(self.values(module).values())).sum()

    def values(self, module: nn.Module) -> dict[str, torch.Tensor]:
        """Return the penalties of the layers by name. Under `torch.no_grad`, the state does not change."""
        penalties = {}
        for layer in self.taken_layers(module):
            with torch.autocast(layer.module.weight.device.type, enabled=False):
                penalties[layer.name] = self.penalty(layer)
        return penalties

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the penalty of one layer."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the state that a resumed training needs: one tensor per layer, or none."""
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore a state of `state_dict`."""
        self._state.clear()
        self._state.update({name: tensor.clone() for name, tensor in state.items()})

    def _remember(self, layer: Layer, tensor: torch.Tensor) -> None:
        if torch.is_grad_enabled():
            self._state[layer.name] = tensor

    def _count(self, layer: Layer) -> int:
        """Increment the counter of a layer, and return its previous value."""
        count = int(self._state.get(layer.name, torch.zeros((), dtype=torch.int64)))
        self._remember(layer, torch.tensor(count + 1))
        return count


def seeded_normal(shape: tuple[int, ...], like: torch.Tensor, seed: int, purpose: str, *key: int) -> torch.Tensor:
    """Draw standard normal numbers that depend on the seed, the purpose and the key alone."""
    draws = torch.from_numpy(generator(seed, purpose, *key).standard_normal(shape))
    return draws.to(like.device, like.dtype)


def require_choice(choices: Iterable[str], **options: str) -> None:
    """Check that options have valid values.

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
