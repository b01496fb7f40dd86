"""A fingerprint of all that determines the outputs of a function, a callable object or a module.

It covers, recursively, the code of functions and classes (bytecode, constants, names), their defaults, the values in
closures and in the globals that they use, and the attributes of objects, including arrays and tensors. Functions and
classes of installed packages, the standard library and this project count by name, and their objects by their values.

Attributes that a function assigns during a call, such as ``self.calls += 1``, are left out, since they change with each
call. An object whose class defines ``answers_depend_on(self)`` is identified only by what this returns.

Not covered: the state of a service; files, environment variables and imports that are read during a call; state inside
objects of extension types; attributes set on a function. The content of a container that a function fills counts, so
the fingerprint of such a function changes.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import io
import sys
import sysconfig
import types
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from framebench.errors import InputError

#: Name of the method by which an object declares what its outputs depend on.
METHOD = "answers_depend_on"

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), np.generic, PurePath, np.dtype, torch.dtype,
          torch.device, torch.Size)
#: Internal attributes of modules; tensors, children and hooks are read by `_parts`.
_MODULE_INTERNALS = set(vars(nn.Module()))
#: Methods that are run by a call.
_CALLED = ("__call__", "forward")


def fingerprint(*values: object) -> str:
    """Return the sha256 of values, equal in every process; see the module's docstring.

    Raises:
        InputError: for a lazy module that was not called yet, and for TorchScript that can't be saved.
    """
    return _Walk().digest(values)


class _Walk:
    """A traversal of values and all that they refer to.

    Functions, classes and objects are numbered when first met and then described in this order, so cycles end.
    """

    def __init__(self) -> None:
        self._met: list[tuple[Any, str]] = []  # keeps objects alive, so that their ids stay unique
        self._numbers: dict[int, int] = {}
        self._open: set[int] = set()

    def digest(self, values: Iterable[object]) -> str:
        sha = hashlib.sha256("|".join(map(self._text, values)).encode())
        for value, method in self._met:  # grows during the loop
            sha.update(f"\0{self._described(value, method)}".encode())
        return sha.hexdigest()

    def _text(self, value: Any) -> str:
        """Describe a value in place, or by its number."""
        if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, torch.Tensor | np.ndarray):
            return _array(value)
        if isinstance(value, list | tuple | dict | set | frozenset) and _installed(type(value)):
            return self._container(value)
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, functools.partial):
            return f"partial {self._text(value.func)} {self._text(value.args)} {self._text(value.keywords)}"
        if isinstance(value, types.MethodType):
            owner, name = value.__self__, value.__func__.__name__
            return f"method {name} of {self._text(owner) if isinstance(owner, type) else self._number(owner, name)}"
        if isinstance(value, types.FunctionType) and (value.__closure__ or not _installed(value)):
            return self._number(value)  # an installed decorator holds a user's function in its closure
        if isinstance(value, type) and not _installed(value):
            return self._number(value)
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType | np.ufunc | type):
            return _name(value)
        return self._number(value)

    def _number(self, value: Any, method: str = "") -> str:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._met)
            self._met.append((value, method))
        return f"#{self._numbers[id(value)]}"

    def _container(self, value: Any) -> str:
        if id(value) in self._open:
            return "itself"
        self._open.add(id(value))
        if isinstance(value, dict):
            parts = sorted(f"{self._text(key)}: {self._text(entry)}" for key, entry in value.items())
        else:
            parts = [self._text(entry) for entry in (value if isinstance(value, list | tuple) else _ordered(value))]
        self._open.remove(id(value))
        return f"{type(value).__name__}[{', '.join(parts)}]"

    def _code(self, code: types.CodeType) -> str:
        form = f"{code.co_argcount} {code.co_kwonlyargcount} {code.co_flags} {code.co_code.hex()}"
        return f"code {form} {code.co_names} {code.co_freevars} {self._text(code.co_consts)}"

    def _described(self, value: Any, method: str) -> str:
        """Describe a function, a class or an object, to which its number refers."""
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if hasattr(type(value), METHOD):
            return f"{_name(type(value))} {self._text(getattr(value, METHOD)())}"
        return self._object(value, method)

    def _function(self, function: types.FunctionType) -> str:
        code = function.__code__
        cells = dict(zip(code.co_freevars, map(_content, function.__closure__ or ()), strict=True))
        names = sorted({name for one in _nested(code) for name in one.co_names} - _assigned(code, "STORE_GLOBAL"))
        named = {name: function.__globals__[name] for name in names if name in function.__globals__}
        kept = {f"global {name}": self._text(value) for name, value in named.items()}
        kept |= {name: self._text(cells[name]) for name in sorted(set(cells) - _assigned(code, "STORE_DEREF"))}
        # Names that are used from a user's own module, as in `helper.scale(x)`.
        modules = [value for value in named.values() if isinstance(value, types.ModuleType) and not _installed(value)]
        for module in modules:
            inside = {name: getattr(module, name) for name in names if hasattr(module, name)}
            modules += [value for value in inside.values()
                        if isinstance(value, types.ModuleType) and not _installed(value) and value not in modules]
            kept |= {f"{module.__name__}.{name}": self._text(value) for name, value in inside.items()}
        defaults = self._text((function.__defaults__, function.__kwdefaults__))
        return f"function {self._code(code)} {defaults} {sorted(kept.items())}"

    def _class(self, kind: type) -> str:
        bases = [self._text(base) for base in kind.__bases__]
        entries = {name: value for name, value in vars(kind).items()
                   if not (name.startswith(("__", "_abc_")) and not callable(value))}
        return f"class {kind.__qualname__} {bases} {self._attributes(entries)}"

    def _object(self, value: Any, method: str) -> str:
        """Describe an object by its class and attributes, or a descriptor by its functions."""
        if isinstance(value, staticmethod | classmethod):
            return f"{type(value).__name__} {self._text(value.__func__)}"
        if isinstance(value, property):
            return f"property {self._text((value.fget, value.fset))}"
        if isinstance(value, enum.Enum):
            return f"{self._text(type(value))} {value.name}"
        entries = _attributes_of(value)
        if isinstance(value, nn.Module):
            assigned = _assigned_in_calls(type(value), method)
            entries = {name: kept for name, kept in entries.items() if name not in _MODULE_INTERNALS} | _parts(value)
        elif _installed(type(value)):
            assigned = set()
            entries = {name: kept for name, kept in entries.items() if _held(kept)}
        else:
            assigned = _assigned_in_calls(type(value), method)
        kept = {name: entry for name, entry in entries.items() if name not in assigned}
        inside = self._container(value) if isinstance(value, list | tuple | dict | set | frozenset) else ""
        return f"{self._text(type(value))} {self._attributes(kept)} {inside}"

    def _attributes(self, entries: dict[str, Any]) -> str:
        return ", ".join(f"{name}={self._text(value)}" for name, value in sorted(entries.items()))


def _array(value: Any) -> str:
    if is_lazy(value):
        raise InputError("the model has parameters that have no size yet; call it once on images before")
    if isinstance(value, torch.Tensor):
        if value.is_meta:
            return f"tensor {value.dtype} {tuple(value.shape)}"
        if value.is_quantized:
            return f"{value.qscheme()} {value.dtype} {_array(value.dequantize())}"
        if value.layout != torch.strided:
            return f"{value.layout} {_array(value.to_dense())}"
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif value.dtype.hasobject:
        return f"objects {value.tolist()!r}" if value.size < 1000 else f"objects {value.shape}"
    else:
        flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return f"array {value.dtype} {tuple(value.shape)} {hashlib.sha256(flat.data).hexdigest()}"


def _attributes_of(value: Any) -> dict[str, Any]:
    slots = [name for kind in type(value).__mro__ for name in _tuple(vars(kind).get("__slots__", ()))]
    return {**getattr(value, "__dict__", {}),
            **{name: getattr(value, name) for name in slots if name not in ("__dict__", "__weakref__")
               and hasattr(value, name)}}


def _tuple(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _parts(module: nn.Module) -> dict[str, Any]:
    """Return a module's tensors, other state, children and hooks, and the code of one that was traced or scripted."""
    state: dict[str, Any] = {}
    if isinstance(module, torch.jit.ScriptModule):
        state = {"code": getattr(module, "code", ""), "constants": _constants(module)}
    else:
        module._save_to_state_dict(state, "", False)  # the module's own part, with extra state and packed weights
    hooks = {name: list(value.values()) for name, value in vars(module).items()
             if name.endswith("_hooks") and isinstance(value, dict) and value}
    return {**hooks, **state, **dict(module.named_parameters(recurse=False)),
            **dict(module.named_buffers(recurse=False)), **dict(module.named_children())}


def _constants(module: torch.jit.ScriptModule) -> str:
    """Return the sha256 of the constants in a module's code, among them the weights if it is frozen.

    Raises:
        InputError: if it can't be saved, which is the only way to get them.
    """
    content = io.BytesIO()
    try:
        torch.jit.save(module, content)
    except RuntimeError as error:
        raise InputError(f"the model has TorchScript that can't be saved ({' '.join(str(error).split())[:100]}), so a "
                         "change of it could not be noticed; give the model without TorchScript") from None
    with zipfile.ZipFile(content) as archive:  # other entries differ between processes
        names = sorted(name for name in archive.namelist() if name.partition("/")[2].startswith("constants"))
        return hashlib.sha256(b"".join(hashlib.sha256(archive.read(name)).digest() for name in names)).hexdigest()


def _held(value: Any) -> bool:
    """Return whether an attribute with this value counts for an object of an installed package."""
    if isinstance(value, list | tuple):
        return all(map(_held, value))
    return isinstance(value, (*_PLAIN, torch.Tensor, np.ndarray, nn.Module, types.FunctionType, types.MethodType, type))


def _ordered(values: Iterable[Any]) -> list[Any]:
    return sorted(values, key=lambda value: (type(value).__name__, repr(value)))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # still empty
        return None


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _assigned(code: types.CodeType, instruction: str) -> set[str]:
    """Return the names that a function assigns by one kind of instruction."""
    return {str(step.argval) for one in _nested(code) for step in dis.get_instructions(one)
            if step.opname == instruction}


def _assigned_in_calls(kind: type, method: str) -> set[str]:
    """Return the attributes that a call of an object assigns, in its method or in methods that this one uses."""
    todo, done, assigned = [method, *_CALLED], set(), set[str]()
    while todo:
        name = todo.pop()
        function = getattr(kind, name, None)
        if name in done or not isinstance(function, types.FunctionType) or _installed(function):
            continue
        done.add(name)
        assigned |= _assigned(function.__code__, "STORE_ATTR")
        todo += [named for one in _nested(function.__code__) for named in one.co_names]
    return assigned


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', None) or value.__name__}"


def _installed(value: Any) -> bool:
    """Return whether a value belongs to an installed package, to Python itself or to this project."""
    if isinstance(value, types.FunctionType):
        return bool(value.__module__) and _from_installed(value.__module__)
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return _from_installed(name or "builtins")


@functools.lru_cache(4096)
def _from_installed(name: str) -> bool:
    top = name.partition(".")[0]
    module = sys.modules.get(top)
    if top == "__main__" or module is None:
        return False
    if top in ("framebench", "bench"):
        return True
    places = [module.__file__] if getattr(module, "__file__", None) else list(getattr(module, "__path__", []))
    if not places:
        return top in sys.stdlib_module_names
    place = Path(str(places[0]))
    root = place.parent.parent if place.name == "__init__.py" else place.parent
    return root.is_relative_to(sysconfig.get_path("stdlib")) or any(root.glob("*.dist-info"))
