from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import timm.data
import torch
from PIL import Image

from framebench.classes import imagenet
from framebench.domains import Reading, load_domain
from framebench.domains.imagenet import SUBSETS
from framebench.errors import InputError

WNIDS, NAMES = imagenet()


def write(folder: Path, *names: str, size: tuple[int, int] = (8, 8)) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (i, i, i)).save(folder / name, "JPEG")


@pytest.mark.parametrize("name", SUBSETS)
def test_the_subsets_are_timms(name):
    words = name.replace("-", "_")
    ours = list(map(int, SUBSETS[name].split()))
    root = Path(timm.data.__file__).parent / "_info"
    assert ours == list(map(int, (root / f"{words}_indices.txt").read_text().split())) == sorted(set(ours))
    assert [WNIDS[label] for label in ours] == (root / f"{words}_synsets.txt").read_text().split()


def test_a_subset_of_the_folders_keeps_its_labels_and_is_named_partial(tmp_path):
    write(tmp_path / "imagenet" / "val", f"{WNIDS[999]}/a.JPEG", f"{WNIDS[7]}/b.JPEG", f"{WNIDS[7]}/a.JPEG",
          size=(300, 260))
    domain = load_domain("imagenet", tmp_path)
    assert domain.labels.tolist() == [7, 7, 999] and domain.classes == NAMES and domain.shape == (224, 224, 3)
    assert domain.images[:][:, 0, 0, 0].tolist() == [2, 1, 0]
    assert domain.title == ("ImageNet validation, partial: 3 of 50000 images, 2 of 1,000 classes; shorter side resized "
                            "to 256 (bilinear), central 224x224")
    assert domain.name == "imagenet" and domain.logits is None
    larger = load_domain("imagenet", tmp_path, Reading(size=288))
    assert larger.shape == (288, 288, 3) and larger.name == "imagenet@329-288-bilinear"


def test_folders_of_no_class_are_refused(tmp_path):
    write(tmp_path / "imagenet" / "val", "n00000000/a.JPEG")
    with pytest.raises(InputError, match="n00000000"):
        load_domain("imagenet", tmp_path)


FLAT = [f"ILSVRC2012_val_{i:08}.JPEG" for i in (1, 2, 3)]


def test_flat_files_with_kaggles_list(tmp_path):
    write(tmp_path / "imagenet" / "val", *FLAT)
    solution = tmp_path / "imagenet" / "LOC_val_solution.csv"
    solution.write_text("ImageId,PredictionString\n" + "".join(
        f"{name[:-5]},{WNIDS[label]} 1 2 3 4 {WNIDS[label]} 5 6 7 8\n" for name, label in
        zip(reversed(FLAT), (5, 800, 2), strict=True)))
    assert load_domain("imagenet", tmp_path).labels.tolist() == [2, 800, 5]
    solution.write_text(solution.read_text().replace(WNIDS[800], "n00000000"))
    with pytest.raises(InputError, match="n00000000"):
        load_domain("imagenet", tmp_path)
    solution.write_text(solution.read_text().splitlines()[0])
    with pytest.raises(InputError, match="ILSVRC2012_val_00000001"):
        load_domain("imagenet", tmp_path)


def write_devkit(folder: Path) -> None:
    """Write a devkit whose numbers are in another order than the wnids."""
    folder.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    synsets = np.zeros((3, 1), dtype=kinds)
    for row, (number, label) in enumerate(((1, 151), (2, 6), (3, 999))):
        synsets[row, 0] = (number, WNIDS[label], NAMES[label], 0)
    scipy.io.savemat(folder / "meta.mat", {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n3\n")


def test_flat_files_with_the_devkit(tmp_path):
    write(tmp_path / "imagenet" / "val", *FLAT)
    with pytest.raises(InputError, match="LOC_val_solution.csv"):
        load_domain("imagenet", tmp_path)
    data = tmp_path / "imagenet" / "ILSVRC2012_devkit_t12" / "data"
    write_devkit(data)
    assert load_domain("imagenet", tmp_path).labels.tolist() == [6, 151, 999]
    (data / "meta.mat").write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"meta\.mat"):
        load_domain("imagenet", tmp_path)


def test_imagenet_v2_has_labels_for_folder_names_not_their_order_as_text(tmp_path):
    write(tmp_path / "imagenetv2-matched-frequency-format-val", "10/a.jpeg", "9/a.jpeg", "100/a.jpeg", "0/a.jpeg")
    domain = load_domain("imagenet-v2", tmp_path)
    assert domain.labels.tolist() == [0, 9, 10, 100] and domain.images[:][:, 0, 0, 0].tolist() == [3, 1, 0, 2]
    assert domain.title.startswith("ImageNet-V2 matched-frequency, partial: 4 of 10000 images")
    write(tmp_path / "imagenetv2-matched-frequency-format-val", "1000/a.jpeg")
    with pytest.raises(InputError, match="1000"):
        load_domain("imagenet-v2", tmp_path)


@pytest.mark.parametrize("name", SUBSETS)
def test_sets_of_200_classes_choose_among_their_logits(tmp_path, name):
    chosen = list(map(int, SUBSETS[name].split()))
    write(tmp_path / name, f"{WNIDS[chosen[150]]}/a.jpg", f"{WNIDS[chosen[3]]}/a.jpg")
    (tmp_path / name / "README.txt").touch()
    domain = load_domain(name, tmp_path)
    assert domain.labels.tolist() == [3, 150] and domain.logits == tuple(chosen)
    assert domain.classes == tuple(NAMES[label] for label in chosen)
    other = next(wnid for label, wnid in enumerate(WNIDS) if label not in chosen)
    write(tmp_path / name, f"{other}/a.jpg")
    with pytest.raises(InputError, match=other):
        load_domain(name, tmp_path)


def test_imagenet_sketch(tmp_path):
    write(tmp_path / "sketch", f"{WNIDS[1]}/a.JPEG")
    assert load_domain("imagenet-sketch", tmp_path).labels.tolist() == [1]


def test_tiny_imagenet_in_the_official_layout_and_in_class_folders(tmp_path):
    official, sorted_ = tmp_path / "official" / "tiny-imagenet-200", tmp_path / "sorted" / "tiny-imagenet-200"
    write(official / "val" / "images", "val_0.JPEG", "val_1.JPEG", "val_2.JPEG", size=(64, 64))
    (official / "wnids.txt").write_text(f"{WNIDS[40]}\n{WNIDS[20]}\n{WNIDS[30]}\n")  # the file is in no order
    (official / "val" / "val_annotations.txt").write_text(
        "".join(f"val_{i}.JPEG\t{WNIDS[label]}\t0\t32\t44\t62\n" for i, label in enumerate((40, 20, 40))))
    domain = load_domain("tiny-imagenet", official.parent)
    assert domain.labels.tolist() == [2, 0, 2] and domain.shape == (64, 64, 3)
    assert domain.classes == (NAMES[20], NAMES[30], NAMES[40]) and "2 of 3 classes" in domain.title
    write(sorted_ / "val", f"{WNIDS[40]}/a.JPEG", f"{WNIDS[20]}/a.JPEG", size=(64, 64))
    assert load_domain("tiny-imagenet", sorted_.parent).labels.tolist() == [0, 1]
    (official / "wnids.txt").write_text(f"{WNIDS[20]}\n")
    with pytest.raises(InputError, match=WNIDS[40]):
        load_domain("tiny-imagenet", official.parent)
    (official / "val" / "val_annotations.txt").write_text(f"val_\0.JPEG\t{WNIDS[40]}\n")  # which no path can have
    with pytest.raises(InputError, match="val_annotations.txt can't be read"):
        load_domain("tiny-imagenet", official.parent)


def test_the_samples_are_foolboxs_with_their_labels():
    domain = load_domain("imagenet-samples")
    assert len(domain) == 20 and domain.shape == (224, 224, 3) and domain.classes == NAMES
    assert [domain.classes[label] for label in domain.labels[[0, 3, 16]]] == ["bull mastiff", "buckeye", "dalmatian"]
    x, y = domain.load([0, 19])
    assert x.shape == (2, 3, 224, 224) and x.is_contiguous(memory_format=torch.channels_last)
    assert y.tolist() == [243, 305]
