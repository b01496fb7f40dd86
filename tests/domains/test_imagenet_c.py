"""ImageNet-C and Tiny ImageNet-C, read from image files in the official layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framebench.classes import imagenet
from framebench.domains import load_domain
from framebench.domains.corrupted import load_corrupted
from framebench.domains.corruptions import corrupt
from framebench.domains.generated import GeneratedSet
from framebench.domains.imagenet_c import ImageSet
from framebench.domains.reading import Reading
from framebench.errors import InputError

#: Labels of three classes, and the files of each.
FILES = {0: ("ILSVRC2012_val_00000007", "ILSVRC2012_val_00000002"), 5: ("ILSVRC2012_val_00000004",),
         999: ("ILSVRC2012_val_00000001",)}


def write_image(path: Path, level: int, side: int = 224) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (level, level, level)).save(path, "JPEG")


def write_cell(folder: Path, level: int) -> None:
    """Write the files of a cell; the last digit of a name is added to the level."""
    for label, names in FILES.items():
        for name in names:
            write_image(folder / imagenet().wnids[label] / f"{name}.JPEG", level + int(name[-1]))


@pytest.fixture
def root(tmp_path) -> Path:
    write_cell(tmp_path / "ImageNet-C" / "fog" / "1", 100)
    write_cell(tmp_path / "ImageNet-C" / "fog" / "3", 200)
    write_cell(tmp_path / "ImageNet-C" / "noise" / "shot_noise" / "3", 50)
    return tmp_path


def levels(domain) -> list[int]:
    return domain.pixels(np.arange(len(domain)))[:, 0, 0, 0].tolist()


def test_cells_are_read_from_folders_with_and_without_those_of_the_archives(root):
    found = load_corrupted("imagenet-c", root)
    assert isinstance(found, ImageSet) and found.corruptions == ("shot_noise", "fog") and not found.official
    cell = found.cell("fog", 3)
    assert levels(cell) == [202, 207, 204, 201] and cell.labels.tolist() == [0, 0, 5, 999]
    assert cell.shape == (224, 224, 3) and len(cell.classes) == 1000
    assert levels(found.cell("shot_noise", 3)) == [52, 57, 54, 51]
    assert "partial: 4 of 50,000 images; without gaussian_noise" in found.title and "generated" not in found.title
    assert load_domain("imagenet-c/fog/3", root).digest == cell.digest != found.cell("fog", 1).digest
    assert found.missing(["fog"], [3]) == [] and found.generate(["fog"], [3]) is None


def test_ids_are_those_of_the_clean_images(root):
    assert load_corrupted("imagenet-c", root).clean is None and "imagenet" in load_corrupted("imagenet-c", root).hint
    flat = root / "imagenet" / "val"
    for label, names in FILES.items():
        for name in names:
            write_image(flat / f"{name}.JPEG", label % 256)
    (root / "imagenet" / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(
        f"{name},{imagenet().wnids[label]} 1 1 2 2\n" for label, names in FILES.items() for name in names))
    found = load_corrupted("imagenet-c", root)
    assert found.clean is not None and found.clean.labels.tolist() == [999, 0, 5, 0] and not found.hint
    assert levels(found.cell("fog", 1)) == [101, 102, 104, 107]
    np.testing.assert_array_equal(found.cell("fog", 1).labels, found.clean.labels)
    (flat / "ILSVRC2012_val_00000001.JPEG").unlink()
    found = load_corrupted("imagenet-c", root)
    assert found.clean is None and "other files" in found.hint


def test_another_size_is_made_only_if_asked_for(root):
    write_image(root / "ImageNet-C" / "fog" / "3" / imagenet().wnids[5] / "ILSVRC2012_val_00000004.JPEG", 9, 299)
    with pytest.raises(InputError, match="299x299"):
        levels(load_corrupted("imagenet-c", root).cell("fog", 3))
    found = load_corrupted("imagenet-c", root, reading=Reading(size=96))
    assert found.cell("fog", 3).shape == (96, 96, 3) and "@" in found.name and levels(found.cell("fog", 3))[2] == 9


def test_tiny_imagenet_c(tmp_path):
    wnids = sorted(imagenet().wnids[label] for label in range(3, 1000, 5))
    for i, wnid in enumerate(wnids[:200]):
        write_image(tmp_path / "Tiny-ImageNet-C" / "frost" / "2" / wnid / f"test_{i}.JPEG", i, 64)
        write_image(tmp_path / "tiny-imagenet" / "val" / wnid / f"test_{i}.JPEG", i, 64)  # other images
    found = load_corrupted("tiny-imagenet-c", tmp_path)
    assert found.clean is None and not found.hint
    cell = found.cell("frost", 2)
    assert levels(cell) == list(range(200)) == cell.labels.tolist() and cell.shape == (64, 64, 3)


@pytest.mark.parametrize(("change", "message"), [
    (lambda folder: write_image(folder / "fog" / "3" / imagenet().wnids[5] / "more.JPEG", 1), "other files"),
    (lambda folder: write_image(folder / "fog" / "3" / "n0" / "more.JPEG", 1), "n0"),
    (lambda folder: (folder / "fog" / "3").rename(folder / "fog" / "4"), "missing"),
    (lambda folder: (folder / "fog").rename(folder / "mist"), "unknown corruption"),
    (lambda folder: [entry.rename(folder / f"my-{entry.name}") for entry in list(folder.iterdir())], "such as fog/3"),
])
def test_incomplete_cells_are_refused(root, change, message):
    change(root / "ImageNet-C")
    with pytest.raises(InputError, match=message):
        load_corrupted("imagenet-c", root).cell("fog", 3)


def test_tiny_imagenet_c_needs_all_its_classes(tmp_path):
    write_image(tmp_path / "Tiny-ImageNet-C" / "frost" / "2" / "n01443537" / "test_0.JPEG", 1, 64)
    with pytest.raises(InputError, match="1 class folders, not 200"):
        load_corrupted("tiny-imagenet-c", tmp_path)


def test_without_the_files_it_is_generated_from_the_clean_images(tmp_path):
    rng = np.random.default_rng(0)
    for label in (0, 7):
        path = tmp_path / "imagenet" / "val" / imagenet().wnids[label] / "a.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (256, 300, 3), dtype=np.uint8)).save(path)
    found = load_corrupted("imagenet-c", tmp_path, seed=4)
    assert isinstance(found, GeneratedSet) and found.title.startswith("ImageNet-C generated from ImageNet")
    assert found.clean is not None
    one = np.array([1])
    np.testing.assert_array_equal(found.cell("snow", 5).pixels(one),
                                  corrupt(found.clean.pixels(one), "snow", 5, 4, one))
    with pytest.raises(InputError, match="tiny-imagenet"):
        load_corrupted("tiny-imagenet-c", tmp_path)
