from __future__ import annotations

import pytest

from framebench.reports.colors import PALETTE, model_styles


def _luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("place", "background"), [(0, "#ffffff"), (1, "#14171c")])
def test_every_colour_is_seen_on_its_background(place, background):
    for pair in PALETTE:
        dim, bright = sorted(map(_luminance, (pair[place], background)))
        assert (bright + 0.05) / (dim + 0.05) >= 3


def test_a_model_has_one_style_and_32_models_have_32():
    styles = model_styles([f"model-{i % 32}" for i in range(40)])
    assert len({(style.color, style.dashes) for style in styles.values()}) == 32 == len(styles)
