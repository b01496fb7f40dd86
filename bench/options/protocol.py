"""Protocols: TOML files with options of `bench attack` and `bench shift`; some are shipped.

A protocol has a table per command, ``[attack]`` and ``[shift]``. Its keys are the command's long flags without the
dashes. Flags on the command line and keywords in Python override its values. Its text is kept with the rows.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.options.common import Options, option, options_of
from bench.options.kinds import TEXT, Kind
from bench.options.values import convert
from framebench.errors import InputError, unknown

FOLDER = Path(__file__).parent / "protocols"

#: Shipped protocols by name.
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))

#: The tables of a protocol, one per command.
TABLES = ("attack", "shift")


@dataclass(frozen=True)
class Protocol:
    """One table of a protocol.

    Attributes:
        name: The shipped name, or the name of the file.
        text: The whole file.
        options: The command's options by the names of their fields, converted and checked.
    """

    name: str
    text: str
    options: dict[str, Any]


def _protocol(value: Any) -> Protocol | str:
    return value if isinstance(value, Protocol) else TEXT.take(value)


@dataclass(frozen=True, init=False)
class WithProtocol(Options):
    """Options of a command that has a table in protocols."""

    protocol: Protocol | None = option(
        "--protocol", None, Kind("a name or the path of a TOML file", _protocol),
        f"a set of options: {', '.join(NAMES)}, or a FILE.toml with a table [COMMAND]; other flags override it",
        metavar="P", in_protocol=False)

    def _completed(self, given: dict[str, Any]) -> dict[str, Any]:
        if "protocol" not in given:
            return given
        spec = options_of(type(self))["protocol"]
        protocol = convert(spec, given["protocol"], spec.flag)
        if not isinstance(protocol, Protocol):
            protocol = read(protocol, type(self))
        return {**protocol.options, **given, "protocol": protocol}

    def _usual(self) -> dict[str, Any]:
        return super()._usual() | (self.protocol.options if self.protocol else {})


def protocol_facts(options: WithProtocol) -> dict[str, Any] | None:
    """Return the facts about the protocol: its name, its text, and the names of overridden options."""
    protocol = options.protocol
    if protocol is None:
        return None
    overridden = [name for name, value in protocol.options.items() if getattr(options, name) != value]
    return {"name": protocol.name, "text": protocol.text, "overridden": overridden}


def read(given: str, kind: type[WithProtocol]) -> Protocol:
    """Read a protocol and check its table for a command.

    Args:
        given: A name of `NAMES`, or the path of a ``.toml`` file.
        kind: The command's options.

    Raises:
        InputError: for an unknown name, a missing file, and options that the command would refuse.
    """
    if not given.endswith(".toml") and given not in NAMES:
        raise unknown("protocol", given, [*NAMES, "FILE.toml"])
    path = FOLDER / f"{given}.toml" if given in NAMES else Path(given)
    name = given if given in NAMES else path.name
    text, tables = _tables(path)
    for table, content in tables.items():
        if table not in TABLES:
            raise unknown(f"table in the protocol {name}", table, TABLES)
        if not isinstance(content, dict):
            raise InputError(f"{table} in the protocol {name} must be a table; write [{table}] and its options below")
    if kind.command not in tables:
        raise InputError(f"the protocol {name} has no table [{kind.command}]; add one, or leave --protocol out")
    return Protocol(name, text, _options(tables[kind.command], f"the protocol {name}, [{kind.command}]", kind))


def _tables(path: Path) -> tuple[str, dict[str, Any]]:
    from framebench.files import regular  # here, since the import is slow

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = regular(Path(os.path.expanduser(path))).read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise InputError(f"can't read the protocol {path} ({error.strerror}); give a TOML file, or one of "
                         f"{', '.join(NAMES)}") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise InputError(f"the protocol {path} is not a TOML file: {' '.join(str(error).split())}; correct "
                         "it") from None


def _options(table: dict[str, Any], where: str, kind: type[WithProtocol]) -> dict[str, Any]:
    by_key = {option.key: (name, option) for name, option in options_of(kind).items() if option.in_protocol}
    options: dict[str, Any] = {}
    for key, value in table.items():
        if (match := by_key.get(key.replace("_", "-"))) is None:
            raise unknown(f"option in {where}", key, by_key)
        name, option = match
        if name in options:
            raise InputError(f"{where} has {key} twice, with a dash and an underscore; keep one")
        options[name] = convert(option, value, f"{key} in {where}")
    return options
