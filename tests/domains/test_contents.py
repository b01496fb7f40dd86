from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest

from framebench.domains.contents import arrays, checksums, class_folders, file_count, labelled_images
from framebench.domains.sources import SOURCES


def test_checksums(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    good = {"a": f"md5:{hashlib.md5(b'content').hexdigest()}"}
    assert checksums(good)(tmp_path) is None
    assert checksums({"a": f"sha256:{hashlib.sha256(b'content').hexdigest()}"})(tmp_path) is None
    assert checksums({"b": "md5:0"})(tmp_path) == "b is missing"
    assert "a: the sha256 of its bytes is" in checksums({"a": "sha256:0"})(tmp_path)


@pytest.mark.parametrize(("array", "message"), [
    (np.zeros((4, 2, 2, 3), np.uint8), None),
    (np.zeros((4, 2, 2, 3), np.float32), "is float32 [4, 2, 2, 3], not uint8 [4, 2, 2, 3]"),
    (np.zeros((5, 2, 2, 3), np.uint8), "is uint8 [5, 2, 2, 3], not"),
    (np.array([{}], dtype=object), "is not a whole array"),
    (None, "x.npy is missing"),
])
def test_arrays(tmp_path, array, message):
    if array is not None:
        np.save(tmp_path / "x.npy", array)
    problem = arrays({"x.npy": (4, 2, 2, 3)})(tmp_path)
    assert problem is None if message is None else message in problem


def test_an_array_that_lacks_bytes(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2, 2, 3), np.uint8))
    whole = (tmp_path / "x.npy").read_bytes()
    for end in (0, 50, len(whole) - 1):
        (tmp_path / "x.npy").write_bytes(whole[:end])
        assert "is not a whole array" in arrays({"x.npy": (4, 2, 2, 3)})(tmp_path)


def test_class_folders(tmp_path):
    check = class_folders(("train", "test"), ("cat", "dog"), 2)
    assert check(tmp_path) == "train/cat is missing"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for file in ("1.png", "2.png", "notes.txt"):
                (tmp_path / split / name / file).touch()
    assert check(tmp_path) is None
    (tmp_path / "test" / "dog" / "2.png").unlink()
    assert check(tmp_path) == "test/dog contains 1 images, not 2"


IMAGES, LABELS = np.zeros((6, 4, 4, 3), np.uint8), np.arange(6) % 3


@pytest.mark.parametrize(("stored", "message"), [
    ({"images": IMAGES, "labels": LABELS}, None),
    ({"images": IMAGES, "labels": LABELS, "keywords": np.array([{}], dtype=object)}, None),  # never read
    ({"images": IMAGES[:5], "labels": LABELS}, "images are uint8 [5, 4, 4, 3], not"),
    ({"images": IMAGES.astype(float), "labels": LABELS}, "claims to contain more"),
    ({"images": IMAGES.astype(np.int8), "labels": LABELS}, "images are int8"),
    ({"images": IMAGES, "labels": LABELS[:5]}, "labels are not 6 integers"),
    ({"images": IMAGES, "labels": LABELS.astype(np.float32)}, "labels are not 6 integers"),
    ({"images": IMAGES, "labels": LABELS % 2}, "all classes from 0 to 2"),
    ({"images": IMAGES, "labels": LABELS - 1}, "all classes from 0 to 2"),
    ({"images": IMAGES}, "has no readable arrays"),
    ({"images": IMAGES, "labels": np.array([{}] * 6, dtype=object)}, "has no readable arrays"),
])
def test_labelled_images(tmp_path, stored, message):
    np.savez(tmp_path / "x.npz", **stored)
    problem = labelled_images({"x.npz": 6}, classes=3, size=4)(tmp_path)
    assert problem is None if message is None else message in problem


def test_labelled_images_of_other_files(tmp_path):
    check = labelled_images({"x.npz": 6}, classes=3, size=4)
    assert check(tmp_path) == "x.npz is missing"
    (tmp_path / "x.npz").write_bytes(b"\x93NUMPY")
    assert "has no readable arrays" in check(tmp_path)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("images.npy", bytes(10 << 20))
    (tmp_path / "x.npz").write_bytes(packed.getvalue())
    assert "claims to contain more than 6 images" in check(tmp_path)


def test_files_are_counted(tmp_path):
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / "a.jpg").touch()
    assert file_count("n*/*.jpg", 1)(tmp_path) is None
    assert "not 2" in file_count("n*/*.jpg", 2)(tmp_path)


@pytest.mark.parametrize(("name", "members"), [
    ("imagenet-c", ("gaussian_noise/1/n01440764/ILSVRC2012_val_00000293.JPEG",
                    "extra/spatter/5/n01440764/ILSVRC2012_val_00000293.JPEG")),
    ("tiny-imagenet-c", ("Tiny-ImageNet-C/fog/3/n01443537/test_2.JPEG",))])
def test_members_of_the_archives_of_image_files(name, members):
    wanted = SOURCES[name].wanted
    for member in members:
        found = wanted.fullmatch(member)
        assert found is not None and member.endswith(found["path"]) and found["path"].count("/") == 3
    others = ("fog/6/n01443537/a.JPEG", "fog/3/cat/a.JPEG", "mist/3/n01443537/a.JPEG", "fog/3/n01443537/a.sh",
              "fog/3/n01443537/../a.JPEG")
    assert not any(wanted.fullmatch(other) for other in others)


def test_the_table_is_plausible():
    assert list(SOURCES) == ["cifar10", "cifar100", "svhn", "cifar10-c", "cifar100-c", "imagenet-c",
                             "tiny-imagenet-c", "cinic10", "cifar10.1", "cifar10.2", "stl10", "imagenet-v2",
                             "imagenet-a", "imagenet-r", "tiny-imagenet"]
    assert len(SOURCES["cifar10"].downloads[0].urls) == 2
    lengths = {"md5": 32, "sha256": 64}
    without = []
    for source in SOURCES.values():
        assert source.single == (len(source.downloads) == 1) and source.checks
        assert source.packed == (source.single or source.name == "imagenet-c")
        for item in source.downloads:
            assert all(url.startswith("http") for url in item.urls) and item.size > 0
            algorithm, _, value = item.checksum.partition(":")
            if not value:
                without.append(item.name)
                continue
            assert len(bytes.fromhex(value)) * 2 == lengths[algorithm]
    assert without == ["cifar102_train.npz"]


@pytest.mark.parametrize(("file", "rows", "row_size"), [
    ("cifar10.1_v4_data.npy", 2021, 3072), ("cifar10.1_v6_data.npy", 2000, 3072),
    ("cifar10.1_v4_labels.npy", 2021, 4), ("cifar10.1_v6_labels.npy", 2000, 4),
])
def test_published_sizes_are_those_of_the_arrays(file, rows, row_size):
    sizes = {item.name: item.size for item in SOURCES["cifar10.1"].downloads}
    assert sizes[file] == 128 + rows * row_size  # a .npy header has 128 bytes


def test_the_size_of_cifar10_c_is_that_of_its_tar():
    """A folder, 19 arrays and the labels, each with a header and whole blocks of 512 bytes; then two blocks."""
    def member(size):
        return 512 + -(-size // 512) * 512
    tar = member(0) + 19 * member(128 + 50000 * 3072) + member(128 + 50000) + 1024
    assert SOURCES["cifar10-c"].size == tar
