from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench.frames.bounds import _reconstruction
from bench.run import main
from framebench.models.registry import load, load_model
from framebench.models.spectrum import frame_bounds, gershgorin_bounds
from framebench.models.watch import LayerLog
from tests.bench.conftest import frames

CONTRACT = ["model", "layer", "side", "lower", "upper", "condition", "gershgorin_lower", "gershgorin_upper"]


def test_a_model_from_its_weights_to_its_page(tmp_path, networks, capsys):
    out = tmp_path / "out"
    assert frames(out, networks, "small", "other") == 0
    table = pd.read_csv(out / "frames.csv", dtype={"layer": str})
    assert list(table.columns)[:8] == CONTRACT
    assert table["model"].tolist() == ["networks:other"] * 3 + ["networks:small"] * 3
    assert table["layer"].tolist() == ["0", "3", "6"] * 2
    assert table["side"].tolist() == ["input", "output", "input"] * 2
    assert (table["gershgorin_lower"] <= table["lower"]).all() and (table["upper"] <= table["gershgorin_upper"]).all()
    np.testing.assert_allclose(table["condition"], table["upper"] / table["lower"])
    assert table["lower_converged"].all() and table["upper_converged"].all(), "they are exact"
    model = load(f"python:{networks}:small").module
    small = table[table["model"] == "networks:small"].reset_index(drop=True)
    for row, layer in zip(small.to_dict("records"), (model[0], model[3], model[6]), strict=True):
        assert (row["lower"], row["upper"]) == pytest.approx(frame_bounds(layer, (32, 32)), rel=1e-12)
        assert (row["gershgorin_lower"], row["gershgorin_upper"]) == pytest.approx(gershgorin_bounds(layer))
    assert small["reconstruction_error"].iloc[[0, 2]].max() < 0.02
    assert 0 < small["recovered"][1] < 1 and small["reconstruction_error"][1] > 0.3, "what a wide layer loses is lost"
    page = (out / "report" / "index.html").read_text()
    assert page.count("<svg") == 3 and "networks:other" in page and "Reconstruction of each layer" in page
    printed = capsys.readouterr().out
    assert "networks:small: 3 layers" in printed and "report:" in printed


def test_undoing_leaves_out_what_a_layer_skips():
    """A 1x1 convolution of stride 2 can't tell three pixels of four; the fourth is found."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 1, stride=2)
    nn.init.orthogonal_(layer.weight)
    error, recovered = _reconstruction(layer, torch.rand(2, 3, 7, 6))
    assert error < 1e-5 and recovered == pytest.approx(1)
    assert _reconstruction(layer, torch.zeros(2, 3, 7, 6)) == (None, None)


def test_a_second_call_adds_and_redoes_nothing(tmp_path, networks, monkeypatch):
    out = tmp_path / "out"
    assert frames(out, networks, "small") == 0
    kept = {path: path.read_bytes() for path in out.rglob("*.json")}
    assert frames(out, networks, "other") == 0
    assert len(pd.read_csv(out / "frames.csv")) == 6
    first = (out / "frames.csv").read_bytes()

    def never(*_, **__):
        raise AssertionError("all is there")

    monkeypatch.setattr("framebench.models.spectrum.spectrum", never)
    assert frames(out, networks, "small", "other") == 0
    assert (out / "frames.csv").read_bytes() == first
    page = (out / "report" / "index.html").read_bytes()
    assert frames(out, networks, "small", "other") == 0
    assert (out / "report" / "index.html").read_bytes() == page, "the same command gives the same page"
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_own_padding_is_estimated_and_told_apart(tmp_path, networks):
    out = tmp_path / "out"
    assert frames(out, networks, "small") == 0
    assert frames(out, networks, "small", more=["--padding", "own", "--images", "0"]) == 0
    table = pd.read_csv(out / "frames.csv")
    circular, own = (table[table["padding"] == p].reset_index(drop=True) for p in ("circular", "own"))
    assert own["upper"].tolist() == pytest.approx(circular["upper"].tolist(), rel=0.1)
    assert (own["upper"] <= own["gershgorin_upper"]).all() and own["upper_converged"].all()
    assert circular["lower_converged"].all() and circular["condition"].notna().all()
    assert own["gershgorin_lower"].isna().tolist() == [True, True, False], "certain for the linear layer alone"
    assert own["reconstruction_error"].isna().all()
    page = (out / "report" / "index.html").read_text()
    assert "networks:small, own padding" in page and "networks:small, circular padding" in page


def test_a_lower_bound_that_has_not_converged_is_marked(tmp_path, networks, capsys):
    """On a torus the square layer's B/A is 5e7: no 300 steps find its A with zeros, and no place hides that."""
    out = tmp_path / "out"
    assert frames(out, networks, "square", more=["--padding", "own", "--images", "0"]) == 0
    table = pd.read_csv(out / "frames.csv")
    assert table["lower_converged"].tolist() == [False, True] and table["upper_converged"].all()
    assert table["condition"].isna().tolist() == [True, False]
    printed = capsys.readouterr().out
    ratio = table["upper"][0] / table["lower"][0]
    assert f"A from <= {table['lower'].min():.2g} to" in printed and f"worst B/A >= {ratio:.2g} (0)" in printed
    assert "<=: A has not converged" in printed
    page = (out / "report" / "index.html").read_text()
    assert page.count(f"≤ {table['lower'][0]:.3g}<") == 2 and f"≥ {ratio:.3g}<" in page, "in both tables"
    assert f">{table['lower'][1]:.3g}<" in page, "the linear layer has no mark"


def test_each_layer_has_its_own_padding_mode(tmp_path, networks):
    out = tmp_path / "out"
    assert frames(out, networks, "modes", more=["--padding", "own", "--size", "8"]) == 0
    table = pd.read_csv(out / "frames.csv")
    assert table["gershgorin_upper"].isna().tolist() == [True, True, False, False], "a reflected pixel counts twice"
    assert table["gershgorin_lower"].isna().tolist() == [True, True, False, True], "the third is a torus"
    layers = load(f"python:{networks}:modes").module
    assert table["lower_converged"].any()
    for row, layer in zip(table.to_dict("records"), layers, strict=False):
        found = frame_bounds(layer, (8, 8), "own")
        assert row["upper"] == pytest.approx(found[1]) and row["lower_converged"] != np.isnan(found[0])
    zeros = nn.Conv2d(3, 12, 3, padding=1)
    zeros.weight = layers[0].weight
    assert table["upper"][0] > 1.02 * frame_bounds(zeros, (8, 8), "own")[1], "reflection, not zeros"
    assert table["lower"][2] == pytest.approx(frame_bounds(layers[2], (8, 8))[0], rel=1e-9)


def test_a_folded_batch_norm_scales_the_layer(tmp_path, networks):
    out = tmp_path / "out"
    assert frames(out, networks, "scaled", more=["--images", "0"]) == 0
    assert frames(out, networks, "scaled", more=["--images", "0", "--fold"]) == 0
    table = pd.read_csv(out / "frames.csv")
    alone, folded = (table[table["batch_norm"] == kind].reset_index(drop=True) for kind in ("left out", "folded"))
    factors = [4, 1, 1]  # a variance of 1/4 doubles the rows of the first layer
    for bound in ("lower", "upper"):
        np.testing.assert_allclose(folded[bound] / alone[bound], factors, rtol=1e-5)


def test_folded_bounds_are_those_that_a_training_logs_also_where_pooling_is_between(tmp_path, networks):
    networks.write_text(networks.read_text() + (
        "def speednet():\n"
        "    from framebench.models.architectures import build\n"
        "    torch.manual_seed(0)\n"
        "    model = build('speednet', width=8)\n"
        "    for module in model.modules():\n"
        "        if isinstance(module, nn.BatchNorm2d):\n"
        "            module.running_var.uniform_(0.5, 2), nn.init.uniform_(module.weight, -1.5, 1.5)\n"
        "    return model.eval()\n"))
    assert frames(tmp_path / "out", networks, "speednet", more=["--images", "0", "--fold"]) == 0
    measured = pd.read_csv(tmp_path / "out" / "frames.csv").set_index("layer")
    model = load_model(f"python:{networks}:speednet")
    LayerLog(tmp_path / "layers.csv", model, (32, 32))
    logged = pd.read_csv(tmp_path / "layers.csv").set_index("layer")
    assert set(measured.index) == set(logged.index) and len(logged) > 6
    for bound in ("lower", "upper"):
        np.testing.assert_allclose(measured[bound], logged[f"folded_{bound}"][measured.index], rtol=1e-4, atol=1e-9)
    changed = ~np.isclose(measured["upper"], logged["upper"][measured.index])
    assert set(measured.index[~changed]) == {"conv", "fc"}, "which no batch norm follows"


def test_a_torus_that_a_stride_does_not_divide_is_enlarged(tmp_path, networks):
    out = tmp_path / "out"
    assert frames(out, networks, "small", more=["--size", "31"]) == 0
    table = pd.read_csv(out / "frames.csv")
    assert table[["image", "height"]].to_numpy().tolist() == [[31, 31], [31, 32], [31, 1]]
    assert table["reconstruction_error"].notna().all()


def test_the_shipped_baseline(tmp_path):
    out = tmp_path / "out"
    assert main(["frames", "--models", "baseline", "--out", str(out), "--threads", "1", "--images", "1"]) == 0
    table = pd.read_csv(out / "frames.csv")
    assert table["layer"].tolist()[0] == "conv" and table["layer"].tolist()[-1] == "fc" and len(table) == 8
    weight = load("baseline").module.fc.weight.double()
    values = torch.linalg.eigvalsh(weight @ weight.T)
    assert table.iloc[-1][["lower", "upper"]].tolist() == pytest.approx(values[[0, -1]].tolist(), rel=1e-6)
    (kept,) = (out / "frames").glob("*.json")
    assert {"torch", "commit"} <= set(json.loads(kept.read_text())["provenance"])


@pytest.mark.parametrize(("name", "options", "message"), [
    ("pooled", [], "has no nn.Conv2d or nn.Linear"),
    ("diverged", [], "networks:diverged, layer 3: the weights are not finite"),
    ("fixed", ["--size", "16"], "fails on images of 16x16"),
    ("asserting", [], "networks:asserting fails on images of 32x32 (AssertionError: even sizes only)"),
    ("silent", [], "networks:silent fails on images of 32x32 (TypeError); give the size that it takes with --size"),
    ("leaving", [], "networks:leaving fails on images of 32x32 (SystemExit: 3)"),
    ("ending", [], "networks:ending fails on images of 32x32 (GeneratorExit)"),
    ("ending", ["--fold"], "can't be traced"),
    ("untraceable", ["--fold"], "traced"),
    ("small", ["--size", "0"], "must be at least 1"),
    ("small", ["--size", "10000000", "--images", "0"], "at most 16384"),
    ("small", ["--images", "21"], "between 0 and 20"),
    ("small", ["--padding", "zero"], "--padding 'zero'"),
    ("small", ["--log", "none.csv"], "none.csv is not a log of a training (No such file"),
    ("small", ["--log", "{file}"], "networks.py is not a log of a training"),
    ("small", ["--log", "{folder}"], "holds neither layers.csv nor log.csv"),
    ("small", ["--out", "{file}/out"], "can't write to the folder"),
    ("smal", [], "unknown function"),
])
def test_bad_input(tmp_path, networks, capsys, name, options, message):
    given = [option.format(file=networks, folder=tmp_path) for option in options]
    code = frames(tmp_path / "out", networks, name, more=given)
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and message in errors[0], captured.err
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".html", ".json")]
