from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bench.rows.evaluation import Evaluation
from bench.rows.store import SCHEMA, Pictures, Store
from framebench.errors import InputError

EVALUATION = Evaluation("m", "weights", "d", "images", "simba", {"max_iterations": 100, "basis": "dct"}, 0)
FACTS = {"title": "t", "budgets": [1, 100], "provenance": [{"torch": "1"}]}


def _columns(examples):
    return {name: [b"\1"] * len(examples) if name == "steps" else list(examples) for name in SCHEMA.names}


def _filled(store, examples, evaluation=EVALUATION, facts=FACTS):
    rows = store.open(evaluation, facts)
    rows.add(_columns(examples))
    rows.flush()
    return rows


def test_the_key_is_of_what_changes_the_rows(tmp_path):
    key = EVALUATION.key
    for same in ({"model": "renamed"}, {"domain": "renamed"}):
        assert dataclasses.replace(EVALUATION, **same).key == key
    for other in ({"model_digest": "x"}, {"domain_digest": "x"}, {"attack": "x"}, {"options": {}}, {"seed": 1}):
        assert dataclasses.replace(EVALUATION, **other).key != key


def test_rows_survive_and_are_added_to(tmp_path):
    store = Store(tmp_path)
    _filled(store, [5, 3])
    again = store.open(EVALUATION, {**FACTS, "budgets": [1, 50], "provenance": [{"torch": "2"}]})
    assert sorted(again.ids) == [3, 5]
    assert again.facts["budgets"] == [1, 100, 50] and again.facts["provenance"] == [{"torch": "1"}, {"torch": "2"}]
    again.add(_columns([4]))
    again.flush()
    (stored,) = store.all()
    assert stored.frame()["example"].tolist() == [3, 4, 5]
    assert stored.evaluation == EVALUATION


def test_rows_of_a_larger_budget_answer_a_smaller_one_only(tmp_path):
    store = Store(tmp_path)
    _filled(store, [1])
    smaller, larger = (dataclasses.replace(EVALUATION, options={**EVALUATION.options, "max_iterations": k})
                       for k in (10, 1000))
    assert store.open(smaller, FACTS).ids.tolist() == [1]
    assert store.open(larger, FACTS).ids.tolist() == []
    assert store.open(dataclasses.replace(smaller, seed=1), FACTS).ids.tolist() == []


@pytest.mark.parametrize("seed", range(6))  # which decides the order of the files
def test_of_rows_of_several_budgets_the_shortest_answer(tmp_path, seed):
    store = Store(tmp_path)
    long, short = (dataclasses.replace(EVALUATION, seed=seed, options={**EVALUATION.options, "max_iterations": k})
                   for k in (1000, 10))
    _filled(store, [1, 2, 3], short)
    _filled(store, [1], long)
    for asked in (short, dataclasses.replace(short, options={**short.options, "max_iterations": 5})):
        assert Store(tmp_path).open(asked, FACTS).ids.tolist() == [1, 2, 3]
    assert Store(tmp_path).open(long, FACTS).ids.tolist() == [1]


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    store = Store(tmp_path)
    rows = _filled(store, [1])
    left = [tmp_path / "examples" / ".a.parquet.x.part", tmp_path / "adversarial" / ".b.safetensors.x.part"]
    others = [tmp_path / "train" / ".c.json.x.part", tmp_path / "adversarial" / "b.safetensors"]
    for path in left + others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    with store.lock():
        assert not any(path.exists() for path in left) and all(path.exists() for path in [*others, rows.path])


def test_shards_are_joined(tmp_path):
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    for store, examples in ((first, [1, 2]), (second, [2, 3])):
        rows = _filled(store, examples)
        pictures = Pictures(rows)
        pictures.add(examples[1], np.zeros((3, 4, 4)), np.ones((3, 4, 4)))
        pictures.flush()
    first.take(second)
    (joined,) = first.all()
    assert joined.frame()["example"].tolist() == [1, 2, 3]
    assert Pictures(joined).examples == [2, 3]
    clean, attacked = Pictures(joined).get(3)
    assert clean.shape == (4, 4, 3) and (attacked == 1).all()


@pytest.mark.parametrize("order", [(100, 1), (1, 100)])
def test_rows_of_other_budgets_are_not_joined(tmp_path, order):
    whole = Store(tmp_path / "all")
    for i, budget in enumerate(order):
        part = Store(tmp_path / str(i))
        _filled(part, [i], dataclasses.replace(EVALUATION, options={**EVALUATION.options, "max_iterations": budget}))
        whole.take(part)
    assert sorted((rows.evaluation.options["max_iterations"], rows.ids.tolist()) for rows in whole.all()) == sorted(
        (budget, [i]) for i, budget in enumerate(order))


def test_outcomes_are_those_of_the_frame_whether_read_or_not(tmp_path):
    rows = _filled(Store(tmp_path), [5, 3, 9])
    (read,) = Store(tmp_path).all()
    for some in (rows, read):
        assert [column.tolist() for column in some.outcomes()] == [[3, 5, 9]] * 3


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense", None])
def test_a_damaged_file_is_named_and_kept(tmp_path, content):
    store = Store(tmp_path)
    path = _filled(store, list(range(100))).path
    damaged = path.read_bytes()[:200] if content is None else content
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="not a whole file of rows"):
        [rows.frame() for rows in Store(tmp_path).all()]
    assert path.read_bytes() == damaged


def test_a_second_writer_is_turned_away(tmp_path):
    store = Store(tmp_path)
    with store.lock(), pytest.raises(InputError, match="another run is writing"), Store(tmp_path).lock():
        pass
    with store.lock():
        pass


def test_damaged_pictures_are_dropped(tmp_path):
    rows = _filled(Store(tmp_path), [1])
    rows.path.with_suffix(".npz").write_bytes(b"PK broken")
    assert Pictures(rows).examples == []
