from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from bench.browsing.comparing import compare
from bench.run import main
from framebench.errors import InputError
from tests.bench.browsing.conftest import attacked, shifted

RNG = np.random.default_rng(0)
SUCCESS = RNG.integers(-1, 11, (3, 40))


def joined(root, name):
    """Return a table as `bench report A B` writes it."""
    shutil.copytree(root / "a", root / "joined")
    assert main(["report", str(root / "joined"), str(root / "b"), "--quiet"]) == 0
    return pd.read_csv(root / "joined" / f"{name}.csv")


def test_models_are_paired_as_bench_report_pairs_them(root):
    attacked(root / "a", SUCCESS[0], model="x", report=False)
    attacked(root / "a", SUCCESS[1], model="y", report=False)
    attacked(root / "b", SUCCESS[2][:30], model="z", examples=np.arange(10, 40))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    found = compare(root / "a", root / "b")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    table = joined(root, "paired")
    expected = table[(table["model_a"] == "z") | (table["model_b"] == "z")].reset_index(drop=True)
    assert len(expected) == 8 and set(expected["n"]) <= set(range(10, 31)), "two pairs, metrics and budgets"
    pd.testing.assert_frame_equal(found.paired, expected, check_dtype=False, check_exact=False, rtol=1e-12)


def test_shifts_are_paired_as_bench_report_pairs_them(root):
    for name, model, share in (("a", "x", 0.8), ("b", "y", 0.6)):
        for severity in (1, 2):
            shifted(root / name, RNG.random(30) < share, model=model, domain="c", corruption="fog", severity=severity,
                    report=False)
    found = compare(root / "a", root / "b")
    expected = joined(root, "shift_paired")
    assert len(expected) == 1 and expected["cells"].item() == 2
    pd.testing.assert_frame_equal(found.shift_paired, expected, check_dtype=False, rtol=1e-12)


def test_rows_of_one_evaluation_in_both_runs_are_joined(root):
    attacked(root / "a", SUCCESS[0][:20], model="x", report=False)
    attacked(root / "b", SUCCESS[0][10:30], model="x", examples=np.arange(10, 30), report=False)
    attacked(root / "b", SUCCESS[1][:30], model="y", report=False)
    found = compare(root / "a", root / "b")
    expected = joined(root, "paired")
    pd.testing.assert_frame_equal(found.paired, expected, check_dtype=False, rtol=1e-12)
    assert set(found.paired[found.paired["metric"] == "robust_accuracy"]["n"]) == {30}
    (change,) = found.changes
    assert change.model == "x" and "10 are in both" in change.changed[0]


def test_what_changed_of_a_model_is_said(root):
    attacked(root / "a", SUCCESS[0], model="x", weights="old", settings={"order": "random"})
    attacked(root / "b", SUCCESS[0], model="x", weights="new", settings={"order": "strided"}, seed=3)
    (change,) = compare(root / "a", root / "b").changes
    text = "; ".join(change.changed)
    assert "weights" in text and "order random → strided" in text and "seed 0 → 3" in text
    assert change.values[0] == change.values[1]
    assert any("attacks of the two runs differ" in text for text in compare(root / "a", root / "b").apart)


def test_the_same_run_twice_has_not_changed(root):
    for name in "ab":
        attacked(root / name, SUCCESS[0], model="x")
        shifted(root / name, [True, False], model="x", domain="e")
    found = compare(root / "a", root / "b")
    assert [change.changed for change in found.changes] == [(), ()] and not found.apart and not len(found.paired)


def test_models_of_one_run_are_not_compared_for_what_the_other_has_not_done(root):
    attacked(root / "a", SUCCESS[0], model="x", report=False)
    attacked(root / "a", SUCCESS[1], model="y", report=False)
    attacked(root / "b", SUCCESS[2], model="x", epsilon=0.1, report=False)
    found = compare(root / "a", root / "b")
    assert not len(found.paired) and "epsilon 0.2 → 0.1" in found.changes[0].changed


def test_outcomes_that_differ_are_counted(root):
    attacked(root / "a", [1, 5, -1, 0])
    attacked(root / "b", [1, 6, -1, 0])
    (change,) = compare(root / "a", root / "b").changes
    assert change.changed == ("1 images with another outcome",)


def test_other_data_and_other_images_are_not_compared(root):
    attacked(root / "a", SUCCESS[0], model="x", domain="one", report=False)
    attacked(root / "a", SUCCESS[0], model="x", domain="shared", report=False)
    attacked(root / "b", SUCCESS[1], model="y", domain="two", report=False)
    attacked(root / "b", SUCCESS[1], model="y", domain="shared", examples=np.arange(100, 140), report=False)
    found = compare(root / "a", root / "b")
    assert not len(found.paired) and len(found.apart) == 3
    assert "only the first" in found.apart[0] and "no image in common" in found.apart[1]
    assert "only the second" in found.apart[2]


def test_runs_without_rows_and_damaged_ones_are_refused(root):
    attacked(root / "a", SUCCESS[0])
    (root / "b").mkdir()
    with pytest.raises(InputError, match="no rows"):
        compare(root / "a", root / "b")
    attacked(root / "b", SUCCESS[1])
    next((root / "b").glob("examples/*/rows-*")).write_bytes(b"nothing")
    with pytest.raises(InputError, match="checksum"):
        compare(root / "a", root / "b")


def test_the_page_has_the_numbers(root, client):
    attacked(root / "a", [1, 5, -1, -1], model="x")
    attacked(root / "b", [1, 1, 1, -1], model="y")
    status, _, text = client("/.bench/compare?a=a&b=b")
    entry = compare(root / "a", root / "b").paired.query("metric == 'robust_accuracy' and budget == 10").iloc[0]
    assert status == 200 and f'data-value="{entry["difference"]:.6g}"' in text and entry["difference"] == 0.25
    assert client("/.bench/compare?a=a&b=a")[0] == 409 and client("/.bench/compare?a=a")[0] == 409
    assert client("/.bench/compare?a=a&b=none")[0] == 404
    assert client("/.bench/compare?a=a&b=..")[0] == 404
