"""The answers of a report: which model is best, and which differences to the reference model the data show.

No statement is stronger than the tables: a difference is shown if its p-value, adjusted by Holm's method within its
family (`bench.analysis.comparisons.FAMILIES`), is below 5% and its interval does not contain zero.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from bench.analysis.comparisons import by_attack, tabled_budgets
from bench.analysis.measured import Measured, reaching
from bench.analysis.outcomes import correct, robust
from bench.analysis.stats import images_needed, pairs_needed, wilson

if TYPE_CHECKING:
    from bench.analysis.findings import Findings

LEVEL = 0.05
#: Models are compared under an attack without a bound while their mean robust accuracy is at least this.
_LEAST_ROBUST = 0.1

Kind = Literal["robust", "shift", "clean"]


@dataclass(frozen=True)
class Value:
    """An accuracy, a fraction, with its 95% interval and its number of images."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """The accuracy of model a minus that of model b on their common images, as a fraction.

    Attributes:
        a: Label of the first model.
        b: Label of the second model.
        difference: nan without common images, like the next three.
        low: Lower end of its 95% interval.
        high: Upper end.
        p: Adjusted by Holm's method within its family.
        n: Common images.
        needed: Images needed to find a difference of this size with a power of 80%, at the strictest level of Holm's
            method in this family. Infinite for a difference of 0, nan without images.
        bound: Whether p is an upper bound.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    n: int
    needed: float
    bound: bool = False

    @property
    def shown(self) -> bool:
        """Whether the data show a difference."""
        return self.p < LEVEL and not self.low <= 0 <= self.high

    def reversed(self) -> Difference:
        """Return b minus a."""
        return Difference(self.b, self.a, 0 - self.difference, 0 - self.high, 0 - self.low, self.p, self.n, self.needed,
                          self.bound)


@dataclass(frozen=True)
class Standing:
    """A model and how the others compare with it.

    Attributes:
        first: The model with the most wins on common images.
        tied: Models without a shown difference to it.
        lower: Models that are shown to be lower.
        higher: Models that are shown to be higher, which happens if images or cells differ between pairs.
        apart: Models without a common image.
    """

    first: str
    tied: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()
    higher: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether the first model is shown to be better than every other one."""
        return bool(self.lower) and not self.tied and not self.higher and not self.apart


@dataclass(frozen=True)
class Question:
    """One metric on one data set.

    Attributes:
        kind: The metric: robust accuracy, accuracy on shifted images, or accuracy on clean images.
        domain: Name of the data.
        title: What the data are.
        values: Model -> its accuracy, in the order of the report.
        differences: (a, b) -> a minus b, in both orders for every pair that was compared.
        attack: Name of the attack, with its seed.
        budget: Its iterations, see `_comparison_budget`.
        last: Model -> its largest tabled budget and robust accuracy there, for models with one above `budget`.
        part: "benchmark" or "extras" for a corrupted set, else "all".
        cells: The largest number of cells of a model.
        targeted: Whether the attack is targeted; then models are not compared.
        hopeless: Models that classify no image correctly before the attack.
        left_out: Models that were attacked with other budgets only.
        same_cells: Whether all models have the same number of cells.
    """

    kind: Kind
    domain: str
    title: str
    values: Mapping[str, Value]
    differences: Mapping[tuple[str, str], Difference]
    attack: str = ""
    budget: int = 0
    last: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    part: str = "all"
    cells: int = 1
    targeted: bool = False
    hopeless: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    same_cells: bool = True

    @property
    def even(self) -> bool:
        """Whether all models have the same images."""
        return len({value.n for value in self.values.values()} | {pair.n for pair in self.differences.values()}) <= 1

    @property
    def key(self) -> str:
        """Identifies the question within a report."""
        return "|".join([self.kind, self.domain, self.attack or self.part])

    def to(self, reference: str | None) -> list[Difference]:
        """Return every compared model minus the reference."""
        return [self.differences[model, reference] for model in self.values
                if reference is not None and (model, reference) in self.differences]

    def standing(self) -> Standing | None:
        """Return how the models compare; None if no two were compared."""
        if not self.differences:
            return None
        wins = {model: sum(pair.difference > 0 for (a, _), pair in self.differences.items() if a == model)
                for model in self.values}
        first = max(self.values, key=lambda model: (wins[model], self.values[model].value))
        groups: dict[str, list[str]] = {"tied": [], "lower": [], "higher": [], "apart": []}
        for other in self.values:
            if other != first:
                pair = self.differences.get((first, other))
                groups["apart" if pair is None or not pair.n else "tied" if not pair.shown else
                       "lower" if pair.difference > 0 else "higher"].append(other)
        return Standing(first, **{name: tuple(models) for name, models in groups.items()})


def questions(found: Findings) -> list[Question]:
    """Return all questions of a report: robust accuracy, accuracy under shift, clean accuracy."""
    return sorted([*found.attack_questions, *found.shift_questions],
                  key=lambda question: get_args(Kind).index(question.kind))


def attacks(found: Findings) -> list[Question]:
    """Return robust accuracy under every attack, and clean accuracy on data for which no shift test has it."""
    classified = {part.domain for part in found.parts}
    return [*_under_attack(found), *(question for question in _before_attacks(found)
                                     if question.domain not in classified)]


def _under_attack(found: Findings) -> list[Question]:
    """Return robust accuracy under every attack, at the budget that `_comparison_budget` chooses."""
    answered = []
    for by_model in by_attack(found.attacks).values():
        tabled = tabled_budgets(by_model)
        budget = _comparison_budget(by_model, tabled)
        runs = {model: run for model, of_model in by_model.items()
                if budget in tabled[model] and (run := reaching(of_model, budget)) is not None}
        first = next(iter(runs.values()))
        paired = found.tables["paired"]
        family = paired[(paired["domain"] == first.domain) & (paired["attack"] == first.seeded)
                        & (paired["metric"] == "robust_accuracy")]
        values = {model: _rate(robust(run.frame(), run.traits, "iterations", budget)) for model, run in runs.items()}
        answered.append(Question(
            "robust", first.domain, first.facts.title, values,
            _differences(family[family["budget"] == budget], len(family)), first.seeded, budget,
            {model: (most, float(robust(run.frame(), run.traits, "iterations", most).mean())) for model in runs
             if (most := max(tabled[model])) > budget and (run := reaching(by_model[model], most)) is not None},
            targeted=first.traits.targeted,
            hopeless=tuple(model for model, run in runs.items() if not correct(run.frame()).any()),
            left_out=tuple(model for model in by_model if model not in runs)))
    return answered


def _comparison_budget(by_model: Mapping[str, Sequence[Measured]], tabled: Mapping[str, set[int]]) -> int:
    """Return the budget at which to compare models: the largest one that most of them have.

    An attack without a bound breaks nearly every image in the end, which leaves nothing to compare. So the models are
    compared at the largest such budget where their mean robust accuracy is at least a tenth, or at the largest one if
    there is none. The rule does not depend on which model is better. It does not apply to a single model: a smaller
    budget would only flatter it.
    """
    budgets = [budget for of_model in tabled.values() for budget in of_model]
    common = sorted({budget for budget in budgets if budgets.count(budget) == max(map(budgets.count, budgets))},
                    reverse=True)
    if len(by_model) > 1 and next(iter(by_model.values()))[0].traits.bound is None:
        for budget in common:
            outcomes = [robust(run.frame(), run.traits, "iterations", budget) for runs in by_model.values()
                        if (run := reaching(runs, budget)) is not None]
            if budget > 0 and np.concatenate(outcomes).mean() >= _LEAST_ROBUST:
                return budget
    return common[0]


def _before_attacks(found: Findings) -> list[Question]:
    """Return clean accuracy on the images of attacks."""
    pairs = found.clean_pairs
    domains: dict[str, dict[str, Measured]] = {}
    for run in sorted(found.attacks, key=lambda run: len(run.ids)):
        domains.setdefault(run.domain, {})[run.model] = run
    answered = []
    for domain, runs in domains.items():
        values = {model: _rate(correct(runs[model].frame())) for model in found.models if model in runs}
        family = pairs[pairs["domain"] == domain]
        answered.append(Question("clean", domain, next(iter(runs.values())).facts.title, values,
                                 _differences(family, len(family))))
    return answered


def shifts(found: Findings) -> list[Question]:
    """Return accuracy on shifted data, and on clean data."""
    if not found.parts:
        return []
    summary, paired = found.tables["shift_summary"], found.tables["shift_paired"]
    titles = {cell.domain: cell.facts.title for cell in found.shifts}
    corrupted = {cell.domain for cell in found.shifts if cell.facts.clean or cell.evaluation.corruption}
    answered = []
    for (domain, part), group in summary.groupby(["domain", "part"], sort=False):
        rows = group.to_dict("records")
        values = {row["model"]: Value(row["accuracy"], row["ci_low"], row["ci_high"], int(row["n"])) for row in rows}
        family = paired[(paired["domain"] == domain) & (paired["part"] == part)]
        is_clean = domain not in found.clean_of and domain not in corrupted
        answered.append(Question(
            "clean" if is_clean else "shift", str(domain), titles[str(domain)], values,
            _differences(family, len(family)), part=str(part), cells=int(group["cells"].max()),
            same_cells=group["cells"].nunique() == 1))
    return answered


def _differences(entries: pd.DataFrame, family: int) -> dict[tuple[str, str], Difference]:
    """Return the differences in a table of pairs, in both orders.

    Args:
        entries: Rows of ``paired.csv`` or ``shift_paired.csv``.
        family: Number of comparisons in their family.
    """
    differences: dict[tuple[str, str], Difference] = {}
    level = LEVEL / max(family, 1)
    for entry in entries.to_dict("records"):
        pair = Difference(
            entry["model_a"], entry["model_b"], entry["difference"], entry["ci_low"], entry["ci_high"], entry["p_holm"],
            int(entry["n"]), _needed(entry, level), bool(entry.get("p_bound", False)))
        differences[pair.a, pair.b], differences[pair.b, pair.a] = pair, pair.reversed()
    return differences


def _needed(entry: dict[Hashable, Any], level: float) -> float:
    """Return the number of images needed to find the difference of an entry; more than the entry has."""
    n, difference = int(entry["n"]), float(entry["difference"])
    if not n:
        return math.nan
    if entry.get("cells", 1) > 1:
        return max(n + 1, images_needed(entry["sd"], difference, level))
    discordant = (entry["only_a"] + entry["only_b"]) / n if "only_a" in entry else entry["sd"] ** 2 + difference ** 2
    return max(n + 1, pairs_needed(discordant, difference, level))


def _rate(outcomes: np.ndarray) -> Value:
    count, n = int(outcomes.sum()), len(outcomes)
    return Value(count / n if n else math.nan, *wilson(count, n), n)
