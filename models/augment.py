"""Augmentation of whole batches: random crop, flip and cutout without a loop over images."""

from __future__ import annotations

import torch


def pad_reflect(images: torch.Tensor, pad: int) -> torch.Tensor:
    """Pad uint8 images [n, H, W, c] by `pad` mirrored pixels on each side, without repeating the edge.

    `pad` must be less than H and W.
    """
    rows = _mirror(images.shape[1], pad, images.device)
    columns = _mirror(images.shape[2], pad, images.device)
    return images[:, rows][:, :, columns]


def _mirror(size: int, pad: int, device: torch.device) -> torch.Tensor:
    index = torch.arange(-pad, size + pad, device=device).abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def draw_corners(count: int, height: int, width: int, pad: int, generator: torch.Generator) -> torch.Tensor:
    """Draw where views are cropped and cut out.

    Args:
        count: Number of views.
        height: Height of a view.
        width: Width of a view.
        pad: Padding of the images; crops are shifted by up to this many pixels.
        generator: Source of the draws.

    Returns:
        int64 [4, count]: top and left of the crop in the padded image, row and column of the cutout's centre.
    """
    highs = 2 * pad + 1, 2 * pad + 1, height, width
    return torch.stack([torch.randint(0, high, (count,), generator=generator) for high in highs])


def crop_flip_cutout(padded: torch.Tensor, index: torch.Tensor, flip: torch.Tensor, corners: torch.Tensor, pad: int,
                     cutout: int) -> torch.Tensor:
    """Make one augmented view of each image; all tensors are on one device, and it is not synchronised.

    Args:
        padded: uint8 [n, H + 2 pad, W + 2 pad, c], from `pad_reflect`.
        index: int64 [b], the images to take.
        flip: bool [b], which of them to mirror left to right.
        corners: int64 [4, b], from `draw_corners`.
        pad: The padding.
        cutout: Side of the square set to the mid-grey 0.5 (DeVries & Taylor 2017, arXiv 1708.04552); 0 for none.

    Returns:
        float32 [b, c, H, W] in [0, 1], channels-last memory.
    """
    device = padded.device
    height, width = padded.shape[1] - 2 * pad, padded.shape[2] - 2 * pad
    top, left, cy, cx = corners[:, :, None]
    y = torch.arange(height, device=device)[None]
    x = torch.arange(width, device=device)[None]
    columns = torch.where(flip[:, None], width - 1 - x, x) + left
    views = padded[index[:, None, None], (y + top)[:, :, None], columns[:, None, :]].float().div_(255)
    if cutout:
        inside = _near(y - cy, cutout)[:, :, None] & _near(x - cx, cutout)[:, None, :]
        views.masked_fill_(inside[..., None], 0.5)
    return views.permute(0, 3, 1, 2)


def _near(offset: torch.Tensor, size: int) -> torch.Tensor:
    return (offset >= -(size // 2)) & (offset < size - size // 2)
