"""The convention of clipping *normalised* images to [0, 1], which can explain the study's table.

Some harnesses normalise images, z = (x - mean) / std, and let the attack clip z to [0, 1]. Every value below 0 (about
half of them) or above 1 is then lost before the attack begins. This convention includes a control: accuracy is that of
the image before the clip, and what the clip alone breaks counts as success at iteration 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from framebench.attacks.base import Finished, Load, Predict, guarded
from framebench.errors import InputError


class NormalisedClip:
    """SimBA in the space of normalised images, clipped to [0, 1] there.

    Args:
        model: A model whose attribute `normalize` has `mean` and `std`, [1, C, 1, 1], as
            `framebench.models.layers.Normalize` has.

    Raises:
        InputError: if it has none.
    """

    def __init__(self, model: nn.Module) -> None:
        layer = getattr(model, "normalize", None)
        mean, std = getattr(layer, "mean", None), getattr(layer, "std", None)
        if not isinstance(mean, torch.Tensor) or not isinstance(std, torch.Tensor):
            raise InputError("the convention normalised-clip needs a model with a layer `normalize` that has mean "
                             "and std; this one has none, so leave the option out")
        self.mean, self.std = mean.detach().cpu().clone(), std.detach().cpu().clone()

    def stream(self, run: Callable[[Predict, Load], Iterator[Finished]], predict: Predict,
               load: Load) -> Iterator[Finished]:
        """Run SimBA, `run(predict, load)`, with epsilon in units of the normalised space.

        Images, L2 and Linf are returned in pixel space and include the effect of the clip. The prediction before the
        clip is not charged: it is made by the benchmark, not by the attack. How the attack clips its own steps is an
        option of SimBA (`clip`).
        """
        ask = guarded(predict)
        unclipped: dict[int, tuple[float, int]] = {}  # id -> confidence and prediction before the clip

        def clipped(keys: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = load(keys)
            confidence, prediction = (values.tolist() for values in ask(x).double().softmax(1).max(1))
            unclipped.update(zip(keys.tolist(), zip(confidence, prediction, strict=True), strict=True))
            return ((x - self.mean) / self.std).clamp_(0, 1), y

        def predict_normalised(z: torch.Tensor) -> torch.Tensor:
            return predict(self._pixels(z))

        for done in run(predict_normalised, clipped):
            x, _ = load(done.ids)
            x_adv = self._pixels(done.x_adv)
            difference = (x_adv.double() - x.double()).flatten(1)
            confidence, prediction = zip(*(unclipped.pop(example) for example in done.ids.tolist()), strict=True)
            yield dataclasses.replace(
                done, clean_prediction=np.array(prediction), clean_confidence=np.array(confidence),
                l2=difference.norm(dim=1).numpy(), linf=difference.abs().amax(1).numpy(), x_adv=x_adv)

    def _pixels(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.std + self.mean
