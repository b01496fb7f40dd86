"""Attack models and measure how often it succeeds within each budget.

Writes OUT/attack.csv (ASR curves), OUT/paired.csv (models compared on the same images), OUT/examples/*.parquet
(a row an image) and OUT/report/index.html. All budgets come from one run at the largest. A run that is killed goes
on where it was; a second call with the same OUT adds to it and redoes nothing.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.commands.options import add_compute, add_data_root, device, positive_int, seed_int, threads
from framebench.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from domains import Domain
    from models.registry import LoadedModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add = parser.add_argument
    add("--models", nargs="+", metavar="M", default=None,
        help="shipped names, .safetensors paths, python:FILE.py:FUNCTION (default: all shipped)")
    add("--domain", metavar="D", default=None, help="images to attack (default: cifar10 under --data-root, else the 20 "
        "that foolbox ships; `bench list` shows all)")
    add("-n", type=int, default=None, help="the first N of the common, class-balanced order (default: at most 1000)")
    add("--attack", choices=["simba"], default="simba", help="(default: simba)")
    add("--basis", choices=["pixel", "dct"], default="pixel", help="directions (default: pixel)")
    add("--order", choices=["random", "low-frequency"], default="random", help="of the directions (default: random)")
    add("--step", choices=["first-improving", "best-of-two"], default="first-improving",
        help="the paper's algorithm, or the authors' batched code (default: first-improving)")
    add("--objective", choices=["margin", "probability"], default="margin",
        help="what a step must lower (default: margin)")
    add("--epsilon", type=float, default=0.2, help="step along a direction, pixels in [0, 1] (default: 0.2)")
    add("--linf", type=float, default=None, help="bound on the largest change of a pixel value (default: none)")
    add("--targeted", action="store_true", help="towards a random class instead of away from the label")
    add("--budgets", nargs="+", type=int, default=None, metavar="K", help="iterations (default: 1 10 50 100 1000)")
    add("--max-queries", type=int, default=None, help="hard limit of queries an image (default: none)")
    add("--seed", type=seed_int, default=0, help="of the directions (default: 0)")
    add("--shard", default=None, metavar="I/N", help="attack the I-th of N parts of the images; `report` joins outputs")
    add("--out", type=Path, default=Path("runs"), help="where results go (default: runs)")
    add_data_root(parser)
    add_compute(parser)
    parser.add_argument("--batch-size", type=positive_int, default=256, help="images a forward pass (default: 256)")


def run(arguments: argparse.Namespace) -> None:
    """Attack, then write tables and report."""
    from bench.protocol import BUDGETS

    budgets = list(BUDGETS if arguments.budgets is None else arguments.budgets)
    if min(budgets) < 1 or sorted(set(budgets)) != budgets:
        raise InputError(f"--budgets {' '.join(map(str, budgets))}: give iterations from 1 up, each larger than the "
                         "last (0, the control, is always added)")

    from attacks.simba import Options
    from bench.reporting import write_report
    from bench.store import Store
    from domains import data_root, default_domain, load_domain
    from framebench.files import writable_folder
    from models.registry import load, shipped

    options = Options(max_iterations=budgets[-1], epsilon=arguments.epsilon, basis=arguments.basis,
                      order=arguments.order, step=arguments.step, objective=arguments.objective,
                      targeted=arguments.targeted, linf=arguments.linf, max_queries=arguments.max_queries)
    root = data_root(arguments.data_root)
    domain = load_domain(arguments.domain or default_domain(root), root)
    directions = math.prod(domain.shape)
    if budgets[-1] > directions:
        raise InputError(f"--budgets {budgets[-1]} is beyond the last direction: an image of {domain.title} has "
                       f"{directions}; no direction repeats")
    ids = domain.first(min(len(domain), 1000) if arguments.n is None else arguments.n)
    part = _shard(ids, arguments.shard)
    writable_folder(arguments.out)
    names = arguments.models or list(shipped())
    if not names:
        raise InputError("no checkpoint is shipped with this version; name models with --models")
    models = [load(name) for name in names]
    print(f"data: {domain.title}, n = {len(ids)}" + (f", of which {len(part)} here" if arguments.shard else "")
          + (f"; {domain.hint}" if domain.hint else ""), flush=True)
    store = Store(arguments.out)
    with store.lock():
        for model in models:
            _attack(model, domain, part, options, budgets, store, arguments)
        results = write_report(arguments.out)
    _print(results.attack)
    print(f"report: {arguments.out / 'report' / 'index.html'}  (bench browse {arguments.out})\n"
          f"tables: {arguments.out / 'attack.csv'}, {arguments.out / 'paired.csv'}; "
          f"a row an image: {store.folder}")


def _shard(ids: np.ndarray, shard: str | None) -> np.ndarray:
    if shard is None:
        return ids
    index, _, count = shard.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise InputError(f"--shard {shard} must read I/N with 1 <= I <= N, such as 1/4")
    return ids[int(index) - 1 :: int(count)]


def _attack(model: LoadedModel, domain: Domain, ids: np.ndarray, options: Any, budgets: list[int], store: Any,
            arguments: argparse.Namespace) -> None:
    import dataclasses

    import numpy as np

    from bench.checks import check_model
    from bench.evaluate import evaluate
    from bench.progress import AttackProgress
    from bench.protocol import Evaluation
    from bench.provenance import provenance
    from models.predictor import Predictor

    evaluation = Evaluation(model.name, model.digest, domain.name, domain.digest, arguments.attack,
                            dataclasses.asdict(options), arguments.seed)
    facts = {"title": domain.title, "classes": list(domain.classes), "budgets": budgets, "warnings": [],
             "provenance": [provenance()], "card": None if model.card is None else dataclasses.asdict(model.card)}
    rows = store.open(evaluation, facts)
    left = int((~np.isin(ids, rows.ids)).sum())
    with AttackProgress(model.name, len(ids), len(ids) - left) as progress:
        if left:
            example, _ = domain.load(domain.order[:32])
            predictor = Predictor(model.module, example, device=device(arguments.device),
                                  threads=threads(arguments.threads), kind=rows.facts.get("predictor"))
            rows.facts["predictor"] = predictor.kind
            for warning in check_model(predictor(example), domain.classes, model.name):
                progress.say(f"warning: {model.name}: {warning}")
                rows.facts["warnings"] = sorted({*rows.facts["warnings"], warning})
            evaluate(rows, progress.counting(predictor), domain, ids, batch_size=arguments.batch_size,
                     report=progress.update)
        rows.flush()  # budgets and versions may have been added


def _print(results: Any) -> None:
    shown = results[(results["unit"] == "iterations")]
    for (model, domain, attack), group in shown.groupby(["model", "domain", "attack"], sort=False):
        first = group.iloc[0]
        print(f"{model} · {attack} on {domain}: {first['clean_accuracy']:.1%} clean of n = {first['n']}; ASR of "
              f"{first['n_correct']} at")
        print("   " + "  ".join(f"{row['budget']}: {row['asr']:.1%} [{row['ci_low']:.1%}, {row['ci_high']:.1%}]"
                                for row in group.to_dict("records")))
