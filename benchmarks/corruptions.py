"""Measure how fast the corruptions of CIFAR-10-C are made, in comparison with imagecorruptions.

    OMP_NUM_THREADS=1 python benchmarks/corruptions.py --data-root DIR
    OMP_NUM_THREADS=1 python benchmarks/corruptions.py --full        # makes all 19 x 5 x 10,000 images

Rates are images per second of processor time, over the five severities. Processor time is summed over all threads of
the process, so that idle cores and other programs do not change it. The peer, `imagecorruptions-imaug`, makes the same
19 corruptions with ImageNet's parameters, one image per call. Both take turns in the same run.

Two limits are checked at the end; the exit code is 1 if one is exceeded. All 950,000 images must take less than 20
minutes on two cores, and the 19 corruptions together at most a tenth of the peer's time.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.running.provenance import provenance
from framebench.domains.cifar import load_cifar10
from framebench.domains.corruptions import NAMES, SEVERITIES, corrupt, frost_source

WHOLE = 10_000  # number of images of CIFAR-10-C at one severity


def main() -> int:
    """Measure and print; return 0 if all limits are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default=None, help="folder with CIFAR-10 (default: random images)")
    parser.add_argument("-n", type=int, default=1000, help="images per severity")
    parser.add_argument("--peer-images", type=int, default=20, help="images per severity for the peer; 0 leaves it out")
    parser.add_argument("--full", action="store_true", help="make all 10,000 images per severity, whatever -n is")
    arguments = parser.parse_args()

    n = WHOLE if arguments.full else arguments.n
    images, title = _images(arguments.data_root, n)
    peer = _peer() if arguments.peer_images else None
    facts = provenance()
    print(f"{facts['processor']}, numpy {np.__version__}; {title}, n = {n} x 5 severities; frost: {frost_source()}")
    started, ours, theirs = time.perf_counter(), 0.0, 0.0
    for name in NAMES:
        seconds = _ours(images, name)
        ours += seconds
        line = f"{name:18} {1 / seconds:9,.0f}/s"
        if peer is not None:
            peer_seconds = _theirs(peer, images[: arguments.peer_images], name)
            theirs += peer_seconds
            line += f"   imagecorruptions {1 / peer_seconds:7,.0f}/s   {peer_seconds / seconds:6.1f} times faster"
        print(line, flush=True)

    core_minutes, how = ours * len(SEVERITIES) * WHOLE / 60, "made" if arguments.full else "from rates"
    print(f"all 19 x 5 x {WHOLE:,} ({how}): {core_minutes:.1f} minutes of one core, {core_minutes / 2:.1f} on two; "
          f"this run took {(time.perf_counter() - started) / 60:.1f} minutes, "
          f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    kept = core_minutes / 2 <= 20
    print(f"{'ok  ' if kept else 'MISS'} minutes on two cores: {core_minutes / 2:.1f} (at most 20)")
    if peer is not None:
        fast = theirs / ours >= 10
        print(f"{'ok  ' if fast else 'MISS'} times faster than the peer, all 19: {theirs / ours:.1f} (at least 10)")
        kept &= fast
    return 0 if kept else 1


def _images(data_root: str | None, n: int) -> tuple[np.ndarray, str]:
    if data_root is None:
        return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), "random images"
    domain = load_cifar10(Path(data_root))
    return domain.images[np.resize(domain.order, n)], domain.title


def _ours(images: np.ndarray, name: str) -> float:
    """Return seconds of processor time per image, the mean over the severities."""
    for severity in SEVERITIES:
        corrupt(images[:16], name, severity)  # warm-up: matrices, tables and textures are built once
    started = time.process_time()
    for severity in SEVERITIES:
        corrupt(images, name, severity)
    return (time.process_time() - started) / len(images) / len(SEVERITIES)


def _peer() -> Callable[..., np.ndarray]:
    try:
        from imagecorruptions import corrupt as peer
    except ImportError as error:
        sys.exit(f"the peer can't be imported ({error}); pip install 'framebench[benchmarks]', or use --peer-images 0")
    print(f"peer: imagecorruptions-imaug {version('imagecorruptions-imaug')}, one image per call, for ImageNet")
    return peer


def _theirs(peer: Callable[..., np.ndarray], images: np.ndarray, name: str) -> float:
    peer(images[0], corruption_name=name, severity=1)  # warm-up: this compiles
    started = time.process_time()
    for severity in SEVERITIES:
        for image in images:
            peer(image, corruption_name=name, severity=severity)
    return (time.process_time() - started) / len(images) / len(SEVERITIES)


if __name__ == "__main__":
    sys.exit(main())
