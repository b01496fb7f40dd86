from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from scipy.ndimage import gaussian_filter, uniform_filter

from framebench.classes import CIFAR10
from framebench.domains import duplicates
from framebench.domains.base import Domain
from framebench.domains.duplicates import ALIKE, duplicates_of, find_duplicates
from framebench.files import cache_folder


def pictures(n, seed):
    """Smooth random pictures that differ as much as photographs do: uint8 [n, 32, 32, 3]."""
    rng = np.random.default_rng(seed)
    light, colour = rng.normal(size=(n, 32, 32, 1)), rng.normal(size=(n, 32, 32, 3))
    smooth = gaussian_filter(light, (0, 2, 2, 0)) + gaussian_filter(colour, (0, 4, 4, 0))
    return (128 + 45 * smooth / smooth.std((1, 2, 3), keepdims=True)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def training():
    return pictures(400, 0)


def jpeg(image):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=60)
    return Image.open(out)


CHANGES = {
    "equal": lambda image: image,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": lambda image: image.point(lambda value: min(255, value + 20)),
    "of less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "compressed": jpeg,
    "resized": lambda image: image.resize((24, 24), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BICUBIC),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(0.7)),
    "shifted": lambda image: np.pad(image, ((1, 0), (0, 1), (0, 0)), "edge")[:32, 1:],
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_with_their_originals(training, change):
    copied = np.array([3, 50, 200, 399])
    images = pictures(40, 1)
    images[[5, 6, 20, 39]] = [np.asarray(CHANGES[change](Image.fromarray(training[i]))) for i in copied]
    found = find_duplicates(images, training)
    assert found.examples.tolist() == [5, 6, 20, 39] and found.originals.tolist() == copied.tolist()
    assert (found.mirrored == (change == "mirrored")).all()
    assert (found.exact == (change in ("equal", "mirrored"))).all()
    assert (found.similarity >= ALIKE).all() and (found.similarity <= 1 + 1e-5).all()


def test_others_are_not_found(training):
    assert len(find_duplicates(pictures(300, 2), training)) == 0
    flat = np.full((2, 32, 32, 3), 90, np.uint8)
    assert len(find_duplicates(flat, np.concatenate([training, flat]))) == 0


def test_similarity_is_the_correlation_of_blurred_gradients(training):
    rng = np.random.default_rng(3)
    a = training[:6]
    b = (a * 0.8 + rng.normal(0, 12, a.shape)).clip(0, 255).astype(np.uint8)

    def gradients(image):
        blurred = uniform_filter(image.astype(float), (3, 3, 1))[1:-1, 1:-1]
        return np.stack([np.diff(blurred, axis=0)[:, :-1], np.diff(blurred, axis=1)[:-1]])

    found = find_duplicates(b, a)
    assert found.examples.tolist() == list(range(6)) == found.originals.tolist()
    for i in range(6):
        one, other = gradients(b[i]), gradients(a[i])[:, 1:-1, 1:-1]
        best = max(float((moved * other).sum() / np.linalg.norm(moved) / np.linalg.norm(other))
                   for y in range(3) for x in range(3) for moved in [one[:, y : y + 27, x : x + 27]])
        assert found.similarity[i] == pytest.approx(best, abs=1e-5)


def test_candidates_are_all_pairs_of_alike_thumbnails(training, monkeypatch):
    images = np.concatenate([pictures(30, 4), training[:5, :, ::-1]])
    monkeypatch.setattr(duplicates, "CANDIDATE", 0.35)
    monkeypatch.setattr(duplicates, "CANDIDATES", 10**6)

    def thumbnails(x):
        small = x.astype(float).reshape(-1, 8, 4, 8, 4, 3).mean((2, 4)).reshape(len(x), -1)
        small -= small.mean(1, keepdims=True)
        return small / np.linalg.norm(small, axis=1, keepdims=True)

    plain, mirrored = (thumbnails(x) @ thumbnails(training).T for x in (images, images[:, :, ::-1]))
    wanted = {(i, j, int(mirrored[i, j] > plain[i, j])) for i, j in np.argwhere(np.maximum(plain, mirrored) > 0.35)}
    assert len(wanted) > 10 and set(map(tuple, duplicates._candidates(images, training, "").tolist())) == wanted


def test_a_result_is_kept_and_a_damaged_one_is_made_anew(training, monkeypatch):
    labels = np.zeros(400, np.int64)
    train = Domain("cifar10", "training", CIFAR10, training, labels)
    domain = Domain("mine", "mine", CIFAR10, training[7:9], labels[:2])
    first = duplicates_of(domain, train)
    (kept,) = (cache_folder() / "duplicates").iterdir()
    assert kept.stat().st_size < 10_000
    kept.write_bytes(b"PK damaged")
    duplicates_of(domain, train)
    monkeypatch.setattr(duplicates, "find_duplicates", lambda *_: pytest.fail("it was kept"))
    second = duplicates_of(domain, train)
    assert first.originals.tolist() == second.originals.tolist() == [7, 8] and second.exact.all()
