"""Corrupted sets that are generated, on the fly and in the cache."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from framebench.classes import CIFAR10
from framebench.domains import load_domain
from framebench.domains.base import Domain
from framebench.domains.corrupted import FileSet, load_corrupted
from framebench.domains.corruptions import NAMES, corrupt
from framebench.domains.generated import GeneratedSet
from framebench.errors import InputError
from framebench.files import cache_folder

FOG, NOISE = ("fog", 2), ("gaussian_noise", 5)
ALL = np.arange(12)


def make_clean(seed: int = 0, n: int = 12) -> Domain:
    images = np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    return Domain("mine", "my images", CIFAR10, images, np.arange(n) % 10)


@pytest.fixture
def clean() -> Domain:
    return make_clean()


def make(clean: Domain, seed: int = 0) -> GeneratedSet:
    return GeneratedSet("mine-c", "mine-c", clean, seed)


@pytest.fixture
def made(monkeypatch) -> list[tuple[str, int]]:
    """The cells that `corrupt` was called for."""
    asked = []

    def counting(images, name, severity, seed=0, ids=None):
        asked.append((name, severity))
        return corrupt(images, name, severity, seed, ids)
    monkeypatch.setattr("framebench.domains.generated.corrupt", counting)
    return asked


def test_a_cell_is_the_clean_set_corrupted_when_asked_for(clean, made):
    found = make(clean, seed=3)
    cell = found.cell(*NOISE)
    assert (cell.name, len(cell), cell.shape, cell.classes) == ("mine-c/gaussian_noise/5", 12, (32, 32, 3),
                                                                CIFAR10)
    np.testing.assert_array_equal(cell.order, clean.order)
    assert len(cell.digest) == 64 and not made
    whole = corrupt(clean.images, *NOISE, seed=3)
    x, y = cell.load([7, 2])
    np.testing.assert_array_equal((x.permute(0, 2, 3, 1).numpy() * 255).round(), whole[[7, 2]])
    assert y.tolist() == [7, 2]
    np.testing.assert_array_equal(cell.images, whole)


def test_made_kept_and_part_are_the_same(clean, made):
    found = make(clean)
    before = {cell: found.cell(*cell).images for cell in (FOG, NOISE)}
    digests = [found.cell(*cell).digest for cell in (FOG, NOISE)]
    steps = []
    folder = found.generate(["fog", "gaussian_noise"], [2, 5], progress=lambda *cell: steps.append(cell))
    assert folder.parent == cache_folder() / "corrupted"
    assert steps == [("fog", 2), ("fog", 5), ("gaussian_noise", 2), ("gaussian_noise", 5)]
    assert found.missing(["fog"], [1, 2, 5]) == [("fog", 1)]
    made.clear()
    for again in (found, make(clean)):
        for cell in (FOG, NOISE):
            np.testing.assert_array_equal(again.cell(*cell).images, before[cell])
            np.testing.assert_array_equal(again.cell(*cell).pixels(np.array([9, 0])), before[cell][[9, 0]])
        assert [again.cell(*cell).digest for cell in (FOG, NOISE)] == digests
        again.generate(["fog", "gaussian_noise"], [2, 5])
    assert not made


def test_the_files_have_the_official_layout(clean):
    folder = make(clean).generate(NAMES[9:11], [1, 2, 3, 4, 5])
    read = FileSet("cifar10-c", folder, clean, in_order=True)
    for corruption in NAMES[9:11]:
        for severity in (1, 5):
            np.testing.assert_array_equal(read.cell(corruption, severity).images,
                                          corrupt(clean.images, corruption, severity))
    np.testing.assert_array_equal(np.load(folder / "labels.npy"), np.tile(clean.labels, 5))


def test_the_manifest_says_what_the_files_are(clean):
    folder = make(clean, seed=4).generate(["fog"], [2])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["title"] == make(clean, seed=4).title and "generated from my images" in manifest["title"]
    assert manifest["seed"] == 4 and manifest["clean"]["sha256"] == clean.digest
    assert manifest["generator"]["version"] == 1 and list(manifest["cells"]) == ["fog/2"]


def test_a_digest_tells_all_that_changes_pixels(clean, monkeypatch):
    found = make(clean)
    digests = {found.cell(*FOG).digest, found.cell("fog", 3).digest, found.cell("snow", 2).digest,
               make(clean, seed=1).cell(*FOG).digest, make(make_clean(1)).cell(*FOG).digest}
    frost = found.cell("frost", 2).digest
    assert len(digests | {frost}) == 6 and found.cell(*FOG).digest == make(make_clean()).cell(*FOG).digest
    monkeypatch.setattr("framebench.domains.generated.generator_facts", lambda: {"frost_digest": "other pictures"})
    assert found.cell("frost", 2).digest != frost and found.cell(*FOG).digest in digests
    monkeypatch.setattr("framebench.domains.generated.VERSION", -1)
    assert found.cell(*FOG).digest not in digests


def test_frost_of_other_pictures_is_made_anew(clean, made, monkeypatch):
    make(clean).generate(["frost", "fog"], [1])
    monkeypatch.setattr("framebench.domains.generated.generator_facts", lambda: {"frost_digest": "other pictures"})
    made.clear()
    make(clean).generate(["frost", "fog"], [1])
    assert made == [("frost", 1)]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "other manifest", "size", "header"])
def test_a_damaged_cell_is_noticed_and_made_anew(clean, made, damage):
    folder = make(clean).generate(["fog"], [2, 3])
    path = folder / "fog.npy"
    if damage == "flip":
        content = bytearray(path.read_bytes())
        content[128 + 12 * 3072 + 5] ^= 1  # in the cell of severity 2
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "remove":
        path.unlink()
    elif damage == "manifest":
        (folder / "manifest.json").write_text('{"cells": {"fog/2"')
    elif damage == "other manifest":
        (folder / "manifest.json").write_text('{"cells": {"fog/2": [1]}}')
    elif damage == "header":  # a bracket that is never closed
        content = path.read_bytes()
        path.write_bytes(content[:128].replace(b"}", b"(") + content[128:])
    else:
        np.save(path, np.zeros((5, 32, 32, 3), np.uint8))
    made.clear()
    found = make(clean)
    np.testing.assert_array_equal(found.cell(*FOG).images, corrupt(clean.images, *FOG))
    assert made == [FOG]  # on the fly
    assert found.missing(["fog"], [2, 3]) == ([FOG] if damage == "flip" else [FOG, ("fog", 3)])
    found.generate(["fog"], [2, 3])
    made.clear()
    for again in (found, make(clean)):
        np.testing.assert_array_equal(again.cell(*FOG).images, corrupt(clean.images, *FOG))
    assert not made


def test_a_killed_generation_goes_on(clean, made, monkeypatch):
    def kill(path, severity, pixels):
        if severity == 2:
            with open(path, "r+b") as file:  # killed while it writes a cell
                file.seek(128 + 12 * 3072 + 5000)
                file.write(b"half a cell")
            raise KeyboardInterrupt
        return write_cell(path, severity, pixels)

    from framebench.domains.cells import write_cell
    monkeypatch.setattr("framebench.domains.generated.write_cell", kill)
    with pytest.raises(KeyboardInterrupt):
        make(clean).generate(["fog"], [1, 3, 2, 4])
    monkeypatch.setattr("framebench.domains.generated.write_cell", write_cell)
    made.clear()
    found = make(clean)
    assert found.missing(["fog"], [1, 3, 2, 4]) == [("fog", 2), ("fog", 4)]
    found.generate(["fog"], [1, 3, 2, 4])
    assert made == [("fog", 2), ("fog", 4)]
    for severity in (1, 2, 3, 4):
        np.testing.assert_array_equal(found.cell("fog", severity).images, corrupt(clean.images, "fog", severity))


def test_workers_make_the_same_files(clean, tmp_path, monkeypatch):
    folders = []
    for workers in (1, 2):
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / str(workers)))
        folders.append(make(clean).generate(["fog", "contrast"], [1, 2], workers=workers))
    one, two = folders
    for file in ("fog.npy", "contrast.npy", "labels.npy"):
        assert (one / file).read_bytes() == (two / file).read_bytes()
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in folders]
    assert manifests[0] == manifests[1] and len(manifests[0]["cells"]) == 4


def test_a_full_disk_is_said_before_anything_is_made(clean, made, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match="2 corrupted cells need 0.00 GB in .*, which has 0.00 GB free"):
        make(clean).generate(["fog"], [1, 2])
    assert not made


def test_a_disk_that_fills_up_or_refuses_is_one_line(clean, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("framebench.domains.generated.write_cell", full)
    with pytest.raises(InputError, match=r"can't write to .*fog.npy \(No space left on device\)"):
        make(clean).generate(["fog"], [1])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="can't write to .*file"):
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
        make(clean).generate(["fog"], [1])


def test_large_cells_are_made_as_they_are_read(made, monkeypatch):
    images = np.random.default_rng(2).integers(0, 256, (6, 130, 150, 3), dtype=np.uint8)
    found = make(Domain("mine", "my images", CIFAR10, images, np.arange(6)))
    assert found.missing(["fog"], [2]) == [FOG]
    monkeypatch.setattr("framebench.domains.generated.LARGEST_KEPT", images.nbytes - 1)
    assert found.missing(["fog"], [2]) == [] and found.generate(["fog"], [2]) == found.files.folder
    assert not made and not found.files.folder.exists()
    cell = found.cell(*FOG)
    got = cell.pixels(np.array([5, 1]))
    np.testing.assert_array_equal(got, corrupt(images[[5, 1]], *FOG, ids=[5, 1], parameters="imagenet"))
    assert cell.shape == (130, 150, 3) and made == [FOG]
    with pytest.raises(InputError, match="severity"):
        found.missing(["fog"], [6])


def test_the_title_says_which_parameters_are_not_those_for_cifar():
    images = np.zeros((2, 224, 224, 3), np.uint8)
    large = make(Domain("mine", "my images", CIFAR10, images, np.arange(2)))
    assert "parameters of imagenet" in large.title and "parameters" not in make(make_clean()).title


def test_names_of_generated_sets(data_root, tmp_path):
    pytest.importorskip("foolbox")
    samples = load_corrupted("samples-c")
    assert samples.title.startswith("samples-c generated from CIFAR-10 test sample (20 lossless images")
    assert samples.clean is not None and samples.clean.name == "samples" and samples.corruptions == NAMES
    cifar = load_corrupted("cifar10-c", data_root, seed=1)
    assert cifar.title.startswith("CIFAR-10-C generated from CIFAR-10 test (lossless class folders), partial")
    assert ", generator v1, seed 1, frost: " in cifar.title and not cifar.official
    tree = load_corrupted(f"folder-c:{data_root / 'cifar10' / 'test'}")
    assert tree.cell("fog", 1).name.startswith("folder-c:/") and len(tree.cell("fog", 1)) == 30
    assert load_domain(tree.cell("fog", 1).name).digest == tree.cell("fog", 1).digest
    with pytest.raises(InputError, match="unknown domain 'nothing'"):
        load_corrupted("nothing-c")


def test_generated_files_in_the_data_root_are_not_called_official(data_root, made):
    load_corrupted("cifar10-c", data_root).generate(["fog"], [1]).rename(data_root / "CIFAR-10-C")
    made.clear()
    found = load_corrupted("cifar10-c", data_root)
    assert isinstance(found, GeneratedSet) and "generated" in found.title
    assert found.cell("fog", 1).images.any() and not made  # read from there
    assert found.cell("fog", 2).images.any() and made == [("fog", 2)]  # not yet written: zeros in the file
