"""A model that is only a function, such as a request to a service: images in, scores or labels out.

The function is called with few images at a time, no faster than allowed, and again after a failure. When it keeps
failing the run ends with the rows so far kept, and the same command goes on from there.
"""

from __future__ import annotations

import difflib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from framebench.errors import InputError
from framebench.user_code import reason

Function = Callable[[np.ndarray], Any]

#: What the function returns: logits or probabilities float [n, classes], or predicted classes int [n].
ANSWERS = ("logits", "probabilities", "labels")

#: Attributes of a function that say how it is to be called, see `BlackBoxModel`.
_SETTINGS = ("answers", "classes", "rate", "retries", "backoff")

#: The smallest probability that has a logarithm in float32.
_SMALLEST = float(np.finfo(np.float32).tiny)


class BlackBoxModel(nn.Module):
    """Wraps a function as a model from images in [0, 1] to logits.

    Probabilities become their logarithms, which are logits of the same model. Labels become one-hot rows: enough for
    an attack that asks for decisions, and for no other.

    Args:
        function: Maps images float32 [n, H, W, C] in [0, 1] to its answers.
        answers: What it returns, one of `ANSWERS`.
        classes: Number of classes; needed for labels.
        rate: Calls a second, or None for no limit.
        retries: Calls after a failed one before giving up.
        backoff: Seconds to wait after the first failure; doubled after each further one.

    Attributes:
        labels_only: Whether nothing but the predicted class is known.
        calls: Calls so far, failed ones included.
    """

    def __init__(self, function: Function, *, answers: str = "logits", classes: int | None = None,
                 rate: float | None = None, retries: int = 4, backoff: float = 1.0) -> None:
        super().__init__()
        if answers not in ANSWERS:
            raise InputError(f"a black box answers with {', '.join(ANSWERS)}, not with '{answers}'")
        if answers == "labels" and classes is None:
            raise InputError("a black box that answers with labels needs the number of classes; set classes")
        if rate is not None and not rate > 0:
            raise InputError(f"the rate of a black box must be above 0 calls a second, not {rate}")
        if classes is not None and classes < 1 or retries < 0 or backoff < 0:
            raise InputError(f"a black box can't have {classes} classes, {retries} retries and a backoff of {backoff} "
                             "seconds; none is negative, and there is a class at least")
        self.labels_only, self.calls = answers == "labels", 0
        self._function, self._answers, self._classes = function, answers, classes
        self._interval = 0.0 if rate is None else 1 / rate
        self._retries, self._backoff = retries, backoff
        self._next, self._lock = 0.0, threading.Lock()  # a predictor may use several threads
        self.eval()

    def extra_repr(self) -> str:
        """Name the function, by which a model that has no tensors is told from others (`registry.wrap`)."""
        name = getattr(self._function, "__qualname__", type(self._function).__qualname__)
        return f"{getattr(self._function, '__module__', None)}.{name}, answers={self._answers}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images float [n, C, H, W] to logits float32 [n, classes].

        Raises:
            InputError: if the function keeps failing, or returns what can't be.
        """
        if not isinstance(x, torch.Tensor):
            raise TypeError("a black box can't be traced")
        if len(x) == 2 and torch.equal(x[0], x[1]):  # a lone image, padded by the predictor: no need to pay twice
            return self.forward(x[:1]).repeat(2, 1)
        images = np.ascontiguousarray(x.detach().cpu().permute(0, 2, 3, 1).numpy(), dtype=np.float32)
        return self._read(self._call(images), len(x)).to(x.device)

    def _call(self, images: np.ndarray) -> Any:
        with self._lock:
            for attempt in range(self._retries + 1):
                time.sleep(max(0.0, self._next - time.monotonic()))
                self._next = time.monotonic() + self._interval
                self.calls += 1
                try:
                    return self._function(images)
                except (Exception, SystemExit) as error:  # a stranger's function can fail in any way
                    failure = reason(error)
                if attempt < self._retries:
                    time.sleep(self._backoff * 2**attempt)
        raise InputError(f"the black box failed {self._retries + 1} times in a row ({failure}); the rows so far are "
                         "kept, and the same command goes on from there")

    def _read(self, answer: Any, n: int) -> torch.Tensor:
        values = np.asarray(answer)
        if self._answers == "labels":
            assert self._classes is not None
            if values.shape != (n,) or not np.issubdtype(values.dtype, np.integer):
                raise InputError(f"the black box must return {n} integer labels, not {values.dtype} "
                                 f"{list(values.shape)}; if it returns scores, set answers")
            if n and not 0 <= values.min() <= values.max() < self._classes:
                raise InputError(f"the black box returned a label outside 0 to {self._classes - 1}; set classes")
            return torch.nn.functional.one_hot(torch.from_numpy(values.astype(np.int64)), self._classes).float()
        if values.ndim != 2 or len(values) != n:
            raise InputError(f"the black box must return scores [{n}, classes], not {list(values.shape)}; if it "
                             "returns labels, set answers = 'labels'")
        scores = torch.from_numpy(values.astype(np.float32))
        return scores.clamp_min(_SMALLEST).log() if self._answers == "probabilities" else scores


def black_box(function: Function) -> BlackBoxModel:
    """Wrap a function whose settings, where they differ from the defaults, are its own attributes.

    For example ``classify.answers = "labels"``, ``classify.classes = 10``, ``classify.rate = 5``.

    Raises:
        InputError: for settings that can't be, and for an attribute that is nearly called like one.
    """
    for name in getattr(function, "__dict__", {}):
        near = difflib.get_close_matches(name.lower(), _SETTINGS, n=1, cutoff=0.8)
        if near and name not in _SETTINGS:
            raise InputError(f"the black box has an attribute '{name}', which is no setting; did you mean {near[0]}?")
    return BlackBoxModel(function, **{name: getattr(function, name) for name in _SETTINGS if hasattr(function, name)})
