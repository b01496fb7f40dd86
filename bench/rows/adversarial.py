"""Attacked images kept for others to read, and models evaluated on images that another model was attacked by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bench.analysis.stats import wilson
from bench.rows.store import Rows, Store
from framebench.domains import Domain
from framebench.errors import InputError
from framebench.files import atomic

TRANSFER_KEYS = ["source", "target", "domain", "attack", "epsilon"]
TRANSFER_COLUMNS = [*TRANSFER_KEYS, "n", "n_correct", "successes", "asr", "ci_low",
                    "ci_high", "clean_accuracy", "attacked_accuracy"]


class Adversarial:
    """The final images of one evaluation, in ``OUT/adversarial/*.safetensors``.

    Tensors: images float32 [n, C, H, W] in [0, 1], ids int64 [n], labels int64 [n]; the file's metadata say of what.

    Args:
        rows: The evaluation's rows; each of them must have its image.

    Raises:
        InputError: if the file is damaged, or rows were made without their images being kept.
    """

    def __init__(self, rows: Rows) -> None:
        self.path = _file_of(rows)
        self._evaluation, self._title = rows.evaluation, str(rows.facts["title"])
        self._parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        if self.path.is_file():
            images, ids, labels, _ = read(self.path)
            self._parts.append((images, torch.from_numpy(ids), torch.from_numpy(labels)))
        kept = np.concatenate([np.zeros(0, np.int64), *(ids.numpy() for _, ids, _ in self._parts)])
        missing = np.setdiff1d(rows.ids, kept)
        if len(missing):
            raise InputError(f"{len(missing)} rows of {rows.evaluation.model} were made without --save-adversarial, "
                             "so their images are gone; attack into another --out to have all")

    def add(self, ids: np.ndarray, labels: np.ndarray, images: torch.Tensor) -> None:
        """Keep attacked images [r, C, H, W]; `flush` writes them."""
        self._parts.append((images.detach().float().cpu().contiguous().clone(), torch.from_numpy(ids.astype(np.int64)),
                            torch.from_numpy(labels.astype(np.int64))))

    def flush(self) -> None:
        """Write all of them, the last one of an example that was attacked twice."""
        if not self._parts:
            return
        images, ids, labels = (torch.cat(tensors) for tensors in zip(*self._parts, strict=True))
        last = np.unique(ids.numpy()[::-1], return_index=True)[1]
        order = torch.from_numpy(len(ids) - 1 - last)
        self._parts = [(images[order], ids[order], labels[order])]
        evaluation = self._evaluation
        facts = {"model": evaluation.model, "domain": evaluation.domain, "domain_digest": evaluation.domain_digest,
                 "title": self._title, "attack": evaluation.label, "epsilon": evaluation.options.get("epsilon"),
                 "key": evaluation.key}
        _save(self.path, *self._parts[0], facts)


def _file_of(rows: Rows) -> Path:
    return rows.path.parent.parent / "adversarial" / rows.path.with_suffix(".safetensors").name


def take_adversarial(store: Store, other: Store) -> None:
    """Add the images that another store keeps to those of the same evaluations, whose rows are joined already."""
    own = {rows.evaluation.key: rows for rows in store.all()}
    for theirs in other.all():
        source, target = _file_of(theirs), _file_of(own[theirs.evaluation.key])
        if not source.is_file():
            continue
        parts = [read(path) for path in (target, source) if path.is_file()]  # of an image that both have, the target's
        ids, first = np.unique(np.concatenate([part[1] for part in parts]), return_index=True)
        images, labels = (torch.cat([torch.as_tensor(part[column]) for part in parts])[torch.from_numpy(first)]
                          for column in (0, 2))
        _save(target, images, torch.from_numpy(ids), labels, parts[0][3])


def _save(path: Path, images: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor, facts: dict[str, Any]) -> None:
    with atomic(path) as temporary:
        save_file({"images": images, "ids": ids, "labels": labels}, temporary,
                  metadata={"framebench": json.dumps(facts)})


def read(path: Path) -> tuple[torch.Tensor, np.ndarray, np.ndarray, dict[str, Any]]:
    """Read saved images: float32 [n, C, H, W], ids int64 [n], labels int64 [n], and of what they are.

    Raises:
        InputError: if the file is not there, not whole, or not such a file.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; bench attack --save-adversarial writes such files into "
                         "OUT/adversarial/")
    try:
        with safe_open(path, framework="pt") as stored:
            facts = json.loads((stored.metadata() or {})["framebench"])
            images, ids, labels = (stored.get_tensor(name) for name in ("images", "ids", "labels"))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a whole file of attacked images ({type(error).__name__}); write it anew with "
                         "bench attack --save-adversarial") from None
    return images, ids.numpy(), labels.numpy(), facts


def transfer(path: Path, model: str, predict: Callable[[torch.Tensor], torch.Tensor], domain: Domain, *,
             batch_size: int) -> dict[str, Any]:
    """Evaluate a model on images that another one was attacked with; return an entry of ``transfer.csv``.

    The rate is over the images that the target classifies right before the attack and that the attack has changed,
    which leaves out those that the source got wrong by itself.

    Args:
        path: File of saved images.
        model: Name of the target.
        predict: The target: maps images [n, C, H, W] in [0, 1] to logits.
        domain: Where the clean images come from.
        batch_size: Images a forward pass.

    Raises:
        InputError: see `read`, and if the images are of another domain.
    """
    images, ids, labels, facts = read(path)
    if facts["domain_digest"] != domain.digest:
        raise InputError(f"{path} holds images of {facts['title']}, not of {domain.title}; name their domain with "
                         "--domain and --data-root")
    clean, attacked, changed = [], [], []
    for start in range(0, len(ids), batch_size):
        x, _ = domain.load(ids[start : start + batch_size])
        x_adv = images[start : start + batch_size]
        clean.append(predict(x).argmax(1).cpu().numpy())
        attacked.append(predict(x_adv).argmax(1).cpu().numpy())
        changed.append((x_adv != x).flatten(1).any(1).numpy())
    right, still = np.concatenate(clean) == labels, np.concatenate(attacked) == labels
    among = right & np.concatenate(changed)
    n, successes = int(among.sum()), int((among & ~still).sum())
    low, high = wilson(successes, n)
    return {"source": facts["model"], "target": model, "domain": facts["domain"], "attack": facts["attack"],
            "epsilon": facts["epsilon"], "n": len(ids), "n_correct": n, "successes": successes,
            "asr": successes / n if n else np.nan, "ci_low": low, "ci_high": high,
            "clean_accuracy": float(right.mean()), "attacked_accuracy": float(still.mean())}
