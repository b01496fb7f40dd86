from __future__ import annotations

import pandas as pd
import pytest

from bench.analysis.attack_tables import attack_table
from bench.analysis.findings import Findings
from bench.analysis.measured import measure
from bench.analysis.published import published_table
from bench.options.report import ReportSettings
from framebench.reports.html import fragment
from framebench.reports.published import published_section
from tests.bench.analysis.making import run_of

BOUND = {"attack": "apgd", "norm": "linf", "budgets": (5, 10)}


def beside(*runs, summary=None):
    found = measure(runs)
    return published_table(found, attack_table(found), pd.DataFrame() if summary is None else summary)


def test_a_leaderboards_row_stands_beside_the_attack_with_its_bound_at_the_largest_budget(tmp_path):
    model = "Carmon2019Unlabeled/Linf"
    row, = beside(run_of(tmp_path, [0, -1, 3, 7], model=model, epsilon=8 / 255, bound=8 / 255, **BOUND),
                  run_of(tmp_path, [0, -1, 3, 7], model="mine", epsilon=8 / 255, bound=8 / 255, **BOUND)
                  ).to_dict("records")
    assert (row["model"], row["threat"], row["n"], row["domain"]) == (model, "Linf", 4, "d")
    assert (row["published_clean_accuracy"], row["published_robust_accuracy"]) == (0.8969, 0.5953)
    assert (row["clean_accuracy"], row["robust_accuracy"], row["asr"]) == (0.75, 0.25, pytest.approx(2 / 3))


@pytest.mark.parametrize("other", [{"epsilon": 4 / 255, "bound": 4 / 255, **BOUND}, {"attack": "noise"},
                                   {"epsilon": 8 / 255, "bound": 8 / 255, **BOUND, "norm": "l2"}])
def test_another_attack_is_not_compared_but_the_published_row_is_there(tmp_path, other):
    table = beside(run_of(tmp_path, [0, -1, 3, 7], model="Carmon2019Unlabeled/Linf", **other))
    assert len(table) == 1 and table[["domain", "n", "robust_accuracy"]].isna().all(axis=None)


def test_the_studys_rows_stand_beside_simba_on_cifar10_alone(tmp_path):
    def simba(domain):
        return beside(run_of(tmp_path, [0, -1, 3, 70], model="frame", attack="simba", budget=100, domain=domain,
                             budgets=(10, 99, 100)))
    assert simba("samples").empty
    table = simba("cifar10")
    assert table["published_budget"].tolist() == [10, 100]
    assert table["published_asr"].tolist() == [0.4945, 0.8461]
    assert table["asr"].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_corruptions_are_compared_over_the_benchmarks_ones(tmp_path):
    summary = pd.DataFrame([
        {"model": "frame", "domain": domain, "part": part, "n": 9, "accuracy": accuracy, "clean_accuracy": 0.9}
        for domain, part, accuracy in (("cifar10-c", "benchmark", 0.7), ("cifar10-c", "extras", 0.6),
                                       ("cifar10", "all", 0.9))])
    table = beside(run_of(tmp_path, [0, -1], model="frame"), summary=summary)
    assert table[["published_robust_accuracy", "robust_accuracy", "n"]].values.tolist() == [[0.7665, 0.7, 9]]


def test_the_page_names_what_is_published_and_by_whom(tmp_path):
    table = beside(run_of(tmp_path, [0, -1, 3, 7], model="Carmon2019Unlabeled/Linf", epsilon=8 / 255, bound=8 / 255,
                          **BOUND))
    part = published_section(Findings(ReportSettings(), tables={"published": table}))
    assert part is not None
    html = fragment(*part.blocks)
    for text in ("arxiv.org/abs/1905.13736", "89.7%", "59.5%", "AutoAttack", "75.0%", "25.0%"):
        assert text in html
    assert published_section(Findings(ReportSettings())) is None
