"""What a GPU computes against what the CPU does; left out where there is none."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from bench.run import main
from framebench.domains import load_domain
from framebench.models import load_model
from framebench.models.architectures import build
from framebench.models.predictor import Predictor
from framebench.models.regularizers import REGULARIZERS
from framebench.models.spectrum import frame_bounds

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")
TINY = ["--arch", "resnet20", "--width", "8", "--epochs", "2", "--batch", "20", "--pad", "1", "--validation", "20"]


def test_logits_of_a_shipped_model_are_those_of_the_cpu():
    x, _ = load_domain("samples").load(range(20))
    on_cpu = Predictor(load_model("baseline"), x, kind="eager")(x)
    on_gpu = Predictor(load_model("baseline"), x, device=CUDA)(x).cpu()
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_attacks_agree_with_the_cpus(tmp_path, basis):
    arguments = ["attack", "--models", "baseline", "--domain", "samples", "--budgets", "1", "10", "--basis", basis]
    found = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        assert main([*arguments, "--device", device, "--out", str(out)]) == 0
        found[device] = pd.read_csv(out / "attack.csv")[["budget", "n_correct", "successes", "queries_mean"]]
    pd.testing.assert_frame_equal(found["cpu"], found["cuda"], rtol=0.05)


@pytest.mark.parametrize("attack", ["square", "apgd", "autoattack", "noise", "foolbox:LinfPGD"])
def test_other_attacks_run(tmp_path, attack):
    assert main(["attack", "--models", "baseline", "--domain", "samples", "--attack", attack, "--budgets", "1", "20",
                 "--device", "cuda", "--out", str(tmp_path)]) == 0
    assert (pd.read_csv(tmp_path / "attack.csv")["n_correct"] == 19).all()


def test_shift(tmp_path):
    arguments = ["shift", "--models", "baseline", "--domains", "samples", "samples-c/fog/3"]
    for device in ("cpu", "cuda"):
        assert main([*arguments, "--device", device, "--out", str(tmp_path / device)]) == 0
    on_cpu, on_gpu = (pd.read_csv(tmp_path / device / "shift.csv") for device in ("cpu", "cuda"))
    pd.testing.assert_series_equal(on_cpu["accuracy"], on_gpu["accuracy"])


@pytest.mark.parametrize("name", sorted(REGULARIZERS))
def test_penalties_and_their_gradients_are_those_of_the_cpu(name):
    gradients = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = build("resnet20", width=16).to(device)
        value = REGULARIZERS[name]()(model)
        value.backward()
        gradients.append([value.cpu(), *(p.grad.cpu() for p in model.parameters() if p.grad is not None)])
    for on_cpu, on_gpu in zip(*gradients, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-3 * float(on_cpu.abs().max()))


def test_frame_bounds():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(8, 16, 3, padding=1)
    for padding in ("circular", "own"):
        on_cpu = frame_bounds(layer.cpu(), (8, 8), padding)
        assert frame_bounds(layer.to(CUDA), (8, 8), padding) == pytest.approx(on_cpu, rel=1e-3)


@pytest.mark.parametrize("more", [[], ["--compile"], ["--precision", "fp32"],
                                  ["--regularizer", "frame", "--init", "delta-orthogonal"],
                                  ["--regularizer", "srip"], ["--regularizer", "frame-spectral", "--gamma", "1e-4"]])
def test_training_resumes_and_is_measured(tmp_path, data_root, more):
    arguments = ["train", "--data-root", str(data_root), "--out", str(tmp_path), *TINY, *more, "--name", "mine",
                 "--lr", "0.05", "--device", "cuda"]
    assert main(arguments) == 0
    card = json.loads((tmp_path / "mine.json").read_text())
    assert card["provenance"]["device"] == torch.cuda.get_device_name(CUDA)
    assert card["recipe"]["precision"] == ("fp32" if "fp32" in more else "bf16")
    log = pd.read_csv(tmp_path / "mine" / "log.csv")
    assert log["train_loss"].notna().all() and log["train_loss"].iloc[-1] < log["train_loss"].iloc[0]
    (tmp_path / "mine.json").unlink()
    assert main(arguments) == 0  # all epochs are there: it is measured again
    assert json.loads((tmp_path / "mine.json").read_text())["accuracy"] == card["accuracy"]


def test_pruning(tmp_path, data_root):
    assert main(["prune", "baseline", "--data-root", str(data_root), "--images", "20", "--share", "0.1", "--out",
                 str(tmp_path), "--device", "cuda"]) == 0
