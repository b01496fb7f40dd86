"""Flags of a command, derived from the fields of its options."""

from __future__ import annotations

import argparse
from dataclasses import MISSING
from typing import Any

from bench.options.common import Option, Options, default_of, described, options_of
from bench.options.kinds import PAIRS, TRUTH


def add_flags(parser: argparse.ArgumentParser, kind: type[Options]) -> None:
    """Add a flag per option, under the heading of its group."""
    groups: dict[str, Any] = {"": parser}
    for name, option in options_of(kind).items():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        groups[option.group].add_argument(*([name] if option.positional else [option.flag]),
                                          **_settings(name, option, default_of(kind, name)))


def read_flags(kind: type[Options], arguments: argparse.Namespace) -> Options:
    """Return the options of a parsed command line.

    Raises:
        InputError: for an invalid value.
    """
    return kind(**{name: _read(option, getattr(arguments, name)) for name, option in options_of(kind).items()
                   if hasattr(arguments, name)})


def _settings(name: str, option: Option, default: Any) -> dict[str, Any]:
    """Return the arguments of `add_argument` for an option; argparse only collects texts."""
    if option.kind is TRUTH:
        return {"dest": name, "action": "store_true", "help": option.help, "default": argparse.SUPPRESS}
    settings: dict[str, Any] = {"help": described(option, default).replace("%", "%%"), "default": argparse.SUPPRESS}
    settings["metavar"] = option.metavar or (f"{{{','.join(option.choices)}}}" if isinstance(option.choices, tuple)
                                             and option.choices else option.flag.lstrip("-").upper())
    if option.many:
        settings["nargs"] = option.many
    if option.kind is PAIRS:
        settings["action"] = "extend"
    if option.positional:
        return settings | ({} if default is MISSING else {"nargs": "*" if option.many else "?"})
    return settings | {"dest": name, "required": default is MISSING}


def _read(option: Option, typed: Any) -> Any:
    """Parse a text of the command line. A text that can't be parsed stays as it is, for `convert` to refuse."""
    if isinstance(typed, list):
        return [_read(option, text) for text in typed]
    try:
        return option.kind.read(typed) if isinstance(typed, str) else typed
    except ValueError:
        return typed
