from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench.training.logs import read_logs
from framebench.errors import InputError
from framebench.models.architectures import build
from framebench.models.initialise import delta_orthogonal_
from framebench.models.regularizers import REGULARIZERS, gershgorin
from framebench.models.regularizers.frame import FrameBounds
from framebench.models.spectrum import frame_bounds, spectrum
from framebench.models.watch import COLLAPSE, COLUMNS, QUANTILES, LayerLog, ScaleWatch

LOGS = sorted((Path(__file__).parents[2] / "study" / "logs").glob("*-layers.csv"))


def test_every_layer_has_its_bounds_of_every_epoch(tmp_path):
    model = build("resnet20", width=4)
    log = LayerLog(tmp_path / "layers.csv", model, (16, 16))
    assert set(pd.read_csv(tmp_path / "layers.csv")["epoch"]) == {0}, "a run that is killed before the next entry"
    log.add(model, 1)
    with torch.no_grad():
        model.fc.weight *= 2
    log.add(model, 1.5)
    table = pd.read_csv(tmp_path / "layers.csv")
    assert list(table.columns) == COLUMNS
    layers = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert table["layer"].tolist() == layers * 3 and sorted(set(table["epoch"])) == [0, 1, 1.5]
    last = table[(table.layer == "fc") & (table.epoch == 1.5)].iloc[0]
    assert (last["lower"], last["upper"]) == pytest.approx(frame_bounds(model.fc, (1, 1)))
    first = table[(table.layer == "fc") & (table.epoch == 1)].iloc[0]
    convolution = table[(table.layer == "blocks.0.conv1") & (table.epoch == 1)].iloc[0]
    assert (convolution["lower"], convolution["upper"]) == pytest.approx(frame_bounds(model.blocks[0].conv1, (16, 16)))
    assert last["v"] == pytest.approx(4 * first["v"]) and last["s_over_v"] == pytest.approx(first["s_over_v"])


def test_spectra_are_logged_with_and_without_the_batch_norm(tmp_path):
    torch.manual_seed(0)
    model = build("speednet", width=4)
    with torch.no_grad():
        model.blocks[1].bn2.weight.fill_(3)
        model.blocks[1].bn2.running_var.fill_(0.25)
    LayerLog(tmp_path / "layers.csv", model, (16, 16))
    table = pd.read_csv(tmp_path / "layers.csv").set_index("layer")
    plain, folded = table[list(QUANTILES)], table[[f"folded_{name}" for name in QUANTILES]]
    assert (np.diff(plain, axis=1) >= 0).all() and (plain["upper"] > plain["lower"]).all()
    assert (plain.loc["fc"].to_numpy() == folded.loc["fc"].to_numpy()).all()
    ratios = folded.to_numpy() / plain.to_numpy()
    expected = [36 if layer == "blocks.1.conv2" else 1 for layer in table.index]
    assert ratios == pytest.approx(np.repeat(np.array(expected)[:, None], 7, 1), rel=1e-3)
    found = spectrum(model.blocks[0].conv1, (15, 15))
    eigenvalues = np.repeat(found.eigenvalues, found.weights.astype(int))
    assert table.loc["blocks.0.conv1", ["q05", "q50", "q95"]].to_numpy(float) == pytest.approx(
        np.quantile(eigenvalues, [0.05, 0.5, 0.95], method="inverted_cdf"))


def test_a_resumed_run_drops_what_it_trains_again(tmp_path):
    model = build("resnet20", width=4)
    log = LayerLog(tmp_path / "layers.csv", model, (16, 16))
    for epoch in (1, 1.5, 2, 2.5):
        log.add(model, epoch)
    LayerLog(tmp_path / "layers.csv", model, (16, 16), done=2).add(model, 2.5)
    table = pd.read_csv(tmp_path / "layers.csv")
    assert table[table.layer == "fc"]["epoch"].tolist() == [0, 1, 1.5, 2, 2.5]


@pytest.mark.parametrize("text", ["", "\n", "epoch,layer\n1,fc\n", ",".join(COLUMNS) + "\nx,fc,1,1,1,1\n",
                                  "a,b\n1\n1,2,3\n"])
def test_a_damaged_log_is_named(tmp_path, text):
    (tmp_path / "layers.csv").write_text(text)
    with pytest.raises(InputError, match=r"layers.csv is not a log of .*; remove it, .* starts again at epoch 2$"):
        LayerLog(tmp_path / "layers.csv", build("resnet20", width=4), (16, 16), done=2)


def test_a_log_with_another_digit_is_named_though_it_reads_as_one(tmp_path):
    path, model = tmp_path / "layers.csv", build("resnet20", width=4)
    LayerLog(path, model, (16, 16)).add(model, 1)
    good = path.read_bytes()
    path.write_bytes(good.replace(b"1", b"2"))
    with pytest.raises(InputError, match=r"layers.csv is not a log of"):
        LayerLog(path, model, (16, 16), done=1)
    with pytest.raises(InputError, match=r"layers.csv is not a log of .* not as it was written"):
        read_logs([path])
    path.write_bytes(good)
    assert read_logs([path]).bounds[tmp_path.name]["epoch"].max() == 1


def _descend(model, penalty, steps, watch):
    """Minimise the penalty alone, each step at most 5% of the norm of the weights."""
    for step in range(steps):
        model.zero_grad()
        penalty(model).backward()
        with torch.no_grad():
            slope, norm = (math.sqrt(sum(float(t.square().sum()) for t in tensors)) for tensors in (
                [p.grad for p in model.parameters()], model.parameters()))
            for p in model.parameters():
                p -= min(0.5, 0.05 * norm / slope if slope else 0.5) * p.grad
        watch.check(1 + step / steps)


def _convolutions(channels, count=3):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(count)))
    for layer in model:
        nn.init.kaiming_normal_(layer.weight)
    return model


@pytest.mark.parametrize(("channels", "count"), [(16, 3), (64, 1)])
def test_the_penalty_alone_collapses_and_rings(channels, count):
    """The collapse that is known of the study's penalty; from an orthogonal start there is none."""
    frame = REGULARIZERS["frame"]()
    model = _convolutions(channels, count)
    watch = ScaleWatch(model, frame)
    with pytest.raises(InputError, match=r"weights have collapsed in epoch 1\.\d+: .* fell from [12].* lower --gamma"):
        _descend(model, frame, 120, watch)
    model = delta_orthogonal_(_convolutions(channels, count))
    _descend(model, frame, 20, ScaleWatch(model, frame))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_no_training_that_went_well_rings(path):
    """With a margin of five, all of their layers taken for watched."""
    shares = _shares(path)
    assert len(shares) > 1 and shares.median(axis=1).min() > 5 * COLLAPSE


def _shares(path):
    table = pd.read_csv(path).pivot(index="epoch", columns="layer", values="v")
    return table.iloc[1:] / table.iloc[0].clip(upper=FrameBounds().upper)


def test_what_is_watched_is_the_median_of_the_layers_that_a_frame_holds():
    model = build("resnet20", width=4)
    body = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)][1:]
    watches = {name: ScaleWatch(model, kind()) for name, kind in REGULARIZERS.items()}
    watches["relative"] = ScaleWatch(model, REGULARIZERS["frame"](relative=True))
    watches["none"] = ScaleWatch(model, None)
    watches["body"] = ScaleWatch(model, REGULARIZERS["frame"](layers="body"))
    watches["1x1 and fc"] = ScaleWatch(model, REGULARIZERS["frame"](layers=("shortcut", "classifier")))
    for watch in watches.values():
        watch.check(1)
    with torch.no_grad():
        body[0].weight.zero_()
        watches["body"].check(1)
        for layer in body:
            layer.weight *= 0.95 * math.sqrt(COLLAPSE)
    ringing = set()
    for name, watch in watches.items():
        try:
            watch.check(1)
        except InputError:
            ringing.add(name)
    assert ringing == {"frame", "frame-spectral", "body"}


def test_a_large_layer_may_come_down_to_the_upper_bound():
    conv = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False))
    frame = REGULARIZERS["frame"]()
    watch = ScaleWatch(conv, frame)
    with torch.no_grad():
        (v, _), = gershgorin(conv).values()
        assert v == pytest.approx(float(watch.first)) and v > 4 * frame.upper
        conv[0].weight *= math.sqrt(frame.lower / v)
    watch.check(1)
    with torch.no_grad():
        conv[0].weight *= math.sqrt(0.99 * COLLAPSE * frame.upper / frame.lower)
    with pytest.raises(InputError, match="collapsed in epoch 2"):
        watch.check(2)


@pytest.mark.parametrize("layer", [nn.Conv2d(8, 6, 3, stride=2), nn.Conv2d(4, 16, 3, groups=2), nn.Linear(7, 3),
                                   nn.Conv2d(3, 40, 1, stride=2), nn.Conv2d(8, 8, 3, dilation=2)])
def test_the_scale_is_the_mean_diagonal_of_the_gram(layer):
    (v, _), = gershgorin(layer).values()
    assert float(ScaleWatch(layer, REGULARIZERS["frame"]()).first) == pytest.approx(v, rel=1e-5)
