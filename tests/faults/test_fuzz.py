"""A little of `tests.faults.fuzz`, the same inputs every time."""

from __future__ import annotations

import contextlib
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framebench.errors import InputError
from tests.faults.fuzz import TARGETS


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of pickles that are damaged
@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"arrays", "commands"}))  # which take a while
def test_what_is_damaged_works_or_is_refused(tmp_path, monkeypatch, name):
    target, own = TARGETS[name](tmp_path / "prepared"), tmp_path / "own"

    @settings(max_examples=20, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def once(drawn):
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        with contextlib.suppress(InputError):
            target(own, drawn)

    once()
