"""The fused predictor against the eager model: images/s on full batches, interleaved in one run.

    python benchmarks/predictor.py

Weights are untrained; rates don't depend on them. Fusion saves time outside convolutions: batch norms, additions and
ReLUs over large maps (ResNets of small width), and cache misses. A network that spends nearly all its time in
convolutions (speednet) is already at the processor's limit in eager mode.
"""

from __future__ import annotations

import argparse
import sys

import torch
from clocks import rate
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
    ratios = []
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
        ratios.append(Ratio(f"images/s of the fused {arch} of width {width} over the eager one",
                            sum(fused_rates) / sum(eager_rates)))
    return conclude(ratios)


if __name__ == "__main__":
    sys.exit(main())
