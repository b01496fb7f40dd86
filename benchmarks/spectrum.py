"""The exact spectrum by Fourier blocks against Lanczos' method and a dense SVD: seconds per layer, in one run.

    python benchmarks/spectrum.py

Layers are those of an untrained ResNet-18 of width 64 on 32x32 images. The dense SVD of the explicit matrix is
feasible for a small layer only. Differences between exact and compared bounds are relative to B. Trained layers, with
and without a penalty on their bounds, show how far Lanczos' method converges with their own padding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from operator import attrgetter

import torch
from clocks import timed
from ratios import Ratio, conclude
from torch import nn

from bench.running.provenance import provenance
from framebench.models.architectures import build
from framebench.models.registry import load
from framebench.models.spectrum import frame_bounds, gershgorin_bounds, input_sizes, lanczos_bounds, on_torus

# c_in, c_out, stride, height and width
LAYERS = ((64, 64, 1, 32), (64, 128, 2, 32), (128, 128, 1, 16), (256, 256, 1, 8), (256, 512, 2, 8), (512, 512, 1, 4))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    facts = provenance()
    print(f"{facts['processor']}, {arguments.threads} threads, torch {facts['torch']}")
    small = nn.Conv2d(16, 16, 3, padding=1)
    ratios = [compare("16 -> 16, 8x8", small, (8, 8), "a dense SVD", dense_bounds)]
    for c_in, c_out, stride, size in LAYERS:
        layer = nn.Conv2d(c_in, c_out, 3, stride, padding=1)
        ratios.append(compare(
            f"{c_in} -> {c_out}, stride {stride}, {size}x{size}", layer, (size, size), "Lanczos",
            lambda layer, size: attrgetter("lower", "upper")(lanczos_bounds(layer, size, "circular"))))
        seconds, _ = timed(lambda layer=layer: gershgorin_bounds(layer))
        print(f"    Gershgorin {seconds:.2f} s", flush=True)
    for arch, width in (("resnet18", 64), ("resnet34", 64), ("resnet50", 64), ("speednet", 48)):
        model = build(arch, width=width).eval()
        layers, sizes = dict(model.named_modules()), input_sizes(model, (32, 32))
        seconds, _ = timed(lambda layers=layers, sizes=sizes: [
            frame_bounds(layers[name], (size[0] + size[0] % 2, size[1] + size[1] % 2)) for name, size in sizes.items()])
        print(f"{arch} of width {width}, all {len(sizes)} layers: {seconds:.1f} s", flush=True)
    for name in ("baseline", "frame"):
        compare_convergence(name)
    return conclude(ratios)


def compare(title: str, layer: nn.Conv2d, size: tuple[int, int], name: str,
            other: Callable[[nn.Conv2d, tuple[int, int]], tuple[float, float]]) -> Ratio:
    """Time the exact bounds and those of another method."""
    exact_seconds, exact = timed(lambda: frame_bounds(layer, size))
    seconds, bounds = timed(lambda: other(layer, size))
    differences = [abs(a - b) / exact[1] for a, b in zip(exact, bounds, strict=True)]
    print(f"{title}: Fourier {exact_seconds:.3f} s, A {exact[0]:.2e}, B {exact[1]:.3f}; {name} {seconds:.2f} s, "
          f"differs by {differences[0]:.0e} (A), {differences[1]:.0e} (B)", flush=True)
    return Ratio(f"time of {name} over exact bounds, {title}", seconds / exact_seconds)


def compare_convergence(name: str) -> None:
    """Estimate the bounds of a shipped model's layers, with own and circular padding; compare the latter with exact."""
    model = load(name).module
    layers, sizes = dict(model.named_modules()), input_sizes(model, (32, 32))
    padded = [(layers[key], size) for key, size in sizes.items() if not on_torus(layers[key], size)]
    for padding in ("own", "circular"):
        seconds, estimates = timed(lambda padding=padding: [lanczos_bounds(*layer, padding) for layer in padded])
        print(f"{name}, Lanczos, {padding} padding: {seconds:.1f} s, {sum(e.steps for e in estimates)} steps; of "
              f"{len(estimates)} layers A converged in {sum(e.lower_converged for e in estimates)}, B in "
              f"{sum(e.upper_converged for e in estimates)}", flush=True)
    for (layer, size), estimate in zip(padded, estimates, strict=True):
        if max(layer.stride) == 1:
            lower, upper = frame_bounds(layer, size)
            print(f"    A {estimate.lower:.3e}{'' if estimate.lower_converged else ' (not converged)'}, exact "
                  f"{lower:.3e}; B differs by {abs(estimate.upper / upper - 1):.0e}", flush=True)


def dense_bounds(layer: nn.Conv2d, size: tuple[int, int]) -> tuple[float, float]:
    """Return the extreme eigenvalues from the SVD of T, whose columns are the layer's outputs for unit inputs."""
    torus = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
                      bias=False, padding_mode="circular").double()
    with torch.no_grad():
        torus.weight.copy_(layer.weight)
        units = torch.eye(layer.in_channels * size[0] * size[1], dtype=torch.float64)
        columns = torus(units.unflatten(1, (layer.in_channels, *size))).flatten(1)
    values = torch.linalg.svdvals(columns).square()
    return float(values[-1]), float(values[0])


if __name__ == "__main__":
    sys.exit(main())
