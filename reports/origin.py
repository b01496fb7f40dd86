"""Where the numbers of the report come from, as the page prints it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from bench.analysis.measured import Measured
from framebench.reports.document import Text


def origin(run: Measured) -> dict[str, Any]:
    """Return what is known of the rows of an evaluation, without its picture."""
    facts = dataclasses.asdict(run.facts)
    del facts["picture"]
    return {"evaluation": dataclasses.asdict(run.evaluation), "key": run.evaluation.key,
            "rows": [rows.folder.name for rows in (run.rows, *run.longer)], **facts}


def resized(runs: Iterable[Measured]) -> list[Text]:
    """Return which models resize the images before their network sees them; nothing where none does."""
    said = dict.fromkeys(f"{run.model} resizes {run.facts.resizing}" for run in runs if run.facts.resizing)
    return [Text("All models are given the same images. Inside, before its network sees them, "
                 + "; ".join(said) + ".", "soft")] if said else []


def shared_origin(cells: Sequence[Measured]) -> dict[str, Any]:
    """Return what the cells of one model on one domain have in common, and all that made any of them."""
    facts = origin(cells[0])
    made = dict.fromkeys(json.dumps(entry) for cell in cells for entry in cell.facts.provenance)
    facts["provenance"] = [json.loads(text) for text in made]
    facts["predictor"] = list(dict.fromkeys(cell.facts.predictor for cell in cells))
    facts["rows"] = [cell.rows.folder.name for cell in cells]
    return facts
