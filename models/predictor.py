"""The fast form of a model for inference.

On a CPU, a batch is split into chunks that fit into a core's cache. Each chunk is computed by one thread, several
chunks in parallel. This is faster than sharing each layer among all cores, and the logits of an image depend neither on
its batch nor on the number of cores (tests/models/test_predictor.py).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from framebench.errors import InputError, out_of_memory
from framebench.models.blackbox import BlackBoxModel
from framebench.models.fuse import PaddedLinears, fuse
from framebench.user_code import foreign, reason

S = TypeVar("S")
T = TypeVar("T")

#: Images per chunk: enough to fill the vector units, few enough that the output of a layer stays in the L2 cache.
CHUNK = 16
#: Calls on the same images that must agree for a model to count as deterministic.
CALLS = 4
#: Attempts per call, since other threads may draw from the global generators meanwhile.
TRIES = 10
#: Chunk sizes whose logits are compared with those of a whole chunk.
_SIZES = (2, 3, 5, 9, 15)


class Predictor:
    """Maps images [n, C, H, W] in [0, 1] to logits [n, classes], in inference mode.

    The model gets copies, so it can't change the caller's images in place. A `BlackBoxModel`, whose queries may cost
    money, gets each image once and nothing else.

    Args:
        model: A model in eval mode.
        example: Images [n, C, H, W] like those to come: the fused form is laid out for their size, and checked on them
            against the model.
        device: Where to compute; None for the CPU.
        threads: CPU threads; torch's own parallelism inside operators is switched off.
        kind: "fused" or "eager"; None for fused if that is possible and agrees with the model, else eager.
        name: The model's name in messages.

    Attributes:
        kind: The form in use, stored with results: the forms may differ in the last bits.
        chunk: Images per chunk; None if batches are not split. `take_chunks` changes it.

    Raises:
        InputError: here and in every call, for any error in the model's code, and for outputs that are not one row of
            real numbers per image, or have another number of classes than before.
    """

    #: Neither inputs nor outputs share memory with the model's: attacks need not copy them again.
    copies = True

    def __init__(self, model: nn.Module, example: torch.Tensor, *, device: torch.device | None = None,
                 threads: int = 1, kind: str | None = None, name: str = "") -> None:
        self.device = device or torch.device("cpu")
        self.kind = "eager"
        self._name = " ".join(["the model", name]).rstrip()
        self._model = model
        with foreign(lambda error: InputError(f"{self._name} can't be moved to {self.device} and put into eval mode "
                                              f"({reason(error)}); correct its to() and eval()")):
            model.to(self.device)  # in place; a class that overrides it may return anything
            model.eval()
        self._classes: torch.Size | None = None
        self.chunk = CHUNK if self.device.type == "cpu" else None
        self._pool: ThreadPoolExecutor | None = None
        self._threads = threads
        if self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa are coarser than what a step changes
        if self.chunk:
            torch.set_num_threads(1)
            if threads > 1:
                self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self._least = 1 if self._paid_for() else 2  # images per call of the model
        if kind != "eager" and (fused := self._fused(example[:CHUNK])) is not None:
            self._model, self.kind = fused, "fused"
        elif kind == "fused":
            raise InputError("this model can't be fused here, but the rows so far were made with its fused form; use "
                             "the device that they were made on, or another --out")
        else:
            self._model = PaddedLinears(model, CHUNK)
        if self.chunk and self._least > 1 and self._depends_on_size(example):
            self._least = CHUNK

    def take_chunks(self, size: int, example: torch.Tensor) -> bool:
        """Change the chunk size if that changes no bit of the logits, and return whether chunks have this size now.

        Args:
            size: Images per chunk, at least 2.
            example: Images [n, C, H, W] for the comparison, repeated if they are fewer than `size`.
        """
        if self.chunk is None or size < self._least:
            return False
        if size == self.chunk:
            return True
        x = _filled(example, max(size, CHUNK))
        # Batches are split evenly, so there are smaller chunks too, and an image can be at any position in one.
        sizes = {size, size - 1, (CHUNK + size) // 2, CHUNK + 1} if size > CHUNK else {size, size - 1}
        try:
            want = self(x)
            rotated, want_rotated = (torch.cat([values[-1:], values[:-1]]) for values in (x, want))
            same = all(torch.equal(torch.cat(list(map(self._run, torch.split(x, n)))), want) for n in sizes) and \
                torch.equal(torch.cat(list(map(self._run, torch.split(rotated, size)))), want_rotated)
        except InputError:  # such as out of memory; the usual chunks may still work
            return False
        self.chunk = size if same else self.chunk
        return same

    def repeats_itself(self, example: torch.Tensor) -> bool:
        """Return whether extra calls on images [n, C, H, W] are harmless: free of charge and of side effects."""
        if self._paid_for():
            return False
        try:
            with self.failing(example):
                return self.kind == "fused" or _answers_for_inputs_alone(self._model, example[:2])
        except InputError:
            return False

    @torch.inference_mode()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [n, C, H, W] in [0, 1] to logits [n, classes]."""
        if self.chunk is None:
            return self._run(x.to(self.device))
        return torch.cat(self.each(self._run, self._chunks(x)))

    def each(self, function: Callable[[S], T], parts: Sequence[S]) -> list[T]:
        """Map a function over parts, on all threads."""
        if self._pool is None or len(parts) == 1:
            return [function(part) for part in parts]
        return list(self._pool.map(function, parts))

    def _chunks(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        """Split images evenly among the threads."""
        assert self.chunk is not None
        rounds = -(-len(x) // (self.chunk * self._threads))
        return torch.split(x, max(2, -(-len(x) // (rounds * self._threads))) if rounds else 2)

    @torch.inference_mode()  # of this thread: the mode does not pass to the pool's
    def _run(self, x: torch.Tensor) -> torch.Tensor:
        return self._logits(x)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        # Matrix products of a single row round differently. Two rows and more agree, or else `PaddedLinear` and
        # `_depends_on_size` help.
        filled = _filled(x, self._least)
        with self.failing(x):
            logits = self._model(filled.clone())
        return self._checked(logits, len(filled))[: len(x)].clone()  # the model may reuse the memory

    def failing(self, x: torch.Tensor) -> AbstractContextManager[None]:
        """Turn any error in the model's code, on images [n, C, H, W], into an `InputError` that names the model."""
        def explain(error: BaseException) -> InputError:
            advice = "choose a smaller --batch-size, or fewer --threads" if out_of_memory(error) else \
                "it must map images [n, 3, H, W] in [0, 1] to logits [n, classes]"
            return InputError(f"{self._name} fails on images {list(x.shape[1:])} ({reason(error)}); {advice}")
        return foreign(explain)

    def _checked(self, logits: object, n: int) -> torch.Tensor:
        """Check the logits of n images; convert half precision to float32, since NumPy has no bfloat16."""
        if not isinstance(logits, torch.Tensor) or logits.is_complex() or logits.layout != torch.strided:
            kind = f"{logits.layout} {logits.dtype}" if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise InputError(f"{self._name} returns {kind}; it must return one row of real logits for each image")
        if logits.shape[:1] != (n,):
            raise InputError(f"{self._name} returns {list(logits.shape)} for {n} images; it must return one row of "
                             "logits for each")
        if self._classes is None:
            self._classes = logits.shape[1:]
        if logits.shape[1:] != self._classes:
            raise InputError(f"{self._name} returns {list(logits.shape[1:])} values per image now and "
                             f"{list(self._classes)} before; it must return one row of logits for each image")
        return logits.float() if logits.is_floating_point() and logits.itemsize < 4 else logits

    def _paid_for(self) -> bool:
        return any(isinstance(module, BlackBoxModel) for module in self._model.modules())

    def _depends_on_size(self, example: torch.Tensor) -> bool:
        """Return whether logits depend on the chunk size, by which libraries may choose their algorithms."""
        example = _filled(example[:CHUNK], CHUNK)
        try:
            whole, again = self._run(example), self._run(example)
            return torch.equal(whole, again) and not all(torch.equal(self._run(example[:n]), whole[:n]) for n in _SIZES)
        except InputError:  # the next call will raise it
            return False

    def _fused(self, example: torch.Tensor) -> nn.Module | None:
        if self.device.type != "cpu" or example.dtype != torch.float32:
            return None
        if self._paid_for():
            return None
        example = example.contiguous(memory_format=torch.channels_last)
        try:
            with self.failing(example), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the trace does not keep all operators that warn
                if not _answers_for_inputs_alone(self._model, example[:2]):
                    return None
                fused = fuse(self._model, example.clone(), CHUNK)
                with torch.inference_mode():
                    want, got = self._model(example.clone()), fused(example.clone())
                alike = float((want - got).abs().max()) <= 1e-4 * (float(want.abs().max()) + 1e-6)
        except InputError:  # tracing can fail in any way; then the model itself is used
            return None
        return fused if alike else None


def _filled(x: torch.Tensor, least: int) -> torch.Tensor:
    """Return images, repeated to `least` if there are fewer (and any)."""
    return x if len(x) >= least or not len(x) else x.repeat(-(-least // len(x)), 1, 1, 1)[:least]


def _answers_for_inputs_alone(model: nn.Module, example: torch.Tensor) -> bool:
    """Return whether a model is a pure function of its images; a trace would freeze what another one did once.

    A pure function repeats its answer and changes neither the global generators nor its own buffers and attributes.
    """
    before = _state(model)
    with torch.inference_mode():
        first, *others = [_without_draws(model, example) for _ in range(CALLS)]
    return before == _state(model) and first is not None and all(
        other is not None and torch.equal(first, other) for other in others)


def _without_draws(model: nn.Module, example: torch.Tensor) -> torch.Tensor | None:
    """Return the answer of a call during which the global generators were not used; None if each call uses them.

    A few attempts are needed because other threads may draw too: those of a dask worker do so twice a second.
    """
    for _ in range(TRIES):
        before = _generators()
        answer: torch.Tensor = model(example.clone())
        if before == _generators():
            return answer
    return None


def _generators() -> list[object]:
    _, keys, position, *_ = np.random.get_state()
    return [random.getstate(), np.asarray(keys).tobytes(), position, torch.get_rng_state().numpy().tobytes()]


def _state(model: nn.Module) -> list[object]:
    own = [(name, value) for module in model.modules() for name, value in vars(module).items()
           if isinstance(value, (bool, int, float, str))]
    return [own, [buffer.cpu().flatten().view(torch.uint8).numpy().tobytes() for buffer in model.buffers()]]
