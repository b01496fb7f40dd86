"""The fast form of a model for inference.

On a CPU the images of a call are split into chunks that stay in a core's cache; each chunk is computed by one core
with one thread, several chunks at a time. That is faster than letting all cores share each layer, and the logits of
an image then depend neither on the batch it is in nor on the number of cores (tests/models/test_predictor.py).
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

#: Images per chunk: enough to fill the vector units, few enough that a layer's output stays in the L2 cache.
CHUNK = 16
#: Calls that tell a model whose answers depend on its images alone from a random one.
CALLS = 4
#: How often each of them is tried until no generator was drawn from meanwhile.
TRIES = 10
#: Sizes of chunks at which logits are compared with those of a whole one.
_SIZES = (2, 3, 5, 9, 15)


class Predictor:
    """Maps images [n, C, H, W] in [0, 1] to logits [n, classes], in inference mode.

    The model gets copies: what it does to them in place changes none of the caller's images. A model that is paid for
    (`BlackBoxModel`) is sent each image once, and nothing else.

    Args:
        model: A model in eval mode.
        example: Images [n, C, H, W] that the model is to be used on: fixes sizes, and the fused form is checked on
            them against the model itself.
        device: Where to compute.
        threads: CPU threads; torch's own parallelism inside operators is set to one thread.
        kind: "fused" or "eager"; None takes the fused form where it can be made and agrees with the model.
        name: What messages call the model.

    Attributes:
        kind: The form in use, to be stored with results: another form may differ in the last bits.
        chunk: Images per chunk; None where a batch is not split. `take_chunks` changes it.

    Raises:
        InputError: here and in every call, for whatever a stranger's model raises, and for answers that are not one row
            of real numbers per image, or have another number of classes than the answers before.
    """

    #: The model gets copies of the images, and what is returned is no memory of its own: attacks need not copy again.
    copies = True

    def __init__(self, model: nn.Module, example: torch.Tensor, *, device: torch.device | None = None,
                 threads: int = 1, kind: str | None = None, name: str = "") -> None:
        self.device = device or torch.device("cpu")
        self.kind = "eager"
        self._name = " ".join(["the model", name]).rstrip()
        self._model = model
        with foreign(lambda error: InputError(f"{self._name} can't be moved to {self.device} and put into eval mode "
                                              f"({reason(error)}); correct its to() and eval()")):
            model.to(self.device)  # in place, whatever a class of someone else's returns
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
        """Compute chunks of another size from now on, if that changes no bit of the logits.

        Args:
            size: Images per chunk, at least 2.
            example: Images [n, C, H, W] that logits are compared on, repeated if they are fewer than `size`.

        Returns:
            Whether it is so. If not, chunks have the size that they had.
        """
        if self.chunk is None or size < self._least:
            return False
        if size == self.chunk:
            return True
        x = _filled(example, max(size, CHUNK))
        # A batch is split evenly, so that there are smaller chunks too; and an image can have any place in one.
        sizes = {size, size - 1, (CHUNK + size) // 2, CHUNK + 1} if size > CHUNK else {size, size - 1}
        try:
            want = self(x)
            moved, wanted = (torch.cat([values[-1:], values[:-1]]) for values in (x, want))
            same = all(torch.equal(torch.cat(list(map(self._run, torch.split(x, n)))), want) for n in sizes) and \
                torch.equal(torch.cat(list(map(self._run, torch.split(moved, size)))), wanted)
        except InputError:  # out of memory, say; in its usual chunks it may work
            return False
        self.chunk = size if same else self.chunk
        return same

    def repeats_itself(self, example: torch.Tensor) -> bool:
        """Tell whether more calls on images [n, C, H, W] do no harm: they are not paid for, and leave no trace."""
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
        """Call a function with each part, on all threads."""
        if self._pool is None or len(parts) == 1:
            return [function(part) for part in parts]
        return list(self._pool.map(function, parts))

    def _chunks(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        """Split images evenly, so that no core waits for one that got more."""
        assert self.chunk is not None
        rounds = -(-len(x) // (self.chunk * self._threads))
        return torch.split(x, max(2, -(-len(x) // (rounds * self._threads))) if rounds else 2)

    @torch.inference_mode()  # of this thread: the mode does not pass to the pool's
    def _run(self, x: torch.Tensor) -> torch.Tensor:
        return self._logits(x)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        # A single row takes another code path in matrix products, with other rounding. Two rows and more agree, except
        # where `PaddedLinears` and `_depends_on_size` help.
        given = _filled(x, self._least)
        with self.failing(x):
            logits = self._model(given.clone())
        return self._checked(logits, len(given))[: len(x)].clone()  # a model may use the memory again

    def failing(self, x: torch.Tensor) -> AbstractContextManager[None]:
        """Turn whatever a stranger's model raises on images [n, C, H, W] into the error that names the model."""
        def explain(error: BaseException) -> InputError:
            advice = "choose a smaller --batch-size, or fewer --threads" if out_of_memory(error) else \
                "it must map images [n, 3, H, W] in [0, 1] to logits [n, classes]"
            return InputError(f"{self._name} fails on images {list(x.shape[1:])} ({reason(error)}); {advice}")
        return foreign(explain)

    def _checked(self, logits: object, n: int) -> torch.Tensor:
        """Return the answer for n images, in float32 where it comes in half precision: numpy knows no bfloat16."""
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
        """Tell whether logits depend on the size of a chunk: libraries choose algorithms, and so roundings, by it."""
        example = _filled(example[:CHUNK], CHUNK)
        try:
            whole, again = self._run(example), self._run(example)
            return torch.equal(whole, again) and not all(torch.equal(self._run(example[:n]), whole[:n]) for n in _SIZES)
        except InputError:  # whoever calls the model will see it
            return False

    def _fused(self, example: torch.Tensor) -> nn.Module | None:
        if self.device.type != "cpu" or example.dtype != torch.float32:
            return None
        if self._paid_for():
            return None
        example = example.contiguous(memory_format=torch.channels_last)
        try:
            with self.failing(example), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of operators that the trace does not need
                if not _answers_for_inputs_alone(self._model, example[:2]):
                    return None
                fused = fuse(self._model, example.clone(), CHUNK)
                with torch.inference_mode():
                    want, got = self._model(example.clone()), fused(example.clone())
                alike = float((want - got).abs().max()) <= 1e-4 * (float(want.abs().max()) + 1e-6)
        except InputError:  # tracing a stranger's model can fail in any way; the model counts
            return None
        return fused if alike else None


def _filled(x: torch.Tensor, least: int) -> torch.Tensor:
    """Return images, repeated to at least that many if there are fewer."""
    return x if len(x) >= least or not len(x) else x.repeat(-(-least // len(x)), 1, 1, 1)[:least]


def _answers_for_inputs_alone(model: nn.Module, example: torch.Tensor) -> bool:
    """Tell whether a model is a function of its images; the trace of another one would repeat what it did that time.

    A function gives the same answer each time, and leaves the global generators and its own buffers and attributes
    alone.
    """
    before = _state(model)
    with torch.inference_mode():
        answers = [_without_draws(model, example) for _ in range(CALLS)]
    first, *others = answers
    return before == _state(model) and first is not None and all(
        other is not None and torch.equal(first, other) for other in others)


def _without_draws(model: nn.Module, example: torch.Tensor) -> torch.Tensor | None:
    """Return the answer of a call during which nobody drew from the global generators; None where there is none.

    Other threads may draw too: dask's do, in a worker, twice a second. A model that draws does so in every call.
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
