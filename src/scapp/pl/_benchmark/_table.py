"""What the pictures of a benchmark ask of a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scapp.pl._figure import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILION

SERIES = ((VERMILION, "o"), (BLUE, "s"), (GREEN, "^"), (ORANGE, "D"), (SKY, "v"), (GREY, "P"), (BLACK, "X"))


def check_columns(table: pd.DataFrame, needed: Sequence[str]) -> None:
    """Raise unless the table has these columns, naming those that it has."""
    if missing := [column for column in needed if column not in table.columns]:
        raise ValueError(f"The table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")


def chosen(table: pd.DataFrame, needed: Sequence[str], task: str | None, methods: Sequence[str] | None) -> pd.DataFrame:
    """Rows of one task and of some methods."""
    check_columns(table, needed)
    if task is None and table["task"].nunique() != 1:
        raise ValueError(
            f"The table has {table['task'].nunique()} tasks; name one with `task`: {listed(table['task'])}."
        )
    rows = table if task is None else table[table["task"] == task]
    if rows.empty:
        raise ValueError(f"There is no task {task!r}; the tasks are {listed(table['task'])}.")
    if methods is None:
        return rows
    if missing := [method for method in methods if method not in set(rows["method"])]:
        raise ValueError(f"There is no method {', '.join(map(repr, missing))}; there are {listed(rows['method'])}.")
    return rows[rows["method"].isin(list(methods))]


def ceiling_of(ceiling: float | pd.DataFrame | None, task: str, reference: str) -> float | None:
    """The noise ceiling relative to the reference method; None where it is not known.

    A table says of each task and method its `mean` and the `ceiling`; a number is the ratio itself.
    """
    if not isinstance(ceiling, pd.DataFrame):
        return ceiling
    check_columns(ceiling, ("task", "method", "mean", "ceiling"))
    of_reference = ceiling[(ceiling["task"] == task) & (ceiling["method"] == reference)]
    return None if of_reference.empty else float(of_reference["ceiling"].iloc[0] / of_reference["mean"].iloc[0])


def listed(names: pd.Series) -> str:
    """Each name once, for a message."""
    return ", ".join(map(repr, pd.unique(names)))
