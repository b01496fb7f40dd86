"""Tables that do not derive from rows, `transfer.csv` and `duplicates.csv`: they grow from run to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from framebench.errors import InputError
from framebench.files import atomic


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read such a table; one that is not there is empty.

    Args:
        path: The file.
        columns: The table's columns, in order; others are left out.

    Raises:
        InputError: if the file is not such a table.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    try:
        return pd.read_csv(path)[list(columns)]
    except (OSError, ValueError, KeyError) as error:  # pandas' errors of a damaged file are ValueErrors
        raise InputError(f"{path} can't be read as the table that it should be ({type(error).__name__}); restore it, "
                         "or remove it and run again what it was made by") from None


def write_table(path: Path, *parts: pd.DataFrame, keys: Sequence[str]) -> None:
    """Write the parts as one table; of entries with the same `keys` the first part's stays."""
    filled = [part for part in parts if len(part)]  # an empty part has no dtypes to agree with
    if filled:
        with atomic(path) as temporary:
            pd.concat(filled).drop_duplicates(list(keys)).to_csv(temporary, index=False)
