from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import framebench.domains.folder
from framebench.domains import load_domain
from framebench.domains.base import CIFAR10_CLASSES
from framebench.errors import InputError


def write_tree(root: Path, **folders: tuple[int, int]) -> dict[str, np.ndarray]:
    """Write two images of this height and width into each folder."""
    rng = np.random.default_rng(0)
    written = {}
    for name, size in folders.items():
        (root / name).mkdir(parents=True)
        written[name] = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
        for i, image in enumerate(written[name]):
            Image.fromarray(image).save(root / name / f"{i}.png")
    return written


def test_three_of_ten_classes_get_their_labels_by_name(tmp_path):
    written = write_tree(tmp_path / "mine", Truck=(32, 32), cat=(32, 32), DEER=(32, 32))
    (tmp_path / "mine" / ".hidden").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("not a class")
    domain = load_domain(f"folder:{tmp_path / 'mine'}")
    assert [CIFAR10_CLASSES[label] for label in domain.labels] == ["cat", "cat", "deer", "deer", "truck", "truck"]
    np.testing.assert_array_equal(domain.images, np.concatenate([written[n] for n in ("cat", "DEER", "Truck")]))
    assert domain.title == ("folder mine (6 images, 3 of 10 classes; missing: airplane, automobile, bird, dog, frog, "
                            "horse, ship)")
    assert domain.first(3).tolist() != [0, 1, 2] and set(domain.labels[domain.first(3)]) == {3, 4, 9}


def test_other_sizes_are_averaged_and_said(tmp_path):
    written = write_tree(tmp_path / "mine" / "test", car=(64, 64), ship=(32, 32))
    domain = load_domain(f"folder:{tmp_path / 'mine' / 'test'}")
    assert domain.title.startswith("folder mine/test (4 images, 2 of 10 classes; ")
    assert domain.title.endswith("; 2 resized to 32x32 from 64x64)")
    assert domain.labels.tolist() == [1, 1, 8, 8]
    means = written["car"].reshape(2, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(domain.images[:2] - means).max() <= 1
    np.testing.assert_array_equal(domain.images[2:], written["ship"])
    assert load_domain(f"folder:{tmp_path / 'mine' / 'test'}").title == domain.title  # from the cache


def test_a_picture_is_cut_to_its_central_square(tmp_path):
    written = write_tree(tmp_path, cat=(32, 40), dog=(36, 32), frog=(16, 16))
    domain = load_domain(f"folder:{tmp_path}")
    np.testing.assert_array_equal(domain.images[:2], written["cat"][:, :, 4:36])
    np.testing.assert_array_equal(domain.images[2:4], written["dog"][:, 2:34])
    assert "6 resized to 32x32 from 3 other sizes" in domain.title


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", "<u2"), (".tif", "<u2"), (".tiff", ">u2")])
def test_16_bit_greys_are_scaled(tmp_path, suffix, dtype):
    grey = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    (tmp_path / "cat").mkdir()
    Image.fromarray(grey.astype(dtype)).save(tmp_path / "cat" / f"0{suffix}")
    image = load_domain(f"folder:{tmp_path}").images[0]
    np.testing.assert_array_equal(image, np.rint(grey / 257).astype(np.uint8)[:, :, None].repeat(3, 2))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_values_are_refused(tmp_path, dtype):
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.ones((32, 32), dtype)).save(tmp_path / "cat" / "0.tif")
    with pytest.raises(InputError, match=r"0.tif .*32-bit values.* convert it to 8 bits"):
        load_domain(f"folder:{tmp_path}")


def test_the_exif_orientation_is_followed(tmp_path):
    upright = np.random.default_rng(0).integers(0, 256, (32, 36, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "cat" / "0.png", exif=exif)
    domain = load_domain(f"folder:{tmp_path}")
    np.testing.assert_array_equal(domain.images[0], upright[:, 2:34])
    assert "resized to 32x32 from 36x32" in domain.title


def test_an_image_with_damaged_exif_data_is_read_as_it_is(tmp_path):
    written = write_tree(tmp_path, cat=(32, 32))
    for i, exif in enumerate((b"Exif\0\0garbage!!", b"Exif\0\0MM\0*\0\0")):
        Image.fromarray(written["cat"][i]).save(tmp_path / "cat" / f"{i}.png", exif=exif)
    np.testing.assert_array_equal(load_domain(f"folder:{tmp_path}").images, written["cat"])


def test_other_formats_are_read_and_what_is_skipped_is_told(tmp_path):
    mine = tmp_path / "mine"
    written = write_tree(mine, cat=(32, 32), dog=(32, 32))
    for suffix in (".webp", ".tif", ".tiff", ".ppm", ".TIF"):
        Image.fromarray(written["cat"][0]).save(mine / "cat" / f"more{suffix}", lossless=True)
    domain = load_domain(f"folder:{mine}")
    assert len(domain) == 9 and "skipped" not in domain.title
    assert all((domain.images[i] == written["cat"][0]).all() for i in (0, *range(2, 7)))
    for name in ("a.heic", "b.heic", "c.avif", "README", ".DS_Store"):
        (mine / "cat" / name).touch()
    (mine / "dog" / "more").mkdir()
    title = load_domain(f"folder:{mine}").title
    assert title.endswith("; 5 skipped as no image (.avif, .heic, folders, no suffix))")


def test_what_an_earlier_decoder_left_in_the_cache_is_not_used(tmp_path, monkeypatch):
    written = write_tree(tmp_path / "mine", cat=(32, 32))
    with monkeypatch.context() as patch:
        patch.setattr(framebench.domains.folder, "DECODER", framebench.domains.folder.DECODER - 1)
        patch.setattr(framebench.domains.folder, "_decode", lambda *_: (np.zeros((32, 32, 3), np.uint8), (32, 32)))
        assert not load_domain(f"folder:{tmp_path / 'mine'}").images.any()
    np.testing.assert_array_equal(load_domain(f"folder:{tmp_path / 'mine'}").images, written["cat"])


@pytest.mark.parametrize(("folders", "message"), [
    (["cat", "lion", "zebra"], r"not named after a class \(lion, zebra\); remove or rename them"),
    ([f"x{i}" for i in range(7)], r"\(x0, x1, x2, x3, x4 and 2 more\)"),
    (["car", "automobile"], "both 'automobile' and 'car' for the class automobile; merge"),
    ([], "contains no folder named after a class"),
])
def test_folders_that_name_no_class_are_refused_by_name(tmp_path, folders, message):
    write_tree(tmp_path, **{name: (32, 32) for name in folders})
    with pytest.raises(InputError, match=message):
        load_domain(f"folder:{tmp_path}")


def test_a_missing_folder_an_empty_one_and_a_broken_image_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        load_domain(f"folder:{tmp_path / 'none'}")
    write_tree(tmp_path, cat=(32, 32))
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match="dog holds no images"):
        load_domain(f"folder:{tmp_path}")
    (tmp_path / "dog" / "a.png").write_bytes((tmp_path / "cat" / "0.png").read_bytes()[:200])
    with pytest.raises(InputError, match="can't decode the image .*a.png"):
        load_domain(f"folder:{tmp_path}")
