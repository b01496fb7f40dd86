from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.parts import SCHEMA, Rows
from bench.rows.pictures import Picture, Pictures
from bench.rows.store import Store
from framebench.attacks.base import Traits
from framebench.errors import InputError
from framebench.files import seal

EVALUATION = Evaluation("m", "weights", "d", "images", "simba", {"basis": "dct"}, 100, 0)
TRAITS = Traits(label="simba-dct", needs="scores", budget=100, epsilon=0.2)
FACTS = Facts("t", tuple(map(str, range(100))), traits=TRAITS, budgets=(1, 100), provenance=({"torch": "1"},))


def columns(examples):
    return {name: [b"\1"] * len(examples) if name == "steps" else list(examples) for name in SCHEMA.names}


def filled(store, examples, evaluation=EVALUATION, facts=FACTS):
    rows = store.open(evaluation, facts)
    rows.add(columns(examples))
    rows.finish()
    return rows


def files(rows):
    return sorted(rows.folder.glob("rows-*.parquet"))


def test_the_key_is_of_what_changes_the_rows():
    key = EVALUATION.key
    for same in ({"model": "renamed"}, {"domain": "renamed"}):
        assert dataclasses.replace(EVALUATION, **same).key == key
    for other in ({"model_digest": "x"}, {"domain_digest": "x"}, {"attack": "x"}, {"settings": {}}, {"seed": 1},
                  {"budget": 10}):
        assert dataclasses.replace(EVALUATION, **other).key != key


def test_rows_survive_and_are_added_to(tmp_path):
    filled(Store(tmp_path), [5, 3])
    again = Store(tmp_path).open(EVALUATION, dataclasses.replace(FACTS, budgets=(1, 50), provenance=({"torch": "2"},)))
    assert again.ids.tolist() == [3, 5]
    again.add(columns([4]))
    again.finish()
    (stored,) = Store(tmp_path).all()
    assert stored.frame()["example"].tolist() == [3, 4, 5]
    assert stored.evaluation == EVALUATION
    assert stored.facts == dataclasses.replace(FACTS, budgets=(1, 50, 100), provenance=({"torch": "1"}, {"torch": "2"}))
    assert len(files(stored)) == 1


def test_parts_of_several_writers_are_one_evaluation(tmp_path):
    """Two stores that know nothing of each other write parts; neither rewrites what the other has written."""
    writers = [Store(tmp_path).open(EVALUATION, FACTS) for _ in range(2)]
    for number, rows in enumerate(writers):
        for example in (10 * number, 10 * number + 1):
            rows.add(columns([example]))
            rows.flush()
    assert len(files(writers[0])) == 4
    first = {path: path.read_bytes() for path in files(writers[0])}
    (stored,) = Store(tmp_path).all()
    assert stored.ids.tolist() == [0, 1, 10, 11]
    assert first == {path: path.read_bytes() for path in files(stored)}, "reading changes nothing"
    stored.finish()
    assert len(files(stored)) == 1
    assert Store(tmp_path).all()[0].frame()["example"].tolist() == [0, 1, 10, 11]


def test_a_kill_while_parts_are_joined_doubles_no_row(tmp_path):
    rows = filled(Store(tmp_path), [1, 2])
    rows.add(columns([3]))
    rows.flush()
    before = {path: path.read_bytes() for path in files(rows)}
    rows.finish()
    for path, content in before.items():  # as if the joined part was written and the others not yet removed
        path.write_bytes(content)
    (stored,) = Store(tmp_path).all()
    assert len(files(stored)) == 3
    assert stored.ids.tolist() == [1, 2, 3] and len(stored.frame()) == 3 and len(stored.outcomes()[0]) == 3


def test_facts_alone_are_kept_too_but_need_a_row(tmp_path):
    filled(Store(tmp_path), [1])
    rows = Store(tmp_path).open(EVALUATION, dataclasses.replace(FACTS, budgets=(7,)))
    rows.finish()
    (stored,) = Store(tmp_path).all()
    assert stored.facts.budgets == (1, 7, 100) and stored.ids.tolist() == [1]
    Store(tmp_path).open(dataclasses.replace(EVALUATION, seed=3), FACTS).finish()
    assert len(Store(tmp_path).all()) == 1


def test_rows_of_a_longer_run_answer_a_shorter_one_only(tmp_path):
    filled(Store(tmp_path), [1])
    shorter, longer = (dataclasses.replace(EVALUATION, budget=k) for k in (10, 1000))
    store = Store(tmp_path)
    assert [rows.ids.tolist() for rows in store.answering(shorter)] == [[1]]
    for other in (longer, dataclasses.replace(shorter, seed=1), dataclasses.replace(shorter, settings={}),
                  dataclasses.replace(shorter, attack="noise"), dataclasses.replace(shorter, model_digest="x")):
        assert store.answering(other) == []


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    store = Store(tmp_path)
    rows = filled(store, [1])
    left = [tmp_path / "examples" / "a" / ".a.parquet.0123abc_.part", tmp_path / ".attack.csv.01234567.part",
            tmp_path / "adversarial" / "b" / ".b.safetensors.01234567.part",
            tmp_path / "report" / ".index.html.01234567.part"]
    others = [tmp_path / "train" / ".c.json.01234567.part", tmp_path / ".cifar-10-python.tar.gz.part",
              tmp_path / "adversarial" / "b" / "b.safetensors"]
    for path in left + others:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"half")
    with store.lock():
        assert not any(path.exists() for path in left) and all(path.exists() for path in [*others, *files(rows)])


def test_shards_are_joined(tmp_path):
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    for store, examples in ((first, [1, 2]), (second, [2, 3])):
        rows = filled(store, examples)
        pictures = Pictures(rows.folder)
        pictures.add(examples[1], Picture(np.zeros((3, 4, 4)), np.ones((3, 4, 4))))
        pictures.flush()
    first.take(second)
    (joined,) = Store(tmp_path / "a").all()
    assert joined.frame()["example"].tolist() == [1, 2, 3]
    assert Pictures(joined.folder).examples == [2, 3]
    picture = Pictures(joined.folder).get(3)
    assert picture.clean.shape == (3, 4, 4) and (picture.attacked == 1).all()


@pytest.mark.parametrize("other", [False, True])
def test_rows_with_another_outcome_are_named_when_they_are_joined(tmp_path, caplog, other):
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    filled(first, [1, 2])
    rows = second.open(EVALUATION, FACTS)
    rows.add({**columns([2, 3]), "queries": columns([5, 6])["queries"]} if other else columns([2, 3]))
    rows.finish()
    before = first.all()[0].frame()
    first.take(second)
    (joined,) = Store(tmp_path / "a").all()
    assert joined.frame().head(2).equals(before) and joined.ids.tolist() == [1, 2, 3]
    assert ("1 images" in caplog.text) is other


def test_rows_of_other_budgets_are_not_joined(tmp_path):
    whole = Store(tmp_path / "all")
    for i, budget in enumerate((1, 100)):
        part = Store(tmp_path / str(i))
        filled(part, [i], dataclasses.replace(EVALUATION, budget=budget))
        whole.take(part)
    assert sorted((rows.evaluation.budget, rows.ids.tolist()) for rows in whole.all()) == [(1, [0]), (100, [1])]


def test_outcomes_are_those_of_the_frame_whether_written_or_not(tmp_path):
    rows = filled(Store(tmp_path), [5, 3, 9])
    (read,) = Store(tmp_path).all()
    for some in (rows, read):
        assert [column.tolist() for column in some.outcomes()] == [[3, 5, 9]] * 3


def test_rows_are_due_when_they_have_waited_not_when_their_folder_was_opened_long_ago(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    rows = Store(tmp_path).open(EVALUATION, FACTS)
    clock[0] += 1000
    rows.add(columns([1]))
    assert not rows.due
    clock[0] += 1000
    rows.add(columns([2]))
    assert rows.due
    rows.flush()
    assert not rows.due and len(files(rows)) == 1


@pytest.mark.parametrize("where", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_a_flipped_bit_anywhere_is_found_and_the_file_kept(tmp_path, where):
    (path,) = files(filled(Store(tmp_path), list(range(100))))
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        [rows.frame() for rows in Store(tmp_path).all()]
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense"])
def test_a_file_that_is_no_part_is_named_though_its_checksum_is_right(tmp_path, content):
    path = seal(tmp_path / "examples" / "x", "rows-00001", ".parquet", content)
    with pytest.raises(InputError, match=path.name):
        Store(tmp_path).all()


def tampered(path, change):
    """Write a part anew with other metadata, under the name that fits."""
    table = pq.read_table(path)
    meta = json.loads(table.schema.metadata[b"framebench"])
    change(meta)
    path.unlink()
    pq.write_table(table.replace_schema_metadata({b"framebench": json.dumps(meta).encode()}), path.parent / "new")
    return seal(path.parent, "rows-00001", ".parquet", (path.parent / "new").read_bytes())


@pytest.mark.parametrize("change", [
    lambda meta: meta.pop("facts"), lambda meta: meta["facts"].update(budgets=["ten"]),
    lambda meta: meta["facts"].update(title=3), lambda meta: meta["facts"].update(unknown=1),
    lambda meta: meta["facts"]["traits"].update(needs="sleep"), lambda meta: meta["evaluation"].update(seed="0"),
    lambda meta: meta.update(version=0)])
def test_facts_of_another_kind_are_refused(tmp_path, change):
    (path,) = files(filled(Store(tmp_path), [1]))
    assert Store(tmp_path).all()
    path = tampered(path, change)
    with pytest.raises(InputError, match=path.name):
        Store(tmp_path).all()


def test_deeply_nested_facts_are_refused(tmp_path):
    (path,) = files(filled(Store(tmp_path), [1]))
    table = pq.read_table(path).replace_schema_metadata({b"framebench": b"[" * 200_000})
    path.unlink()
    pq.write_table(table, path.parent / "new")
    path = seal(path.parent, "rows-00001", ".parquet", (path.parent / "new").read_bytes())
    with pytest.raises(InputError, match=path.name):
        Store(tmp_path).all()


def test_a_second_writer_is_turned_away(tmp_path):
    store = Store(tmp_path)
    with store.lock(), pytest.raises(InputError, match="another run is writing"), Store(tmp_path).lock():
        pass
    with store.lock():
        pass


def test_the_same_rows_are_the_same_bytes_whatever_order_they_came_in(tmp_path):
    for name, order in (("a", [1, 2, 3]), ("b", [3, 1, 2])):
        rows = Store(tmp_path / name).open(EVALUATION, FACTS)
        for example in order:
            rows.add(columns([example]))
        rows.finish()
    (a,), (b,) = (list((tmp_path / name).rglob("rows-*.parquet")) for name in "ab")
    assert a.name == b.name and a.read_bytes() == b.read_bytes()


def test_images_that_end_otherwise_when_attacked_again_are_told_and_keep_their_rows(tmp_path, caplog):
    rows = filled(Store(tmp_path), [1, 2])
    (before,) = files(rows)
    rows.add(columns([1, 2]))
    rows.finish()
    assert files(rows) == [before] and not caplog.text
    rows.add(columns([1, 2]) | {"queries": [9, 2]})
    rows.finish()
    assert "1 images" in caplog.text and rows.frame()["queries"].tolist() == [1, 2] and len(files(rows)) == 1


def test_a_worker_that_writes_after_the_parts_were_joined_replaces_no_row(tmp_path):
    for examples in ([0], [1]):  # two parts, which become number 3
        rows = Store(tmp_path).open(EVALUATION, FACTS)
        rows.add(columns(examples))
        rows.flush()
    (stored,) = Store(tmp_path).all()
    stored.finish()
    late = Rows(stored.folder, EVALUATION, FACTS)  # as a worker does, which reads nothing
    late.add(columns([0, 2]) | {"queries": [9, 2]})
    late.flush()
    (stored,) = Store(tmp_path).all()
    stored.finish()
    assert stored.frame()["queries"].tolist() == [0, 1, 2]


def test_a_part_with_another_name_is_read_and_joined(tmp_path):
    (path,) = files(filled(Store(tmp_path), [1]))
    path.rename(path.with_name(path.name.replace("00001", "abc")))
    assert filled(Store(tmp_path), [2]).frame()["example"].tolist() == [1, 2]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


@pytest.mark.parametrize(("column", "value"), [
    ("label", 100), ("label", -1), ("goal", 2**62), ("clean_prediction", 100), ("prediction", -1), ("example", -1),
    ("queries", -5), ("success_iteration", -2), ("margin", None), ("label", None)])
def test_rows_that_can_not_be_are_refused_though_their_checksum_fits(tmp_path, column, value):
    (path,) = files(filled(Store(tmp_path), [1, 2]))
    table = pq.read_table(path)
    at = table.column_names.index(column)
    table = table.set_column(at, table.schema.field(at), [[table.column(at)[0].as_py(), value]])
    path.unlink()
    pq.write_table(table, path.parent / "new")
    path = seal(path.parent, "rows-00001", ".parquet", (path.parent / "new").read_bytes())
    with pytest.raises(InputError, match=path.name):
        Store(tmp_path).all()[0].frame()
