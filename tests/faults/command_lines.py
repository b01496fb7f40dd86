"""Command lines at random, run in this process."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from bench.cli.main import COMMANDS, main
from bench.options.common import options_of
from framebench.errors import InputError
from framebench.models.architectures import build
from framebench.models.checkpoint import save
from tests.conftest import write_class_folders
from tests.faults.models import CARD
from tests.faults.mutate import Target
from tests.faults.results import write_results

#: What a command needs so that it is done within a second, unless a drawn option says otherwise.
_QUICK = {
    "attack": ["--models", "python:{here}/models.py:linear", "--domain", "cifar10", "-n", "4", "--budgets", "2"],
    "shift": ["--models", "python:{here}/models.py:linear", "--domains", "samples", "-n", "4"],
    "train": ["--arch", "speednet", "--width", "2", "--epochs", "1", "--batch", "20", "--validation", "10"],
    "prune": ["baseline", "--share", "0.1", "--criterion", "magnitude"],
    "frames": ["--models", "python:{here}/models.py:conv", "--size", "8", "--images", "1"],
    "report": ["{own}/out"], "fetch": [], "list": []}
#: Of these too much may follow: processes, downloads, hours.
_NEVER = {"--compile", "--url", "--scheduler", "--workers", "--log-every"}
_VALUES = [
    "0", "1", "2", "3", "-1", "0.5", "1e308", "1e-320", "nan", "inf", "8/255", "1/0", "1/2", "2/1", "x", "", " ",
    "\x1b[31m", "a\0b", "x" * 300, "~nouser/x", "9" * 30, "true", "none", "md", "tex", "html", "column", "pixel",
    "dct", "strided", "low-frequency", "best-of-two", "probability", "cumulative", "normalised-clip", "demo", "cpu",
    "meta", "cuda:99", "simba", "noise", "square", "apgd", "foolbox:LinfPGD", "foolbox:X",
    "python:{here}/models.py:linear", "python:{here}/models.py:text", "python:{here}/models.py:",
    "python:{here}:linear", "blackbox:{here}/models.py:linear", "{here}/m.safetensors", "{here}/m.json", "{here}",
    "{here}/out", "{own}/out", "{own}/new", "{here}/models.py/x", "folder:{here}/photos",
    "folder-c:{here}/photos", "folder:", "samples", "cifar10", "cifar10-c", "cifar10-c/fog/3", "imagenet", "baseline",
    "frame", "baseline@1", "state:speednet:{here}/m.safetensors", "torchvision:resnet18/random", "steps=3",
    "lower=0.5", "relative=true", "a=", "=", "fog", "speednet", "resnet20", "taylor", "magnitude", "weights",
    "filters", "bicubic", "box", "circular", "own", "zeros", "svhn", "stl10", "1 2", "ocnn", "mhe",
    "delta-orthogonal", "fp32", "bf16", "--", "-", "--help"]


def commands(prepared: Path) -> Target:
    """Command lines, on a few images and models that take no time."""
    write_class_folders(prepared, 6, "train")
    write_class_folders(prepared, 2, "test")
    write_results(prepared / "out")
    save(build("speednet", width=4), CARD, prepared)
    (prepared / "models.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def linear():\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))\n"
        "def conv():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))\n"
        "def text(): return 'a model'\n")
    shutil.copytree(prepared / "cifar10" / "test", prepared / "photos")

    def run(own: Path, data: Any) -> None:
        shutil.copytree(prepared / "out", own / "out")
        argv = _drawn(data)
        argv = [word.replace("{here}", str(prepared)).replace("{own}", str(own)) for word in argv]
        (own / "argv.txt").write_text(repr(argv))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(argv)
            except SystemExit as left:  # --help and --version
                code = left.code if isinstance(left.code, int) else 3
        (own / "said.txt").write_text(f"{out.getvalue()}\n--\n{err.getvalue()}", errors="backslashreplace")
        errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
        assert "Traceback" not in err.getvalue() and "\x1b" not in out.getvalue(), err.getvalue()
        assert (code, len(errors)) in ((0, 0), (2, 1)), (code, errors)
        if code:
            raise InputError(errors[0])
    return run


def _drawn(data: Any) -> list[str]:
    command = data.draw(st.sampled_from([*_QUICK, *_QUICK, "browse", "x"]))
    if command not in _QUICK:
        return [command, "--port", data.draw(st.sampled_from(["-1", "x", "99999999"]))]
    known = [how for how in options_of(COMMANDS[command].OPTIONS).values() if how.flag not in _NEVER]
    words = [command, *_QUICK[command], *data.draw(st.sampled_from([[], ["--data-root", "{here}"]])), "--threads", "1"]
    words = words[:-2] if command in ("report", "fetch", "list") else words
    if command not in ("report", "fetch", "list"):
        words += ["--out", "{own}/out"]
    for how in data.draw(st.lists(st.sampled_from(known), max_size=4)):
        values = [*_VALUES, *(how.choices if isinstance(how.choices, tuple) else [])]
        count = 1 if not how.many else data.draw(st.integers(0, 3))
        drawn = [data.draw(st.one_of(st.sampled_from(values), st.text(st.characters(blacklist_characters="/"),
                                                                      max_size=5))) for _ in range(count)]
        words += [*([] if how.positional else [how.flag]), *([] if how.kind.word == "true or false" else drawn)]
    return words
