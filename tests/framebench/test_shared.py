from __future__ import annotations

import numpy as np
import pytest

from framebench.errors import unknown
from framebench.files import atomic, digest
from framebench.seeding import generator


def test_draws_depend_on_the_key_alone():
    first = generator(0, "order", 7).permutation(100)
    generator(0, "order", 8).permutation(100)
    assert (generator(0, "order", 7).permutation(100) == first).all()
    for other in ((1, "order", 7), (0, "other", 7), (0, "order", 8), (0, "order", 7, 0)):
        assert (generator(*other).permutation(100) != first).any()
    assert (generator(np.int64(0), "order", np.int64(7)).permutation(100) == first).all()


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "file"
    with atomic(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("two")
        raise RuntimeError
    assert path.read_text() == "one" and list(path.parent.iterdir()) == [path]


def test_digests_tell_values_shapes_and_types_apart():
    a = np.arange(6, dtype=np.int64)
    digests = {digest(x) for x in (a, a + 1, a.reshape(2, 3), a.astype(np.uint64))} | {digest(a, a)}
    assert len(digests) == 5 and digest(a[::2]) == digest(a[::2].copy())


def test_unknown_names_are_answered_with_what_is_near_or_known():
    assert str(unknown("model", "basline", ["baseline", "frame"])) == (
        "unknown model 'basline'; did you mean baseline?")
    assert str(unknown("model", "zzz", ["b", "a"])) == "unknown model 'zzz'; known: a, b"
