"""Names of the classes that data sets and models share, in the order of the logits."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

#: CIFAR-100's fine classes, in the order of the official file ``meta``.
CIFAR100 = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split())


class ImageNet(NamedTuple):
    """The 1,000 classes of ILSVRC 2012 (Russakovsky et al. 2015, arXiv 1409.0575), in the order of their wnids.

    Attributes:
        wnids: Their WordNet ids, such as "n01440764": what folders are called.
        names: Their names, such as "tench", as torchvision has them; no two are alike.
    """

    wnids: tuple[str, ...]
    names: tuple[str, ...]

    def names_of(self, wnids: Iterable[str]) -> tuple[str, ...]:
        """Return the names of classes; a wnid that is none of these 1,000 stands for itself."""
        known = dict(zip(self.wnids, self.names, strict=True))
        return tuple(known.get(wnid, wnid) for wnid in wnids)


@cache
def imagenet() -> ImageNet:
    """Return ImageNet's classes."""
    lines = (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    wnids, names = zip(*(line.split("\t") for line in lines), strict=True)
    return ImageNet(wnids, names)
