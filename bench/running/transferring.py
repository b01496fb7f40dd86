"""Transfer: models classify attacked images of other models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bench.analysis.reporting import write_report
from bench.analysis.stats import wilson
from bench.options.attack import AttackOptions
from bench.rows.adversarial import Saved, joined, read
from bench.rows.kept import TRANSFER
from bench.rows.store import Store
from bench.running.checks import check_model, load_models, reading_for
from bench.running.computing import computing
from bench.running.prepare import fitted
from framebench.domains import Domain, data_root, load_domain
from framebench.errors import InputError
from framebench.files import writable_folder
from framebench.models.predictor import Predictor
from framebench.models.registry import LoadedModel


def run(options: AttackOptions) -> pd.DataFrame:
    """Let every model classify saved attacked images, and write ``OUT/transfer.csv``.

    Args:
        options: `transfer_from` names folders of saved images; options of the attack are ignored.

    Returns:
        The new entries of the table.

    Raises:
        InputError: for folders without such images, and for images of another domain.
    """
    models, setup = load_models(options.models, options.precision), computing(options)
    saved: dict[str, tuple[Saved, Domain]] = {}
    for path in map(Path, options.transfer_from or ()):
        images, domain = _checked(path, read(path), options, models)
        if (key := images.origin.key) in saved:  # shards of one evaluation have a folder each
            images = joined([saved[key][0], images])
        saved[key] = images, domain
    store = Store(writable_folder(options.out))
    with store.lock(repair=options.repair):
        earlier = TRANSFER.read(options.out)
        predictors: dict[tuple[str, str], Predictor] = {}
        targets = list(itertools.product(models, saved.values()))
        for model, (_, domain) in targets:
            if (model.name, domain.digest) not in predictors:
                fit = fitted(model, domain)
                example, _ = domain.load(domain.order[:32])
                predictor = Predictor(fit.module, example, device=setup.device, threads=setup.threads, name=fit.name)
                check_model(fit, predictor, domain, example)  # check all before the first one is evaluated
                predictors[model.name, domain.digest] = predictor
        entries = pd.DataFrame([transfer(images, model, predictors[model.name, domain.digest], domain,
                                         batch_size=setup.batch_size) for model, (images, domain) in targets],
                               columns=list(TRANSFER.columns))
        TRANSFER.write(options.out, entries, earlier)
        if store.all():
            write_report(options.out, options.report_settings())
    return entries


def _checked(path: Path, saved: Saved, options: AttackOptions, models: Sequence[LoadedModel]) -> tuple[Saved, Domain]:
    name, root = options.domain or saved.origin.domain, data_root(options.data_root)
    domain = name if isinstance(name, Domain) else load_domain(name, root, reading_for(options, models, [name]))
    if saved.origin.domain_digest != domain.digest:
        raise InputError(f"{path} holds images of {saved.origin.title}, not of {domain.title}; name their domain with "
                         "--domain and --data-root")
    height, width, channels = domain.shape
    if saved.ids.max() >= len(domain) or not np.array_equal(saved.labels, domain.labels[saved.ids]) \
            or saved.images.shape[1:] != (channels, height, width):
        raise InputError(f"{path} has ids, labels or sizes of images that are not those of {domain.title}; write it "
                         "anew with bench attack --save-adversarial")
    return saved, domain


def transfer(saved: Saved, model: LoadedModel, predict: Callable[[torch.Tensor], torch.Tensor], domain: Domain, *,
             batch_size: int) -> dict[str, Any]:
    """Evaluate a target model on attacked images of a source model; return an entry of ``transfer.csv``.

    The rate is over images that the target classifies correctly before the attack, and that the attack has changed.
    This leaves out images that the source misclassified without an attack.

    Args:
        saved: The attacked images.
        model: The target.
        predict: Its form for these images: maps images [n, C, H, W] in [0, 1] to logits.
        domain: The domain of the clean images.
        batch_size: Images per forward pass.
    """
    clean, attacked, changed = [], [], []
    for start in range(0, len(saved.ids), batch_size):
        x, _ = domain.load(saved.ids[start : start + batch_size])
        x_adv = saved.images[start : start + batch_size]
        changed.append((x_adv != x).flatten(1).any(1).numpy())
        clean.append(predict(x).argmax(1).cpu().numpy())
        attacked.append(predict(x_adv.clone()).argmax(1).cpu().numpy())
    correct, robust = np.concatenate(clean) == saved.labels, np.concatenate(attacked) == saved.labels
    counted = correct & np.concatenate(changed)
    n, successes = int(counted.sum()), int((counted & ~robust).sum())
    low, high = wilson(successes, n)
    origin = saved.origin
    return {"source": origin.model, "target": model.name, "target_digest": model.digest, "domain": origin.domain,
            "attack": origin.attack, "epsilon": origin.epsilon, "budget": origin.budget,
            "evaluation": origin.key[:12], "n": len(saved.ids), "n_correct": n, "successes": successes,
            "asr": successes / n if n else np.nan, "ci_low": low, "ci_high": high,
            "clean_accuracy": float(correct.mean()), "attacked_accuracy": float(robust.mean())}
