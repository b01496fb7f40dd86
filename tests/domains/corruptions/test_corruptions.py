"""Properties of all corruptions: draws that depend on ids, errors, other sizes, and the statistics of the draws."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from PIL import features

from framebench.domains import corruptions
from framebench.domains.corrupted import load_corrupted
from framebench.domains.corruptions import (
    BENCHMARK,
    EXTRAS,
    NAMES,
    PARAMETERS,
    SEVERITIES,
    VERSION,
    corrupt,
    frost,
    frost_source,
    generator_facts,
)
from framebench.errors import InputError

DRAWN = ("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog",
         "elastic_transform", "speckle_noise", "spatter")

#: sha256 of the severities 1 to 5 of each corruption (`test_pixels_for_cifar_have_not_changed`).
CIFAR_DIGESTS = {
    "gaussian_noise": "434e25a6cb91", "shot_noise": "ae3f980c5dc6", "impulse_noise": "cb91763c2dee",
    "defocus_blur": "ce7cd8cfde85", "glass_blur": "630d04c3c849", "motion_blur": "56256703d7b7",
    "zoom_blur": "c4b2bd969858", "snow": "b4a28df3e480", "frost": "368c8322a6ac", "fog": "922b098a5a11",
    "brightness": "22ed1e107950", "contrast": "549cbb76fb61", "elastic_transform": "e7c1917083fe",
    "pixelate": "eac647d7b82c", "jpeg_compression": "cec0349f8efc", "speckle_noise": "62efdb265b41",
    "gaussian_blur": "20f813d3cd7d", "spatter": "1774f948a8aa", "saturate": "20c03f2b57f7",
}


def textured(n, height=32, width=32):
    """Images with edges, slopes and noise at all levels of brightness."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x / rng.uniform(1, 8, (n, 1, 1)) + rng.uniform(0, 6, (n, 1, 1))) * np.cos(y / 5)
    images = 128 + 90 * waves[..., None] * rng.uniform(-1, 1, (n, 1, 1, 3)) + rng.normal(0, 15, (n, height, width, 3))
    return np.clip(images, 0, 255).astype(np.uint8)


def grey(n, level=128):
    return np.full((n, 32, 32, 3), level, np.uint8)


def test_the_names():
    assert len(NAMES) == len(set(NAMES)) == 19 and BENCHMARK == NAMES[:15] and EXTRAS == NAMES[15:]
    assert set(DRAWN) < set(NAMES) and SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("name", NAMES)
def test_pixels_depend_on_the_id_not_on_the_batch(name, monkeypatch):
    monkeypatch.setitem(corruptions._CHUNK_PIXELS, name, 20 * 32 * 32)
    images, ids = textured(70), np.arange(70) * 7 + 2
    for severity in (1, 3, 5):
        whole = corrupt(images, name, severity, 1, ids)
        assert whole.dtype == np.uint8 and whole.shape == images.shape and whole.flags.c_contiguous
        some = np.array([69, 3, 40, 64, 63])
        np.testing.assert_array_equal(corrupt(images[some], name, severity, 1, ids[some]), whole[some])
        np.testing.assert_array_equal(corrupt(images[5:6], name, severity, 1, [37]), whole[5:6])


@pytest.mark.parametrize("name", NAMES)
def test_what_draws_depend_on(name):
    images = np.repeat(textured(1), 3, axis=0)
    before = images.copy()
    first = corrupt(images, name, 5)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(first, corrupt(images, name, 5, 0, [0, 1, 2]))
    assert (first != images).any(axis=(1, 2, 3)).all()
    drawn = name in DRAWN
    assert (first[0] != first[1]).any() == drawn, "ids"
    assert (first != corrupt(images, name, 5, seed=1)).any() == drawn, "seed"


@pytest.mark.parametrize("name", NAMES)
def test_other_sizes_and_layouts(name):
    for height, width in ((16, 16), (24, 40), (61, 33)):
        images = textured(2, height, width)
        got = corrupt(images, name, 4)
        assert got.shape == images.shape and 0 < np.abs(got.astype(int) - images).mean() < 120
        turned = np.asfortranarray(images)
        np.testing.assert_array_equal(corrupt(turned, name, 4), got)
    assert corrupt(textured(2)[:0], name, 2).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(("side", "usual"), [(32, "cifar"), (64, "tiny-imagenet"), (224, "imagenet")])
def test_parameters_are_those_of_the_size_unless_given(side, usual):
    images = textured(1, side, side + 8)
    for given in PARAMETERS:
        same = np.array_equal(corrupt(images, "contrast", 3), corrupt(images, "contrast", 3, parameters=given))
        # ImageNet's contrast is that of Tiny ImageNet.
        assert same == (given == usual or {given, usual} == {"tiny-imagenet", "imagenet"})
        same = np.array_equal(corrupt(images, "pixelate", 3), corrupt(images, "pixelate", 3, parameters=given))
        assert same == (given == usual)


def test_frost_on_images_larger_than_its_pictures():
    images = np.zeros((6, 340, 700, 3), np.uint8)
    frosted = corrupt(images, "frost", 5)
    assert frosted.reshape(6, -1).std(1).min() > 5 and len(np.unique(frosted[:, 0, 0], axis=0)) > 1


def test_pixels_for_cifar_have_not_changed():
    """Stored results rest on them; a change needs another `VERSION`."""
    row, column = np.mgrid[:32, :32]
    k = np.arange(6)[:, None, None]
    images = np.stack([(37 * row * row + (11 + c) * column * row * (k + 1) + 5 * column * k) // (4 + 2 * c + k) % 256
                       for c in range(3)], axis=-1).astype(np.uint8)
    images[4], images[5, :, :16] = 255, 200
    for name, expected in CIFAR_DIGESTS.items():
        content = b"".join(corrupt(images, name, s, 3, np.arange(6) * 5 + 1).tobytes() for s in SEVERITIES)
        if name != "frost" or frost_source().startswith("imagecorruptions"):
            assert hashlib.sha256(content).hexdigest()[:12] == expected, name


@pytest.mark.parametrize(("change", "message"), [
    ({"name": "gausian_noise"}, "unknown corruption 'gausian_noise'; did you mean gaussian_noise"),
    ({"severity": 0}, "severity 0 does not exist; choose 1 to 5"),
    ({"severity": 6}, "severity 6 does not exist"),
    ({"severity": 2.5}, "severity 2.5 does not exist"),
    ({"images": grey(2) / 255}, r"must be a uint8 array \[n, H, W, 3\], not float64 \[2, 32, 32, 3\]"),
    ({"images": grey(2)[0]}, r"not uint8 \[32, 32, 3\]"),
    ({"images": grey(2).transpose(0, 3, 1, 2)}, r"not uint8 \[2, 3, 32, 32\]"),
    ({"images": [1, 2]}, "not list"),
    ({"images": grey(2)[:, :15]}, "15 x 32 are too small"),
    ({"ids": [1]}, "ids must be 2 integers"),
    ({"ids": [0.5, 1]}, "ids must be 2 integers, one per image, not float64"),
    ({"parameters": "imagnet"}, "unknown set of parameters 'imagnet'; did you mean imagenet"),
])
def test_bad_input_is_one_line(change, message):
    given = {"images": grey(2), "name": "fog", "severity": 1, **change}
    with pytest.raises(InputError, match=message) as error:
        corrupt(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "severity", "deviation"), [
    ("gaussian_noise", 1, 0.04 * 255), ("gaussian_noise", 5, 0.10 * 255), ("speckle_noise", 5, 0.2 * 128),
    ("shot_noise", 5, np.sqrt(128 / 255 / 50) * 255), ("shot_noise", 1, np.sqrt(128 / 255 / 500) * 255)])
def test_noise_has_its_strength(name, severity, deviation):
    noise = corrupt(grey(40), name, severity).astype(float) - 128
    assert noise.std() == pytest.approx(deviation, rel=0.02)
    assert noise.mean() == pytest.approx(-0.5, abs=5 * deviation / np.sqrt(noise.size) + 0.1)  # truncation
    channels = noise.reshape(-1, 3)
    assert abs(np.corrcoef(channels.T)[0, 1]) < 0.02


def test_impulses_are_salt_and_pepper_alike():
    images = corrupt(grey(40), "impulse_noise", 5)
    salt, pepper = (images == 255).mean(), (images == 0).mean()
    assert salt == pytest.approx(0.035, rel=0.05) and pepper == pytest.approx(0.035, rel=0.05)
    assert set(np.unique(images)) == {0, 128, 255}
    assert ((images == 255).any(-1) & (images == 0).any(-1)).any()  # channels are independent


def test_directions_are_uniform():
    """A bright dot is smeared to the left, within 45 degrees, up as often as down."""
    dots = np.zeros((400, 33, 33, 3), np.uint8)
    dots[:, 16, 24] = 255
    smeared = corrupt(dots, "motion_blur", 4)[..., 0].astype(float)
    weight = smeared.sum((1, 2))
    down = (smeared * (np.arange(33) - 16)[:, None]).sum((1, 2)) / weight
    right = (smeared * (np.arange(33) - 24)).sum((1, 2)) / weight
    angle = np.degrees(np.arctan2(-down, -right))
    assert angle.min() > -50 and angle.max() < 50
    assert np.quantile(angle, (0.25, 0.5, 0.75)) == pytest.approx((-22.5, 0, 22.5), abs=6)


def test_fog_spans_its_range_and_keeps_the_brightest():
    images = corrupt(grey(50, 0) + np.uint8(1), "fog", 5)
    assert images.max() <= 1  # scaled back to the image's own maximum
    images = corrupt(grey(50, 200), "fog", 5)
    brightest = images.reshape(50, -1).max(1)
    np.testing.assert_array_equal(brightest, 200)
    darkest = 200 / 255 * (200 / 255) / (200 / 255 + 1.5) * 255
    np.testing.assert_allclose(images.reshape(50, -1).min(1), np.floor(darkest), atol=1)


def test_frost_from_a_wheel_or_drawn(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(frost, "distribution", missing)
    caches = (frost._wheel, frost._resized, frost.textures, frost.textures_digest)
    for cached in caches:
        cached.cache_clear()
    try:
        assert frost_source() == "procedural texture" == generator_facts()["frost"]
        assert "pip install 'framebench[frost]'" in load_corrupted("samples-c").cell("frost", 1).hint
        assert frost.textures(1, 224, 224)[0].shape == (600, 900, 3)
        drawn = frost.textures(0.2, 32, 32)
        assert len(drawn) == 5 and all(t.shape == (120, 180, 3) and t.dtype == np.uint8 for t in drawn)
        for texture, colours in zip(drawn, frost._COLOURS, strict=True):
            mean, spread = np.array(colours).T
            np.testing.assert_allclose(texture.mean((0, 1)), mean, atol=3)
            np.testing.assert_allclose(texture.std((0, 1)), spread, atol=4)
        frosted = corrupt(grey(60, 0), "frost", 5).reshape(60, -1).mean(1)
        assert frosted.std() > 10  # several pictures are used
        procedural = generator_facts()["frost_digest"]
    finally:
        monkeypatch.undo()
        for cached in caches:
            cached.cache_clear()
    if frost_source() != "procedural texture":
        assert frost_source().startswith("imagecorruptions")
        assert "pip install" not in load_corrupted("samples-c").hint
        assert generator_facts()["frost_digest"] != procedural
        assert [t.shape[:2] for t in frost.textures(0.2, 32, 32)] == [(120, 180), (63, 112), (63, 112), (70, 105),
                                                                      (99, 132)]


def test_the_facts_name_everything_that_pixels_depend_on():
    facts = generator_facts()
    assert set(facts) == {"version", "frost", "frost_digest", "numpy", "scipy", "pillow", "libjpeg"}
    assert facts["libjpeg"] == (features.version("libjpeg_turbo") or features.version("jpg"))
    assert facts["version"] == VERSION and facts["numpy"] == np.__version__ and len(facts["frost_digest"]) == 64
