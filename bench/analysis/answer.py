"""What a report's tables answer: who is best at what, what differs from the reference model, and what is not shown.

No statement is stronger than the tables: a difference is shown where its p-value, adjusted by Holm's method within its
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
from bench.analysis.outcomes import robust
from bench.analysis.stats import images_needed, pairs_needed, wilson

if TYPE_CHECKING:
    from bench.analysis.findings import Findings

LEVEL = 0.05
#: Least robust accuracy of all models together at which an attack without a bound is compared.
_LEAST_LEFT = 0.1

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
    """The accuracy of a minus that of b on the images that both have, a fraction.

    Attributes:
        a: Label of the model.
        b: Label of the other.
        difference: nan without common images, and so are the next three.
        low: Lower end of its 95% interval.
        high: Upper end.
        p: Adjusted by Holm's method within its family.
        n: Common images.
        needed: How many images would find a difference of this size with a power of 80%, at the strictest level that
            Holm's method has in this family. Infinite where there is no difference, nan without images.
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
        """Whether the data show that the two differ."""
        return self.p < LEVEL and not self.low <= 0 <= self.high

    def reversed(self) -> Difference:
        """Return b minus a."""
        return Difference(self.b, self.a, 0 - self.difference, 0 - self.high, 0 - self.low, self.p, self.n, self.needed,
                          self.bound)


@dataclass(frozen=True)
class Standing:
    """How models stand to the one that comes first.

    Attributes:
        first: The model that has more than most others on the images that they share.
        tied: Those whose difference to it is not shown.
        lower: Those that are shown to be lower.
        higher: Those that are shown to be higher all the same: with other images, or other cells.
        apart: Those that share no image with it.
    """

    first: str
    tied: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()
    higher: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether the first is shown to be better than every other model."""
        return bool(self.lower) and not self.tied and not self.higher and not self.apart


@dataclass(frozen=True)
class Question:
    """One metric on one data set.

    Attributes:
        kind: What is asked: robust accuracy, accuracy on shifted images, or on clean ones.
        domain: Name of the data.
        title: What the data are.
        values: Model -> its accuracy, in the order of the page.
        differences: (a, b) -> a minus b, for both orders of every pair that was compared.
        attack: Name of the attack, with its seed.
        budget: Its iterations, see `_telling`.
        last: Model -> the largest number of iterations that it is tabled at and its robust accuracy then, of those
            where that is more than `budget`.
        part: Of a corrupted set "benchmark" or "extras", else "all".
        cells: The most cells of a model.
        targeted: Whether the attack has targets; then models are not compared.
        hopeless: Models that classify no image correctly before the attack.
        left_out: Models that were attacked with other budgets only.
        even: Whether all models have the same number of images and of cells.
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
    even: bool = True

    @property
    def key(self) -> str:
        """What tells it from the other questions of a report."""
        return "|".join([self.kind, self.domain, self.attack or self.part])

    def to(self, reference: str | None) -> list[Difference]:
        """Return every model minus the reference, as far as they were compared."""
        return [self.differences[model, reference] for model in self.values
                if reference is not None and (model, reference) in self.differences]

    def standing(self) -> Standing | None:
        """Return how the models stand; None where there are not several to compare."""
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
    """Return all that the results of a report answer: robust accuracy, accuracy under shift, clean accuracy."""
    return sorted([*found.attack_questions, *found.shift_questions],
                  key=lambda question: get_args(Kind).index(question.kind))


def attacks(found: Findings) -> list[Question]:
    """Return robust accuracy under every attack, and accuracy before it on data that were not classified anyway."""
    classified = {part.domain for part in found.parts}
    return [*_under_attack(found), *(question for question in _before_attacks(found)
                                     if question.domain not in classified)]


def _under_attack(found: Findings) -> list[Question]:
    """Return robust accuracy under every attack, at the budget that `_telling` chooses."""
    asked = []
    for by_model in by_attack(found.attacks).values():
        tabled = tabled_budgets(by_model)
        budget = _telling(by_model, tabled)
        runs = {model: run for model, own in by_model.items()
                if budget in tabled[model] and (run := reaching(own, budget)) is not None}
        first = next(iter(runs.values()))
        paired = found.tables["paired"]
        family = paired[(paired["domain"] == first.domain) & (paired["attack"] == first.seeded)
                        & (paired["metric"] == "robust_accuracy")]
        values = {model: _rate(robust(run.frame(), "iterations", budget)) for model, run in runs.items()}
        asked.append(Question(
            "robust", first.domain, first.facts.title, values,
            _differences(family[family["budget"] == budget], len(family)), first.seeded, budget,
            {model: (most, float(robust(run.frame(), "iterations", most).mean())) for model, own in by_model.items()
             if model in runs and (most := max(tabled[model])) > budget and (run := reaching(own, most)) is not None},
            targeted=first.traits.targeted,
            hopeless=tuple(model for model, run in runs.items() if not _correct(run).any()),
            left_out=tuple(model for model in by_model if model not in runs), even=_even(values)))
    return asked


def _telling(by_model: Mapping[str, Sequence[Measured]], tabled: Mapping[str, set[int]]) -> int:
    """Return the budget to compare the models at: the largest that most of them have.

    Without a bound an attack breaks nearly every image in the end, and then there is nothing left to compare. So it is
    compared at the largest such budget at which all models together still classify a tenth of the images correctly; at
    the largest one if there is none. The rule does not look at which model does better. A single model is compared with
    nothing, and a smaller budget would only flatter it.
    """
    budgets = [budget for own in tabled.values() for budget in own]
    common = sorted({one for one in budgets if budgets.count(one) == max(map(budgets.count, budgets))}, reverse=True)
    if len(by_model) > 1 and next(iter(by_model.values()))[0].traits.bound is None:
        for budget in common:
            held = [robust(run.frame(), "iterations", budget) for own in by_model.values()
                    if (run := reaching(own, budget)) is not None]
            if budget > 0 and np.concatenate(held).mean() >= _LEAST_LEFT:
                return budget
    return common[0]


def _before_attacks(found: Findings) -> list[Question]:
    """Return clean accuracy on the images that attacks had."""
    pairs = found.clean_pairs
    domains: dict[str, dict[str, Measured]] = {}
    for run in sorted(found.attacks, key=lambda run: len(run.ids)):
        domains.setdefault(run.domain, {})[run.model] = run
    asked = []
    for domain, runs in domains.items():
        values = {model: _rate(_correct(runs[model])) for model in found.models if model in runs}
        own = pairs[pairs["domain"] == domain]
        asked.append(Question("clean", domain, next(iter(runs.values())).facts.title, values,
                              _differences(own, len(own)), even=_even(values)))
    return asked


def shifts(found: Findings) -> list[Question]:
    """Return accuracy on shifted data, and on data that shift nothing."""
    if not found.parts:
        return []
    summary, paired = found.tables["shift_summary"], found.tables["shift_paired"]
    titles = {cell.domain: cell.facts.title for cell in found.shifts}
    of_others = {cell.domain for cell in found.shifts if cell.facts.clean or cell.evaluation.corruption}
    asked = []
    for (domain, part), group in summary.groupby(["domain", "part"], sort=False):
        rows = group.to_dict("records")
        values = {row["model"]: Value(row["accuracy"], row["ci_low"], row["ci_high"], int(row["n"])) for row in rows}
        own = paired[(paired["domain"] == domain) & (paired["part"] == part)]
        is_clean = domain not in found.clean_of and domain not in of_others
        asked.append(Question(
            "clean" if is_clean else "shift", str(domain), titles[str(domain)], values, _differences(own, len(own)),
            part=str(part), cells=int(group["cells"].max()), even=_even(values) and group["cells"].nunique() == 1))
    return asked


def _differences(entries: pd.DataFrame, family: int) -> dict[tuple[str, str], Difference]:
    """Return the differences of a table of pairs in both orders.

    Args:
        entries: Rows of ``paired.csv`` or ``shift_paired.csv``.
        family: How many comparisons their family has.
    """
    found: dict[tuple[str, str], Difference] = {}
    level = LEVEL / max(family, 1)
    for entry in entries.to_dict("records"):
        pair = Difference(
            entry["model_a"], entry["model_b"], entry["difference"], entry["ci_low"], entry["ci_high"], entry["p_holm"],
            int(entry["n"]), _needed(entry, level), bool(entry.get("p_bound", False)))
        found[pair.a, pair.b], found[pair.b, pair.a] = pair, pair.reversed()
    return found


def _needed(entry: dict[Hashable, Any], level: float) -> float:
    """Return how many images would find a difference like that of an entry; never as few as did not."""
    n, difference = int(entry["n"]), float(entry["difference"])
    if not n:
        return math.nan
    if entry.get("cells", 1) > 1:
        return max(n + 1, images_needed(entry["sd"], difference, level))
    discordant = (entry["only_a"] + entry["only_b"]) / n if "only_a" in entry else entry["sd"] ** 2 + difference ** 2
    return max(n + 1, pairs_needed(discordant, difference, level))


def _correct(run: Measured) -> pd.Series:
    frame = run.frame()
    return frame["clean_prediction"] == frame["label"]


def _rate(outcomes: Any) -> Value:
    count, n = int(outcomes.sum()), len(outcomes)
    return Value(count / n if n else math.nan, *wilson(count, n), n)


def _even(values: Mapping[str, Value]) -> bool:
    return len({value.n for value in values.values()}) <= 1

