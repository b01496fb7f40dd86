from __future__ import annotations

import numpy as np
import pytest

from bench.rows.pictures import Picture, Pictures
from framebench.reports.pictures import attacked_pictures
from tests.bench.analysis.making import kept, one, run_of

CLASSES = [f"c{i}" for i in range(12)]


@pytest.fixture
def shown(tmp_path):
    """Pictures of 24 images in the order of their classes, two per class; the `correct` ones are attacked."""
    def make(correct):
        ids, labels = np.arange(24), np.arange(24) // 2
        clean = np.where(np.isin(ids, correct), labels, (labels + 1) % 12)
        rows = kept(run_of(tmp_path, np.where(clean == labels, -1, 0), columns={
            "label": labels, "goal": labels, "clean_prediction": clean, "prediction": clean,
            "queries": np.where(clean == labels, 11, 1)}, facts={"classes": tuple(CLASSES)}))
        pictures = Pictures(rows.folder)
        for example in ids:
            pictures.add(int(example), Picture(np.zeros((3, 4, 4)), np.ones((3, 4, 4))))
        pictures.flush()
        return [(title.split(":")[0], caption.split("\n")[1:])
                for title, _, _, caption in attacked_pictures(one(rows))]
    return make


def test_images_that_are_attacked_are_shown_first(shown):
    found = shown([5, 9, 22])
    assert [example for example, _ in found] == ["5", "9", "22", "0", "2", "4", "6", "8"]
    assert found[2][1] == ["not broken", "11 queries"] and found[3][1] == ["misclassified from the start", "1 query"]


def test_the_classes_take_turns(shown):
    assert [example for example, _ in shown(range(10))] == ["0", "2", "4", "6", "8", "1", "3", "5"]
    assert [example for example, _ in shown(range(24))] == [str(2 * i) for i in range(8)]
