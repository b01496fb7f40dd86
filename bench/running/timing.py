"""How many images a thread takes at once, chosen by a short timing on this machine and kept in the cache.

On a CPU every thread computes a chunk of a batch at a time (`framebench.models.predictor`). Larger chunks fill a core's
vector units better, until what a layer computes outgrows the core's cache: where that is depends on network, image size
and processor. The size of batches, the form of a model and the number of threads are not chosen so; docs/models.md says
why, with figures.

A choice never changes a row: it is taken where it gives the same logits as the usual one, bit for bit, which is looked
at in every run (`Predictor.take_chunks`).
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

#: Images per chunk that are tried: larger ones as long as each pays, and smaller ones where none does.
LARGER, SMALLER = (32, 64), (8, 4)
#: Images of a run from which on it is timed. A timing and the comparison of logits cost as much as some hundreds, or a
#: second and a half where that is more.
WORTH = 50_000
#: What another size must win.
_MARGIN = 0.03
#: Seconds for a comparison, if each size has had its turns by then.
_PATIENCE, _TURNS = 0.5, 2


@dataclass(frozen=True)
class Timing:
    """A timing that is kept.

    Attributes:
        model: The model's name; others of its architecture share the timing.
        architecture: Hash of its layers' names and kinds, and of the shapes of its tensors.
        form: "fused" or "eager".
        shape: Of an image, (C, H, W).
        threads: CPU threads.
        torch: Version of torch.
        processor: The processor.
        chunk: Images per chunk that were chosen.
        gain: Images/s with these over images/s with `CHUNK`.
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
        """Hash of what it is of."""
        of = [self.architecture, self.form, self.shape, self.threads, self.torch, self.processor]
        return hashlib.sha256(json.dumps(of).encode()).hexdigest()[:32]


def choose(predict: Predictor, model: LoadedModel, example: torch.Tensor, *, how: Computing, passes: float,
           clock: Callable[[], float] = time.process_time) -> None:
    """Let a predictor take as many images at once as is fastest here; nothing is done where that can't pay.

    Args:
        predict: The predictor.
        model: What it was made of.
        example: Images [n, C, H, W] that it is to be used on.
        how: With what is computed.
        passes: Images that it is going to be asked about, roughly.
        clock: Returns seconds. Those of the processor are disturbed least by other work on the machine, and counted
            over all threads they tell what these take from each other.
    """
    if not how.timed or passes < WORTH or predict.chunk is None or not predict.repeats_itself(example):
        return
    of = Timing(model.name, _architecture(model.module), predict.kind, tuple(example.shape[1:]), how.threads,
                torch.__version__, processor())
    timing = next((known for known in kept(of.key) if known.chunk in (*SMALLER, CHUNK, *LARGER)), None)
    when = "earlier"
    if timing is None:
        chunk, gain = _fastest(predict, example, how, clock)
        same = predict.take_chunks(chunk, example)
        timing, when = dataclasses.replace(of, chunk=chunk, gain=round(gain, 3)) if same else of, "now"
        _keep(timing)
    if predict.take_chunks(timing.chunk, example):
        _log.info("%s: each thread takes %d images at once, as was timed %s (bench list --machine)", model.name,
                  timing.chunk, when)


def kept(key: str = "") -> Iterator[Timing]:
    """Yield the timings in the cache, or those of one key; what is damaged or of another version is passed over."""
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
        for path in folder().glob(f"{timing.key}-*.json"):  # which could not be read
            path.unlink(missing_ok=True)
        seal(folder(), timing.key, ".json", json.dumps(dataclasses.asdict(timing)).encode())
    except OSError:
        pass  # without a cache, the next run takes its time again


def _fastest(predict: Predictor, example: torch.Tensor, how: Computing,
             clock: Callable[[], float]) -> tuple[int, float]:
    """Return the size of the fastest chunks, and what it wins over `CHUNK`."""
    best, won = CHUNK, 1.0
    for sizes in (LARGER, SMALLER):
        for size in sizes if best == CHUNK else ():
            if size * how.threads > how.batch_size:
                break
            gain = _gain(predict, example, best, size, how.threads, clock)
            if gain < 1 + _MARGIN:
                break
            best, won = size, won * gain
    return best, won


def _gain(predict: Predictor, example: torch.Tensor, before: int, size: int, threads: int,
          clock: Callable[[], float]) -> float:
    """Return images/s in chunks of a size over those in chunks of another; each thread gets one."""
    images = {chunk: example.repeat(-(-chunk * threads // len(example)), 1, 1, 1)[: chunk * threads]
              for chunk in (before, size)}
    least = dict.fromkeys(images, float("inf"))  # other work on the machine only adds to it
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
    return least[before] / least[size] if least[size] else 0.0  # below what the clock can tell


def _architecture(module: nn.Module) -> str:
    """Return a hash of what the speed of a model depends on, as far as can be seen without running it."""
    layers = [(name, type(layer).__qualname__) for name, layer in module.named_modules()]
    tensors = [(name, list(tensor.shape), str(tensor.dtype)) for name, tensor in
               (*module.named_parameters(), *module.named_buffers())]
    return hashlib.sha256(json.dumps([layers, tensors]).encode()).hexdigest()[:32]
