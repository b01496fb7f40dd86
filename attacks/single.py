"""Attacks that own their loop, run on one image at a time: a library's and a user's."""

from __future__ import annotations

import contextlib
import functools
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch

from framebench.attacks.base import Attack, Finished, Load, Predict, guarded
from framebench.attacks.interleave import Ask, interleave
from framebench.attacks.queries import AttackOver, Bound, CountedModel, look
from framebench.errors import InputError
from framebench.seeding import generator
from framebench.user_code import foreign, reason

#: Images that are attacked at once. More fill the forward passes no better.
LANES = 64


class SingleImageAttack(Attack):
    """An attack on single images; an iteration is one query after the clean image's.

    Many images are attacked at once, each in a lane of its own, so that forward and backward passes are full (see
    `framebench.attacks.interleave`).

    Attributes:
        name: What messages call it.
        max_queries: Hard limit of forward passes per image, or None.
        minimise: Whether it goes on after a success, for the nearest one.
    """

    name: str
    max_queries: int | None = None
    minimise = False

    @abstractmethod
    def run(self, model: CountedModel, x: torch.Tensor, y: torch.Tensor, seed: int, example: int) -> None:
        """Attack one image until `model` ends it.

        Args:
            model: What to ask. It keeps the outcome.
            x: The image, float [1, C, H, W] in [0, 1].
            y: Its label, int64 [1].
            seed: The attack's seed.
            example: The example's id, which keys the draws. Those of global generators start from it already.
        """

    def stream(self, predict: Predict, load: Load, ids: np.ndarray, *, seed: int,
               batch_size: int) -> Iterator[Finished]:
        """See `Attack.stream`."""
        tasks = ((lane_seed(seed, example),
                  functools.partial(self.single, load, seed, int(example))) for example in ids)
        yield from interleave(tasks, guarded(predict), lanes=min(batch_size, LANES), batch_size=batch_size, look=look)

    def single(self, load: Load, seed: int, example: int, ask: Ask) -> Finished:
        """Attack one example.

        Args:
            load: The images.
            seed: The attack's seed.
            example: The example's id.
            ask: The model.

        Raises:
            InputError: see `Attack.stream`.
        """
        x, y = load(np.array([example]))
        limit = min(self.traits.budget + 1, self.max_queries or self.traits.budget + 1)
        model = CountedModel(ask, x, int(y[0]), limit=limit,
                             bound=Bound(self.traits.norm, self.traits.bound), minimise=self.minimise,
                             example=example, watched=example in self.watched)
        with foreign(lambda error: InputError(f"the attack {self.name} failed on example {example} ({reason(error)}); "
                                              "check its options, or leave this example out")):
            with contextlib.suppress(AttackOver):
                if not model.over:
                    self.run(model, x.clone(), y.clone(), seed, example)
        return model.finished()


def lane_seed(seed: int, example: int) -> int:
    """Return the seed of the global generators in an example's lane."""
    return int(generator(seed, "library-attack", example).integers(2**62))
