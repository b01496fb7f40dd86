"""Attack models and measure how often it succeeds within each budget.

Writes OUT/attack.csv (ASR curves), OUT/paired.csv (models compared on the same images), OUT/examples/*.parquet
(a row an image) and OUT/report/index.html. All budgets come from one run at the largest. A run that is killed goes
on where it was; a second call with the same OUT adds to it and redoes nothing. With --transfer-from nothing is
attacked: models classify images that others were attacked with, and OUT/transfer.csv is written.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.options import (
    add_compute,
    add_data_root,
    add_protocol,
    device,
    positive_int,
    report_line,
    seed_int,
    threads,
)
from bench.options import protocol as protocol_file
from framebench.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from bench.analysis.reporting import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add = parser.add_argument
    add_protocol(parser, "attack")
    add("--models", nargs="+", metavar="M", default=None,
        help="shipped names, .safetensors paths, python:FILE.py:FUNCTION (default: the shipped ones)")
    add("--domain", metavar="D", default=None, help="images to attack (default: cifar10 under --data-root, else the 20 "
        "that foolbox ships; `bench list` shows all)")
    add("-n", type=int, default=None, help="the first N of the common, class-balanced order (default: at most 1000)")
    add("--attack", type=attack_name, default="simba", metavar="A", help="simba, noise (the same steps without a look "
        "at the model), square, apgd (white-box), or foolbox:NAME (default: simba)")
    add("--attack-option", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="options of square, apgd and foolbox:NAME, as their classes have them")
    add("--basis", choices=["pixel", "dct"], default="pixel", help="directions (default: pixel)")
    add("--order", choices=["random", "low-frequency"], default="random", help="of the directions (default: random)")
    add("--step", choices=["first-improving", "best-of-two"], default="first-improving",
        help="the paper's algorithm, or the authors' batched code (default: first-improving)")
    add("--objective", choices=["margin", "probability"], default="margin",
        help="what a step must lower (default: margin)")
    add("--epsilon", nargs="+", type=number, default=None, metavar="E", help="simba, noise: step along a direction, "
        "pixels in [0, 1] (default: 0.2); others: their bound (default: 8/255 for Linf; L2 0.5, of foolbox's 1); "
        "several are an evaluation each")
    add("--clip", choices=["anew", "cumulative"], default="anew", help="simba to [0, 1]: each image shown, or, as some "
        "harnesses do, each accepted image for good (default: anew)")
    add("--convention", choices=["pixel-clip", "normalised-clip"], default="pixel-clip",
        help="where simba clips to [0, 1]: pixels, or, to explain others' figures, normalised ones")
    add("--linf", type=float, default=None, help="bound on the largest change of a pixel value (default: none)")
    add("--targeted", action="store_true", help="towards a random class instead of away from the label")
    add("--budgets", nargs="+", type=int, default=None, metavar="K", help="iterations (default: 1 10 50 100 1000); of "
        "attacks but simba one query each, after the clean image's")
    add("--max-queries", type=int, default=None, help="hard limit of queries an image (default: none)")
    add("--l2", type=number, default=None, metavar="CAP", help="also table ASR with successes within this L2 distance")
    add("--seed", type=seed_int, default=0, help="of the attack's draws (default: 0)")
    add("--seeds", nargs="+", type=seed_int, default=None, metavar="S", help="several seeds, an evaluation each")
    add("--save-adversarial", action="store_true", help="keep all attacked images, in OUT/adversarial/*.safetensors")
    add("--transfer-from", nargs="+", type=Path, default=None, metavar="FILE",
        help="attack nothing: classify such saved images")
    add("--shard", default=None, metavar="I/N", help="attack the I-th of N parts of the images; `report` joins outputs")
    add("--out", type=Path, default=Path("runs"), help="where results go (default: runs)")
    add_data_root(parser)
    add_compute(parser)
    parser.add_argument("--batch-size", type=positive_int, default=256, help="images a forward pass (default: 256)")


def attack_name(text: str) -> str:
    """Parse the name of an attack (for argparse)."""
    if text == "simba":  # the default, which must not cost an import
        return text
    from framebench.attacks.registry import canonical
    try:
        return canonical(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(f"invalid choice: '{text}'; {str(error).partition('; ')[2]}") from None


def number(text: str) -> float:
    """Parse a number, which may be a fraction such as 8/255 (for argparse)."""
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(text)
    except ZeroDivisionError:
        raise argparse.ArgumentTypeError(f"{text} divides by zero") from None


def run(arguments: argparse.Namespace) -> Results | None:
    """Attack, then write tables and report.

    Returns:
        These; None where attacked images were only classified, or a shard has none of the images.
    """
    if arguments.transfer_from is not None:
        _transfer(arguments)
        return None
    from bench.rows.evaluation import BUDGETS

    budgets = list(BUDGETS if arguments.budgets is None else arguments.budgets)
    if min(budgets) < 1 or sorted(set(budgets)) != budgets:
        raise InputError(f"--budgets {' '.join(map(str, budgets))}: give iterations from 1 up, each larger than the "
                         "last (0, the control, is always added)")

    from bench.analysis.reporting import write_report
    from bench.rows.store import Store
    from bench.running.attacking import Computing, attack_models, plan
    from bench.running.checks import check_distinct
    from framebench.domains import data_root, default_domain, load_domain
    from framebench.files import writable_folder

    asked = plan(arguments, budgets)
    root = data_root(arguments.data_root)
    domain = load_domain(arguments.domain or default_domain(root), root)
    directions = math.prod(domain.shape)
    if asked.attack in ("simba", "noise") and budgets[-1] > directions:
        raise InputError(f"--budgets {budgets[-1]} is beyond the last direction: an image of {domain.title} has "
                       f"{directions}; no direction repeats")
    ids = domain.first(min(len(domain), 1000) if arguments.n is None else arguments.n)
    part = _shard(ids, arguments.shard)
    computing = Computing(device(arguments.device), threads(arguments.threads), arguments.batch_size)
    writable_folder(arguments.out)
    if not len(part):  # a cluster's script may make more shards than there are images
        writable_folder(arguments.out / "examples")  # `report` joins it like the others
        print(f"nothing to do: shard {arguments.shard} has none of the {len(ids)} images")
        return None
    models = _models(arguments)
    check_distinct(models)
    print(f"data: {domain.title}, n = {len(ids)}" + (f", of which {len(part)} here" if arguments.shard else "")
          + (f"; {domain.hint}" if domain.hint else ""), flush=True)
    store = Store(arguments.out)
    with store.lock():
        attack_models(models, domain, part, asked, store, computing=computing, facts=protocol_file.facts(arguments))
        results = write_report(arguments.out)
    _print(results.attack)
    print(f"{report_line(arguments.out)}\n"
          f"tables: {arguments.out / 'attack.csv'}, {arguments.out / 'paired.csv'}; "
          f"a row an image: {store.folder}")
    return results


def _models(arguments: argparse.Namespace) -> list[Any]:
    from framebench.models.registry import LoadedModel, default_models, load

    return [model if isinstance(model, LoadedModel) else load(model) for model in arguments.models or default_models()]


def _transfer(arguments: argparse.Namespace) -> None:
    """Let every model classify saved attacked images, and write ``OUT/transfer.csv``."""
    import pandas as pd

    from bench.analysis.reporting import write_report
    from bench.rows.adversarial import TRANSFER_COLUMNS, TRANSFER_KEYS, read, transfer
    from bench.rows.kept_tables import read_table, write_table
    from bench.rows.store import Store
    from bench.running.checks import check_distinct, check_model
    from framebench.domains import data_root, load_domain
    from framebench.files import writable_folder
    from framebench.models.predictor import Predictor

    files: dict[str, list[Path]] = {}  # domain -> its files
    for path in arguments.transfer_from:
        files.setdefault(arguments.domain or read(path)[3]["domain"], []).append(path)
    root, where = data_root(arguments.data_root), device(arguments.device)
    domains = {name: load_domain(name, root) for name in files}
    writable_folder(arguments.out)
    models = _models(arguments)
    check_distinct(models)
    store = Store(arguments.out)
    table = arguments.out / "transfer.csv"
    with store.lock():
        known = read_table(table, TRANSFER_COLUMNS)
        targets = []
        for model, (name, domain) in itertools.product(models, domains.items()):
            example, _ = domain.load(domain.order[:32])
            predictor = Predictor(model.module, example, device=where, threads=threads(arguments.threads))
            check_model(model, predictor, domain, example)  # all, before any is asked for the attacked images
            targets.append((model.name, predictor, domain, files[name]))
        entries = [transfer(path, name, predictor, domain, batch_size=arguments.batch_size)
                   for name, predictor, domain, paths in targets for path in paths]
        write_table(table, pd.DataFrame(entries, columns=TRANSFER_COLUMNS), known, keys=TRANSFER_KEYS)
        if store.all():
            write_report(arguments.out)
    for entry in entries:
        print(f"{entry['source']} ({entry['attack']}) -> {entry['target']}: {entry['asr']:.1%} "
              f"[{entry['ci_low']:.1%}, {entry['ci_high']:.1%}] of {entry['n_correct']} images")
    print(f"table: {table}")


def _shard(ids: np.ndarray, shard: str | None) -> np.ndarray:
    if shard is None:
        return ids
    index, _, count = shard.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise InputError(f"--shard {shard} must read I/N with 1 <= I <= N, such as 1/4")
    return ids[int(index) - 1 :: int(count)]


def _print(results: Any) -> None:
    shown = results[(results["unit"] == "iterations")]
    for (model, domain, attack), group in shown.groupby(["model", "domain", "attack"], sort=False):
        first = group.iloc[0]
        clean = f"{model} · {attack} on {domain}: {first['clean_accuracy']:.1%} clean of n = {first['n']}"
        if not first["n_correct"]:
            print(f"{clean}; no image is right before the attack, so there is no ASR; check the labels and the model's "
                  "normalisation (docs/flags.md#labels, docs/flags.md#normalisation)")
            continue
        print(f"{clean}; ASR of {first['n_correct']} at")
        print("   " + "  ".join(f"{row['budget']}: {row['asr']:.1%} [{row['ci_low']:.1%}, {row['ci_high']:.1%}]"
                                for row in group.to_dict("records")))
