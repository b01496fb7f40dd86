"""The answer in words: the comparison, the best models, and differences to the reference model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.answer import Difference, Question, Standing
from bench.analysis.flags import OF_ATTACKS
from framebench.reports.format import from_to, number_of, percent, points, rate
from framebench.reports.names import KINDS, Labels

if TYPE_CHECKING:
    from bench.analysis.findings import Findings

#: Most items of a list in a sentence, and most models in the first sentence.
_MOST, _MOST_MODELS = 6, 12
#: When a difference is significant, and an order shown (`bench.analysis.answer.Difference.shown`).
RULE = ("A difference is significant if its p-value, adjusted for all comparisons in its family (Holm), is below 5% "
        "and its 95% interval, in brackets, does not contain 0.")
#: Largest number of needed images that is printed.
_MOST_IMAGES = 1_000_000


@dataclass(frozen=True)
class Paragraph:
    """Sentences that belong together.

    Attributes:
        leads: The answer itself.
        details: Its numbers and caveats.
    """

    leads: Sequence[str]
    details: Sequence[str] = ()


def answer(found: Findings, metrics: Sequence[Question]) -> list[Paragraph]:
    """Return the answer: the setup, then one paragraph per kind of accuracy.

    Args:
        found: The results.
        metrics: Their metrics, from `bench.analysis.answer.questions`.
    """
    if not metrics:
        return [Paragraph([f"Frame bounds of {listed(found.frames)} were measured. Nothing was attacked or shifted, so "
                           "no model is ranked."])] if found.frames else []
    labels = Labels(metrics)
    paragraphs = [Paragraph(_setup(found, metrics, labels))]
    for kind in KINDS:
        if of_kind := [question for question in metrics if question.kind == kind]:
            paragraphs.append(_OneKind(found, of_kind, labels).paragraph())
    return paragraphs


def _setup(found: Findings, metrics: Sequence[Question], labels: Labels) -> list[str]:
    """Return the sentences on models, data and warnings."""
    models = list(dict.fromkeys(model for question in metrics for model in question.values))
    sizes: dict[str, set[int]] = {}
    for question in metrics:
        sizes.setdefault(question.domain, set()).update(value.n for value in question.values.values())
    titles = {question.domain: _short(question.title) for question in metrics}
    warned_of = {domain: ", ".join(flag.name for flag in found.flags if domain in flag.domains and not flag.models)
                 for domain in sizes}
    sets = [f"{labels.domains[domain]} ({titles[domain]}; n = {from_to(n)}"
            f"{'; warnings: ' * bool(warned_of[domain])}{warned_of[domain]})" for domain, n in sizes.items()]
    sentences = [f"{number_of(len(models), 'model')} ({listed(models, _MOST_MODELS)}) on {listed(sets)}."]
    if warned := dict.fromkeys(flag.name for flag in found.flags if flag.name):
        sentences.append(f"Read the warnings first ({', '.join(warned)}): they can matter more than the numbers below.")
    return sentences


class _OneKind:
    """The sentences about one kind of accuracy.

    Args:
        found: The results.
        metrics: The metrics of this kind.
        labels: Their labels.
    """

    def __init__(self, found: Findings, metrics: Sequence[Question], labels: Labels) -> None:
        self._labels, self._reference, self._flags = labels, found.reference, found.flags
        self._kind, self._what, self._metrics = metrics[0].kind, KINDS[metrics[0].kind], metrics
        self._ranked = [(question, standing) for question in metrics if (standing := question.standing())]

    def paragraph(self) -> Paragraph:
        """Return all sentences, the best models first."""
        best, numbers = self._best(), self._numbers()
        return Paragraph(best or numbers, [*self._against(), *(numbers if best else []), *self._caveats()])

    def _name(self, model: str, *about: Question) -> str:
        """Return a model's name, with its warnings in these metrics."""
        warned = self._warnings(model, *about)
        return f"{model} (warnings: {', '.join(warned)})" if warned else model

    def _warnings(self, model: str, *about: Question) -> list[str]:
        return list(dict.fromkeys(
            flag.name for flag in self._flags if flag.name and model in flag.models
            and (self._kind == "robust" or flag.name not in OF_ATTACKS)
            and (not flag.domains or any(question.domain in flag.domains for question in about))))

    def _names(self, models: Iterable[str], question: Question, most: int = _MOST) -> str:
        return listed([self._name(model, question) for model in models], most)

    def _place(self, question: Question) -> str:
        shared = " on shared images" if not question.even else "" if question.same_cells else " on shared cells"
        return self._labels.place(question) + shared

    def _value(self, model: str, question: Question) -> str:
        """Return a model's accuracy with its interval, and that at its largest budget if this one is smaller."""
        value = question.values[model]
        cell = rate(value.value, value.low, value.high)
        last = f"; {percent(question.last[model][1])} at {question.last[model][0]:,}" if model in question.last else ""
        return f"{cell.text} {cell.below}".strip() + last

    def _best(self) -> list[str]:
        """Return the sentences on the best model of each metric."""
        if len(self._ranked) == 1:
            return [self._ranking(*self._ranked[0])]
        winners: dict[str, list[Question]] = {}
        undecided: list[str] = []
        for question, standing in self._ranked:
            if standing.alone:
                winners.setdefault(standing.first, []).append(question)
            else:
                undecided.append(f"{self._place(question)} ({self._front(question, standing)})")
        sentences = []
        for model, won in winners.items():
            places = [f"{self._place(question)} ({self._value(model, question)})" for question in won]
            sentences.append(f"{self._name(model, *won)} is shown to have the highest {self._what} {listed(places)}.")
        if undecided:
            sentences.append(f"No single model is shown to have the highest {self._what} {listed(undecided)}.")
        return sentences

    def _front(self, question: Question, standing: Standing) -> str:
        """Return a short ranking for a metric without a best model."""
        if standing.higher or standing.apart:
            return "not all models can be compared" if standing.apart else "pairs of models contradict each other"
        first = f"highest: {self._name(standing.first, question)} {self._value(standing.first, question)}"
        if not standing.lower:
            return f"{first}, no other is shown to be lower"
        return f"{first}, not shown to be above {self._names(standing.tied, question, 3)}"

    def _ranking(self, question: Question, standing: Standing) -> str:
        """Return the ranking of all models in one metric."""
        first, metric = standing.first, f"{self._what} {self._place(question)}"
        leader = f"{self._name(first, question)} ({self._value(first, question)})"
        values = {model: value.value for model, value in question.values.items()}
        alike = len(set(values.values())) == 1 and len({question.last.get(model) for model in values}) == 1
        apart = f" {self._names(standing.apart, question)} can't be compared with it: no image is shared." \
            if standing.apart else ""
        if standing.higher:
            return (f"No model can be called the best in {metric}: {leader} is above most others, but shown to be "
                    f"below {self._names(standing.higher, question)}.{apart}")
        if not standing.lower and alike:
            return (f"The {metric} of {self._names(values, question)} is the same: {self._value(first, question)}."
                    f"{apart}")
        if not standing.lower:
            # `first` is best on common images; over all of its own images, another model can have a higher accuracy.
            ends = [choose(values, key=lambda model: values[model]) for choose in (max, min)]
            most, least = (f"{self._name(model, question)} ({self._value(model, question)})" for model in ends)
            return f"No model is shown to have the highest {metric}: it ranges from {most} to {least}.{apart}"
        lower = self._names(standing.lower, question)
        if not standing.tied:
            if len(standing.lower) > 2 and not any(self._warnings(model, question) for model in standing.lower):
                lower = f"all {len(standing.lower)} others"
            return f"{leader} has the highest {metric}, shown to be above {lower}.{apart}"
        return (f"{leader} has the highest {metric}, shown to be above {lower}, but not above "
                f"{self._names(standing.tied, question)}.{apart}")

    def _against(self) -> list[str]:
        """Return the sentences on shown and not shown differences to the reference model."""
        pairs = [(question, pair) for question in self._metrics for pair in question.to(self._reference) if pair.n]
        if not pairs:
            return []
        total = len({question.key for question, _ in pairs})
        shown: list[str] = []
        hidden: list[str] = []
        models = list(dict.fromkeys(pair.a for _, pair in pairs))
        if len(models) > _MOST:  # those that differ most are named
            models.sort(key=lambda model: -max(abs(pair.difference) for _, pair in pairs if pair.a == model))
        for model in models:
            of_model = [(question, pair) for question, pair in pairs if pair.a == model]
            for above in (True, False):
                differing = [(question, pair) for question, pair in of_model
                             if pair.shown and (pair.difference > 0) is above]
                shown += self._of(model, differing, total)
            hidden += self._of(model, [(question, pair) for question, pair in of_model if not pair.shown], total)
        reference = self._name(self._reference or "", *self._metrics)
        about = f"{reference} in {self._what}"
        sentences = [f"Significant differences from {about}, in points: {listed(shown)}."] if shown else []
        if hidden:
            start = f"Not significant: differences from {about}" if shown else \
                f"No difference from {about} is significant; in points"
            sentences.append(f"{start}: {listed(hidden)}{_images([pair for _, pair in pairs if not pair.shown])}.")
        return sentences

    def _of(self, model: str, own: Sequence[tuple[Question, Difference]], total: int) -> list[str]:
        """Return a model with its differences to the reference in some of `total` metrics; [] without differences."""
        if not own:
            return []
        name = self._name(model, *(question for question, _ in own))
        if len(own) == 1:
            question, pair = own[0]
            cell = points(pair.difference, pair.low, pair.high, sign=True)
            return [f"{name} {cell.text} {cell.below}" + (f" {self._labels.place(question)}" if total > 1 else "")]
        ends = [points(end(pair.difference for _, pair in own), sign=True).text for end in (min, max)]
        where = f"{len(own)} of {total}" if len(own) < total else "both" if total == 2 else f"all {total}"
        return [f"{name} {ends[0] if ends[0] == ends[1] else f'{ends[0]} to {ends[1]}'} in {where}"]

    def _numbers(self) -> list[str]:
        """Return the numbers of metrics without comparisons."""
        by_model: dict[str, list[str]] = {}
        sentences = []
        for question in self._metrics:
            if question.standing() is None and len(question.values) == 1:
                (model,) = question.values
                by_model.setdefault(self._name(model, question), []).append(
                    f"{self._value(model, question)} {self._labels.place(question)} (n = {question.values[model].n:,})")
            elif question.standing() is None:
                why = "the attack is targeted" if question.targeted else "their results can't be compared"
                each = [f"{self._name(model, question)} {self._value(model, question)}" for model in question.values]
                sentences.append(f"Models are not compared because {why}; {self._what} {self._labels.place(question)}: "
                                 f"{listed(each)}.")
        return [*(f"The {self._what} of {model}: {listed(each)}." for model, each in by_model.items()), *sentences]

    def _caveats(self) -> list[str]:
        """Return the caveats."""
        notes = []
        if hopeless := dict.fromkeys(model for question in self._metrics for model in question.hopeless):
            notes.append(f"{listed(hopeless)} {'classifies' if len(hopeless) == 1 else 'classify'} no image correctly "
                         "before the attack, which says nothing about robustness; check labels and normalisation.")
        if left := dict.fromkeys(model for question in self._metrics for model in question.left_out):
            notes.append(f"{listed(left)} {'was' if len(left) == 1 else 'were'} attacked with other budgets and left "
                         "out.")
        if any(question.differences and not question.even for question in self._metrics):
            notes.append("Not all models have the same images: each pair is compared on its common images, while the "
                         "accuracy of each model is over all of its images.")
        if any(question.differences and not question.same_cells for question in self._metrics):
            notes.append("Not all models have the same cells (corruptions and severities): each pair is compared on "
                         "its common cells, while the accuracy of each model is over all of its cells.")
        return notes


def _images(hidden: Sequence[Difference]) -> str:
    """Return the end of a sentence: the number of images that would show differences of these sizes."""
    needed = [pair.needed for pair in hidden if math.isfinite(pair.needed)]
    if not needed:
        return ""
    least, most = (_rounded(end(needed)) for end in (min, max))
    size = "a difference of this size" if len(needed) == 1 else "differences of these sizes"
    return f"; detecting {size} takes about {least if least == most else f'{least} to {most}'} images"


def _rounded(images: float) -> str:
    """Return a number of images, rounded up to two significant digits."""
    if images > _MOST_IMAGES:
        return f"{_MOST_IMAGES:,} or more"
    unit = 10 ** max(int(math.log10(images)) - 1, 0)
    return f"{math.ceil(images / unit) * unit:,}"


def _short(title: str) -> str:
    """Return a title up to its first comma outside of parentheses."""
    return re.split(r", (?![^()]*\))", title, maxsplit=1)[0]


def listed(things: Iterable[str], most: int = _MOST) -> str:
    """Return "a, b and c"; of more than `most` items, the first ones and the number of the others."""
    things = list(things)
    if len(things) > most:
        things = [*things[:most - 1], f"{len(things) - most + 1} more"]
    return " and ".join(filter(None, [", ".join(things[:-1]), things[-1]])) if things else ""
