"""Measure how accuracy holds when the domain changes: corruptions, other sources, other collections.

Writes OUT/shift.csv (accuracy of every model on every cell), OUT/shift_summary.csv (means over cells, gap to clean
accuracy, mCE, worst corruption and class), OUT/shift_paired.csv (models compared on the same images),
OUT/examples/*.parquet (a row an image) and OUT/report/index.html. Official sets are used where the data root has them;
CIFAR-10-C is generated from the clean test set where not, and named so. Where the data root has CIFAR-10's training set
too, OUT/duplicates.csv names the images that are, exactly or nearly, in it. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
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

if TYPE_CHECKING:
    from bench.analysis.reporting import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add = parser.add_argument
    add_protocol(parser, "shift")
    add("--models", nargs="+", metavar="M", default=None,
        help="shipped names, .safetensors paths, RUN@EPOCH, python:FILE.py:FUNCTION (default: the shipped ones)")
    add("--domains", nargs="+", metavar="D", default=None, help="domains, `bench list` shows all (default: those under "
        "--data-root and cifar10-c, else the samples and samples-c)")
    add("-n", type=positive_int, default=None, help="the first N images of each cell in the common, class-balanced "
        "order (default: all)")
    add("--corruptions", nargs="+", metavar="C", default=None,
        help="(default: all, the 15 of the benchmark and 4 extra)")
    add("--severities", nargs="+", type=int, metavar="S", default=[1, 2, 3, 4, 5], help="(default: all)")
    add("--baseline", metavar="M", default=None, help="the model by whose errors mCE divides (default: the model "
        "`baseline` if it is one of several, else none: mCE is then the mean error)")
    add("--match-clean", metavar="M", default=None, help="take of each run folder among the models the kept epoch "
        "whose held-out accuracy is nearest to this model's")
    add("--seed", type=seed_int, default=0, help="of generated corruptions (default: 0)")
    add("--out", type=Path, default=Path("runs"), help="where results go (default: runs)")
    add_data_root(parser)
    add_compute(parser)
    parser.add_argument("--batch-size", type=positive_int, default=256, help="images a forward pass (default: 256)")


def run(arguments: argparse.Namespace) -> Results:
    """Evaluate, then write tables and report; return these."""
    from bench.analysis.reporting import write_report
    from bench.rows.store import Store
    from bench.running.checks import check_distinct
    from bench.running.matching import match_clean
    from bench.running.overlap import flag_training_images, training_images, write_training_images
    from bench.running.shifting import check_corruptions, check_severities, default_domains, evaluate_cells, plan
    from framebench.domains import data_root
    from framebench.domains.corruptions import NAMES
    from framebench.errors import InputError
    from framebench.files import writable_folder
    from framebench.models.registry import LoadedModel, default_models, load

    check_corruptions(arguments.corruptions, NAMES)
    check_severities(arguments.severities)
    root = data_root(arguments.data_root)
    writable_folder(arguments.out)
    names = arguments.models or default_models()
    notes = []
    if arguments.match_clean:
        modules = [name for name in names if isinstance(name, LoadedModel)]  # from Python: there is no run to match
        matches = match_clean([name for name in names if isinstance(name, str)], arguments.match_clean)
        matched = [m.model for m in matches] + [m.reference for m in matches if m.reference]
        names = [*dict.fromkeys(matched), *modules]
        notes = [m.note for m in matches]
        print("\n".join(notes), flush=True)
    models = [name if isinstance(name, LoadedModel) else load(name) for name in names]
    check_distinct(models)
    baseline = arguments.baseline and next(
        (m.name for m in models if arguments.baseline in (m.name, m.name.partition("@")[0])), None)
    if arguments.baseline and baseline is None:
        raise InputError(f"--baseline {arguments.baseline} is none of the models {', '.join(m.name for m in models)}")
    asked = arguments.domains or default_domains(root)
    workers = threads(arguments.threads)
    cells = plan(asked, root, arguments.corruptions, arguments.severities, arguments.n, arguments.seed,
                 workers=workers)
    for title, hint in dict.fromkeys((cell.title, cell.images.hint) for cell in cells):
        print(f"data: {title}" + (f"; {hint}" if hint else ""), flush=True)
    duplicates = training_images(cells, root)
    store = Store(arguments.out)
    with store.lock():
        evaluate_cells(cells, models, store, arguments.n, device=device(arguments.device), threads=workers,
                       batch_size=arguments.batch_size, facts=protocol_file.facts(arguments))
        flag_training_images(cells, models, store, duplicates)
        write_training_images(arguments.out, cells, duplicates)
        results = write_report(arguments.out, baseline=baseline, matched=notes or None)
    _print(results.shift_summary)
    tables = ", ".join(str(arguments.out / f"{name}.csv") for name in ("shift", "shift_summary", "shift_paired"))
    print(f"{report_line(arguments.out)}\ntables: {tables}; a row an image: {store.folder}")
    return results


def _print(summary: Any) -> None:
    from framebench.reports.shift import mean_of

    for row in summary.to_dict("records"):
        part = "" if row["part"] == "all" else f", {row['part']}: {mean_of(row['cells'])}"
        gap = "" if row["gap"] != row["gap"] else \
            f"; gap {100 * row['gap']:.1f} points [{100 * row['gap_low']:.1f}, {100 * row['gap_high']:.1f}]"
        print(f"{row['model']} on {row['domain']}{part}: {row['accuracy']:.1%} [{row['ci_low']:.1%}, "
              f"{row['ci_high']:.1%}], n = {row['n']:,}{gap}")
