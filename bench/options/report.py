"""Options of the report, which every command that writes one has, and what a report was made with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.options.common import REPORT, Options, option
from bench.options.kinds import PATH, TEXT


@dataclass(frozen=True)
class ReportSettings:
    """What a report was made with, besides what is kept in its folder; it comes from the command alone.

    Attributes:
        baseline: The model by whose errors mCE divides, and which others are compared with; None for the model
            `baseline` if it is one of several, else none.
        matched: What was matched in clean accuracy, one sentence per model.
        logs: What trainings wrote, which is drawn: their folders, or the files in them (`bench.training.logs`).
        command: The command, as the report shows it.
    """

    baseline: str | None = None
    matched: tuple[str, ...] = ()
    logs: tuple[Path, ...] = ()
    command: str = ""


@dataclass(frozen=True, init=False)
class Reported(Options):
    """Options of a command that writes the report."""

    baseline: str | None = option(
        "--baseline", None, TEXT, "the model by whose errors mCE divides, and which others are compared with",
        metavar="M", group=REPORT,
        known_as="the model `baseline` if it is one of several, else none: mCE is then the mean error")
    log: tuple[Path, ...] = option(
        "--log", (), PATH, "folders that trainings wrote (OUT/NAME), or their layers.csv and log.csv: bounds, "
        "accuracy, loss and penalty over the epochs are drawn in the report", many="*", metavar="RUN", group=REPORT)

    def made_by(self, matched: tuple[str, ...] = ()) -> ReportSettings:
        """Return what a report by this command is made with.

        Args:
            matched: What was matched in clean accuracy, one sentence per model.
        """
        return ReportSettings(self.baseline, matched, self.log, self.command_line())


@dataclass(frozen=True, init=False)
class ReportOptions(Reported):
    """Options of `bench report`."""

    command = "report"

    out: tuple[Path, ...] = option("OUT", (Path("runs"),), PATH, "output folders", many="+", positional=True)
