from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from bench.analysis.measured import measure
from bench.analysis.shift_tables import (
    ALEXNET,
    ALEXNET_NAME,
    SHIFT_COLUMNS,
    SUMMARY_COLUMNS,
    clean_domains,
    parts,
    severity_table,
    shift_table,
    summary_table,
)
from bench.analysis.stats import independent_difference, paired_proportions, wilson
from framebench.domains.corruptions import BENCHMARK, SEVERITIES
from tests.bench.analysis.making import CLASSES, cell_of
from tests.bench.analysis.shifting import CELLS, CLEAN_OF, outcomes, shifted


def _parts(*cells):
    return parts(measure(cells))


def test_every_cell_has_its_accuracy_and_interval(tmp_path):
    table = shift_table(measure(shifted(tmp_path)))
    assert list(table.columns) == SHIFT_COLUMNS and len(table) == 5
    clean, cells = outcomes(0)
    row = table[(table.corruption == "contrast") & (table.severity == 5)].iloc[0]
    assert row["correct"] == cells[:, 3].sum() and row["n"] == 400
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(wilson(int(cells[:, 3].sum()), 400))
    assert table.iloc[0]["severity"] == 0 and table.iloc[0]["accuracy"] == clean.mean()


def test_means_gap_and_worst_by_hand(tmp_path):
    clean, cells = outcomes(0)
    table = summary_table(_parts(*shifted(tmp_path)), CLEAN_OF, None)
    assert list(table.columns) == SUMMARY_COLUMNS
    row = table[table.part == "benchmark"].iloc[0]
    assert row["accuracy"] == pytest.approx(cells.mean()) and row["cells"] == 4 and row["n"] == 400
    assert row["gap"] == pytest.approx(clean.mean() - cells.mean())
    assert row["worst_corruption"] == "contrast" and row["worst_corruption_accuracy"] == pytest.approx(
        cells[:, 2:].mean())
    by_class = [cells[np.arange(400) % 2 == c].mean() for c in (0, 1)]
    assert row["worst_class"] == ("cat", "dog")[int(np.argmin(by_class))]
    assert row["worst_class_accuracy"] == pytest.approx(min(by_class))
    assert row["mce"] == pytest.approx(1 - cells.mean()) and np.isnan(row["mce_baseline"] or np.nan)


def test_the_interval_of_a_mean_respects_that_cells_share_images(tmp_path):
    """It must be the one of the image means, far wider than if the cells' outcomes were independent."""
    _, cells = outcomes(0)
    row = summary_table(_parts(*shifted(tmp_path)), CLEAN_OF, None).query("part == 'benchmark'").iloc[0]
    per_image = cells.mean(1)
    spread = 1.96 * per_image.std() / np.sqrt(len(per_image))
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * spread, rel=0.05)
    independent = 2 * 1.96 * np.sqrt(cells.mean() * (1 - cells.mean()) / cells.size)
    assert row["ci_high"] - row["ci_low"] > 1.4 * independent


def test_mce_by_hand_and_against_itself(tmp_path):
    a, b = shifted(tmp_path, "a"), shifted(tmp_path, "b", seed=1, clean=0.85, shares=(0.7, 0.6, 0.6, 0.3))
    table = summary_table(_parts(*a, *b), CLEAN_OF, "b").query("part == 'benchmark'").set_index("model")
    (clean_a, cells_a), (clean_b, cells_b) = outcomes(0), outcomes(1, clean=0.85, shares=(0.7, 0.6, 0.6, 0.3))
    errors = [1 - cells.reshape(400, 2, 2).mean((0, 2)) for cells in (cells_a, cells_b)]
    assert table.loc["a", "mce"] == pytest.approx(np.mean(errors[0] / errors[1]))
    beyond = [error - (1 - clean.mean()) for error, clean in zip(errors, (clean_a, clean_b), strict=True)]
    assert table.loc["a", "relative_mce"] == pytest.approx(np.mean(beyond[0] / beyond[1]))
    assert table.loc["a", "mce_low"] < table.loc["a", "mce"] < table.loc["a", "mce_high"]
    assert table.loc["b", ["mce", "mce_low", "mce_high", "relative_mce"]].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("domain", "severities", "divided"), [
    ("imagenet-c", SEVERITIES, True), ("imagenet-c", SEVERITIES[:4], False), ("c", SEVERITIES, False)])
def test_mce_of_imagenet_c_divides_by_the_published_errors_of_alexnet(tmp_path, domain, severities, divided):
    """A model that errs on every other image, and on all images of fog."""
    stored = [cell_of(tmp_path, [name != "fog", False], domain=domain, corruption=name, severity=severity)
              for name in BENCHMARK for severity in severities]
    row = summary_table(_parts(*stored), {}, None).iloc[0]
    errors = {name: 1 if name == "fog" else 0.5 for name in BENCHMARK}
    want = np.mean([errors[name] / (ALEXNET[name] if divided else 1) for name in BENCHMARK])
    assert row["mce"] == pytest.approx(want) and row["mce_low"] < want < row["mce_high"]
    assert (row["mce_baseline"] == ALEXNET_NAME) == divided


def test_parts_hold_the_extras_apart_and_common_images_only(tmp_path):
    stored = [cell_of(tmp_path, [True, False, True, True], corruption="fog", severity=1),
              cell_of(tmp_path, [True, True, False], corruption="fog", severity=2, examples=[0, 1, 2]),
              cell_of(tmp_path, [True] * 4, corruption="spatter", severity=1)]
    found = {part.name: part for part in _parts(*stored)}
    assert set(found) == {"benchmark", "extras"}
    assert found["benchmark"].examples.tolist() == [0, 1, 2]
    assert found["benchmark"].correct.tolist() == [[True, True], [False, True], [True, False]]
    by_severity = severity_table(list(found.values()), {})
    assert by_severity["severity"].tolist() == [1, 2] and by_severity["accuracy"].tolist() == pytest.approx([2 / 3] * 2)


def test_a_gap_of_one_cell_is_newcombes_paired(tmp_path):
    clean, cells = outcomes(0)
    row = summary_table(_parts(*shifted(tmp_path)[:2]), CLEAN_OF, None).query("domain == 'c'").iloc[0]
    assert tuple(row[["gap", "gap_low", "gap_high"]]) == pytest.approx(paired_proportions(clean, cells[:, 0]))


def test_a_baseline_without_errors_gives_no_ratio(tmp_path):
    perfect = shifted(tmp_path, "p", shares=(1.0, 0.5, 0.7, 1.0), clean=1.0)
    flawless = [cell_of(tmp_path, [True] * 400, model="f", domain="c", corruption=name, severity=severity)
                for name, severity in CELLS]
    table = summary_table(_parts(*perfect, *flawless), CLEAN_OF, "f").query("part == 'benchmark'").set_index("model")
    assert table["mce"].isna().all() and table["relative_mce"].isna().all()


def test_a_gap_between_other_images_is_newcombes(tmp_path):
    clean, other = cell_of(tmp_path, [True] * 20, domain="d"), cell_of(tmp_path, [True] * 20, domain="e")
    row = summary_table(_parts(clean, other), {"e": "d"}, None).query("domain == 'e'").iloc[0]
    assert row["gap"] == 0 and row["gap_high"] == pytest.approx(1 - wilson(20, 20)[0]) == -row["gap_low"]


def test_nothing_measured_is_an_empty_table():
    assert isinstance(summary_table([], {}, None), pd.DataFrame)


def _seven(tmp_path, n=700, **more):
    """A clean set of ten classes, the last three of which are hard, and another set of the first seven."""
    labels = np.arange(n) % 10
    rng = np.random.default_rng(2)
    clean = rng.random(n) < np.where(labels < 7, 0.95, 0.5)
    own = labels[labels < 7]
    other = rng.random(len(own)) < 0.8
    return (cell_of(tmp_path, clean, domain="cifar10", labels=labels, classes=CLASSES, **more),
            cell_of(tmp_path, other, domain="tiny", labels=own, classes=CLASSES, **more), clean[labels < 7], other)


def test_the_gap_of_a_set_that_lacks_classes_is_over_those_it_has(tmp_path):
    clean, tiny, seven, other = _seven(tmp_path)
    found = measure([clean, tiny])
    row = summary_table(parts(found), clean_domains(found), None).query("domain == 'tiny'").iloc[0]
    assert row["clean_accuracy"] == seven.mean() and row["clean_n"] == len(seven) and row["classes"] == 7
    assert tuple(row[["gap", "gap_low", "gap_high"]]) == pytest.approx(independent_difference(
        (int(seven.sum()), int(other.sum())), (len(seven), len(other))))
    assert row["gap"] > 0.1, "and not some points less, as against all ten"


def test_a_clean_set_without_these_classes_gives_no_gap(tmp_path):
    clean = cell_of(tmp_path, [True, False], domain="cifar10", labels=[8, 9], classes=CLASSES)
    tiny = cell_of(tmp_path, [True, False], domain="tiny", labels=[0, 1], classes=CLASSES)
    row = summary_table(_parts(clean, tiny), {"tiny": "cifar10"}, None).query("domain == 'tiny'").iloc[0]
    assert np.isnan(row["gap"]) and np.isnan(row["clean_accuracy"])


def test_severity_0_is_the_same_images_without_corruption(tmp_path):
    stored = shifted(tmp_path)
    more = cell_of(tmp_path, [False] * 400 + [True] * 600, model="m", domain="d", examples=range(400, 1400))
    stored[0].join(more)  # images of the clean set that the cells don't have
    clean, cells = outcomes(0)
    table = severity_table(_parts(*stored), CLEAN_OF).set_index("severity")
    assert table.index.tolist() == [0, 1, 5]
    assert table.loc[0, "accuracy"] == clean.mean()
    assert (table.loc[0, "ci_low"], table.loc[0, "ci_high"]) == pytest.approx(wilson(int(clean.sum()), 400))
    assert table.loc[5, "accuracy"] == pytest.approx(cells[:, [1, 3]].mean())


def test_a_set_is_of_its_own_clean_images_else_of_cifar10_if_classes_agree(tmp_path):
    cells = [cell_of(tmp_path, [True], domain="cifar10"), cell_of(tmp_path, [True], domain="new"),
             cell_of(tmp_path, [True], domain="digits", classes=("0", "1")),
             cell_of(tmp_path, [True], domain="new-c", corruption="fog", severity=1, clean="new0")]
    assert clean_domains(measure(cells)) == {"new": "cifar10", "new-c": "new"}


def test_a_baseline_without_a_common_image_gives_no_mce(tmp_path):
    a, b = (_parts(*shifted(tmp_path, model)) for model in "ab")
    others = [dataclasses.replace(part, examples=part.examples + 1000) for part in b]
    row = summary_table([*a, *others], CLEAN_OF, "b").query("model == 'a' and part == 'benchmark'").iloc[0]
    assert np.isnan(row["mce"]) and row["accuracy"] > 0
