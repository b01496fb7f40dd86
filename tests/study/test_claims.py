from __future__ import annotations

import pytest

from study import claims
from study.endpoints import BUDGETS, ENDPOINTS


def test_effects_are_differences_of_the_studys_tables():
    found = claims.effects("frame")
    assert found["asr-1000"] == pytest.approx(86.81 - 93.75) and found["clean"] == pytest.approx(0.64)
    assert found["cifar10-c"] == pytest.approx(1.88)
    assert set(found) <= {endpoint.key for endpoint in ENDPOINTS}
    assert tuple(claims.claims()["success"]["iterations"]) == BUDGETS


def test_area_is_read_off_the_table_by_trapezoids():
    """From 1 to 10 to 1000 iterations (with 50 and 100 between): decades of 1, 0.699, 0.301 and 1."""
    def area(clean, rates):
        robust = [clean * (1 - rate / 100) for rate in rates]
        widths = [1, 0.69897, 0.30103, 1]
        return sum(width * (a + b) / 2 for width, a, b in zip(widths, robust, robust[1:], strict=False)) / 3
    expected = area(95.17, [39.56, 49.45, 80.20, 84.61, 86.81]) - area(94.53, [52.08, 59.37, 84.38, 92.71, 93.75])
    assert claims.effects("frame")["area"] == pytest.approx(expected, abs=1e-3)


def test_the_studys_last_column_is_within_chance():
    assert claims.chance_of_reading() == pytest.approx(0.14, abs=0.005)
