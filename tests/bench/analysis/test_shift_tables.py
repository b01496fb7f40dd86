from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.analysis.shift_tables import (
    SHIFT_COLUMNS,
    SUMMARY_COLUMNS,
    paired_shift_table,
    parts,
    severity_table,
    shift_table,
    summary_table,
)
from bench.analysis.stats import mcnemar, paired_proportions, wilson
from bench.rows.evaluation import Evaluation
from bench.rows.store import Rows

CELLS = [("fog", 1), ("fog", 5), ("contrast", 1), ("contrast", 5)]
CLEAN_OF = {"c": "d"}


def _rows(tmp_path, right, model="m", domain="c", corruption="", severity=0, examples=None):
    """Rows of images of the classes 0, 1, 0, 1, ..., right or wrong as told."""
    n = len(right)
    labels = np.arange(n) % 2
    predictions = np.where(right, labels, 1 - labels)
    evaluation = Evaluation(model, model, domain, f"{domain}{corruption}{severity}", corruption=corruption,
                            severity=severity)
    facts = {"classes": ["cat", "dog"], "budgets": [], "clean": ""}
    rows = Rows(tmp_path / f"{model}-{domain}-{corruption}-{severity}.parquet", evaluation, facts)
    rows.add({"example": list(range(n)) if examples is None else examples, "label": labels, "goal": labels,
              "clean_prediction": predictions, "prediction": predictions,
              "success_iteration": np.where(right, -1, 0), "queries": [1] * n, "l2": [0.0] * n, "linf": [0.0] * n,
              "margin": [0.0] * n, "confidence": [1.0] * n, "steps": [b""] * n})
    return rows


def _outcomes(seed, n=400, clean=0.9, shares=(0.8, 0.5, 0.7, 0.2)):
    """A clean column and four cells that share their images' difficulty."""
    ease = np.random.default_rng(seed).random(n)
    return ease < clean, np.stack([ease < share for share in shares], axis=1)


def _stored(tmp_path, model="m", seed=0, **options):
    clean, cells = _outcomes(seed, **options)
    return [_rows(tmp_path, clean, model, "d"),
            *(_rows(tmp_path, cells[:, i], model, "c", *cell) for i, cell in enumerate(CELLS))]


def test_every_cell_has_its_accuracy_and_interval(tmp_path):
    stored = _stored(tmp_path)
    table = shift_table(stored)
    assert list(table.columns) == SHIFT_COLUMNS and len(table) == 5
    clean, cells = _outcomes(0)
    row = table[(table.corruption == "contrast") & (table.severity == 5)].iloc[0]
    assert row["correct"] == cells[:, 3].sum() and row["n"] == 400
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(wilson(int(cells[:, 3].sum()), 400))
    assert table.iloc[0]["severity"] == 0 and table.iloc[0]["accuracy"] == clean.mean()


def test_means_gap_and_worst_by_hand(tmp_path):
    clean, cells = _outcomes(0)
    table = summary_table(parts(_stored(tmp_path)), CLEAN_OF, None)
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
    _, cells = _outcomes(0)
    row = summary_table(parts(_stored(tmp_path)), CLEAN_OF, None).query("part == 'benchmark'").iloc[0]
    per_image = cells.mean(1)
    spread = 1.96 * per_image.std() / np.sqrt(len(per_image))
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * spread, rel=0.05)
    independent = 2 * 1.96 * np.sqrt(cells.mean() * (1 - cells.mean()) / cells.size)
    assert row["ci_high"] - row["ci_low"] > 1.4 * independent


def test_mce_by_hand_and_against_itself(tmp_path):
    a, b = _stored(tmp_path, "a"), _stored(tmp_path, "b", seed=1, clean=0.85, shares=(0.7, 0.6, 0.6, 0.3))
    table = summary_table(parts([*a, *b]), CLEAN_OF, "b").query("part == 'benchmark'").set_index("model")
    (clean_a, cells_a), (clean_b, cells_b) = _outcomes(0), _outcomes(1, clean=0.85, shares=(0.7, 0.6, 0.6, 0.3))
    errors = [1 - cells.reshape(400, 2, 2).mean((0, 2)) for cells in (cells_a, cells_b)]
    assert table.loc["a", "mce"] == pytest.approx(np.mean(errors[0] / errors[1]))
    beyond = [error - (1 - clean.mean()) for error, clean in zip(errors, (clean_a, clean_b), strict=True)]
    assert table.loc["a", "relative_mce"] == pytest.approx(np.mean(beyond[0] / beyond[1]))
    assert table.loc["a", "mce_low"] < table.loc["a", "mce"] < table.loc["a", "mce_high"]
    assert table.loc["b", ["mce", "mce_low", "mce_high", "relative_mce"]].tolist() == [1, 1, 1, 1]


def test_parts_hold_the_extras_apart_and_common_images_only(tmp_path):
    stored = [_rows(tmp_path, [True, False, True, True], corruption="fog", severity=1),
              _rows(tmp_path, [True, True, False], corruption="fog", severity=2, examples=[0, 1, 2]),
              _rows(tmp_path, [True] * 4, corruption="spatter", severity=1)]
    found = {part.name: part for part in parts(stored)}
    assert set(found) == {"benchmark", "extras"}
    assert found["benchmark"].examples.tolist() == [0, 1, 2]
    assert found["benchmark"].right.tolist() == [[True, True], [False, True], [True, False]]
    by_severity = severity_table(list(found.values()))
    assert by_severity["severity"].tolist() == [1, 2] and by_severity["accuracy"].tolist() == pytest.approx([2 / 3] * 2)


def test_pairs_of_models(tmp_path):
    a, b = _stored(tmp_path, "a"), _stored(tmp_path, "b", seed=1)
    better = _stored(tmp_path, "z", clean=0.95, shares=(0.9, 0.6, 0.8, 0.3))  # the same images, each cell easier
    table = paired_shift_table(parts([*a, *b, *better])).set_index(["model_a", "model_b", "domain"])
    single = table.loc[("a", "b", "d")]
    assert single["test"] == "McNemar" and single["p_value"] == mcnemar(_outcomes(0)[0], _outcomes(1)[0]).p_value
    newcombe = paired_proportions(_outcomes(0)[0], _outcomes(1)[0])
    assert tuple(single[["difference", "ci_low", "ci_high"]]) == pytest.approx(newcombe)
    many = table.loc[("a", "z", "c")]
    assert many["test"] == "sign flip" and many["difference"] == pytest.approx(-0.1, abs=0.02)
    assert many["p_value"] < 0.001 and many["ci_high"] < 0
    assert table.loc[("a", "b", "c"), "p_value"] > 0.01
    assert (table["p_holm"] >= table["p_value"]).all()


def test_models_with_other_cells_are_compared_on_the_common_ones(tmp_path):
    a, b = _stored(tmp_path, "a"), _stored(tmp_path, "b", seed=1)
    (row,) = paired_shift_table(parts([*a, *b[:2]])).query("domain == 'c'").to_dict("records")
    assert row["cells"] == 1 and row["test"] == "McNemar" and row["a"] == pytest.approx(_outcomes(0)[1][:, 0].mean())


def test_a_gap_of_one_cell_is_newcombes_paired(tmp_path):
    clean, cells = _outcomes(0)
    row = summary_table(parts(_stored(tmp_path)[:2]), CLEAN_OF, None).query("domain == 'c'").iloc[0]
    assert tuple(row[["gap", "gap_low", "gap_high"]]) == pytest.approx(paired_proportions(clean, cells[:, 0]))


def test_a_baseline_without_errors_gives_no_ratio(tmp_path):
    perfect = _stored(tmp_path, "p", shares=(1.0, 0.5, 0.7, 1.0), clean=1.0)
    flawless = [_rows(tmp_path, [True] * 400, "f", "c", *cell) for cell in CELLS]
    table = summary_table(parts([*perfect, *flawless]), CLEAN_OF, "f").query("part == 'benchmark'").set_index("model")
    assert table["mce"].isna().all() and table["relative_mce"].isna().all()


def test_a_gap_between_other_images_is_newcombes(tmp_path):
    clean, other = _rows(tmp_path, [True] * 20, domain="d"), _rows(tmp_path, [True] * 20, domain="e")
    row = summary_table(parts([clean, other]), {"e": "d"}, None).query("domain == 'e'").iloc[0]
    assert row["gap"] == 0 and row["gap_high"] == pytest.approx(1 - wilson(20, 20)[0]) == -row["gap_low"]


def test_nothing_to_compare_is_an_empty_table(tmp_path):
    assert paired_shift_table(parts(_stored(tmp_path))).empty
    assert isinstance(summary_table([], {}, None), pd.DataFrame)
