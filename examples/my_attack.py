"""Your own attack: random search within a bound. docs/attacks.md describes the function's interface.

Run it with::

    bench attack --attack python:examples/my_attack.py:random_search --attack-option share=0.1 --budgets 10 100
"""

from __future__ import annotations

import torch


def random_search(model, images, labels, *, epsilon, budget, generator, share=0.2):  # type: ignore[no-untyped-def]
    """Change a random share of the pixel values by epsilon up or down; keep what lowers the label's margin."""
    best, least = images, margin(model(images), labels)
    for _ in range(budget):
        chosen = torch.rand(images.shape, generator=generator) < share
        signs = torch.randint(0, 2, images.shape, generator=generator) * 2 - 1
        trial = torch.where(chosen, (images + epsilon * signs).clamp(0, 1), best)
        score = margin(model(trial), labels)
        if score < least:
            best, least = trial, score
    return best


def margin(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the label's logit minus the largest other one."""
    others = logits.clone()
    others[0, labels] = -torch.inf
    return float(logits[0, labels] - others.max())


# What the function needs from the model, and the bound within which a success counts.
random_search.needs, random_search.norm, random_search.epsilon = "scores", "linf", 8 / 255
