"""Signs of life: who gives none for too long is told of, once."""

from __future__ import annotations

import time

import pytest
import torch

from bench.running.watch import Watch


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr("bench.running.watch._LOOK", 0.01)
    monkeypatch.setattr("bench.running.watch._LEAST", 0.05)


def hold(seconds):
    time.sleep(seconds)


@pytest.mark.parametrize("limit", [None, 0.2])
def test_a_silence_that_is_too_long_is_told_of_once_with_its_place(limit):
    said = []
    with Watch().over(limit, said.append):
        hold(1.5)
    (words,) = said
    assert "hold" in words and "test_watch.py" in words


def test_answers_are_signs_of_life_and_no_limit_is_none():
    said, watch = [], Watch()
    answer = watch.heard(lambda x: 2 * x)
    with watch.over(0.5, said.append):
        for _ in range(20):
            time.sleep(0.05)
            assert answer(torch.ones(1)).item() == 2
    with watch.over(float("inf"), said.append):
        time.sleep(0.3)
    time.sleep(0.6)  # nothing is computed: nobody is watched
    assert said == []


def test_who_has_been_silent_for_long_and_answered_may_be_so_again():
    said, watch = [], Watch()
    with watch.over(10, said.append):
        time.sleep(0.3)
        watch.alive()
    with watch.over(None, said.append):
        time.sleep(0.6)
    assert said == []
