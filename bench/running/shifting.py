"""The shift test: from typed options to rows, tables and a report. Each cell's pixels are made once for all models."""

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
from bench.running.checks import check_classes, load_models, reading
from bench.running.cluster import Pool, pool, reported
from bench.running.computing import Computing, computing
from bench.running.evaluate import classify_all, finish, tabled
from bench.running.matching import match_clean
from bench.running.overlap import training_images, write_training_images
from bench.running.prepare import facts_of, prepare
from bench.running.slices import Form, Images, ShiftSlice, Wanted, left_out, shift_slice, tried
from framebench.domains import Reading, data_root
from framebench.errors import InputError
from framebench.files import writable_folder
from framebench.models.registry import LoadedModel
from framebench.progress import progress

if TYPE_CHECKING:
    from tqdm.std import tqdm

_log = logging.getLogger(__name__)

#: Models that a worker holds at a time: enough that making the pixels of an image counts for little.
_TOGETHER = 16


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
    domains = options.domains or default_domains(options.data_root)
    read = reading(options, models, domains)
    cells = list_cells(domains, root, options.corruptions, options.severities, options.n, options.seed,
                       workers=how.threads, reading=read)
    _check_alike(cells)
    for title, hint in dict.fromkeys((cell.title, cell.images.hint) for cell in cells):
        _log.info("data: %s%s", title, f"; {hint}" if hint else "")
    duplicates = training_images(cells, root)
    store = Store(options.out)
    with store.lock(repair=options.repair):
        check_settings(options.made_by(), [*store.models(), *((model.name, model.digest) for model in models)])
        DUPLICATES.read(options.out)  # a damaged file is refused before anything is evaluated
        with tabled(store, options.made_by(tuple(notes))):
            lost: tuple[str, ...] = ()
            planned = plan(cells, models, store, options.n, protocol=protocol_facts(options))
            if options.spread and planned.models:
                with pool(options, models, domains) as workers:
                    lost = _spread(workers, planned, options, root, read)
            else:
                evaluate(planned, how)
        write_training_images(options.out, cells, duplicates)
        return reported(options.out, options.made_by(tuple(notes), lost))


def _models(options: ShiftOptions) -> tuple[list[LoadedModel], list[str]]:
    """Return the models, and what was matched in clean accuracy, one sentence per model."""
    if options.match_clean is None:
        return load_models(options.models, options.precision, known=options.spread), []
    names = options.models or tuple(model.name for model in load_models(()))
    matches = match_clean([name for name in names if isinstance(name, str)], options.match_clean)
    matched = [match.model for match in matches] + [match.reference for match in matches if match.reference]
    modules = [model for model in names if isinstance(model, LoadedModel)]  # from Python: there is no run to match
    for match in matches:
        _log.info("%s", match.note)
    chosen: list[str | LoadedModel] = [*dict.fromkeys(matched), *modules]
    return load_models(chosen, options.precision, known=options.spread), [match.note for match in matches]


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


@dataclass(frozen=True)
class Plan:
    """What is to be evaluated.

    Attributes:
        cells: The cells.
        ids: Of each cell, the ids of the images that are asked for, int64 [n].
        rows: Of each cell, the rows so far of every model.
        models: The models by their numbers; those that have no image left are not there.
    """

    cells: Sequence[Cell]
    ids: Sequence[np.ndarray]
    rows: Sequence[Sequence[Rows]]
    models: Mapping[int, LoadedModel]

    @property
    def total(self) -> int:
        """How many rows there are in the end."""
        return sum(len(ids) * len(rows) for ids, rows in zip(self.ids, self.rows, strict=True))

    def missing(self, cell: int) -> dict[int, np.ndarray]:
        """Return the ids of the images of a cell that have no row now, by the models' numbers."""
        left = {i: self.ids[cell][~np.isin(self.ids[cell], rows.ids)] for i, rows in enumerate(self.rows[cell])}
        return {i: ids for i, ids in left.items() if len(ids)}

    def left(self, model: int) -> int:
        """Return how many images of all cells a model has no row of."""
        return sum(int((~np.isin(wanted, own[model].ids)).sum()) for wanted, own in
                   zip(self.ids, self.rows, strict=True))

    def kind(self, model: int) -> str | None:
        """Return the form that a model's rows so far were made with, if there are some."""
        return next((kind for own in self.rows if (kind := own[model].facts.predictor)), None)


def plan(cells: Sequence[Cell], models: Sequence[LoadedModel], store: Store, n: int | None, *,
         protocol: dict[str, object] | None = None) -> Plan:
    """Open the rows of every model on every cell.

    Args:
        cells: What `list_cells` returned.
        models: The models.
        store: Where the rows are kept.
        n: Images of each cell; None for all.
        protocol: The protocol that asks, to be kept with the rows.

    Raises:
        InputError: if a model was trained for other classes.
    """
    ids = [cell.images.first(n if n is None else min(n, len(cell.images))) for cell in cells]
    asked = [[_opened(store, model, cell, protocol) for model in models] for cell in cells]
    _warn_of_names(cells, asked)
    planned, left = Plan(cells, ids, asked, {}), dict[int, LoadedModel]()
    for i, model in enumerate(models):
        check_classes(model, cells[0].images)  # though all rows may be there already; the other cells have the same
        if planned.left(i):
            left[i] = model
    store.expect(sum(map(planned.left, left)))
    return dataclasses.replace(planned, models=left)


def evaluate(planned: Plan, how: Computing) -> None:
    """Give every model a row for each image that has none.

    Raises:
        InputError: if a model does not fit the images; all are tried before anything is evaluated.
    """
    ready = {i: prepare(model, planned.cells[0].images, kind=planned.kind(i), how=how, passes=planned.left(i))
             for i, model in planned.models.items()}
    with _bar(planned) as bar:
        for k, cell in enumerate(planned.cells):
            missing = planned.missing(k)  # now: two cells can be of the same images
            bar.update(len(planned.ids[k]) * len(planned.rows[k]) - sum(map(len, missing.values())))
            if missing:
                bar.set_description(_title(cell), refresh=False)
                bar.update(0)  # shows it, but in a log file no more often than the bar writes lines
                classify_all(cell.images, [(planned.rows[k][i], ready[i], ids) for i, ids in missing.items()],
                             batch_size=how.batch_size, report=bar.update)
            for rows in planned.rows[k]:
                finish(rows)


def _spread(workers: Pool, planned: Plan, options: ShiftOptions, root: Path | None, read: Reading) -> tuple[str, ...]:
    """Let workers evaluate, and join what they write; return what they had to leave out."""
    images = [Images(cell.name, root, read, cell.images.digest, cell.corruption, cell.severity, options.seed, cell.set)
              for cell in planned.cells]
    asked = {i: Form(model.given, model.digest, planned.kind(i), (), False, images[0], None)
             for i, model in planned.models.items()}
    found = tried(workers, options, {form: planned.left(i) for i, form in asked.items()})
    going = [i for i in asked if asked[i] in found]
    missing = [planned.missing(k) for k in range(len(planned.cells))]
    groups = [(going[start : start + _TOGETHER], k) for start in range(0, len(going), _TOGETHER)
              for k in range(len(planned.cells))]
    left = [np.unique(np.concatenate([np.zeros(0, np.int64), *(missing[k][i] for i in group if i in missing[k])]))
            for group, k in groups]
    parts = workers.slices(left, least=options.batch_size, most=4 * options.batch_size)
    tasks = [_slice(planned, k, {i: found[asked[i]] for i in group}, missing[k], part, options, images[k])
             for (group, k), own in zip(groups, parts, strict=True) for part in own]
    with _bar(planned) as bar:
        bar.update(planned.total - sum(len(ids) for own in missing for ids in own.values()))
        lost = workers.compute(shift_slice, tasks, lambda task, new: bar.update(new))
    for rows in itertools.chain(*planned.rows):
        finish(rows)
    untried = [Wanted.of(planned.rows[k][i], ids) for k, own in enumerate(missing) for i, ids in own.items()
               if i not in going]
    return tuple(map(left_out, [*untried, *(wanted for task in lost for wanted in task.wanted if wanted)]))


def _slice(planned: Plan, cell: int, forms: Mapping[int, Form], missing: Mapping[int, np.ndarray], part: np.ndarray,
           options: ShiftOptions, images: Images) -> ShiftSlice:
    """Return the slice of some images of a cell, for the models that have no rows of them."""
    own = {i: missing[i][np.isin(missing[i], part)] for i in forms if i in missing}
    wanted = (Wanted.of(planned.rows[cell][i], own[i]) if len(own.get(i, ())) else None for i in forms)
    return ShiftSlice(options, images, tuple(forms.values()), tuple(wanted))


def _bar(planned: Plan) -> tqdm[Any]:
    return progress(planned.total, unit="image", desc="shift")


def _title(cell: Cell) -> str:
    return " ".join([cell.name, cell.corruption, str(cell.severity or "")]).strip()


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
