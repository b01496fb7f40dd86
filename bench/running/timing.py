"""Chooses how many images a thread takes at once, by a short timing that is kept in the cache.

On a CPU, each thread computes a chunk of a batch at a time (`framebench.models.predictor`). Larger chunks fill a core's
vector units better, until the output of a layer outgrows the core's cache. The best size depends on network, image size
and processor. Batch size, form and number of threads are not chosen by timing; docs/models.md says why.

A choice never changes a row: every run checks that it gives the same logits, bit for bit, as the usual chunk size
(`Predictor.take_chunks`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.rows.facts import from_json
from bench.running.computing import Computing
from bench.running.provenance import processor
from framebench.errors import InputError
from framebench.files import cache_folder, seal, unseal
from framebench.models.predictor import CHUNK, Predictor
from framebench.models.registry import LoadedModel

_log = logging.getLogger(__name__)

#: Images per chunk to try: larger ones while each is faster, and smaller ones if none is.
LARGER, SMALLER = (32, 64), (8, 4)
#: Images of a run from which a timing is worthwhile. It costs as much as some hundreds of images, and at least 1.5 s.
WORTH = 50_000
#: Relative gain that another size must reach.
_MARGIN = 0.03
#: Minimum seconds and turns of each size in a comparison.
_PATIENCE, _TURNS = 0.5, 2


@dataclass(frozen=True)
class Timing:
    """A timing, as it is kept.

    Attributes:
        model: Name of the model; models of the same architecture share the timing.
        architecture: Hash of the names and types of its layers and the shapes of its tensors.
        form: "fused" or "eager".
        shape: Shape of an image, (C, H, W).
        threads: CPU threads.
        torch: Version of torch.
        processor: The processor.
        chunk: The chosen number of images per chunk.
        gain: Images/s with it over images/s with `CHUNK`.
    """

    model: str
    architecture: str
    form: str
    shape: tuple[int, ...]
    threads: int
    torch: str
    processor: str
    chunk: int = CHUNK
    gain: float = 1.0

    @property
    def key(self) -> str:
        """Hash of all that the timing depends on."""
        parts = [self.architecture, self.form, self.shape, self.threads, self.torch, self.processor]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def choose(predict: Predictor, model: LoadedModel, example: torch.Tensor, *, setup: Computing, passes: float,
           clock: Callable[[], float] = time.process_time) -> None:
    """Set the fastest chunk size of a predictor, unless a timing can't pay off.

    Args:
        predict: The predictor.
        model: Its model.
        example: Some of its images [n, C, H, W].
        setup: Device, threads and batch size.
        passes: Roughly how many images it will classify.
        clock: Returns seconds. Processor time is disturbed least by other work on the machine. Summed over all threads,
            it also shows how they slow each other down.
    """
    if not setup.timed or passes < WORTH or predict.chunk is None or not predict.repeats_itself(example):
        return
    untimed = Timing(model.name, _architecture(model.module), predict.kind, tuple(example.shape[1:]), setup.threads,
                     torch.__version__, processor())
    timing = next((entry for entry in kept(untimed.key) if entry.chunk in (*SMALLER, CHUNK, *LARGER)), None)
    when = "earlier"
    if timing is None:
        chunk, gain = _fastest(predict, example, setup, clock)
        same = predict.take_chunks(chunk, example)
        timing, when = dataclasses.replace(untimed, chunk=chunk, gain=round(gain, 3)) if same else untimed, "now"
        _keep(timing)
    if predict.take_chunks(timing.chunk, example):
        _log.info("%s: each thread takes %d images at once, as was timed %s (bench list --machine)", model.name,
                  timing.chunk, when)


def kept(key: str = "") -> Iterator[Timing]:
    """Yield the timings in the cache, or those of one key. Unreadable ones are skipped."""
    for path in sorted(folder().glob(f"{key}*.json")):
        try:
            yield from_json(Timing, json.loads(unseal(path)))
        except (InputError, ValueError):
            continue


def folder() -> Path:
    """Return where timings are kept."""
    return cache_folder() / "timings"


def _keep(timing: Timing) -> None:
    try:
        for path in folder().glob(f"{timing.key}-*.json"):  # unreadable ones
            path.unlink(missing_ok=True)
        seal(folder(), timing.key, ".json", json.dumps(dataclasses.asdict(timing)).encode())
    except OSError:
        pass  # without a cache, the next run times again


def _fastest(predict: Predictor, example: torch.Tensor, setup: Computing,
             clock: Callable[[], float]) -> tuple[int, float]:
    """Return the fastest chunk size, and its gain over `CHUNK`."""
    best, total = CHUNK, 1.0
    for sizes in (LARGER, SMALLER):
        for size in sizes if best == CHUNK else ():
            if size * setup.threads > setup.batch_size:
                break
            gain = _gain(predict, example, best, size, setup.threads, clock)
            if gain < 1 + _MARGIN:
                break
            best, total = size, total * gain
    return best, total


def _gain(predict: Predictor, example: torch.Tensor, before: int, size: int, threads: int,
          clock: Callable[[], float]) -> float:
    """Return images/s with chunks of `size` over images/s with chunks of `before`; each thread gets one chunk."""
    images = {chunk: example.repeat(-(-chunk * threads // len(example)), 1, 1, 1)[: chunk * threads]
              for chunk in (before, size)}
    least = dict.fromkeys(images, float("inf"))  # the minimum, since other work on the machine only adds time
    usual, until, turns = predict.chunk, clock() + _PATIENCE, 0
    try:
        while turns < _TURNS or clock() < until:
            for chunk, x in images.items():
                predict.chunk, start = chunk, clock()
                predict(x)
                least[chunk] = min(least[chunk], (clock() - start) / len(x))
            turns += 1
    except InputError:  # out of memory, say
        return 0.0
    finally:
        predict.chunk = usual
    return least[before] / least[size] if least[size] else 0.0  # too short for the clock


def _architecture(module: nn.Module) -> str:
    """Return a hash of the properties that determine a model's speed, found without running it."""
    layers = [(name, type(layer).__qualname__) for name, layer in module.named_modules()]
    tensors = [(name, list(tensor.shape), str(tensor.dtype)) for name, tensor in
               (*module.named_parameters(), *module.named_buffers())]
    return hashlib.sha256(json.dumps([layers, tensors]).encode()).hexdigest()[:32]
