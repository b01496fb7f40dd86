"""The best values of a table's columns, which are printed in bold."""

from __future__ import annotations

from collections.abc import Sequence

from framebench.reports.document import Cell, Table

#: The rule of `best_cells`, printed below a table.
RULE = ("In bold: the best value of a column among rows that agree in all columns of text but the first, and values "
        "whose interval contains it. Where that holds for all of them, none is bold.")


def best_cells(table: Table) -> list[set[int]]:
    """Return, for each row of a table, the indices of its cells that are best in their column (`Column.best`).

    Rows are compared only if they agree in all text columns but the first, which names them. Values whose interval
    contains the best value are best too. If all compared values are best, none is marked.
    """
    best: list[set[int]] = [set() for _ in table.rows]
    same = [i for i, column in enumerate(table.columns) if column.text][1:]
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(table.rows):
        groups.setdefault(tuple(row[i].text for i in same), []).append(place)
    for i, column in enumerate(table.columns):
        for places in groups.values() if column.best else ():
            chosen = _best([table.rows[place][i] for place in places], column.best == "high")
            for place in (places[k] for k in chosen):
                best[place].add(i)
    return best


def _best(cells: Sequence[Cell], high: bool) -> list[int]:
    values = {k: cell.value for k, cell in enumerate(cells) if cell.value is not None}
    if not values:
        return []
    best = (max if high else min)(values.values())
    chosen = [k for k, value in values.items() if value == best or _contains(cells[k], best)]
    return chosen if len(chosen) < len(values) else []


def _contains(cell: Cell, value: float) -> bool:
    return cell.low is not None and cell.high is not None and cell.low <= value <= cell.high
