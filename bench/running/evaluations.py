"""Attacks and evaluations from options: the same in the process that plans a run and in its workers."""

from __future__ import annotations

from bench.options.attack import AttackOptions
from bench.rows.evaluation import Evaluation
from framebench.attacks.base import Attack
from framebench.attacks.registry import canonical, make
from framebench.domains import Domain
from framebench.models.registry import LoadedModel
from framebench.user_code import UserFunction


def make_attack(options: AttackOptions, epsilon: float | None) -> Attack:
    """Return the attack with one of the epsilons of the options.

    Raises:
        InputError: for an unknown attack, and for options that it does not have.
    """
    return make(options.attack, budget=options.budgets[-1], epsilon=epsilon, max_queries=options.max_queries,
                options={**options.simba_options(), **options.attack_options})


def attack_evaluation(model: LoadedModel, domain: Domain, attack: Attack, name: str | UserFunction,
                      seed: int) -> Evaluation:
    """Return the evaluation of a model under an attack; `name` is the attack as the user gives it."""
    return Evaluation(model.name, model.digest, domain.name, domain.digest, canonical(name), attack.settings,
                      attack.traits.budget, seed)
