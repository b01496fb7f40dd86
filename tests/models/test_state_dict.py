from __future__ import annotations

import re

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from framebench.classes import CIFAR10
from framebench.errors import InputError
from framebench.models.checkpoint import Card, save
from framebench.models.foreign import resizing
from framebench.models.registry import load
from framebench.models.state_dict import CIFAR10_MEAN, CIFAR10_STD
from tests.conftest import make_network


@pytest.fixture
def network() -> nn.Module:
    return make_network("resnet20", 4)


def write(path, content):
    torch.save(content, path)
    return path


def normalisation(model):
    return model.normalize.mean.flatten().tolist(), model.normalize.std.flatten().tolist()


@pytest.mark.parametrize("wrap", [
    lambda tensors: tensors,
    lambda tensors: {"state_dict": tensors, "epoch": 3},
    lambda tensors: {"model": {"state_dict": tensors}, "args": {"lr": 0.1}},
    lambda tensors: {"net": {f"module.{key}": value for key, value in tensors.items()}},
    lambda tensors: {f"_orig_mod.module.{key}": value for key, value in tensors.items()},
    lambda tensors: {key if key.startswith("normalize") else f"model.{key}": value for key, value in tensors.items()},
    lambda tensors: {key: value.half() if value.is_floating_point() and value.ndim == 0 else value
                     for key, value in tensors.items()},
])
def test_wrapped_state_dicts(network, images, tmp_path, wrap):
    path = write(tmp_path / "mine.pt", wrap(dict(network.state_dict())))
    model = load(f"state:resnet20,width=4:{path}")
    assert (model.name, model.notes, model.card) == ("mine", (), None)
    assert not model.module.training
    with torch.no_grad():
        assert torch.equal(model.module(images), network(images))


def test_the_same_model_has_the_same_digest_as_with_a_card(network, tmp_path):
    card = Card("small", "resnet20", 4, tuple("abcdefghij"), {}, {}, [], {})
    path = save(network, card, tmp_path)
    assert load(f"state:resnet20,width=4:{path}").digest == load(str(path)).digest


def test_normalisation_that_the_file_lacks(network, images, tmp_path):
    tensors = {key: value for key, value in network.state_dict().items() if not key.startswith("normalize")}
    path = write(tmp_path / "mine.pt", tensors)
    model = load(f"state:resnet20,width=4:{path}")
    assert len(model.notes) == 1 and "mine.pt holds no normalisation: CIFAR-10's mean 0.4914/0.4822" in model.notes[0]
    mean, std = normalisation(model.module)
    assert mean == pytest.approx(CIFAR10_MEAN) and std == pytest.approx(CIFAR10_STD)

    given = load(f"state:resnet20,width=4,mean=0.5/0.5/0.5,std=0.25/0.25/0.25:{path}")
    assert given.notes == () and given.digest != model.digest
    with torch.no_grad():
        assert torch.equal(given.module(images), network(images)), "the network's own are these"


@pytest.mark.parametrize("prefixed", [False, True])
def test_torchvision_architectures(images, tmp_path, prefixed):
    torch.manual_seed(0)
    theirs = torchvision.models.squeezenet1_1(num_classes=7).eval()
    tensors = dict(theirs.state_dict())
    own = {"normalize.mean": torch.tensor([0.1, 0.2, 0.3]), "normalize.std": torch.tensor([0.4, 0.5, 0.6])}
    if prefixed:
        tensors = {**{f"model.{key}": value for key, value in tensors.items()}, **own}
    path = write(tmp_path / "mine.pth", tensors)
    options = "" if prefixed else ",mean=0.1/0.2/0.3,std=0.4/0.5/0.6"
    normalised = (images - own["normalize.mean"].view(3, 1, 1)) / own["normalize.std"].view(3, 1, 1)
    with torch.no_grad():
        model = load(f"state:torchvision/squeezenet1_1{options}:{path}").module
        torch.testing.assert_close(model(images), theirs(normalised), rtol=1e-5, atol=1e-5)
        larger = load(f"state:torchvision/squeezenet1_1,size=48{options}:{path}").module
        resized = torchvision.transforms.functional.resize(normalised, [48, 48])
        torch.testing.assert_close(larger(images), theirs(resized), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("owner", "arch", "make"), [
    ("torchvision", "shufflenet_v2_x0_5", torchvision.models.shufflenet_v2_x0_5),
    ("timm", "test_vit", lambda num_classes: timm.create_model("test_vit", num_classes=num_classes)),
])
@pytest.mark.parametrize("count", [3, 200])
def test_the_number_of_classes_is_the_files(tmp_path, owner, arch, make, count):
    path = write(tmp_path / "mine.pt", make(num_classes=count).state_dict())
    model = load(f"state:{owner}/{arch},size=160,interpolation=bicubic:{path}")
    assert model.classes is None and "ImageNet" in model.notes[0]
    assert resizing(model.module, 64, 64) == "64x64 to 160x160 (bicubic)"
    with torch.no_grad():
        assert model.module(torch.rand(2, 3, 64, 64)).shape == (2, count)


def test_classes_can_be_named(network, tmp_path):
    path = write(tmp_path / "mine.pt", network.state_dict())
    assert load(f"state:resnet20,width=4,classes=cifar10:{path}").classes == CIFAR10


def test_timm_architectures(images, tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=10).eval()
    save_file(theirs.state_dict(), tmp_path / "mine.safetensors")
    model = load(f"state:timm/mobilenetv3_small_050,mean=0/0/0,std=1/1/1:{tmp_path / 'mine.safetensors'}").module
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("head", "message"), [
    ("resnet20,width=8", "is the name's width right, and its number of classes"),
    ("resnet20,width=4,classes=cifar100", "is for 10 classes, not for the 100"),
    ("resnet20,width=4,classes=10", "classes must be one of cifar10, cifar100, imagenet .*, not '10'"),
    ("torchvision/resnet18,interpolation=cubic", "interpolation must be bilinear, bicubic or nearest, not 'cubic'"),
    ("resnet18,width=4", "lacks the tensor 'blocks"),
    ("resnet20,width=4,mean=0/0/0,std=1/1/1", "holds its own normalisation"),
    ("resnet20,width=4,mean=0/0/0", "holds its own normalisation"),
    ("resnet21", "unknown architecture 'resnet21'; did you mean resnet"),
    ("resnet20,widht=4", "did you mean width"),
    ("resnet20,width=0", "width must be an integer of at least 1, not '0'"),
    ("resnet20,width", "width must be an integer of at least 1, not ''"),
    ("resnet20,std=1/1", "std must be three numbers, as 0.49/0.48/0.45, not '1/1'"),
    ("resnet20,std=1/nan/1", "std must be three numbers"),
    ("resnet20,size=32", "size and interpolation of others'"),
    ("torchvision/resnet18,width=4", "width is an option of our architectures"),
    ("torchvision/resnet19", "torchvision has no model 'resnet19'"),
    ("timm/resnet19", "timm has no model 'resnet19'"),
    ("keras/resnet18", "unknown source of architectures 'keras'"),
    ("torchvision/resnet18", "lacks the tensor"),
])
def test_names_that_don_t_fit_the_file(network, tmp_path, head, message):
    path = write(tmp_path / "mine.pt", network.state_dict())
    with pytest.raises(InputError, match=message):
        load(f"state:{head}:{path}")


@pytest.mark.parametrize("std", ["0/0/0", "0.2/0.2/-0.2"])
def test_a_std_that_can_t_be_divided_by(network, tmp_path, std):
    tensors = {key: value for key, value in network.state_dict().items() if not key.startswith("normalize")}
    name = f"state:resnet20,width=4,mean=0/0/0,std={std}:{write(tmp_path / 'mine.pt', tensors)}"
    with pytest.raises(InputError, match=re.escape(f"{name} has mean 0/0/0 and std {std}; both must be finite, and")):
        load(name)


@pytest.mark.parametrize("name", ["resnet18", "resnet18:", ":mine.pt", ""])
def test_names_that_are_not_whole(name):
    with pytest.raises(InputError, match=re.escape(f"'state:{name}' must read state:ARCH")):
        load(f"state:{name}")


@pytest.mark.parametrize(("content", "message"), [
    ({"epoch": 3}, "holds no state dict, bare or under state_dict, .* but: epoch"),
    ({}, "but: nothing"),
    ([1, 2], "but: list"),
    (nn.Linear(2, 2), r"is a pickle that runs code \(torch.nn.modules.linear.Linear\)"),
])
def test_files_that_hold_no_state_dict(tmp_path, content, message):
    path = write(tmp_path / "mine.pt", content)
    with pytest.raises(InputError, match=message):
        load(f"state:resnet18:{path}")


def test_damaged_and_missing_files(network, tmp_path):
    with pytest.raises(InputError, match="there is no file of weights"):
        load(f"state:resnet18:{tmp_path / 'mine.pt'}")
    for name, message in (("mine.pt", "is not a whole file of torch.save"), ("mine.safetensors", "not a whole saf")):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(InputError, match=message):
            load(f"state:resnet18:{tmp_path / name}")


@pytest.mark.parametrize(("edit", "message"), [
    (lambda t: t["fc.bias"].fill_(float("nan")), "tensor 'fc.bias' has values that are not finite"),
    (lambda t: t.pop("fc.bias"), "lacks the tensor 'fc.bias'"),
    (lambda t: t.update(more=torch.zeros(1)), "unknown tensor 'more'"),
    (lambda t: t.pop("normalize.std"), "mean and std go together"),
    (lambda t: t.update({"normalize.mean": torch.zeros(4)}), r"normalisation has the shape \[4\]"),
    (lambda t: t.update({"normalize.std": torch.zeros(3)}), "mine.pt has mean 0.5/0.5/0.5 and std 0/0/0; both must be"),
    (lambda t: t.update({"normalize.mean": torch.full((3,), torch.inf)}), "mine.pt has mean inf/inf/inf and std"),
])
def test_wrong_tensors_are_named(network, tmp_path, edit, message):
    tensors = {key: value.clone() for key, value in network.state_dict().items()}
    edit(tensors)
    path = write(tmp_path / "mine.pt", tensors)
    with pytest.raises(InputError, match=message):
        load(f"state:resnet20,width=4:{path}")
