"""Tables that do not derive from rows, ``transfer.csv`` and ``duplicates.csv``: runs add entries to them.

Each is stored under ``OUT/kept/`` in a file whose name has its checksum; ``OUT/NAME.csv`` is a copy for readers.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from framebench.errors import InputError
from framebench.files import atomic, seal, unseal


@dataclass(frozen=True)
class KeptTable:
    """One of these tables.

    Attributes:
        name: Its name, as in ``NAME.csv``.
        keys: The columns that identify an entry.
        columns: All its columns, in order.
        texts: The columns with texts; a model may be called 007 or NA.
    """

    name: str
    keys: Sequence[str]
    columns: Sequence[str]
    texts: Sequence[str]

    def read(self, out: Path) -> pd.DataFrame:
        """Read the table of an output folder; without a file it is empty.

        Raises:
            InputError: if its file is damaged.
        """
        tables = [pd.DataFrame(columns=list(self.columns))]
        for path in sorted((out / "kept").glob(f"{self.name}-*.csv")):
            content = unseal(path)
            try:
                numbers = [name for name in self.columns if name not in self.texts]
                table = pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(self.texts, str), keep_default_na=False,
                                    na_values={name: [""] for name in numbers})[list(self.columns)]
                if len(table) and not all(map(pd.api.types.is_numeric_dtype, (table[name] for name in numbers))):
                    raise ValueError("a text in a column of numbers")
                tables.append(table)
            except (ValueError, KeyError) as error:  # parser errors of pandas are ValueErrors
                raise InputError(f"{path} is not a valid table ({type(error).__name__}); remove it, and run the "
                                 "command that wrote it again") from None
        return self._joined(tables)

    def write(self, out: Path, *parts: pd.DataFrame) -> None:
        """Write the parts as one table; of entries with the same keys, the first one stays."""
        table = self._joined(parts)
        old = sorted((out / "kept").glob(f"{self.name}-*.csv"))
        text = table.to_csv(index=False)
        new = seal(out / "kept", self.name, ".csv", text.encode())
        for path in set(old) - {new}:
            path.unlink(missing_ok=True)
        with atomic(out / f"{self.name}.csv") as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _joined(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        filled = [part for part in parts if len(part)]  # an empty part has no dtypes to agree with
        if not filled:
            return pd.DataFrame(columns=list(self.columns))
        return pd.concat(filled).drop_duplicates(list(self.keys))[list(self.columns)].reset_index(drop=True)


#: How models classify images that other models were attacked with.
TRANSFER = KeptTable("transfer", keys=["evaluation", "target", "target_digest"],
                     columns=["source", "target", "target_digest", "domain", "attack", "epsilon", "budget",
                              "evaluation", "n", "n_correct", "successes", "asr", "ci_low", "ci_high",
                              "clean_accuracy", "attacked_accuracy"],
                     texts=["source", "target", "target_digest", "domain", "attack", "evaluation"])

#: Evaluated images that are training images, each with the most similar training image.
DUPLICATES = KeptTable("duplicates", keys=["domain_digest", "example"],
                       columns=["domain", "domain_digest", "example", "train_example", "similarity", "mirrored",
                                "exact"], texts=["domain", "domain_digest"])
