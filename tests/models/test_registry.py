from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.run import main
from framebench.errors import InputError
from framebench.models.registry import (
    CHECKPOINTS,
    SOURCES,
    card_of,
    default_models,
    load,
    load_model,
    shipped,
    without_weights,
    wrap,
)
from framebench.models.source import Found, Source


def test_a_users_factory_by_file(model_file, images):
    model = load(f"python:{model_file}:linear")
    assert model.name == "factories:linear"
    assert model.module(images).shape == (12, 10)
    assert load(f"python:{model_file}:linear").digest == model.digest
    assert load(f"python:{model_file}:other").digest != model.digest


NETWORK = '''
from __future__ import annotations
from dataclasses import dataclass
import torch
from helper import scale  # its neighbour

@dataclass
class Settings:
    sigma: float = {sigma}

class Noisy(torch.nn.Module):
    def __init__(self, sigma):
        super().__init__()
        self.sigma = sigma

    def forward(self, x):
        return scale(x.mean((2, 3)) {sign} self.sigma)

def make():
    return Noisy(Settings().sigma)
'''


def test_a_model_is_told_by_its_code_and_numbers_too(tmp_path):
    (tmp_path / "helper.py").write_text("def scale(x): return 2 * x\n")
    digests = []
    for sigma, sign in ((0.5, "+"), (0.7, "+"), (0.5, "-"), (0.5, "+")):
        path = tmp_path / "network.py"
        path.write_text(NETWORK.format(sigma=sigma, sign=sign))
        model = load(f"python:{path}:make")
        assert torch.equal(model.module(torch.zeros(1, 3, 2, 2)), torch.full((1, 3), 2 * float(f"{sign}{sigma}")))
        digests.append((model.digest, wrap(model.module, "a").digest))
        assert wrap(model.module, "b").digest == digests[-1][1]
    for own in zip(*digests, strict=True):
        assert len(set(own)) == 3 and own[0] == own[3]


def test_an_edit_within_a_second_counts(tmp_path, monkeypatch):
    """Python's own cache goes by size and by whole seconds."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "network.py"
    for sigma in (0.5, 0.7):
        path.write_text(NETWORK.format(sigma=sigma, sign="+"))
        (tmp_path / "helper.py").write_text("def scale(x): return 2 * x\n")
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert torch.equal(load(f"python:{path}:make").module(torch.zeros(1, 3, 2, 2)), torch.full((1, 3), 2 * sigma))


class Activated(torch.nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, x):
        return self.act(x.mean((2, 3)))


class Shifted(Activated):
    def forward(self, x):
        return super().forward(x) + self.offset


def test_a_model_is_told_by_the_functions_and_tensors_that_it_holds():
    def activated(factor):
        return Activated(lambda x: factor * x)

    shifts = [Shifted(torch.relu), Shifted(torch.relu)]
    shifts[0].offset, shifts[1].offset = torch.tensor(1.), torch.tensor(2.)  # neither parameters nor buffers
    modules = [activated(2), activated(3), Activated(lambda x: x), Activated(lambda x: -x), Activated(torch.relu),
               Activated(torch.sigmoid), torch.nn.LeakyReLU(0.1), torch.nn.LeakyReLU(0.2), *shifts]
    assert len({wrap(module, "a").digest for module in modules}) == len(modules)
    assert wrap(activated(2), "a").digest == wrap(modules[0], "b").digest


def test_a_users_factory_by_module():
    assert isinstance(load("python:torch.nn:Flatten").module, torch.nn.Flatten)


@pytest.mark.parametrize(("name", "message"), [
    ("python:linear", "must read python:MODULE:FUNCTION"),
    ("python:/nowhere/file.py:f", "there is no file"),
    ("python:no_such_module_here:f", "can't import no_such_module_here"),
    ("python:{file}:linaer", "did you mean linear"),
    ("python:{file}:text", "of type str, not a torch.nn.Module"),
    ("python:{file}:raising", "raised OSError: no weights here"),
    ("python:{file}:leaving", "leaving raised SystemExit: 3"),
    ("python:{file}:ending", "ending raised GeneratorExit"),
    ("python:{file}:verbose", "verbose raised RuntimeError: one two; correct it"),
    ("python:{file}:value", "value in .*factories.py is of the type int, not a function"),
    ("python:{file}:nothing", "nothing in .*factories.py is of the type NoneType, not a function"),
    ("python:{file}:xyz", "'xyz'; known: Raising, Tuple, broken, ending, five, lazy, leaving, linear, other, "
     "probabilities, raising, raising_later, text, tuple_, verbose$"),
    ("python:torch.nn:Flaten", "did you mean Flatten"),
    ("python:{file}:lazy", "call it once"),
    ("python:{folder}/leaves.py:f", "can't import .*leaves.py .SystemExit: 4.; correct it"),
])
def test_factories_that_give_no_model_are_refused(model_file, name, message):
    model_file.write_text(model_file.read_text() + (
        "from math import sqrt\n"
        "import sys\n"
        "value, nothing = 5, None\n"
        "def leaving(): sys.exit(3)\n"
        "def ending(): raise GeneratorExit\n"
        "def lazy(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))\n"
        "def verbose(): raise RuntimeError('one\\ntwo')\n"))
    (model_file.parent / "leaves.py").write_text("import sys\nsys.exit(4)\n")
    with pytest.raises(InputError, match=message) as raised:
        load(name.format(file=model_file, folder=model_file.parent))
    assert "\n" not in str(raised.value)


def test_a_factory_can_be_interrupted(model_file):
    model_file.write_text("def slow(): raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load(f"python:{model_file}:slow")


def test_a_path_may_be_an_object_and_begin_with_the_home_folder(tmp_path, monkeypatch, model_file):
    monkeypatch.setenv("HOME", str(tmp_path))
    for suffix in (".json", ".safetensors"):
        shutil.copy(CHECKPOINTS / f"baseline{suffix}", tmp_path / f"mine{suffix}")
    digest = load("baseline").digest
    assert load(tmp_path / "mine.safetensors").digest == load("~/mine.safetensors").digest == digest
    assert load("python:~/factories.py:linear").digest == load(f"python:{model_file}:linear").digest
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="lacks the tensor"):  # it was found
        load("state:resnet18:~/weights.pt")
    with pytest.raises(InputError, match="there is no checkpoint"):
        load_model(Path("nowhere.safetensors"))
    with pytest.raises(InputError, match="by its name or path, not by a Flatten"):
        load_model(torch.nn.Flatten())


def test_names_that_nearly_mean_a_model_are_answered_with_the_name(tmp_path):
    (tmp_path / "run" / "mine").mkdir(parents=True)
    for name in ("mine", "other@1.5"):
        (tmp_path / "run" / f"{name}.safetensors").touch()
        for load_ in (load, card_of):
            with pytest.raises(InputError, match=rf" {tmp_path}/run/{name}\.safetensors"):
                load_(str(tmp_path / "run" / name))
    with pytest.raises(InputError, match=r"did you mean python:\./my_file\.py:make_model"):
        load("./my_file.py:make_model")


def test_unknown_names_are_answered_with_a_suggestion():
    with pytest.raises(InputError, match="unknown model 'basline'; did you mean baseline"):
        load("basline")


def test_every_shipped_checkpoint_loads_and_its_card_is_full(images):
    cards = shipped()
    assert "baseline" in cards
    for name, card in cards.items():
        model = load(name)
        assert model.module(images).shape == (12, len(card.classes))
        assert {"title", "sha256", "n_train", "n_validation"} <= set(card.data)
        assert card.accuracy and all({"data", "n", "correct", "accuracy"} == set(entry) for entry in card.accuracy)


def test_shipped_checkpoints_are_the_default_models_the_baseline_first(monkeypatch, tmp_path):
    for name in ("zebra", "baseline", "aardvark"):
        for suffix in (".json", ".safetensors"):
            shutil.copy(CHECKPOINTS / f"baseline{suffix}", tmp_path / f"{name}{suffix}")
    monkeypatch.setattr("framebench.models.registry.CHECKPOINTS", tmp_path)
    assert list(shipped()) == default_models() == ["baseline", "aardvark", "zebra"]
    assert load("zebra").digest == load("baseline").digest
    with pytest.raises(InputError, match="did you mean aardvark"):
        load("ardvark")


def test_a_source_is_one_object_and_one_line(monkeypatch, images, capsys):
    def toy(name):
        return Found(f"toy-{name}", torch.nn.Flatten().eval(), b"version 1")

    monkeypatch.setitem(SOURCES, "toy", Source(toy, "SIZE", "a toy"))
    model = load("toy:small")
    assert model.name == "toy-small" and model.module(images).shape == (12, 3072)
    assert main(["list"]) == 0 and "toy:SIZE: a toy" in capsys.readouterr().out
    with pytest.raises(InputError, match="not a checkpoint"):
        card_of("toy:small")


@pytest.mark.parametrize(("name", "message"), [
    ("robustbnch:Standard", "unknown source of models 'robustbnch'; did you mean robustbench"),
    ("weights.pt", "name its architecture too, as state:ARCH:weights.pt"),
])
def test_names_that_nearly_say_where_a_model_is_from(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(InputError, match=message):
        load(name)


@pytest.mark.parametrize("source", SOURCES)
def test_others_models_have_no_card(source):
    with pytest.raises(InputError, match=f"{source}:any is not a checkpoint"):
        card_of(f"{source}:any")


def test_the_list_shows_all_sources_and_imports_no_zoo():
    code = ("import sys; from bench.run import main; code = main(['list']); "
            "sys.exit(code or sum(name in sys.modules for name in ('robustbench', 'timm', 'gdown')))")
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for source in SOURCES:
        assert f"\n  {source}:" in listed


def test_the_list_of_a_zoo(capsys):
    assert main(["list", "torchvision"]) == 0
    assert "torchvision:resnet18" in capsys.readouterr().out.splitlines()


def test_a_model_without_weights_says_what_it_is_and_leaves_the_other_whole(model_file, images):
    model = load("baseline")
    logits = model.module(images)
    known = without_weights(model)
    assert {tensor.device.type for tensor in known.module.state_dict().values()} == {"meta"}
    assert type(known.module) is type(model.module) and list(known.module.state_dict()) == list(
        model.module.state_dict())
    assert (known.digest, known.card, known.classes) == (model.digest, model.card, model.classes)
    assert torch.equal(model.module(images), logits)
    model.module.lock = threading.Lock()  # can't be copied
    assert without_weights(model) is model


def test_the_names_of_logits_may_be_an_array():
    model = torch.nn.Flatten()
    model.classes = np.array(["cat", "dog"])
    assert wrap(model, "m").classes == ("cat", "dog")
    model.classes = np.array([1, 2])
    assert wrap(model, "m").classes is None
