from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from bench.flags import PAGE, model_flags, result_flags
from bench.run import main
from domains import load_domain
from models import load_model


class Scaled(nn.Module):
    """The shipped model behind another reading of its inputs or outputs."""

    def __init__(self, before=None, after=None):
        super().__init__()
        self.model, self.before, self.after = load_model("baseline"), before, after

    def forward(self, x):
        x = x if self.before is None else self.before(x)
        z = self.model(x)
        return z if self.after is None else self.after(z)


@pytest.fixture(scope="module")
def samples():
    return load_domain("samples").load(range(20))


def _flags(model, samples):
    with torch.no_grad():
        return [re.search(rf"\({PAGE}#([a-z-]+)\)$", flag).group(1) for flag in model_flags(model, *samples)]


def test_the_shipped_model_has_none(samples):
    assert _flags(load_model("baseline"), samples) == []


@pytest.mark.parametrize(("before", "after", "anchor"), [
    (None, lambda z: z.softmax(1), "probabilities"),
    (None, lambda z: 20 * z, "saturated"),
    (None, lambda z: z + 0.01 * torch.randn_like(z), "random"),
    (None, lambda z: z - z.mean(0), "batch"),
    (None, lambda z: z.roll(1, 1), "labels"),
    (lambda x: x / 255, None, "normalisation"),
    (lambda x: 0.47 + 0.15 * x, None, "normalisation"),
])
def test_each_mistake_has_its_flag(samples, before, after, anchor):
    assert _flags(Scaled(before, after), samples) == [anchor]


def test_every_flag_has_its_section():
    page = (Path(__file__).parents[2] / PAGE).read_text()
    source = (Path(__file__).parents[2] / "bench" / "flags.py").read_text()
    anchors = set(re.findall(r'_flag\("([a-z-]+)"', source))
    assert len(anchors) == 8 and anchors == set(re.findall(r"^## ([a-z-]+)$", page, re.MULTILINE))


def _entry(attack, unit, budget, asr, low, high):
    return {"model": "m", "domain": "d", "attack": attack, "unit": unit, "budget": budget, "asr": asr, "ci_low": low,
            "ci_high": high}


def test_results_are_read_over():
    good = [_entry("simba-pixel", "queries", 0, 0.0, 0, 0.1), _entry("simba-pixel", "queries", 100, 0.5, 0.4, 0.6),
            _entry("noise-pixel", "queries", 100, 0.1, 0.05, 0.2)]
    assert result_flags(pd.DataFrame(good)) == []
    (control,) = result_flags(pd.DataFrame([*good, _entry("simba-dct", "queries", 0, 0.45, 0.4, 0.5)]))
    assert "ASR of simba-dct on d is 45.0% at budget 0" in control and "#control" in control
    (weak,) = result_flags(pd.DataFrame([*good, _entry("square", "queries", 100, 0.01, 0, 0.04)]))
    assert "square on d breaks fewer images than random noise at 100 queries" in weak


def test_flags_are_printed_and_head_the_report(tmp_path, capsys):
    path = tmp_path / "shifted.py"
    path.write_text("import torch\nfrom models import load_model\n"
                    "class Shifted(torch.nn.Module):\n"
                    "    def __init__(self):\n        super().__init__()\n        self.model = load_model('baseline')\n"
                    "    def forward(self, x):\n        return self.model(x).roll(1, 1)\n"
                    "def make(): return Shifted()\n")
    out = tmp_path / "out"
    assert main(["shift", "--models", f"python:{path}:make", "--domains", "samples", "--out", str(out),
                 "--threads", "1"]) == 0
    captured = capsys.readouterr()
    assert "its labels are shifted" in captured.out + captured.err
    assert "its labels are shifted" in (out / "report" / "index.html").read_text()
