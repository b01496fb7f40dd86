"""Others' models, without a network: the weights are our own, put where the zoos keep theirs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms import functional

from framebench.classes import CIFAR10, CIFAR100, imagenet
from framebench.errors import InputError
from framebench.files import cache_folder
from framebench.models import foreign, robustbench_zoo, zoo
from framebench.models.foreign import Preprocessed, resizing
from framebench.models.predictor import Predictor
from framebench.models.registry import load


class Harmful:
    """Pickled, it makes the folder that it names when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.fixture(autouse=True)
def _no_network(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network in this test")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr("gdown.download", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def ding() -> nn.Module:
    """The smallest architecture of RobustBench's CIFAR-10 zoo (5.8 million parameters), with random weights."""
    robustbench_zoo.names()  # makes robustbench importable
    from robustbench.model_zoo.architectures.wide_resnet import WideResNet
    from robustbench.model_zoo.cifar10 import cifar_10_models
    from robustbench.model_zoo.enums import ThreatModel

    torch.manual_seed(0)
    model = cifar_10_models[ThreatModel.Linf]["Ding2020MMA"]["model"]().eval()
    assert isinstance(model, WideResNet)
    return model


def cached(threat: str, name: str, dataset: str = "cifar10") -> Path:
    path = cache_folder() / "robustbench" / dataset / threat / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_robustbench_weights_in_the_cache_are_used_without_a_network(ding, images):
    torch.save({"state_dict": {f"module.{key}": value for key, value in ding.state_dict().items()}},
               cached("Linf", "Ding2020MMA.pt"))
    changed = {key: value * 1.5 if key == "fc.weight" else value for key, value in ding.state_dict().items()}
    torch.save(changed, cached("L2", "Ding2020MMA.pt"))
    linf, l2 = load("robustbench:Ding2020MMA"), load("robustbench:Ding2020MMA/L2")
    assert (linf.name, l2.name) == ("Ding2020MMA/Linf", "Ding2020MMA/L2") and linf.classes == CIFAR10
    assert not linf.module.training and linf.digest != l2.digest
    assert linf.digest == load("robustbench:Ding2020MMA/Linf").digest
    with torch.no_grad():
        assert torch.equal(linf.module(images), ding(images))
        logits, bias = ding(images), ding.fc.bias
        torch.testing.assert_close(l2.module(images), (logits - bias) * 1.5 + bias, rtol=1e-4, atol=1e-5)


def test_robustbench_models_of_imagenet_see_images_at_the_size_of_their_evaluation():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), cached("Linf", "Salman2020Do_R18.pt", "imagenet"))
    model = load("robustbench:Salman2020Do_R18")
    assert model.name == "imagenet/Salman2020Do_R18/Linf" and model.classes == imagenet().names
    images = torch.rand(2, 3, 240, 200)
    resized = functional.resize(images, [224, 224], antialias=True)
    normalised = functional.normalize(resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(model.module(images), theirs(normalised), rtol=1e-4, atol=1e-4)


def test_robustbench_models_of_cifar100(images):
    from robustbench.model_zoo.cifar100 import cifar_100_models
    from robustbench.model_zoo.enums import ThreatModel

    torch.manual_seed(0)
    theirs = cifar_100_models[ThreatModel.Linf]["Rice2020Overfitting"]["model"]().eval()
    torch.save(theirs.state_dict(), cached("Linf", "Rice2020Overfitting.pt", "cifar100"))
    model = load("robustbench:cifar100/Rice2020Overfitting")
    assert model.name == "cifar100/Rice2020Overfitting/Linf" and model.classes == CIFAR100
    with torch.no_grad():
        assert torch.equal(model.module(images[:2]), theirs(images[:2]))


def test_the_digest_of_a_zoos_model_changes_with_the_zoos_version(ding, monkeypatch):
    torch.save(ding.state_dict(), cached("Linf", "Ding2020MMA.pt"))
    before = load("robustbench:Ding2020MMA").digest
    monkeypatch.setattr(robustbench_zoo, "version", lambda package: f"{package} of tomorrow")
    assert load("robustbench:Ding2020MMA").digest != before


def test_robustbench_models_that_it_keeps_in_timm(images):
    torch.manual_seed(0)
    robustbench_zoo.names()
    theirs = timm.create_model("debenedetti2022light_xcit_s12_cifar10_linf", num_classes=10).eval()
    torch.save(theirs.model.state_dict(), cached("Linf", "Debenedetti2022Light_XCiT-S12.pt"))
    with torch.no_grad():
        assert torch.equal(load("robustbench:Debenedetti2022Light_XCiT-S12").module(images[:2]), theirs(images[:2]))


def test_names_of_robustbench_load_what_they_say():
    names = robustbench_zoo.names()
    assert len(set(names)) == len(names) > 200
    assert {"Standard", "Standard/L2", "Standard/corruptions", "Ding2020MMA", "cifar100/Rice2020Overfitting",
            "imagenet/Wong2020Fast"} <= set(names)
    loaded = [robustbench_zoo.meant(name) for name in names]
    assert len(set(loaded)) == len(loaded)
    assert robustbench_zoo.meant("Rice2020Overfitting") == ("cifar10", "Rice2020Overfitting", "Linf")
    assert robustbench_zoo.meant("Salman2020Do_R18") == ("imagenet", "Salman2020Do_R18", "Linf")


@pytest.mark.parametrize(("name", "message"), [
    ("Ding2020MNA", "robustbench has no model 'Ding2020MNA'; did you mean Ding2020MMA"),
    ("zzz", "robustbench has no model 'zzz'; see: bench list robustbench"),
    ("Ding2020MMA/Linv", "unknown threat model 'Linv'; did you mean Linf"),
    ("imagenet/Carmon2019Unlabeled", "for cifar10/Linf, not for imagenet"),
    ("cifar100/Rice2020Overfitting/L2", "for cifar10/Linf and cifar10/L2 and cifar100/Linf, not for cifar100/L2"),
    ("Carmon2019Unlabeled/L2", "robustbench has Carmon2019Unlabeled for cifar10/Linf, not for L2"),
])
def test_unknown_names_of_robustbench(name, message):
    with pytest.raises(InputError, match=message):
        load(f"robustbench:{name}")


def test_a_download_that_fails_says_what_to_do_and_leaves_nothing(monkeypatch):
    with pytest.raises(InputError) as raised:
        load("robustbench:Ding2020MMA")
    path = cached("Linf", "Ding2020MMA.pt")
    assert "can't get https://drive.google.com/uc?id=" in str(raised.value) and "no network" in str(raised.value)
    assert str(raised.value).endswith(f"save it as {path}") and "\n" not in str(raised.value)
    assert not list(path.parent.iterdir())

    monkeypatch.setattr("gdown.download", lambda id, output: Path(output).write_text("<!DOCTYPE html>too many users"))
    with pytest.raises(InputError, match="the answer is a web page, not a file"):
        load("robustbench:Ding2020MMA")
    assert not list(path.parent.iterdir())

    with pytest.raises(InputError, match="can't get https://github.com/.*xcit-s-cifar10-linf.pth.tar"):
        load("robustbench:Debenedetti2022Light_XCiT-S12")


def test_a_download_goes_into_the_cache(ding, monkeypatch, images):
    monkeypatch.setattr("gdown.download", lambda id, output: torch.save(ding.state_dict(), output))
    load("robustbench:Ding2020MMA")
    monkeypatch.setattr("gdown.download", None)
    assert load("robustbench:Ding2020MMA").module(images).shape == (12, 10)
    assert [path.name for path in cached("Linf", "").iterdir()] == ["Ding2020MMA.pt"]


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
def test_weights_that_run_code_are_refused_even_where_torch_would_run_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # torch's default until 2.6
    trace = tmp_path / "trace"
    torch.save({"state_dict": {}, "more": Harmful(trace)}, cached("Linf", "Ding2020MMA.pt"))
    with pytest.raises(InputError, match=r"Ding2020MMA.pt is a pickle that runs code \((posix|nt).mkdir\)"):
        load("robustbench:Ding2020MMA")
    assert not trace.exists()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1" and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    torch.load(cached("Linf", "Ding2020MMA.pt"))
    assert trace.exists(), "the pickle does what it was made for"


@pytest.mark.parametrize(("content", "message"), [
    (b"PK\3\4 and no more", "Ding2020MMA.pt is not a whole file of torch.save"),
    (b"no pickle", "Ding2020MMA.pt is not a whole file of torch.save"),
])
def test_damaged_weights(content, message):
    cached("Linf", "Ding2020MMA.pt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load("robustbench:Ding2020MMA")


def test_weights_of_another_architecture():
    torch.save(nn.Linear(2, 2).state_dict(), cached("Linf", "Ding2020MMA.pt"))
    with pytest.raises(InputError, match="does not fit its architecture .*Missing key"):
        load("robustbench:Ding2020MMA")


def test_ensembles_are_several_files():
    paths = robustbench_zoo.files("cifar10", "M", "Linf", ["a", "b"])
    assert [path.name for path in paths] == ["M.pt_m0.pt", "M.pt_m1.pt"]


def test_models_that_are_built_on_a_gpu_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="builds Bai2023Improving_edm on an NVIDIA GPU only"):
        load("robustbench:Bai2023Improving_edm")


def test_torchvision_models_bring_their_preprocessing(images):
    torch.manual_seed(0)
    theirs = torchvision.models.squeezenet1_1().eval()
    weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    path = foreign.torch_cache(weights.url)
    path.parent.mkdir(parents=True)
    torch.save(theirs.state_dict(), path)
    model = load("torchvision:squeezenet1_1")
    assert model.name == "torchvision:squeezenet1_1/IMAGENET1K_V1" and model.classes == imagenet().names
    assert model.digest == load("torchvision:squeezenet1_1/IMAGENET1K_V1").digest
    resized = functional.resize(images[:2], [224, 224])
    normalised = functional.normalize(resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(model.module(images[:2]), theirs(normalised), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "sizes"), [
    ("torchvision:squeezenet1_1", "32x32 to 224x224 (bilinear)"),
    ("timm:mobilenetv3_small_050", "32x32 to 224x224 (bicubic)"),
])
def test_random_weights_are_the_same_each_time_and_need_no_network(images, name, sizes):
    model = load(f"{name}/random")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert model.digest == load(f"{name}/random").digest and torch.equal(state, torch.get_rng_state())
    assert model.name == f"{name}/random" and model.classes == imagenet().names
    assert len(model.notes) == 1 and "random" in model.notes[0]
    assert resizing(model.module, 32, 32) == sizes and resizing(model.module, 224, 224) == ""
    x = images[:2].clone().requires_grad_()
    model.module(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_resizing_inside_does_not_keep_a_model_from_being_fused(images):
    module = load("torchvision:squeezenet1_1/random").module
    for example in (images[:2], torch.rand(2, 3, 224, 224)):
        predict = Predictor(module, example)
        assert predict.kind == "fused"
        with torch.no_grad():
            torch.testing.assert_close(predict(example), module(example), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "message"), [
    ("resnet19", "torchvision has no model 'resnet19'; did you mean resnet1"),
    ("fasterrcnn_resnet50_fpn_v2_of_mine", "torchvision has no model"),
    ("resnet18/IMAGENET1K_V2", "unknown weights of torchvision's resnet18 'IMAGENET1K_V2'; did you mean IMAGENET1K_V1"),
    ("resnet18", r"can't get https://download.pytorch.org/models/resnet18-f37072fd.pth .*save it as .*resnet18-f37"),
])
def test_torchvision_models_that_there_are_not(name, message):
    with pytest.raises(InputError, match=message):
        load(f"torchvision:{name}")


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository of the Hugging Face hub, tester/tiny, as the hub's cache holds it; returns its snapshot."""
    top = tmp_path / "hub" / "models--tester--tiny"
    snapshot = top / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (top / "refs").mkdir()
    (top / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text(json.dumps({
        "architecture": "mobilenetv3_small_050", "num_classes": 10, "label_names": list("abcdefghij"),
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4],
                           "interpolation": "bicubic", "classifier": "classifier", "first_conv": "conv_stem"}}))
    return snapshot


@pytest.mark.parametrize("prefix", ["hf-hub:", "hf_hub:"])
def test_timm_models_of_the_hub(repository, images, prefix):
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=10).eval()
    save_file(theirs.state_dict(), repository / "model.safetensors")
    model = load(f"timm:{prefix}tester/tiny")
    assert model.name == "timm:hf-hub:tester/tiny" and model.classes == tuple("abcdefghij")
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model.module(images), theirs((images - mean) / std), rtol=1e-5, atol=1e-5)


def test_hub_weights_that_don_t_fit_or_run_code(repository, tmp_path):
    save_file(timm.create_model("mobilenetv3_small_050", num_classes=7).state_dict(), repository / "model.safetensors")
    with pytest.raises(InputError, match="does not fit its architecture .*size mismatch.*python:FILE.py:FUNCTION"):
        load("timm:hf-hub:tester/tiny")
    (repository / "model.safetensors").unlink()
    torch.save({"a": Harmful(tmp_path / "trace")}, repository / "pytorch_model.bin")
    with pytest.raises(InputError, match="is a pickle that runs code"):
        load("timm:hf-hub:tester/tiny")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(("name", "message"), [
    ("resnet18", "can't get the weights of timm:resnet18 .*copy .*models--timm--resnet18.a1_in1k to here"),
    ("hf-hub:nobody/none", "can't get the weights of timm:hf-hub:nobody/none .*copy .*models--nobody--none to here"),
    ("hf-hub:", "timm has no model"),
    ("gcvit_xxtiny.in1k", "can't get https://github.com/.*gcvit_xxtiny.* save it as .*torch.hub.checkpoints.gcvit"),
    ("resnet18.a9_in1k", "timm has no model 'resnet18.a9_in1k'; did you mean resnet18.a3_in1k"),
])
def test_timm_models_that_can_t_be_had(name, message):
    with pytest.raises(InputError, match=message):
        load(f"timm:{name}")


def test_a_hub_package_that_timm_can_t_use(monkeypatch):
    monkeypatch.setattr("timm.models._hub._has_hf_hub", False)
    with pytest.raises(InputError, match="pip install 'huggingface_hub>=1,<2'"):
        load("timm:resnet18")


def test_names_of_the_public_zoos():
    assert {"resnet18", "squeezenet1_1"} <= set(zoo.torchvision_names())
    assert "fasterrcnn_resnet50_fpn" not in zoo.torchvision_names()
    assert "resnet18.a1_in1k" in zoo.timm_names()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_resizing_to_the_same_size_changes_nothing(images, interpolation):
    model = Preprocessed(nn.Identity(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (32, 32), interpolation)
    assert torch.equal(model(images), images)
    assert model(images[:, :, :20, :24]).shape == images.shape
