from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from framebench.errors import InputError
from framebench.models import load_model
from framebench.models.checkpoint import Card, load_checkpoint, save, stored
from framebench.models.registry import load
from tests.conftest import make_network


@pytest.fixture
def saved(tmp_path):
    model = make_network("resnet20", 4)
    card = Card("small", "resnet20", 4, tuple("abcdefghij"), {"title": "none"}, {"seed": 0}, [], {})
    return model, save(model, card, tmp_path / "kept")


def _edit_card(path, **entries):
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **entries}))


def _edit_tensors(path, edit):
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    _edit_card(path, sha256="")


def test_round_trip(saved, images):
    model, path = saved
    loaded, card = load_checkpoint(path)
    assert not loaded.training
    assert (card.name, card.arch, card.width, card.classes) == ("small", "resnet20", 4, tuple("abcdefghij"))
    with torch.inference_mode():
        assert torch.equal(loaded(images), model(images))
        assert torch.equal(load_model(str(path))(images), model(images))


def test_half_precision_is_smaller_and_near(saved, images, tmp_path):
    model, path = saved
    half = save(model, load_checkpoint(path)[1], tmp_path / "half", dtype=torch.float16)
    assert half.stat().st_size < 0.65 * path.stat().st_size
    with torch.inference_mode():
        torch.testing.assert_close(load_checkpoint(half)[0](images), model(images), rtol=0.02, atol=0.02)


def test_a_tensor_too_large_for_half_precision_keeps_its_own(saved, tmp_path):
    model, path = saved
    model.bn.running_var[0] = 1e6
    half = save(model, load_checkpoint(path)[1], tmp_path / "half", dtype=torch.float16)
    loaded, _ = load_checkpoint(half)
    assert torch.equal(loaded.bn.running_var, model.bn.running_var)
    kinds = {name: tensor.dtype for name, tensor in load_file(half).items()}
    assert kinds.pop("bn.running_var") == torch.float32
    assert {kind for name, kind in kinds.items() if "num_batches" not in name} == {torch.float16}
    tensors = stored(model, torch.float16)
    assert all(torch.equal(value, tensors[name].to(value.dtype)) for name, value in loaded.state_dict().items())


def test_the_digest_follows_the_weights_not_the_name(saved, tmp_path):
    model, path = saved
    digest = load(str(path)).digest
    _edit_card(path, name="renamed")
    assert load(str(path)).digest == digest
    _edit_tensors(path, lambda t: t["fc.bias"].add_(1e-3))
    assert load(str(path)).digest != digest


@pytest.mark.parametrize(("entries", "message"), [
    ({"arch": "resnet19"}, "unknown architecture 'resnet19'; did you mean"),
    ({"arch": "resnet18"}, "lacks the tensor 'blocks"),
    ({"width": 8}, "has the shape .* is the card's width right"),
    ({"width": 0}, "width must lie in 1 to 1024"),
    ({"width": 10**9}, "width must lie in 1 to 1024"),
    ({"arch": "resnet50", "width": 1024}, "lacks the tensor 'blocks"),  # which would take 20 GB
    ({"name": "a\n\x1b[31mb"}, r"can't be called 'a\\n\\x1b\[31mb'"),
    ({"name": ".."}, "can't be called '..'"),
    ({"accuracy": [{"x": 1}]}, "an accuracy must have accuracy, correct, data, n"),
    ({"accuracy": [{"data": "x", "n": 5, "correct": 4, "accuracy": "0.8"}]}, "their ratio, from 0 to 1"),
    ({"accuracy": [{"data": "x", "n": 5, "correct": 4, "accuracy": float("nan")}]}, "their ratio, from 0 to 1"),
    ({"accuracy": [{"data": "x", "n": -5, "correct": 4, "accuracy": 0.8}]}, "their ratio, from 0 to 1"),
    ({"accuracy": [{"data": "x", "n": 5, "correct": 4, "accuracy": 0.9}]}, "their ratio, from 0 to 1"),
    ({"recipe": {"seed": None}}, "'seed' must be an integer"),
    ({"recipe": {"seed": float("nan")}}, "'seed' must be an integer"),
    ({"data": {"n_validation": "5"}}, "'n_validation' must be an integer"),
    ({"width": "4"}, "'width' must be of type int"),
    ({"classes": ["a", "b"]}, "tensor 'fc\\.\\w+' has the shape"),
    ({"sha256": "00"}, "not the file that its card describes"),
    ({"surprise": 1}, "unknown entries surprise"),
])
def test_a_wrong_card_is_refused(saved, entries, message):
    _, path = saved
    _edit_card(path, **entries)
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(("edit", "message"), [
    (lambda t: t.pop("blocks.0.conv1.weight"), r"lacks the tensor 'blocks.0.conv1.weight' \(1 are missing\)"),
    (lambda t: t.update(more=torch.zeros(1)), "unknown tensor 'more'"),
    (lambda t: t["bn.weight"].fill_(float("nan")), "tensor 'bn.weight' has values that are not finite"),
    (lambda t: t["fc.weight"].fill_(float("inf")), "tensor 'fc.weight' has values that are not finite"),
    (lambda t: t.update({"fc.bias": torch.zeros(3)}), "tensor 'fc.bias' has the shape"),
    (lambda t: t.update({"fc.bias": torch.full((10,), 1e300, dtype=torch.float64)}), "'fc.bias' has values that are"),
    (lambda t: t.update({"fc.bias": torch.zeros(10, dtype=torch.int64)}), "'fc.bias' is of torch.int64, not of"),
])
def test_wrong_tensors_are_refused_by_name(saved, edit, message):
    _, path = saved
    _edit_tensors(path, edit)
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)


def test_a_card_nested_without_end_is_refused(saved):
    _, path = saved
    path.with_suffix(".json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="is not JSON"):
        load_checkpoint(path)


class _Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was run')",)


def test_damaged_and_pickled_files_are_refused_and_never_run(saved, tmp_path):
    _, path = saved
    whole = path.read_bytes()
    for content in (whole[:1000], whole[:-10], b"", pickle.dumps(_Bomb())):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a whole safetensors file"):
            load_checkpoint(path)
    pickled = tmp_path / "model.pt"
    pickled.write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(InputError, match="pickled checkpoints are not read"):
        load(str(pickled))


def test_missing_files_are_refused(saved, tmp_path):
    _, path = saved
    with pytest.raises(InputError, match="there is no checkpoint"):
        load(str(tmp_path / "none.safetensors"))
    path.with_suffix(".json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load_checkpoint(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="no readable card small.json"):
        load_checkpoint(path)
