"""What the options of every command have in common.

An option is a field of a frozen dataclass, with its default, kind, choices, flag and help. The flag on the command line
(`bench.cli.flags`), the key in a protocol and the keyword in Python derive from it, with the same checks and messages.
Slow imports are avoided, so that ``--help`` is instant.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from bench.options.kinds import (
    AT_LEAST_ONE,
    DEVICE,
    INTEGER,
    PAIRS,
    PATH,
    PIXELS,
    TEXT,
    THREADS,
    TRUTH,
    Kind,
    Rule,
)
from bench.options.values import convert
from framebench.errors import InputError, printable, unknown

#: Groups in help.
FILES, MESSAGES, REPORT = "files", "messages", "report"
IMAGES = "image files (folder:PATH, imagenet, ...; changes the pixels)"
COMPUTING = "computing (no effect on results)"


@dataclass(frozen=True)
class Option:
    """How an option is given.

    Attributes:
        flag: The flag, such as ``--batch-size``; for a positional argument its metavar.
        kind: Kind of a value.
        help: Help text, without the default.
        many: Number of values: "+" for one or more, "*" for any number, "" for a single one.
        choices: All allowed values, or where to find them (`bench.options.kinds.resolve`); () for any.
        rule: A further condition on each value.
        distinct: Whether values must differ.
        metavar: Name of a value in the help.
        known_as: Description of the default in the help, if it is only known at run time.
        group: Heading in the help.
        positional: Whether it is given without a flag.
        in_protocol: Whether a protocol may set it.
    """

    flag: str
    kind: Kind
    help: str
    many: str = ""
    choices: tuple[str, ...] | str = ()
    rule: Rule | None = None
    distinct: bool = False
    metavar: str | None = None
    known_as: str = ""
    group: str = ""
    positional: bool = False
    in_protocol: bool = True

    @property
    def key(self) -> str:
        """The key in a protocol."""
        return self.flag.lstrip("-")


def option(flag: str, default: Any, kind: Kind, help: str, **more: Any) -> Any:
    """Return a field of a command's options; see `Option`. With the default MISSING, the option is required."""
    start: Any = {"default_factory": dict} if kind is PAIRS else {"default": default}
    return field(**start, metadata={"option": Option(flag, kind, help, **more)})


def options_of(kind: type[Options]) -> dict[str, Option]:
    """Return the options of a command by the names of their fields."""
    return {entry.name: entry.metadata["option"] for entry in fields(kind) if "option" in entry.metadata}


def default_of(kind: type[Options], name: str) -> Any:
    """Return an option's default; MISSING if it is required."""
    (entry,) = (entry for entry in fields(kind) if entry.name == name)
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


def described(option: Option, default: Any) -> str:
    """Return the help text of an option, with its default."""
    values = default if isinstance(default, tuple) else (default,)
    shown = option.known_as or " ".join(str(value) for value in values if value not in (None, MISSING, {}))
    return f"{option.help} (default: {shown})" if shown else option.help


def in_python(text: str, kind: type[Options]) -> str:
    """Return a text about a command with Python's keywords instead of its flags."""
    names = {option.flag: name for name, option in options_of(kind).items()}
    return re.sub(r"(?<![\w/.-])--?[a-z][a-z0-9-]*", lambda match: names.get(match[0], match[0]), text)


@dataclass(frozen=True, init=False)
class Options:
    """Options of a command. None stands for an option that is not given.

    Values may be numpy's. Several values may be a list, a tuple, a range, an array, an iterator, a set (which is
    sorted) or a single value.

    Attributes:
        command: The command's name.
        given: Names of the options that were given, directly or by a protocol.

    Raises:
        InputError: for an unknown name or an invalid value.
    """

    command: ClassVar[str] = ""

    given: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())
    quiet: bool = option("--quiet", False, TRUTH, "print results, warnings and errors only", group=MESSAGES)

    def __init__(self, **given: Any) -> None:
        known = options_of(type(self))
        flags = {option.key.replace("-", "_"): name for name, option in known.items()}
        for name in given:
            if name not in known:
                if name in flags:
                    raise InputError(f"the option {name} of {self.command} is called {flags[name]} in Python")
                raise unknown(f"option of {self.command}", name, known)
        given = self._completed({name: value for name, value in given.items() if value is not None})
        object.__setattr__(self, "given", frozenset(given))
        for name, option in known.items():
            value = convert(option, given[name], option.flag) if name in given else default_of(type(self), name)
            if value is MISSING:
                raise InputError(f"{self.command} needs {option.flag}: {option.help}")
            object.__setattr__(self, name, value)
        self._check()

    def _completed(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the given options, with those of a protocol."""
        return given

    def _check(self) -> None:
        """Check options against each other, and `fill` those that are still open."""

    def fill(self, name: str, value: Any) -> None:
        """Set an open option, before it is used."""
        object.__setattr__(self, name, value)

    def _usual(self) -> dict[str, Any]:
        """Return the values of the command without options."""
        return {name: default_of(type(self), name) for name in options_of(type(self))}

    def command_line(self) -> str:
        """Return the command line of these options, without those that change no number, such as folders."""
        usual, words = self._usual(), ["bench", self.command]
        for name, option in options_of(type(self)).items():
            value = getattr(self, name)
            if name not in self.given or value == usual[name] or value is False \
                    or option.group in (FILES, MESSAGES, COMPUTING):
                continue
            words += [] if option.positional else [option.flag]
            words += [] if value is True else _words(value)
        return printable(shlex.join(words))


def _words(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}={entry}" for key, entry in value.items()]
    values = value if type(value) is tuple else (value,)
    return [str(getattr(entry, "name", entry)) if not isinstance(entry, Path) else str(entry) for entry in values]


def out_folder(default: str) -> Any:
    """Return the option for the output folder."""
    return option("--out", Path(default), PATH, "output folder", metavar="DIR", group=FILES)


@dataclass(frozen=True, init=False)
class Computed(Options):
    """Options of a command that computes."""

    device: str = option("--device", "auto", DEVICE, "cpu, cuda, cuda:1, mps, or auto: a GPU if there is one",
                         group=COMPUTING)
    threads: int | None = option("--threads", None, INTEGER, "CPU threads", rule=THREADS, group=COMPUTING,
                                 known_as="all cores that this process may use")


@dataclass(frozen=True, init=False)
class Batched(Computed):
    """Options of a command that runs models on images."""

    batch_size: int = option("--batch-size", 256, INTEGER, "images per forward pass", rule=AT_LEAST_ONE,
                             group=COMPUTING)
    precision: str = option("--precision", "fp32", TEXT, "precision of all models; bf16 turns each into bf16:NAME, "
                            "with rows of its own (docs/models.md)", choices=("fp32", "bf16"))


@dataclass(frozen=True, init=False)
class Spread(Computed):
    """Options of a command whose computing several workers can share (docs/cluster.md)."""

    workers: int | None = option("--workers", None, INTEGER, "share the work among N processes on this machine; each "
                                 "gets its own GPU if there are several", rule=THREADS, group=COMPUTING, metavar="N",
                                 known_as="none: this process computes")
    scheduler: str | None = option("--scheduler", None, TEXT, "share the work among the workers of a dask cluster, "
                                   "such as tcp://10.0.0.1:8786", group=COMPUTING, metavar="ADDRESS", known_as="none")
    worker_timeout: int | None = option("--worker-timeout", None, INTEGER, "treat a worker as dead after this time "
                                        "without an answer of its model or a finished training step",
                                        rule=AT_LEAST_ONE, group=COMPUTING, metavar="SECONDS", known_as="20 times the "
                                        "longest wait so far, and at least 600; no limit for trainings")

    @property
    def spread(self) -> bool:
        """Whether workers compute."""
        return self.workers is not None or self.scheduler is not None

    def _check(self) -> None:
        if self.workers is not None and self.scheduler is not None:
            raise InputError("--workers and --scheduler exclude each other; give one of them")
        if self.worker_timeout is not None and not self.spread:
            raise InputError("--worker-timeout says how long workers may hang; give --workers or --scheduler too")


@dataclass(frozen=True, init=False)
class WithData(Options):
    """Options of a command that reads data sets."""

    data_root: str | None = option(
        "--data-root", None, TEXT, "folder of the data sets: cifar-10-batches-py/, cifar10/{train,test}/<class>/*, ...",
        metavar="DIR", group=FILES, known_as="$BENCH_DATA")


@dataclass(frozen=True, init=False)
class WithImages(WithData):
    """Options of a command that reads images, which may be files of any size."""

    image_size: int | None = option("--image-size", None, INTEGER, "side of the centre crop of each image",
                                    metavar="PIXELS", rule=PIXELS, group=IMAGES,
                                    known_as="224 for ImageNet's sets, 32 for CIFAR-10's classes, else as they are")
    resize: int | None = option("--resize", None, INTEGER, "length of the shorter side before the centre crop",
                                metavar="PIXELS", rule=PIXELS, group=IMAGES,
                                known_as="256/224 of the image size for ImageNet's sets, else the image size")
    interpolation: str | None = option("--interpolation", None, TEXT, "interpolation for resizing",
                                       choices=("bilinear", "bicubic", "nearest", "lanczos", "box"), group=IMAGES,
                                       known_as="bilinear; box (average) for CIFAR-10's classes")
    skip_broken: bool = option("--skip-broken", False, TRUTH, "skip images that can't be decoded and report how many; "
                               "otherwise the first one stops the command", group=IMAGES)
