"""Data sets: arrays, archives, images."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from framebench.classes import imagenet
from framebench.domains import load_domain
from framebench.domains.archives import unpack
from tests.domains.test_corrupted import write_cifar10, write_files
from tests.domains.test_sets import write_cifar100, write_cifar102, write_retest, write_stl, write_svhn
from tests.faults.mutate import Target, damaged


def arrays(prepared: Path) -> Target:
    """The array files of data sets: .npy, .npz, MATLAB's, pickles of CIFAR, STL-10's bytes."""
    prepared.mkdir()
    write_retest(prepared)
    write_cifar102(prepared)
    write_svhn(prepared, [10, 1, 2, 9])
    write_stl(prepared, [1, 2, 3, 8])
    write_cifar100(prepared)
    write_cifar10(prepared, np.arange(20) % 10)
    write_files(prepared, ("fog",))
    sets = {"cifar10.1": "CIFAR-10.1/*.npy", "cifar10.2": "*.npz", "svhn": "svhn/*", "stl10": "stl10_binary/*",
            "cifar100": "cifar-100-python/*", "cifar10": "cifar-10-batches-py/*", "cifar10-c/fog/3": "CIFAR-10-C/*.npy"}
    named = [(name, path.relative_to(prepared)) for name, form in sets.items() for path in sorted(prepared.glob(form))]

    def run(own: Path, data: Any) -> None:
        name, file = data.draw(st.sampled_from(named))
        for other in {place.parts[0] for _, place in named}:
            (own / other).symlink_to(prepared / other)
        top = own / file.parts[0]
        top.unlink()
        if len(file.parts) > 1:
            top.mkdir()
            for path in (prepared / file.parts[0]).iterdir():
                (top / path.name).symlink_to(path)
            (own / file).unlink()
        if name.startswith("cifar10-c") and file.name != "labels.npy":  # 150 MB of holes: its start is what matters
            with open(prepared / file, "rb") as good, open(own / file, "wb") as out:
                out.write(damaged(data, good.read(128)))
                out.truncate((prepared / file).stat().st_size - data.draw(st.integers(0, 1)))
        else:
            good = (prepared / file).read_bytes()
            (own / file).write_bytes(_npz_damaged(data, good) if file.suffix == ".npz" else damaged(data, good))
        domain = load_domain(name, own)
        assert domain.labels.min() >= 0 and domain.labels.max() < len(domain.classes)
        images, labels = domain.load(domain.first(min(4, len(domain))))
        assert images.dtype == torch.float32 and len(labels) == len(images) and 0 <= float(images.min())
        assert float(images.max()) <= 1
        domain.digest  # noqa: B018
    return run


def _npz_damaged(data: Any, content: bytes) -> bytes:
    """Damage an archive of arrays as a whole, or its members inside an archive that is sound."""
    if data.draw(st.booleans()):
        return damaged(data, content)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            member = old.read(name)
            new.writestr(name, damaged(data, member[:256]) + member[256:] if data.draw(st.booleans()) else member)
    return out.getvalue()


def archives(prepared: Path) -> Target:
    """Tar, tar.gz and zip: damaged, with headers whose checksums fit, and with hostile names."""
    members = {"set/a.bin": b"first" * 300, "./set/sub/b.bin": b"second", "set/readme.txt": b"not wanted"}
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as out, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out_zip:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.pax_headers = {"comment": "x" * 20}
            out.addfile(info, io.BytesIO(content))
            out_zip.writestr(name, content)
    wanted = re.compile(r"set/(?P<path>(?:sub/)?[a-c]\.bin)")

    def run(own: Path, data: Any) -> None:
        kind = data.draw(st.sampled_from(["tar", "header", "gz", "gz of damage", "zip", "names"]))
        if kind == "names":
            content = _named(data)
        elif kind == "header":
            content = _header_changed(data, tar.getvalue())
        elif kind.startswith("gz"):
            inner = damaged(data, tar.getvalue()) if kind != "gz" else tar.getvalue()
            gz = zlib.compressobj(wbits=31)
            content = gz.compress(inner) + gz.flush()
            content = damaged(data, content) if kind == "gz" else content
        else:
            content = damaged(data, (tar if kind == "tar" else packed).getvalue())
        (own / "archive").write_bytes(content)
        (own / "into").mkdir()
        try:
            unpack(own / "archive", own / "into", wanted, size=2000, files=3)
        finally:
            written = {path.relative_to(own / "into").as_posix() for path in own.rglob("*.*") if path.is_file()}
            assert written <= {"a.bin", "b.bin", "c.bin", "sub/a.bin", "sub/b.bin", "sub/c.bin"}
            assert not any(path.is_symlink() for path in own.rglob("*")) and {p.name for p in own.iterdir()} == {
                "archive", "into"}
    return run


def _named(data: Any) -> bytes:
    out = io.BytesIO()
    names = data.draw(st.lists(st.one_of(st.text(max_size=20), st.sampled_from([
        "/set/a.bin", "../set/a.bin", "set/../../a.bin", "set/a.bin", "set//a.bin", "C:\\a.bin", "set/a.bin\0", ".",
        "set/sub", "set/" + "x" * 300])), max_size=4))
    with contextlib.suppress(ValueError, UnicodeError), tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.type = data.draw(st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE,
                                                   tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]))
            info.linkname = data.draw(st.sampled_from(["", "/etc/passwd", "set/a.bin", ".."]))
            tar.addfile(info)
    return out.getvalue()


def _header_changed(data: Any, content: bytes) -> bytes:
    """Damage a block of a tar that may be a header, and set the checksum that it would have as one."""
    at = 512 * data.draw(st.integers(0, len(content) // 512 - 1))
    header = bytearray(damaged(data, content[at : at + 512])[:512].ljust(512, b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return content[:at] + bytes(header) + content[at + 512 :]


def images(prepared: Path) -> Target:
    """Image files of all formats in class folders: damaged, and PNGs whose checksums fit."""
    prepared.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    kinds = {}
    for suffix, options in {"png": {}, "jpg": {}, "bmp": {}, "webp": {}, "tiff": {"compression": "tiff_lzw"},
                            "ppm": {}, "tif": {}}.items():
        for mode in ("RGB", "L", "P", "1", "RGBA", "CMYK", "I;16"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                content = io.BytesIO()
                Image.fromarray(pixels).convert("L" if mode == "I;16" else mode).convert(mode).save(
                    content, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), **options)
                kinds[f"{suffix} {mode}"] = content.getvalue()

    def run(own: Path, data: Any) -> None:
        kind = data.draw(st.sampled_from(sorted(kinds)))
        content = kinds[kind]
        fits = kind.startswith("png") and data.draw(st.booleans())
        suffix = data.draw(st.sampled_from([kind.partition(" ")[0], "png", "jpg"]))
        (own / "cat").mkdir()
        (own / "cat" / "good.png").write_bytes(kinds["png RGB"])
        (own / "cat" / f"bad.{suffix}").write_bytes(_chunk_changed(data, content) if fits else damaged(data, content))
        domain = load_domain(f"folder:{own}", None)
        domain.load(np.arange(len(domain)))
        domain.digest  # noqa: B018
    return run


def listings(prepared: Path) -> Target:
    """Files that say which classes there are, and which image is of which."""
    wnids = imagenet().wnids[:3]
    flat, tiny, own_classes = prepared / "imagenet" / "val", prepared / "tiny-imagenet-200" / "val", prepared / "mine"
    for folder, names in ((flat, [f"ILSVRC2012_val_0000000{i}.JPEG" for i in (1, 2, 3)]),
                          (tiny / "images", [f"val_{i}.JPEG" for i in range(3)]), (own_classes / "cat", ["a.png"]),
                          (own_classes / "dog", ["b.png"])):
        folder.mkdir(parents=True)
        for name in names:
            Image.new("RGB", (8, 8)).save(folder / name, "png")
    (prepared / "imagenet" / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(
        f"ILSVRC2012_val_0000000{i},{wnid} 1 2 3 4\n" for i, wnid in enumerate(wnids, 1)))
    (tiny / "val_annotations.txt").write_text("".join(
        f"val_{i}.JPEG\t{wnid}\t0\t0\t1\t1\n" for i, wnid in enumerate(wnids)))
    (tiny.parent / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in wnids))
    (own_classes / "classes.txt").write_text("dog\ncat\n")
    lists = {"imagenet/LOC_val_solution.csv": "imagenet", "tiny-imagenet-200/val/val_annotations.txt": "tiny-imagenet",
             "tiny-imagenet-200/wnids.txt": "tiny-imagenet", "mine/classes.txt": "folder:{own}/mine"}

    def run(own: Path, data: Any) -> None:
        shutil.copytree(prepared, own, dirs_exist_ok=True)
        file = data.draw(st.sampled_from(sorted(lists)))
        (own / file).write_bytes(damaged(data, (own / file).read_bytes()))
        domain = load_domain(lists[file].format(own=own), own)
        domain.load(np.arange(len(domain)))
        domain.digest  # noqa: B018
    return run


def _chunk_changed(data: Any, content: bytes) -> bytes:
    """Damage a chunk of a PNG, and set the checksum that fits."""
    chunks, at = [], 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append(content[at + 4 : at + 8 + length])
        at += 12 + length
    k = data.draw(st.integers(0, len(chunks) - 1))
    chunks[k] = damaged(data, chunks[k])
    return content[:8] + b"".join((max(0, len(chunk) - 4)).to_bytes(4, "big") + chunk
                                  + zlib.crc32(chunk).to_bytes(4, "big") for chunk in chunks)
