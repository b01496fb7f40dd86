"""The shift test: from typed options to rows, tables and a report. Each cell is loaded once for all models."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.analysis.findings import check_settings
from bench.analysis.reporting import Results
from bench.options.protocol import protocol_facts
from bench.options.shift import ShiftOptions
from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.kept import DUPLICATES
from bench.rows.parts import Rows
from bench.rows.store import Store
from bench.running.cells import Cell, default_domains, list_cells
from bench.running.checks import check_classes, load_models, reading_for
from bench.running.cluster import pool
from bench.running.computing import Computing, computing
from bench.running.evaluate import classify_all, finish, report_run, tabled
from bench.running.loading import DomainSpec, ModelSpec, try_models
from bench.running.matching import match_clean
from bench.running.overlap import training_images, write_training_images
from bench.running.prepare import facts_of, prepare
from bench.running.slices import Request, ShiftSlice, shift_slice
from bench.running.workers import Pool
from framebench.domains import Reading, data_root
from framebench.errors import InputError
from framebench.files import writable_folder
from framebench.models.registry import LoadedModel
from framebench.progress import progress

if TYPE_CHECKING:
    from tqdm.std import tqdm

_log = logging.getLogger(__name__)

#: Models that a worker holds at a time: enough that the time to load an image hardly counts.
_TOGETHER = 16


def run(options: ShiftOptions) -> Results:
    """Measure models under domain shift, and write rows, tables and the report under ``options.out``.

    Raises:
        InputError: for options, models, images or stored results that can't be used. All are checked before the first
            image is evaluated.
    """
    root = data_root(options.data_root)
    writable_folder(options.out)
    models, notes = _models(options)
    setup = computing(options)
    domains = options.domains or default_domains(options.data_root)
    reading = reading_for(options, models, domains)
    cells = list_cells(domains, root, options.corruptions, options.severities, options.n, options.seed,
                       workers=setup.threads, reading=reading)
    _check_classes(cells)
    for title, hint in dict.fromkeys((cell.title, cell.images.hint) for cell in cells):
        _log.info("data: %s%s", title, f"; {hint}" if hint else "")
    duplicates = training_images(cells, root)
    store = Store(options.out)
    with store.lock(repair=options.repair):
        check_settings(options.report_settings(), [*store.models(), *((model.name, model.digest) for model in models)])
        DUPLICATES.read(options.out)  # a damaged file is refused before anything is evaluated
        with tabled(store, options.report_settings(tuple(notes))):
            left_out: tuple[str, ...] = ()
            planned = plan(cells, models, store, options.n, protocol=protocol_facts(options))
            if options.spread and planned.models:
                with pool(options, models, domains) as workers:
                    left_out = _spread(workers, planned, options, root, reading)
            else:
                evaluate(planned, setup)
        write_training_images(options.out, cells, duplicates)
        return report_run(options.out, options.report_settings(tuple(notes), left_out))


def _models(options: ShiftOptions) -> tuple[list[LoadedModel], list[str]]:
    """Return the models, and notes on how they were matched in clean accuracy, one sentence per model."""
    if options.match_clean is None:
        return load_models(options.models, options.precision, spread=options.spread), []
    names = options.models or tuple(model.name for model in load_models(()))
    matches = match_clean([name for name in names if isinstance(name, str)], options.match_clean)
    matched = [match.model for match in matches] + [match.reference for match in matches if match.reference]
    modules = [model for model in names if isinstance(model, LoadedModel)]  # from Python: there is no run to match
    for match in matches:
        _log.info("%s", match.note)
    chosen: list[str | LoadedModel] = [*dict.fromkeys(matched), *modules]
    return load_models(chosen, options.precision, spread=options.spread), [match.note for match in matches]


def _check_classes(cells: Sequence[Cell]) -> None:
    """Check that all cells have the same classes, so that one model can fit all of them."""
    first = cells[0]
    for cell in cells:
        if cell.images.classes != first.images.classes:
            these, those = (", ".join(each.images.classes[:3]) for each in (first, cell))
            raise InputError(f"{first.name} and {cell.name} have different classes ({these}, ... and {those}, ...), "
                             "so no model fits both; give each a command of its own")


@dataclass(frozen=True)
class Plan:
    """Models and cells to evaluate. A model is known by its index.

    Attributes:
        cells: The cells.
        ids: For each cell, the ids of its images, int64 [n].
        rows: For each cell, the rows so far of every model.
        models: Index -> model, for the models that have images left.
    """

    cells: Sequence[Cell]
    ids: Sequence[np.ndarray]
    rows: Sequence[Sequence[Rows]]
    models: Mapping[int, LoadedModel]

    @property
    def total(self) -> int:
        """The number of rows when all is done."""
        return sum(len(ids) * len(rows) for ids, rows in zip(self.ids, self.rows, strict=True))

    def missing(self, cell: int) -> dict[int, np.ndarray]:
        """Return model -> ids of the images of a cell that have no row at this moment."""
        left = {i: self.ids[cell][~np.isin(self.ids[cell], rows.ids)] for i, rows in enumerate(self.rows[cell])}
        return {i: ids for i, ids in left.items() if len(ids)}

    def left(self, model: int) -> int:
        """Return the number of images, over all cells, for which a model has no row."""
        return sum(int((~np.isin(ids, rows[model].ids)).sum()) for ids, rows in zip(self.ids, self.rows, strict=True))

    def kind(self, model: int) -> str | None:
        """Return the form of a model that made its rows so far, if it has rows."""
        return next((kind for rows in self.rows if (kind := rows[model].facts.predictor)), None)


def plan(cells: Sequence[Cell], models: Sequence[LoadedModel], store: Store, n: int | None, *,
         protocol: dict[str, object] | None = None) -> Plan:
    """Open the rows of every model on every cell.

    Args:
        cells: What `list_cells` returned.
        models: The models.
        store: Where the rows are kept.
        n: Images of each cell; None for all.
        protocol: The protocol, which is kept with the rows.

    Raises:
        InputError: if a model was trained for other classes.
    """
    ids = [cell.images.first(n if n is None else min(n, len(cell.images))) for cell in cells]
    rows = [[_opened(store, model, cell, protocol) for model in models] for cell in cells]
    _warn_of_names(cells, rows)
    planned, left = Plan(cells, ids, rows, {}), dict[int, LoadedModel]()
    for i, model in enumerate(models):
        check_classes(model, cells[0].images)  # even if all rows exist already; all cells have the same classes
        if planned.left(i):
            left[i] = model
    store.expect(sum(map(planned.left, left)))
    return dataclasses.replace(planned, models=left)


def evaluate(planned: Plan, setup: Computing) -> None:
    """Compute the rows that models lack.

    Raises:
        InputError: if a model does not fit the images; all models are checked before the first image is evaluated.
    """
    ready = {i: prepare(model, planned.cells[0].images, kind=planned.kind(i), setup=setup, passes=planned.left(i))
             for i, model in planned.models.items()}
    with _bar(planned) as bar:
        for k, cell in enumerate(planned.cells):
            missing = planned.missing(k)  # not earlier: two cells can have the same images
            bar.update(len(planned.ids[k]) * len(planned.rows[k]) - sum(map(len, missing.values())))
            if missing:
                bar.set_description(_title(cell), refresh=False)
                bar.update(0)  # shows the description, in a log file no more often than the bar writes lines
                classify_all(cell.images, [(planned.rows[k][i], ready[i], ids) for i, ids in missing.items()],
                             batch_size=setup.batch_size, report=bar.update)
            for rows in planned.rows[k]:
                finish(rows)


def _spread(workers: Pool, planned: Plan, options: ShiftOptions, root: Path | None, reading: Reading,
            ) -> tuple[str, ...]:
    """Let workers evaluate, join their rows, and return flags of what they left out."""
    cells = [DomainSpec(cell.name, root, reading, cell.images.digest, cell.corruption, cell.severity, options.seed,
                        cell.set) for cell in planned.cells]
    specs = {i: ModelSpec(model.given, model.digest, cells[0], planned.kind(i)) for i, model in planned.models.items()}
    tried = try_models(workers, options, {spec: planned.left(i) for i, spec in specs.items()})
    ready = {i: tried[spec] for i, spec in specs.items() if spec in tried}
    missing = [planned.missing(k) for k in range(len(cells))]
    groups = [(list(ready)[start : start + _TOGETHER], k) for start in range(0, len(ready), _TOGETHER)
              for k in range(len(cells))]
    left = [np.unique(np.concatenate([np.zeros(0, np.int64), *(missing[k][i] for i in group if i in missing[k])]))
            for group, k in groups]
    slices = workers.slices(left, least=options.batch_size, most=4 * options.batch_size)
    tasks = [ShiftSlice(options, cells[k], tuple(ready[i] for i in group),
                        tuple(_request(planned.rows[k][i], missing[k].get(i), part) for i in group))
             for (group, k), parts in zip(groups, slices, strict=True) for part in parts]
    with _bar(planned) as bar:
        bar.update(planned.total - sum(len(ids) for by_model in missing for ids in by_model.values()))
        given_up = workers.compute(shift_slice, tasks, lambda task, new: bar.update(new))
    for rows in itertools.chain(*planned.rows):
        finish(rows)
    left_out = [Request.of(planned.rows[k][i], ids) for k, by_model in enumerate(missing)
                for i, ids in by_model.items() if i not in ready]
    left_out += [request for task in given_up for request in task.requests if request]
    return tuple(request.left_out() for request in left_out)


def _request(rows: Rows, missing: np.ndarray | None, part: np.ndarray) -> Request | None:
    """Request those of a slice's images for which a model has no row; None if it has all."""
    ids = np.zeros(0, np.int64) if missing is None else missing[np.isin(missing, part)]
    return Request.of(rows, ids) if len(ids) else None


def _bar(planned: Plan) -> tqdm[Any]:
    return progress(planned.total, unit="image", desc="shift")


def _title(cell: Cell) -> str:
    return " ".join([cell.name, cell.corruption, str(cell.severity or "")]).strip()


def _opened(store: Store, model: LoadedModel, cell: Cell, protocol: dict[str, object] | None) -> Rows:
    facts = facts_of(model, cell.images) | {"title": cell.title}
    return store.open(Evaluation(model.name, model.digest, cell.name, cell.images.digest, corruption=cell.corruption,
                                 severity=cell.severity),
                      Facts(**facts, set=cell.set, clean=cell.clean, protocol=protocol))


def _warn_of_names(cells: Sequence[Cell], opened: Sequence[Sequence[Rows]]) -> None:
    """Warn of cells whose rows stand in the tables under the name of another set of the same images."""
    for name, tabled_as in dict.fromkeys((cell.name, rows.evaluation.domain)
                                         for cell, of_cell in zip(cells, opened, strict=True) for rows in of_cell):
        if name != tabled_as:
            _log.warning("%s has the same images as %s, whose rows are used; tables call it %s", name, tabled_as,
                         tabled_as)
