"""The shift test: from typed options to rows, tables and a report. Each cell's pixels are made once for all models."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import torch

from bench.analysis.findings import check_settings
from bench.analysis.reporting import Results, write_report
from bench.options.protocol import protocol_facts
from bench.options.shift import ShiftOptions
from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.kept import DUPLICATES
from bench.rows.store import Rows, Store
from bench.running.cells import Cell, default_domains, list_cells, picture_of
from bench.running.checks import check_classes, load_models, reading
from bench.running.computing import Computing, computing
from bench.running.evaluate import classify, tabled
from bench.running.matching import match_clean
from bench.running.overlap import training_images, write_training_images
from bench.running.prepare import Prepared, facts_of, prepare
from bench.running.provenance import provenance
from framebench.domains import data_root
from framebench.errors import InputError
from framebench.files import writable_folder
from framebench.models.registry import LoadedModel
from framebench.progress import progress

_log = logging.getLogger(__name__)


def run(options: ShiftOptions) -> Results:
    """Measure models under domain shift, and write rows, tables and the report under ``options.out``.

    Raises:
        InputError: for options, models, images or stored results that can't be used. All are tried before anything is
            evaluated.
    """
    root = data_root(options.data_root)
    writable_folder(options.out)
    models, notes = _models(options)
    how = computing(options)
    domains = options.domains or default_domains(root)
    cells = list_cells(domains, root, options.corruptions, options.severities, options.n, options.seed,
                       workers=how.threads, reading=reading(options, models, domains))
    _check_alike(cells)
    for title, hint in dict.fromkeys((cell.title, cell.images.hint) for cell in cells):
        _log.info("data: %s%s", title, f"; {hint}" if hint else "")
    duplicates = training_images(cells, root)
    store = Store(options.out)
    with store.lock(repair=options.repair):
        check_settings(options.made_by(), [*store.models(), *((model.name, model.digest) for model in models)])
        DUPLICATES.read(options.out)  # a damaged file is refused before anything is evaluated
        settings = options.made_by(tuple(notes))
        with tabled(store, settings):
            evaluate_cells(cells, models, store, options.n, how=how, protocol=protocol_facts(options))
        write_training_images(options.out, cells, duplicates)
        return write_report(options.out, settings)


def _models(options: ShiftOptions) -> tuple[list[LoadedModel], list[str]]:
    """Return the models, and what was matched in clean accuracy, one sentence per model."""
    if options.match_clean is None:
        return load_models(options.models), []
    names = options.models or tuple(model.name for model in load_models(()))
    matches = match_clean([name for name in names if isinstance(name, str)], options.match_clean)
    matched = [match.model for match in matches] + [match.reference for match in matches if match.reference]
    modules = [model for model in names if isinstance(model, LoadedModel)]  # from Python: there is no run to match
    for match in matches:
        _log.info("%s", match.note)
    return load_models([*dict.fromkeys(matched), *modules]), [match.note for match in matches]


def _check_alike(cells: Sequence[Cell]) -> None:
    """Check that one model can fit all cells.

    Raises:
        InputError: if two have other classes: a model has one list of them.
    """
    first = cells[0]
    for cell in cells:
        if cell.images.classes != first.images.classes:
            theirs, others = (", ".join(some.images.classes[:3]) for some in (first, cell))
            raise InputError(f"{first.name} and {cell.name} have different classes ({theirs}, ... and {others}, ...), "
                             "so no model fits both; give each a command of its own")


def evaluate_cells(cells: Sequence[Cell], models: Sequence[LoadedModel], store: Store, n: int | None, *,
                   how: Computing, protocol: dict[str, object] | None = None) -> None:
    """Give every model a row for each of the first `n` images of every cell, those that have one left out.

    Args:
        cells: What `list_cells` returned.
        models: The models.
        store: Where the rows are kept.
        n: Images of each cell; None for all.
        how: Where and with what to compute.
        protocol: The protocol that asks, to be kept with the rows.

    Raises:
        InputError: if a model does not fit the images; all are tried before anything is evaluated.
    """
    ids = [cell.images.first(n if n is None else min(n, len(cell.images))) for cell in cells]
    asked = [[_opened(store, model, cell, protocol) for model in models] for cell in cells]
    _warn_of_names(cells, asked)
    prepared: dict[int, Prepared] = {}
    for i, model in enumerate(models):
        check_classes(model, cells[0].images)  # though all rows may be there already; the other cells have the same
        if all(np.isin(wanted, own[i].ids).all() for wanted, own in zip(ids, asked, strict=True)):
            continue  # a predictor takes seconds to make
        kind = next((kind for own in asked if (kind := own[i].facts.predictor)), None)
        prepared[i] = prepare(model, cells[0].images, kind=kind, how=how)
    made = provenance(how.device)
    store.expect(sum(int((~np.isin(wanted, rows.ids)).sum()) for wanted, own in zip(ids, asked, strict=True)
                     for rows in own))
    with progress(sum(map(len, ids)) * len(models), unit="image", desc="shift") as bar:
        for cell, wanted, own in zip(cells, ids, asked, strict=True):
            missing = [wanted[~np.isin(wanted, rows.ids)] for rows in own]  # now: two cells can be of the same images
            bar.update(sum(len(wanted) - len(left) for left in missing))
            union = np.unique(np.concatenate(missing))
            if len(union):
                title = " ".join([cell.name, cell.corruption, str(cell.severity or "")]).strip()
                bar.set_description(title, refresh=False)
                bar.update(0)  # shows it, but in a log file no more often than the bar writes lines
                picture = picture_of(cell)
            for i, rows in enumerate(own):
                if len(missing[i]):
                    rows.note(dataclasses.replace(rows.facts, predictor=prepared[i].kind, picture=picture,
                                                  warnings=tuple(prepared[i].flags), provenance=(made,)))
            try:
                for part, x, labels in cell.images.batches(union, how.batch_size):
                    for i, rows in enumerate(own):
                        left = np.isin(part, missing[i])
                        if left.any():
                            classify(rows, prepared[i].predict, _some(x, left), labels[left], part[left])
                            bar.update(int(left.sum()))
            finally:
                for rows in own:
                    rows.finish()


def _some(x: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
    """Return the chosen images, laid out in memory as all are."""
    return x if chosen.all() else x[torch.from_numpy(chosen)].contiguous(memory_format=torch.channels_last)


def _opened(store: Store, model: LoadedModel, cell: Cell, protocol: dict[str, object] | None) -> Rows:
    facts = facts_of(model, cell.images) | {"title": cell.title}
    return store.open(Evaluation(model.name, model.digest, cell.name, cell.images.digest, corruption=cell.corruption,
                                 severity=cell.severity),
                      Facts(**facts, set=cell.set, clean=cell.clean, protocol=protocol))


def _warn_of_names(cells: Sequence[Cell], asked: Sequence[Sequence[Rows]]) -> None:
    """Say where rows of the same images or the same model stand in the tables under another name."""
    said = set()
    for cell, own in zip(cells, asked, strict=True):
        for rows in own:
            if cell.name != rows.evaluation.domain and (cell.name, rows.evaluation.domain) not in said:
                said.add((cell.name, rows.evaluation.domain))
                _log.warning("%s has the same images as %s, whose rows are used; tables call it %s", cell.name,
                             rows.evaluation.domain, rows.evaluation.domain)
