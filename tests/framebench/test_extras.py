"""The core works without its extras, and says which of them is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from framebench.errors import InputError
from framebench.extras import require
from framebench.models import robustbench_zoo, zoo
from framebench.models.registry import load

WITHOUT = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("robustbench", "timm", "pyautoattack", "gdown", "huggingface_hub",
                                      "imagecorruptions"):
            raise ModuleNotFoundError(f"No module named '{name}'")

sys.meta_path.insert(0, Missing())

import bench, framebench

for package in (bench, framebench):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

from bench.run import main
from framebench.models import load_model

load_model("baseline")
sys.exit(main(["list"]) or main(["list", "torchvision"]))
"""


def test_the_core_is_imported_and_lists_what_there_is_without_the_extras():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "baseline" in done.stdout and "torchvision:resnet18" in done.stdout


def test_a_missing_module_is_told_with_the_line_that_installs_it():
    assert require("json.decoder", "zoo").JSONDecoder
    with pytest.raises(InputError, match=r"pip install 'framebench\[zoo\]'$") as raised:
        require("no_such_module", "zoo")
    assert "no_such_module" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("use", [
    lambda weights: load("robustbench:Standard"), lambda weights: load("timm:resnet18"),
    lambda weights: load("timm:hf-hub:someone/something"), lambda weights: load(f"state:timm/resnet18:{weights}"),
    lambda weights: robustbench_zoo.names(), lambda weights: zoo.timm_names()])
def test_what_needs_the_zoo_says_so(tmp_path, monkeypatch, use):
    for module in ("robustbench", "robustbench.utils", "timm", "timm.models", "gdown"):
        monkeypatch.setitem(sys.modules, module, None)  # Python then takes it for missing
    torch.save({"weight": torch.zeros(10, 3)}, tmp_path / "weights.pt")
    robustbench_zoo._import.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'framebench\[zoo\]'$"):
        use(tmp_path / "weights.pt")
