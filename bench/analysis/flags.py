"""Flags of results: signs that a number does not mean what it seems to.

Each ends with its anchor in docs/flags.md, which says what to do. Flags of a model, which are found before it is
evaluated, are in `bench.running.flags` and kept with its rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.attack_tables import runs_by_name
from bench.analysis.measured import Measured
from bench.rows.flags import PAGE, flag

#: An attack with gradients is called weak only if it took this many queries on some image.
STEPS = 20
#: Share of training images among the evaluated ones from which they get a flag.
TWICE = 0.001

#: Flags that concern attacks, but not accuracy without an attack.
OF_ATTACKS = ("probabilities", "saturated", "gradients", "control", "weaker-than-noise", "weaker-than-black-box")

_Runs = dict[Hashable, Measured]


@dataclass(frozen=True)
class Flag:
    """Something that the reader must know before the numbers.

    Attributes:
        text: A sentence.
        models: Labels of the models that it concerns; empty for all.
        domains: Names of the data that it concerns; empty for all.
    """

    text: str
    models: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its anchor in docs/flags.md; empty for a note that came with the model."""
        return self.text.rpartition(f"({PAGE}#")[2].removesuffix(")") if f"({PAGE}#" in self.text else ""

    def __str__(self) -> str:
        return f"{', '.join(self.models)}: {self.text}" if self.models else self.text


def model_flags(found: Iterable[Measured]) -> list[Flag]:
    """Return the flags and notes that are kept with the rows, each once, with the models that it concerns."""
    models: dict[str, dict[str, None]] = {}
    for measured in found:
        for text in measured.facts.warnings:
            models.setdefault(text, {})[measured.model] = None
    return [Flag(text, tuple(labels)) for text, labels in models.items()]


def duplicate_flags(shifts: Iterable[Measured], duplicates: pd.DataFrame) -> list[Flag]:
    """Return the flag of data with training images among the evaluated ones, and how accuracy changes without them."""
    domains: dict[str, list[Measured]] = {}
    for cell in shifts:
        if not cell.evaluation.corruption:
            domains.setdefault(cell.evaluation.domain_digest, []).append(cell)
    counts: dict[str, str] = {}
    accuracies: dict[str, str] = {}
    for digest, cells in domains.items():
        training = duplicates.loc[duplicates["domain_digest"] == digest, "example"].astype(np.int64).to_numpy()
        ids = np.unique(np.concatenate([cell.ids for cell in cells]))
        twice = np.isin(ids, training)
        if not len(ids) or twice.mean() < TWICE:
            continue
        name, changes = cells[0].domain, []
        for cell in cells:
            examples, labels, predictions = cell.rows.outcomes()
            correct, trained_on = labels == predictions, np.isin(examples, training)
            if not trained_on.all():
                changes.append(100 * (correct[~trained_on].mean() - correct.mean()))
        counts[name] = f"{int(twice.sum()):,} of {len(ids):,} images of {name} ({twice.mean():.1%})"
        accuracies[name] = _changed(changes)
    if not counts:
        return []
    each = [text + (f" on {name}" if len(counts) > 1 else "") for name, text in accuracies.items()]
    return [Flag(flag("duplicates", f"{', '.join(counts.values())} are, exactly or nearly, images of CIFAR-10's "
                      f"training set; {'; '.join(each)}"), domains=tuple(counts))]


def _changed(points: list[float]) -> str:
    """Describe how accuracies change, in percentage points, without the training images."""
    if not points:
        return "no others are left"
    least, most = (f"{end(points):+.1f}" for end in (min, max))
    return f"without them, accuracies differ by {least if least == most else f'{least} to {most}'} points"


def attack_flags(attacks: Iterable[Measured], attack: pd.DataFrame) -> list[Flag]:
    """Return the flags of attacks' results.

    Args:
        attacks: The runs.
        attack: Their table, that of ``attack.csv``.
    """
    runs = runs_by_name(attacks)
    return [*_controls(attack), *_weaker_than_noise(attack, runs), *_weaker_than_black_box(attack, runs)]


def _controls(attack: pd.DataFrame) -> list[Flag]:
    """Flag attacks with successes at budget 0."""
    broken = attack[(attack["budget"] == 0) & (attack["asr"] > 0)].drop_duplicates(["model", "domain", "attack"])
    return [Flag(flag("control", f"ASR of {name} on {domain} is {_percents(group['asr'])} at budget 0: something other "
                      "than the attack breaks images"), tuple(group["model"]), (str(domain),))
            for (domain, name), group in broken.groupby(["domain", "attack"], sort=False)]


def _percents(rates: pd.Series) -> str:
    return ", ".join(f"{rate:.1%}" for rate in rates)


def _weaker_than_noise(attack: pd.DataFrame, runs: _Runs) -> list[Flag]:
    """Flag SimBA if it breaks fewer images than its control: noise along the same directions, with the same step."""
    records = attack[(attack["unit"] == "queries") & (attack["budget"] > 0)].to_dict("records")
    controls = [entry for entry in records if runs[_key(entry)].evaluation.attack == "noise"]
    weak: dict[tuple[str, str], dict[str, list[int]]] = {}
    for entry in records:
        run = runs[_key(entry)]
        lows = [other["ci_low"] for other in controls if _alike(entry, run, other, runs[_key(other)])]
        if _is_plain_simba(run) and lows and entry["ci_high"] < max(lows):
            models = weak.setdefault((entry["domain"], entry["attack"]), {})
            models.setdefault(entry["model"], []).append(int(entry["budget"]))
    return [Flag(flag("weaker-than-noise", (
        f"{name} on {domain} breaks fewer images than random noise of the same step size at {_budgets(models)} "
        "queries: the attack fails, so a low ASR is no evidence of robustness")), tuple(models), (domain,))
        for (domain, name), models in weak.items()]


def _is_plain_simba(run: Measured) -> bool:
    """Tell whether noise is a control of this run: SimBA without a bound, a target, or another order or clipping."""
    settings = run.evaluation.settings
    return run.evaluation.attack == "simba" and not run.traits.targeted and settings.get("linf") is None \
        and settings.get("order", "random") == "random" and settings.get("convention", "pixel-clip") == "pixel-clip"


def _alike(entry: dict[Hashable, Any], run: Measured, other: dict[Hashable, Any], control: Measured) -> bool:
    """Tell whether two entries of the table have equal steps and the same number of images."""
    bounds = [(record["norm"], record["bound"]) if pd.notna(record["bound"]) else None for record in (entry, other)]
    bases = [measured.evaluation.settings.get("basis") for measured in (run, control)]
    return bounds[0] == bounds[1] and bases[0] == bases[1] and all(
        entry[name] == other[name] for name in ("model", "domain", "n", "budget", "epsilon"))


def _budgets(models: dict[str, list[int]]) -> str:
    return " and ".join(f"{budget:,}" for budget in sorted(set().union(*models.values())))


def _weaker_than_black_box(attack: pd.DataFrame, runs: _Runs) -> list[Flag]:
    """Flag attacks with gradients that break fewer images than a black-box attack within at most the same bound.

    An attack that stopped after few steps is left out, as it is weak anyway. So is one whose successes count under a
    cap that it does not know of.
    """
    last = attack[attack["unit"] == "iterations"].sort_values("budget", kind="stable").drop_duplicates(
        ["model", "domain", "attack"], keep="last").sort_index()
    flags = []
    for _, group in last.groupby(["model", "domain", "n"], sort=False):
        bounded = [(entry, run) for entry in group.to_dict("records")
                   if pd.notna(entry["bound"]) and not (run := runs[_key(entry)]).traits.targeted]
        for entry, run in bounded:
            if run.traits.needs != "gradients" or entry["bound"] != run.traits.bound \
                    or run.frame()["queries"].max() < STEPS:
                continue
            stronger = [other for other, black_box in bounded
                        if black_box.traits.needs != "gradients" and other["norm"] == entry["norm"]
                        and other["bound"] <= entry["bound"] * (1 + 1e-9) and other["ci_low"] > entry["ci_high"]]
            if stronger:
                best = max(stronger, key=lambda other: float(other["ci_low"]))
                flags.append(Flag(flag("weaker-than-black-box", (
                    f"{entry['attack']} on {entry['domain']} breaks {entry['asr']:.1%} of the images, {best['attack']} "
                    f"{best['asr']:.1%} without gradients, within a bound that is no larger: gradients are probably "
                    "masked, so a low ASR is no evidence of robustness")), (entry["model"],), (entry["domain"],)))
    return flags


def _key(entry: dict[Hashable, Any]) -> Hashable:
    return entry["model"], entry["domain"], entry["attack"]
