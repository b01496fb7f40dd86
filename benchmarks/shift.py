"""Images/s of a shift test against the raw rate of the model.

    python benchmarks/shift.py --data-root DIR

Makes CIFAR-10-C from the clean test set (or uses the published files), then evaluates a model on all its cells, or on
other domains. Limit, checked at the end (exit code 1 if it is missed): images/s, including reading and writing, are at
least 0.9 of the predictor's raw rate on full batches, measured before and after in the same run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from clocks import peak_memory, rate
from ratios import Ratio, conclude

from bench.rows.store import Store
from bench.running.cells import list_cells
from bench.running.computing import Computing
from bench.running.provenance import provenance
from bench.running.shifting import evaluate, plan
from framebench.models.predictor import Predictor
from framebench.models.registry import load


def main() -> int:
    """Measure, print, and tell whether the limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="baseline")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--domains", nargs="+", default=["cifar10-c"])
    parser.add_argument("--corruptions", nargs="+", default=None, help="(default: all 19)")
    parser.add_argument("-n", type=int, default=None, help="images per cell (default: all)")
    parser.add_argument("--out", type=Path, default=None, help="keep the rows here (default: thrown away)")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()

    facts = provenance()
    print(f"{facts['processor']}, {arguments.threads} threads, torch {facts['torch']}", flush=True)
    started = time.perf_counter()
    cells = list_cells(arguments.domains, arguments.data_root, arguments.corruptions, (1, 2, 3, 4, 5), arguments.n, 0,
                       workers=arguments.threads)
    print(f"{len(cells)} cells loaded or made in {time.perf_counter() - started:.1f} s")
    model = load(arguments.model)
    x, _ = cells[0].images.load(np.resize(cells[0].images.order, arguments.batch_size))
    predictor = Predictor(model.module, x, threads=arguments.threads)
    raw = [rate(predictor, x, 8)]
    images = sum(min(len(cell.images), arguments.n or len(cell.images)) for cell in cells)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(arguments.out or Path(folder))
        started = time.perf_counter()
        with store.lock():
            setup = Computing(torch.device("cpu"), arguments.threads, arguments.batch_size)
            evaluate(plan(cells, [model], store, arguments.n), setup)
        seconds = time.perf_counter() - started
    raw.append(rate(predictor, x, 8))
    ratio = images / seconds / float(np.mean(raw))
    print(f"{arguments.model}: {images:,} images in {seconds:.1f} s = {images / seconds:,.0f}/s; raw "
          f"{raw[0]:,.0f} and {raw[1]:,.0f}/s; peak memory {peak_memory():.2f} GiB")
    return conclude([Ratio("images/s of the shift test over the predictor's raw rate", ratio, 0.9)])


if __name__ == "__main__":
    sys.exit(main())
