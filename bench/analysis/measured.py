"""The measurements behind the tables: the rows of each evaluation, under unique names."""

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
        model: Unique name of the model in tables.
        domain: Unique name of the domain in tables.
        name: Name of the run in tables, "none" without an attack; unique for the model and the domain.
        attack: Unique name of the attack in tables: the name without seed and length.
        evaluation: The evaluation.
        facts: Its facts; `budgets` and `l2_caps` are those to be tabled.
        rows: Its own rows.
        longer: The longer runs, the shortest first.
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
        """The attack's traits."""
        assert self.facts.traits is not None, "these rows are of no attack"
        return self.facts.traits

    @property
    def seeded(self) -> str:
        """Name of the attack in tables with its seed, without its length."""
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
        """Return the rows, sorted by example id, cut to this run's length. The frame is shared: don't change it."""
        return self._frame if self.longer else self.rows.frame()

    @cached_property
    def _frame(self) -> pd.DataFrame:
        frames = [self.rows.frame(), *(cut(rows.frame(), self) for rows in self.longer)]
        joined = pd.concat([frame for frame in frames if len(frame)])
        return joined.drop_duplicates("example").sort_values("example", ignore_index=True)


def measure(stored: Sequence[Rows], models: Mapping[tuple[str, str], str] | None = None) -> list[Measured]:
    """Name the rows, and give every run of an attack the rows of longer runs.

    If a name stands for several weights, sets of images or attacks (an edited file, another seed of generated
    corruptions, official and generated files), the start of the digest is added. A run without an image that longer
    runs lack is merged into them: its budgets and caps on L2 are tabled with theirs. If several runs of one attack
    remain, their names include their lengths.

    Args:
        stored: The rows, in the order of the tables.
        models: Name and digest of each model -> its unique name; None for the names of these rows.
    """
    if models is None:
        models = unique_names((rows.evaluation.model, rows.evaluation.model_digest) for rows in stored)
    domains = unique_names((rows.evaluation.domain, _set_of(rows)) for rows in stored)
    # An edited attack of a user has the same label, but other settings.
    attacks = unique_names((traits.label, rows.evaluation.family) for rows in stored if (traits := rows.facts.traits))
    groups: dict[Hashable, list[Rows]] = {}
    for rows in stored:
        of = rows.evaluation
        attack_key = (of.model_digest, of.domain_digest, of.family, of.seed)
        groups.setdefault(attack_key if rows.facts.traits else of.key, []).append(rows)
    measured = []
    for group in groups.values():
        runs = _runs(group)
        for rows, longer, facts in runs:
            of, traits = rows.evaluation, facts.traits
            attack = "none" if traits is None else attacks[traits.label, of.family]
            name = seeded(attack, of.seed) + (f"-iterations{of.budget}" if len(runs) > 1 else "")
            measured.append(Measured(models[of.model, of.model_digest], domains[of.domain, _set_of(rows)], name,
                                     attack, of, facts, rows, longer))
    return measured


def split(found: Sequence[Measured]) -> tuple[list[Measured], list[Measured]]:
    """Return the runs of attacks, and the cells without an attack."""
    return ([run for run in found if run.facts.traits is not None],
            [cell for cell in found if cell.facts.traits is None])


def _runs(group: Sequence[Rows]) -> list[tuple[Rows, tuple[Rows, ...], Facts]]:
    """Return the runs of one attack that are not merged, the longest first: rows, longer runs, joined facts."""
    if len(group) == 1:  # like every cell of a shift, whose rows need not be read here
        return [(group[0], (), group[0].facts)]
    runs: list[tuple[Rows, tuple[Rows, ...], Facts]] = []
    covered = np.zeros(0, dtype=np.int64)
    for rows in sorted(group, key=lambda rows: -rows.evaluation.budget):
        ids = rows.ids
        if runs and np.isin(ids, covered).all():
            last, longer, facts = runs[-1]
            runs[-1] = last, longer, dataclasses.replace(
                facts, budgets=tuple(sorted({*facts.budgets, *rows.facts.budgets})),
                l2_caps=tuple(sorted({*facts.l2_caps, *rows.facts.l2_caps})))
            continue
        longer, facts = tuple(run for run, _, _ in reversed(runs)), rows.facts
        for run in longer:
            facts = facts.joined(run.facts)
        runs.append((rows, longer, dataclasses.replace(facts, budgets=rows.facts.budgets, l2_caps=rows.facts.l2_caps)))
        covered = np.union1d(covered, ids)
    return runs


def reaching(runs: Iterable[Measured], budget: int) -> Measured | None:
    """Return the shortest of an attack's runs that reaches a budget, which has the most images; None if none does."""
    return min((run for run in runs if run.length >= budget), key=lambda run: run.length, default=None)


def _set_of(rows: Rows) -> str:
    return rows.facts.set or rows.evaluation.domain_digest
