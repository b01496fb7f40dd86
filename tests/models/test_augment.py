from __future__ import annotations

import numpy as np
import pytest
import torch

from framebench.models.augment import crop_flip_cutout, draw_corners, pad_reflect


def _setting(pad):
    images = torch.randint(0, 256, (6, 8, 10, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return images, pad_reflect(images, pad)


@pytest.mark.parametrize("pad", [3, 7])
def test_padding_is_numpys_reflection(pad):
    images, padded = _setting(pad)
    sides = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    np.testing.assert_array_equal(padded.numpy(), np.pad(images.numpy(), sides, "reflect"))


def test_views_are_crops_of_the_padded_images_mirrored_where_asked():
    images, padded = _setting(2)
    index, flip = torch.tensor([4, 0, 5]), torch.tensor([False, True, True])
    corners = draw_corners(3, 8, 10, 2, torch.Generator().manual_seed(1))
    views = crop_flip_cutout(padded, index, flip, corners, 2, 0)
    assert views.shape == (3, 3, 8, 10) and views.is_contiguous(memory_format=torch.channels_last)
    for view, i, mirrored in zip(views, index, flip, strict=True):
        pixels = (view.permute(1, 2, 0) * 255).round().to(torch.uint8)
        pixels = pixels.flip(1) if mirrored else pixels
        crops = [padded[i, y : y + 8, x : x + 10] for y in range(5) for x in range(5)]
        assert any(torch.equal(pixels, crop) for crop in crops)


def test_no_augmentation_is_the_image_itself():
    images, padded = _setting(0)
    corners = draw_corners(6, 8, 10, 0, torch.Generator())
    views = crop_flip_cutout(padded, torch.arange(6), torch.zeros(6, dtype=torch.bool), corners, 0, 0)
    assert torch.equal(views, images.permute(0, 3, 1, 2).float() / 255)


def test_cutout_blanks_one_square():
    _, padded = _setting(0)
    padded[:] = 255
    corners = draw_corners(6, 8, 10, 0, torch.Generator().manual_seed(0))
    views = crop_flip_cutout(padded, torch.arange(6), torch.zeros(6, dtype=torch.bool), corners, 0, 4)
    for view in views:
        blank = view[0] == 0.5
        rows, columns = blank.any(1).sum(), blank.any(0).sum()
        assert 2 <= rows <= 4 and 2 <= columns <= 4 and blank.sum() == rows * columns
        assert (view[:, ~blank] == 1).all()
