"""Attacks that control their own loop, of libraries and users: run on one image at a time, or on a few."""

from __future__ import annotations

import contextlib
import functools
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from framebench.attacks.base import Attack, Finished, Load, Predict, guarded
from framebench.attacks.interleave import Ask, interleave
from framebench.attacks.queries import AttackOver, Bound, CountedModel, CountedModels, Record, look
from framebench.errors import InputError
from framebench.seeding import generator
from framebench.user_code import foreign, reason

#: Images under attack at once. More don't make forward passes fuller.
LANES = 64


class SingleImageAttack(Attack):
    """An attack on single images; every query after that of the clean image is an iteration.

    Many images are attacked at once, each in its own lane, so that forward and backward passes are full
    (`framebench.attacks.interleave`). An attack that treats the images of a batch independently can have several per
    lane, which saves most of the time spent outside the model.

    Attributes:
        name: Its name in messages.
        max_queries: Hard limit of forward passes per image, or None.
        minimise: Whether it continues after a success, to find a nearer one.
        group: Images per lane. If it is above 1, `run_group` is called instead of `run`, even for a single image.
        leaving: See `CountedModels`.
    """

    name: str
    max_queries: int | None = None
    minimise = False
    group = 1
    leaving = False

    @abstractmethod
    def run(self, model: CountedModel, x: torch.Tensor, y: torch.Tensor, seed: int, example: int) -> None:
        """Attack one image until `model` ends the attack.

        Args:
            model: The model, which records the outcome.
            x: The image, float [1, C, H, W] in [0, 1].
            y: Its label, int64 [1].
            seed: The attack's seed.
            example: The example's id, for the seeds of random draws; the global generators are seeded already.
        """

    def run_group(self, model: CountedModels, x: torch.Tensor, y: torch.Tensor, seeds: Sequence[int]) -> None:
        """Attack a few images until `model` ends the attack.

        Args:
            model: The model, which records the outcomes.
            x: The images, float [n, C, H, W] in [0, 1].
            y: Their labels, int64 [n].
            seeds: Seeds of each image's own generator, so that its outcome does not depend on the group.
        """
        raise NotImplementedError

    def stream(self, predict: Predict, load: Load, ids: np.ndarray, *, seed: int,
               batch_size: int) -> Iterator[Finished]:
        """See `Attack.stream`."""
        size = min(batch_size, LANES)
        group = min(self.group, size)
        parts = (ids[at : at + group] for at in range(0, len(ids), group))
        tasks = ((lane_seed(seed, part[0]), functools.partial(self.attacked, load, seed, part)) for part in parts)
        for several in interleave(tasks, guarded(predict), enough=size - group + 1, batch_size=batch_size, look=look):
            yield from several

    def attacked(self, load: Load, seed: int, examples: np.ndarray, ask: Ask) -> list[Finished]:
        """Attack the examples of a lane.

        Args:
            load: The images.
            seed: The attack's seed.
            examples: Their ids.
            ask: The model.

        Raises:
            InputError: see `Attack.stream`.
        """
        x, y = load(examples)
        limit = min(self.traits.budget + 1, self.max_queries or self.traits.budget + 1)
        bound = Bound(self.traits.norm, self.traits.bound)
        records = [Record(image[None], int(label), limit=limit, bound=bound, minimise=self.minimise, example=example,
                          watched=example in self.watched)
                   for image, label, example in zip(x, y, examples.tolist(), strict=True)]
        with foreign(functools.partial(self._failed, examples)), contextlib.suppress(AttackOver):
            if self.group == 1:
                model = CountedModel(ask, records[0])
                if not records[0].over:
                    self.run(model, x.clone(), y.clone(), seed, int(examples[0]))
            else:
                models = CountedModels(ask, records, self.leaving)
                if not all(record.over for record in records):
                    self.run_group(models, x.clone(), y.clone(), [lane_seed(seed, example) for example in examples])
        return [record.finished() for record in records]

    def _failed(self, examples: np.ndarray, error: BaseException) -> InputError:
        which = f"example {examples[0]}" if len(examples) == 1 else f"one of examples {', '.join(map(str, examples))}"
        return InputError(f"the attack {self.name} failed on {which} ({reason(error)}); check its options, or leave "
                          "it out")


def lane_seed(seed: int, example: int) -> int:
    """Return the seed of the global generators in an example's lane."""
    return int(generator(seed, "library-attack", example).integers(2**62))
