"""Run all benchmarks, add their results to ``history.jsonl``, and write docs/performance.md from it.

    make benchmarks                                  # or python benchmarks/run.py
    python benchmarks/run.py --only simba whitebox --data-root DIR
    python benchmarks/run.py --page                  # writes the page alone

Every benchmark runs in its own process, with settings that keep the total below half an hour on two cores; run its
script for other settings. Without CIFAR-10, benchmarks that need many real images are left out. Use an idle machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ratios import KEEP, Ratio

from bench.running.provenance import provenance
from framebench.domains import data_root

HERE = Path(__file__).resolve().parent
HISTORY = HERE / "history.jsonl"
PAGE = HERE.parent / "docs" / "performance.md"
#: Name -> script and arguments; `{root}` stands for the folder with CIFAR-10.
RUNS: dict[str, tuple[str, ...]] = {
    "predictor": ("predictor.py", "--seconds", "2"),
    "simba": ("simba.py", "--data-root", "{root}", "-n", "300", "--art-images", "40"),
    "simba-224": ("simba.py", "--untrained", "squeezenet1_1", "-n", "16", "--batch-size", "16", "--iterations",
                  "10000", "--max-queries", "300", "--basis", "dct", "--order", "low-frequency"),
    "whitebox": ("whitebox.py", "--rounds", "3", "--iterations", "8"),
    "shift": ("shift.py", "--data-root", "{root}", "-n", "1000"),
    "cluster": ("cluster.py", "--data-root", "{root}", "-n", "640", "--workers", "1", "2"),
    "corruptions": ("corruptions.py",),
    "corruptions-224": ("corruptions.py", "--domain", "imagenet-samples", "--peer-images", "5"),
    "regularizers": ("regularizers.py", "--archs", "resnet18", "--steps", "5"),
    "memory": ("memory.py", "--seconds", "5", "--rounds", "1"),
}
_HEAD = """# Performance

Speed is given as a ratio to another library or to a limit, measured in the same run, so it depends little on the
machine. `make benchmarks` writes this page from `benchmarks/history.jsonl`, which keeps every run. For each machine it
shows the latest run of each benchmark and the value before it. [benchmarks/README.md](../benchmarks/README.md)
describes the benchmarks and explains missed targets.
"""


@dataclass(frozen=True)
class Entry:
    """A run of one benchmark.

    Attributes:
        benchmark: Its name in `RUNS`.
        date: YYYY-MM-DD.
        commit: The measured commit; None if unknown.
        machine: Processor or GPU, and version of torch.
        threads: Threads of torch.
        seconds: Its duration.
        ratios: Its results.
    """

    benchmark: str
    date: str
    commit: str | None
    machine: str
    threads: int
    seconds: float
    ratios: tuple[Ratio, ...]


def main() -> int:
    """Run benchmarks, store their results, write the page; return 1 if a limit is missed or one fails, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME",
                        help=f"some of {', '.join(RUNS)} (default: all)")
    parser.add_argument("--data-root", default=None, help="folder with CIFAR-10 (default: BENCH_DATA)")
    parser.add_argument("--page", action="store_true", help="write the page from what is kept, and end")
    arguments = parser.parse_args()
    facts = provenance()  # before results are stored, which changes a file of the commit
    good = True
    for name in () if arguments.page else arguments.only:
        root = data_root(arguments.data_root)
        if root is None and "{root}" in RUNS[name]:
            print(f"{name} is left out: it needs CIFAR-10, see --data-root")
            continue
        entry = measure(name, root, facts)
        good &= entry is not None and all(ratio.kept for ratio in entry.ratios)
        if entry is not None:
            with HISTORY.open("a", encoding="utf-8") as out:
                out.write(json.dumps(dataclasses.asdict(entry)) + "\n")
    PAGE.write_text(page(kept()), encoding="utf-8")
    print(f"written: {PAGE}")
    return 0 if good else 1


def measure(name: str, root: Path | None, facts: dict[str, Any]) -> Entry | None:
    """Run one benchmark and return its results; None if it failed. `facts` are those of `provenance`."""
    script, *options = RUNS[name]
    print(f"== {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file, started = Path(folder) / "ratios", time.perf_counter()
        code = subprocess.run([sys.executable, HERE / script, *(option.format(root=root) for option in options)],
                              env={**os.environ, KEEP: str(file)}).returncode
        if not file.exists():
            print(f"{name} failed (exit code {code})")
            return None
        ratios = tuple(Ratio(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines())
    return Entry(name, time.strftime("%Y-%m-%d"), facts["commit"], f"{facts['processor']}, torch {facts['torch']}",
                 torch.get_num_threads(), round(time.perf_counter() - started, 1), ratios)


def kept() -> list[Entry]:
    """Return all runs so far, oldest first."""
    lines = HISTORY.read_text(encoding="utf-8").splitlines() if HISTORY.exists() else []
    return [Entry(**{**fields, "ratios": tuple(Ratio(**ratio) for ratio in fields["ratios"])})
            for fields in map(json.loads, lines)]


def page(entries: Iterable[Entry]) -> str:
    """Return the page."""
    machines: dict[str, dict[str, list[Entry]]] = {}
    for entry in entries:
        threads = f"{entry.threads} thread{'s' * (entry.threads > 1)}"
        machines.setdefault(f"{entry.machine}, {threads}", {}).setdefault(entry.benchmark, []).append(entry)
    parts = [_HEAD]
    for machine, runs in machines.items():
        lines = ["| benchmark | quantity | target | measured | previous | date, commit |", f"|{' --- |' * 6}"]
        for name, history in sorted(runs.items(), key=lambda item: list(RUNS).index(item[0])):
            last = history[-1]
            before = {ratio.what: f"{ratio.value:.3g}" for entry in history[-2:-1] for ratio in entry.ratios}
            for ratio in last.ratios:
                cells = [name, ratio.what, ratio.asked, f"{ratio.value:.3g}{'' if ratio.kept else ', **missed**'}",
                         before.get(ratio.what, ""), f"{last.date}, {last.commit or 'no commit'}"]
                lines.append(f"| {' | '.join(cells)} |")
        parts += [f"## {machine}\n", "\n".join(lines) + "\n"]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
