"""Published sets in their official layouts, made small."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from framebench.domains import DOMAINS, TRAINING, describe, load_domain, load_training
from framebench.domains.base import CIFAR10_CLASSES
from framebench.errors import InputError


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
               "keywords": np.array(["a", {}], dtype=object)} | arrays  # an object array, as the official file has
    np.savez(root / "cifar102_test.npz", **content)
    return images


def write_stl(root: Path, classes: list[int]) -> np.ndarray:
    images = pixels(len(classes), 96)
    (root / "stl10_binary").mkdir(parents=True)
    # The inverse of the format's description: channel by channel, each column by column.
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
        pickle.dump({b"fine_label_names": [b"name%d" % i for i in range(100)]}, out, protocol=2)
    return data


def write_cinic(root: Path, folder: str = "CINIC-10") -> None:
    """Two images of ImageNet and two of CIFAR-10 a class; the cat's second repeats its first, the dog's the cat's."""
    for label, name in enumerate(CIFAR10_CLASSES):
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
    assert [CIFAR10_CLASSES[label] for label in domain.labels] == [
        "airplane", "bird", "automobile", "cat", "deer", "dog", "horse", "ship", "truck"]
    kept = images[[0, 1, 2, 3, 4, 5, 6, 8, 9]]  # the eighth is a monkey
    means = kept.reshape(9, 32, 3, 32, 3, 3).mean((2, 4))
    assert np.abs(domain.images - means).max() <= 1  # PIL rounds once an axis
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
    assert domain.classes[:2] == ("name0", "name1") and len(domain.classes) == 100
    assert domain.labels.tolist() == [i % 100 for i in range(200)]


class _Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was run')",)


@pytest.mark.parametrize(("file", "content", "message"), [
    ("test", pickle.dumps({b"data": _Bomb()}), "refers to builtins.exec"),
    ("meta", pickle.dumps({b"fine_label_names": _Bomb()}), "refers to builtins.exec"),
    ("meta", pickle.dumps({b"fine_label_names": [b"a"]}), "does not name 100 classes"),
    ("meta", pickle.dumps({}), "does not name 100 classes"),
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
    # Names sort as text: 123_45 before 123_9. The cat's second image and the dog's first repeat the cat's first.
    kept = [i for i in range(20) if i not in (2 * 3 + 1, 2 * 5)]
    np.testing.assert_array_equal(unique.images, domain.images[kept])
    np.testing.assert_array_equal(unique.labels, domain.labels[kept])
    assert unique.title.endswith("without 2 exact duplicates")


def test_cinic_with_cifars_images_alone_is_refused(tmp_path):
    write_cinic(tmp_path)
    for path in tmp_path.rglob("n*.png"):
        path.unlink()
    with pytest.raises(InputError, match="CIFAR-10's images alone"):
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
    ("cifar10.1", _overwrite(DATA, None), "is damaged or no plain array"),
    ("cifar10.1", _overwrite(DATA, b""), "is damaged or no plain array"),
    ("cifar10.1", _overwrite(DATA, b"\x93NUMPY\x01\x00\x10\x00{'descr': (((("), "is damaged or no plain array"),
    ("cifar10.1", _overwrite(DATA, pickle.dumps(_Bomb())), "is damaged or no plain array"),
    ("cifar10.1", _overwrite(DATA, pixels(20).astype(np.float32)), r"must be uint8 \[n, 32, 32, 3\], not float32"),
    ("cifar10.1", _overwrite(DATA, pixels(20, 16)), r"not uint8 \[20, 16, 16, 3\]"),
    ("cifar10.1", _overwrite(LABELS, np.arange(19)), "20 images but labels of shape"),
    ("cifar10.1", _overwrite(LABELS, np.arange(20)), "labels from 0 to 19"),
    ("cifar10.1", _overwrite(LABELS, np.zeros(20)), "must be integers"),
    ("cifar10.1", lambda root: (root / LABELS).unlink(), "can't read .*labels.npy"),
    ("cifar10.2", _overwrite("cifar102_test.npz", None), "damaged"),
    ("cifar10.2", _overwrite("cifar102_test.npz", b"PK\x03\x04 and more"), "damaged"),
    ("cifar10.2", lambda root: write_cifar102(root, images=np.array([{}], dtype=object)), "damaged or no plain array"),
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
    ("svhn", lambda root: savemat(root / "svhn/test_32x32.mat", {"X": np.zeros((3, 3))}), "must hold X"),
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


@pytest.mark.parametrize("name", [name for name in DOMAINS if name != "samples"])
def test_every_set_says_what_it_needs(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} needs --data-root"):
        load_domain(name)
    with pytest.raises(InputError, match=f"has (no|neither) .*, which {name} needs"):
        load_domain(name, tmp_path)


def test_training_sets_match_their_test_sets(tmp_path, data_root):
    write_cifar100(data_root)
    write_svhn(data_root, [10, 3])
    write_svhn(data_root, [5, 10, 1], "train")
    for name in TRAINING:
        training, test = load_training(name, data_root), load_domain(name, data_root)
        assert training.classes == test.classes and training.shape == test.shape
        assert " train" in training.title and " test" in test.title
    assert load_training("svhn", data_root).labels.tolist() == [5, 0, 1]
    assert len(load_training("cifar10", data_root)) == 120
    with pytest.raises(InputError, match="unknown training set 'cifar'"):
        load_training("cifar", data_root)


def test_all_names_are_described_and_unknown_ones_answered():
    described = describe()
    assert {*DOMAINS, "folder:PATH", "cifar10-c"} <= set(described) and all(described.values())
    with pytest.raises(InputError, match="did you mean .*cinic10"):
        load_domain("cinic")
