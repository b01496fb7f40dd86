"""Provenance of the numbers in the report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from bench.analysis.measured import Measured
from framebench.reports.document import Text


def origin(run: Measured) -> dict[str, Any]:
    """Return the facts of an evaluation and its rows, without its picture."""
    facts = dataclasses.asdict(run.facts)
    del facts["picture"]
    return {"evaluation": dataclasses.asdict(run.evaluation), "key": run.evaluation.key,
            "rows": [rows.folder.name for rows in (run.rows, *run.longer)], **facts}


def resized(runs: Iterable[Measured]) -> list[Text]:
    """Return the note on models that resize their input images; [] if there are none."""
    sentences = dict.fromkeys(f"{run.model} resizes {run.facts.resizing}" for run in runs if run.facts.resizing)
    return [Text("All models are given the same images. Inside, before its network sees them, "
                 + "; ".join(sentences) + ".", "soft")] if sentences else []


def shared_origin(cells: Sequence[Measured]) -> dict[str, Any]:
    """Return the common facts of the cells of one model on one domain, with the provenance of all of them."""
    facts = origin(cells[0])
    provenance = dict.fromkeys(json.dumps(entry) for cell in cells for entry in cell.facts.provenance)
    facts["provenance"] = [json.loads(text) for text in provenance]
    facts["predictor"] = list(dict.fromkeys(cell.facts.predictor for cell in cells))
    facts["rows"] = [cell.rows.folder.name for cell in cells]
    return facts
