from __future__ import annotations

import pytest
import torch

from bench.options.attack import AttackOptions
from bench.running.computing import Computing, computing
from framebench.errors import InputError


def test_how_is_computed_comes_from_the_options():
    assert computing(AttackOptions(device="cpu", threads=3, batch_size=7)) == Computing(torch.device("cpu"), 3, 7)
    assert computing(AttackOptions(device="cpu")).threads >= 1


@pytest.mark.parametrize("device", ["tpu9", "cuda:99", "meta:x", "meta"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(InputError, match="--device cpu"):
        computing(AttackOptions(device=device))
