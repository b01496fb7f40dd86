"""Attack models and measure how often it succeeds within each budget.

Writes OUT/attack.csv (ASR curves), OUT/paired.csv (models compared on the same images), OUT/examples/ (one row per
image) and OUT/report/index.html. All budgets come from one run at the largest. A run that was killed continues where it
stopped; a second call with the same OUT adds to it and redoes nothing. With --transfer-from nothing is attacked: models
classify images that others were attacked with, and OUT/transfer.csv is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.messages import print_answer, print_warnings, report_line
from bench.options.attack import AttackOptions

if TYPE_CHECKING:
    import pandas as pd

OPTIONS = AttackOptions


def run(options: AttackOptions) -> None:
    """Attack, and print the success rates."""
    if options.transfer_from is not None:
        from bench.running.transferring import run as transfer

        _print_transfers(transfer(options))
        print(f"table: {options.out / 'transfer.csv'}")
        return
    from bench.running.attacking import run as attack

    results = attack(options)
    if results is None:  # a shard without images, which the library has said
        return
    print_warnings(results)
    _print(results.attack)
    print_answer(results)
    print(f"{report_line(options.out)}\n"
          f"tables: {options.out / 'attack.csv'}, {options.out / 'paired.csv'}; "
          f"one row per image: {options.out / 'examples'}")


def _print(table: pd.DataFrame) -> None:
    shown = table[table["unit"] == "iterations"]
    for (model, domain, attack), group in shown.groupby(["model", "domain", "attack"], sort=False):
        first = group.iloc[0]
        clean = f"{model} · {attack} on {domain}: {first['clean_accuracy']:.1%} clean of n = {first['n']}"
        if not first["n_correct"]:
            print(f"{clean}; no image is correctly classified before the attack, so there is no ASR; check the labels "
                  "and the model's normalisation (docs/flags.md#labels, docs/flags.md#normalisation)")
            continue
        print(f"{clean}; ASR of {first['n_correct']} at")
        print("   " + "  ".join(f"{row['budget']}: {row['asr']:.1%} [{row['ci_low']:.1%}, {row['ci_high']:.1%}]"
                                for row in group.to_dict("records")))


def _print_transfers(table: pd.DataFrame) -> None:
    for entry in table.to_dict("records"):
        print(f"{entry['source']} ({entry['attack']}) -> {entry['target']}: {entry['asr']:.1%} "
              f"[{entry['ci_low']:.1%}, {entry['ci_high']:.1%}] of {entry['n_correct']} images")
