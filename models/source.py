"""The interface of sources of other people's models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from framebench.errors import InputError
from framebench.user_code import foreign, reason


@dataclass(frozen=True)
class Found:
    """A model that someone else made.

    Attributes:
        label: Its name in tables.
        module: Maps images [n, 3, H, W] in [0, 1] to logits; in eval mode.
        source: All that its outputs depend on besides its tensors, such as its code or name and version.
        notes: Remarks for the user, one line each.
        classes: Class names in the order of the logits, if known.
    """

    label: str
    module: nn.Module
    source: bytes
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Source:
    """A source of models, registered in `framebench.models.registry.SOURCES` under a prefix.

    Attributes:
        load: Loads the model with the name that follows ``PREFIX:``; raises InputError if there is none.
        form: The form of these names, for ``bench list``.
        summary: Description for ``bench list``.
        names: Returns all names, without the prefix; None if they can't be listed.
    """

    load: Callable[[str], Found]
    form: str
    summary: str
    names: Callable[[], list[str]] | None = None


def in_eval_mode(module: nn.Module, name: str) -> nn.Module:
    """Put someone else's model into eval mode, in place, and return it.

    Raises:
        InputError: if it can't be, or has tensors without values.
    """
    with foreign(lambda error: InputError(f"the model {name} can't be put into eval mode ({reason(error)}); correct "
                                          "its eval()")):
        module.eval()
        tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        raise InputError(f"the model {name} has tensors without values (on the device meta); load its weights first")
    return module
