"""Options of all commands that write a report, and the settings of a report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.options.common import FILES, REPORT, Options, option
from bench.options.kinds import PATH, TEXT, TRUTH, Kind, Rule
from framebench.keyvalue import parse_number

#: Widths of figures in a two-column paper, in inches: one column, and the whole text.
_WIDTHS = {"column": 3.25, "text": 6.75}


@dataclass(frozen=True)
class ReportSettings:
    """Settings of a report that are not stored in its folder, but come from the command.

    Attributes:
        baseline: The model that others are compared with, and whose errors are the divisors of mCE; None for the model
            `baseline` if it is one of several, else none.
        matched: Notes on matched clean accuracy, one sentence per model.
        logs: Logs of trainings to draw: folders of trainings, or the files in them (`bench.training.logs`).
        command: The command, as the report shows it.
        formats: Formats of the report.
        figure_width: Width of figure files, in inches.
        left_out: Flags of what the command could not compute.
    """

    baseline: str | None = None
    matched: tuple[str, ...] = ()
    logs: tuple[Path, ...] = ()
    command: str = ""
    formats: tuple[str, ...] = ("html",)
    figure_width: float = _WIDTHS["column"]
    left_out: tuple[str, ...] = ()


def _inches(value: Any) -> float:
    """Return a width in inches, given as a name or a number."""
    if isinstance(value, str):
        return _WIDTHS[value] if value in _WIDTHS else parse_number(value)
    if type(value) not in (int, float):
        raise TypeError
    return float(value)


@dataclass(frozen=True, init=False)
class Reported(Options):
    """Options of a command that writes the report."""

    baseline: str | None = option(
        "--baseline", None, TEXT, "the reference model: others are compared with it, and mCE divides by its errors",
        metavar="M", group=REPORT,
        known_as="the model `baseline` if it is one of several, else none: mCE is then the mean error, or relative to "
        "AlexNet on imagenet-c")
    log: tuple[Path, ...] = option(
        "--log", (), PATH, "training folders (OUT/NAME), or their layers.csv and log.csv; the report plots their "
        "frame bounds, accuracy, loss and penalty per epoch", many="*", metavar="RUN", group=REPORT)
    repair: bool = option("--repair", False, TRUTH, "first remove damaged files below OUT and name them; then "
                          "recompute what was lost (rows, pictures, attacked images)", group=FILES,
                          in_protocol=False)

    def report_settings(self, matched: tuple[str, ...] = (), left_out: tuple[str, ...] = ()) -> ReportSettings:
        """Return the settings of a report by this command; see `ReportSettings`."""
        return ReportSettings(self.baseline, matched, self.log, self.command_line(), left_out=left_out)


@dataclass(frozen=True, init=False)
class ReportOptions(Reported):
    """Options of `bench report`."""

    command = "report"

    out: tuple[Path, ...] = option("OUT", (Path("runs"),), PATH, "output folders; several are joined into the first",
                                    many="+", positional=True)
    formats: tuple[str, ...] = option(
        "--format", ("html",), TEXT, "formats of the report; html is always written. md (Markdown) and tex (LaTeX) "
        "come with figures and tables as files; pdf is the page, printed by an installed Chromium, Chrome or Edge",
        many="+", choices=("html", "md", "tex", "pdf"), distinct=True, group=REPORT)
    figure_width: float = option(
        "--figure-width", _WIDTHS["column"], Kind("column, text, or a number of inches", _inches),
        "width of the figures for md and tex: column (3.25 inches), text (6.75), or a number of inches",
        rule=Rule(lambda inches: 2 <= inches <= 12, "must be from 2 to 12 inches"), group=REPORT)

    def report_settings(self, matched: tuple[str, ...] = (), left_out: tuple[str, ...] = ()) -> ReportSettings:
        """Return the settings of a report by this command, with its formats."""
        return replace(super().report_settings(matched, left_out), formats=self.formats, figure_width=self.figure_width)
