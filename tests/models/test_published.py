from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from framebench.models import robustbench_zoo
from framebench.models.published import published

PAGE = (Path(__file__).parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
#: Our arms have rows of the same names elsewhere on it.
STUDY = PAGE.partition("## What the study claims")[2].partition("\n## ")[0]


def test_the_leaderboard_of_a_model():
    linf, = published("Standard/Linf")
    assert (linf.dataset, linf.threat, linf.attack) == ("cifar10", "Linf", "AutoAttack")
    assert linf.epsilon == pytest.approx(8 / 255)
    assert (linf.clean_accuracy, linf.robust_accuracy, linf.asr) == (0.9478, 0, None)
    corrupted, = published("imagenet/Standard_R50/corruptions")
    assert (corrupted.epsilon, corrupted.clean_accuracy, corrupted.robust_accuracy) == (None, 0.7672, 0.3948)
    assert [row.robust_accuracy for row in published("imagenet/Amini2024MeanSparse_ConvNeXt-L/Linf")] == [
        0.5964, 0.5822], "by AutoAttack, then by the best known attack"
    assert published("nobody's") == []


def test_every_model_of_robustbench_has_its_row_under_the_name_that_it_loads_by():
    for name in robustbench_zoo.names():
        dataset, model, threat = robustbench_zoo.meant(name)
        rows = published(robustbench_zoo.label_of(dataset, model, threat))
        assert rows, name
        for row in rows:
            assert (row.dataset, row.threat) == (dataset, threat)
            assert row.clean_accuracy is not None and row.robust_accuracy is not None
            assert 0 <= row.robust_accuracy < row.clean_accuracy <= 1


@pytest.mark.parametrize(("model", "line"), [("baseline", "no regularization"), ("ocnn", "OCNN"), ("frame", "frame")])
def test_the_studys_rows_are_those_of_its_page(model, line):
    accuracy, asr = ([cell.strip().partition(" ")[0] for cell in row.split("|")[2:-1]]
                     for row in STUDY.splitlines() if row.startswith(f"| {line} |"))
    rows = published(model)
    assert [row.asr for row in rows if row.threat == "SimBA"] == [float(Fraction(rate) / 100) for rate in asr]
    assert [row.budget for row in rows if row.threat == "SimBA"] == [1, 10, 50, 100, 1000]
    assert {row.clean_accuracy for row in rows if row.threat == "SimBA"} == {float(Fraction(accuracy[0]) / 100)}
    assert [row.robust_accuracy for row in rows if row.threat == "corruptions"] == [float(Fraction(accuracy[3]) / 100)]
