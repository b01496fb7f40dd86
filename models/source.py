"""What every source of other people's models provides."""

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
        source: What its answers depend on besides its tensors: the code that defines it, and its version.
        notes: What its user should be told, one line each.
        classes: Names of its logits in their order, where they are known.
    """

    label: str
    module: nn.Module
    source: bytes
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Source:
    """A source of models; `framebench.models.registry.SOURCES` has its word, the one before the colon of a name.

    Attributes:
        load: Takes what stands behind ``WORD:`` and returns the model; raises InputError where there is none.
        form: How that reads, for ``bench list``.
        summary: What it is, for ``bench list``.
        names: Returns all names, without the word, where they can be listed.
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
