"""Images of a set that are in a training set too, exactly or nearly: a model may know them by heart.

Two images are alike by the correlation of their gradients (differences of neighbouring pixels, all channels together)
after a blur of 3x3 pixels, at the best shift by at most one pixel. Differences are blind to brightness, correlation to
contrast, and the blur evens out JPEG and resampling. The correlation of the pixels themselves would not do: any two
pictures of something small in a blue sky reach 0.97.

`ALIKE` was chosen by eye. Of CIFAR-10's test images (a JPEG copy) 298, 3.0%, have a training image that is as like. Of
the 104 pairs from there up to 0.905 four are two pictures (ships before the same horizon, two horses, two dogs), below
there are soon more of those: about every fourth pair at 0.8. Of 3,500 images of Tiny ImageNet, reduced to 32x32, all 8
that are found are training images; as many again are not found, since they were cut or sharpened otherwise. Barz &
Denzler (2020, arXiv 1902.00423), who count larger shifts and scales too, found by eye 3.3% of the test images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from framebench.domains.base import Domain
from framebench.files import atomic, cache_folder

#: Correlation of gradients from which two images count as the same picture.
ALIKE = 0.85
#: Correlation of thumbnails from which two images are compared closely, and how many such pairs of an image.
CANDIDATE, CANDIDATES = 0.9, 10
#: Pixels along a thumbnail's side.
SIDE = 8
#: Raised when the definition changes: results that were kept are then not used.
VERSION = 1


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The images of a set that are training images, each with the one it is most alike, by id.

    Attributes:
        examples: Their ids in the set, int64 [k], ascending.
        originals: Ids of the training images, int64 [k].
        similarity: Correlation of the gradients, float32 [k], from `ALIKE` to 1.
        mirrored: Whether one is the other's mirror image, bool [k].
        exact: Whether all pixels are equal (once mirrored, if so), bool [k].
    """

    examples: np.ndarray
    originals: np.ndarray
    similarity: np.ndarray
    mirrored: np.ndarray
    exact: np.ndarray

    def __len__(self) -> int:
        return len(self.examples)


def duplicates_of(domain: Domain, training: Domain) -> Duplicates:
    """Return what `find_duplicates` finds, found once: some kilobytes in the cache folder, by the sets' digests."""
    key = hashlib.sha256(f"{VERSION} {domain.digest} {training.digest}".encode()).hexdigest()[:32]
    path = cache_folder() / "duplicates" / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Duplicates(**stored)
    except (OSError, ValueError, EOFError, TypeError, BadZipFile):
        pass  # absent, or damaged and found anew below
    found = find_duplicates(np.asarray(domain.images), np.asarray(training.images), domain.name)
    try:
        with atomic(path) as temporary, open(temporary, "wb") as out:
            np.savez(out, **vars(found))
    except OSError:
        pass  # without a cache the next run looks again; nothing else is lost
    return found


def find_duplicates(images: np.ndarray, training: np.ndarray, name: str = "images") -> Duplicates:
    """Find the images that are training images.

    Brightness, contrast, sharpness and JPEG quality may differ, and one may be mirrored or shifted by a pixel. Images
    of one colour are like no other.

    Args:
        images: uint8 [n, S, S, 3], S a multiple of `SIDE`.
        training: uint8 [m, S, S, 3].
        name: What the progress bar says of the images.
    """
    pairs = _candidates(images, training, name)
    similarity, exact = np.zeros(len(pairs), np.float32), np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), 1000):
        chunk = pairs[start : start + 1000]
        a, b = images[chunk[:, 0]], training[chunk[:, 1]]
        a = np.where(chunk[:, 2, None, None, None] == 1, a[:, :, ::-1], a)
        similarity[start : start + 1000] = _alike(a, b)
        exact[start : start + 1000] = (a == b).all((1, 2, 3))
    order = np.lexsort((pairs[:, 1], -similarity, ~exact, pairs[:, 0]))  # an image's best pair first
    _, first = np.unique(pairs[order, 0], return_index=True)
    best = order[first]
    best = best[(similarity[best] >= ALIKE) | exact[best]]
    return Duplicates(pairs[best, 0], pairs[best, 1], similarity[best], pairs[best, 2] == 1, exact[best])


def _candidates(images: np.ndarray, training: np.ndarray, name: str) -> np.ndarray:
    """Return int64 [p, 3]: an image, a training image whose thumbnail is like its own, and 1 if mirrored, else 0."""
    found, scores = [], []
    even, odd = _thumbnails(images)
    even_training, odd_training = _thumbnails(training)
    # Blocks small enough that what is done to their products stays in a core's cache.
    rows, columns = 256, 2048
    with tqdm(total=len(images), unit="image", desc=f"looking for training images in {name}", leave=False,
              disable=len(images) < 2000, dynamic_ncols=True) as bar:
        for row in range(0, len(images), rows):
            for column in range(0, len(training), columns):
                # The product with a mirror image has the odd part's sign turned: the larger of the two adds it.
                score = even[row : row + rows] @ even_training[column : column + columns].T
                turned = odd[row : row + rows] @ odd_training[column : column + columns].T
                score += np.abs(turned)
                i, j = np.nonzero(score > CANDIDATE)
                found.append(np.stack([row + i, column + j, turned[i, j] < 0], axis=1))
                scores.append(score[i, j])
            bar.update(len(images[row : row + rows]))
    pairs, score = np.concatenate(found), np.concatenate(scores)
    order = np.lexsort((pairs[:, 1], -score, pairs[:, 0]))
    pairs = pairs[order]
    rank = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[rank < CANDIDATES]


def _thumbnails(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return thumbnails of mean 0 and norm 1 in two parts, those that a mirror keeps and that it negates.

    float32 [n, SIDE * SIDE / 2 * 3] each; the sum of their products is the correlation of two thumbnails.
    """
    n, size, cell = len(images), images.shape[1], images.shape[1] // SIDE
    rows = images.reshape(n, SIDE, cell, size * 3).sum(2, dtype=np.uint16)
    small = rows.reshape(n, SIDE, SIDE, cell, 3).sum(3, dtype=np.uint32).astype(np.float32)
    small -= small.mean((1, 2, 3), keepdims=True)
    small /= np.sqrt(np.square(small).sum((1, 2, 3), keepdims=True) * 2) + 1e-6
    left, right = small[:, :, : SIDE // 2], small[:, :, : SIDE // 2 - 1 : -1]
    return (left + right).reshape(n, -1), (left - right).reshape(n, -1)


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how alike pairs of images uint8 [n, S, S, 3] are: float32 [n] in [-1, 1]."""
    a, b = _gradients(a), _gradients(b)[:, 1:-1, 1:-1]
    size = b.shape[1]
    norm = np.einsum("nijk,nijk->n", b, b)
    best = np.full(len(a), -1, np.float32)
    for y in range(3):
        for x in range(3):
            shifted = a[:, y : y + size, x : x + size]
            scale = np.sqrt(norm * np.einsum("nijk,nijk->n", shifted, shifted)) + 1e-6
            np.maximum(best, np.einsum("nijk,nijk->n", shifted, b) / scale, out=best)
    return best


def _gradients(images: np.ndarray) -> np.ndarray:
    """Return differences of neighbours, down and across, of blurred images: float32 [n, S - 3, S - 3, 6]."""
    pixels = images.astype(np.float32)
    pixels = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    pixels = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    corner = pixels[:, :-1, :-1]
    return np.concatenate([pixels[:, 1:, :-1] - corner, pixels[:, :-1, 1:] - corner], axis=3)
