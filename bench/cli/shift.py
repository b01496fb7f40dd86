"""Measure accuracy under domain shift: corruptions and other image sources.

Writes OUT/shift.csv (accuracy of every model on every cell), OUT/shift_summary.csv (means over cells, gap to clean
accuracy, mCE, worst corruption and class), OUT/shift_paired.csv (models compared on the same images), OUT/examples/
(one row per image) and OUT/report/index.html. Official sets are used if the data root has them. A missing CIFAR-10-C
is generated from the clean test set, and the results say so. If the data root has CIFAR-10's training set,
OUT/duplicates.csv lists images that are exact or near copies of training images. A killed run resumes with the same
command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.messages import print_answer, print_warnings, report_line
from bench.options.shift import ShiftOptions

if TYPE_CHECKING:
    import pandas as pd

OPTIONS = ShiftOptions


def run(options: ShiftOptions) -> None:
    """Measure, and print the accuracies."""
    from bench.running.shifting import run as shift

    results = shift(options)
    print_warnings(results)
    _print(results.shift_summary)
    print_answer(results)
    tables = ", ".join(str(options.out / f"{name}.csv") for name in ("shift", "shift_summary", "shift_paired"))
    print(f"{report_line(options.out)}\ntables: {tables}; one row per image: {options.out / 'examples'}")


def _print(summary: pd.DataFrame) -> None:
    from framebench.reports.shift import mean_of

    for row in summary.to_dict("records"):
        part = "" if row["part"] == "all" else f", {row['part']}: {mean_of(row['cells'])}"
        gap = "" if row["gap"] != row["gap"] else \
            f"; gap {100 * row['gap']:.1f} points [{100 * row['gap_low']:.1f}, {100 * row['gap_high']:.1f}]"
        print(f"{row['model']} on {row['domain']}{part}: {row['accuracy']:.1%} [{row['ci_low']:.1%}, "
              f"{row['ci_high']:.1%}], n = {row['n']:,}{gap}")
