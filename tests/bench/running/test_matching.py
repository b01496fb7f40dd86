from __future__ import annotations

import pytest

from bench.run import main
from bench.running.matching import match_clean
from framebench.classes import CIFAR10
from framebench.errors import InputError
from framebench.models.architectures import build
from framebench.models.checkpoint import HELD_OUT, Card, save


def _card(name, correct, n=100, sha="data"):
    return Card(name, "resnet20", 4, CIFAR10, {"sha256": sha}, {},
                [{"data": HELD_OUT, "n": n, "correct": correct, "accuracy": correct / n}], {})


def _run(tmp_path, name, accuracies, **options):
    folder = tmp_path / name
    for epoch, correct in accuracies.items():
        save(build("resnet20", width=4), _card(f"{name}@{epoch:g}", correct, **options), folder / "epochs")
    return str(folder)


def _model(tmp_path, name, correct, **options):
    return str(save(build("resnet20", width=4), _card(name, correct, **options), tmp_path))


def test_the_nearest_epoch_is_taken_and_the_later_of_two(tmp_path):
    run = _run(tmp_path, "r", {1: 50, 2: 70, 3: 86, 3.5: 90, 4: 94})
    (match,) = match_clean([run], _model(tmp_path, "m", 87))
    assert match.model == f"{run}@3" and match.reference is None
    assert "epoch 3, held-out accuracy 86.00% against 87.00%" in match.note and "(n = 100)" in match.note
    (tie,) = match_clean([run], _model(tmp_path, "m", 88))
    assert tie.model == f"{run}@3.5", "of equally near epochs the later one"


def test_a_run_that_never_gets_there_pulls_the_reference_down(tmp_path):
    weak, strong = _run(tmp_path, "weak", {1: 60, 2: 80}), _run(tmp_path, "strong", {1: 79, 2: 88, 3: 95})
    reference, match = match_clean([strong, weak], strong)
    assert reference.model == f"{strong}@3"
    assert match.model == f"{weak}@2" and match.reference == f"{strong}@1"
    assert "never reaches" in match.note and "matched down to it at epoch 1, 79.00%" in match.note
    even = _run(tmp_path, "even", {1: 79, 2: 81, 3: 95})
    (match,) = match_clean([weak], even)
    assert match.reference == f"{even}@2", "of equally near epochs the later one"
    (alone,) = match_clean([weak], _model(tmp_path, "m", 90))
    assert alone.reference is None and "never reaches" in alone.note


def test_other_models_are_left_as_they_are(tmp_path):
    other = _model(tmp_path, "other", 50)
    assert [m.model for m in match_clean(["baseline", other], other)] == ["baseline", other]


@pytest.mark.parametrize("options", [{"sha": "other"}, {"n": 50}])
def test_another_split_is_refused(tmp_path, options):
    with pytest.raises(InputError, match="same images held out"):
        match_clean([_run(tmp_path, "r", {1: 40})], _model(tmp_path, "m", 45, **options))


@pytest.mark.parametrize("damage", [lambda card: card.unlink(), lambda card: card.write_text(card.read_text()[:50])])
def test_an_epoch_with_a_damaged_card_is_an_error_and_not_left_out(tmp_path, damage):
    run = _run(tmp_path, "r", {1: 50, 2: 70, 3: 86})
    damage(tmp_path / "r" / "epochs" / "r@3.json")
    save(build("resnet20", width=4), _card("r@best", 99), tmp_path / "r" / "epochs")  # no epoch: not looked at
    with pytest.raises(InputError, match="r@3"):
        match_clean([run], _model(tmp_path, "m", 87))


def test_what_has_no_held_out_accuracy_or_epochs_is_refused(tmp_path, model_file):
    save(build("resnet20", width=4), Card("bare", "resnet20", 4, tuple("abcdefghij"), {}, {}, [], {}), tmp_path)
    with pytest.raises(InputError, match="has no accuracy on images held out"):
        match_clean(["baseline"], str(tmp_path / "bare.safetensors"))
    with pytest.raises(InputError, match="no card"):
        match_clean(["baseline"], f"python:{model_file}:linear")
    with pytest.raises(InputError, match="kept epochs"):
        match_clean([str(tmp_path)], "baseline")


def test_shift_takes_matched_epochs_and_says_which(tmp_path, capsys):
    run, model = _run(tmp_path, "r", {1: 50, 2: 70}), _model(tmp_path, "m", 69)
    out = tmp_path / "out"
    assert main(["shift", "--models", run, model, "--match-clean", model, "--corruptions", "fog", "--severities", "1",
                 "--out", str(out), "--threads", "1"]) == 0
    assert "epoch 2, held-out accuracy 70.00% against 69.00%" in capsys.readouterr().out
    page = (out / "report" / "index.html").read_text()
    assert "r@2" in page and "Matched clean accuracy" in page and "epoch 2, held-out accuracy 70.00%" in page
