from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from framebench.errors import InputError
from framebench.models import blackbox
from framebench.models.blackbox import BlackBoxModel, black_box
from framebench.models.predictor import CHUNK, Predictor
from framebench.models.registry import load, wrap


@pytest.fixture
def clock(monkeypatch):
    """Time that only sleeping passes; returns the sleeps."""
    class Clock:
        now, sleeps = 100.0, []

    time = Clock()
    time.sleeps = []

    def sleep(seconds):
        if seconds > 0:
            time.sleeps.append(round(seconds, 6))
        time.now += seconds

    monkeypatch.setattr(blackbox.time, "sleep", sleep)
    monkeypatch.setattr(blackbox.time, "monotonic", lambda: time.now)
    return time


def scores(images):
    """Mean of every colour: [n, 3], from images [n, H, W, 3]."""
    assert images.dtype == np.float32 and images.shape[1:] == (32, 32, 3)
    return images.mean((1, 2))


def test_scores_are_logits(images):
    torch.testing.assert_close(BlackBoxModel(scores)(images), images.mean((2, 3)))


def test_the_predictor_takes_it_and_pays_a_lone_image_once(images):
    model = BlackBoxModel(scores)
    predictor = Predictor(model, images)
    assert predictor.kind == "eager" and model.calls == 0, "tracing must not call a service"
    seen = []
    model._function = lambda batch: seen.append(len(batch)) or scores(batch)
    torch.testing.assert_close(predictor(images[:1]), images[:1].mean((2, 3)))
    assert seen == [1]


@pytest.mark.parametrize("answer", [[-5.0, 3.0, -2.0], [0.2, 0.9, 1.4]])
def test_logits_are_no_probabilities(images, answer):
    box = BlackBoxModel(lambda batch: np.tile(answer, (len(batch), 1)), answers="probabilities")
    with pytest.raises(InputError, match="logits"):
        box(images)


def test_probabilities_become_logits_of_the_same_model(images):
    def probabilities(batch):
        return np.eye(3, dtype=np.float32)[[0] * len(batch)]

    logits = BlackBoxModel(probabilities, answers="probabilities")(images)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits.softmax(1), torch.eye(3)[[0] * 12])


def test_labels_become_one_hot(images):
    model = BlackBoxModel(lambda batch: scores(batch).argmax(1), answers="labels", classes=5)
    assert model.labels_only and not BlackBoxModel(scores).labels_only
    assert torch.equal(model(images).argmax(1), images.mean((2, 3)).argmax(1))
    assert model(images).shape == (12, 5) and set(model(images).flatten().tolist()) == {0.0, 1.0}


def test_calls_keep_to_the_rate(images, clock):
    model = BlackBoxModel(scores, rate=4)
    for _ in range(3):
        model(images)
    assert clock.sleeps == [0.25, 0.25]


def test_retries_and_threads_keep_to_the_rate_too(images, clock):
    starts = []

    def slow_and_flaky(batch):
        starts.append(clock.now)
        clock.now += 0.1  # the answer takes a while
        if len(starts) % 3 == 0:
            raise ConnectionError("busy")
        return scores(batch)

    predictor = Predictor(BlackBoxModel(slow_and_flaky, rate=4, backoff=0.01), images, threads=2)
    for _ in range(4):
        torch.testing.assert_close(predictor(images), images.mean((2, 3)))
    assert len(starts) > 8 and np.diff(starts).tolist() == pytest.approx([0.25] * (len(starts) - 1))


def test_a_failure_is_tried_again_with_patience(images, clock):
    failures = iter([True, True, False])

    def flaky(batch):
        if next(failures):
            raise ConnectionError("busy")
        return scores(batch)

    model = BlackBoxModel(flaky, backoff=0.5)
    torch.testing.assert_close(model(images), images.mean((2, 3)))
    assert clock.sleeps == [0.5, 1.0] and model.calls == 3


def test_another_attempt_gets_the_same_images(images, clock):
    def careless(batch):
        batch -= 0.5
        if not clock.sleeps:
            raise ConnectionError("busy")
        return scores(batch)

    before = images.clone()
    torch.testing.assert_close(BlackBoxModel(careless)(images), before.mean((2, 3)) - 0.5)
    assert torch.equal(images, before)


def test_it_gives_up_with_one_line(images, clock):
    def down(batch):
        raise ConnectionError("no route")

    model = BlackBoxModel(down, retries=2)
    with pytest.raises(InputError, match=r"failed 3 times in a row \(ConnectionError: no route\); finished rows"
                       r".*\[n, H, W, C\]"):
        model(images)
    assert clock.sleeps == [1.0, 2.0]


@pytest.mark.parametrize("setting", [{"retries": -1}, {"backoff": -0.1}, {"classes": 0}])
def test_settings_that_can_not_be(setting):
    with pytest.raises(InputError, match="can't have"):
        BlackBoxModel(scores, **setting)


def test_settings_may_be_attributes_of_the_function():
    def classify(batch):
        return np.zeros(len(batch), dtype=np.int64)

    classify.answers, classify.classes = "labels", 10
    assert black_box(classify)(torch.zeros(2, 3, 4, 4)).shape == (2, 10)


@pytest.mark.parametrize(("name", "meant"), [("clases", "classes"), ("answer", "answers"), ("Rate", "rate"),
                                             ("back_off", "backoff")])
def test_a_misspelt_setting_is_told(name, meant):
    def classify(batch):
        return scores(batch)

    setattr(classify, name, 10)
    with pytest.raises(InputError, match=f"an attribute '{name}', which is not a setting; did you mean {meant}?"):
        black_box(classify)


def test_other_attributes_are_the_users():
    def classify(batch):
        return scores(batch)

    classify.__wrapped__, classify.class_names, classify.calls, classify.state = scores, ["a"], 0, None
    assert not black_box(classify).labels_only
    assert not black_box(np.negative).labels_only, "which has no attributes of its own"


@pytest.mark.parametrize("leave", [SystemExit(3), GeneratorExit(), KeyboardInterrupt()], ids=repr)
def test_a_function_that_ends_python(images, clock, leave):
    def leaving(batch):
        raise leave

    caught = KeyboardInterrupt if isinstance(leave, KeyboardInterrupt) else InputError
    message = None if caught is KeyboardInterrupt else type(leave).__name__
    with pytest.raises(caught, match=message):
        BlackBoxModel(leaving)(images)


def digest(function, **settings):
    return wrap(BlackBoxModel(function, **settings), "a").digest


def test_two_functions_are_two_models():
    def scaled(factor):
        return lambda batch: factor * scores(batch)

    different = [digest(scores), digest(np.negative), digest(lambda batch: scores(batch)),
                 digest(lambda batch: -scores(batch)), digest(scaled(2)), digest(scaled(3)),
                 digest(scores, answers="probabilities"), digest(scores, answers="labels", classes=2),
                 digest(scores, answers="labels", classes=3)]
    assert len(set(different)) == len(different)
    assert digest(scaled(2)) == digest(scaled(2)), "the same function, made again"
    assert digest(scores) == digest(scores, rate=5, retries=0, backoff=0), "these change no answer"


def test_a_call_changes_no_identity(images):
    model = BlackBoxModel(scores)
    before = wrap(model, "a").digest
    model(images)
    assert wrap(model, "a").digest == before


FILE = """
from helper import factor
def classify(batch): return {sign}factor * batch.mean((1, 2))
classify.answers = {answers!r}
"""


def test_an_edited_file_is_another_model(tmp_path):
    def digest(sign="+", answers="logits", factor=2):
        (tmp_path / "helper.py").write_text(f"factor = {factor}\n")
        sys.modules.pop("helper", None)  # as in a new process
        (tmp_path / "service.py").write_text(FILE.format(sign=sign, answers=answers))
        return load(f"blackbox:{tmp_path / 'service.py'}:classify").digest

    different = [digest(), digest(sign="-"), digest(answers="probabilities"), digest(factor=3)]
    assert len(set(different)) == 4 and digest() == different[0]


@pytest.mark.parametrize(("threads", "batches"), [(1, (1, 2, 3, CHUNK + 1)), (2, (1, 3, 2 * CHUNK + 1))])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_image_that_is_asked_about_is_sent_once(threads, batches, wrapped):
    """Equal images too: an attack counts each of them as a query."""
    sent = []
    box = BlackBoxModel(lambda batch: sent.append(len(batch)) or scores(batch))
    image = torch.rand(1, 3, 32, 32)
    predictor = Predictor(nn.Sequential(box, nn.Identity()) if wrapped else box, image, threads=threads)
    assert sent == []
    for n in batches:
        sent.clear()
        torch.testing.assert_close(predictor(image.repeat(n, 1, 1, 1)), image.mean((2, 3)).repeat(n, 1))
        assert sum(sent) == n


@pytest.mark.parametrize(("settings", "message"), [
    ({"answers": "words"}, "answers with logits"), ({"answers": "labels"}, "needs the number of classes"),
    ({"rate": 0}, "must be above 0"), ({"rate": "fast"}, "rate.* number"), ({"classes": "ten"}, "classes.* whole"),
    ({"retries": 1.5}, "retries.* whole"), ({"retries": None}, "retries.* whole"),
    ({"backoff": "1"}, "backoff.* number"),
    ({"backoff": float("inf")}, "infinite")])
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        BlackBoxModel(scores, **settings)


@pytest.mark.parametrize(("answer", "settings", "message"), [
    (np.zeros(12), {}, r"must return scores \[12, classes\], not \[12\]"),
    (np.zeros((11, 3)), {}, r"not \[11, 3\]"),
    (np.zeros((12, 3)), {"answers": "labels", "classes": 3}, "must return 12 integer labels"),
    (np.full(12, 3), {"answers": "labels", "classes": 3}, "label outside 0 to 2")])
def test_bad_answers_are_refused(images, answer, settings, message):
    with pytest.raises(InputError, match=message):
        BlackBoxModel(lambda batch: answer, **settings)(images)
