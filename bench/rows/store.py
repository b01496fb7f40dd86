"""The rows in an output folder: one folder of parts per evaluation (`bench.rows.parts`)."""

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
    """The rows in one output folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / "examples"
        self._rows: list[Rows] | None = None

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
        """Announce how many rows this run will add (`bench.rows.watching`)."""
        expect(self.folder, rows)

    def open(self, evaluation: Evaluation, facts: Facts) -> Rows:
        """Return the rows of an evaluation, stored or new, and join the facts to theirs."""
        stored = self._stored()
        rows = next((rows for rows in stored if rows.evaluation.key == evaluation.key), None)
        if rows is None:
            rows = Rows(self.folder / _folder_name(evaluation, facts), evaluation, facts)
            stored.append(rows)
        else:
            rows.note(facts)
        return rows

    def answering(self, evaluation: Evaluation) -> list[Rows]:
        """Return the stored rows that answer an evaluation: its own, and those of longer runs, shortest first."""
        answers = (rows for rows in self._stored() if rows.evaluation.answers(evaluation))
        return sorted(answers, key=lambda rows: rows.evaluation.budget)

    def take(self, other: Store) -> None:
        """Copy all rows and pictures of another store that are missing here."""
        for other_rows in other.all():
            rows = self.open(other_rows.evaluation, other_rows.facts)
            rows.join(other_rows)
            pictures = Pictures(rows.folder)
            pictures.join(Pictures(other_rows.folder))
            pictures.flush()
            rows.finish()

    def all(self) -> list[Rows]:
        """Return the rows of every stored evaluation, by folder name.

        Raises:
            InputError: if a file is damaged.
        """
        return sorted(self._stored(), key=lambda rows: rows.folder)

    def models(self) -> list[tuple[str, str]]:
        """Return the name and the digest of the model of every stored evaluation."""
        return [(rows.evaluation.model, rows.evaluation.model_digest) for rows in self._stored()]

    def files(self) -> list[Path]:
        """Return the files of all rows."""
        return sorted(self.folder.glob("*/rows-*.parquet"))

    def _stored(self) -> list[Rows]:
        if self._rows is None:  # read once: no other run writes here in the meantime (`lock`)
            self._rows = [Rows.read(folder) for folder in sorted({path.parent for path in self.files()})]
        return self._rows


def _folder_name(evaluation: Evaluation, facts: Facts) -> str:
    """Return the name of an evaluation's folder: readable, and unique by its key."""
    cell = [f"{evaluation.corruption}-{evaluation.severity}"] if evaluation.corruption else []
    attack = [] if facts.traits is None else [facts.traits.label, f"s{evaluation.seed}"]
    words = "-".join([evaluation.model, evaluation.domain, *cell, *attack, evaluation.key[:12]])
    return re.sub(r"[^A-Za-z0-9._-]+", "_", words)[-180:].lstrip(".")
