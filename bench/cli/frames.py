"""Compute the frame bounds of every convolution and linear layer of models.

Writes OUT/frames.csv (a row a layer: A, B, B/A, certified bounds, how well the layer's input is found again from its
output) and OUT/report/index.html. Bounds are those of the layer alone; with --fold, of the layer with the batch norm
that directly follows it. A second call with the same OUT adds to it and redoes nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.options import add_compute, device, positive_int, report_line, threads
from framebench.errors import InputError

if TYPE_CHECKING:
    from bench.analysis.reporting import Results
    from bench.frames.bounds import Request
    from framebench.models.registry import LoadedModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add = parser.add_argument
    add("--models", nargs="+", metavar="M", default=None,
        help="shipped names, .safetensors paths, python:FILE.py:FUNCTION (default: the shipped ones)")
    add("--size", type=positive_int, default=32, metavar="PIXELS", help="height and width of the images (default: 32)")
    add("--padding", choices=["circular", "own"], default="circular",
        help="circular: exact bounds of the convolution on a torus (default); own: with the layer's own padding, zeros "
        "or what its padding_mode says, by estimates (Lanczos) that are marked where they have not converged")
    add("--fold", action="store_true", help="fold batch norms into the layers that they directly follow")
    add("--images", type=int, default=4, metavar="N",
        help="real images whose activations are reconstructed, 0 for none, at most 20 (default: 4)")
    add("--log", nargs="*", type=Path, default=None, metavar="RUN",
        help="folders that trainings wrote (OUT/NAME), or their layers.csv and log.csv: bounds, accuracy, loss and "
        "penalty over the epochs, drawn in this report and the next ones; none takes them out (default: as it was)")
    add("--out", type=Path, default=Path("runs"), help="where results go (default: runs)")
    add_compute(parser)


def run(arguments: argparse.Namespace) -> Results:
    """Measure, then write the table and the report; return these."""
    if not 0 <= arguments.images <= 20:
        raise InputError(f"--images {arguments.images}: choose 0 to 20, the number of images that foolbox ships")

    import torch

    from bench.analysis.reporting import write_report
    from bench.frames.bounds import Request, measure, read_frames
    from bench.rows.store import Store
    from bench.running.checks import check_distinct
    from bench.training.logs import find_logs, read_logs
    from framebench.files import writable_folder
    from framebench.models.registry import LoadedModel, default_models, load

    logs = None if arguments.log is None else find_logs(arguments.log)
    read_logs(logs or [])  # refused before anything is measured
    chosen = device(arguments.device)
    if chosen.type == "mps":
        raise InputError("frame bounds need float64, which mps lacks; use --device cpu")
    torch.set_num_threads(threads(arguments.threads))
    request = Request(arguments.size, arguments.padding, arguments.fold, arguments.images)
    names = arguments.models or default_models()
    if not names:
        raise InputError("no checkpoint is shipped with this version; name models with --models")
    models = [name if isinstance(name, LoadedModel) else load(name) for name in names]
    check_distinct(models)
    out = writable_folder(arguments.out)
    with Store(out).lock():
        read_frames(out)  # a damaged file is refused before anything is measured, too
        for model in models:
            measure(model, request, out, chosen)
        results = write_report(out, logs=logs)
    _print(results.frames, models, request)
    print(f"{report_line(out)}\ntable: {out / 'frames.csv'}")
    return results


def _print(table: Any, models: list[LoadedModel], request: Request) -> None:
    """Print what was asked for; the table has all that was ever measured into the folder."""
    from bench.analysis.labels import with_digest
    from framebench.reports.frames import summary_line

    names = {name for model in models for name in (model.name, with_digest(model.name, model.digest))}
    asked = table[table["model"].isin(names) & (table["padding"] == request.padding)
                  & (table["image"] == request.size) & (table["images"] == request.images)
                  & (table["batch_norm"] == ("folded" if request.fold else "left out"))]
    for name, group in asked.groupby("model", sort=False):
        print(f"{name}: {summary_line(group)}")
    if not asked["lower_converged"].all():
        print("<=: A has not converged and may be far below, so B/A far above, what is said (lower_converged in the "
              "table)")
