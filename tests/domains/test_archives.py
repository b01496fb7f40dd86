from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import zipfile

import pytest

from framebench.domains.archives import unpack
from framebench.domains.sources import SOURCES
from framebench.errors import InputError
from tests.domains.server import tar_of

WANTED = re.compile(r"set/(?P<path>(?:sub/)?[a-c]\.bin)")
GOOD = {"set/a.bin": b"first", "./set/sub/b.bin": b"second", "set/readme.txt": b"not wanted", "set/.a.bin": b"neither"}


@pytest.fixture
def into(tmp_path):
    """The folder to unpack into; the folder around it must not change."""
    folder = tmp_path / "outer" / "into"
    folder.mkdir(parents=True)
    return folder


def _unpack(into, content, size=100, files=3):
    archive = into.parent.parent / "archive"
    archive.write_bytes(content)
    try:
        return unpack(archive, into, WANTED, size=size, files=files)
    finally:
        assert list(into.parent.iterdir()) == [into]
        written = [path for path in into.rglob("*") if not path.is_dir() or path.is_symlink()]
        assert all(path.is_file() and not path.is_symlink() for path in written)
        assert {path.relative_to(into).as_posix() for path in written} <= {"a.bin", "b.bin", "c.bin", "sub/b.bin"}


def _zip_of(members, **options):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _tar_with(*infos, mode="w"):
    """A tar of TarInfos; the contents are zeros."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def _info(name, kind=tarfile.REGTYPE, size=0, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


@pytest.mark.parametrize("pack", [_zip_of, tar_of, lambda members: tar_of(members, "w")], ids=["zip", "tar.gz", "tar"])
def test_wanted_members_and_no_others_are_written(into, pack):
    assert _unpack(into, pack(GOOD)) == 2
    assert {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()} == {
        "a.bin": b"first", "sub/b.bin": b"second"}


@pytest.mark.parametrize("name", [
    "../a.bin", "set/../../a.bin", "/set/a.bin", "//set/a.bin", "./../a.bin", "C:set/a.bin", "C:\\a.bin", "set\\a.bin",
    ".//./..//a.bin",
])
@pytest.mark.parametrize("pack", [_zip_of, tar_of], ids=["zip", "tar.gz"])
def test_names_that_lead_out_of_the_folder(into, pack, name):
    with pytest.raises(InputError, match="a name that leads out of its folder"):
        _unpack(into, pack({name: b"evil"}))
    assert not list(into.iterdir())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
                                  tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE, b"?"])
def test_links_and_devices_where_a_file_must_be(into, kind):
    with pytest.raises(InputError, match="contains set/a.bin as a link"):
        _unpack(into, _tar_with(_info("set/a.bin", kind, link="../../secret")))
    assert not list(into.iterdir())


def test_a_link_in_a_zip(into):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("set/a.bin")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="as a link"):
        _unpack(into, out.getvalue())


def test_a_file_behind_a_linked_folder_stays_inside(into):
    """The archive first makes set/sub a link to another folder, then writes through it."""
    link = _info("set/sub", tarfile.SYMTYPE, link=str(into.parent.parent))
    assert _unpack(into, _tar_with(link, _info("set/sub/b.bin", size=3))) == 1
    assert not (into / "sub").is_symlink() and (into / "sub" / "b.bin").read_bytes() == bytes(3)


@pytest.mark.parametrize("names", [("set/a.bin", "set/a.bin"), ("set/a.bin", "./set/a.bin")])
def test_the_same_name_twice(into, names):
    with pytest.raises(InputError, match="twice"):
        _unpack(into, _tar_with(*(_info(name, size=2) for name in names)))


@pytest.mark.parametrize("content", [
    lambda: _tar_with(_info("set/a.bin", size=3 << 20), mode="w:gz"),
    lambda: _tar_with(_info("set/a.bin", size=900_000), _info("set/b.bin", size=900_000), mode="w:gz"),
    lambda: _zip_of({"set/a.bin": bytes(3 << 20)}, compression=zipfile.ZIP_DEFLATED),
], ids=["one", "many", "zip"])
def test_bombs_of_wanted_bytes(into, content):
    with pytest.raises(InputError, match="unpacks to far more than the 100 bytes"):
        _unpack(into, content())
    assert sum(path.stat().st_size for path in into.rglob("*")) < 1_050_000


def test_a_bomb_of_bytes_that_are_passed_over(into):
    """Only its header is there: the stated size is enough to refuse it."""
    header = _info("elsewhere", size=1 << 40).tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(InputError, match="unpacks to far more"):
        _unpack(into, header)


def test_a_bomb_of_members(into):
    with pytest.raises(InputError, match="too many members"):
        _unpack(into, gzip.compress(_info("set/x").tobuf() * 10_100))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_bomb_of_a_header(into, kind):
    """tarfile reads such headers into memory as a whole, before it returns a member."""
    content = gzip.compress(_info("x", kind, size=200 << 20).tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    with pytest.raises(InputError, match="a header claims to be 209,7"):
        _unpack(into, content)


def test_a_member_of_negative_size_ends(into):
    """Older versions of tarfile read such a header again and again (CVE-2025-8194)."""
    buffer = bytearray(_info("set/z", size=512).tobuf(tarfile.GNU_FORMAT))
    buffer[124:136] = (256**12 - 512).to_bytes(12, "big")
    buffer[148:156] = b"        "
    buffer[148:156] = b"%06o\0 " % sum(buffer)
    with pytest.raises(InputError, match="'set/z' claims to be -512 bytes long"):
        _unpack(into, _info("set/y").tobuf(tarfile.GNU_FORMAT) + bytes(buffer) + bytes(2048))


@pytest.mark.parametrize("spoil", [
    lambda content: content[:512], lambda content: content[: len(content) // 2], lambda content: b"",
    lambda content: b"\x1f\x8b\x08 not really", lambda content: b"PK\x03\x04 not really", lambda content: b"word" * 500,
], ids=["header", "half", "empty", "gzip", "zip", "text"])
def test_damaged_archives(into, spoil):
    content = tar_of({"set/a.bin": bytes(range(256)) * 40}, "w")
    with pytest.raises(InputError, match="is damaged"):
        _unpack(into, spoil(content), size=20_000)


def test_a_damaged_zip_member(into):
    content = bytearray(_zip_of({"set/a.bin": b"some bytes"}))
    content[content.index(b"some")] ^= 1
    with pytest.raises(InputError, match="is damaged"):
        _unpack(into, bytes(content))


def test_a_zip_member_whose_name_begins_with_its_end(into):
    content = _zip_of({"z.bin": b"some bytes"}).replace(b"z.bin", b"\0.bin")
    with pytest.raises(InputError, match="leads out of its folder"):
        _unpack(into, content)


@pytest.mark.parametrize(("name", "member", "path"), [
    ("cifar10", "cifar-10-batches-py/data_batch_5", "data_batch_5"),
    ("cifar10", "cifar-10-batches-py/batches.meta", "batches.meta"),
    ("cifar100", "cifar-100-python/train", "train"),
    ("cifar10-c", "CIFAR-10-C/gaussian_noise.npy", "gaussian_noise.npy"),
    ("cifar100-c", "CIFAR-100-C/labels.npy", "labels.npy"),
    ("cinic10", "train/airplane/n02691156_10168.png", "train/airplane/n02691156_10168.png"),
    ("cinic10", "CINIC-10/valid/truck/cifar10-train-15.png", "valid/truck/cifar10-train-15.png"),
    ("cifar10.1", "CIFAR-10.1-master/datasets/cifar10.1_v6_data.npy", "cifar10.1_v6_data.npy"),
    ("cifar10.2", "cifar102_train.npz", "cifar102_train.npz"),
    ("stl10", "stl10_binary/unlabeled_X.bin", "unlabeled_X.bin"),
    ("imagenet-v2", "imagenetv2-matched-frequency-format-val/10/0af3f1b5.jpeg", "10/0af3f1b5.jpeg"),
    ("imagenet-a", "imagenet-a/n01498041/0.000116_digital clock _ digital clock_0.865662.jpg",
     "n01498041/0.000116_digital clock _ digital clock_0.865662.jpg"),
    ("imagenet-r", "imagenet-r/n01443537/art_0.jpg", "n01443537/art_0.jpg"),
    ("tiny-imagenet", "tiny-imagenet-200/val/val_annotations.txt", "val/val_annotations.txt"),
    ("tiny-imagenet", "tiny-imagenet-200/train/n01443537/images/n01443537_0.JPEG",
     "train/n01443537/images/n01443537_0.JPEG"),
    ("imagenet-a", "imagenet-a/README.txt", None),
    ("cifar10", "cifar-10-batches-py/readme.html", None),
    ("cifar10", "cifar-10-batches-py/data_batch_6", None),
    ("cifar10-c", "CIFAR-10-C/sub/fog.npy", None),
    ("cifar10-c", "CIFAR-10-C/evil.npy", None),
    ("cinic10", "train/airplane/._n02691156_10168.png", None),
    ("cinic10", "train/airplane/x/n02691156_10168.png", None),
    ("cinic10", "train/lorry/n02691156_10168.png", None),
    ("stl10", "stl10_binary/train_X.bin.exe", None),
    ("cifar10.1", "xcifar10.1_v6_data.npy", None),
])
def test_what_is_wanted_of_the_real_archives(name, member, path):
    match = SOURCES[name].wanted.fullmatch(member)
    assert (match and match["path"]) == path
