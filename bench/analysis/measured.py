"""What tables are made of: the rows of each evaluation, under names that tell all of them apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bench.analysis.labels import unique_names
from bench.analysis.outcomes import cut
from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.parts import Rows, seeded
from framebench.attacks.base import Traits


@dataclass(frozen=True, eq=False)
class Measured:
    """All rows that answer one evaluation: its own, and those of longer runs of the same attack.

    Attributes:
        model: What tables call the model; unique.
        domain: What tables call the domain; unique.
        name: What tables call the run, "none" without an attack; unique for the model and the domain.
        attack: The same without its seed and its length: what tables call the attack; unique.
        evaluation: What the rows are of.
        facts: What is known of them; `budgets` and `l2_caps` are those to be tabled.
        rows: Its own rows.
        longer: The longer runs, the shortest of them first.
    """

    model: str
    domain: str
    name: str
    attack: str
    evaluation: Evaluation
    facts: Facts
    rows: Rows
    longer: tuple[Rows, ...] = ()

    @property
    def traits(self) -> Traits:
        """What the attack declares of itself."""
        assert self.facts.traits is not None, "these rows are of no attack"
        return self.facts.traits

    @property
    def seeded(self) -> str:
        """What tables call the attack with its seed, whatever its length."""
        return seeded(self.attack, self.evaluation.seed)

    @property
    def length(self) -> int:
        """The largest budget of iterations that the rows answer for."""
        return self.evaluation.budget

    @property
    def caps(self) -> list[float | None]:
        """Caps on L2 under which successes are tabled, None (no cap) first."""
        return [None, *self.facts.l2_caps]

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids of the examples, int64 [n], ascending."""
        return np.unique(np.concatenate([rows.ids for rows in (self.rows, *self.longer)]))

    def frame(self) -> pd.DataFrame:
        """Return the rows, sorted by example id, as a run of this length leaves them. It is shared: don't change it."""
        return self._frame if self.longer else self.rows.frame()

    @cached_property
    def _frame(self) -> pd.DataFrame:
        found = [self.rows.frame(), *(cut(rows.frame(), self.traits, self.length) for rows in self.longer)]
        both = pd.concat([frame for frame in found if len(frame)])
        return both.drop_duplicates("example").sort_values("example", ignore_index=True)

    def outcomes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return example ids, labels and predictions of rows without an attack, int64 [n] each, by id."""
        return self.rows.outcomes()


def measure(stored: Sequence[Rows], models: Mapping[tuple[str, str], str] | None = None) -> list[Measured]:
    """Name the rows, and give every run of an attack the rows of longer ones.

    A name that stands for several weights, several sets of images or several attacks (a file that was edited, another
    seed of generated corruptions, official and generated files) gets the start of their digests. A run that has no
    image besides those of longer runs is none of its own: its budgets and caps on L2 are tabled with theirs. Where
    several runs of one attack remain, their lengths are part of their names.

    Args:
        stored: The rows, in the order of the tables.
        models: Name and digest of each model -> its unique name; None makes them up.
    """
    if models is None:
        models = unique_names((rows.evaluation.model, rows.evaluation.model_digest) for rows in stored)
    domains = unique_names((rows.evaluation.domain, _set_of(rows)) for rows in stored)
    # A user's attack that was edited has the same label and other settings.
    attacks = unique_names((traits.label, rows.evaluation.family) for rows in stored if (traits := rows.facts.traits))
    groups: dict[Hashable, list[Rows]] = {}
    for rows in stored:
        asked = rows.evaluation
        alike = (asked.model_digest, asked.domain_digest, asked.family, asked.seed)
        groups.setdefault(alike if rows.facts.traits else asked.key, []).append(rows)
    found = []
    for group in groups.values():
        runs = _runs(group)
        for rows, longer, facts in runs:
            asked = rows.evaluation
            traits = facts.traits
            attack = "none" if traits is None else attacks[traits.label, asked.family]
            name = seeded(attack, asked.seed) + (f"-iterations{asked.budget}" if len(runs) > 1 else "")
            found.append(Measured(models[asked.model, asked.model_digest], domains[asked.domain, _set_of(rows)], name,
                                  attack, asked, facts, rows, longer))
    return found


def _runs(group: Sequence[Rows]) -> list[tuple[Rows, tuple[Rows, ...], Facts]]:
    """Return the runs of one attack that remain, the longest first: rows, longer runs, and their facts together."""
    if len(group) == 1:  # as all cells of a shift are, whose rows need not be read here
        return [(group[0], (), group[0].facts)]
    runs: list[tuple[Rows, tuple[Rows, ...], Facts]] = []
    known = np.zeros(0, dtype=np.int64)
    for rows in sorted(group, key=lambda rows: -rows.evaluation.budget):
        ids, asked = rows.ids, rows.facts
        if runs and np.isin(ids, known).all():
            longer, others, facts = runs[-1]
            runs[-1] = longer, others, dataclasses.replace(
                facts, budgets=tuple(sorted({*facts.budgets, *asked.budgets})),
                l2_caps=tuple(sorted({*facts.l2_caps, *asked.l2_caps})))
            continue
        longer_runs = tuple(run for run, _, _ in reversed(runs))
        facts = asked
        for run in longer_runs:
            facts = facts.joined(run.facts)
        runs.append((rows, longer_runs, dataclasses.replace(facts, budgets=asked.budgets, l2_caps=asked.l2_caps)))
        known = np.union1d(known, ids)
    return runs


def reaching(runs: Iterable[Measured], budget: int) -> Measured | None:
    """Return of runs of one attack the one with the most images that were attacked for so many iterations, if any."""
    return min((run for run in runs if run.length >= budget), key=lambda run: run.length, default=None)


def _set_of(rows: Rows) -> str:
    return rows.facts.set or rows.evaluation.domain_digest
