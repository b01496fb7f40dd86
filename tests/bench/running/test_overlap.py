"""Training images among those that are evaluated: looked for, kept, and replaced by a later look."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bench.analysis.reporting import write_report
from bench.rows.kept import DUPLICATES
from bench.running.overlap import training_images, write_training_images
from framebench.classes import CIFAR10
from framebench.domains.base import Domain
from framebench.domains.duplicates import Duplicates
from framebench.errors import InputError
from framebench.files import digest
from tests.bench.analysis.making import cell_of, kept


def _cell(name, n=10, seed=0, corruption="", classes=CIFAR10):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    domain = Domain(name, name, classes, pixels, np.arange(n) % len(classes))
    return SimpleNamespace(name=name, images=domain, corruption=corruption)


def _found(*examples):
    n = len(examples)
    return Duplicates(np.array(examples, dtype=np.int64), np.arange(n), np.ones(n, np.float32), np.zeros(n, bool),
                      np.ones(n, bool))


def test_a_later_look_replaces_what_an_earlier_one_found(tmp_path):
    first, second = _cell("first"), _cell("second", seed=1)
    write_training_images(tmp_path, [first, second], {first.images.digest: _found(1, 4),
                                                      second.images.digest: _found(2)})
    table = pd.read_csv(tmp_path / "duplicates.csv")
    assert table[["domain", "example"]].to_numpy().tolist() == [["first", 1], ["first", 4], ["second", 2]]
    assert table["domain_digest"].nunique() == 2 and table["exact"].all()
    write_training_images(tmp_path, [first], {first.images.digest: _found()})
    assert DUPLICATES.read(tmp_path)["example"].tolist() == [2], "the first set has none, the second was not looked at"
    write_training_images(tmp_path, [second], {second.images.digest: _found(3, 5)})
    assert DUPLICATES.read(tmp_path)["example"].tolist() == [3, 5]
    renamed = _cell("renamed", seed=1)
    write_training_images(tmp_path, [renamed], {renamed.images.digest: _found()})
    assert DUPLICATES.read(tmp_path).empty and pd.read_csv(tmp_path / "duplicates.csv").empty


def test_where_nothing_was_found_there_is_no_table(tmp_path):
    cell = _cell("first")
    write_training_images(tmp_path, [cell], {cell.images.digest: _found()})
    write_training_images(tmp_path, [cell], {})
    assert not (tmp_path / "duplicates.csv").exists()


def test_a_damaged_table_is_named(tmp_path):
    cell = _cell("first")
    write_training_images(tmp_path, [cell], {cell.images.digest: _found(1)})
    (path,) = (tmp_path / "kept").iterdir()
    path.write_bytes(path.read_bytes() + b"1")
    with pytest.raises(InputError, match=path.name):
        write_training_images(tmp_path, [cell], {cell.images.digest: _found(1)})


def test_only_sets_of_cifar10s_classes_without_corruptions_are_looked_at(data_root):
    cells = [_cell("clean"), _cell("fog", corruption="fog"), _cell("digits", classes=("0", "1"))]
    found = training_images(cells, data_root)
    assert list(found) == [cells[0].images.digest] and not len(found[cells[0].images.digest])
    assert training_images(cells, None) == {}


def test_training_images_that_can_not_be_read_are_said(data_root, caplog):
    (data_root / "cifar10" / "train" / "cat" / "0003.png").write_bytes(b"no image")
    assert training_images([_cell("clean")], data_root) == {}
    assert "0003.png" in caplog.text


def test_the_report_flags_a_set_once_and_no_longer_when_nothing_is_found(tmp_path, caplog):
    cell = _cell("d")
    for model in "ab":
        rows = cell_of(tmp_path / "examples", np.arange(10) != 4, model=model, domain="d", classes=CIFAR10)
        rows.evaluation = type(rows.evaluation)(model, model, "d", digest(cell.images.images, cell.images.labels))
        kept(rows)
    write_training_images(tmp_path, [cell], {cell.images.digest: _found(1, 4)})
    (flag,) = write_report(tmp_path).warnings
    assert "2 of 10 images of d" in flag and "+10.0 points" in flag
    assert flag in caplog.text
    write_training_images(tmp_path, [cell], {cell.images.digest: _found()})
    assert write_report(tmp_path).warnings == ()
