"""Published results of the models of a report, beside the measured ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.analysis.measured import Measured
from framebench.models.published import Published, published

PUBLISHED_COLUMNS = ["model", "network", "published_on", "threat", "published_epsilon", "published_budget",
                     "published_attack", "published_clean_accuracy", "published_robust_accuracy", "published_asr",
                     "source", "domain", "attack", "n", "clean_accuracy", "robust_accuracy", "asr"]
#: Relative difference up to which bounds count as equal: some leaderboard entries say 0.031 for 8/255.
_SAME = 0.02


def published_table(found: Iterable[Measured], attack: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Return ``published.csv``: one row per published result and measured result of the same kind, rates as fractions.

    A result within a bound is compared with attacks of the same norm and bound, at their largest budget; a result of
    the study with SimBA of the same budget; corruptions with the mean over the benchmark's. If a model was attacked
    only in other ways, its row has no measured values.

    Args:
        found: The measurements.
        attack: The table of ``attack.csv``; may be empty.
        summary: The table of ``shift_summary.csv``; may be empty.
    """
    entries: list[dict[str, Any]] = []
    for model, name in {run.model: run.evaluation.model for run in found}.items():
        tables = [table[table["model"] == model] if len(table) else table for table in (attack, summary)]
        for row in published(name):
            measured = _measured(row, *tables)
            if not measured and len(tables[0]) and row.threat in ("Linf", "L2"):
                measured = [{}]
            entries += [{
                "model": model, "network": row.network, "published_on": row.dataset, "threat": row.threat,
                "published_epsilon": row.epsilon, "published_budget": row.budget, "published_attack": row.attack,
                "published_clean_accuracy": row.clean_accuracy, "published_robust_accuracy": row.robust_accuracy,
                "published_asr": row.asr, "source": row.source, **values} for values in measured]
    return pd.DataFrame(entries, columns=PUBLISHED_COLUMNS).astype({"published_budget": "Int64", "n": "Int64"})


def _measured(row: Published, attack: pd.DataFrame, summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the measured results of one model that are of the same kind as a published one."""
    if row.threat == "corruptions":
        if not len(summary):
            return []
        chosen = summary[(summary["part"] == "benchmark") & (summary["domain"] == f"{row.dataset}-c")]
        chosen = chosen.assign(attack="", robust_accuracy=chosen["accuracy"], asr=float("nan"))
    elif not len(attack):
        return []
    elif row.threat == "SimBA":
        chosen = attack[attack["attack"].str.startswith("simba") & (attack["budget"] == row.budget)
                        & (attack["domain"] == row.dataset) & (attack["unit"] == "iterations")]
    else:
        assert row.epsilon is not None
        same = (attack["norm"] == row.threat.lower()) & ((attack["bound"] / row.epsilon - 1).abs() < _SAME)
        chosen = attack[same & (attack["budget"] > 0) & (attack["unit"] == "iterations")]
        chosen = chosen.sort_values("budget", kind="stable").groupby(["domain", "attack"], sort=False).tail(1)
    columns = ["domain", "attack", "n", "clean_accuracy", "robust_accuracy", "asr"]
    return chosen[columns].to_dict("records")  # type: ignore[return-value]
