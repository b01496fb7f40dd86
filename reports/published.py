"""Published numbers of the report's models beside the measured ones."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import pandas as pd

from framebench.reports.document import Cell, Part, Section, Text, table
from framebench.reports.format import count, distance, rate

if TYPE_CHECKING:
    from bench.analysis.findings import Findings


def published_section(found: Findings) -> Section | None:
    """Return the section with published numbers of the report's models; None if there are none."""
    results = found.tables.get("published")
    if results is None:
        return None
    rows: list[list[Cell | str]] = [
        [row["model"], Cell(row["published_attack"], row["network"]), row["source"], _bound(row),
         rate(row["published_clean_accuracy"]), rate(row["published_robust_accuracy"]), rate(row["published_asr"]),
         _attack(row), Cell("–") if pd.isna(row["n"]) else count(row["n"]), rate(row["clean_accuracy"]),
         rate(row["robust_accuracy"]), rate(row["asr"])] for row in results.to_dict("records")]
    header = ["model", "published", "source", "bound or iterations", "clean, published", "robust, published",
              "ASR, published", "measured here", "n", "clean, measured", "robust, measured", "ASR, measured"]
    return Section("Published and measured values", "published values were not measured here", [
        Part("RobustBench's leaderboard and the study's tables", [table("published", header, rows, 3), Text(
            "RobustBench's leaderboard: AutoAttack, or the best known attack where it found more, on the whole test "
            "set (CIFAR) or 5,000 images (ImageNet); common corruptions: the mean over 15 at 5 severities. MIPT 2022: "
            "the study's own networks, not those measured here; docs/definitions.md discusses its table. A dash: "
            "nothing of the same kind was measured, or published.", "soft")])])


def _bound(row: dict[Hashable, Any]) -> str:
    if not pd.isna(row["published_epsilon"]):
        return f"{row['threat']} ≤ {distance(row['published_epsilon'])}"
    return "" if pd.isna(row["published_budget"]) else f"{row['published_budget']:,}"


def _attack(row: dict[Hashable, Any]) -> Cell:
    return Cell("–") if pd.isna(row["domain"]) else Cell(str(row["attack"]) or "no attack", f"on {row['domain']}")
