"""Signs in the results that a number does not mean what it seems to; docs/flags.md says what to do about each.

Each ends with its anchor in docs/flags.md. Flags of a model, which is looked at before it is evaluated, are in
`bench.running.flags` and come with its rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.attack_tables import capped
from bench.analysis.measured import Measured
from bench.rows.flags import PAGE, flag

#: Queries that an attack that takes gradients must have spent on some image to be called weak.
STEPS = 20
#: Share of images from which training images among them are worth a flag.
TWICE = 0.001

#: Flags that say something of attacks, and nothing of accuracy without one.
OF_ATTACKS = ("probabilities", "saturated", "gradients", "control", "weaker-than-noise", "weaker-than-black-box")

_Runs = dict[Hashable, Measured]


@dataclass(frozen=True)
class Flag:
    """What the reader must know before the numbers.

    Attributes:
        text: What it says.
        models: Labels of the models that it concerns; none where it concerns all.
        domains: Names of the data that it concerns; none where it concerns all.
    """

    text: str
    models: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its anchor in docs/flags.md; empty for a note that a model came with."""
        return self.text.rpartition(f"({PAGE}#")[2].removesuffix(")") if f"({PAGE}#" in self.text else ""

    def __str__(self) -> str:
        return f"{', '.join(self.models)}: {self.text}" if self.models else self.text


def model_flags(found: Iterable[Measured]) -> list[Flag]:
    """Return what came with the rows: each flag or note of a model once, with the models that it concerns."""
    concerned: dict[str, dict[str, None]] = {}
    for rows in found:
        for text in rows.facts.warnings:
            concerned.setdefault(text, {})[rows.model] = None
    return [Flag(text, tuple(models)) for text, models in concerned.items()]


def duplicate_flags(shifts: Iterable[Measured], duplicates: pd.DataFrame) -> list[Flag]:
    """Return the flag of data that have training images among those evaluated, with accuracies without these."""
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
            examples, labels, predictions = cell.outcomes()
            correct, known = labels == predictions, np.isin(examples, training)
            if not known.all():
                changes.append(100 * (correct[~known].mean() - correct.mean()))
        counts[name] = f"{int(twice.sum()):,} of {len(ids):,} images of {name} ({twice.mean():.1%})"
        accuracies[name] = _changed(changes)
    if not counts:
        return []
    each = [own + (f" on {name}" if len(counts) > 1 else "") for name, own in accuracies.items()]
    return [Flag(flag("duplicates", f"{', '.join(counts.values())} are, exactly or nearly, images of CIFAR-10's "
                      f"training set; {'; '.join(each)}"), domains=tuple(counts))]


def _changed(points: list[float]) -> str:
    """Return by how much accuracies would differ without the images that were trained on."""
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
    runs: _Runs = {(run.model, run.domain, capped(run.name, cap)): run for run in attacks for cap in run.caps}
    return [*_controls(attack), *_weaker_than_noise(attack, runs), *_weaker_than_black_box(attack, runs)]


def _controls(attack: pd.DataFrame) -> list[Flag]:
    """Flag attacks that break images before they have begun."""
    broken = attack[(attack["budget"] == 0) & (attack["asr"] > 0)].drop_duplicates(["model", "domain", "attack"])
    return [Flag(flag("control", f"ASR of {name} on {domain} is {_percents(group['asr'])} at budget 0: something other "
                      "than the attack breaks images"), tuple(group["model"]), (str(domain),))
            for (domain, name), group in broken.groupby(["domain", "attack"], sort=False)]


def _percents(rates: pd.Series) -> str:
    return ", ".join(f"{rate:.1%}" for rate in rates)


def _weaker_than_noise(attack: pd.DataFrame, runs: _Runs) -> list[Flag]:
    """Flag SimBA where it breaks fewer images than its control: noise along its own directions, of the same step."""
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
        f"{name} on {domain} breaks fewer images than random noise of the same steps at {_budgets(models)} queries: "
        "the attack fails, the model is not robust")), tuple(models), (domain,))
        for (domain, name), models in weak.items()]


def _is_plain_simba(run: Measured) -> bool:
    """Tell whether noise is a control of this run: SimBA with no bound, order, target or clip of its own."""
    settings = run.evaluation.settings
    return run.evaluation.attack == "simba" and not run.traits.targeted and settings.get("linf") is None \
        and settings.get("order", "random") == "random" and settings.get("convention", "pixel-clip") == "pixel-clip"


def _alike(entry: dict[Hashable, Any], run: Measured, other: dict[Hashable, Any], control: Measured) -> bool:
    """Tell whether two entries of the table are of equal steps on as many images."""
    bounds = [(record["norm"], record["bound"]) if pd.notna(record["bound"]) else None for record in (entry, other)]
    bases = [measured.evaluation.settings.get("basis") for measured in (run, control)]
    return bounds[0] == bounds[1] and bases[0] == bases[1] and all(
        entry[name] == other[name] for name in ("model", "domain", "n", "budget", "epsilon"))


def _budgets(models: dict[str, list[int]]) -> str:
    return " and ".join(f"{budget:,}" for budget in sorted({budget for own in models.values() for budget in own}))


def _weaker_than_black_box(attack: pd.DataFrame, runs: _Runs) -> list[Flag]:
    """Flag attacks that take gradients and break fewer images than one that sees answers alone and may go no farther.

    An attack that has stopped by itself after few steps is weak by itself, and so is one that counts under a cap that
    it was not told of.
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
            stronger = [other for other, blind in bounded
                        if blind.traits.needs != "gradients" and other["norm"] == entry["norm"]
                        and other["bound"] <= entry["bound"] * (1 + 1e-9) and other["ci_low"] > entry["ci_high"]]
            if stronger:
                best = max(stronger, key=lambda other: float(other["ci_low"]))
                flags.append(Flag(flag("weaker-than-black-box", (
                    f"{entry['attack']} on {entry['domain']} breaks {entry['asr']:.1%} of the images, {best['attack']} "
                    f"{best['asr']:.1%} within the same bound without seeing gradients: these are masked, the model is "
                    "not robust")), (entry["model"],), (entry["domain"],)))
    return flags


def _key(entry: dict[Hashable, Any]) -> Hashable:
    return entry["model"], entry["domain"], entry["attack"]
