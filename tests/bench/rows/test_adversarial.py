from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save

from bench.rows.adversarial import Adversarial, folder_of, parts_of, read, take_adversarial
from bench.rows.store import Store
from framebench.errors import InputError
from framebench.files import seal
from tests.bench.rows.test_store import EVALUATION, FACTS, columns


def kept(out, examples, value=0.5, model="m"):
    rows = Store(out).open(dataclasses.replace(EVALUATION, model=model), FACTS)
    saved = Adversarial(rows)
    for example in examples:
        saved.add(np.array([example]), np.array([1]), torch.full((1, 3, 4, 4), value))
        saved.flush()
        rows.add(columns([example]))
    rows.finish()
    return rows


def test_parts_are_added_and_read_as_one(tmp_path):
    rows = kept(tmp_path, [7, 2])
    assert len(parts_of(folder_of(rows))) == 2
    saved = read(folder_of(rows))
    assert saved.ids.tolist() == [2, 7] and saved.images.shape == (2, 3, 4, 4) and saved.labels.tolist() == [1, 1]
    assert (saved.origin.model, saved.origin.attack, saved.origin.key) == ("m", "simba-dct", EVALUATION.key)


def test_rows_without_their_images_are_refused(tmp_path):
    rows = kept(tmp_path, [1])
    rows.add(columns([2]))
    with pytest.raises(InputError, match="--save-adversarial"):
        Adversarial(rows)


def test_joining_adds_what_is_missing_and_changes_nothing_else(tmp_path):
    kept(tmp_path / "a", [1, 2], 0.25)
    kept(tmp_path / "b", [2, 3], 0.75)
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    first.take(second)
    take_adversarial(first, second)
    saved = read(folder_of(Store(tmp_path / "a").all()[0]))
    assert saved.ids.tolist() == [1, 2, 3]
    assert saved.images[:, 0, 0, 0].tolist() == [0.25, 0.25, 0.75]


def test_joined_images_of_a_model_under_two_names_are_of_one_evaluation(tmp_path):
    kept(tmp_path / "a", [1], 0.25)
    kept(tmp_path / "b", [2], 0.75, model="other")
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    first.take(second)
    take_adversarial(first, second)
    saved = read(folder_of(Store(tmp_path / "a").all()[0]))
    assert saved.ids.tolist() == [1, 2] and saved.origin.model == "m"


@pytest.mark.parametrize("at", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_flipped_bit_is_found(tmp_path, at):
    (path,) = parts_of(folder_of(kept(tmp_path, [1])))
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        read(path.parent)


@pytest.mark.parametrize("tensors", [
    {"images": torch.zeros(2, 3, 4, 4), "ids": torch.tensor([0, -1]), "labels": torch.tensor([0, 1])},
    {"images": torch.full((1, 3, 4, 4), float("nan")), "ids": torch.tensor([0]), "labels": torch.tensor([0])},
    {"images": torch.full((1, 3, 4, 4), 2.0), "ids": torch.tensor([0]), "labels": torch.tensor([0])},
    {"images": torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "ids": torch.tensor([0]), "labels": torch.tensor([0])},
    {"images": torch.zeros(1, 3, 4, 4), "ids": torch.tensor([0]), "labels": torch.tensor([0.5])},
    {"images": torch.zeros(1, 3, 4), "ids": torch.tensor([0]), "labels": torch.tensor([0])},
    {"images": torch.zeros(2, 3, 4, 4), "ids": torch.tensor([0]), "labels": torch.tensor([0])},
    {"images": torch.zeros(2, 3, 4, 4), "ids": torch.tensor([3, 3]), "labels": torch.tensor([0, 0])},
    {"images": torch.zeros(0, 3, 4, 4), "ids": torch.tensor([]).long(), "labels": torch.tensor([]).long()},
    {"images": torch.zeros(1, 3, 4, 4), "ids": torch.tensor([0])}])
def test_what_can_not_be_attacked_images_is_refused(tmp_path, tensors):
    folder = folder_of(kept(tmp_path, [1]))
    good = parts_of(folder)[0].read_bytes()
    header = good[8 : 8 + int.from_bytes(good[:8], "little")]
    import json

    meta = json.loads(header)["__metadata__"]
    path = seal(folder, "images-00002", ".safetensors", save(tensors, metadata=meta))
    with pytest.raises(InputError, match=path.name):
        read(folder)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="--save-adversarial"):
        read(tmp_path)


def test_deeply_nested_facts_are_refused(tmp_path):
    folder = folder_of(kept(tmp_path, [1]))
    tensors = {"images": torch.zeros(1, 3, 4, 4), "ids": torch.tensor([0]), "labels": torch.tensor([0])}
    path = seal(folder, "images-00002", ".safetensors", save(tensors, metadata={"framebench": "[" * 200_000}))
    with pytest.raises(InputError, match=path.name):
        read(folder)
