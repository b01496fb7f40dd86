"""Functions from a user's own files, named as ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.

Their code is run. Nothing here hides a user's own modules: ours are below `framebench` and `bench` alone, so a file
called ``models.py`` beside the user's is the one that the user's code imports.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from framebench.errors import InputError, unknown
from framebench.files import file_digest


@dataclass(frozen=True)
class UserFunction:
    """A function of a user's.

    Attributes:
        function: The function.
        label: What tables call it: the file's or module's name, and the function's.
        source: The text of its file and of the files from the same folder that this one imports, and the function's
            name: what its answers depend on, as far as can be told. Modules that are imported under a computed name,
            and data files, can't be.
    """

    function: Callable[..., Any]
    label: str
    source: bytes

    def __str__(self) -> str:
        return f"python:{self.label}"


def load_function(kind: str, name: str) -> UserFunction:
    """Import ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.

    Args:
        kind: What stands before the name on the command line, such as "python"; for messages.
        name: The file or module, and the function.

    Raises:
        InputError: if the name does not read so, the file can't be imported, or has no such function.
    """
    where, _, function = name.rpartition(":")
    if not where or not function:
        raise InputError(f"'{kind}:{name}' must read {kind}:MODULE:FUNCTION or {kind}:FILE.py:FUNCTION")
    with foreign(lambda error: InputError(f"can't import {where} ({reason(error)}); correct it, or name another")):
        container = _import_file(Path(os.path.expanduser(where))) if where.endswith(".py") else _import_module(where)
    if not hasattr(container, function):
        raise unknown(f"function in {where}", function, _functions(container))
    found = getattr(container, function)
    if not callable(found):
        raise InputError(f"{function} in {where} is of the type {type(found).__name__}, not a function; name one that "
                         "is")
    # The function's name too: two functions of one file can give the same tensors and yet different models.
    source = _source(container) + f"\0{function}".encode()
    return UserFunction(found, name.rpartition("/")[2].replace(".py:", ":"), source)


def settings_of(function: Callable[..., Any], what: str, names: Sequence[str], *, alike: float = 0.8) -> dict[str, Any]:
    """Return the settings that a user has given a function as attributes, such as ``classify.classes = 10``.

    Args:
        function: The function.
        what: What messages call it.
        names: The settings that there are.
        alike: From which likeness on, 0 to 1, another attribute is taken to be a misspelt setting.

    Raises:
        InputError: for an attribute that is nearly called like one: it was meant as one.
    """
    for attribute in getattr(function, "__dict__", {}):
        near = difflib.get_close_matches(attribute.lower(), names, n=1, cutoff=alike)
        if near and attribute not in names:
            raise InputError(f"{what} has an attribute '{attribute}', which is no setting; did you mean {near[0]}?")
    return {name: getattr(function, name) for name in names if hasattr(function, name)}


@contextmanager
def foreign(explain: Callable[[BaseException], InputError]) -> Iterator[None]:
    """Turn whatever others' code raises inside into an error for its user; `InputError` and Ctrl-C pass.

    It can raise what is no `Exception`: sys.exit does, cancelled tasks of asyncio do, and anybody can derive such.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise explain(error) from error


def reason(error: BaseException) -> str:
    """Return an error's type and message in one line of a bearable length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 else ''}" if text else type(error).__name__


def _source(module: ModuleType) -> bytes:
    """Return the text of a module and of what it imports from the same folder, whether that is loaded or not.

    What is loaded depends on what else the process has done, and must not count.
    """
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py"):
        return module.__name__.encode()
    first = Path(file).resolve()
    root = first.parents[module.__name__.count(".") + (first.name == "__init__.py")]
    texts: dict[Path, bytes] = {}
    todo = [first]
    while todo:
        path = todo.pop()
        texts[path] = path.read_bytes()
        if "site-packages" not in path.parts:
            todo += [found for found in _imported(path, texts[path], root) if found not in texts and found not in todo]
    return b"\0".join(text for _, text in sorted(texts.items(), key=lambda item: (item[0] != first, item[0])))


def _imported(path: Path, text: bytes, root: Path) -> list[Path]:
    """Return the files below a folder that the import statements of one of them mean."""
    found = []
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # of a file that an import inside a function names
        nodes = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names, base = [alias.name for alias in node.names], root
        elif isinstance(node, ast.ImportFrom):
            above = f"{node.module}." if node.module else ""
            names = [f"{above}{alias.name}" for alias in node.names] + [node.module or ""]
            base = path.parents[node.level - 1] if node.level else root
        else:
            continue
        for name in names:
            steps = name.split(".") if name else []
            for place in (base.joinpath(*steps[:depth]) for depth in range(len(steps) + 1)):
                # The folder itself is no package of the user's, unless a relative import says so.
                inside = [place / "__init__.py"] if place != root else []
                found += [file for file in (place.with_suffix(".py"), *inside) if file.is_file()]
    return found


def _functions(container: Any) -> list[str]:
    """Return the names of a module's own functions and classes, or of those that it imports where it has none."""
    found = {name: str(getattr(value, "__module__", "")) for name, value in vars(container).items() if callable(value)}
    own = [name for name, module in found.items() if f"{module}.".startswith(f"{container.__name__}.")]
    return own or list(found)


def _import_module(name: str) -> ModuleType:
    """Import a module; one in the working folder counts, whichever way the command was started."""
    _enter(Path.cwd())
    return importlib.import_module(name)


class _Fresh(SourceFileLoader):
    """Runs what is in a file now. Python's cache takes a file edited within a second, of the same size, for the old."""

    def path_stats(self, path: str | bytes) -> NoReturn:  # by which the cache is found
        raise OSError("not cached")


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    _enter(path.resolve().parent)
    # A private name, with the file's digest: an edited file is another module.
    name = f"_user_{file_digest(path, 'sha256')[:12]}_{path.stem.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


#: The folder whose modules a user's code can import at present.
_entered: list[Path] = []


def _enter(folder: Path) -> None:
    """Let the modules of a folder be imported first, as where a file in it is run, and those of another no more.

    Two users' files may each stand beside a ``models.py`` of their own.
    """
    if _entered == [folder]:
        return
    for left in _entered:
        sys.path.remove(str(left))
        for module in _modules_below(left):
            if not module.__name__.startswith("_user_"):
                del sys.modules[module.__name__]
    _entered[:] = [folder]
    sys.path.insert(0, str(folder))


def _modules_below(folder: Path) -> list[ModuleType]:
    """Return a user's modules in a folder: neither ours nor installed ones."""
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        ours = name.partition(".")[0] in ("__main__", "bench", "framebench", "tests")
        if file and not ours and folder in Path(file).parents and "site-packages" not in Path(file).parts:
            found.append(module)
    return found
