"""Reading tables from files, and finding columns by the names that are usual in the field."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TypeAlias, TypeGuard

import pandas as pd

PathLike: TypeAlias = str | os.PathLike[str]


def is_path(value: object) -> TypeGuard[PathLike]:
    """Whether an argument names a file."""
    return isinstance(value, str | os.PathLike)


def existing_file(path: PathLike) -> Path:
    """The path, or an error if there is no such file."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r} (looked in {str(Path.cwd())!r}).")
    return path


def open_text(path: Path) -> IO[str]:
    """Open a text file, gzipped or not."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def read_table(path: PathLike) -> pd.DataFrame:
    """Read a parquet file, or a text table whose separator is that of its first line.

    Tabs are looked for first, then commas, semicolons and spaces (as in STRING's downloads); the file may be
    gzipped. Nothing is read as missing: a gene may be called "NA" or "NAN".

    Raises
    ------
    ValueError
        If there is no such file, or it is empty.
    """
    path = existing_file(path)
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    with open_text(path) as file:
        header = file.readline()
    if not header.strip():
        raise ValueError(f"The file {str(path)!r} is empty, or its first line is.")
    separator = next((sep for sep in "\t,;" if sep in header), " ")
    return pd.read_csv(
        path, sep=separator, na_filter=False, encoding="utf-8-sig", skipinitialspace=separator == " ", low_memory=False
    )


def plain(column: object) -> str:
    """A column name as it is compared: lower case, without the ``#`` that starts the header of some files."""
    return str(column).strip().lstrip("#").strip().lower()


def find_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The first of `names` (in lower case) that is a column of the table, whatever its case; None if none is."""
    columns = {plain(column): column for column in reversed(list(table.columns))}
    return next((columns[name] for name in names if name in columns), None)


def check_column(table: pd.DataFrame, column: str, argument: str) -> str:
    """The column, or an error that names the argument and the columns there are."""
    if column not in table.columns:
        raise ValueError(
            f"{argument}={column!r} is not a column. The columns are {', '.join(map(repr, table.columns))}."
        )
    return column


def names_of(column: pd.Series, what: str) -> pd.Series:
    """A column of names as stripped text, or an error if some are missing."""
    missing = column.isna()
    # One pass over the distinct names: edge lists repeat each of them many times.
    distinct = {name: str(name).strip() for name in column[~missing].unique()}
    names = column.map(distinct)
    empty = missing | (names == "")
    if empty.any():
        rows = ", ".join(map(str, empty.index[empty][:3]))
        raise ValueError(
            f"{int(empty.sum())} of {len(column)} rows have no name in column {column.name!r} ({what}), the first: {rows}. "
            f"Leave them out, for example with `table.dropna(subset=[{column.name!r}])`."
        )
    return names
