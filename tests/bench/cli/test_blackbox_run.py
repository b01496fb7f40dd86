"""`bench attack` on a function: exact accounts, failures, an outage, the rate and the limit of queries.

The function is a user's file. It keeps its accounts beside it: a line for each call, the images asked for and whether
it answered. Before an attack the command looks at the model once, on as many as 32 images: here the 20 samples.
"""

from __future__ import annotations

import pandas as pd
import pytest

from bench.rows.store import Store
from bench.run import main
from framebench.models import blackbox

PROBE = 20

SERVICE = '''
from pathlib import Path
import numpy as np
import torch

FOLDER = Path(__file__).parent
torch.manual_seed(20)  # gets 6 of the 20 samples right
WEIGHT = 40 * torch.nn.Linear(3072, 10).weight.detach().double()


def record(n, answered):
    with open(FOLDER / "calls.txt", "a") as calls:
        calls.write(f"{n} {int(answered)}\\n")


def calls():
    path = FOLDER / "calls.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def answer(images):
    record(len(images), True)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).flatten(1).double()
    return (x @ WEIGHT.T).numpy()


def scores(images):
    return answer(images)


def flaky(images):  # fails at two calls of five, once twice in a row
    if calls() % 5 in (1, 2):
        record(len(images), False)
        raise TimeoutError("no answer")
    return answer(images)


def mortal(images):  # fails from the call on that the file `until` tells
    if calls() >= int((FOLDER / "until").read_text()):
        record(len(images), False)
        raise ConnectionError("gone")
    return answer(images)


def labels(images):
    return answer(images).argmax(1)


for function in (scores, flaky, mortal, labels):
    function.backoff = 0
labels.answers, labels.classes = "labels", 10
scores.rate = 4
'''


@pytest.fixture
def service(tmp_path):
    path = tmp_path / "service.py"
    path.write_text(SERVICE)
    return path


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The black box's time, which sleeping alone passes; returns the moments at which calls start."""
    class Clock:
        def __init__(self):
            self.now, self.starts = 50.0, []

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds

    time, real = Clock(), blackbox.BlackBoxModel._call

    def call(self, images):
        function = self._function
        self._function = lambda batch: time.starts.append(time.now) or function(batch)
        try:
            return real(self, images)
        finally:
            self._function = function

    monkeypatch.setattr(blackbox, "time", time)
    monkeypatch.setattr(blackbox.BlackBoxModel, "_call", call)
    return time


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    """Leave the report out, which is slow and not what is tested."""
    monkeypatch.setattr("bench.running.evaluate.write_report", lambda out, settings: type("Results", (), {
        "attack": pd.DataFrame(columns=["model", "domain", "attack", "epsilon", "unit", "budget"]), "warnings": (),
        "answer": ()}))


def attack(service, function, out, *more):
    return main(["attack", "--models", f"blackbox:{service}:{function}", "--out", str(out), "--threads", "1",
                 "--domain", "samples", *more])


def rows(out):
    (stored,) = Store(out).all()
    return stored.frame()


def accounts(service):
    """Return the sizes of the calls that were answered and of those that failed, and open new accounts."""
    calls = [tuple(map(int, line.split())) for line in (service.parent / "calls.txt").read_text().splitlines()]
    (service.parent / "calls.txt").unlink()
    return [n for n, answered in calls if answered], [n for n, answered in calls if not answered]


BUDGETS = ["--budgets", "25"]


@pytest.mark.parametrize("more", [[*BUDGETS], [*BUDGETS, "--batch-size", "4"],
                                  ["--attack", "square", "--epsilon", "0.1", *BUDGETS]], ids=str)
def test_failures_change_neither_rows_nor_accounts(tmp_path, service, more):
    assert attack(service, "scores", tmp_path / "never", *more) == 0
    answered, failed = accounts(service)
    want = rows(tmp_path / "never")
    assert failed == [] and sum(answered) == PROBE + want["queries"].sum()
    assert attack(service, "flaky", tmp_path / "now_and_then", *more) == 0
    answered_again, failed = accounts(service)
    pd.testing.assert_frame_equal(rows(tmp_path / "now_and_then"), want)
    assert answered_again == answered and len(failed) > 10


def test_one_look_at_the_model_serves_all_its_evaluations(tmp_path, service):
    assert attack(service, "scores", tmp_path, *BUDGETS, "--epsilon", "0.1", "0.2", "--seeds", "0", "1") == 0
    answered, _ = accounts(service)
    stored = Store(tmp_path).all()
    assert len(stored) == 4
    assert sum(answered) == PROBE + sum(one.frame()["queries"].sum() for one in stored)


@pytest.mark.parametrize("more", [[*BUDGETS, "--batch-size", "4"],
                                  ["--attack", "square", "--epsilon", "0.1", *BUDGETS]], ids=str)
def test_an_outage_keeps_what_is_finished(tmp_path, service, more, capsys):
    assert attack(service, "scores", tmp_path / "whole", *more) == 0
    want = rows(tmp_path / "whole")
    calls = len(accounts(service)[0])
    (service.parent / "until").write_text(str(calls - 5))
    assert attack(service, "mortal", tmp_path / "cut", *more) == 2
    error = capsys.readouterr().err
    assert [line for line in error.replace("\r", "\n").splitlines() if "error" in line] == [
        "error: the black box failed 5 times in a row (ConnectionError: gone); finished rows are kept, and the same "
        "command resumes the run; the function gets float32 images [n, H, W, C]"]
    assert "Traceback" not in error
    kept = rows(tmp_path / "cut")
    assert 0 < len(kept) < 20
    _, failed = accounts(service)
    assert len(failed) == 5
    (service.parent / "until").write_text("1000000")
    assert attack(service, "mortal", tmp_path / "cut", *more) == 0
    pd.testing.assert_frame_equal(rows(tmp_path / "cut"), want)
    answered, _ = accounts(service)
    assert sum(answered) == PROBE + want["queries"].sum() - kept["queries"].sum(), "finished images are not paid twice"


@pytest.mark.parametrize(("function", "more"), [
    ("scores", []), ("scores", ["--attack", "square"]), ("labels", ["--attack", "foolbox:HopSkipJumpAttack"])])
def test_no_image_is_asked_about_beyond_the_limit(tmp_path, service, function, more):
    limited = ["--budgets", "60", "--max-queries", "9", "--epsilon", "0.01", *more]
    assert attack(service, function, tmp_path / "all", *limited) == 0
    answered, _ = accounts(service)
    found = rows(tmp_path / "all")
    assert sum(answered) - PROBE == found["queries"].sum()
    assert found["queries"].max() == 9
    for part in range(1, 21, 4):  # one image each
        assert attack(service, function, tmp_path / str(part), *limited, "--shard", f"{part}/20") == 0
        answered, _ = accounts(service)
        assert sum(answered) - PROBE == rows(tmp_path / str(part))["queries"].item() <= 9


def test_calls_of_a_run_keep_to_the_rate(tmp_path, service, clock):
    assert attack(service, "scores", tmp_path / "out", *BUDGETS, "--batch-size", "8") == 0
    answered, _ = accounts(service)
    waits = [later - sooner for sooner, later in zip(clock.starts, clock.starts[1:], strict=False)]
    assert len(clock.starts) == len(answered) > 20 and min(waits) >= 0.25
