"""A model that is only a function from images to scores or labels, such as a request to a service.

Calls are limited in rate and repeated after failures. If the function keeps failing, the run ends; its rows are kept,
and the same command continues it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import nn

from framebench.errors import InputError, unknown
from framebench.user_code import reason, settings_of

Function = Callable[[np.ndarray], Any]

#: Outputs of the function: logits or probabilities float [n, classes], or predicted classes int [n].
ANSWERS = ("logits", "probabilities", "labels")

#: Settings of `BlackBoxModel` that a function may have as attributes.
_SETTINGS = ("answers", "classes", "rate", "retries", "backoff")

#: The smallest probability that has a logarithm in float32.
_SMALLEST = float(np.finfo(np.float32).tiny)


class BlackBoxModel(nn.Module):
    """A function as a model from images in [0, 1] to logits.

    Probabilities are converted to their logarithms, which are valid logits. Labels are converted to one-hot rows, which
    are only suitable for decision-based attacks.

    Args:
        function: Maps images float32 [n, H, W, C] in [0, 1] to outputs.
        answers: Kind of outputs, one of `ANSWERS`.
        classes: Number of classes; required for labels.
        rate: Calls per second, or None for no limit.
        retries: Further attempts after a failed call.
        backoff: Seconds to wait after the first failure; doubled after each further one.

    Attributes:
        labels_only: Whether only predicted classes are known.
        calls: Calls so far, including failed ones.

    Raises:
        InputError: for an invalid setting.
    """

    def __init__(self, function: Function, *, answers: str = "logits", classes: int | None = None,
                 rate: float | None = None, retries: int = 4, backoff: float = 1.0) -> None:
        super().__init__()
        for name, value, kind in (("classes", classes, Integral), ("rate", rate, Real), ("retries", retries, Integral),
                                  ("backoff", backoff, Real)):
            optional = name in ("classes", "rate")
            if not (isinstance(value, kind) and not isinstance(value, bool) or optional and value is None):
                word = "a whole number" if kind is Integral else "a number"
                raise InputError(f"{name} of a black box must be {word}, not {value!r}")
        if answers not in ANSWERS:
            raise InputError(f"a black box answers with {', '.join(ANSWERS)}, not with '{answers}'")
        if answers == "labels" and classes is None:
            raise InputError("a black box that answers with labels needs the number of classes; set classes")
        if rate is not None and not rate > 0:
            raise InputError(f"the rate of a black box must be above 0 calls per second, not {rate}")
        if classes is not None and classes < 1 or retries < 0 or not 0 <= backoff < float("inf"):
            raise InputError(f"a black box can't have {classes} classes, {retries} retries and a backoff of {backoff} "
                             "seconds; none may be negative or infinite, and there must be at least one class")
        self.labels_only, self.calls = answers == "labels", 0
        self._function, self._answers, self._classes = function, answers, classes
        self._interval = 0.0 if rate is None else 1 / rate
        self._retries, self._backoff = retries, backoff
        self._next, self._lock = 0.0, threading.Lock()  # a predictor may use several threads
        self.eval()

    def answers_depend_on(self) -> tuple[object, ...]:
        """Return what identifies this model (`framebench.identity`); rate and retries don't change its outputs."""
        return self._function, self._answers, self._classes

    def extra_repr(self) -> str:
        """Name the function."""
        return f"{getattr(self._function, '__qualname__', type(self._function).__qualname__)}, answers={self._answers}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images float [n, C, H, W] to logits float32 [n, classes].

        Raises:
            InputError: if the function keeps failing, or returns invalid outputs.
        """
        if not isinstance(x, torch.Tensor):
            raise TypeError("a black box can't be traced")
        images = x.detach().cpu().permute(0, 2, 3, 1).numpy().astype(np.float32, order="C", copy=False)
        return self._read(self._call(images), len(x)).to(x.device)

    def _call(self, images: np.ndarray) -> Any:
        with self._lock:
            for attempt in range(self._retries + 1):
                time.sleep(max(0.0, self._next - time.monotonic()))
                self._next = time.monotonic() + self._interval
                self.calls += 1
                try:
                    return self._function(images.copy())  # it may write into them and then fail
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # the function is not ours and can fail in any way
                    failure = reason(error)
                if attempt < self._retries:
                    time.sleep(self._backoff * 2**attempt)
        raise InputError(f"the black box failed {self._retries + 1} times in a row ({failure}); finished rows "
                         "are kept, and the same command resumes the run; the function gets float32 images "
                         "[n, H, W, C]")

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
        # Only the range is checked: services round, and some return the largest probabilities alone.
        if self._answers == "probabilities" and n and not -1e-6 <= scores.min() <= scores.max() <= 1.001:
            raise InputError(f"the black box returned {scores.min():g} to {scores.max():g}, which are not "
                             "probabilities; if these are logits, set answers = 'logits'")
        return scores.clamp_min(_SMALLEST).log() if self._answers == "probabilities" else scores


def black_box(function: Function, **settings: Any) -> BlackBoxModel:
    """Wrap a function from arrays of images, float32 [n, H, W, C] in [0, 1], to scores or labels as a model.

    Args:
        function: The function. It may have settings as attributes, such as ``classify.answers = "labels"``.
        **settings: answers, classes, rate, retries and backoff (see `BlackBoxModel`); they override the attributes.

    Raises:
        InputError: for an unknown or invalid setting, an attribute that looks like a misspelt setting, or an object
            that is not a function.
    """
    if not callable(function) or isinstance(function, nn.Module):
        raise InputError(f"a black box is a function of arrays, not a {type(function).__name__}; a module is a model "
                         "by itself")
    for name in settings:
        if name not in _SETTINGS:
            raise unknown("setting of a black box", name, _SETTINGS)
    return BlackBoxModel(function, **{**settings_of(function, "the black box", _SETTINGS), **settings})
