"""The fused predictor against the eager model, images/s on full batches, interleaved in one run.

    python benchmarks/predictor.py

Weights are untrained; rates don't depend on them. What can be won is what convolutions leave: batch norms, additions
and ReLUs over large maps (ResNets of small width), and activations that fall out of the cache. A network that already
spends its time in convolutions (speednet) is at the processor's limit in eager form.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from ratios import Ratio, conclude

from bench.running.provenance import provenance
from framebench.models.architectures import build
from framebench.models.predictor import Predictor

MODELS = (("resnet18", 16), ("resnet20", 16), ("resnet34", 16), ("resnet50", 16), ("speednet", 48), ("resnet18", 64))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3, help="of each of two measurements of each form")
    arguments = parser.parse_args()
    facts = provenance()
    print(f"{facts['processor']}, {arguments.threads} threads, torch {facts['torch']}, batch {arguments.batch_size}")
    x = torch.rand(arguments.batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    found = []
    for arch, width in MODELS:
        model = build(arch, width=width).eval().to(memory_format=torch.channels_last)
        fused = Predictor(model, x[:32], threads=arguments.threads)
        eager_rates, fused_rates = [], []
        for _ in range(2):
            torch.set_num_threads(arguments.threads)
            with torch.inference_mode():
                eager_rates.append(rate(model, x, arguments.seconds))
            torch.set_num_threads(1)
            fused_rates.append(rate(fused, x, arguments.seconds))
        print(f"{arch} of width {width}: eager {sum(eager_rates) / 2:,.0f}/s, {fused.kind} "
              f"{sum(fused_rates) / 2:,.0f}/s", flush=True)
        found.append(Ratio(f"images/s of the fused {arch} of width {width} over the eager one",
                           sum(fused_rates) / sum(eager_rates)))
    return conclude(found)


def rate(predict: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, seconds: float) -> float:
    """Return the images/s of `predict` on the batch x, over `seconds`."""
    predict(x)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        predict(x)
        count += len(x)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
