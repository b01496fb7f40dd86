"""docs/results.md says how results are read without framebench; this follows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from bench.rows.facts import Facts
from bench.rows.parts import SCHEMA
from bench.run import main

PAGE = (Path(__file__).parent.parent / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.fixture
def out(tmp_path, model_file, data_root):
    out = tmp_path / "runs"
    more = ["--models", f"python:{model_file}:linear", "--data-root", str(data_root), "--out", str(out),
            "--threads", "1"]
    assert main(["attack", *more, "--budgets", "5", "--save-adversarial", "--targeted"]) == 0
    assert main(["shift", *more, "--domains", "cifar10"]) == 0
    return out


def test_rows_are_read_with_pandas_alone(out):
    for path in out.glob("examples/*/rows-*.parquet"):
        rows = pd.read_parquet(path)
        assert list(rows.columns) == SCHEMA.names == re.findall(r"`(\w+)`", "".join(
            line.split("|")[1] for line in PAGE.partition("## Rows")[2].splitlines()
            if re.match(r"\| `\w+`(, `\w+`)? \| (int64|float64|binary) \|", line)))
        assert rows["example"].is_monotonic_increasing and len(rows) == 30
    (attacked,) = [pd.read_parquet(path) for path in out.glob("examples/*simba*/rows-*.parquet")]
    table = pd.read_csv(out / "attack.csv").query("unit == 'iterations' and budget == 5").iloc[0]
    assert (attacked["clean_prediction"] == attacked["label"]).mean() == table["clean_accuracy"]
    assert attacked["success_iteration"].between(1, 5).sum() == table["successes"]


def test_facts_are_read_from_the_files_metadata_and_all_are_described(out):
    for path in out.glob("examples/*/rows-*.parquet"):
        kept = json.loads(pq.read_schema(path).metadata[b"framebench"])
        assert set(kept) == {"version", "evaluation", "facts"} and kept["facts"]["title"].startswith("CIFAR-10 test")
        for name in kept["evaluation"]:
            assert f"`{name}`" in PAGE
    for name in Facts.__dataclass_fields__:
        assert f"`facts.{name}`" in PAGE


def test_attacked_images_are_read_with_safetensors_alone(out):
    (path,) = out.glob("adversarial/*/images-*.safetensors")
    with safe_open(path, framework="np") as kept:
        assert set(kept.keys()) == {"images", "ids", "labels"} and kept.get_tensor("images").shape == (30, 3, 32, 32)
        for name in json.loads(kept.metadata()["framebench"]):
            assert f"`{name}`" in PAGE


def test_every_file_under_out_is_described(out):
    described = {re.sub(r"[^/]*EVALUATION[^/]*", "*", name) for name in re.findall(r"`([^`]+)`", PAGE)}
    for path in out.rglob("*"):
        name = path.relative_to(out)
        if path.is_file() and not path.name.startswith("."):
            assert any(name.match(pattern) for pattern in described if pattern not in ("*",)), name
