"""Packages that only some models, attacks and corruptions need; ``pip install 'framebench[EXTRA]'`` brings them."""

from __future__ import annotations

import importlib
from typing import Any

from framebench.errors import InputError


def require(module: str, extra: str) -> Any:
    """Import a module of a package that an extra brings.

    Args:
        module: Its full name.
        extra: The extra of this package that brings it, such as "zoo".

    Raises:
        InputError: if it can't be imported, with the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        said = " ".join(str(error).split())
        raise InputError(f"this needs {module}, which can't be imported ({said}); "
                         f"pip install 'framebench[{extra}]'") from None
