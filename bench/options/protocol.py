"""Protocols: options of `bench attack` and `bench shift` as a TOML file, shipped by name or a user's own.

A protocol has a table for each command, ``[attack]`` and ``[shift]``. Its keys are the command's long option names; its
values are defaults, which flags on the command line override. Its text is kept with the rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from framebench.errors import InputError, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "protocols"

#: Shipped protocols by name.
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))

#: The tables of a protocol, a command each.
TABLES = ("attack", "shift")

#: Options that make no sense as a default of many runs.
_NO_KEYS = ("help", "protocol", "transfer_from")

_WORDS = {int: "an integer", float: "a number", str: "a string"}


@dataclass(frozen=True)
class Protocol:
    """One table of a protocol.

    Attributes:
        name: The shipped name, or the file's.
        text: The whole file.
        options: The command's options by their names in the parsed arguments, converted and checked.
    """

    name: str
    text: str
    options: dict[str, Any]


def facts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what is kept with rows about the protocol: its name, its text, and options that the call has overridden.

    Args:
        arguments: The command's. Without a protocol there is no fact.
    """
    protocol: Protocol | None = arguments.protocol
    if protocol is None:
        return {}
    changed = [name for name, value in protocol.options.items() if getattr(arguments, name) != value]
    return {"protocol": {"name": protocol.name, "text": protocol.text, **({"overridden": changed} if changed else {})}}


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line, with the values of its protocol as defaults.

    Raises:
        InputError: for a protocol that can't be used.
    """
    arguments = parser.parse_args(argv)
    if getattr(arguments, "protocol", None) is None:
        return arguments
    return parser.parse_args(argv)  # the first pass has met --protocol and set the defaults, see `UseProtocol`


class UseProtocol(argparse.Action):
    """The action of ``--protocol``: make the protocol's values the defaults of the command's parser."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, command: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, **settings)
        self._command = command

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        """Read, check and apply the protocol of this name."""
        protocol = read(values, self._command, parser)
        parser.set_defaults(**{name: _Replaced(value) if isinstance(value, list) else value
                               for name, value in protocol.options.items()})
        setattr(namespace, self.dest, protocol)


class _Replaced(list[Any]):
    """A default whose copy is empty, so that flags that add up, such as --attack-option, don't add to it."""

    def __copy__(self) -> list[Any]:
        return []


def read(given: str, command: str, parser: argparse.ArgumentParser) -> Protocol:
    """Read a protocol and check its table of a command.

    Args:
        given: A name of `NAMES`, or the path of a ``.toml`` file.
        command: One of `TABLES`.
        parser: The command's parser, which knows the options.

    Raises:
        InputError: for a name or file that is not there, and for what the command would not take.
    """
    if not given.endswith(".toml") and given not in NAMES:
        raise unknown("protocol", given, [*NAMES, "FILE.toml"])
    path = FOLDER / f"{given}.toml" if given in NAMES else Path(given)
    name = given if given in NAMES else path.name
    try:
        text = path.expanduser().read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"can't read the protocol {path} ({error.strerror}); give a TOML file, or one of "
                         f"{', '.join(NAMES)}") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise InputError(f"the protocol {path} is not a TOML file: {' '.join(str(error).split())}; correct "
                         "it") from None
    for table, content in tables.items():
        if table not in TABLES:
            raise unknown(f"table in the protocol {name}", table, TABLES)
        if not isinstance(content, dict):
            raise InputError(f"{table} in the protocol {name} must be a table; write [{table}] and its options below")
    if command not in tables:
        raise InputError(f"the protocol {name} has no table [{command}]; add one, or leave --protocol out")
    return Protocol(name, text, _options(tables[command], f"{name}, [{command}]", parser))


def _options(table: dict[str, Any], where: str, parser: argparse.ArgumentParser) -> dict[str, Any]:
    known = {max(action.option_strings, key=len).lstrip("-"): action for action in parser._actions
             if action.dest not in _NO_KEYS}
    options: dict[str, Any] = {}
    for key, value in table.items():
        action = known.get(key.replace("_", "-"))
        if action is None:
            raise unknown(f"option in the protocol {where}", key, known)
        if action.dest in options:
            raise InputError(f"the protocol {where} has {key} twice, with a dash and an underscore; keep one")
        options[action.dest] = convert(action, value, f"{key} in the protocol {where}")
    return options


def convert(action: argparse.Action, value: Any, what: str) -> Any:
    """Return an option's value, given as TOML has it, as it comes from the command line.

    Args:
        action: The option.
        value: The value. A list of one, where the option takes several, may be given without its brackets.
        what: What messages call it.

    Raises:
        InputError: for what the option does not take.
    """
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise InputError(f"{what} must be true or false, not {_shown(value)}")
        return value
    if action.nargs not in ("+", "*"):
        return _single(action, value, what)
    values = value if isinstance(value, list) else [value]
    if not values and action.nargs == "+":
        raise InputError(f"{what} must be a list of one or more values in [ ], not []")
    return [_single(action, entry, what) for entry in values]


def _single(action: argparse.Action, value: Any, what: str) -> Any:
    convert: Any = action.type or str
    kind = convert if isinstance(convert, type) else get_type_hints(convert)["return"]
    kind = kind if kind in _WORDS else str  # a Path is written as a string
    fraction = kind is float and isinstance(value, str) and "/" in value  # "8/255"
    if not fraction and type(value) is not kind and not (kind is float and type(value) is int):
        raise InputError(f"{what} must be {_WORDS[kind]}, not {_shown(value)}")
    try:
        converted = convert(str(value))
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise InputError(f"{what} can't be {_shown(value)}: {error}; correct it") from None
    if action.choices is not None and converted not in action.choices:
        raise unknown(f"value of {what}", str(value), action.choices)
    return converted


def _shown(value: Any) -> str:
    """Return a value for a message: in one line, whatever it is."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]}..."
