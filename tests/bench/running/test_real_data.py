"""On real images, where BENCH_DATA_REAL names a data root that has them."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from bench.run import main

ROOT = os.environ.get("BENCH_DATA_REAL")
pytestmark = [pytest.mark.real_data, pytest.mark.skipif(not ROOT, reason="BENCH_DATA_REAL is not set")]


def test_the_shipped_baseline_on_the_test_set(tmp_path):
    out = tmp_path / "out"
    assert main(["attack", "--models", "baseline", "--data-root", str(ROOT), "-n", "100", "--budgets", "1", "10", "100",
                 "1000", "--out", str(out)]) == 0
    table = pd.read_csv(out / "attack.csv").query("unit == 'iterations'").set_index("budget")
    assert table["n"].unique().tolist() == [100]
    assert 0.8 <= table["clean_accuracy"].iloc[0] <= 0.98
    assert table.loc[0, "asr"] == 0 and table["asr"].is_monotonic_increasing
    # One pixel of 0.2 breaks hardly any image, a thousand break nearly all (docs/definitions.md).
    assert table.loc[1, "asr"] <= 0.05 and table.loc[1000, "asr"] >= 0.8
    assert (table["ci_low"] <= table["asr"]).all() and (table["asr"] <= table["ci_high"]).all()
