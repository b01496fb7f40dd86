from __future__ import annotations

import timm.data
from torchvision.models._meta import _IMAGENET_CATEGORIES

from framebench.classes import CIFAR10, CIFAR100, imagenet


def test_imagenets_classes_are_those_of_torchvision_and_timm_in_their_order():
    wnids, names = imagenet()
    assert list(wnids) == timm.data.ImageNetInfo().label_names() == sorted(wnids)
    assert list(names) == _IMAGENET_CATEGORIES and len(set(names)) == 1000


def test_imagenets_names_are_of_their_wnids():
    """WordNet's lemmas, which timm has, come from another source than the names."""
    wnids, names = imagenet()
    info = timm.data.ImageNetInfo()
    for wnid, name in zip(wnids, names, strict=True):
        lemmas = info.label_name_to_description(wnid).lower().replace(",", " ").split()
        assert set(name.lower().split()) & set(lemmas), wnid


def test_cifars_classes():
    assert len(CIFAR10) == len(set(CIFAR10)) == 10
    assert len(CIFAR100) == 100 and list(CIFAR100) == sorted(set(CIFAR100))
