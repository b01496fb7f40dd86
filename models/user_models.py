"""Models from a user's own code: a function that returns a model, or a function that is one."""

from __future__ import annotations

import numpy as np
from torch import nn

from framebench.errors import InputError
from framebench.identity import fingerprint
from framebench.models.blackbox import black_box
from framebench.models.source import Found, Source, in_eval_mode
from framebench.user_code import foreign, load_function, reason


def from_factory(name: str) -> Found:
    """Call ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``, which makes a model.

    Raises:
        InputError: if the function can't be imported, raises, or returns no `nn.Module`.
    """
    user = load_function("python", name)
    with foreign(lambda error: InputError(f"python:{name} raised {reason(error)}; correct it, or name another")):
        model = user.function()
    if not isinstance(model, nn.Module):
        raise InputError(f"python:{name} returned an object of type {type(model).__name__}, not a torch.nn.Module")
    in_eval_mode(model, user.label)
    return Found(user.label, model, user.source + fingerprint(model).encode(), classes=classes_of(model))


def classes_of(model: nn.Module) -> tuple[str, ...] | None:
    """Return a model's attribute `classes` if it is a list, tuple or array of strings, the class names; else None."""
    classes = getattr(model, "classes", None)
    classes = classes.tolist() if isinstance(classes, np.ndarray) else classes
    if isinstance(classes, list | tuple) and classes and all(isinstance(name, str) for name in classes):
        return tuple(classes)
    return None


def from_black_box(name: str) -> Found:
    """Wrap ``FILE.py:FUNCTION``, which maps images to scores or labels (`framebench.models.blackbox.black_box`).

    It is identified by the text of its file and of the files that this one imports from the same folder, its name, and
    the settings that change its outputs. The state of a service is unknown: use another OUT for another version of it.

    Raises:
        InputError: if the function can't be imported, or has invalid settings.
    """
    user = load_function("blackbox", name)
    settings = [getattr(user.function, setting, None) for setting in ("answers", "classes")]
    return Found(user.label, black_box(user.function), user.source + repr(settings).encode())


FACTORY = Source(from_factory, "FILE.py:FUNCTION or python:MODULE:FUNCTION",
                 "a function that returns the model; its code is run")
BLACK_BOX = Source(from_black_box, "FILE.py:FUNCTION or blackbox:MODULE:FUNCTION",
                   "a function from images to scores or labels, such as a request to a service")
