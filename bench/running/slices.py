"""Slices of evaluations: some images of one evaluation, which a worker computes and writes as parts of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.options.attack import AttackOptions
from bench.options.shift import ShiftOptions
from bench.rows.adversarial import Adversarial
from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.flags import flag
from bench.rows.parts import Rows
from bench.running.computing import computing
from bench.running.evaluate import attack_images, classify_all
from bench.running.evaluations import attack_evaluation, make_attack
from bench.running.loading import DomainSpec, ModelSpec, check_digest, load_spec, prepared_models
from bench.running.prepare import fitted
from bench.running.progress import Tally
from framebench.attacks.base import Finished

#: Images of the smallest slice of an attack. Near the end of a slice, few images are left to fill a core's vector
#: units: against slices of 64, those of 32 cost 7% more per image, of 16 11%, of 8 22% (`baseline`, 100 iterations).
LEAST = 32


@dataclass(frozen=True)
class Request:
    """Rows to compute.

    Attributes:
        evaluation: Their evaluation.
        facts: Their facts so far.
        folder: The evaluation's folder.
        ids: Example ids, int64 [n].
    """

    evaluation: Evaluation
    facts: Facts
    folder: Path
    ids: np.ndarray

    @classmethod
    def of(cls, rows: Rows, ids: np.ndarray) -> Request:
        """Request more rows of an evaluation."""
        return cls(rows.evaluation, rows.facts, rows.folder, ids)

    def rows(self) -> Rows:
        """Return the evaluation's rows, without those that exist already."""
        return Rows(self.folder, self.evaluation, self.facts)

    def __str__(self) -> str:
        """Describe the images in messages."""
        of = self.evaluation
        cell = f" ({of.corruption} {of.severity})" if of.corruption else ""
        shown = ", ".join(map(str, self.ids[:8])) + (", ..." if len(self.ids) > 8 else "")
        return f"{of.model} on {of.domain}{cell}: {len(self.ids)} images (examples {shown})"

    def left_out(self) -> str:
        """Return the flag of images that have ended several workers."""
        return flag("left-out", f"{self} have no row, since several workers died or hung one after the other when "
                    "they computed them")


@dataclass(frozen=True)
class AttackSlice:
    """Images of a domain to be attacked.

    Attributes:
        options: The command's options.
        epsilon: One of their epsilons.
        domain: The domain.
        model: The model.
        request: The rows.
    """

    options: AttackOptions
    epsilon: float | None
    domain: DomainSpec
    model: ModelSpec
    request: Request

    def __str__(self) -> str:
        return str(self.request)


def attack_slice(task: AttackSlice) -> Tally:
    """Attack the images of a slice, and write their rows and pictures.

    Raises:
        InputError: if this worker has another model, data set or attack of the same name; and see `attack_images`.
    """
    options, evaluation, rows = task.options, task.request.evaluation, task.request.rows()
    domain, attack, setup = load_spec(task.domain), make_attack(options, task.epsilon), computing(options)
    ((model, ready),) = prepared_models((task.model,), setup)
    check_digest("attack", str(options.attack),
                 attack_evaluation(model, domain, attack, options.attack, evaluation.seed).key, evaluation.key)
    saved = Adversarial(rows, new=True) if options.save_adversarial else None
    tally = Tally()

    def count(done: Finished) -> None:
        nonlocal tally
        tally += Tally.of(done, queries=int(done.queries.sum()))

    attack_images(rows, attack.on(fitted(model, domain).module), ready.predict, domain, task.request.ids,
                  facts=ready.add_facts(rows.facts), batch_size=setup.batch_size, report=count, saved=saved)
    return tally


@dataclass(frozen=True)
class ShiftSlice:
    """Images of a cell to be classified by models.

    Attributes:
        options: The command's options.
        cell: The cell.
        models: The models.
        requests: The rows of each model, or None if it needs none of them.
    """

    options: ShiftOptions
    cell: DomainSpec
    models: tuple[ModelSpec, ...]
    requests: tuple[Request | None, ...]

    def __str__(self) -> str:
        return "; ".join(str(request) for request in self.requests if request)


def shift_slice(task: ShiftSlice) -> int:
    """Classify the images of a slice, write their rows, and return the number of rows.

    Raises:
        InputError: if this worker has another model or data set of the same name; and see `classify_all`.
    """
    domain, models = load_spec(task.cell), prepared_models(task.models, computing(task.options))
    requests = [(request.rows(), ready, request.ids)
                for (_, ready), request in zip(models, task.requests, strict=True) if request]
    classify_all(domain, requests, batch_size=task.options.batch_size, report=lambda new: None)
    return sum(len(ids) for *_, ids in requests)
