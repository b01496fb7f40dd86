from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

import framebench.domains.archives
import framebench.domains.download
from framebench.domains import load_domain
from framebench.domains.contents import checksums, class_folders
from framebench.domains.download import Part, Patience
from framebench.domains.fetch import fetch
from framebench.domains.sources import SOURCES, Download
from framebench.errors import InputError
from tests.domains.server import ARCHIVE, CONTENT, md5, noise, packed, plain, says, tar_of

QUICK = Patience(timeout=0.3, tries=2, pause=0.01)


def _fetch(source, root, **options):
    return fetch(source, root, patience=QUICK, **options)


def _files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_archive_becomes_a_folder(server, tmp_path):
    root = tmp_path / "new" / "root"
    assert _fetch(packed(server), root) == f"toy: wrote {root / 'toy'}, checked"
    assert _files(root) == {f"toy/{name}": content for name, content in CONTENT.items()}


def test_plain_files_become_a_folder(server, tmp_path):
    said = _fetch(plain(server), tmp_path)
    assert _files(tmp_path) == {f"toys/{name}": content for name, content in CONTENT.items()}
    assert "no checksum of b.bin is published" in said and hashlib.sha256(CONTENT["b.bin"]).hexdigest() in said


@pytest.mark.parametrize("kind", [packed, plain])
def test_what_is_there_is_not_fetched_again(server, tmp_path, kind):
    source = kind(server)
    _fetch(source, tmp_path)
    before, asked = _files(tmp_path), len(server.requests)
    assert "nothing to do" in _fetch(source, tmp_path)
    assert len(server.requests) == asked and _files(tmp_path) == before


@pytest.mark.parametrize("kind", [packed, plain])
def test_what_is_there_but_not_whole_is_replaced_by_force_only(server, tmp_path, kind):
    source = kind(server)
    folder = tmp_path / source.folder
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "mine.txt").write_text("mine")
    (folder / "a.bin").write_bytes(b"a part of it")
    with pytest.raises(InputError, match=r"not the complete official set \(a.bin: the md5 of its.*--force replaces it"):
        _fetch(source, tmp_path)
    assert not server.requests and (folder / "a.bin").read_bytes() == b"a part of it"
    _fetch(source, tmp_path, force=True)
    assert _files(folder) == {**CONTENT, "notes/mine.txt": b"mine"}
    assert list(tmp_path.iterdir()) == [folder]


def test_force_takes_over_what_lies_below_but_not_images_among_the_sets_own(server, tmp_path):
    archive = tar_of({"train/cat/1.png": b"one"})
    source = replace(
        packed(server, archive), members=r"(?P<path>train/cat/\d\.png)", files=1,
        downloads=tuple(replace(item, size=len(archive), checksum=md5(archive)) for item in packed(server).downloads),
        checks=(class_folders(["train"], ["cat"], 1),))
    server.files["toy.tar.gz"] = archive
    mine = {"train/my_notes.txt": b"mine", "train/cat/labels.csv": b"mine", "photos/cat.png": b"mine"}
    for name, content in {**mine, "train/cat/1.png": b"damaged", "train/cat/2.png": b"not of the set"}.items():
        (tmp_path / "toy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "toy" / name).write_bytes(content)
    _fetch(source, tmp_path, force=True)
    assert _files(tmp_path) == {f"toy/{name}": content for name, content in {**mine, "train/cat/1.png": b"one"}.items()}
    assert "nothing to do" in _fetch(source, tmp_path)


def test_a_forced_fetch_that_fails_leaves_what_is_there(server, tmp_path):
    source = packed(server)
    _fetch(source, tmp_path)
    server.answers = [says(noise(len(ARCHIVE), seed=8))]
    with pytest.raises(InputError, match="can't download toy.tar.gz"):
        _fetch(source, tmp_path, force=True)
    assert _files(tmp_path) == {f"toy/{name}": content for name, content in CONTENT.items()}


def test_a_download_is_kept_where_the_rest_fails(server, tmp_path):
    server.answers = [server.cut(at=300_000), says(b"", 404)]
    source = packed(server)
    with pytest.raises(InputError, match=r"HTTP 404.*by hand and give it with --archive FILE"):
        _fetch(source, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".toy.tar.gz.part", ".toy.tar.gz.part.version"]
    _fetch(source, tmp_path)
    assert server.requests[-1]["Range"] == "bytes=300000-" and _files(tmp_path / "toy") == CONTENT


@pytest.mark.parametrize(("kind", "address"), [(packed, "{}/mirror/toy.tgz"), (plain, "{}/mirror/"),
                                               (plain, "{}/mirror")])
def test_a_mirror(server, tmp_path, kind, address):
    source = kind(server)
    server.files = {"mirror/toy.tgz": ARCHIVE, **{f"mirror/{name}": content for name, content in CONTENT.items()}}
    _fetch(source, tmp_path, url=address.format(server.url))
    assert _files(tmp_path / source.folder) == CONTENT


def test_a_mirror_must_have_the_same_bytes(server, tmp_path):
    source = packed(server)
    server.files["other"] = noise(len(ARCHIVE), seed=8)
    with pytest.raises(InputError, match=f"can't download toy.tar.gz .*download {server.url}/other by hand"):
        _fetch(source, tmp_path, url=f"{server.url}/other")
    with pytest.raises(InputError, match="is not an http or https address"):
        _fetch(source, tmp_path, url="file:///etc/passwd")
    assert not list(tmp_path.iterdir())


def test_a_local_archive(server, tmp_path):
    archive, root = tmp_path / "toy.tar.gz", tmp_path / "root"
    archive.write_bytes(ARCHIVE)
    _fetch(packed(server), root, archive=archive)
    assert _files(root / "toy") == CONTENT and archive.read_bytes() == ARCHIVE and not server.requests


def test_several_archives_become_one_folder(server, tmp_path):
    archives = {f"{name[0]}.tar": tar_of({f"toy/{name}": content}, "w") for name, content in CONTENT.items()}
    source = replace(packed(server), downloads=tuple(
        Download(name, (f"{server.url}/{name}",), len(content), md5(content)) for name, content in archives.items()))
    server.files = {**archives, **{f"mirror/{name}": content for name, content in archives.items()}}
    given = tmp_path / "given"
    given.mkdir()
    for name, content in archives.items():
        (given / name).write_bytes(content)
    for root, options in (("a", {}), ("b", {"url": f"{server.url}/mirror/"}), ("c", {"archive": given})):
        _fetch(source, tmp_path / root, **options)
        assert _files(tmp_path / root) == {f"toy/{name}": content for name, content in CONTENT.items()}
    with pytest.raises(InputError, match="needs the folder with a.tar, b.tar"):
        _fetch(source, tmp_path / "d", archive=given / "a.tar")
    (given / "b.tar").write_bytes(archives["a.tar"])
    with pytest.raises(InputError, match="is not the official b.tar"):
        _fetch(source, tmp_path / "d", archive=given)
    assert not list((tmp_path / "d").iterdir())


@pytest.mark.parametrize("pack", ["folder", "tar.gz", "zip"])
def test_local_plain_files(server, tmp_path, pack):
    source, given, root = plain(server), tmp_path / "given", tmp_path / "root"
    (given / "sub").mkdir(parents=True)
    for name, content in CONTENT.items():
        (given / name).write_bytes(content)
    (given / "readme").write_bytes(b"not wanted")
    if pack != "folder":  # like the "download as zip" of a code host: the files are in a folder
        given = shutil.move(shutil.make_archive(tmp_path / "x", {"tar.gz": "gztar"}.get(pack, pack), tmp_path, "given"),
                            tmp_path / "packed")
    _fetch(source, root, archive=given)
    assert _files(root / "toys") == CONTENT and not server.requests


@pytest.mark.parametrize(("kind", "content", "message"), [
    (packed, b"<html>please log in</html>", "is a web page, not toy.tar.gz"),
    (packed, ARCHIVE[:-1], r"is not the official toy.tar.gz \(it has .* bytes, not"),
    (packed, noise(len(ARCHIVE)), r"is not the official toy.tar.gz \(the md5 of its bytes"),
    (packed, None, "is a folder; for toy, --archive needs the file toy.tar.gz"),
    (plain, None, "--archive must contain a.bin"),
    (plain, b"no archive", "is damaged"),
    (plain, tar_of({"a.bin": CONTENT["a.bin"]}), "not the complete official set .b.bin is missing"),
    (plain, tar_of({**CONTENT, "a.bin": noise(700_000, seed=8)}), "not the complete official set .a.bin: the md5"),
])
def test_local_files_that_are_something_else(server, tmp_path, kind, content, message):
    given, root = tmp_path / "given", tmp_path / "root"
    if content is None:
        given.mkdir()
    else:
        given.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        _fetch(kind(server), root, archive=given)
    assert "\n" not in str(error.value) and not list(root.iterdir()) and given.exists()


def test_no_local_file(server, tmp_path):
    with pytest.raises(InputError, match="there is no .*none; --archive needs"):
        _fetch(packed(server), tmp_path / "root", archive=tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_what_was_unpacked_is_checked_before_it_gets_its_name(server, tmp_path):
    source = replace(packed(server), checks=(checksums({"c.bin": "md5:0"}),))
    with pytest.raises(InputError, match=r"toy is not the complete official set \(c.bin is missing\)"):
        _fetch(source, tmp_path)
    assert not (tmp_path / "toy").exists()


def test_a_wrong_file_without_a_checksum_is_not_kept_for_the_next_call(server, tmp_path):
    source = plain(server)
    server.files["b.bin"] = noise(50_000, seed=8)
    with pytest.raises(InputError, match="not the complete official set .b.bin: the md5"):
        _fetch(source, tmp_path)
    server.files["b.bin"] = CONTENT["b.bin"]
    _fetch(source, tmp_path)
    assert _files(tmp_path / "toys") == CONTENT


def test_room_is_checked_first(server, tmp_path):
    with pytest.raises(InputError, match=r"toy needs another .* GB under .* GB free; free some space"):
        _fetch(replace(packed(server), unpacked=10**18), tmp_path)
    assert not server.requests and not list(tmp_path.iterdir())


def test_a_full_disk_is_said(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(InputError, match="can't fetch toy into .*No space left on device.*choose another --data-root"):
        _fetch(packed(server), tmp_path)
    assert not (tmp_path / "toy").exists() and not (tmp_path / ".toy.unpacking").exists()


def test_a_place_that_can_not_be_used(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't fetch toy into"):
        _fetch(packed(server), tmp_path / "file")
    (tmp_path / "toy").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link or a file"):
        _fetch(packed(server), tmp_path, force=True)


def test_one_fetch_at_a_time(server, tmp_path):
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another fetch is writing to"):
        _fetch(packed(server), tmp_path)
    os.close(handle)
    _fetch(packed(server), tmp_path)


@pytest.mark.parametrize("kind", [packed, plain])
def test_interrupted_after_the_download_nothing_is_downloaded_again(server, tmp_path, monkeypatch, kind):
    def interrupted(*_):
        raise KeyboardInterrupt
    source = replace(kind(server), downloads=tuple(replace(item, checksum=md5(server.files[item.name]))
                                                   for item in kind(server).downloads))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("framebench.domains.fetch._exchange", interrupted)
        _fetch(source, tmp_path)
    asked = len(server.requests)
    _fetch(source, tmp_path)
    assert _files(tmp_path / source.folder) == CONTENT and len(server.requests) == asked


class _KilledError(BaseException):
    pass


def _killed(monkeypatch, step, work):
    """Run `work` until file operation number `step`; after that none succeeds, as in a killed process."""
    left = step

    def dying(function):
        def wrapped(*arguments, **options):
            nonlocal left
            left -= 1
            if left <= 0:
                raise _KilledError
            return function(*arguments, **options)
        return wrapped

    with monkeypatch.context() as patch:
        for name in ("rename", "link", "mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, dying(getattr(os, name)))
        patch.setattr(framebench.domains.download, "_read", dying(framebench.domains.download._read))
        patch.setattr(framebench.domains.archives, "_write", dying(framebench.domains.archives._write))
        patch.setattr(Part, "restart", dying(Part.restart))
        try:
            work()
        except _KilledError:
            return True
    return False


@pytest.mark.parametrize("kind", [packed, plain])
def test_killed_at_any_step_the_next_call_finishes(server, tmp_path, monkeypatch, kind):
    source = kind(server)
    mine = {"mine.txt": b"mine"}  # a file of the user in the folder that is replaced
    former = {"a.bin": b"former", **mine}
    for step in range(1, 100):
        root = tmp_path / str(step)
        folder = root / source.folder
        folder.mkdir(parents=True)
        for name, content in former.items():
            (folder / name).write_bytes(content)
        killed = _killed(monkeypatch, step, lambda: _fetch(source, root, force=True))  # noqa: B023 - called at once
        assert not folder.exists() or _files(folder) in (former, CONTENT, {**CONTENT, **mine}), "half a set is there"
        whole = folder.exists() and source.problem(folder) is None
        _fetch(source, root, force=not whole)
        assert _files(root) == {f"{source.folder}/{name}": content for name, content in {**CONTENT, **mine}.items()}
        if not killed:
            break
    assert 12 < step < 99


def test_the_loaders_find_what_is_fetched(tmp_path):
    """`fetch` puts the sets that are array files where the loaders look for them."""
    images, labels = np.zeros((20, 32, 32, 3), np.uint8), np.arange(20) % 10
    for name in ("cifar10.1", "cifar10.2"):
        (tmp_path / SOURCES[name].folder).mkdir()
    for item in SOURCES["cifar10.1"].downloads:
        np.save(tmp_path / "CIFAR-10.1" / item.name, images if "data" in item.name else labels)
    for item in SOURCES["cifar10.2"].downloads:
        np.savez(tmp_path / "CIFAR-10.2" / item.name, images=images, labels=labels)
    for name in ("cifar10.1", "cifar10.1-v4", "cifar10.2"):
        assert len(load_domain(name, tmp_path)) == 20
