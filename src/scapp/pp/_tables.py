"""Reading tables from files, and finding columns by the names that are usual in the field."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias, TypeGuard

import numpy as np
import pandas as pd

from scapp.pp._xlsx import read_xlsx

PathLike: TypeAlias = str | os.PathLike[str]


def is_path(value: object) -> TypeGuard[PathLike]:
    """Whether an argument names a file."""
    return isinstance(value, str | os.PathLike)


def existing_file(path: PathLike) -> Path:
    """The path, ``~`` for the home folder, or an error if there is no such file."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r} (looked in {str(Path.cwd())!r}).")
    return path


def is_gzipped(path: Path) -> bool:
    """Whether a file is gzipped, by how it begins: browsers unpack files, or keep them packed, whatever they are called."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def open_text(path: Path) -> IO[str]:
    """Open a text file, gzipped or not."""
    return gzip.open(path, "rt", encoding="utf-8-sig") if is_gzipped(path) else path.open(encoding="utf-8-sig")


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Say of a file what goes wrong in its reading: truncated or damaged when it was packed, or no text at all.

    Raises
    ------
    ValueError
        With the file, what is wrong, and what mends it.
    """
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeError, pd.errors.ParserError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read to its end: it is truncated, damaged or of another kind ({str(error).strip()}). "
            "Expected is text in UTF-8, gzipped or not. Fetch or write it again; if it was downloaded, move it away first."
        ) from error


def read_table(path: PathLike) -> pd.DataFrame:
    """Read a parquet file, or a text table whose separator is that of its first line.

    Tabs are looked for first, then commas, semicolons and spaces (as in STRING's downloads); the file may be
    gzipped. Nothing is read as missing: a gene may be called "NA" or "NAN".

    Raises
    ------
    ValueError
        If there is no such file, it is empty, truncated, damaged, or no such table.
    """
    path = existing_file(path)
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix.lower() == ".xlsx":
        return read_xlsx(path)
    with whole(path):
        with open_text(path) as file:
            header = file.readline()
        if not header.strip():
            raise ValueError(f"The file {str(path)!r} is empty, or its first line is.")
        separator = next((sep for sep in "\t,;" if sep in header), " ")
        return pd.read_csv(
            path,
            sep=separator,
            compression="gzip" if is_gzipped(path) else None,
            na_filter=False,
            encoding="utf-8-sig",
            skipinitialspace=separator == " ",
            low_memory=False,
            # The faster parser ends the interpreter at exponents of many digits, and rounds otherwise.
            float_precision="round_trip",
        )


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as a parquet file: it is truncated, damaged or of another kind ({error}). Fetch or "
            "write it again."
        ) from error


def to_numbers(column: pd.Series) -> pd.Series:
    """Return a column as float64, NaN where it holds no number.

    `pandas.to_numeric` ends the interpreter at exponents of many digits; Python reads them as infinite.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype(np.float64)
    return pd.Series([to_number(value) for value in column], index=column.index, name=column.name, dtype=np.float64)


def to_number(value: object) -> float:
    """Return a value as a number, NaN if it is none."""
    if isinstance(value, str) and "_" in value:  # Python reads "1_000" as a thousand
        return np.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return np.nan


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


def check_single(table: pd.DataFrame, columns: Iterable[str | None]) -> None:
    """Raise if a column that is to be read is there twice."""
    twice = [column for column in columns if column is not None and (table.columns == column).sum() > 1]
    if twice:
        raise ValueError(
            f"There are several columns called {', '.join(map(repr, twice))}, and which is meant is not known. The columns are "
            f"{', '.join(map(repr, table.columns))}. Rename or drop all but one of each."
        )


def names_of(column: pd.Series, what: str) -> pd.Series:
    """A column of names as text without spaces around it, or an error if some are missing."""
    missing = column.isna()
    if pd.api.types.is_float_dtype(column.dtype) and (column[~missing] % 1 == 0).all():
        column = column.astype("Int64")  # Entrez ids, of which some were missing: 10661, not 10661.0
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
