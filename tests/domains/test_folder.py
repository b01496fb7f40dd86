from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framebench.classes import CIFAR10, imagenet
from framebench.domains import Domain, Reading, load_domain
from framebench.errors import InputError

OF_CIFAR10 = Reading(classes=(CIFAR10,))


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


def load(path: Path, reading: Reading = OF_CIFAR10) -> Domain:
    return load_domain(f"folder:{path}", None, reading)


def test_three_of_ten_classes_get_their_labels_by_name(tmp_path):
    written = write_tree(tmp_path / "mine", Truck=(32, 32), cat=(32, 32), DEER=(32, 32))
    (tmp_path / "mine" / ".hidden").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("not a class")
    domain = load(tmp_path / "mine")
    assert [CIFAR10[label] for label in domain.labels] == ["cat", "cat", "deer", "deer", "truck", "truck"]
    np.testing.assert_array_equal(domain.images[:], np.concatenate([written[n] for n in ("cat", "DEER", "Truck")]))
    assert domain.title == ("folder mine (6 images, 3 of 10 classes; missing: airplane, automobile, bird, dog, frog, "
                            "horse, ship)")
    assert domain.first(3).tolist() != [0, 1, 2] and set(domain.labels[domain.first(3)]) == {3, 4, 9}


def test_other_sizes_are_averaged_and_said(tmp_path):
    written = write_tree(tmp_path / "mine" / "test", car=(64, 64), ship=(32, 32))
    domain = load(tmp_path / "mine" / "test")
    assert domain.title.startswith("folder mine/test (4 images, 2 of 10 classes; ")
    assert domain.title.endswith("; 2 resized to 32x32 from 64x64)")
    assert domain.labels.tolist() == [1, 1, 8, 8]
    means = written["car"].reshape(2, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(domain.images[:2] - means).max() <= 1
    np.testing.assert_array_equal(domain.images[2:], written["ship"])
    assert load(tmp_path / "mine" / "test").title == domain.title  # from the cache


def test_a_picture_is_cut_to_its_central_square(tmp_path):
    written = write_tree(tmp_path, cat=(32, 40), dog=(36, 32), frog=(16, 16))
    domain = load(tmp_path)
    np.testing.assert_array_equal(domain.images[:2], written["cat"][:, :, 4:36])
    np.testing.assert_array_equal(domain.images[2:4], written["dog"][:, 2:34])
    assert "6 resized to 32x32 from 3 other sizes" in domain.title


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", "<u2"), (".tif", "<u2"), (".tiff", ">u2")])
def test_16_bit_greys_are_scaled(tmp_path, suffix, dtype):
    grey = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    (tmp_path / "cat").mkdir()
    Image.fromarray(grey.astype(dtype)).save(tmp_path / "cat" / f"0{suffix}")
    image = load(tmp_path).images[0]
    np.testing.assert_array_equal(image, np.rint(grey / 257).astype(np.uint8)[:, :, None].repeat(3, 2))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_values_are_refused(tmp_path, dtype):
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.ones((32, 32), dtype)).save(tmp_path / "cat" / "0.tif")
    with pytest.raises(InputError, match=r"0.tif .*32-bit values.* convert it to 8 bits"):
        load(tmp_path).images[0]


def test_the_exif_orientation_is_not_followed_as_in_torchvision(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    (tmp_path / "cat").mkdir()
    Image.fromarray(pixels).save(tmp_path / "cat" / "0.png", exif=exif)
    np.testing.assert_array_equal(load(tmp_path).images[0], pixels)


def test_an_image_with_damaged_exif_data_is_read_as_it_is(tmp_path):
    written = write_tree(tmp_path, cat=(32, 32))
    for i, exif in enumerate((b"Exif\0\0garbage!!", b"Exif\0\0MM\0*\0\0")):
        Image.fromarray(written["cat"][i]).save(tmp_path / "cat" / f"{i}.png", exif=exif)
    np.testing.assert_array_equal(load(tmp_path).images[:], written["cat"])


def test_other_formats_are_read_and_what_is_skipped_is_told(tmp_path):
    mine = tmp_path / "mine"
    written = write_tree(mine, cat=(32, 32), dog=(32, 32))
    for suffix in (".webp", ".tif", ".tiff", ".ppm", ".TIF"):
        Image.fromarray(written["cat"][0]).save(mine / "cat" / f"more{suffix}", lossless=True)
    domain = load(mine)
    assert len(domain) == 9 and "skipped" not in domain.title
    assert all((domain.images[i] == written["cat"][0]).all() for i in (0, *range(2, 7)))
    for name in ("a.heic", "b.heic", "c.avif", "README", ".DS_Store"):
        (mine / "cat" / name).touch()
    (mine / "dog" / "more").mkdir()
    title = load(mine).title
    assert title.endswith("; 5 skipped as no image (.avif, .heic, folders, no suffix))")


@pytest.mark.parametrize(("folders", "message"), [
    (["cat", "lion", "zebra"], r"not named after a class \(lion, zebra\)"),
    (["cat", *(f"x{i}" for i in range(7))], r"\(x0, x1, x2, x3, x4 and 2 more\)"),
    (["car", "automobile"], "both 'automobile' and 'car' for the class automobile; merge"),
    ([], "no folder of images"),
])
def test_folders_that_name_no_class_of_the_model_are_refused_by_name(tmp_path, folders, message):
    write_tree(tmp_path, **{name: (32, 32) for name in folders})
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_a_missing_folder_an_empty_one_and_a_broken_image_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        load(tmp_path / "none")
    write_tree(tmp_path, cat=(32, 32))
    with pytest.raises(InputError, match="is not a folder"):
        load(tmp_path / "cat" / "0.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match="dog holds no images"):
        load(tmp_path)
    (tmp_path / "dog" / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="can't decode the image .*a.png"):
        load(tmp_path)


def test_without_a_model_the_folders_name_the_classes_and_images_keep_their_size(tmp_path):
    written = write_tree(tmp_path / "mine", wolf=(48, 64), cat=(48, 64), Ant=(48, 64))
    domain = load(tmp_path / "mine", Reading())
    assert domain.classes == ("Ant", "cat", "wolf") and domain.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert domain.shape == (48, 64, 3) and domain.title == "folder mine (6 images, 3 of 3 classes; 64x48)"
    np.testing.assert_array_equal(domain.images[4:], written["wolf"])


def test_a_list_of_classes_orders_them_and_names_those_that_are_missing(tmp_path):
    write_tree(tmp_path / "mine", wolf=(48, 48), cat=(48, 48))
    (tmp_path / "mine" / "classes.txt").write_text("wolf\nfur seal\ncat\n\n")
    domain = load(tmp_path / "mine")  # it counts more than the model's list
    assert domain.classes == ("wolf", "fur seal", "cat") and domain.labels.tolist() == [0, 0, 2, 2]
    assert "2 of 3 classes; missing: fur seal" in domain.title


@pytest.mark.parametrize(("content", "message"), [
    (b"cat\ndog\ncat\n", "cat twice"), (b"\n", "empty"), (b"cat\xff\n", "UTF-8"), (b"dog\n", "cat"),
    (None, "not a file"),
])
def test_a_bad_list_of_classes_is_refused(tmp_path, content, message):
    write_tree(tmp_path, cat=(8, 8))
    if content is None:
        (tmp_path / "classes.txt").mkdir()
    else:
        (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_the_number_of_logits_tells_a_known_list_from_the_folders_names(tmp_path):
    mine = tmp_path / "mine"
    write_tree(mine, cat=(32, 32), truck=(32, 32))
    assert load(mine, Reading(logits=10)).labels.tolist() == [3, 3, 9, 9]
    assert load(mine, Reading(logits=2)).labels.tolist() == [0, 0, 1, 1]


def test_folders_named_by_wnid_get_imagenets_labels_and_size(tmp_path):
    wnids, names = imagenet()
    write_tree(tmp_path, **{wnids[700]: (300, 280), wnids[3]: (256, 400)})
    for reading in (Reading(classes=(CIFAR10, names)), Reading(logits=1000)):
        domain = load(tmp_path, reading)
        assert domain.labels.tolist() == [3, 3, 700, 700] and domain.classes == names
        assert domain.shape == (224, 224, 3) and "2 of 1,000 classes" in domain.title


def test_images_of_several_sizes_need_one_size_which_becomes_part_of_the_name(tmp_path):
    mine = tmp_path / "mine"
    write_tree(mine, cat=(30, 40), wolf=(50, 40))
    with pytest.raises(InputError, match=r"2 sizes \(40x30, 40x50\); give --image-size"):
        load(mine, Reading())
    with pytest.raises(InputError, match="need --image-size"):
        load(mine, Reading(resize=32))
    domains = [load(mine, Reading(size=24)), load(mine, Reading(size=24, resize=32)),
               load(mine, Reading(size=24, interpolation="bicubic"))]
    assert [domain.name for domain in domains] == [
        f"folder:{mine}@{rule}" for rule in ("24-24-bilinear", "32-24-bilinear", "24-24-bicubic")]
    assert len({domain.digest for domain in domains}) == len({domain.title for domain in domains}) == 3
    again = load_domain(domains[2].name)
    assert again.digest == domains[2].digest and again.shape == (24, 24, 3)


def test_names_that_are_not_utf_8(tmp_path):
    written = write_tree(tmp_path, cat=(32, 32))
    (tmp_path / "cat" / "0.png").rename(os.fsdecode(os.fsencode(tmp_path / "cat") + b"/0\xff.png"))
    np.testing.assert_array_equal(load(tmp_path).images[:], written["cat"])  # of files they do no harm
    (tmp_path / "cat").rename(os.fsdecode(os.fsencode(tmp_path) + b"/ca\xff"))
    with pytest.raises(InputError, match=r"ca\\xff is not UTF-8"):
        load(tmp_path)
