"""Find images of a set that are also in a training set, exactly or nearly: a model may have memorised them.

The similarity of two images is the correlation of their gradients (differences of neighbouring pixels, over all
channels) after a 3x3 blur, at the best shift by at most one pixel. Differences ignore brightness, correlation ignores
contrast, and the blur reduces the effects of JPEG and resampling. Correlation of the pixels themselves is not useful:
any two pictures of a small object in a blue sky reach 0.97.

The threshold `ALIKE` was chosen by looking at pairs. In a JPEG copy of CIFAR-10, 298 test images (3.0%) have a training
image with at least this similarity. Of the 104 pairs between 0.85 and 0.905, four show different scenes (ships at the
same horizon, two horses, two dogs). Below 0.85 such pairs soon become common: about one in four at 0.8. Of 3,500 images
of Tiny ImageNet, reduced to 32x32, 8 are found, and all of them are training images. About 8 more are missed, because
they were cropped or sharpened differently. Barz & Denzler (2020, arXiv 1902.00423), who also count larger shifts and
changes of scale, found 3.3% of the test images by eye.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from framebench.domains.bars import counted
from framebench.domains.base import Domain
from framebench.files import atomic, cache_folder

#: The lowest correlation of gradients at which two images count as the same picture.
ALIKE = 0.85
#: The lowest correlation of thumbnails at which two images are compared closely, and the most such pairs per image.
CANDIDATE, CANDIDATES = 0.9, 10
#: Height and width of a thumbnail, in pixels.
SIDE = 8
#: Increased when the definition changes, so that older results in the cache are not used.
VERSION = 1


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The images of a set that are training images, each with the most similar training image.

    Attributes:
        examples: Ids of the images in the set, int64 [k], ascending.
        originals: Ids of the training images, int64 [k].
        similarity: Correlation of the gradients, float32 [k], from `ALIKE` to 1.
        mirrored: Whether one is the mirror image of the other, bool [k].
        exact: Whether all pixels are equal, after mirroring if `mirrored`, bool [k].
    """

    examples: np.ndarray
    originals: np.ndarray
    similarity: np.ndarray
    mirrored: np.ndarray
    exact: np.ndarray

    def __len__(self) -> int:
        return len(self.examples)


def duplicates_of(domain: Domain, training: Domain) -> Duplicates:
    """Return the result of `find_duplicates`; it is kept in the cache folder (some kilobytes per pair of sets)."""
    key = hashlib.sha256(f"{VERSION} {domain.digest} {training.digest}".encode()).hexdigest()[:32]
    path = cache_folder() / "duplicates" / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Duplicates(**stored)
    except Exception:  # absent or damaged, and a damaged file raises nearly anything: it is computed below
        pass
    found = find_duplicates(domain.images[:], training.images[:], domain.name)
    try:
        with atomic(path) as temporary, open(temporary, "wb") as out:
            np.savez(out, **vars(found))
    except OSError:
        pass  # without a cache, the next run computes it again
    return found


def find_duplicates(images: np.ndarray, training: np.ndarray, name: str = "images") -> Duplicates:
    """Find the images that are training images.

    The two may differ in brightness, contrast, sharpness and JPEG quality, and one may be mirrored or shifted by one
    pixel. An image of a single colour is never a duplicate of another image.

    Args:
        images: uint8 [n, S, S, 3], S a multiple of `SIDE`.
        training: uint8 [m, S, S, 3].
        name: Name of the images, for the progress bar.
    """
    pairs = _candidates(images, training, name)
    similarity, exact = np.zeros(len(pairs), np.float32), np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), 1000):
        chunk = pairs[start : start + 1000]
        a, b = images[chunk[:, 0]], training[chunk[:, 1]]
        a = np.where(chunk[:, 2, None, None, None] == 1, a[:, :, ::-1], a)
        similarity[start : start + 1000] = _alike(a, b)
        exact[start : start + 1000] = (a == b).all((1, 2, 3))
    order = np.lexsort((pairs[:, 1], -similarity, ~exact, pairs[:, 0]))  # the best pair of each image comes first
    _, first = np.unique(pairs[order, 0], return_index=True)
    best = order[first]
    best = best[(similarity[best] >= ALIKE) | exact[best]]
    return Duplicates(pairs[best, 0], pairs[best, 1], similarity[best], pairs[best, 2] == 1, exact[best])


def _candidates(images: np.ndarray, training: np.ndarray, name: str) -> np.ndarray:
    """Return pairs with similar thumbnails, int64 [p, 3]: image, training image, and 1 if mirrored, else 0."""
    found, scores = [], []
    even, odd = _thumbnails(images)
    even_training, odd_training = _thumbnails(training)
    # The blocks are small enough that their products stay in the cache of a core.
    rows, columns = 256, 2048
    with counted(len(images), desc=f"looking for training images in {name}", unit="image", least=2000) as done:
        for row in range(0, len(images), rows):
            for column in range(0, len(training), columns):
                # For a mirror image, the product of the odd parts changes its sign. The larger of the two is wanted.
                score = even[row : row + rows] @ even_training[column : column + columns].T
                turned = odd[row : row + rows] @ odd_training[column : column + columns].T
                score += np.abs(turned)
                i, j = np.nonzero(score > CANDIDATE)
                found.append(np.stack([row + i, column + j, turned[i, j] < 0], axis=1))
                scores.append(score[i, j])
            done(len(images[row : row + rows]))
    pairs, score = np.concatenate(found), np.concatenate(scores)
    order = np.lexsort((pairs[:, 1], -score, pairs[:, 0]))
    pairs = pairs[order]
    rank = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[rank < CANDIDATES]


def _thumbnails(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return thumbnails of mean 0 and norm 1 as two parts: mirroring keeps the first and negates the second.

    Both are float32 [n, SIDE * SIDE / 2 * 3]. The sum of their products is the correlation of two thumbnails.
    """
    n, size, cell = len(images), images.shape[1], images.shape[1] // SIDE
    rows = images.reshape(n, SIDE, cell, size * 3).sum(2, dtype=np.uint16)
    small = rows.reshape(n, SIDE, SIDE, cell, 3).sum(3, dtype=np.uint32).astype(np.float32)
    small -= small.mean((1, 2, 3), keepdims=True)
    small /= np.sqrt(np.square(small).sum((1, 2, 3), keepdims=True) * 2) + 1e-6
    left, right = small[:, :, : SIDE // 2], small[:, :, : SIDE // 2 - 1 : -1]
    return (left + right).reshape(n, -1), (left - right).reshape(n, -1)


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the similarity of pairs of images uint8 [n, S, S, 3]: float32 [n] in [-1, 1]."""
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
    """Return vertical and horizontal differences of the blurred images: float32 [n, S - 3, S - 3, 6]."""
    pixels = images.astype(np.float32)
    pixels = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    pixels = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    corner = pixels[:, :-1, :-1]
    return np.concatenate([pixels[:, 1:, :-1] - corner, pixels[:, :-1, 1:] - corner], axis=3)
