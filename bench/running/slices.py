"""Slices of evaluations as workers compute them (`bench.running.cluster`).

A slice says by names, options and ids what is to be computed, and by digests what the client has under these names. A
worker loads what they name, keeps it for the next slice, and refuses what is not the same. It writes the rows as parts,
which the client joins.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.options.attack import AttackOptions
from bench.options.shift import ShiftOptions
from bench.rows.adversarial import Adversarial
from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.flags import flag
from bench.rows.parts import Rows
from bench.running.asking import attack_of, attacked
from bench.running.cluster import Pool, refused
from bench.running.computing import Computing, computing
from bench.running.evaluate import attack_images, classify_all
from bench.running.prepare import Prepared, fitted, predictor, prepare
from bench.running.progress import Tally
from bench.running.provenance import provenance
from bench.running.watch import WATCH
from framebench.attacks.base import Finished
from framebench.domains import Domain, Reading, load_domain
from framebench.domains.corrupted import CorruptedSet, load_corrupted
from framebench.models.registry import LoadedModel, load
from framebench.progress import progress

_log = logging.getLogger(__name__)

#: Images of the smallest slice of an attack. Towards its end few images are left to fill a core's vector units: against
#: slices of 64, those of 32 cost 7% more per image, of 16 11%, of 8 22% (`baseline`, 100 iterations).
LEAST = 32


@dataclass(frozen=True)
class Images:
    """A domain.

    Attributes:
        name: Its name.
        root: The folder that holds the data sets.
        reading: How image files are read.
        digest: Its digest; another one under the same name is loaded anew.
        corruption: The corruption, where it is a cell of a corrupted set of that name; else empty.
        severity: Its severity.
        seed: Seed of corruptions that are generated.
        set: Digest of that set.
    """

    name: str
    root: Path | None
    reading: Reading
    digest: str
    corruption: str = ""
    severity: int = 0
    seed: int = 0
    set: str = ""


@dataclass(frozen=True)
class Form:
    """A model made ready for images.

    Attributes:
        model: The name by which it is loaded.
        digest: Its digest; another one under the same name is loaded anew.
        kind: "fused" or "eager"; before it is tried None, or that of its rows so far.
        flags: What looks wrong with it, once it is tried.
        gradients: Whether gradients with respect to the images are needed.
        images: The images that it is made ready on.
        chunk: Images per pass of a thread; None where the model gets batches whole.
    """

    model: str
    digest: str
    kind: str | None
    flags: tuple[str, ...]
    gradients: bool
    images: Images
    chunk: int | None


@dataclass(frozen=True)
class Trial:
    """A model that is to be made ready for the first time, with all checks.

    Attributes:
        options: The command's options.
        form: The model.
        passes: Images that it is to be asked about, about as many or more.
    """

    options: AttackOptions | ShiftOptions
    form: Form
    passes: float

    def __str__(self) -> str:
        return f"the first look at {self.form.model}"


def tried(workers: Pool, options: AttackOptions | ShiftOptions, forms: Mapping[Form, float]) -> dict[Form, Form]:
    """Let workers make models ready for the first time, which takes seconds for each; see `Trial`.

    Returns:
        The form that all slices are to have, of each model but those that have ended several workers.

    Raises:
        InputError: see `prepare`.
    """
    trials, found = [Trial(options, form, passes) for form, passes in forms.items()], dict[Form, Form]()
    with progress(len(trials), desc="models", unit="model") as bar:
        def done(trial: Trial, form: Form) -> None:
            found[trial.form] = form
            for text in form.flags:  # the worker's log has them too
                _log.warning("%s: %s", form.model, text)
            bar.update()

        workers.compute(try_model, trials, done)
    return found


def try_model(trial: Trial) -> Form:
    """Make a model ready, and return its form.

    Raises:
        InputError: if this worker has another model or data set under the same name; and see `prepare`.
    """
    form, how = trial.form, computing(trial.options)
    model, domain = _model(form), _domain(form.images)
    if isinstance(trial.options, AttackOptions):
        for epsilon in trial.options.epsilon or (None,):
            attack_of(trial.options, epsilon).on(fitted(model, domain).module)
    ready = prepare(model, domain, kind=form.kind, how=how, gradients=form.gradients, passes=trial.passes)
    return dataclasses.replace(form, kind=ready.kind, flags=ready.flags, chunk=ready.chunk)


@dataclass(frozen=True)
class Wanted:
    """Rows that are to be made.

    Attributes:
        evaluation: What they are of, as the client has it.
        facts: What else is known of them.
        folder: Where they are kept.
        ids: Example ids, int64 [n].
    """

    evaluation: Evaluation
    facts: Facts
    folder: Path
    ids: np.ndarray

    @classmethod
    def of(cls, rows: Rows, ids: np.ndarray) -> Wanted:
        """Return what is wanted of an evaluation."""
        return cls(rows.evaluation, rows.facts, rows.folder, ids)

    def rows(self) -> Rows:
        """Return these rows, without those that there are already."""
        return Rows(self.folder, self.evaluation, self.facts)

    def __str__(self) -> str:
        """What messages call them."""
        asked = self.evaluation
        cell = f" ({asked.corruption} {asked.severity})" if asked.corruption else ""
        shown = ", ".join(map(str, self.ids[:8])) + (", ..." if len(self.ids) > 8 else "")
        return f"{asked.model} on {asked.domain}{cell}: {len(self.ids)} images (examples {shown})"


@dataclass(frozen=True)
class AttackSlice:
    """Images of a domain to be attacked.

    Attributes:
        options: The command's options.
        epsilon: One of their epsilons.
        images: The domain.
        form: The model.
        wanted: The rows.
    """

    options: AttackOptions
    epsilon: float | None
    images: Images
    form: Form
    wanted: Wanted

    def __str__(self) -> str:
        return str(self.wanted)


def attack_slice(task: AttackSlice) -> Tally:
    """Attack the images of a slice, and write their rows and pictures.

    Raises:
        InputError: if this worker has another model, data set or attack under the same name; and see `attack_images`.
    """
    domain, attack, how = _domain(task.images), attack_of(task.options, task.epsilon), computing(task.options)
    ((model, ready),) = _ready((task.form,), how)
    asked, name, rows = task.wanted.evaluation, task.options.attack, task.wanted.rows()
    _check("attack", str(name), attacked(model, domain, attack, name, asked.seed).key, asked.key)
    saved = Adversarial(rows, new=True) if task.options.save_adversarial else None
    tally = Tally()

    def count(done: Finished) -> None:
        nonlocal tally
        tally += Tally.of(done, queries=int(done.queries.sum()))

    attack_images(rows, attack.on(fitted(model, domain).module), ready.predict, domain, task.wanted.ids,
                  made=ready.made(rows.facts), batch_size=how.batch_size, report=count, saved=saved)
    return tally


@dataclass(frozen=True)
class ShiftSlice:
    """Images of a cell to be classified by models.

    Attributes:
        options: The command's options.
        images: The cell.
        forms: The models.
        wanted: The rows of each of them, None where none is wanted.
    """

    options: ShiftOptions
    images: Images
    forms: tuple[Form, ...]
    wanted: tuple[Wanted | None, ...]

    def __str__(self) -> str:
        return "; ".join(str(wanted) for wanted in self.wanted if wanted)


def shift_slice(task: ShiftSlice) -> int:
    """Classify the images of a slice, write their rows, and return how many these are.

    Raises:
        InputError: if this worker has another model or data set under the same name; and see `classify_all`.
    """
    domain, ready = _domain(task.images), _ready(task.forms, computing(task.options))
    own = [(wanted.rows(), form, wanted.ids) for (_, form), wanted in zip(ready, task.wanted, strict=True) if wanted]
    count = 0

    def add(new: int) -> None:
        nonlocal count
        count += new

    classify_all(domain, own, batch_size=task.options.batch_size, report=add)
    return count


@functools.lru_cache(maxsize=2)
def _domain(images: Images) -> Domain:
    if images.corruption:
        loaded = _set(images.name, images.root, images.reading, images.seed, images.set)
        domain = loaded.cell(images.corruption, images.severity)
    else:
        domain = load_domain(images.name, images.root, images.reading)
    _check("data set", images.name, domain.digest, images.digest)
    return domain


@functools.lru_cache(maxsize=1)
def _set(name: str, root: Path | None, reading: Reading, seed: int, digest: str) -> CorruptedSet:
    """Return a corrupted set; with another digest it is loaded anew."""
    return load_corrupted(name, root, seed=seed, reading=reading)


@functools.lru_cache(maxsize=1)
def _ready(forms: tuple[Form, ...], how: Computing) -> list[tuple[LoadedModel, Prepared]]:
    """Return models made ready; those of the last slice stay in memory."""
    made = []
    for form in forms:
        model = _model(form)
        predict = predictor(model, _domain(form.images), kind=form.kind, how=how, gradients=form.gradients,
                            chunk=None if form.gradients else form.chunk)
        made.append((model, Prepared(WATCH.heard(predict), predict.kind, form.flags, provenance(how.device))))
    return made


def _model(form: Form) -> LoadedModel:
    model = load(form.model)
    _check("model", model.name, model.digest, form.digest)
    return model


def left_out(wanted: Wanted) -> str:
    """Return the flag of images whose computing has ended several workers."""
    return flag("left-out", f"{wanted} have no row, since several workers died or hung one after the other when they "
                "computed them")


def _check(what: str, name: str, ours: str, asked: str) -> None:
    """Refuse what has another digest here than where the command was given."""
    if ours != asked:
        raise refused(f"has another {what} {name} than this process; give it the same files, and start it anew if they "
                      "have changed")
