"""The attack on models: from typed options to rows, tables and a report."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.analysis.findings import check_settings
from bench.analysis.reporting import Results
from bench.options.attack import AttackOptions
from bench.options.protocol import protocol_facts
from bench.rows.adversarial import Adversarial, lost
from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.parts import Rows
from bench.rows.store import Store
from bench.running.checks import check_classes, load_models, reading_for
from bench.running.cluster import pool
from bench.running.computing import Computing, computing
from bench.running.evaluate import attack_images, finish, pictured, report_run, tabled
from bench.running.evaluations import attack_evaluation, make_attack
from bench.running.loading import DomainSpec, ModelSpec, try_models
from bench.running.prepare import Prepared, facts_of, fitted, prepare
from bench.running.progress import AttackProgress, Tally
from bench.running.slices import LEAST, AttackSlice, Request, attack_slice
from bench.running.workers import Pool
from framebench.attacks.base import Attack
from framebench.domains import Domain, data_root, default_domain, load_domain
from framebench.errors import InputError
from framebench.files import writable_folder
from framebench.models.blackbox import BlackBoxModel
from framebench.models.registry import LoadedModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    """An evaluation that is ready to run.

    Attributes:
        name: Name of its progress bar.
        model: The model.
        epsilon: The epsilon that was given, if any.
        rows: Its rows so far. If no image is left to attack, these can be the rows of a longer run.
        attack: The attack.
        left: Ids of the images to attack: without a row, or without the files kept beside it.
        saved: Store of all attacked images, or None.
        passes: Roughly how many images the model will classify, at least.
    """

    name: str
    model: LoadedModel
    epsilon: float | None
    rows: Rows
    attack: Attack
    left: np.ndarray
    saved: Adversarial | None
    passes: float


class Attacked(NamedTuple):
    """The outcome of an attack on models.

    Attributes:
        results: Tables and report of the whole output folder.
        evaluations: The evaluations of this call.
    """

    results: Results
    evaluations: tuple[Evaluation, ...]


def attack(options: AttackOptions) -> Attacked | None:
    """Attack models, and write rows, tables and the report under ``options.out``.

    Returns:
        None if a shard has no images.

    Raises:
        InputError: for options, models, images or stored results that can't be used. All are checked before the first
            image is attacked.
    """
    attacks = {epsilon: make_attack(options, epsilon) for epsilon in options.epsilon or (None,)}
    root = data_root(options.data_root)
    models = load_models(options.models, options.precision, spread=options.spread)
    chosen = options.domain or default_domain(options.data_root)
    reading = reading_for(options, models, [chosen])
    domain = chosen if isinstance(chosen, Domain) else load_domain(chosen, root, reading)
    height, width, channels = domain.shape
    for variant in attacks.values():
        variant.check((channels, height, width))
    ids = domain.first(options.count(len(domain)))
    part = ids if options.shard is None else ids[options.shard.part - 1 :: options.shard.parts]
    setup = computing(options)
    writable_folder(options.out)
    if not len(part):  # a cluster's script may make more shards than there are images
        writable_folder(options.out / "examples")  # `report` joins it like the others
        _log.info("nothing to do: shard %s has none of the %d images", options.shard, len(ids))
        return None
    here = f", of which {len(part)} here" if options.shard else ""
    hint = f"; {domain.hint}" if domain.hint else ""
    _log.info("data: %s, n = %d%s%s", domain.title, len(ids), here, hint)
    store = Store(options.out)
    with store.lock(repair=options.repair):
        check_settings(options.report_settings(), [*store.models(), *((model.name, model.digest) for model in models)])
        with tabled(store, options.report_settings()):
            runs = _plan(models, domain, part, attacks, options, store)
            store.expect(sum(len(planned.left) for planned in runs))
            given_up: tuple[str, ...] = ()
            if options.spread and any(len(planned.left) for planned in runs):
                with pool(options, models, [chosen], [options.attack]) as workers:
                    spec = DomainSpec(str(chosen), root, reading, domain.digest)
                    given_up = _spread(workers, runs, part, spec, options)
            else:
                _attack_all(runs, domain, part, setup)
        results = report_run(options.out, options.report_settings(left_out=given_up))
        return Attacked(results, tuple(planned.rows.evaluation for planned in runs))


def _plan(models: Sequence[LoadedModel], domain: Domain, ids: np.ndarray, attacks: Mapping[float | None, Attack],
          options: AttackOptions, store: Store) -> list[_Run]:
    """Open the rows of every model, epsilon and seed."""
    runs = []
    for model in models:
        check_classes(model, domain)  # though all rows may be there already, of the same weights under another card
        for (epsilon, attack), seed in itertools.product(attacks.items(), options.all_seeds):
            _check_needs(model, attack, str(options.attack))
            evaluation = attack_evaluation(model, domain, attack, options.attack, seed)
            facts = Facts(**facts_of(model, domain), traits=attack.traits, budgets=options.budgets,
                          l2_caps=() if options.l2 is None else (options.l2,), protocol=protocol_facts(options),
                          set=domain.digest)
            name = model.name + (f" epsilon {attack.traits.epsilon:g}" if len(attacks) > 1 else "")
            name += f" seed {seed}" if len(options.all_seeds) > 1 else ""
            rows, left = _opened(evaluation, facts, ids, store, saving=options.save_adversarial,
                                 pictured=pictured(domain) if options.repair else None)
            saved = Adversarial(rows, repair=options.repair) if options.save_adversarial else None
            passes = len(left) * min(attack.traits.budget, options.max_queries or math.inf)
            runs.append(_Run(name, model, epsilon, rows, attack, left, saved, passes))
    return runs


def _opened(evaluation: Evaluation, facts: Facts, ids: np.ndarray, store: Store, *, saving: bool,
            pictured: np.ndarray | None) -> tuple[Rows, np.ndarray]:
    """Return the rows of an evaluation, and the ids of the images that are left to attack.

    An image that has a row in a longer run is not attacked again. If a longer run has all images, its rows are
    returned.

    Args:
        evaluation: The evaluation.
        facts: Its facts.
        ids: The images, int64 [n].
        store: The stored rows.
        saving: Whether attacked images are kept: then only the evaluation's own rows count, which they lie beside.
        pictured: Ids of the images whose pictures are kept. Images that have lost their picture or their attacked image
            are attacked again. None leaves them as they are.
    """
    stored = store.answering(evaluation)
    longer = [rows for rows in stored if rows.evaluation.key != evaluation.key and not saving]
    same = [rows for rows in stored if rows.evaluation.key == evaluation.key]
    finished = np.concatenate([np.zeros(0, np.int64), *(rows.ids for rows in same + longer)])
    again = [lost(rows, pictured, saved=saving) for rows in same if pictured is not None]
    left = ids[~np.isin(ids, finished) | np.isin(ids, np.concatenate([finished[:0], *again]))]
    if longer and not same and not len(left):
        longer[0].note(dataclasses.replace(facts, traits=longer[0].facts.traits))
        rows = longer[0]
    else:
        rows = store.open(evaluation, facts)
    for name, tabled_as, kind in ((evaluation.model, rows.evaluation.model, "model"),
                                  (evaluation.domain, rows.evaluation.domain, "data set")):
        if name != tabled_as:
            _log.warning("%s is the same %s as %s, whose rows are used; tables call it %s", name, kind, tabled_as,
                         tabled_as)
    return rows, left


def _check_needs(model: LoadedModel, attack: Attack, name: str) -> None:
    """Refuse an attack that needs more than a black box returns."""
    box, needs = model.module, attack.traits.needs
    if not isinstance(box, BlackBoxModel):
        return
    if box.labels_only and needs != "labels":
        raise InputError(f"the model {model.name} gives labels alone, and {name} needs {needs}; use a decision-based "
                         "attack such as foolbox:HopSkipJumpAttack or foolbox:BoundaryAttack")
    if needs == "gradients":
        raise InputError(f"the model {model.name} gives no gradients, and {name} needs them; use simba, square or a "
                         "decision-based attack such as foolbox:HopSkipJumpAttack")


def _attack_all(runs: Sequence[_Run], domain: Domain, ids: np.ndarray, setup: Computing) -> None:
    """Prepare all models that have images left, then attack these images."""
    prepared: dict[tuple[str, str | None], Prepared] = {}
    attacks = []
    for planned in runs:
        model, kind = planned.model, planned.rows.facts.predictor
        attacks.append(planned.attack.on(fitted(model, domain).module))
        if len(planned.left) and (model.name, kind) not in prepared:
            ready = prepare(model, domain, kind=kind, setup=setup, gradients=planned.attack.traits.needs == "gradients",
                            passes=planned.passes)
            prepared[model.name, kind] = prepared[model.name, ready.kind] = ready
    for planned, attack in zip(runs, attacks, strict=True):
        left = len(planned.left)
        _attack(planned, attack, prepared[planned.model.name, planned.rows.facts.predictor] if left else None, domain,
                ids, setup)


def _attack(planned: _Run, attack: Attack, ready: Prepared | None, domain: Domain, ids: np.ndarray,
            setup: Computing) -> None:
    """Attack the images that are left, and write new facts."""
    rows = planned.rows
    with AttackProgress(planned.name, len(ids), len(ids) - len(planned.left)) as progress:
        if ready is not None:
            attack_images(rows, attack, progress.counting(ready.predict), domain, planned.left,
                          facts=ready.add_facts(rows.facts), batch_size=setup.batch_size,
                          report=lambda done: progress.update(Tally.of(done)), saved=planned.saved)
        finish(rows)


def _spread(workers: Pool, runs: Sequence[_Run], ids: np.ndarray, domain: DomainSpec,
            options: AttackOptions) -> tuple[str, ...]:
    """Let workers attack the images that are left, join their rows, and return flags of what they left out."""
    specs = [(planned, ModelSpec(planned.model.given, planned.model.digest, domain, planned.rows.facts.predictor,
                                 gradients=planned.attack.traits.needs == "gradients"))
             for planned in runs if len(planned.left)]
    tried = try_models(workers, options, {spec: planned.passes for planned, spec in specs})
    ready = [(planned, tried[spec]) for planned, spec in specs if spec in tried]
    left_out = [Request.of(planned.rows, planned.left) for planned, spec in specs if spec not in tried]
    slices = workers.slices([planned.left for planned, _ in ready], least=LEAST, most=options.batch_size)
    tasks = [AttackSlice(options, planned.epsilon, domain, model, Request.of(planned.rows, part))
             for (planned, model), parts in zip(ready, slices, strict=True) for part in parts]
    unfinished = Counter(task.request.folder for task in tasks)
    rows = {planned.rows.folder: planned.rows for planned in runs}
    total, left = len(ids) * len(runs), sum(len(planned.left) for planned in runs)
    with AttackProgress("attack", total, total - left) as progress:
        def done(task: AttackSlice, tally: Tally) -> None:
            progress.update(tally)
            unfinished[folder := task.request.folder] -= 1
            if not unfinished[folder]:  # join now, while the workers are busy with other evaluations
                finish(rows[folder])

        left_out += [task.request for task in workers.compute(attack_slice, tasks, done)]
    for planned in runs:
        finish(planned.rows)
    return tuple(request.left_out() for request in left_out)
