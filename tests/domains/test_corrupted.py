"""Corrupted sets that are read from files in the official layout."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from framebench.domains import load_domain
from framebench.domains.corrupted import FileSet, default_corrupted, load_corrupted
from framebench.domains.corruptions import BENCHMARK, EXTRAS, NAMES
from framebench.domains.sources import SOURCES
from framebench.errors import InputError
from tests.conftest import write_class_folders
from tests.domains.test_folder import write_tree

LABELS = np.arange(10000) % 10


def write_cifar10(root: Path, labels: np.ndarray = LABELS) -> None:
    (root / "cifar-10-batches-py").mkdir(parents=True)
    with open(root / "cifar-10-batches-py" / "test_batch", "wb") as out:
        pickle.dump({b"data": np.zeros((len(labels), 3072), np.uint8), b"labels": labels.tolist()}, out, protocol=2)


def write_files(root: Path, corruptions: tuple[str, ...] = ("fog", "shot_noise"), folder: str = "CIFAR-10-C",
                labels: np.ndarray = LABELS) -> Path:
    """Write sparse arrays of 50,000 images; the first value of every 2,000th row r is r // 200."""
    (root / folder).mkdir(parents=True)
    for corruption in corruptions:
        with open(root / folder / f"{corruption}.npy", "wb") as out:
            np.lib.format.write_array_header_1_0(
                out, {"descr": "|u1", "fortran_order": False, "shape": (50000, 32, 32, 3)})
            header = out.tell()
            out.truncate(header + 50000 * 3072)
            for row in range(0, 50000, 2000):
                out.seek(header + row * 3072)
                out.write(bytes([row // 200]))
    np.save(root / folder / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    return root / folder


def test_a_cell_is_its_fifth_of_the_rows(tmp_path):
    write_files(tmp_path)
    write_cifar10(tmp_path)
    found = load_corrupted("cifar10-c", tmp_path)
    assert found.corruptions == ("shot_noise", "fog")  # in the benchmark's order
    cell = found.cell("fog", 3)
    assert isinstance(cell.images.base, np.memmap) or isinstance(cell.images, np.memmap)
    assert len(cell) == 10000 and cell.name == "cifar10-c/fog/3"
    x, y = cell.load([0, 2000, 4003])
    assert (x[:, 0, 0, 0] * 255).round().tolist() == [100, 110, 0] and y.tolist() == [0, 0, 3]
    np.testing.assert_array_equal(cell.pixels(np.array([2000]))[0, 0, 0], [110, 0, 0])
    assert found.clean is not None
    np.testing.assert_array_equal(cell.order, found.clean.order)
    assert load_domain("cifar10-c/fog/3", tmp_path).digest == cell.digest != found.cell("fog", 2).digest


def test_what_is_there_and_what_is_not_is_said(tmp_path):
    write_files(tmp_path, BENCHMARK[2:])
    found = load_corrupted("cifar10-c", tmp_path)
    assert found.title == "CIFAR-10-C (files in the official layout), partial: without gaussian_noise, shot_noise"
    assert not found.official and found.clean is None and "clean test set (cifar10)" in found.hint
    assert found.missing(BENCHMARK[2:], [1]) == [] and found.generate(["fog"], [1]) is None
    with pytest.raises(InputError, match="unknown corruption of cifar10-c 'shot_noise'"):
        found.cell("shot_noise", 1)
    with pytest.raises(InputError, match="the severity 6 does not exist; choose 1 to 5"):
        found.cell("fog", 6)


def test_official_files_are_told_by_the_labels_checksum(tmp_path, monkeypatch):
    write_files(tmp_path, (*BENCHMARK, *EXTRAS))
    monkeypatch.setattr("framebench.domains.corrupted.file_md5", lambda path: {
        "labels.npy": "c439b113295ed5254878798ffe28fd54"}[path.name])
    found = load_corrupted("cifar10-c", tmp_path)
    assert found.official and found.title == "CIFAR-10-C (official files)" and found.corruptions == NAMES
    with open(tmp_path / "CIFAR-10-C" / "fog.npy", "ab") as file:
        file.write(bytes(1000))
    assert not load_corrupted("cifar10-c", tmp_path).official


def test_cifar100_c_without_its_clean_set(tmp_path):
    write_files(tmp_path, folder="CIFAR-100-C", labels=np.arange(10000) % 100)
    found = load_corrupted("cifar100-c", tmp_path)
    assert found.title.startswith("CIFAR-100-C (files in the official layout)")
    assert found.cell("fog", 1).labels.max() == 99 and len(found.cell("fog", 1).classes) == 100


def test_cifar100_c_with_clean_class_folders(tmp_path):
    write_files(tmp_path, ("fog",), "CIFAR-100-C", np.arange(10000) % 100)
    write_tree(tmp_path / "cifar100" / "test", apple=(32, 32), worm=(32, 32))
    found = load_corrupted("cifar100-c", tmp_path)
    assert found.clean is None and "has another order" in found.hint


def test_labels_in_another_order_than_the_clean_set(tmp_path):
    write_files(tmp_path)
    write_class_folders(tmp_path, 1, "test")
    found = load_corrupted("cifar10-c", tmp_path)
    assert found.clean is None and "has another order" in found.hint
    write_cifar10(tmp_path, LABELS[::-1])
    with pytest.raises(InputError, match="labels of .*CIFAR-10-C are not those of CIFAR-10 test"):
        load_corrupted("cifar10-c", tmp_path)


def _save(array: np.ndarray, file: str = "fog.npy"):
    return lambda folder: np.save(folder / file, array)


def _cut(folder: Path) -> None:
    with open(folder / "fog.npy", "r+b") as file:
        file.truncate(1_000_000)


@pytest.mark.parametrize(("damage", "message"), [
    (_save(np.zeros((100, 32, 32, 3), np.uint8)), r"must be uint8 \[50000, 32, 32, 3\], not uint8 \[100"),
    (_save(np.zeros(50000, np.float32)), "must be uint8"),
    (_cut, "fog.npy is damaged"),
    (_save(np.arange(50000) % 11 % 10, "labels.npy"), "does not repeat the same labels"),
    (_save(np.zeros(49999, np.uint8), "labels.npy"), "not repeat the same labels"),
    (_save(np.zeros(0, np.uint8), "labels.npy"), "not repeat the same labels"),
    (_save(np.array([{}]), "labels.npy"), "labels.npy is damaged"),
    (lambda folder: (folder / "labels.npy").unlink(), "can't read .*labels.npy"),
    (lambda folder: (folder / "fog.npy").unlink(), "no array of a corruption"),
])
def test_damaged_files_are_refused(tmp_path, damage, message):
    folder = write_files(tmp_path, ("fog",))
    damage(folder)
    with pytest.raises(InputError, match=message):
        load_corrupted("cifar10-c", tmp_path)


def test_labels_out_of_range_are_refused(tmp_path):
    write_files(tmp_path, labels=np.arange(10000) % 11)
    with pytest.raises(InputError, match="labels from 0 to 10"):
        load_corrupted("cifar10-c", tmp_path).cell("fog", 1)


@pytest.mark.parametrize(("name", "folder"), [("cifar10-c", "CIFAR-10-C"), ("cifar10-c", "cifar10-c"),
                                              ("cifar100-c", "CIFAR-100-C"), ("cifar100-c", "cifar100-c")])
def test_the_names_of_its_folder(tmp_path, name, folder):
    write_files(tmp_path, ("fog",), folder)
    assert default_corrupted(tmp_path) == ("cifar10-c" if name == "cifar10-c" else "samples-c")
    assert isinstance(load_corrupted(name, tmp_path), FileSet)
    assert load_corrupted(name, tmp_path).title.startswith(SOURCES[name].folder)


def test_which_set_is_used(tmp_path, data_root):
    assert default_corrupted(None) == default_corrupted(tmp_path / "empty") == "samples-c"
    assert default_corrupted(data_root) == "cifar10-c"
    assert not isinstance(load_corrupted("cifar10-c", data_root), FileSet)
    write_files(data_root)
    shutil.rmtree(data_root / "cifar10")
    assert default_corrupted(data_root) == "cifar10-c"
    assert isinstance(load_corrupted("cifar10-c", data_root), FileSet)
    with pytest.raises(InputError, match="unknown corrupted set 'cifar10'"):
        load_corrupted("cifar10", data_root)
    with pytest.raises(InputError, match="cifar10 needs --data-root"):
        load_corrupted("cifar10-c")
