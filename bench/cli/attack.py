"""Attack models, and measure the attack success rate within each budget.

Writes OUT/attack.csv (ASR curves), OUT/paired.csv (models compared on the same images), OUT/examples/ (one row per
image) and OUT/report/index.html. All budgets come from one run at the largest. A killed run resumes with the same
command; a second call with the same OUT adds to it without repeating work. With --transfer-from nothing is attacked:
the models classify saved adversarial images, and OUT/transfer.csv is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.messages import print_answer, print_warnings, report_line
from bench.options.attack import AttackOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from bench.analysis.measured import Measured

OPTIONS = AttackOptions


def run(options: AttackOptions) -> None:
    """Attack, and print the success rates."""
    if options.transfer_from is not None:
        from bench.running.transferring import run as transfer

        _print_transfers(transfer(options))
        print(f"table: {options.out / 'transfer.csv'}")
        return
    from bench.analysis.findings import answering
    from bench.running.attacking import attack

    done = attack(options)
    if done is None:  # a shard without images, as the library has logged
        return
    print_warnings(done.results)
    _print(done.results.attack, answering(options.out, done.evaluations))
    print_answer(done.results)
    print(f"{report_line(options.out)}\n"
          f"tables: {options.out / 'attack.csv'}, {options.out / 'paired.csv'}; "
          f"one row per image: {options.out / 'examples'}")


def _print(table: pd.DataFrame, requested: Sequence[Measured]) -> None:
    """Print the entries of this call's evaluations, and how many more the table of the folder has."""
    from bench.analysis.attack_tables import runs_by_name

    runs = runs_by_name(requested)
    others = 0
    table = table[table["unit"] == "iterations"]
    for (model, domain, attack), group in table.groupby(["model", "domain", "attack"], sort=False):
        if (model, domain, attack) not in runs:
            others += 1
            continue
        first = group.iloc[0]
        clean = f"{model} · {attack} on {domain}: clean accuracy {first['clean_accuracy']:.1%} (n = {first['n']})"
        if not first["n_correct"]:
            print(f"{clean}; no image is correctly classified before the attack, so there is no ASR; check the labels "
                  "and the model's normalisation (docs/flags.md#labels, docs/flags.md#normalisation)")
            continue
        denominator = "images not predicted as their target" if runs[model, domain, attack].traits.targeted else \
            "correctly classified images"
        print(f"{clean}; ASR over the {first['n_correct']} {denominator}, after K iterations")
        print("   K = " + "  ".join(f"{row['budget']}: {row['asr']:.1%} [{row['ci_low']:.1%}, {row['ci_high']:.1%}]"
                                    for row in group.to_dict("records")))
    if others:
        print(f"{others} more in the report")


def _print_transfers(table: pd.DataFrame) -> None:
    for entry in table.to_dict("records"):
        print(f"{entry['source']} ({entry['attack']}) -> {entry['target']}: {entry['asr']:.1%} "
              f"[{entry['ci_low']:.1%}, {entry['ci_high']:.1%}] of {entry['n_correct']} images")
