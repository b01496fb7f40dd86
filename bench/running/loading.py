"""Models and domains in workers: named by the client, loaded, checked, prepared, and kept for the next slice."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.options.attack import AttackOptions
from bench.options.shift import ShiftOptions
from bench.running.computing import Computing, computing
from bench.running.evaluations import make_attack
from bench.running.prepare import Prepared, fitted, predictor, prepare
from bench.running.provenance import provenance
from bench.running.remote import refusal
from bench.running.watch import WATCH
from bench.running.workers import Pool
from framebench.domains import Domain, Reading, load_domain
from framebench.domains.corrupted import CorruptedSet, load_corrupted
from framebench.models.registry import LoadedModel, load
from framebench.progress import progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DomainSpec:
    """What a worker needs to load a domain, or a cell of a corrupted set.

    Attributes:
        name: Name of the domain or of the set.
        root: Folder that holds the data sets.
        reading: How image files are read.
        digest: Digest of the domain or cell, which the worker checks.
        corruption: Corruption of the cell; empty for a domain.
        severity: Severity of the cell.
        seed: Seed of generated corruptions.
        set_digest: Digest of the set.
    """

    name: str
    root: Path | None
    reading: Reading
    digest: str
    corruption: str = ""
    severity: int = 0
    seed: int = 0
    set_digest: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """What a worker needs to load and prepare a model.

    Attributes:
        name: The name by which it is loaded.
        digest: Its digest, which the worker checks.
        domain: The domain on whose images it is prepared.
        kind: "fused" or "eager"; before the trial that of its rows, or None without rows.
        gradients: Whether gradients with respect to the images are needed.
        flags: What looks wrong with it; known after the trial.
        chunk: Images per pass of a thread; None if the model gets whole batches.
    """

    name: str
    digest: str
    domain: DomainSpec
    kind: str | None
    gradients: bool = False
    flags: tuple[str, ...] = ()
    chunk: int | None = None


@dataclass(frozen=True)
class Trial:
    """The first preparation of a model, with all checks.

    Attributes:
        options: The command's options.
        model: The model.
        passes: Lower bound of the number of images that the model will classify, roughly.
    """

    options: AttackOptions | ShiftOptions
    model: ModelSpec
    passes: float

    def __str__(self) -> str:
        return f"the first look at {self.model.name}"


def try_models(workers: Pool, options: AttackOptions | ShiftOptions,
               models: Mapping[ModelSpec, float]) -> dict[ModelSpec, ModelSpec]:
    """Let workers prepare models for the first time, which takes seconds each.

    Args:
        workers: The workers.
        options: The command's options.
        models: Model -> `Trial.passes`.

    Returns:
        Model -> how all slices prepare it. A model that has ended several workers is missing.

    Raises:
        InputError: see `prepare`.
    """
    tried: dict[ModelSpec, ModelSpec] = {}
    with progress(len(models), desc="models", unit="model") as bar:
        def done(trial: Trial, model: ModelSpec) -> None:
            tried[trial.model] = model
            for text in model.flags:  # so far only the worker has logged them
                _log.warning("%s: %s", model.name, text)
            bar.update()

        workers.compute(_try_model, [Trial(options, *entry) for entry in models.items()], done)
    return tried


def _try_model(trial: Trial) -> ModelSpec:
    spec, setup = trial.model, computing(trial.options)
    model, domain = _load_model(spec), load_spec(spec.domain)
    if isinstance(trial.options, AttackOptions):
        for epsilon in trial.options.epsilon or (None,):
            make_attack(trial.options, epsilon).on(fitted(model, domain).module)
    ready = prepare(model, domain, kind=spec.kind, setup=setup, gradients=spec.gradients, passes=trial.passes)
    return dataclasses.replace(spec, kind=ready.kind, flags=ready.flags, chunk=ready.chunk)


@functools.lru_cache(maxsize=1)
def prepared_models(specs: tuple[ModelSpec, ...], setup: Computing) -> list[tuple[LoadedModel, Prepared]]:
    """Load and prepare models; those of the last slice stay in memory.

    Raises:
        InputError: if this worker has another model or data set of the same name; and see `predictor`.
    """
    models = []
    for spec in specs:
        model = _load_model(spec)
        predict = predictor(model, load_spec(spec.domain), kind=spec.kind, setup=setup, gradients=spec.gradients,
                            chunk=None if spec.gradients else spec.chunk)
        models.append((model, Prepared(WATCH.heard(predict), predict.kind, spec.flags, provenance(setup.device))))
    return models


@functools.lru_cache(maxsize=2)
def load_spec(spec: DomainSpec) -> Domain:
    """Load a domain or a cell; the last two stay in memory.

    Raises:
        InputError: if this worker has another data set of the same name; and see `load_domain`.
    """
    if spec.corruption:
        corrupted = _load_set(spec.name, spec.root, spec.reading, spec.seed, spec.set_digest)
        domain = corrupted.cell(spec.corruption, spec.severity)
    else:
        domain = load_domain(spec.name, spec.root, spec.reading)
    check_digest("data set", spec.name, domain.digest, spec.digest)
    return domain


@functools.lru_cache(maxsize=1)
def _load_set(name: str, root: Path | None, reading: Reading, seed: int, digest: str) -> CorruptedSet:
    """Load a corrupted set; the digest is there for the cache alone."""
    return load_corrupted(name, root, seed=seed, reading=reading)


def _load_model(spec: ModelSpec) -> LoadedModel:
    model = load(spec.name)
    check_digest("model", model.name, model.digest, spec.digest)
    return model


def check_digest(kind: str, name: str, digest: str, expected: str) -> None:
    """Check that this worker has the same model, data set or attack under a name as the client.

    Raises:
        InputError: if the digest is another one.
    """
    if digest != expected:
        raise refusal(f"has another {kind} {name} than this process; give it the same files, and start it anew if they "
                      "have changed")
