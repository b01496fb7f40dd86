"""The attack on models: what is asked, from the command's options, and the rows that answer it."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.rows.adversarial import Adversarial
from bench.rows.evaluation import Evaluation
from bench.rows.store import Rows, Store
from bench.running.checks import check_classes
from bench.running.evaluate import evaluate
from bench.running.prepare import Prepared, facts_of, prepare
from bench.running.progress import AttackProgress
from bench.running.provenance import provenance
from framebench.attacks import registry
from framebench.attacks.convention import CONVENTIONS, NormalisedClip
from framebench.attacks.simba import Options
from framebench.domains import Domain
from framebench.errors import InputError
from framebench.models.blackbox import BlackBoxModel
from framebench.models.registry import LoadedModel

#: Options that only SimBA has, and their defaults.
SIMBA_ONLY = {"order": "random", "step": "first-improving", "objective": "margin", "linf": None, "targeted": False,
              "clip": "anew", "convention": CONVENTIONS[0]}

#: Those that are left out where they are the default: rows that were made before there was a choice keep their key.
_LATER = ("clip", "convention")


@dataclass(frozen=True)
class Plan:
    """An attack as it is asked for.

    Attributes:
        attack: Its name.
        variants: Its options as they are kept with the rows, once for every epsilon.
        seeds: Seeds to run it with.
        budgets: Budgets to be tabled, ascending.
        cap: Cap on L2 to be tabled besides, or None.
        keep_images: Whether all attacked images are kept.
    """

    attack: str
    variants: list[dict[str, Any]]
    seeds: list[int]
    budgets: list[int]
    cap: float | None
    keep_images: bool


@dataclass(frozen=True)
class Computing:
    """How to compute, which changes the speed and not the rows.

    Attributes:
        device: Where.
        threads: CPU threads.
        batch_size: Images a forward pass.
    """

    device: torch.device
    threads: int
    batch_size: int


@dataclass(frozen=True)
class _Run:
    """An evaluation that is ready to be run.

    Attributes:
        name: What its progress bar is called.
        rows: Its rows so far.
        ready: The model in the form of the rows; None where no row is missing.
        convention: Where the attack clips, if not in [0, 1] pixel space.
    """

    name: str
    rows: Rows
    ready: Prepared | None
    convention: NormalisedClip | None


def plan(arguments: argparse.Namespace, budgets: list[int]) -> Plan:
    """Check the command's options and make them a plan.

    Raises:
        InputError: for options that can't be, or that the attack does not have.
    """
    name, cap = arguments.attack, arguments.l2
    if cap is not None and not 0 < cap < float("inf"):
        raise InputError(f"--l2 must be above 0 and finite, not {cap}")
    seeds = arguments.seeds or [arguments.seed]
    if len(set(seeds)) != len(seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: give each seed once")
    epsilons = arguments.epsilon or [None]
    if len(set(epsilons)) != len(epsilons):
        raise InputError(f"--epsilon {' '.join(map(str, epsilons))}: give each epsilon once")
    planned = _simba if name == "simba" else _other
    variants = [planned(arguments, budgets[-1], epsilon) for epsilon in epsilons]
    return Plan(name, variants, seeds, budgets, cap, arguments.save_adversarial)


def _simba(arguments: argparse.Namespace, budget: int, epsilon: float | None) -> dict[str, Any]:
    if arguments.attack_option:
        raise InputError("simba takes no --attack-option; its options are --basis, --order, --step, --objective, "
                         "--linf, --targeted, --clip and --convention")
    chosen = {name: getattr(arguments, name) for name in SIMBA_ONLY}
    convention = chosen.pop("convention")
    options = dataclasses.asdict(Options(
        max_iterations=budget, epsilon=Options.epsilon if epsilon is None else epsilon, basis=arguments.basis,
        max_queries=arguments.max_queries, **chosen)) | {"convention": convention}
    return {name: value for name, value in options.items() if name not in _LATER or value != SIMBA_ONLY[name]}


def _other(arguments: argparse.Namespace, budget: int, epsilon: float | None) -> dict[str, Any]:
    defaults = SIMBA_ONLY if arguments.attack == "noise" else {**SIMBA_ONLY, "basis": "pixel"}
    for option, default in defaults.items():
        if getattr(arguments, option) != default:
            raise InputError(f"--{option} is an option of simba, not of {arguments.attack}; leave it out")
    return registry.plan(arguments.attack, budget, epsilon=epsilon, given=arguments.attack_option,
                         basis=arguments.basis, max_queries=arguments.max_queries)


def attack_models(models: Sequence[LoadedModel], domain: Domain, ids: np.ndarray, asked: Plan, store: Store, *,
                  computing: Computing, facts: dict[str, Any]) -> None:
    """Give every model a row for each of `ids`, once for every epsilon and seed, those that have one left out.

    Args:
        models: The models.
        domain: Where the images come from.
        ids: int64 [n].
        asked: The attack.
        store: Where the rows are kept.
        computing: How to compute.
        facts: Kept with all rows besides their own, those that were there before included.

    Raises:
        InputError: if models, images and attack don't fit each other; all are tried before anything is attacked.
    """
    made = provenance(computing.device)
    runs: list[_Run] = []
    for model in models:
        _check(model, asked)
        check_classes(model, domain)  # though all rows may be there already, of the same weights under another card
        convention = NormalisedClip(model.module) if "convention" in asked.variants[0] else None
        forms: dict[str | None, Prepared] = {}
        for options, seed in itertools.product(asked.variants, asked.seeds):
            evaluation = Evaluation(model.name, model.digest, domain.name, domain.digest, asked.attack, options, seed)
            rows = store.open(evaluation, _facts(model, domain, asked, options, made))
            rows.facts |= facts
            if rows.evaluation.model != model.name:
                print(f"{model.name} is the same model as {rows.evaluation.model}, whose rows are used", flush=True)
            if asked.keep_images:
                Adversarial(rows)  # refuses rows whose images were not kept
            name = model.name + (f" epsilon {options['epsilon']:g}" if len(asked.variants) > 1 else "")
            name += f" seed {seed}" if len(asked.seeds) > 1 else ""
            complete = np.isin(ids, rows.ids).all()
            ready = None if complete else _prepared(model, rows, domain, forms, computing)
            runs.append(_Run(name, rows, ready, convention))
    for run in runs:
        _attack(run, domain, ids, computing, keep_images=asked.keep_images)


def _check(model: LoadedModel, asked: Plan) -> None:
    """Refuse an attack that asks for more than a black box answers."""
    box, options = model.module, asked.variants[0]
    if not isinstance(box, BlackBoxModel):
        return
    if box.labels_only and registry.needs_scores(asked.attack, options):
        raise InputError(f"the model {model.name} gives labels alone, and {asked.attack} needs scores; use a "
                         "decision-based attack such as foolbox:HopSkipJumpAttack or foolbox:BoundaryAttack")
    if options.get("white_box"):
        raise InputError(f"the model {model.name} gives no gradients, and {asked.attack} needs them; use simba, square "
                         "or a decision-based attack such as foolbox:HopSkipJumpAttack")


def _facts(model: LoadedModel, domain: Domain, asked: Plan, options: dict[str, Any],
           made: dict[str, Any]) -> dict[str, Any]:
    bound = registry.bound_of(asked.attack, options)
    return {**facts_of(model, domain.title, domain.classes, made), "budgets": asked.budgets,
            "l2_caps": [] if asked.cap is None else [asked.cap], "norm": bound.norm,
            "bound": None if bound.norm is None else bound.epsilon}


def _prepared(model: LoadedModel, rows: Rows, domain: Domain, forms: dict[str | None, Prepared],
              computing: Computing) -> Prepared:
    """Return the model in the form of the rows, from `forms` if it was made before, and note form and flags."""
    kind = rows.facts.get("predictor")
    if kind not in forms:
        made = prepare(model, domain, kind=kind, device=computing.device, threads=computing.threads, say=print,
                       white_box=bool(rows.evaluation.options.get("white_box")))
        forms[kind] = forms[made.kind] = made
    rows.facts["predictor"] = forms[kind].kind
    rows.facts["warnings"] = list(dict.fromkeys([*rows.facts["warnings"], *forms[kind].flags]))
    return forms[kind]


def _attack(run: _Run, domain: Domain, ids: np.ndarray, computing: Computing, *, keep_images: bool) -> None:
    rows = run.rows
    with AttackProgress(run.name, len(ids), int(np.isin(ids, rows.ids).sum())) as progress:
        if run.ready is not None:
            evaluate(rows, progress.counting(run.ready.predict), domain, ids, batch_size=computing.batch_size,
                     report=progress.update, convention=run.convention,
                     saved=Adversarial(rows) if keep_images else None)
        rows.flush()  # budgets, caps and versions may have been added
