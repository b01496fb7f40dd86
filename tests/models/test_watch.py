from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from framebench.errors import InputError
from models.architectures import build
from models.spectrum import frame_bounds
from models.watch import COLUMNS, LayerLog


def test_every_layer_has_its_bounds_of_every_epoch(tmp_path):
    model = build("resnet20", width=4)
    log = LayerLog(tmp_path / "layers.csv", model, (16, 16))
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
    assert last["v"] == pytest.approx(4 * first["v"]) and last["s_over_v"] == pytest.approx(first["s_over_v"])


def test_a_resumed_run_drops_what_it_trains_again(tmp_path):
    model = build("resnet20", width=4)
    log = LayerLog(tmp_path / "layers.csv", model, (16, 16))
    for epoch in (1, 1.5, 2, 2.5):
        log.add(model, epoch)
    LayerLog(tmp_path / "layers.csv", model, (16, 16), done=2).add(model, 2.5)
    table = pd.read_csv(tmp_path / "layers.csv")
    assert table[table.layer == "fc"]["epoch"].tolist() == [0, 1, 1.5, 2, 2.5]


def test_a_collapse_is_noticed_with_its_layer_and_remedy(tmp_path):
    model = build("resnet20", width=4)
    log = LayerLog(tmp_path / "layers.csv", model, (16, 16))
    with torch.no_grad():
        model.fc.weight *= 1e-3
    with pytest.raises(InputError, match="the layer fc has collapsed in epoch 3: .* a lower --gamma"):
        log.add(model, 3)
