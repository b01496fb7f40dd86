"""What is published of the models of a page, beside what was measured of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.analysis.measured import Measured
from framebench.models.published import Published, published

PUBLISHED_COLUMNS = ["model", "network", "published_on", "threat", "published_epsilon", "published_budget",
                     "published_attack", "published_clean_accuracy", "published_robust_accuracy", "published_asr",
                     "source", "domain", "attack", "n", "clean_accuracy", "robust_accuracy", "asr"]
#: Bounds are taken for the same up to this share: some leaderboard entries say 0.031 for 8/255.
_SAME = 0.02


def published_table(found: Iterable[Measured], attack: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Return ``published.csv``: one row per published result and measured one of the same kind, rates as fractions.

    A bound is compared with attacks within the same norm and bound, at their largest budget; the study's rows with
    SimBA of the same budget; corruptions with the mean over the benchmark's. A model that was attacked in another way
    only has its row all the same, with nothing measured.

    Args:
        found: What was measured.
        attack: The table of ``attack.csv``; may be empty, and so may the next.
        summary: The table of ``shift_summary.csv``.
    """
    entries: list[dict[str, Any]] = []
    for model, name in {run.model: run.evaluation.model for run in found}.items():
        own = [table[table["model"] == model] if len(table) else table for table in (attack, summary)]
        for row in published(name):
            measured = _measured(row, *own)
            if not measured and len(own[0]) and row.threat in ("Linf", "L2"):
                measured = [{}]
            entries += [{
                "model": model, "network": row.network, "published_on": row.dataset, "threat": row.threat,
                "published_epsilon": row.epsilon, "published_budget": row.budget, "published_attack": row.attack,
                "published_clean_accuracy": row.clean_accuracy, "published_robust_accuracy": row.robust_accuracy,
                "published_asr": row.asr, "source": row.source, **values} for values in measured]
    return pd.DataFrame(entries, columns=PUBLISHED_COLUMNS).astype({"published_budget": "Int64", "n": "Int64"})


def _measured(row: Published, attack: pd.DataFrame, summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what was measured of the same kind, of one model."""
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
