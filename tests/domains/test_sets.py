"""Small copies of published sets, in their official layouts."""

from __future__ import annotations

import importlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import framebench.domains
from framebench.classes import CIFAR10, CIFAR100
from framebench.domains import DOMAINS, TRAINING, Entry, default_domain, describe, load_domain, load_training
from framebench.domains.corrupted import load_corrupted
from framebench.domains.sources import SOURCES
from framebench.errors import InputError, MissingDataError
from tests.domains.test_folder import write_tree


def pixels(n: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def write_retest(root: Path, version: str = "v6", n: int = 20) -> np.ndarray:
    images = pixels(n)
    (root / "CIFAR-10.1").mkdir(parents=True, exist_ok=True)
    np.save(root / "CIFAR-10.1" / f"cifar10.1_{version}_data.npy", images)
    np.save(root / "CIFAR-10.1" / f"cifar10.1_{version}_labels.npy", np.arange(n, dtype=np.int32) % 10)
    return images


def write_cifar102(root: Path, **arrays: np.ndarray) -> np.ndarray:
    images = pixels(20, seed=2)
    content = {"images": images, "labels": np.arange(20) % 10,
               "keywords": np.array(["a", {}], dtype=object)} | arrays  # an object array, as in the official file
    np.savez(root / "cifar102_test.npz", **content)
    return images


def write_stl(root: Path, classes: list[int]) -> np.ndarray:
    images = pixels(len(classes), 96)
    (root / "stl10_binary").mkdir(parents=True)
    # The inverse of what the loader does: channel by channel, and column by column in each.
    (root / "stl10_binary" / "test_X.bin").write_bytes(b"".join(
        image[:, :, c].tobytes(order="F") for image in images for c in range(3)))
    (root / "stl10_binary" / "test_y.bin").write_bytes(bytes(classes))
    return images


def write_svhn(root: Path, digits: list[int], split: str = "test") -> np.ndarray:
    images = pixels(len(digits))
    (root / "svhn").mkdir(parents=True, exist_ok=True)
    savemat(root / "svhn" / f"{split}_32x32.mat",
            {"X": np.stack(list(images), axis=3), "y": np.array(digits, dtype=np.uint8)[:, None]})
    return images


def write_cifar100(root: Path) -> np.ndarray:
    data = pixels(200)
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        with open(folder / split, "wb") as out:
            pickle.dump({b"data": data.transpose(0, 3, 1, 2).reshape(200, 3072), b"batch_label": b"x",
                         b"fine_labels": [i % 100 for i in range(200)], b"coarse_labels": [0] * 200}, out, protocol=2)
    with open(folder / "meta", "wb") as out:
        pickle.dump({b"fine_label_names": [name.encode() for name in CIFAR100]}, out, protocol=2)
    return data


def write_cinic(root: Path, folder: str = "CINIC-10") -> None:
    """Write two images from ImageNet and two from CIFAR-10 per class; three are equal: two cats and a dog."""
    for label, name in enumerate(CIFAR10):
        target = root / folder / "test" / name
        target.mkdir(parents=True)
        images = pixels(4, seed=label)
        for image, file in zip(images, ["cifar10-test-12.png", "cifar-10-train-3.png", f"n0200{label}123_45.png",
                                        f"n0200{label}123_9.png"], strict=True):
            Image.fromarray(image).save(target / file)
    test = root / folder / "test"
    (test / "cat" / "n02003123_9.png").write_bytes((test / "cat" / "n02003123_45.png").read_bytes())
    (test / "dog" / "n02005123_45.png").write_bytes((test / "cat" / "n02003123_45.png").read_bytes())


@pytest.mark.parametrize(("name", "version", "published"), [("cifar10.1", "v6", "2000"),
                                                            ("cifar10.1-v4", "v4", "2021")])
def test_cifar10_1(tmp_path, name, version, published):
    images = write_retest(tmp_path, version)
    domain = load_domain(name, tmp_path)
    assert domain.title == f"CIFAR-10.1 {version}, partial: 20 of {published} images" and domain.name == name
    np.testing.assert_array_equal(domain.pixels(np.array([7, 3])), images[[7, 3]])
    assert domain.labels.dtype == np.int64 and domain.labels.tolist() == [i % 10 for i in range(20)]


def test_a_whole_set_is_not_called_partial_and_an_uneven_one_is(tmp_path):
    write_retest(tmp_path, n=2000)
    assert load_domain("cifar10.1", tmp_path).title == "CIFAR-10.1 v6"
    labels = tmp_path / "CIFAR-10.1" / "cifar10.1_v6_labels.npy"
    np.save(labels, np.minimum(np.arange(2000) % 10, 8))
    assert load_domain("cifar10.1", tmp_path).title.endswith("partial: 2000 of 2000 images in other proportions")


def test_cifar10_2(tmp_path):
    images = write_cifar102(tmp_path)
    domain = load_domain("cifar10.2", tmp_path)
    np.testing.assert_array_equal(domain.images, images)
    assert domain.title == "CIFAR-10.2 test, partial: 20 of 2000 images"


def test_stl10_has_nine_classes_and_averages_blocks(tmp_path):
    images = write_stl(tmp_path, list(range(1, 11)))
    domain = load_domain("stl10", tmp_path)
    assert [CIFAR10[label] for label in domain.labels] == [
        "airplane", "bird", "automobile", "cat", "deer", "dog", "horse", "ship", "truck"]
    kept = images[[0, 1, 2, 3, 4, 5, 6, 8, 9]]  # image 7 is a monkey
    means = kept.reshape(9, 32, 3, 32, 3, 3).mean((2, 4))
    assert np.abs(domain.images - means).max() <= 1  # PIL rounds once per axis
    assert "96x96 to 32x32" in domain.title and "not the official files" in domain.title


def test_svhn_stores_zero_as_ten(tmp_path):
    images = write_svhn(tmp_path, [10, 1, 2, 9])
    domain = load_domain("svhn", tmp_path)
    np.testing.assert_array_equal(domain.images, images)
    assert domain.labels.tolist() == [0, 1, 2, 9] and domain.classes[0] == "0"
    assert domain.title == "SVHN test (not the official files), partial: 4 of 26032 images"


def test_cifar100(tmp_path):
    data = write_cifar100(tmp_path)
    domain = load_domain("cifar100", tmp_path)
    np.testing.assert_array_equal(domain.images, data)
    assert domain.labels.tolist() == [i % 100 for i in range(200)]
    assert domain.title == "CIFAR-100 test (not the official files), partial: 200 of 10000 images"
    write_tree(tmp_path / "cifar100" / "test", apple=(32, 32))
    assert len(load_domain("cifar100", tmp_path)) == 200, "the batches are preferred"


def test_the_classes_of_cifar100():
    assert len(set(CIFAR100)) == 100 and list(CIFAR100) == sorted(CIFAR100)
    assert [CIFAR100[i] for i in (0, 1, 39, 47, 83, 99)] == [
        "apple", "aquarium_fish", "keyboard", "maple_tree", "sweet_pepper", "worm"]


def test_class_folders_of_cifar100_keep_their_labels_where_some_are_missing(tmp_path):
    written = write_tree(tmp_path / "cifar100" / "test", worm=(32, 32), aquarium_fish=(32, 32), pine_tree=(32, 32))
    domain = load_domain("cifar100", tmp_path)
    assert domain.labels.tolist() == [1, 1, 59, 59, 99, 99] and domain.classes == CIFAR100
    np.testing.assert_array_equal(domain.images,
                                  np.concatenate([written[n] for n in ("aquarium_fish", "pine_tree", "worm")]))
    assert domain.title == "CIFAR-100 test (lossless class folders), partial: 6 of 10000 images"
    assert set(domain.labels[domain.first(3)]) == {1, 59, 99}
    with pytest.raises(MissingDataError, match="cifar10 needs"):
        default_domain(tmp_path)
    cell = load_domain("cifar100-c/fog/1", tmp_path)
    assert cell.title.startswith("CIFAR-100-C generated from CIFAR-100 test") and len(cell) == 6
    with pytest.raises(MissingDataError, match="cifar100/train/"):
        load_training("cifar100", tmp_path)


def test_jpeg_class_folders_of_cifar100_are_said_to_be_jpeg(tmp_path):
    write_tree(tmp_path / "cifar100" / "train", apple=(32, 32))
    Image.fromarray(pixels(1)[0]).save(tmp_path / "cifar100" / "train" / "apple" / "x.JPEG")
    title = load_training("cifar100", tmp_path).title
    assert title == "CIFAR-100 train (JPEG class folders), partial: 3 of 50000 images"


@pytest.mark.parametrize(("folder", "message"), [
    ("fruit_and_vegetables", r"not named after a class \(fruit_and_vegetables\)"), ("pine tree", r"\(pine tree\)")])
def test_other_class_folders_of_cifar100_are_refused_in_one_line(tmp_path, folder, message):
    write_tree(tmp_path / "cifar100" / "test", **{"apple": (32, 32), folder: (32, 32)})
    with pytest.raises(InputError, match=message) as caught:
        load_domain("cifar100", tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


class _Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was run')",)


@pytest.mark.parametrize(("file", "content", "message"), [
    ("test", pickle.dumps({b"data": _Bomb()}), "refers to builtins.exec"),
    ("meta", pickle.dumps({b"fine_label_names": _Bomb()}), "refers to builtins.exec"),
    ("meta", pickle.dumps({b"fine_label_names": [b"a"]}), "does not name CIFAR-100's classes"),
    ("meta", pickle.dumps({b"fine_label_names": [name.encode() for name in CIFAR100[::-1]]}),
     "does not name CIFAR-100's classes in their order"),
    ("meta", pickle.dumps({}), "does not name CIFAR-100's classes"),
    ("test", pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [0]}), "and n fine_labels"),
])
def test_damaged_and_hostile_files_of_cifar100_are_refused_and_never_run(tmp_path, file, content, message):
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_domain("cifar100", tmp_path)


def test_cinic_leaves_cifars_images_out(tmp_path):
    write_cinic(tmp_path)
    domain = load_domain("cinic10", tmp_path)
    assert len(domain) == 20 and np.bincount(domain.labels).tolist() == [2] * 10
    np.testing.assert_array_equal(domain.images[2 * 8], pixels(4, seed=8)[2])
    assert domain.title == "CINIC-10 test, ImageNet part, partial: 20 of 70000 images, 2 exact duplicates"
    assert domain.hint.startswith("1 of the duplicates have another class")
    whole = load_domain("cinic10-all", tmp_path)
    assert len(whole) == 40 and "training images" in whole.title and "40 of 90000" in whole.title


def test_cinic_without_duplicates_keeps_the_first(tmp_path):
    write_cinic(tmp_path)
    domain, unique = load_domain("cinic10", tmp_path), load_domain("cinic10-unique", tmp_path)
    # Names are sorted as text: 123_45 before 123_9. The second cat and the first dog equal the first cat.
    kept = [i for i in range(20) if i not in (2 * 3 + 1, 2 * 5)]
    np.testing.assert_array_equal(unique.images, domain.images[kept])
    np.testing.assert_array_equal(unique.labels, domain.labels[kept])
    assert unique.title.endswith("without 2 exact duplicates")


def test_cinic_with_cifars_images_alone_is_refused(tmp_path):
    write_cinic(tmp_path)
    for path in tmp_path.rglob("n*.png"):
        path.unlink()
    with pytest.raises(InputError, match="only images from CIFAR-10"):
        load_domain("cinic10", tmp_path)


def _overwrite(path: str, content: bytes | np.ndarray | None):
    def damage(root: Path) -> None:
        if content is None:
            (root / path).write_bytes((root / path).read_bytes()[:-100])
        elif isinstance(content, bytes):
            (root / path).write_bytes(content)
        else:
            np.save(root / path, content)
    return damage


DATA, LABELS = "CIFAR-10.1/cifar10.1_v6_data.npy", "CIFAR-10.1/cifar10.1_v6_labels.npy"


@pytest.mark.parametrize(("name", "damage", "message"), [
    ("cifar10.1", _overwrite(DATA, None), "is damaged"),
    ("cifar10.1", _overwrite(DATA, b""), "is damaged"),
    ("cifar10.1", _overwrite(DATA, b"\x93NUMPY\x01\x00\x10\x00{'descr': (((("), "is damaged"),
    ("cifar10.1", _overwrite(DATA, pickle.dumps(_Bomb())), "is damaged"),
    ("cifar10.1", _overwrite(DATA, pixels(20).astype(np.float32)), r"must be uint8 \[n, 32, 32, 3\], not float32"),
    ("cifar10.1", _overwrite(DATA, pixels(20, 16)), r"not uint8 \[20, 16, 16, 3\]"),
    ("cifar10.1", _overwrite(LABELS, np.arange(19)), "20 images but labels of shape"),
    ("cifar10.1", _overwrite(LABELS, np.arange(20)), "labels from 0 to 19"),
    ("cifar10.1", _overwrite(LABELS, np.full(20, 2**50)), "labels from 1125"),
    ("cifar10.1", _overwrite(LABELS, np.zeros(20)), "must be integers"),
    ("cifar10.1", lambda root: (root / LABELS).unlink(), "can't read .*labels.npy"),
    ("cifar10.2", _overwrite("cifar102_test.npz", None), "damaged"),
    ("cifar10.2", _overwrite("cifar102_test.npz", b"PK\x03\x04 and more"), "damaged"),
    ("cifar10.2", lambda root: write_cifar102(root, images=np.array([{}], dtype=object)), "damaged"),
    ("cifar10.2", lambda root: np.savez(root / "cifar102_test.npz", images=pixels(2)), "has no array 'labels'"),
    ("cifar10.2", lambda root: (root / "cifar102_test.npz").write_bytes((root / DATA).read_bytes()),
     "not a .npz archive"),
    ("stl10", _overwrite("stl10_binary/test_X.bin", None), "not a multiple of 27,648"),
    ("stl10", _overwrite("stl10_binary/test_X.bin", b""), "not a multiple of 27,648"),
    ("stl10", _overwrite("stl10_binary/test_y.bin", bytes([1, 2])), "3 test images but 2 labels"),
    ("stl10", _overwrite("stl10_binary/test_y.bin", bytes([1, 0, 11])), "labels from 0 to 11"),
    ("stl10", _overwrite("stl10_binary/test_y.bin", bytes([8, 8, 8])), "there are no images"),
    ("stl10", lambda root: (root / "stl10_binary" / "test_y.bin").unlink(), "can't read .*test_y.bin"),
    ("svhn", _overwrite("svhn/test_32x32.mat", None), "can't be read"),
    ("svhn", _overwrite("svhn/test_32x32.mat", b"no matlab"), "can't be read"),
    ("svhn", lambda root: savemat(root / "svhn/test_32x32.mat", {"X": np.zeros((3, 3))}), "must contain X"),
    ("svhn", lambda root: write_svhn(root, [0, 11]), "labels from 0 to 11"),
])
def test_damaged_files_are_refused_in_one_line(tmp_path, name, damage, message):
    write_retest(tmp_path)
    write_cifar102(tmp_path)
    write_stl(tmp_path, [1, 2, 3])
    write_svhn(tmp_path, [1, 2])
    assert len(load_domain(name, tmp_path)) > 0
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load_domain(name, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in DOMAINS if not name.endswith("samples")])
def test_every_set_says_what_it_needs(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} needs --data-root"):
        load_domain(name)
    with pytest.raises(InputError, match=f"has (no|neither) .*, which {name} needs"):
        load_domain(name, tmp_path)


@pytest.mark.parametrize(("name", "write"), [
    ("cifar10.1", write_retest), ("cifar10.1-v4", lambda root: write_retest(root, "v4")),
    ("stl10", lambda root: write_stl(root, [1, 2, 3])), ("svhn", lambda root: write_svhn(root, [1, 2])),
    ("cifar100", write_cifar100), ("cinic10", write_cinic)])
def test_loaders_prefer_the_folder_that_fetch_makes(tmp_path, name, write):
    write(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name == SOURCES[name.removesuffix("-v4")].folder
    assert len(load_domain(name, tmp_path)) > 0


def test_cinic_under_its_other_name(tmp_path):
    write_cinic(tmp_path, "cinic10")
    assert len(load_domain("cinic10", tmp_path)) == 20
    write_cinic(tmp_path)
    shutil.rmtree(tmp_path / "CINIC-10" / "test" / "frog")
    with pytest.raises(InputError, match="CINIC-10/test has no folder 'frog'"):
        load_domain("cinic10", tmp_path)


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path):
    (tmp_path / "cifar-10-batches-py").touch()
    (tmp_path / "svhn" / "test_32x32.mat").mkdir(parents=True)
    for name in ("cifar10", "svhn"):
        with pytest.raises(MissingDataError, match=f"which {name} needs"):
            load_domain(name, tmp_path)
    with pytest.raises(MissingDataError, match="cifar10 needs"):
        default_domain(tmp_path)


def test_training_sets_match_their_test_sets(tmp_path, data_root):
    write_cifar100(data_root)
    write_svhn(data_root, [10, 3])
    write_svhn(data_root, [5, 10, 1], "train")
    assert set(TRAINING) == {"cifar10", "cifar100", "svhn"}
    for name in TRAINING:
        training, test = load_training(name, data_root), load_domain(name, data_root)
        assert training.classes == test.classes and training.shape == test.shape
        assert " train" in training.title and " test" in test.title
    assert load_training("svhn", data_root).labels.tolist() == [5, 0, 1]
    assert len(load_training("cifar10", data_root)) == 120
    with pytest.raises(InputError, match="unknown training set 'cifar'"):
        load_training("cifar", data_root)
    with pytest.raises(InputError, match="unknown training set 'stl10'"):
        load_training("stl10", data_root)


def test_all_names_are_described_and_unknown_ones_answered():
    described = describe()
    assert {*DOMAINS, "folder:PATH", "cifar10-c"} <= set(described) and all(described.values())
    with pytest.raises(InputError, match="did you mean .*cinic10"):
        load_domain("cinic")


TOY = """
import numpy as np
from framebench.domains.base import Domain

def load_toy(data_root, split="test"):
    n = {"train": 6, "test": 4}[split]
    return Domain("toy", f"toy {split}", ("left", "right"), np.zeros((n, 32, 32, 3), np.uint8), np.arange(n) % 2)
"""


def test_a_domain_is_one_file_and_one_line(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(framebench.domains, "__path__", [*framebench.domains.__path__, str(tmp_path)])
    toy = importlib.import_module("framebench.domains.toy")
    monkeypatch.setitem(DOMAINS, "toy", Entry("a toy", toy.load_toy, trains=True))
    assert describe()["toy"] == "a toy"
    assert (len(load_domain("toy")), len(load_training("toy", None))) == (4, 6)
    assert load_corrupted("toy-c").clean.title == "toy test"
    assert load_domain("toy-c/fog/3").classes == ("left", "right")
    with pytest.raises(InputError, match="did you mean toy"):
        load_domain("toyy")
