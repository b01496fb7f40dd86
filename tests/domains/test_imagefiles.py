from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from framebench.classes import CIFAR10
from framebench.domains import Reading, load_domain
from framebench.domains.imagefiles import INTERPOLATIONS, ImageFiles, Resizing
from framebench.errors import InputError


def picture(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(300, 400), (511, 333), (256, 301), (100, 77), (224, 224), (257, 256)])
def test_resizing_is_torchvisions_to_the_bit(size, interpolation):
    if interpolation == "box" and min(size) < 256:
        return  # there it enlarges bilinearly
    image = picture(*size)
    wanted = transforms.Compose([
        transforms.Resize(256, interpolation=transforms.InterpolationMode[interpolation.upper()]),
        transforms.CenterCrop(224)])(image)
    np.testing.assert_array_equal(np.asarray(Resizing(256, 224, interpolation)(image)), np.asarray(wanted))


def test_a_box_enlarges_bilinearly():
    image = picture(16, 20)
    np.testing.assert_array_equal(np.asarray(Resizing(32, 32, "box")(image)),
                                  np.asarray(Resizing(32, 32, "bilinear")(image)))


@pytest.mark.parametrize("rule", [(200, 224, "bilinear"), (0, 0, "bilinear"), (256, 224, "cubic")])
def test_rules_that_can_not_be_are_refused(rule):
    with pytest.raises(InputError):
        Resizing(*rule)


@pytest.mark.parametrize(("mode", "suffix"), [
    ("L", "png"), ("RGBA", "png"), ("P", "png"), ("LA", "png"), ("1", "png"), ("CMYK", "jpg"), ("L", "jpg"),
    ("CMYK", "tif"), ("RGBA", "webp"), ("P", "bmp")])
def test_all_colour_modes_are_converted_as_pillow_does(tmp_path, mode, suffix):
    path = tmp_path / f"0.{suffix}"
    picture(24, 24, mode).save(path)
    files = ImageFiles(tmp_path, [path.name], None, (24, 24))
    np.testing.assert_array_equal(files[0], np.asarray(Image.open(path).convert("RGB")))


def test_transparency_of_a_palette_changes_no_pixel_and_is_not_warned_of(tmp_path, recwarn):
    image = picture(24, 24).quantize(8)
    image.save(tmp_path / "0.png", transparency=bytes(range(0, 256, 32)))
    np.testing.assert_array_equal(ImageFiles(tmp_path, ["0.png"], None, (24, 24))[0], np.asarray(image.convert("RGB")))
    assert not len(recwarn)


@pytest.fixture
def files(tmp_path):
    """Five images of 40x48, cut to 32x32."""
    (tmp_path / "cat").mkdir()
    for i in range(5):
        picture(40, 48, seed=i).save(tmp_path / "cat" / f"{i}.png")
    return ImageFiles(tmp_path, [f"cat/{i}.png" for i in range(5)], Resizing(32, 32))


def test_files_are_like_an_array(files):
    whole = files[:]
    assert files.shape == whole.shape == (5, 32, 32, 3) and files.dtype == whole.dtype == np.uint8
    assert files.ndim == whole.ndim and len(files) == len(whole)
    np.testing.assert_array_equal(files[np.array([3, 0, 3])], whole[[3, 0, 3]])
    np.testing.assert_array_equal(files[-1], whole[4])
    assert files[np.array([], dtype=np.int64)].shape == (0, 32, 32, 3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(files))[:], whole)  # workers are sent them
    with pytest.raises(IndexError):
        files[5]


def test_only_what_is_asked_for_is_in_memory(tmp_path):
    picture(300, 300).save(tmp_path / "0.jpg")
    files = ImageFiles(tmp_path, ["0.jpg"] * 5000, Resizing(256, 224))
    tracemalloc.start()
    files[np.arange(8)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * files[0].nbytes + 300 * 300 * 3 * 8


def test_batches_are_what_load_gives_and_stop_anywhere(tmp_path, files):
    domain = load_domain(f"folder:{files.root / 'cat'}/..", None, Reading(size=32, classes=(CIFAR10,)))
    ids = np.array([4, 2, 0, 1, 3])
    x, y = domain.load(ids)
    got = list(domain.batches(ids, 2))
    assert [part.tolist() for part, _, _ in got] == [[4, 2], [0, 1], [3]]
    assert (np.concatenate([images.numpy() for _, images, _ in got]) == x.numpy()).all()
    assert np.concatenate([labels for _, _, labels in got]).tolist() == y.tolist()
    assert len(next(domain.batches(ids, 2))[0]) == 2 and list(domain.batches(ids[:0], 2)) == []


def test_the_digest_is_of_bytes_order_and_rule_and_is_kept(files, monkeypatch):
    digest, names = files.digest, list(files.names)
    others = [ImageFiles(files.root, names[::-1], files.rule), ImageFiles(files.root, names, Resizing(40, 32)),
              ImageFiles(files.root, names[:4], files.rule)]
    assert len({digest, *(other.digest for other in others)}) == 4
    moved = files.root.with_name("moved")
    files.root.rename(moved)
    assert ImageFiles(moved, names, files.rule).digest == digest

    with monkeypatch.context() as patch:
        patch.setattr("framebench.domains.imagefiles.file_digest", lambda *_: pytest.fail("read again"))
        assert ImageFiles(moved, names, files.rule).digest == digest
    picture(40, 48, seed=9).save(moved / "cat" / "0.png")
    assert ImageFiles(moved, names, files.rule).digest != digest


def test_a_damaged_cache_is_not_used(files, tmp_path):
    digest = files.digest
    (kept,) = (tmp_path / "cache" / "files").glob("sha256-*")
    kept.write_bytes(kept.read_bytes().replace(b"0", b"1").replace(b"2", b"3"))
    assert ImageFiles(files.root, files.names, files.rule).digest == digest


def bomb() -> bytes:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


BROKEN = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "no image": lambda path: path.write_text("no image"),
    "empty": lambda path: path.write_bytes(b""),
    "eps": lambda path: picture(8, 8).save(path, "EPS"),
    "bomb": lambda path: path.write_bytes(bomb()),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "dangling": lambda path: (path.unlink(), path.symlink_to("/no/such/file")),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_and_left_out_only_if_asked(tmp_path, kind):
    for name in ("cat", "dog"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(3):
            picture(40, 48, seed=i).save(tmp_path / "mine" / name / f"{i}.png")
    whole = load_domain(f"folder:{tmp_path / 'mine'}").images[:]
    BROKEN[kind](tmp_path / "mine" / "dog" / "1.png")
    with pytest.raises(InputError, match=r"dog/1\.png .*--skip-broken") as caught:
        load_domain(f"folder:{tmp_path / 'mine'}", None, Reading(size=32)).images[np.arange(6)]
    assert "\n" not in str(caught.value)
    if kind in ("pipe", "folder", "dangling"):
        with pytest.raises(InputError, match=r"dog/1\.png"):
            _ = load_domain(f"folder:{tmp_path / 'mine'}", None, Reading(size=32)).digest
    for _ in range(2):  # the second time from the cache
        domain = load_domain(f"folder:{tmp_path / 'mine'}", None, Reading(skip_broken=True))
        assert domain.labels.tolist() == [0, 0, 0, 1, 1] and "1 broken images left out" in domain.title
        np.testing.assert_array_equal(domain.images[:], whole[[0, 1, 2, 3, 5]])


def test_where_all_are_broken_there_is_nothing_to_evaluate(tmp_path):
    (tmp_path / "mine" / "cat").mkdir(parents=True)
    (tmp_path / "mine" / "cat" / "0.png").write_text("no image")
    with pytest.raises(InputError, match="no images that can be decoded"):
        load_domain(f"folder:{tmp_path / 'mine'}", None, Reading(skip_broken=True))


def test_a_file_that_changes_its_size_later_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    picture(40, 48).save(tmp_path / "cat" / "0.png")
    files = ImageFiles(tmp_path, ["cat/0.png"], None, (40, 48))
    picture(48, 40).save(tmp_path / "cat" / "0.png")
    with pytest.raises(InputError, match="40x48"):
        files[0]
