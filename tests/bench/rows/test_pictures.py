from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.reporting import _pictures
from bench.rows.evaluation import Evaluation
from bench.rows.store import Pictures, Store


@pytest.fixture
def stored(tmp_path):
    """Rows of 24 images in the order of their classes, two a class; those in `right` are right before the attack."""
    def make(right):
        evaluation = Evaluation("m", "0", "d", "1", "noise", {"schedule": 10}, 0)
        facts = {"classes": [f"c{i}" for i in range(12)], "title": "t", "budgets": [10]}
        rows = Store(tmp_path).open(evaluation, facts)
        ids, labels = np.arange(24), np.arange(24) // 2
        clean = np.where(np.isin(ids, right), labels, (labels + 1) % 12)
        rows.add({"example": ids, "label": labels, "goal": labels, "clean_prediction": clean, "prediction": clean,
                  "success_iteration": np.where(clean == labels, -1, 0), "queries": np.where(clean == labels, 11, 1),
                  "l2": np.zeros(24), "linf": np.zeros(24), "margin": np.ones(24), "confidence": np.ones(24),
                  "steps": [b""] * 24})
        kept = Pictures(rows)
        for example in ids:
            kept.add(int(example), np.zeros((3, 4, 4)), np.ones((3, 4, 4)))
        rows.flush()
        kept.flush()
        return [(title.split(":")[0], caption.split("\n")[1:]) for title, _, _, caption in _pictures(rows)]
    return make


def test_images_that_are_attacked_are_shown_first(stored):
    shown = stored([5, 9, 22])
    assert [example for example, _ in shown] == ["5", "9", "22", "0", "2", "4", "6", "8"]
    assert shown[2][1] == ["not broken", "11 queries"] and shown[3][1] == ["wrong from the start", "1 query"]


def test_the_classes_take_turns(stored):
    assert [example for example, _ in stored(range(10))] == ["0", "2", "4", "6", "8", "1", "3", "5"]
    assert [example for example, _ in stored(range(24))] == [str(2 * i) for i in range(8)]
