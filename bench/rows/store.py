"""The rows under an output folder: one folder of parts for each evaluation (`bench.rows.parts`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rows.damage import remove_damaged
from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.parts import Rows
from bench.rows.pictures import Pictures
from bench.rows.watching import expect, forget
from framebench.files import lock, sweep, writable_folder


class Store:
    """The rows under one output folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / "examples"
        self._known: list[Rows] | None = None

    @contextmanager
    def lock(self, *, repair: bool = False) -> Iterator[None]:
        """Keep a second run out of the folder while this one writes; the lock ends with the process.

        Args:
            repair: Whether to remove damaged files first (`bench.rows.damage`).

        Raises:
            InputError: if another run holds it.
        """
        writable_folder(self.folder)
        busy = f"another run is writing to {self.out}; wait for it, or choose another --out"
        with lock(self.folder / ".lock", busy):
            sweep(self.out)
            for name in ("examples", "adversarial", "kept", "frames", "report"):
                sweep(self.out / name, below=True)
            if repair:
                remove_damaged(self.out)
            try:
                yield
            finally:
                forget(self.folder)

    def expect(self, rows: int) -> None:
        """Say how many rows this run is to add, for those who watch it (`bench.rows.watching`)."""
        expect(self.folder, rows)

    def open(self, evaluation: Evaluation, facts: Facts) -> Rows:
        """Return the rows of an evaluation, the stored ones among them, with these facts joined to theirs."""
        known = self._stored()
        rows = next((rows for rows in known if rows.evaluation.key == evaluation.key), None)
        if rows is None:
            rows = Rows(self.folder / folder_name(evaluation, facts), evaluation, facts)
            known.append(rows)
        else:
            rows.note(facts)
        return rows

    def answering(self, evaluation: Evaluation) -> list[Rows]:
        """Return the stored rows that answer an evaluation: its own, and those of longer runs, shortest first."""
        found = [rows for rows in self._stored() if rows.evaluation.answers(evaluation)]
        return sorted(found, key=lambda rows: rows.evaluation.budget)

    def take(self, other: Store) -> None:
        """Add all rows and pictures of another store that this one lacks."""
        for theirs in other.all():
            mine = self.open(theirs.evaluation, theirs.facts)
            mine.join(theirs)
            pictures = Pictures(mine.folder)
            pictures.join(Pictures(theirs.folder))
            pictures.flush()
            mine.finish()

    def all(self) -> list[Rows]:
        """Return the rows of every stored evaluation, by folder name.

        Raises:
            InputError: if one of the files is damaged.
        """
        return sorted(self._stored(), key=lambda rows: rows.folder)

    def models(self) -> list[tuple[str, str]]:
        """Return the name and the digest of the model of every stored evaluation."""
        return [(rows.evaluation.model, rows.evaluation.model_digest) for rows in self._stored()]

    def files(self) -> list[Path]:
        """Return the files of all rows."""
        return sorted(self.folder.glob("*/rows-*.parquet"))

    def _stored(self) -> list[Rows]:
        if self._known is None:  # once: nobody else writes here while we do (`lock`)
            folders = sorted({path.parent for path in self.files()})
            self._known = [Rows.read(folder) for folder in folders]
        return self._known


def folder_name(evaluation: Evaluation, facts: Facts) -> str:
    """Return the name of an evaluation's folder: readable, and unique by its key."""
    cell = [f"{evaluation.corruption}-{evaluation.severity}"] if evaluation.corruption else []
    attack = [] if facts.traits is None else [facts.traits.label, f"s{evaluation.seed}"]
    words = "-".join([evaluation.model, evaluation.domain, *cell, *attack, evaluation.key[:12]])
    return re.sub(r"[^A-Za-z0-9._-]+", "_", words)[-180:].lstrip(".")
