"""Functions from a user's own files, named ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``; their code is run.

All our modules are below `framebench` and `bench`, so they never hide a user's module, such as a ``models.py``.
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
    """A user's function.

    Attributes:
        function: The function.
        label: Its name in tables: that of the file or module, and that of the function.
        source: Identifies its behaviour: the text of its file and of the files in the same folder that it imports, and
            the name of the function. Data files and imports with computed names are not included.
    """

    function: Callable[..., Any]
    label: str
    source: bytes

    def __str__(self) -> str:
        return f"python:{self.label}"


def load_function(kind: str, name: str) -> UserFunction:
    """Import ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.

    Args:
        kind: The prefix of the name on the command line, such as "python"; for messages.
        name: The file or module, and the function.

    Raises:
        InputError: if the name has another form, the file can't be imported, or it has no such function.
    """
    where, _, function = name.rpartition(":")
    if not where or not function:
        raise InputError(f"'{kind}:{name}' must read {kind}:MODULE:FUNCTION or {kind}:FILE.py:FUNCTION")
    with foreign(lambda error: InputError(f"can't import {where} ({reason(error)}); correct it, or name another")):
        container = _import_file(Path(os.path.expanduser(where))) if where.endswith(".py") else _import_module(where)
    if not hasattr(container, function):
        raise unknown(f"function in {where}", function, _functions(container))
    value = getattr(container, function)
    if not callable(value):
        raise InputError(f"{function} in {where} is of the type {type(value).__name__}, not a function; name one that "
                         "is")
    # The name too: two functions of one file can return different models with equal tensors.
    source = _source(container) + f"\0{function}".encode()
    return UserFunction(value, name.rpartition("/")[2].replace(".py:", ":"), source)


def settings_of(function: Callable[..., Any], what: str, names: Sequence[str], *, alike: float = 0.8) -> dict[str, Any]:
    """Return the settings that a user's function has as attributes, such as ``classify.classes = 10``.

    Args:
        function: The function.
        what: Its name in messages.
        names: The names of all settings.
        alike: Similarity, 0 to 1, from which another attribute counts as a misspelt setting.

    Raises:
        InputError: for an attribute that looks like a misspelt setting.
    """
    for attribute in getattr(function, "__dict__", {}):
        near = difflib.get_close_matches(attribute.lower(), names, n=1, cutoff=alike)
        if near and attribute not in names:
            raise InputError(f"{what} has an attribute '{attribute}', which is not a setting; did you mean {near[0]}?")
    return {name: getattr(function, name) for name in names if hasattr(function, name)}


@contextmanager
def foreign(explain: Callable[[BaseException], InputError]) -> Iterator[None]:
    """Turn any error of other people's code inside into an `InputError`; `InputError` and Ctrl-C pass.

    Such code may raise what is no `Exception`: sys.exit and cancelled tasks of asyncio do.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise explain(error) from error


def reason(error: BaseException) -> str:
    """Return the type and message of an error in one line, shortened to about 200 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 else ''}" if text else type(error).__name__


def _source(module: ModuleType) -> bytes:
    """Return the text of a module and of all that it imports from the same folder.

    Files are found from import statements: `sys.modules` depends on what else the process has done.
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
            todo += [file for file in _imported(path, texts[path], root) if file not in texts and file not in todo]
    return b"\0".join(text for _, text in sorted(texts.items(), key=lambda item: (item[0] != first, item[0])))


def _imported(path: Path, text: bytes, root: Path) -> list[Path]:
    """Return the files below `root` that the import statements of a file refer to."""
    files = []
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # in a file that is imported inside a function, if at all
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
                # The folder itself is not a package, unless there is a relative import.
                inside = [place / "__init__.py"] if place != root else []
                files += [file for file in (place.with_suffix(".py"), *inside) if file.is_file()]
    return files


def _functions(container: Any) -> list[str]:
    """Return the names of functions and classes that a module defines, or of those that it imports if it has none."""
    homes = {name: str(getattr(value, "__module__", "")) for name, value in vars(container).items() if callable(value)}
    defined = [name for name, home in homes.items() if f"{home}.".startswith(f"{container.__name__}.")]
    return defined or list(homes)


def _import_module(name: str) -> ModuleType:
    """Import a module, also from the working folder."""
    _enter(Path.cwd())
    return importlib.import_module(name)


class _Fresh(SourceFileLoader):
    """Bypasses the bytecode cache, which misses an edit within a second that keeps the size of the file."""

    def path_stats(self, path: str | bytes) -> NoReturn:  # by which the cache is found
        raise OSError("not cached")


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    _enter(path.resolve().parent)
    # The name contains the digest of the file: an edited file is another module.
    name = f"_user_{file_digest(path, 'sha256')[:12]}_{path.stem.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


#: The folder that a user's code currently imports from.
_entered: list[Path] = []


def _enter(folder: Path) -> None:
    """Import modules from this folder first, as when a file in it is run, and no longer from the previous folder.

    Two user files may each have their own ``models.py`` beside them.
    """
    if _entered == [folder]:
        return
    for previous in _entered:
        sys.path.remove(str(previous))
        for module in _modules_below(previous):
            if not module.__name__.startswith("_user_"):
                del sys.modules[module.__name__]
    _entered[:] = [folder]
    sys.path.insert(0, str(folder))


def _modules_below(folder: Path) -> list[ModuleType]:
    """Return a user's modules in a folder, without the benchmark's and installed ones."""
    modules = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        excluded = name.partition(".")[0] in ("__main__", "bench", "framebench", "tests")
        if file and not excluded and folder in Path(file).parents and "site-packages" not in Path(file).parts:
            modules.append(module)
    return modules
