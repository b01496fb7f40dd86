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
from bench.running.asking import attack_of, attacked
from bench.running.checks import check_classes, load_models, reading
from bench.running.cluster import Pool, pool, reported
from bench.running.computing import Computing, computing
from bench.running.evaluate import attack_images, finish, pictured, tabled
from bench.running.prepare import Prepared, facts_of, fitted, prepare
from bench.running.progress import AttackProgress, Tally
from bench.running.slices import LEAST, AttackSlice, Form, Images, Wanted, attack_slice, left_out, tried
from framebench.attacks.base import Attack
from framebench.domains import Domain, data_root, default_domain, load_domain
from framebench.errors import InputError
from framebench.files import writable_folder
from framebench.models.blackbox import BlackBoxModel
from framebench.models.registry import LoadedModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    """An evaluation that is ready to be run.

    Attributes:
        name: What its progress bar is called.
        model: The model.
        epsilon: The epsilon that was given, if one was.
        rows: Its rows so far, or, where no image is left to be attacked, rows that answer for it.
        attack: The attack.
        left: Ids of the images that have no row yet, or have lost what is kept beside it.
        saved: Where all attacked images are kept, or None.
        passes: Images that the model is to be asked about, about as many or more.
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
    """What an attack on models has led to.

    Attributes:
        results: The tables and the report of the whole output folder.
        asked: What of it this call has asked for.
    """

    results: Results
    asked: tuple[Evaluation, ...]


def run(options: AttackOptions) -> Results | None:
    """As `attack`; return the tables and the report alone."""
    done = attack(options)
    return None if done is None else done.results


def attack(options: AttackOptions) -> Attacked | None:
    """Attack models, and write rows, tables and the report under ``options.out``.

    Returns:
        None where a shard has none of the images.

    Raises:
        InputError: for options, models, images or stored results that can't be used. All are tried before anything is
            attacked.
    """
    attacks = {epsilon: attack_of(options, epsilon) for epsilon in options.epsilon or (None,)}
    root = data_root(options.data_root)
    models = load_models(options.models, options.precision, known=options.spread)
    chosen = options.domain or default_domain(options.data_root)
    read = reading(options, models, [chosen])
    domain = chosen if isinstance(chosen, Domain) else load_domain(chosen, root, read)
    height, width, channels = domain.shape
    for each in attacks.values():
        each.check((channels, height, width))
    ids = domain.first(options.count(len(domain)))
    part = ids if options.shard is None else ids[options.shard.part - 1 :: options.shard.parts]
    how = computing(options)
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
        check_settings(options.made_by(), [*store.models(), *((model.name, model.digest) for model in models)])
        with tabled(store, options.made_by()):
            runs = _plan(models, domain, part, attacks, options, store)
            store.expect(sum(len(planned.left) for planned in runs))
            given_up: tuple[str, ...] = ()
            if options.spread and any(len(planned.left) for planned in runs):
                with pool(options, models, [chosen], [options.attack]) as workers:
                    given_up = _spread(workers, runs, part, Images(str(chosen), root, read, domain.digest), options)
            else:
                _attack_all(runs, domain, part, how)
        results = reported(options.out, options.made_by(left_out=given_up))
        return Attacked(results, tuple(planned.rows.evaluation for planned in runs))


def _plan(models: Sequence[LoadedModel], domain: Domain, ids: np.ndarray, attacks: Mapping[float | None, Attack],
          options: AttackOptions, store: Store) -> list[_Run]:
    """Open the rows of every model, epsilon and seed."""
    runs = []
    for model in models:
        check_classes(model, domain)  # though all rows may be there already, of the same weights under another card
        for (epsilon, attack), seed in itertools.product(attacks.items(), options.all_seeds):
            _check_needs(model, attack, str(options.attack))
            evaluation = attacked(model, domain, attack, options.attack, seed)
            facts = Facts(**facts_of(model, domain), traits=attack.traits, budgets=options.budgets,
                          l2_caps=() if options.l2 is None else (options.l2,), protocol=protocol_facts(options),
                          set=domain.digest)
            name = model.name + (f" epsilon {attack.traits.epsilon:g}" if len(attacks) > 1 else "")
            name += f" seed {seed}" if len(options.all_seeds) > 1 else ""
            rows, left = _opened(evaluation, facts, ids, store, own=options.save_adversarial,
                                 pictured=pictured(domain) if options.repair else None)
            saved = Adversarial(rows, repair=options.repair) if options.save_adversarial else None
            passes = len(left) * min(attack.traits.budget, options.max_queries or math.inf)
            runs.append(_Run(name, model, epsilon, rows, attack, left, saved, passes))
    return runs


def _opened(evaluation: Evaluation, facts: Facts, ids: np.ndarray, store: Store, *, own: bool,
            pictured: np.ndarray | None) -> tuple[Rows, np.ndarray]:
    """Return the rows that the images without a row belong to, and the ids of these images.

    Rows of a longer run answer for the images that they have, and for no others: those are attacked no longer than is
    asked for. Where the longer run has all images, its rows are returned.

    Args:
        evaluation: What is asked.
        facts: Its facts.
        ids: The images, int64 [n].
        store: The stored rows.
        own: Whether the evaluation's own rows alone count, since attacked images are kept with these.
        pictured: Ids of the images whose pictures are kept, to attack again what has lost its picture or its attacked
            image; None to leave these as they are.
    """
    answering = store.answering(evaluation)
    longer = [rows for rows in answering if rows.evaluation.key != evaluation.key and not own]
    mine = [rows for rows in answering if rows.evaluation.key == evaluation.key]
    known = np.concatenate([np.zeros(0, np.int64), *(rows.ids for rows in mine + longer)])
    again = [lost(rows, pictured, saved=own) for rows in mine if pictured is not None]
    left = ids[~np.isin(ids, known) | np.isin(ids, np.concatenate([known[:0], *again]))]
    if longer and not mine and not len(left):
        longer[0].note(dataclasses.replace(facts, traits=longer[0].facts.traits))
        rows = longer[0]
    else:
        rows = store.open(evaluation, facts)
    for asked, stored, what in ((evaluation.model, rows.evaluation.model, "model"),
                                (evaluation.domain, rows.evaluation.domain, "data set")):
        if asked != stored:
            _log.warning("%s is the same %s as %s, whose rows are used; tables call it %s", asked, what, stored, stored)
    return rows, left


def _check_needs(model: LoadedModel, attack: Attack, name: str) -> None:
    """Refuse an attack that asks for more than a black box answers."""
    box, needs = model.module, attack.traits.needs
    if not isinstance(box, BlackBoxModel):
        return
    if box.labels_only and needs != "labels":
        raise InputError(f"the model {model.name} gives labels alone, and {name} needs {needs}; use a decision-based "
                         "attack such as foolbox:HopSkipJumpAttack or foolbox:BoundaryAttack")
    if needs == "gradients":
        raise InputError(f"the model {model.name} gives no gradients, and {name} needs them; use simba, square or a "
                         "decision-based attack such as foolbox:HopSkipJumpAttack")


def _attack_all(runs: Sequence[_Run], domain: Domain, ids: np.ndarray, how: Computing) -> None:
    """Attack the images that are left, once all models that have some are made ready."""
    forms: dict[tuple[str, str | None], Prepared] = {}
    attacks = []
    for planned in runs:
        model, kind = planned.model, planned.rows.facts.predictor
        attacks.append(planned.attack.on(fitted(model, domain).module))
        if len(planned.left) and (model.name, kind) not in forms:
            made = prepare(model, domain, kind=kind, how=how, gradients=planned.attack.traits.needs == "gradients",
                           passes=planned.passes)
            forms[model.name, kind] = forms[model.name, made.kind] = made
    for planned, attack in zip(runs, attacks, strict=True):
        ready = forms[planned.model.name, planned.rows.facts.predictor] if len(planned.left) else None
        _attack(planned, attack, ready, domain, ids, how)


def _attack(planned: _Run, attack: Attack, ready: Prepared | None, domain: Domain, ids: np.ndarray,
            how: Computing) -> None:
    """Attack the images that are left, and write what is new of the facts."""
    rows = planned.rows
    with AttackProgress(planned.name, len(ids), len(ids) - len(planned.left)) as progress:
        if ready is not None:
            attack_images(rows, attack, progress.counting(ready.predict), domain, planned.left,
                          made=ready.made(rows.facts), batch_size=how.batch_size,
                          report=lambda done: progress.update(Tally.of(done)), saved=planned.saved)
        finish(rows)


def _spread(workers: Pool, runs: Sequence[_Run], ids: np.ndarray, images: Images,
            options: AttackOptions) -> tuple[str, ...]:
    """Let workers attack the images that are left, and join what they write; return what they had to leave out."""
    asked = [(planned, _form(planned, images)) for planned in runs if len(planned.left)]
    forms = tried(workers, options, {form: planned.passes for planned, form in asked})
    going = [(planned, forms[form]) for planned, form in asked if form in forms]
    untried = [Wanted.of(planned.rows, planned.left) for planned, form in asked if form not in forms]
    parts = workers.slices([planned.left for planned, _ in going], least=LEAST, most=options.batch_size)
    tasks = [AttackSlice(options, planned.epsilon, images, form, Wanted.of(planned.rows, part))
             for (planned, form), own in zip(going, parts, strict=True) for part in own]
    unfinished = Counter(task.wanted.folder for task in tasks)
    rows = {planned.rows.folder: planned.rows for planned in runs}
    total, left = len(ids) * len(runs), sum(len(planned.left) for planned in runs)
    with AttackProgress("attack", total, total - left) as progress:
        def done(task: AttackSlice, tally: Tally) -> None:
            progress.update(tally)
            unfinished[folder := task.wanted.folder] -= 1
            if not unfinished[folder]:  # now, since the workers are busy with others
                finish(rows[folder])

        given_up = [task.wanted for task in workers.compute(attack_slice, tasks, done)]
    for planned in runs:
        finish(planned.rows)
    return tuple(map(left_out, untried + given_up))


def _form(planned: _Run, images: Images) -> Form:
    """Return a model as it is to be tried."""
    return Form(planned.model.given, planned.model.digest, planned.rows.facts.predictor, (),
                planned.attack.traits.needs == "gradients", images, None)
