"""The gallery: attacked images and images of shifted domains, for scripts and without them."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bench.analysis.measured import Measured
from bench.rows.pictures import Picture, Pictures
from framebench.attacks.base import MarginPath
from framebench.reports.document import Block, Markup, Part, Plot
from framebench.reports.names import short_names
from framebench.reports.pictures import attacked_pictures, outcome
from framebench.reports.plots import attacked_images

if TYPE_CHECKING:
    from bench.analysis.findings import Findings

#: Limit of all attacked images of a page, in characters, so that a browser opens it at once.
SIZE = 12_000_000
#: Most points of a margin's path on the page; a chart as wide as a card can't resolve more.
POINTS = 60
_IDS = re.compile(r"data:image/(?:png|jpeg);ids=(\d+(?:\+\d+)*);base64,[A-Za-z0-9+/=]+")


def attacked_part(runs: Sequence[Measured], name: Callable[[Measured], str]) -> list[Block]:
    """Return the part with attacked images; [] if none are stored.

    Args:
        runs: The attacks.
        name: Function from a run to the name of its attack.
    """
    figures: list[Block] = []
    for run in runs:
        if columns := attacked_pictures(run):
            figures.append(Plot(
                f"attacked images {run.model} {name(run)}",
                f"{run.model}, {name(run)}: the first images of the common order; those that are classified correctly "
                "before the attack come first. Below each: prediction, iterations and queries spent.",
                partial(attacked_images, columns, _scale(columns))))
    return [Part("Look at the attacked images", [Markup('<div data-gallery="attacked"></div>'), *figures])] \
        if figures else []


def shifted_part(found: Findings) -> list[Block]:
    """Return the part with images of shifted domains; [] if none are stored."""
    strips: dict[tuple[str, str], dict[int, str]] = {}
    short = short_names(cell.domain for cell in found.shifts)
    for cell in found.shifts:
        if cell.facts.picture:
            strip = strips.setdefault((short[cell.domain], cell.evaluation.corruption), {})
            strip.setdefault(cell.evaluation.severity, cell.facts.picture)
    figures = []
    for (domain, corruption), by_severity in strips.items():
        kind, caption = (' class="cut"', f"{domain}: {corruption}, by severity") if corruption else ("", domain)
        images = "".join(f'<img{kind} src="{html.escape(uri)}" alt="">' for _, uri in sorted(by_severity.items()))
        figures.append(f"<figure>{images}<figcaption>{html.escape(caption)}</figcaption></figure>")
    return [Part("What the images look like", [Markup(
        f'<div data-gallery="shifted"></div><div class="gallery">{"".join(figures)}</div>')])] if figures else []


def gallery_payload(found: Findings) -> dict[str, Any]:
    """Return the images of a page and their facts.

    ``attacked`` has ``originals`` (domain and example -> image), ``cards`` (one per image and run) and ``kept``, the
    number of cards without the limit of `SIZE`. ``shifted`` has one entry per domain, see `_shifted`.
    """
    return {"attacked": _attacked(found.attacks), "shifted": _shifted(found)}


def _attacked(runs: Sequence[Measured]) -> dict[str, Any]:
    """Return images of all runs, taking the classes in turn, up to `SIZE`."""
    groups: dict[tuple[int, str, int], list[tuple[Measured, Mapping[Hashable, Any], Picture]]] = {}
    short = short_names(run.domain for run in runs)
    for run in runs:
        kept, frame = Pictures(run.rows.folder), run.rows.frame()
        frame = frame[frame["example"].isin(kept.examples)]
        for turn, row in zip(frame.groupby("label").cumcount(), frame.to_dict("records"), strict=True):
            picture = kept.get(int(row["example"]))
            assert picture is not None
            groups.setdefault((int(turn), short[run.domain], int(row["example"])), []).append((run, row, picture))
    originals: dict[str, str] = {}
    cards: list[dict[str, Any]] = []
    left = SIZE
    for (_, domain, example), entries in sorted(groups.items(), key=lambda item: item[0]):
        original = _png(entries[0][2].clean)
        of_image = [_card(domain, f"{domain}|{example}", *entry) for entry in entries]
        left -= len(original) + sum(len(card["attacked"]) for card in of_image)
        if left < 0 and cards:
            break
        originals[f"{domain}|{example}"] = original
        cards += of_image
    return {"originals": originals, "cards": cards, "kept": sum(map(len, groups.values()))}


def _card(domain: str, original: str, run: Measured, row: Mapping[Hashable, Any], picture: Picture) -> dict[str, Any]:
    classes, traits = run.facts.classes, run.traits
    kind, words = outcome(row, traits)
    return {
        "model": run.model, "domain": domain, "attack": run.name, "example": int(row["example"]),
        "label": classes[row["label"]], "goal": classes[row["goal"]] if traits.targeted else None,
        "before": [classes[row["clean_prediction"]], picture.confidence],
        "after": [classes[row["prediction"]], row["confidence"]], "outcome": kind, "words": words,
        "iterations": int(row["success_iteration"]) if row["success_iteration"] > 0 else None,
        "queries": int(row["queries"]), "l2": row["l2"], "linf": row["linf"], "original": original,
        "attacked": _png(picture.attacked), "path": picture.path and _thinned(picture.path)}


def _thinned(path: MarginPath) -> list[list[float]]:
    """Return queries and margins of at most `POINTS` points of a path, including its ends."""
    chosen = np.unique(np.linspace(0, len(path.queries) - 1, POINTS).round().astype(int))
    return [[path.queries[i] for i in chosen], [float(f"{path.margins[i]:.4g}") for i in chosen]]


def _shifted(found: Findings) -> list[dict[str, Any]]:
    """Return the shifted domains: name, examples [[id, label]], cells, and the cell without corruption or None.

    A cell has its corruption and severity, the images side by side in the order of the examples, and of every model one
    [prediction, confidence], or None, per example.
    """
    groups: dict[str, dict[tuple[str, int], list[Measured]]] = {}
    for cell in found.shifts:
        key = cell.evaluation.corruption, cell.evaluation.severity
        groups.setdefault(cell.domain, {}).setdefault(key, []).append(cell)
    domains, short = dict[str, dict[str, Any]](), short_names(groups)
    for domain, cells in groups.items():
        made = [made for key, own in cells.items() if (made := _cell(*key, own)) is not None]
        if made and all(entry["examples"] == made[0]["examples"] for entry in made):
            examples = [entry.pop("examples") for entry in made][0]
            domains[domain] = {"name": short[domain], "examples": examples, "cells": made, "clean": None}
    for domain, entry in domains.items():
        clean = domains.get(found.clean_of.get(domain, ""))
        if clean is not None and clean["examples"] == entry["examples"]:
            entry["clean"] = clean["cells"][0]
    return list(domains.values())


def _cell(corruption: str, severity: int, cells: Sequence[Measured]) -> dict[str, Any] | None:
    """Return the stored images of a cell with the predictions of its models, one per entry of `cells`."""
    strips = [(cell.facts.picture, match) for cell in cells if (match := _IDS.fullmatch(cell.facts.picture))]
    if not strips:
        return None
    picture, match = strips[0]
    ids = [int(example) for example in match[1].split("+")]
    classes, by_model = cells[0].facts.classes, {cell.model: cell.rows.some(ids) for cell in cells}
    labels = {example: classes[label] for rows in by_model.values() for example, (label, _, _) in rows.items()}
    models = {model: [_prediction(rows.get(example), classes) for example in ids] for model, rows in by_model.items()}
    return {"corruption": corruption, "severity": severity, "strip": picture, "models": models,
            "examples": [[example, labels.get(example)] for example in ids]}


def _prediction(row: tuple[int, int, float] | None, classes: Sequence[str]) -> list[Any] | None:
    return None if row is None else [classes[row[1]], float(f"{row[2]:.4g}")]


def _scale(columns: Sequence[tuple[str, np.ndarray, np.ndarray, str]]) -> float:
    largest = max(float(np.abs(attacked - clean).max()) for _, clean, attacked, _ in columns)
    return max(round(largest, 2), 0.01)


def _png(image: np.ndarray) -> str:
    """Return an image [C, H, W] in [0, 1] as the data URI of an 8-bit PNG."""
    out = io.BytesIO()
    levels = (image.transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(levels if levels.shape[2] > 1 else levels[..., 0]).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
