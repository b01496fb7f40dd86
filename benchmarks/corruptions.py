"""Corruptions per second, against imagecorruptions.

    OMP_NUM_THREADS=1 python benchmarks/corruptions.py --domain cifar10 --data-root DIR
    OMP_NUM_THREADS=1 python benchmarks/corruptions.py --domain imagenet-samples     # 224 x 224
    OMP_NUM_THREADS=1 python benchmarks/corruptions.py --full        # makes all 19 x 5 x 10,000 images of 32 x 32

Rates are images per second of processor time, over the five severities. Processor time is summed over all threads of
the process, so that idle cores and other programs do not change it. The peer, `imagecorruptions-imaug`, makes the same
19 corruptions with ImageNet's parameters at any size, one image per call. Both take turns in the same run.

Limits are checked at the end; the exit code is 1 if one is exceeded. All 19 corruptions together must take at most a
tenth of the peer's time at 32 x 32, where CIFAR's parameters are weaker too, and half of it at 224 x 224, where the
parameters are the same. All 950,000 images of CIFAR-10-C must take less than 20 minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from clocks import peak_memory
from ratios import Ratio, conclude

from bench.running.provenance import provenance
from framebench.domains import data_root, load_domain
from framebench.domains.corruptions import NAMES, SEVERITIES, corrupt, frost_source, usual_parameters

WHOLE = 10_000  # number of images of CIFAR-10-C at one severity
#: parameters -> how many times faster than the peer all corruptions must be together
TIMES_FASTER = {"cifar": 10, "tiny-imagenet": 5, "imagenet": 2}


def main() -> int:
    """Measure and print; return 0 if all limits are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", default="samples", help="images to corrupt (default: samples)")
    parser.add_argument("--data-root", default=None, help="folder with the data sets")
    parser.add_argument("-n", type=int, default=None,
                        help="images per severity (default: as many as have the pixels of 1,000 images of 32 x 32)")
    parser.add_argument("--peer-images", type=int, default=20, help="images per severity for the peer; 0 leaves it out")
    parser.add_argument("--full", action="store_true", help=f"make {WHOLE:,} images per severity, whatever -n is")
    arguments = parser.parse_args()

    domain = load_domain(arguments.domain, data_root(arguments.data_root))
    height, width, _ = domain.shape
    n = WHOLE if arguments.full else arguments.n or max(5, 1000 * 32 * 32 // (height * width))
    images = domain.pixels(np.resize(domain.order, n))
    peer = _peer() if arguments.peer_images else None
    facts, parameters = provenance(), usual_parameters(height, width)
    print(f"{facts['processor']}, numpy {np.__version__}; {domain.title}, {height} x {width}, "
          f"parameters of {parameters}, n = {n} x 5 severities; frost: {frost_source()}")
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

    print(f"19 corruptions of one image at one severity: {1000 * ours:.1f} ms"
          + (f", imagecorruptions {1000 * theirs:.1f} ms" if peer is not None else "")
          + f"; this run took {(time.perf_counter() - started) / 60:.1f} minutes, "
          f"peak memory {peak_memory():.2f} GiB")
    ratios = []
    if parameters == "cifar":
        minutes = ours * len(SEVERITIES) * WHOLE / 60 / 2
        ratios.append(Ratio(f"minutes for all 19 x 5 x {WHOLE:,} corrupted images on two cores "
                            f"({'made' if arguments.full else 'from rates'})", minutes, 20, at_most=True))
    if peer is not None:
        ratios.append(Ratio(f"time of imagecorruptions over ours, all 19 at {height}x{width}", theirs / ours,
                            TIMES_FASTER[parameters]))
    return conclude(ratios)


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
