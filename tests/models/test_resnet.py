from __future__ import annotations

import pytest
import torch
from torch import nn

from framebench.errors import InputError
from framebench.models.architectures import build


def _parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("arch", "millions", "convolutions"), [
    ("resnet18", 11.17, 20), ("resnet34", 21.28, 36), ("resnet50", 23.52, 53), ("resnet20", 0.27, 21)])
def test_sizes_are_those_of_the_literature(arch, millions, convolutions):
    model = build(arch)
    assert _parameters(model) / 1e6 == pytest.approx(millions, abs=0.006)
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == convolutions


@pytest.mark.parametrize("arch", ["resnet18", "resnet20", "resnet34", "resnet50", "speednet"])
def test_any_width_and_number_of_classes(arch):
    model = build(arch, width=4, num_classes=7).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_normalisation_is_inside():
    model = build("resnet20", width=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.2)).eval()
    x = torch.rand(2, 3, 32, 32)
    got = []
    model.conv.register_forward_pre_hook(lambda _, inputs: got.append(inputs[0]))
    model(x)
    want = (x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.4, 0.2]).view(3, 1, 1)
    torch.testing.assert_close(got[0], want)


def test_unknown_names_and_widths_are_refused():
    with pytest.raises(InputError, match="unknown architecture 'resnet19'; did you mean resnet18"):
        build("resnet19")
    with pytest.raises(InputError, match="width must lie in 1 to 1024"):
        build("resnet18", width=0)


@pytest.mark.parametrize("arch", ["resnet20", "resnet50"])
def test_narrow_networks_compute_what_the_strided_shortcuts_say_but_have_none(arch):
    """oneDNN's backward pass of such a convolution writes beyond its memory on processors without AVX-512."""
    torch.manual_seed(0)
    narrow = build(arch, width=4).eval()
    strided = [module for module in narrow.modules()
               if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1)]
    assert all(conv.in_channels >= 16 for conv in strided)
    x = torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        want = narrow(x)
        for shortcut in [m for name, m in narrow.named_modules() if name.endswith("shortcut") and hasattr(m, "pixels")]:
            shortcut[1].stride = (shortcut.pixels.stride,) * 2
            shortcut.pixels = nn.Identity()
        torch.testing.assert_close(narrow(x), want)
