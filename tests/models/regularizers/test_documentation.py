"""docs/regularizers.md says of every regularizer what is true of it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from framebench.models.regularizers import REGULARIZERS, Regularizer

DOCUMENT = (Path(__file__).parents[3] / "docs" / "regularizers.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in DOCUMENT.splitlines() if line[:3] == "| `"]
COMMON = {field.name for field in dataclasses.fields(Regularizer) if field.init}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_coefficients_and_intervals(name):
    (row,) = [row for row in ROWS if row[0] == f"`{name}`"]
    kind = REGULARIZERS[name]
    assert (float(row[2]), int(row[3])) == (kind.gamma, kind.every)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_options(name):
    own = {option for row in ROWS if len(row) == 4 and f"`{name}`" in row[1]
           for option in re.findall(r"`(\w+)`", row[0])}
    common = {row[0].strip("`") for row in ROWS if len(row) == 3}
    assert common == COMMON
    assert own == {field.name for field in dataclasses.fields(REGULARIZERS[name]) if field.init} - COMMON
