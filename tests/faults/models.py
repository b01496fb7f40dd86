"""Checkpoints, their cards, and state dicts."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from framebench.classes import CIFAR10
from framebench.models.architectures import build
from framebench.models.checkpoint import Card, load_checkpoint, save
from framebench.models.registry import load
from tests.faults.mutate import Target, changed, damaged, dumped, tensors_damaged

CARD = Card("m", "speednet", 4, CIFAR10, {"title": "t", "sha256": "0" * 64, "n_train": 5, "n_validation": 5},
             {"seed": 0, "epochs": 1}, [{"data": "d", "n": 10, "correct": 5, "accuracy": 0.5}], {"torch": "2"})


class Bomb:
    """What must never be run."""

    def __reduce__(self) -> Any:
        return exec, ("raise RuntimeError('it was run')",)


def checkpoint(prepared: Path) -> Target:
    """Weights beside their card, whose checksum is right, emptied, or that of the damaged weights."""
    weights = save(build("speednet", width=4), CARD, prepared)
    good, card = weights.read_bytes(), json.loads(weights.with_suffix(".json").read_text())

    def run(own: Path, data: Any) -> None:
        content, checked = tensors_damaged(data, good), data.draw(st.booleans())
        (own / "m.safetensors").write_bytes(content)
        (own / "m.json").write_text(json.dumps(card if checked else {**card, "sha256": ""}))
        model, _ = load_checkpoint(own / "m.safetensors")
        assert content == good or not checked
        model(torch.zeros(2, 3, 32, 32))
    return run


def card(prepared: Path) -> Target:
    """Cards: fields of any value, and damaged text."""
    weights = save(build("speednet", width=4), CARD, prepared)
    good = weights.with_suffix(".json").read_bytes()

    def run(own: Path, data: Any) -> None:
        shutil.copy(weights, own)
        text = dumped(changed(data, json.loads(good))) if data.draw(st.booleans()) else damaged(data, good)
        (own / "m.json").write_bytes(text)
        load(str(own / "m.safetensors"))
    return run


def state_dict(prepared: Path) -> Target:
    """State dicts of torch.save and of safetensors, some of them with code in them, for ``state:``."""
    prepared.mkdir()
    tensors = build("speednet", width=4).state_dict()
    kinds = []
    for new in (True, False):
        content = io.BytesIO()
        torch.save({"state_dict": tensors}, content, _use_new_zipfile_serialization=new)
        kinds.append(("pt", content.getvalue()))
    kinds.append(("pt", pickle.dumps({"state_dict": tensors, "bomb": Bomb()})))
    kinds.append(("safetensors", save(build("speednet", width=4), CARD, prepared).read_bytes()))

    def run(own: Path, data: Any) -> None:
        suffix, good = data.draw(st.sampled_from(kinds))
        path = own / f"m.{suffix}"
        path.write_bytes(tensors_damaged(data, good) if suffix == "safetensors" else damaged(data, good))
        load(f"state:speednet,width=4:{path}").module(torch.zeros(2, 3, 32, 32))
    return run
