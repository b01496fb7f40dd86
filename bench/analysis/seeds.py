"""Summaries over seeds: of an attack on one model, and of the trainings by one recipe."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.attack_tables import capped
from bench.analysis.measured import Measured, reaching
from bench.analysis.outcomes import attacked, distances_known, succeeded, units
from bench.analysis.stats import shares_interval, t_interval, wilson
from framebench.files import digest
from framebench.models.recipe import filled_in

ATTACK_SEED_COLUMNS = ["model", "domain", "attack", "epsilon", "unit", "budget", "seeds", "n", "n_correct", "asr", "sd",
                       "ci_low", "ci_high", "asr_any", "any_low", "any_high"]

#: Columns that identify an entry of ``attack.csv`` or ``shift_summary.csv`` for a model.
_KEYS = ["domain", "attack", "epsilon", "unit", "budget", "part", "n"]

TRAINING_COLUMNS = ["trained", *_KEYS, "metric", "trainings", "mean", "sd", "ci_low", "ci_high", "models"]

#: Metrics that are summarized over trainings -> the range to which the interval is clipped.
_METRICS = {"asr": (0, 1), "robust_accuracy": (0, 1), "accuracy": (0, 1), "gap": (-1, 1), "mce": (0, np.inf)}


def attack_seeds_table(found: Iterable[Measured]) -> pd.DataFrame:
    """Return ``attack_seeds.csv``: one entry per model, domain, attack, cap on L2, unit and budget with several seeds.

    A seed counts if its run reached the budget. The images are those that all these seeds have rows for; the
    denominator is those that count under each of them. `asr` is the mean over the seeds and `sd` their standard
    deviation; the interval is over images, for these seeds. `asr_any` is the share of images that at least one seed
    breaks, the worst case over restarts, with Wilson's interval.
    """
    groups: dict[tuple[str, str, str], dict[int, list[Measured]]] = {}
    for run in found:
        of = run.evaluation
        group = groups.setdefault((of.model_digest, of.domain_digest, of.family), {})
        group.setdefault(of.seed, []).append(run)
    entries: list[dict[str, Any]] = []
    for group in groups.values():
        members = [run for runs in group.values() for run in runs]
        caps = [None, *sorted({cap for run in members for cap in run.caps if cap is not None})]
        budgets = sorted({0, *(budget for run in members for budget in run.facts.budgets)})
        for cap, unit, budget in itertools.product(caps, units(members[0].traits), budgets):
            if cap is not None and not distances_known(members[0].traits, unit, budget):
                continue
            reached = [of_seed for runs in group.values() if (of_seed := reaching(runs, budget)) is not None]
            if len(reached) > 1 and (entry := _attack_entry(reached, cap, unit, budget)) is not None:
                entries.append(entry)
    return pd.DataFrame(entries, columns=ATTACK_SEED_COLUMNS).astype({"epsilon": float})


def _attack_entry(runs: Sequence[Measured], cap: float | None, unit: str, budget: int) -> dict[str, Any] | None:
    """Return the entry of runs with several seeds; None if they have no common image."""
    common = functools.reduce(np.intersect1d, [run.ids for run in runs])
    if not len(common):
        return None
    frames = [run.frame()[np.isin(run.ids, common)] for run in runs]
    among = np.logical_and.reduce([attacked(frame, run.traits) for frame, run in zip(frames, runs, strict=True)])
    won = np.stack([succeeded(frame, runs[0].traits, unit, budget, cap)[among] for frame in frames])
    n_correct, broken = won.shape[1], int(won.any(0).sum())
    by_seed = won.mean(1) if n_correct else np.full(len(runs), np.nan)
    low, high = shares_interval(won.mean(0), len(runs))
    any_low, any_high = wilson(broken, n_correct)
    first = runs[0]
    return {"model": first.model, "domain": first.domain, "attack": capped(first.attack, cap),
            "epsilon": first.traits.epsilon, "unit": unit, "budget": budget, "seeds": len(runs), "n": len(common),
            "n_correct": n_correct, "asr": by_seed.mean(), "sd": by_seed.std(ddof=1), "ci_low": low, "ci_high": high,
            "asr_any": broken / n_correct if n_correct else np.nan, "any_low": any_low, "any_high": any_high}


@dataclass(frozen=True)
class _Training:
    """A model's training.

    Attributes:
        recipe: Identifies all about it but the seed.
        seed: The seed.
        name: The model's name without the seed.
    """

    recipe: str
    seed: int
    name: str


def trainings_table(table: pd.DataFrame, cards: Mapping[str, dict[str, Any] | None],
                    images: Mapping[Hashable, np.ndarray]) -> pd.DataFrame:
    """Return entries of ``trainings.csv``: means over models whose trainings differ by the seed alone.

    Intervals are Student's over the trainings: for the mean of all trainings by this recipe, on these images. There is
    none if all trainings have the same value, which says nothing about how trainings vary. There is no summary if a
    training has several models (kept epochs), as none of them can be preferred.

    Args:
        table: The table of ``attack.csv`` or ``shift_summary.csv``.
        cards: Label of each model -> its card, or None.
        images: Model, domain and attack (or part), as in the table -> ids of the images, int64 [n]. Only models with
            the same images are summarized.
    """
    trainings = {model: training for model, card in cards.items() if (training := _training(card)) is not None}
    keys = [key for key in _KEYS if key in table]
    trained = table[table["model"].isin(list(trainings))]
    recipes = trained["model"].map(lambda model: trainings[model].recipe)
    measured = list(zip(trained["model"], trained["domain"], trained["attack" if "attack" in trained else "part"],
                        strict=True))
    digests = {entry: digest(np.sort(images[entry])) for entry in set(measured)}
    same = pd.Series([digests[entry] for entry in measured], index=trained.index, dtype=object)
    entries: list[dict[str, Any]] = []
    for key, group in trained.groupby([recipes, same, *keys], sort=False, dropna=False):
        by_seed = {model: trainings[model] for model in sorted(group["model"], key=lambda name: trainings[name].seed)}
        if not len({training.seed for training in by_seed.values()}) == len(by_seed) > 1:
            continue
        by_model = group.set_index("model")
        for metric, bounds in _METRICS.items():
            if metric not in by_model or by_model[metric].isna().any():
                continue
            values = by_model[metric].to_numpy(dtype=np.float64)
            low, high = np.clip(t_interval(values), *bounds) if np.ptp(values) else (np.nan, np.nan)
            entries.append({
                "trained": ", ".join(dict.fromkeys(training.name for training in by_seed.values())),
                **dict(zip(keys, key[2:], strict=True)), "metric": metric, "trainings": len(by_seed),
                "mean": values.mean(), "sd": values.std(ddof=1), "ci_low": low, "ci_high": high,
                "models": " ".join(by_seed)})
    return pd.DataFrame(entries, columns=TRAINING_COLUMNS)


def _training(card: dict[str, Any] | None) -> _Training | None:
    """Return a model's training; None if it has no card or was pruned."""
    if card is None or "seed" not in card["recipe"]:
        return None
    recipe, (name, kept, _) = filled_in(card["recipe"]), card["name"].partition("@")
    seed = int(recipe.pop("seed"))
    if isinstance(options := recipe.get("regularizer_options"), dict):  # their seed may be the training's
        recipe["regularizer_options"] = {key: value for key, value in options.items() if (key, value) != ("seed", seed)}
    identity = json.dumps([card["arch"], card["width"], card["classes"], card["data"].get("sha256"), recipe, kept],
                          sort_keys=True)
    return _Training(identity, seed, re.sub(rf"-s{seed}$", "", name) + (" (kept epochs)" if kept else ""))
