"""What an installed wheel brings, and that it works beside a user's own files of the same names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="70.1")  # earlier ones need the package wheel to build one

ROOT = Path(__file__).parents[1]
FOLDERS = ("attacks", "domains", "models", "reports")
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "bench", "framebench", *FOLDERS)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """The folder of a wheel and of a source distribution, built from a copy of this tree."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    code = f"from setuptools import build_meta as b; b.build_wheel({str(out)!r}); b.build_sdist({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory) -> Path:
    """The folder into which the wheel is installed; it is all in one place, so that unpacking it is enough."""
    target = tmp_path_factory.mktemp("site")
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def python(installed, folder, *arguments):
    """Run Python in a folder, with the installed wheel before whatever else provides these packages."""
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(installed)})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_claims_no_name_but_two_and_is_small(distributions, installed):
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"bench", "framebench"}
    assert next(distributions.glob("*.whl")).stat().st_size < 20e6


def test_the_wheel_has_all_modules_and_data(installed):
    for below, folder in (("bench", "bench"), *((f"framebench/{name}", name) for name in FOLDERS)):
        want = {path.relative_to(ROOT / folder) for kind in ("*.py", "*.toml", "*.safetensors", "checkpoints/*.json")
                for path in (ROOT / folder).rglob(kind)}
        assert want and want == {path for path in want if (installed / below / path).is_file()}
    assert (installed / "framebench" / "imagenet_classes.txt").is_file()


def test_the_source_distribution_makes_the_same_wheel(distributions, installed, tmp_path):
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        # Python has filters from 3.10.12 and 3.11.4 on, and warns without one from 3.12 on.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (folder,) = tmp_path.iterdir()
    code = f"from setuptools import build_meta as b; b.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        assert set(archive.namelist()) == {
            path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()
            and path.suffix != ".pyc"}


def test_the_installed_package_lists_what_there_is(installed, tmp_path):
    where = python(installed, tmp_path, "-c", "import framebench.models, bench; print(framebench.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    listed = python(installed, tmp_path, "-m", "bench.run", "list")
    assert "baseline" in listed and "paper" in listed


MINE = """
from models import Net

def make():
    return Net()
"""
NET = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]
"""


def test_a_users_folder_may_have_files_of_the_same_names_as_our_folders(installed, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "models.py").write_text(NET)
    (tmp_path / "attacks.py").write_text("raise RuntimeError('the attacks of the user are not ours')\n")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").write_text("raise RuntimeError('nor are their reports')\n")
    python(installed, tmp_path, "-c", "import framebench, models; models.Net; framebench.__version__")
    python(installed, tmp_path, "-m", "bench.run", "attack", "--models", "python:mine.py:make", "--domain", "samples",
           "-n", "5", "--budgets", "1", "--out", "out")
    assert "mine:make" in (tmp_path / "out" / "attack.csv").read_text()
