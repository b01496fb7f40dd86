"""Flags of a command, made from the fields of its options."""

from __future__ import annotations

import argparse
from dataclasses import MISSING
from typing import Any

from bench.options.common import Option, Options, default_of, described, options_of
from bench.options.kinds import PAIRS, TRUTH


def add_flags(parser: argparse.ArgumentParser, kind: type[Options]) -> None:
    """Add a flag for every option, under the heading of its group."""
    groups: dict[str, Any] = {"": parser}
    for name, how in options_of(kind).items():
        if how.group not in groups:
            groups[how.group] = parser.add_argument_group(how.group)
        groups[how.group].add_argument(*([name] if how.positional else [how.flag]),
                                       **_settings(name, how, default_of(kind, name)))


def read_flags(kind: type[Options], arguments: argparse.Namespace) -> Options:
    """Return the options that a parsed command line means.

    Raises:
        InputError: for a value that can't be.
    """
    return kind(**{name: _read(how, getattr(arguments, name)) for name, how in options_of(kind).items()
                   if hasattr(arguments, name)})


def _settings(name: str, how: Option, default: Any) -> dict[str, Any]:
    """Return an option's settings for argparse, which only collects texts."""
    if how.kind is TRUTH:
        return {"dest": name, "action": "store_true", "help": how.help, "default": argparse.SUPPRESS}
    settings: dict[str, Any] = {"help": described(how, default).replace("%", "%%"), "default": argparse.SUPPRESS}
    settings["metavar"] = how.metavar or (f"{{{','.join(how.choices)}}}" if isinstance(how.choices, tuple)
                                          and how.choices else how.flag.lstrip("-").upper())
    if how.many:
        settings["nargs"] = how.many
    if how.kind is PAIRS:
        settings["action"] = "extend"
    if how.positional:
        return settings | ({} if default is MISSING else {"nargs": "*" if how.many else "?"})
    return settings | {"dest": name, "required": default is MISSING}


def _read(how: Option, typed: Any) -> Any:
    """Return what was typed as Python would give it; what can't be read stays a text."""
    if isinstance(typed, list):
        return [_read(how, text) for text in typed]
    try:
        return how.kind.read(typed) if isinstance(typed, str) else typed
    except ValueError:
        return typed
