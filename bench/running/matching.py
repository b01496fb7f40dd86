"""Matched clean accuracy: the study's protocol for comparing models under domain shift.

For each training run, the kept epoch is chosen whose held-out accuracy is nearest to that of a reference model. So a
difference under shift is not caused by a difference in clean accuracy. The test set is not used for the choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from framebench.errors import InputError
from framebench.models.checkpoint import HELD_OUT, Card
from framebench.models.registry import card_of, kept_epochs


@dataclass(frozen=True)
class Match:
    """A kept epoch that stands for a run.

    Attributes:
        model: Its name, ``RUN@EPOCH``; the given name if it is not a run.
        note: What was matched and how closely, a sentence.
        reference: The kept epoch of the reference that is nearest to this one, if the run never reaches the
            reference's accuracy and the reference has kept epochs.
    """

    model: str
    note: str
    reference: str | None = None


def match_clean(names: list[str], reference: str) -> list[Match]:
    """Choose the kept epoch of every run that is nearest to the reference model in held-out accuracy.

    Args:
        names: Model names; folders of training runs are matched, others are taken as they are.
        reference: A model with a card, or the folder of a run, whose last epoch counts.

    Raises:
        InputError: if the reference has no held-out accuracy, a run keeps no epochs, or the two were held out
            differently.
    """
    names, reference = [_plain(name) for name in names], _plain(reference)
    reference_epochs = kept_epochs(reference) if Path(reference).is_dir() else {}
    last = f"{reference}@{max(reference_epochs):g}" if reference_epochs else reference
    card = card_of(last)
    target, n = _held_out(card, reference)
    matches = []
    for name in names:
        if name == reference:
            matches.append(Match(last, f"{name}: the reference, held-out accuracy {target:.2%} (n = {n:,})"))
        elif Path(name).is_dir():
            matches.append(_match(name, reference, card, reference_epochs))
        else:
            matches.append(Match(name, f"{name}: not matched"))
    return matches


def _match(run: str, reference: str, card: Card, reference_epochs: dict[float, Card]) -> Match:
    """Match a run to the reference; if it never reaches the reference, match the reference down to it too.

    Args:
        run: The folder of the run.
        reference: The reference's name.
        card: The reference's card.
        reference_epochs: The cards of the reference's kept epochs; may be empty.
    """
    kept, (target, n) = kept_epochs(run), _held_out(card, reference)
    for epoch_card in kept.values():
        if (epoch_card.data.get("sha256"), _held_out(epoch_card, run)[1]) != (card.data.get("sha256"), n):
            raise InputError(f"{run} and {reference} were not trained on the same data with the same images held "
                             "out, so their held-out accuracies can't be matched; train both with one --validation")
    epoch, accuracy = _nearest(kept, target, run)
    best, down = max(_held_out(epoch_card, run)[0] for epoch_card in kept.values()), None
    note = f"{run}: epoch {epoch:g}, held-out accuracy {accuracy:.2%} against {target:.2%} of {reference} (n = {n:,})"
    if best < target:
        note += f"; it never reaches {reference}, its best is {best:.2%}"
        if reference_epochs:
            lower, level = _nearest(reference_epochs, accuracy, reference)
            down = f"{reference}@{lower:g}"
            note += f"; {reference} is matched down to it at epoch {lower:g}, {level:.2%}"
    return Match(f"{run}@{epoch:g}", note, down)


def _nearest(kept: dict[float, Card], target: float, run: str) -> tuple[float, float]:
    """Return the epoch of a run nearest to an accuracy, and its accuracy; the later one of two equally near epochs."""
    accuracy = {epoch: _held_out(card, run)[0] for epoch, card in kept.items()}
    nearest = min(sorted(accuracy, reverse=True), key=lambda epoch: abs(accuracy[epoch] - target))
    return nearest, accuracy[nearest]


def _plain(name: str) -> str:
    """Return a folder's path without the trailing slash of shell completion."""
    return str(Path(name)) if Path(name).is_dir() else name


def _held_out(card: Card, name: str) -> tuple[float, int]:
    for entry in card.accuracy:
        if entry.get("data") == HELD_OUT:
            return float(entry["accuracy"]), int(entry["n"])
    raise InputError(f"the card of {name} has no accuracy on images held out of the training set; --match-clean needs "
                     "models trained with --validation above 0")
