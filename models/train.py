"""Training of a classifier from arrays: one-cycle SGD on augmented batches, resumable after every epoch.

A regularizer adds gamma times its penalty to the mean cross-entropy.

The weights depend only on the recipe, the data, the device, the number of threads, `compile` and torch's version. Each
epoch draws from a generator keyed by (seed, epoch), so a run that was killed and resumed ends with the weights of an
uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from framebench.derived import write_entries
from framebench.errors import DivergedError, InputError
from framebench.files import seal, unseal
from framebench.models.architectures import build, check_size
from framebench.models.augment import crop_flip_cutout, draw_corners, pad_reflect
from framebench.models.initialise import delta_orthogonal_
from framebench.models.recipe import Recipe, parameter_groups
from framebench.models.regularizers import Regularizer
from framebench.models.regularizers import build as build_regularizer
from framebench.models.watch import WATCH_EVERY, ScaleWatch
from framebench.progress import progress
from framebench.seeding import generator

#: Columns of ``log.csv``.
LOG = ("epoch", "lr", "train_loss", "penalty", "train_accuracy", "validation_accuracy", "seconds")
#: Over this share of a run, the last, half-epochs are kept too: there a one-cycle schedule is steep.
STEEP = 1 / 3


def split(labels: np.ndarray, validation: int, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Split a training set into training ids and class-balanced validation ids, the same for every run.

    Args:
        labels: int64 [n], indices into `names`.
        validation: Number of images to hold out.
        names: Names of the classes.

    Returns:
        Training ids and validation ids, int64, ascending.

    Raises:
        InputError: if fewer than half of a class's images would be left to train on.
    """
    rng = generator(0, "validation-split")
    classes, counts = np.unique(labels, return_counts=True)
    shares = np.full(len(classes), validation // len(classes))
    shares[: validation % len(classes)] += 1
    for c, share, count in zip(classes, shares, counts, strict=True):
        if 2 * share > count:
            raise InputError(f"can't hold {validation} of {len(labels)} images out for validation: the class "
                             f"{names[c]} would lose {share} of its {count}; choose a smaller --validation")
    held_out = np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:share]
                                       for c, share in zip(classes, shares, strict=True)]))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


class Trainer:
    """One training run; its folder holds its state and its log.

    Args:
        images: uint8 [n, H, W, 3], the training set.
        labels: int64 [n].
        classes: Names of the classes.
        recipe: How to train.
        folder: Folder of ``state-EPOCH-CHECKSUM.pt`` (model and optimiser after the last epoch) and ``log.csv``.
        device: Where to compute; the images are stored there too.
        data_digest: sha256 of images and labels; a run can only be resumed with the same data.
        keep: Called with (model in eval mode, epoch, validation accuracy) after every epoch and, in the last third of
            the run, after every half epoch. A resumed run calls it again for epochs that it repeats.
        compile: Whether to compile the model (torch.compile), which is worth it on a GPU.
        provenance: Versions and machine of this process. The state keeps those of every process that has trained
            (`provenances`).

    Raises:
        InputError: if `folder` holds a damaged run, or one of another recipe or other data; if there is only one class,
            or too few images for a batch, or they are too small for the padding or the architecture.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: Sequence[str], recipe: Recipe, folder: Path,
                 device: torch.device, data_digest: str, *,
                 keep: Callable[[nn.Module, float, float], None] | None = None, compile: bool = False,
                 provenance: dict[str, Any] | None = None) -> None:
        if len(classes) < 2:
            raise InputError(f"the training set has one class, {classes[0]}; a classifier needs two or more")
        if recipe.pad >= (side := min(images.shape[1:3])):
            raise InputError(f"a pad of {recipe.pad} needs images with more pixels per side than the {side} of these; "
                             "choose a smaller --pad")
        self.recipe, self.folder, self.device, self.keep = recipe, folder, device, keep
        self.training, self.held_out = split(labels, recipe.validation, classes)
        self.padded = pad_reflect(torch.from_numpy(images[self.training]).to(device), recipe.pad)
        self.targets = torch.from_numpy(labels[self.training]).to(device)
        self.validation = (torch.from_numpy(images[self.held_out]).to(device),
                           torch.from_numpy(labels[self.held_out]).to(device))
        pixels = images[self.training].reshape(-1, 3)
        mean, std = ((float(r), float(g), float(b)) for r, g, b in (
            pixels.mean(0, dtype=np.float64) / 255, pixels.std(0, dtype=np.float64) / 255))
        torch.manual_seed(recipe.seed)
        model = build(recipe.arch, width=recipe.width, num_classes=len(classes), mean=mean, std=std)
        check_size(model, *images.shape[1:3])
        if recipe.init == "delta-orthogonal":
            delta_orthogonal_(model, seed=recipe.seed)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.forward = torch.compile(self.model) if compile else self.model
        self.regularizer = None if recipe.regularizer == "none" else build_regularizer(
            recipe.regularizer, **recipe.regularizer_options)
        self.watch = ScaleWatch(self.model, self.regularizer)  # before resuming, since it compares with the start
        self.optimizer = torch.optim.SGD(parameter_groups(self.model, recipe.decays, self.regularizer), lr=recipe.lr,
                                         momentum=recipe.momentum, nesterov=recipe.momentum > 0)
        self.steps = len(self.training) // recipe.batch_size
        if not self.steps:
            raise InputError(f"a batch of {recipe.batch_size} is more than the {len(self.training)} training images; "
                             "choose a smaller --batch")
        self.identity = {**dataclasses.asdict(recipe), "data": data_digest}
        self.log: list[dict[str, float]] = []
        #: Provenance of every process that has trained, without repeats, the latest last.
        self.provenances: list[dict[str, Any]] = []
        self._resume()
        if self.epoch < recipe.epochs:  # else this process trains nothing
            current = provenance or {}
            self.provenances = [*(entry for entry in self.provenances if entry != current), current]

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return len(self.log)

    def run(self) -> nn.Module:
        """Train the remaining epochs and return the model in eval mode.

        Raises:
            DivergedError: if the loss or the weights are not finite, or the penalty makes the weights collapse.
        """
        total = self.recipe.epochs * self.steps
        with progress(total, initial=self.epoch * self.steps, unit="step", desc="training") as bar:
            while self.epoch < self.recipe.epochs:
                started = time.perf_counter()
                loss, penalty, accuracy = self._train_epoch(bar)
                entry = {"epoch": self.epoch + 1, "lr": self.optimizer.param_groups[0]["lr"], "train_loss": loss,
                         "penalty": penalty, "train_accuracy": accuracy,
                         "validation_accuracy": self._keep(self.epoch + 1), "seconds": time.perf_counter() - started}
                self.log.append(entry)
                self._save()
                bar.set_postfix_str(f"epoch {self.epoch}/{self.recipe.epochs}, train {accuracy:.1%}, "
                                    f"validation {entry['validation_accuracy']:.1%}")
        return self.model.eval()

    def validation_accuracy(self) -> float:
        """Return the accuracy on the held-out images, or NaN if there are none."""
        images, labels = self.validation
        if not len(labels):
            return float("nan")
        self.model.eval()
        correct = 0
        with torch.inference_mode(), self._autocast():
            for x, y in zip(torch.split(images, 500), torch.split(labels, 500), strict=True):
                correct += int((self.model(x.permute(0, 3, 1, 2).float() / 255).argmax(1) == y).sum())
        return correct / len(labels)

    def _keep(self, epoch: float) -> float:
        accuracy = self.validation_accuracy()
        if self.keep is not None:
            self.keep(self.model, epoch, accuracy)
        return accuracy

    def _train_epoch(self, bar: Any) -> tuple[float, float, float]:
        """Return mean loss without the penalty, mean penalty (0 if never applied) and accuracy of the epoch."""
        self.model.train()
        losses: list[torch.Tensor] = []  # cross-entropies
        sums: list[torch.Tensor] = []  # cross-entropies plus penalties
        penalties: list[torch.Tensor] = []
        correct = []
        halfway = self.steps // 2 if self.epoch + 0.5 > (1 - STEEP) * self.recipe.epochs else 0
        first = self.epoch * self.steps
        for step, (x, y) in enumerate(self._batches(), first):  # counted over the whole run, as schedules are
            if halfway and step == first + halfway:
                self._require_finite(sums)
                self._keep(self.epoch + 0.5)
                self.model.train()
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate(step)
            with self._autocast():
                logits = self.forward(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=self.recipe.label_smoothing)
            losses.append(loss.detach())
            if self.regularizer is not None and step % self.recipe.every == 0:
                loss = loss + self._penalty(self.regularizer, step, penalties)
            sums.append(loss.detach())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            if (step + 1) % WATCH_EVERY == 0:
                self.watch.check(self.epoch + 1)
            correct.append((logits.detach().argmax(1) == y).sum())
            bar.update()
        self.watch.check(self.epoch + 1)
        self._require_finite(sums)
        mean, mean_penalty = (float(torch.stack(v).mean()) if v else 0.0 for v in (losses, penalties))
        return mean, mean_penalty, float(torch.stack(correct).sum()) / (self.steps * self.recipe.batch_size)

    def _penalty(self, regularizer: Regularizer, step: int, penalties: list[torch.Tensor]) -> torch.Tensor | float:
        """Return the weighted penalty of a step, and append its unweighted value to `penalties`.

        If the factor of the schedule is 0, the penalty is neither differentiated nor added (0 times infinity is NaN),
        and evaluated only once per epoch, for the log.
        """
        factor = regularizer.schedule(step / (self.recipe.epochs * self.steps))
        if not factor:
            if not penalties:
                with torch.no_grad():
                    penalties.append(regularizer(self.model))
            return 0.0
        penalty = regularizer(self.model)
        penalties.append(penalty.detach())
        return self.recipe.gamma * self.recipe.every * factor * penalty

    def _require_finite(self, losses: list[torch.Tensor]) -> None:
        """Check the losses of the current epoch, including penalties, and the model's weights and buffers."""
        if not all(tensor.isfinite().all() for tensor in (torch.stack(losses), *self.model.state_dict().values())):
            lower = "--lr" + ("" if self.regularizer is None else " or --gamma")
            raise DivergedError(f"the loss or the weights are not finite in epoch {self.epoch + 1}; start again under "
                                f"another --name with a lower {lower}")

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        draws = torch.Generator().manual_seed(
            int(generator(self.recipe.seed, "training-epoch", self.epoch).integers(2**62)))
        order = torch.randperm(len(self.training), generator=draws)
        # Each image is mirrored in every second epoch (airbench, arXiv 2404.00498), so that both views are seen equally
        # often, unlike with random flips.
        first = torch.rand(len(self.training), generator=torch.Generator().manual_seed(self.recipe.seed)) < 0.5
        flips = (first ^ bool(self.epoch % 2)) & self.recipe.flip
        batches = torch.split(order, self.recipe.batch_size)[: self.steps]
        height, width = (side - 2 * self.recipe.pad for side in self.padded.shape[1:3])
        corners = torch.stack([draw_corners(len(index), height, width, self.recipe.pad, draws) for index in batches])
        # One copy to the device: a copy per step would wait for the previous step.
        indices = torch.stack(batches).to(self.device)
        mirrored, corners = flips.to(self.device)[indices], corners.to(self.device)
        for index, flip, corner in zip(indices, mirrored, corners, strict=True):
            views = crop_flip_cutout(self.padded, index, flip, corner, self.recipe.pad, self.recipe.cutout)
            yield views, self.targets[index]

    def _learning_rate(self, step: int) -> float:
        done = (step + 1) / (self.recipe.epochs * self.steps + 1)
        warmup = self.recipe.warmup
        return self.recipe.lr * (done / warmup if done < warmup else (1 - done) / (1 - warmup))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def _save(self) -> None:
        # The log first: if the run is killed before the state is saved, epoch and entry are repeated.
        write_entries(self.folder / "log.csv", LOG, self.log)
        state = {"identity": self.identity, "log": self.log, "provenances": self.provenances,
                 "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "regularizer": {} if self.regularizer is None else self.regularizer.state_dict()}
        content = io.BytesIO()  # into memory first: torch's writer hides errors of the disk
        torch.save(state, content)
        # With a checksum: torch.load does not notice most flipped bits.
        written = seal(self.folder, f"state-{self.epoch:05}", ".pt", content.getvalue())
        for path in set(self._states()) - {written}:
            path.unlink(missing_ok=True)

    def _states(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.pt"))

    def _resume(self) -> None:
        if not self._states():
            return
        path = self._states()[-1]
        try:
            state = torch.load(io.BytesIO(unseal(path)), map_location=self.device, weights_only=True)
            identity = state["identity"]
            differs = [f"{key.replace('_', ' ')} ({identity[key]}, now {value})"
                       for key, value in self.identity.items() if identity[key] != value]
            if not differs:
                self._restore(state)
        except Exception as error:  # a damaged file raises nearly anything, also where its content is used
            raise InputError(f"the training state {path} can't be read ({type(error).__name__}); remove it to start "
                           "anew") from None
        if differs:
            raise InputError(f"{self.folder} holds a run with another {', '.join(differs)}; choose another --name, "
                             "or remove the folder to start anew")

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.regularizer is not None:
            self.regularizer.load_state_dict(state["regularizer"])
        self.log = [{column: entry[column] for column in LOG} for entry in state["log"]]
        self.provenances = state["provenances"]
