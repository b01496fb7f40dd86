"""Kill workers and commands at random throughout an attack, and see what is lost, doubled, or grows.

    python benchmarks/deaths.py --data-root DIR
    python benchmarks/deaths.py --data-root DIR -n 400 --every 5

One process attacks the models first. Then workers do the same, while a random one of them is killed (SIGKILL) every now
and then, and one time in ten the command itself. The same command is given again until it has finished. Takes about 20
minutes on two cores, in which the memory of all processes is read every second.

Limits, checked at the end (exit code 1 if one is missed): no row lost, none doubled, every file of rows byte by byte
that of one process, and memory no more than 1.1 times as large in the last third of the time as in the first.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
from ratios import Ratio, conclude

from framebench.domains import data_root

ROOT = Path(__file__).resolve().parent.parent
#: Small networks, which take 0.02 s per image on a core.
MODELS = [str(ROOT / "study/trainings" / name / f"{name}.safetensors") for name in ("plain-s0", "plain-s1")]
#: Exit codes of a command that has finished, and of one that says what is missing.
_FINISHED, _INCOMPLETE = 0, 2


@dataclass
class Run:
    """What happened.

    Attributes:
        workers: Workers killed.
        commands: Commands killed.
        incomplete: Commands that ended with exit code 2, since slices or the start of the workers had failed.
        memory: Seconds since the start; MiB of the command; MiB of each worker. One entry per second.
    """

    workers: int = 0
    commands: int = 0
    incomplete: int = 0
    memory: list[tuple[float, float, list[float]]] = field(default_factory=list)


def main() -> int:
    """Attack in both ways, print, and tell whether all limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--data-root", default=None)
    parser.add_argument("-n", type=int, default=10_000, help="images")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--every", type=float, default=15, help="seconds between deaths, on average")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "bench.run", "attack", "--models", *arguments.models, "--domain", "cifar10",
               "--data-root", str(data_root(arguments.data_root)), "-n", str(arguments.n), "--budgets",
               str(arguments.iterations), "--threads", "1", "--out"]
    with tempfile.TemporaryDirectory() as folder:
        alone, shared = Path(folder, "alone"), Path(folder, "shared")
        start = time.monotonic()
        subprocess.run([*command, str(alone)], check=True, capture_output=True)
        print(f"one process: {time.monotonic() - start:.0f} s", flush=True)
        start = time.monotonic()
        run = killed([*command, str(shared), "--workers", str(arguments.workers)], arguments.every, arguments.seed)
        print(f"{arguments.workers} workers: {time.monotonic() - start:.0f} s; killed: {run.workers} workers, "
              f"{run.commands} commands; {run.incomplete} more commands ended with exit code 2")
        return conclude([*compared(alone, shared), *grown(run)])


def killed(command: list[str], every: float, seed: int) -> Run:
    """Give a command until it has finished, and kill it and its workers meanwhile.

    Raises:
        RuntimeError: if the command ends with another exit code than 0 or 2, and was not killed.
    """
    run, draws, start = Run(), random.Random(seed), time.monotonic()
    while True:
        errors = tempfile.TemporaryFile("w+")
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        due = time.monotonic() + draws.expovariate(1 / every)
        died = False
        while process.poll() is None:
            time.sleep(1)
            workers = _workers(process)
            if (memory := [_mebibytes(worker) for worker in workers]) and process.poll() is None:
                run.memory.append((time.monotonic() - start, _mebibytes(process), memory))
            if time.monotonic() < due or not workers:
                continue
            due = time.monotonic() + draws.expovariate(1 / every)
            died = draws.random() < 0.1
            (process if died else draws.choice(workers)).kill()
            run.commands, run.workers = run.commands + died, run.workers + (not died)
        if process.returncode == _FINISHED:
            return run
        if not died:
            if process.returncode != _INCOMPLETE:
                errors.seek(0)
                raise RuntimeError(f"the command ended with exit code {process.returncode}: {errors.read()[-1000:]}")
            run.incomplete += 1


def compared(alone: Path, shared: Path) -> list[Ratio]:
    """Return the rows lost, doubled, and the share of files that are the same; their numbers may differ."""
    lost = doubled = same = total = 0
    for folder in sorted(path for path in (alone / "examples").iterdir() if path.is_dir()):
        sides = [sorted(side.glob("*.parquet")) for side in (folder, shared / "examples" / folder.name)]
        expected, ids = (pd.concat([pd.read_parquet(file)["example"] for file in files]) for files in sides)
        lost += len(set(expected) - set(ids))
        doubled += int(ids.duplicated().sum())
        contents, others = ({file.read_bytes() for file in files} for files in sides)
        same, total = same + len(contents & others), total + len(contents | others)
        print(f"{folder.name}: {len(expected):,} rows from one process, {len(ids):,} from workers")
    return [Ratio("rows lost", lost, 0, at_most=True), Ratio("rows doubled", doubled, 0, at_most=True),
            Ratio("share of files of rows that are the same, byte by byte", same / total, 1)]


def grown(run: Run) -> list[Ratio]:
    """Return the memory of a worker and of the command in the last third of the time, over that in the first."""
    end = run.memory[-1][0]
    first = [entry for entry in run.memory if entry[0] < end / 3]
    last = [entry for entry in run.memory if entry[0] > 2 * end / 3]
    workers, commands = ([max(max(entry[2]) for entry in part) for part in (first, last)],
                         [max(entry[1] for entry in part) for part in (first, last)])
    for what, (before, after) in (("worker", workers), ("command", commands)):
        print(f"largest memory of a {what}: {before:.0f} MiB in the first third, {after:.0f} MiB in the last")
    return [Ratio("memory of workers, last third over first", workers[1] / workers[0], 1.1, at_most=True),
            Ratio("memory of the command, last third over first", commands[1] / commands[0], 1.1, at_most=True)]


def _workers(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes that dask started, but not those that clean up behind them."""
    try:
        return [child for child in process.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def _mebibytes(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 2**20
    except psutil.Error:  # it has just ended
        return 0.0


if __name__ == "__main__":
    sys.exit(main())
