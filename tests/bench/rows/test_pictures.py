"""Pictures on disk: they come back as they were, and damaged ones are left out."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from bench.rows.pictures import Picture, Pictures
from framebench.attacks.base import MarginPath
from framebench.files import seal, unseal


@pytest.fixture
def three(tmp_path):
    """Pictures with a path, without one, and of an unknown confidence, by example."""
    rng = np.random.default_rng(0)
    images = [rng.random((4, 5, 3), dtype=np.float32).transpose(2, 0, 1) for _ in range(6)]  # channels last in memory
    made = {7: Picture(*images[:2], 0.75, MarginPath([1, 4, 9], [2.5, 1.25, -0.5])), 3: Picture(*images[2:4], 0.5),
            11: Picture(*images[4:], path=MarginPath([1], [-3.0]))}
    pictures = Pictures(tmp_path)
    for example, picture in made.items():
        pictures.add(example, picture)
    pictures.flush()
    return made


def file_of(folder):
    (path,) = folder.glob("pictures-*")
    return path


def test_they_come_back_as_they_were_whatever_their_memory_looks_like(tmp_path, three):
    found = Pictures(tmp_path)
    assert found.examples == [3, 7, 11]
    for example, picture in three.items():
        own = found.get(example)
        np.testing.assert_array_equal(own.clean, picture.clean)
        np.testing.assert_array_equal(own.attacked, picture.attacked)
        assert own.path == picture.path
        np.testing.assert_equal(own.confidence, picture.confidence)


def test_they_are_joined_with_their_paths(tmp_path, three):
    more = Pictures(tmp_path / "other")
    more.add(5, Picture(three[3].clean, three[3].clean, 0.25, MarginPath([1, 2], [1.0, 0.0])))
    more.join(Pictures(tmp_path))
    more.flush()
    found = Pictures(tmp_path / "other")
    assert found.examples == [3, 5, 7, 11]
    assert found.get(5).path.queries == [1, 2] and found.get(7).path == three[7].path


@pytest.mark.parametrize("name", ["path_lengths", "path_queries", "path_margins", "clean_confidence", "attacked"])
def test_tensors_that_do_not_fit_are_left_out_and_said(tmp_path, three, caplog, name):
    path = file_of(tmp_path)
    kept = load(unseal(path))
    path.unlink()
    seal(tmp_path, "pictures", ".safetensors", save({**kept, name: kept[name][:-1]}))
    assert Pictures(tmp_path).examples == []
    assert "damaged" in caplog.text


@pytest.mark.parametrize("content", [b"broken", b""])
def test_damaged_pictures_are_left_out_and_said(tmp_path, caplog, content):
    path = tmp_path / "pictures-0123456789abcdef.safetensors"
    path.write_bytes(content)
    assert Pictures(tmp_path).examples == []
    assert path.name in caplog.text
