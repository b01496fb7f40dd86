"""The choice of how many images a thread takes at once, by a clock that the tests turn."""

from __future__ import annotations

import functools
import json
import math

import pytest
import torch
from torch import nn

from bench.options.attack import AttackOptions
from bench.run import main
from bench.running import prepare, timing
from bench.running.computing import Computing, computing
from bench.running.timing import WORTH, Timing, choose
from framebench.domains import load_domain
from framebench.files import seal
from framebench.models.blackbox import BlackBoxModel
from framebench.models.predictor import CHUNK, Predictor
from framebench.models.registry import wrap
from tests.conftest import make_network

ONE, TWO = (Computing(torch.device("cpu"), threads, 256, timed=True) for threads in (1, 2))
PAYS_64 = {4: 3, 8: 2, 16: 1, 32: 0.9, 64: 0.8}


class Clock:
    """Goes on with every image that a predictor is asked about, by what one costs in chunks of that size."""

    def __init__(self, monkeypatch, costs):
        self.now, self.looks, self.costs, call = 0.0, 0, costs, Predictor.__call__

        def timed(predict, x):
            self.now += self.costs[predict.chunk] * len(x)
            return call(predict, x)

        monkeypatch.setattr(Predictor, "__call__", timed)

    def __call__(self):
        self.looks += 1
        return self.now


@pytest.fixture
def chosen(monkeypatch, images):
    """Return a function that lets a new predictor be timed, and returns it and how often the clock was looked at."""
    def run(model, costs, *, setup=ONE, passes=WORTH, form=Predictor):
        with monkeypatch.context() as patch:
            clock = Clock(patch, costs)
            predict = form(model, images, threads=setup.threads)
            choose(predict, wrap(model, "mine"), images, setup=setup, passes=passes, clock=clock)
        return predict.chunk, clock.looks
    return run


@pytest.mark.parametrize(("costs", "chunk", "gain"), [
    (PAYS_64, 64, 1 / 0.8),
    ({4: 3, 8: 2, 16: 1, 32: 0.9, 64: 1.8}, 32, 1 / 0.9),
    ({4: 3, 8: 2, 16: 1, 32: 0.99, 64: 0.1}, CHUNK, 1),  # 1% may be chance
    ({4: 0.6, 8: 0.5, 16: 1, 32: 1.2, 64: 2}, 8, 2),
    ({4: 0.25, 8: 0.5, 16: 1, 32: 1.2, 64: 2}, 4, 4)])
def test_the_fastest_is_chosen_once_and_kept(network, chosen, costs, chunk, gain):
    assert chosen(network, costs)[0] == chunk
    assert chosen(network, dict.fromkeys(costs, math.nan)) == (chunk, 0), "without a look at the clock"
    (known,) = timing.kept()
    assert (known.model, known.form, known.shape, known.threads) == ("mine", "fused", (3, 32, 32), 1)
    assert known.chunk == chunk
    assert known.gain == pytest.approx(gain, abs=1e-3)


def test_a_timing_is_of_an_architecture_a_form_a_size_of_images_and_a_number_of_threads(network, chosen, monkeypatch):
    assert chosen(network, PAYS_64)[0] == 64
    other_weights = make_network()
    nn.init.normal_(other_weights.fc.weight)
    assert chosen(other_weights, PAYS_64) == (64, 0)
    others = [(make_network(width=4), ONE, Predictor), (network, TWO, Predictor),
              (network, ONE, functools.partial(Predictor, kind="eager"))]
    for count, (model, setup, form) in enumerate(others, start=2):
        assert chosen(model, PAYS_64, setup=setup, form=form)[1] > 0
        assert len(list(timing.kept())) == count
    monkeypatch.setattr(timing, "processor", lambda: "another one")
    assert chosen(network, PAYS_64)[1] > 0


class _Rounds(nn.Module):
    """Rounds as libraries do that choose an algorithm by the number of images, or by where one lies in memory."""

    def __init__(self, rounding):
        super().__init__()
        self.rounding = rounding

    def forward(self, x):
        return x.mean((2, 3)) + 1e-6 * self.rounding(x)


class _Moody(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x.mean((2, 3)) + self.calls


@pytest.mark.parametrize(("model", "setup", "passes"), [
    (make_network(), Computing(torch.device("cpu"), 1, 256), WORTH),
    (make_network(), ONE, WORTH - 1),
    (_Moody(), ONE, WORTH),
    (BlackBoxModel(lambda images: images.mean((1, 2))), ONE, WORTH)],
    ids=["flag", "short run", "answers change", "paid for"])
def test_what_a_timing_can_not_help_or_would_disturb_is_left_alone(chosen, model, setup, passes):
    assert chosen(model.eval(), PAYS_64, setup=setup, passes=passes) == (CHUNK, 0)
    assert not list(timing.kept())


@pytest.mark.parametrize("rounding", [
    lambda x: len(x) > CHUNK, lambda x: len(x) > 40, lambda x: len(x) > 63,
    lambda x: torch.arange(len(x))[:, None] % 2, lambda x: torch.arange(len(x))[:, None] > CHUNK],
    ids=["17", "41", "64", "odd places", "late places"])
def test_a_size_that_changes_a_logit_is_not_taken_whatever_the_clock_or_the_cache_say(chosen, rounding):
    model = _Rounds(rounding).eval()
    assert chosen(model, PAYS_64)[0] == CHUNK
    (known,) = timing.kept()
    assert known.chunk == CHUNK
    _write({**vars(known), "chunk": 64})
    assert chosen(model, PAYS_64) == (CHUNK, 0)


def _write(values):
    """Replace what is kept."""
    for path in timing.folder().glob("*"):
        path.unlink()
    seal(timing.folder(), Timing(**values).key, ".json", json.dumps(values).encode())


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "folder", "chunk", "field", "type", "text"])
def test_a_damaged_timing_is_made_anew(chosen, network, harm):
    chosen(network, PAYS_64)
    (path,) = timing.folder().glob("*.json")
    (known,), content = timing.kept(), bytearray(path.read_bytes())
    if harm == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm in ("cut", "empty"):
        path.write_bytes(content[: len(content) // 2 if harm == "cut" else 0])
    elif harm == "folder":
        path.unlink()
        path.mkdir()
    elif harm == "text":
        seal(timing.folder(), known.key, ".json", b"[]")
        path.unlink()
    else:
        wrong = {"chunk": {"chunk": 10**9}, "field": {"more": 1}, "type": {"chunk": "64"}}[harm]
        path.unlink()
        seal(timing.folder(), known.key, ".json", json.dumps(vars(known) | wrong).encode())
    chunk, looks = chosen(network, PAYS_64)
    assert chunk == 64 and looks > 0
    if harm != "folder":
        assert chosen(network, PAYS_64) == (64, 0), "and kept again"


def test_without_a_cache_that_can_be_written_to_there_is_a_timing_each_time(chosen, network, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    assert chosen(network, PAYS_64)[0] == 64
    assert chosen(network, PAYS_64)[1] > 0


def test_threads_share_a_batch_so_that_many_take_fewer_images_at_once(chosen, network):
    assert chosen(network, PAYS_64, setup=Computing(torch.device("cpu"), 8, 256, timed=True))[0] == 32
    assert chosen(network, PAYS_64, setup=Computing(torch.device("cpu"), 100, 256, timed=True)) == (CHUNK, 0)


def test_a_batch_size_that_is_given_overrides_the_timing_and_threads_do_not():
    assert not computing(AttackOptions(device="cpu", batch_size=256)).timed
    assert computing(AttackOptions(device="cpu", threads=2)).timed


def test_a_worker_takes_what_was_chosen_where_the_logits_are_the_same(data_root, network):
    domain = load_domain("cifar10", data_root)
    for model, chunk in ((network, 64), (_Rounds(lambda x: len(x) > 40).eval(), CHUNK)):
        assert prepare.predictor(wrap(model, "mine"), domain, kind=None, setup=ONE, gradients=False,
                                 chunk=64).chunk == chunk


def rows(out):
    """Return the digests of all files of rows and pictures, which their names carry, by evaluation."""
    return {folder.name: sorted(path.stem.rpartition("-")[2] for path in folder.iterdir())
            for folder in (out / "examples").iterdir() if folder.is_dir()}


@pytest.mark.parametrize("command", [
    ["attack", "--budgets", "10"], ["attack", "--attack", "square", "--budgets", "10", "--epsilon", "0.05"],
    ["shift", "--corruptions", "fog", "--severities", "1", "5"]], ids=["simba", "square", "shift"])
def test_rows_are_the_same_whatever_was_chosen_and_the_timings_are_listed(tmp_path, data_root, command, monkeypatch,
                                                                        capsys):
    networks = tmp_path / "networks.py"
    networks.write_text("from tests.conftest import make_network\ndef small(): return make_network('speednet')\n")
    monkeypatch.setattr(timing, "WORTH", 1)
    found = {}
    for name, pays, more in (("large", 64, []), ("again", None, []), ("flag", None, ["--batch-size", "256"]),
                             ("small", 4, ["--threads", "2"])):
        with monkeypatch.context() as patch:
            costs = {size: abs(math.log2(size / pays)) + 1 if pays else math.nan for size in PAYS_64}
            patch.setattr(prepare, "choose", functools.partial(choose, clock=Clock(patch, costs)))
            assert main([*command, "--models", f"python:{networks}:small", "--data-root", str(data_root), "--out",
                         str(tmp_path / name), *([] if "--threads" in more else ["--threads", "1"]), *more]) == 0
        found[name] = rows(tmp_path / name)
        said = capsys.readouterr().out
        assert {"large": "64 images at once", "again": "64 images at once", "flag": "data:",
                "small": "4 images at once"}[name] in said
        assert ("at once" in said) == (name != "flag")
    assert found["large"] == found["again"] == found["flag"] == found["small"]
    assert main(["list", "--machine"]) == 0
    listed = capsys.readouterr().out
    assert "small" in listed and "64 images at once" in listed and "4 images at once" in listed
    assert str(timing.folder()) in listed and torch.__version__ in listed
    for path in timing.folder().iterdir():
        path.unlink()
    assert main(["list", "--machine"]) == 0 and "images at once" not in capsys.readouterr().out


def test_a_zoo_and_the_machine_are_not_listed_together(capsys):
    assert main(["list", "torchvision", "--machine"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
