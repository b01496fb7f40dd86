"""Rebuild tables and report from stored rows, and join the outputs of several runs.

With one OUT, its tables and report are rewritten. With several, the contents of the others are first copied into the
first; rows and images of the same evaluation are joined, such as those of --shard runs.
"""

from __future__ import annotations

from bench.cli.messages import print_answer, print_warnings, report_line
from bench.options.report import ReportOptions

OPTIONS = ReportOptions


def run(options: ReportOptions) -> None:
    """Join and rebuild."""
    from bench.analysis.reporting import run as report

    results = report(options)
    print_warnings(results)
    print_answer(results)
    print(report_line(options.out[0]))
