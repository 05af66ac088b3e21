"""Reading tables from files, and finding columns by their common names."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeGuard

import numpy as np
import pandas as pd

from scapp._xlsx import read_xlsx

PathLike: TypeAlias = str | os.PathLike[str]


def is_path(value: object) -> TypeGuard[PathLike]:
    """Return whether an argument names a file."""
    return isinstance(value, str | os.PathLike)


def existing_file(path: PathLike) -> Path:
    """Return the path, ``~`` for the home folder, or an error if there is no such file."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder, expected a file. Name one of those in it.")
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r} (looked in {str(Path.cwd())!r}).")
    return path


def is_gzipped(path: Path) -> bool:
    """Return whether a file is gzipped, by how it begins: browsers unpack files, or keep them packed, whatever they are called."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


# Limits on decompression: text of tables is compressed 5 to 50 times, and small files may hold anything.
LARGEST_SMALL = 2**30
LARGEST_RATIO = 100


class _Bounded(io.RawIOBase):
    """A stream of unpacked bytes, which is not read beyond the size that a packed table may have: a few can hold terabytes."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self.file, self.n_read = path, file, 0
        self.largest = max(LARGEST_SMALL, LARGEST_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read as much as the buffer holds."""
        data = self.file.read1(len(buffer))  # the complete part of a truncated file
        self.n_read += len(data)
        if self.n_read > self.largest:
            raise ValueError(
                f"{str(self.path)!r} unpacks to more than {self.largest:,} bytes, over {LARGEST_RATIO} times its size, and was "
                "not read on.\nExpected is a packed table.\nIf it is one, unpack it (`gunzip`) and pass the unpacked file."
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close this and the packed file."""
        self.file.close()
        super().close()


def bounded(path: Path, unpacked: Any) -> IO[bytes]:
    """Open a compressed file with a limit on how much it may unpack to."""
    return io.BufferedReader(_Bounded(path, unpacked), buffer_size=2**20)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, unpacked if it is gzipped, packed by bzip2 or xz, or alone in a zip archive; damage is for `whole` to name."""
    with path.open("rb") as file:
        begin = file.read(6)
    if begin.startswith(b"\x1f\x8b"):
        return bounded(path, gzip.open(path))
    if begin.startswith(b"BZh"):
        return bounded(path, bz2.open(path))
    if begin == b"\xfd7zXZ\0":
        return bounded(path, lzma.open(path))
    if begin.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if len(names) == 1 and not names[0].endswith(".npy"):  # a numpy array is not a table
            return bounded(path, zipfile.ZipFile(path).open(names[0]))
    return path.open("rb")


def _members(path: Path) -> list[str]:
    """Return the names in a zip archive; empty if the file is damaged or is not one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []


UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def encoding_of(path: Path) -> str:
    """Return the encoding of a text file: UTF-16 if it has a byte-order mark, as from some spreadsheets, else UTF-8."""
    with open_bytes(path) as file:
        begin = file.read(2)
    return "utf-16" if begin in UTF_16 else "utf-8-sig"


def open_text(path: Path) -> IO[str]:
    """Open a text file, packed or not."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding_of(path))


_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, UnicodeError, pd.errors.ParserError)


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turn errors in reading a file into a ValueError that names it: truncated, damaged, or not text at all."""
    try:
        yield
    except _BROKEN as error:
        if type(error) is OSError and "Invalid data" not in str(error):  # an error of the disk, and not of bzip2
            raise
        if (quote := re.search(r"EOF inside string starting at row (\d+)", str(error))) is not None:
            raise ValueError(
                f"{str(path)!r} has a quote that is opened in row {quote[1]} below the header and never closed.\nExpected quotes in pairs.\n"
                "Close it or remove it."
            ) from error
        raise ValueError(
            f"{str(path)!r} cannot be read to its end: it is truncated, damaged or of another kind ({str(error).strip()}). "
            "Expected is text in UTF-8, gzipped or not. Fetch or write it again; if it was downloaded, move it away first."
            + (" Save text in another encoding as UTF-8." if isinstance(error, UnicodeError) else "")
        ) from error


def unpacked_name(path: PathLike) -> str:
    """Return a path in lower case, without the suffix of a compressed file."""
    return re.sub(r"\.(?:gz|bz2|xz|zip)$", "", str(path).lower())


def is_gmt(path: PathLike) -> bool:
    """Return whether a file holds gene sets, by its name, or as Enrichr's libraries do: a name, no description or its address, and genes."""
    if unpacked_name(path).endswith(".gmt"):
        return True
    path = Path(path).expanduser()
    if not path.is_file() or not unpacked_name(path).endswith((".txt", ".tsv")) or _binary_kind(path):
        return False
    with whole(path):
        lines = [line.split("\t") for line in _first_lines(path)[1] if line.strip()]
    return bool(lines) and all(
        len(line) > 2 and (line[1].strip() in ("", "na") or line[1].startswith("http")) for line in lines
    )


# Include the following byte, because PAR1 and RDX are genes, which may come first in a table without a header.
PARQUET = b"PAR1\x15"

# First bytes of files that are not tables, and how to read these.
_KINDS: dict[bytes | tuple[bytes, ...], str] = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (AnnData .h5ad, MuData .h5mu, 10x .h5 or loom), which anndata, mudata and scanpy read",
    b"PK\x03\x04": "a zip archive of several files (npz or torch's .pt, for example)",
    b"\x93NUMPY": "an array of numpy (.npy), which `numpy.load` reads",
    PARQUET: "a parquet file under another name: call it .parquet",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Excel file (.xls): save it as .xlsx or csv",
    b"<?xml": "an XML file (GraphML, if it is a network: call it .graphml; GEXF is read by `networkx.read_gexf`, KEGG's KGML is to be written as a table)",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it with `unzstd`",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"X\n\0\0": "an R object (.rds): write it in R with `write.csv`",
    (b"RDX2\n", b"RDX3\n"): "an R workspace (.RData): write its table in R with `write.csv`",
    b"ARROW1": "a feather file, which `pd.read_feather` reads",
    (
        b"\x80\x02",
        b"\x80\x03",
        b"\x80\x04",
        b"\x80\x05",
    ): "a pickle, which may run code and is not read: write its table with `table.to_csv`",
    b"SQLite format 3": "a database of SQLite, which `pandas.read_sql` reads",
    (b"*vertices", b"*Vertices"): "a graph of Pajek, which `networkx.read_pajek` reads",
    b"digraph": "a graph in DOT, which `networkx.nx_pydot.read_dot` reads",
    b"{\\rtf": "a document (RTF)",
    b"{": "JSON: make a table of it, for example with `pd.json_normalize`",
    b"[{": "JSON, which `pd.read_json` reads",
    b"!gaf-version": "a file of annotations (GAF), which `scapp.resources.from_gaf` reads",
    b"!gpa": "a file of annotations (GPAD or GPI): take the GAF, which `scapp.resources.from_gaf` reads",
    b"format-version:": "an ontology (OBO), for ontology=… of `scapp.resources.from_gaf`",
    b"%%MatrixMarket": "a sparse matrix without names, which `scipy.io.mmread` reads",
    (b"<!DOC", b"<html"): "a web page, as servers send where a file is not there",
}


def check_is_text(path: Path) -> None:
    """Raise if a file is an intact one of another kind than a table, naming its kind and who reads it."""
    with whole(path), open_bytes(path) as file:
        begin = file.read(4096)
    kind = next((kind for magic, kind in _KINDS.items() if begin.startswith(magic)), None)
    if unpacked_name(path).endswith(".gmx"):
        kind = "a file of gene sets in columns (GMX): transpose it to one set in a line (GMT), which `scapp.resources.from_gmt` reads"
    if kind is not None:
        raise ValueError(f"{str(path)!r} is {kind}. Expected a table: csv, tsv (packed or not), parquet or xlsx.")
    if b"\0" in begin and not begin.startswith(UTF_16):
        raise ValueError(
            f"{str(path)!r} cannot be read to its end: it is truncated, damaged or of another kind (it holds zero bytes, as UTF-16 without a "
            "byte order mark does). Expected is text in UTF-8, gzipped or not. Fetch or write it again."
        )


def read_table(path: PathLike, *, header: bool = True) -> pd.DataFrame:
    """Read a parquet or xlsx file, or a text table whose separator is that of its first line; ValueError if it is no such table.

    Tabs are looked for first, then commas, semicolons and spaces (as in STRING's downloads); the file may be
    gzipped, and begin with lines of comments (``#``). Nothing is read as missing: a gene may be called "NA" or "NAN".
    Without a `header` in the first line, columns are numbered from 0.
    """
    path = existing_file(path)
    kind = _binary_kind(path)
    if kind == "xlsx":
        table = read_xlsx(path)
        _check_names(path, table.columns)
        return table
    if kind == "parquet":
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{str(path)!r} cannot be read as a parquet file: it is truncated, damaged or of another kind ({error}). Fetch "
                "or write it again."
            ) from error
    check_is_text(path)
    with whole(path):
        n_comments, lines = _first_lines(path)
        if not lines or not lines[0].strip():
            raise ValueError(f"The file {str(path)!r} is empty, or its first line is.")
        separator = _separator(lines)
        if header:
            _check_header(path, lines, separator)
    with whole(path), open_bytes(path) as file:
        table = pd.read_csv(
            file,
            sep=separator,
            na_filter=False,
            encoding=encoding_of(path),
            decimal="," if separator in "\t;" and _has_decimal_commas(lines, separator) else ".",
            skipinitialspace=separator == " ",
            skiprows=n_comments,
            header=0 if header else None,
            low_memory=False,
            # The faster parser crashes the interpreter on exponents with many digits, and rounds differently.
            float_precision="round_trip",
        )
    _check_rows(path, table, separator)
    return _without_empty_rows(table)


def _binary_kind(path: Path) -> str:
    """Return ``"parquet"`` or ``"xlsx"`` by the name or first bytes of a file; empty for text and other formats."""
    with path.open("rb") as file:
        begin = file.read(5)
    if path.suffix == ".parquet" or begin == PARQUET:
        return "parquet"
    excel = path.suffix.lower() == ".xlsx" or (begin.startswith(b"PK\x03\x04") and "xl/workbook.xml" in _members(path))
    return "xlsx" if excel else ""


def _without_empty_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Drop rows without any value, such as spreadsheets write below a table."""
    if not table.shape[1] or any(pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes):
        return table
    empty = (table == "").all(axis=1)
    if not empty.any():
        return table
    table = table[~empty].reset_index(drop=isinstance(table.index, pd.RangeIndex))
    for column in table.columns:
        numbers = to_numbers(table[column])
        if np.isfinite(numbers).all():
            table[column] = numbers
    return table


MOST_NAMELESS = 1000


def _check_header(path: Path, lines: Sequence[str], separator: str) -> None:
    """Raise if the first line names hardly any columns, or is a title without the separator of all other lines."""
    names = _fields(lines[0], separator) if separator == " " else next(csv.reader(lines[:1], delimiter=separator))
    n_nameless = len(names) - len(set(names))
    if n_nameless > MOST_NAMELESS:  # pandas takes minutes to number thousands of columns with the same name
        raise ValueError(
            f"{n_nameless:,} of the {len(names):,} columns in the first line of {str(path)!r} have no name of their own.\nExpected a "
            "header with one name a column.\nRemove the line, or write the table again."
        )
    _check_names(path, names)
    below = [line for line in lines[1:] if line.strip()]
    if below and len(_fields(below[0], separator)) == len(_fields(lines[0], separator)) > 1:
        return
    for sep in "\t,;":
        if (
            sep not in lines[0]
            and len(below) > 1
            and all(sep in line for line in below)
            and len(lines[0].split()) != len(below[1].split())
        ):
            raise ValueError(
                f"The first line of {str(path)!r}, {lines[0].strip()[:60]!r}, is not a header of the lines below it, which have several "
                f"fields. Expected a header with one name a column. Remove the lines above it, or begin them with '#'."
            )


def _check_names(path: Path, columns: Iterable[str]) -> None:
    """Raise if two columns have the same name: pandas would call the second ``"HBB.1"``, which is not a gene."""
    names = pd.Series([name for column in columns if (name := column.strip())], dtype=object)
    twice = names[names.duplicated()].unique()
    if len(twice):
        raise ValueError(
            f"{len(twice)} columns of {str(path)!r} share a name with another column, the first: {twice[0]!r}.\nExpected each name "
            "once.\nRename or remove all but one of each."
        )


def _check_rows(path: Path, table: pd.DataFrame, separator: str) -> None:
    """Raise if rows are comments, or a quote that is not closed has swallowed some."""
    first = table.index if not isinstance(table.index, pd.RangeIndex) else table.iloc[:, 0] if table.shape[1] else []
    marked = [
        name for name in pd.unique(np.asarray(first, dtype=object)) if isinstance(name, str) and name.startswith("#")
    ]
    n_marked = int(pd.Series(first).isin(marked).sum()) if marked else 0
    if 0 < n_marked <= len(table) / 2:  # and not colors
        raise ValueError(
            f"{n_marked} rows within {str(path)!r} begin with '#', the first: {marked[0]!r}.\nExpected comments above the table "
            "alone.\nRemove these lines, or the '#' if they are data."
        )
    for column in table.columns[[not pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes]]:
        for value in table[column].unique():
            if isinstance(value, str) and "\n" in value and value.count(separator) >= table.shape[1] - 1:
                raise ValueError(
                    f"A quote in the column {column!r} of {str(path)!r} is not closed, and the rows behind it are one field: "
                    f"{value[:60]!r}.\nExpected quotes in pairs.\nClose it or remove it."
                )


def _fields(line: str, separator: str) -> list[str]:
    """Return the fields of a line; several blanks are one."""
    return line.split() if separator == " " else line.split(separator)


def _separator(lines: Sequence[str]) -> str:
    """Return the first separator that cuts the header as it does the next line, or else the first in the header."""
    there = [sep for sep in "\t,;" if sep in lines[0]]
    if not there and "|" in lines[0] and " " not in lines[0].strip():
        return "|"
    if len(there) > 1:
        below = next((line for line in lines[1:] if line.strip()), lines[0])
        for sep in there:
            above, next_one = (len(next(csv.reader([line], delimiter=sep))) for line in (lines[0], below))
            if next_one > 1 and next_one - above in (0, 1):  # R writes no header above row names
                return sep
    return there[0] if there else " "


_DECIMAL_COMMA, _DECIMAL_POINT = (re.compile(rf"[-+]?\d+{point}\d+(?:[eE][-+]?\d+)?") for point in (",", r"\."))
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+")


def _has_decimal_commas(lines: Sequence[str], separator: str) -> bool:
    """Return whether numbers have decimal commas, as spreadsheets in some countries write them.

    Between tabs, lists of numbers have commas too, such as those of publications, but no sign and no zero before the comma.
    """
    fields = [field.strip() for line in lines[1:] for field in line.split(separator)]
    commas = [field for field in fields if _DECIMAL_COMMA.fullmatch(field)]
    certain = separator == ";" or any(field.startswith(("-", "+", "0,")) for field in commas)
    return certain and not all(map(_THOUSANDS.fullmatch, commas)) and not any(map(_DECIMAL_POINT.fullmatch, fields))


def _first_lines(path: Path) -> tuple[int, list[str]]:
    """Return the number of comment lines at the start of a file, and the first lines after them.

    A single line with ``#`` is a header if it has as many fields as the next.
    """
    with open_text(path) as file:
        lines = [line.rstrip("\r\n") for line in islice(file, 200)]
    comment = re.compile(r" *|#.*|\s*sep=.\s*", re.IGNORECASE)  # "sep=;" is a hint that Excel writes
    n_comments = len(list(takewhile(comment.fullmatch, lines)))
    if n_comments and n_comments < len(lines) and lines[n_comments - 1].startswith("#"):
        separator = _separator(lines[n_comments:])
        above, below = _fields(lines[n_comments - 1], separator), _fields(lines[n_comments], separator)
        if len(above) == len(below) > 1:
            n_comments -= 1
    return n_comments, lines[n_comments:]


_SIGN_WORDS = (
    "-> -| <- |- --> --| <-> |-| + - activation repression inhibition stimulation unknown +- ? up down".split()
)
# Terms of ontologies and pathways by their ids.
TERM_ID = re.compile(
    r"(?:GO|HP|MP|DOID|CHEBI|UBERON|CL|R-[A-Z]{3}|WP|KEGG)[:\-_]?\d+|[A-Z]+:\d{4,}|(?:path:)?(?:hsa|mmu|rno|ko|map)\d{5}|path:[a-z]{2,4}\d{5}"
)


def has_no_header(path: PathLike) -> bool:
    """Return whether the first line of a text table is a row of data, and no header.

    It is if one of its fields is a number, a sign or the id of a term, as the fields below it are, or if one of its first two
    fields is a name that occurs below in these columns.
    """
    path = existing_file(path)
    if _binary_kind(path):
        return False
    rows = _first_rows(path)
    if len(rows) < 2 or len(rows[0]) < 2:
        return False
    header, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if not below or len(below) < len(rows[1:]) / 2:
        return False
    for k, name in enumerate(header):
        column = [row[k] for row in below]
        for is_data in (_is_number, is_term, lambda text: text.lower() in _SIGN_WORDS):
            if (
                is_data(name)
                and all(map(is_data, column))
                and not (is_data is _is_number and _is_matrix(header, below))
            ):
                return True
    names = {field for row in below for field in row[:2]}
    return any(name in names for name in header[:2]) and not _is_matrix(header, below)


def begins_with_a_vector(path: PathLike) -> bool:
    """Return whether the first line of a text table is a name with numbers, like the lines below it, and not a header.

    Numbers that count up from 0 or 1 are column names.
    """
    path = existing_file(path)
    if _binary_kind(path):
        return False
    rows = _first_rows(path)
    if len(rows) < 2 or any(len(row) != len(rows[0]) or not all(map(_is_number, row[1:])) for row in rows[:3]):
        return False
    name, *numbers = rows[0]
    counted = [[str(k) for k in range(start, start + len(numbers))] for start in (0, 1)]
    is_word = bool(
        set(words_of(name).split("_")) & {*"gene genes symbol name id index ensembl protein node".split(), ""}
    )
    return bool(numbers) and name != "" and not _is_number(name) and not (is_word and numbers in counted)


def _first_rows(path: Path) -> list[list[str]]:
    """Return the fields of the first lines of a text table, without those that are empty."""
    check_is_text(path)
    with whole(path):
        _, lines = _first_lines(path)
    separator = _separator(lines) if lines else " "
    return [[field.strip().strip('"') for field in _fields(line, separator)] for line in lines if line.strip()]


def _is_matrix(header: list[str], below: list[list[str]]) -> bool:
    """Return whether all but the first column hold numbers, so that the header names them."""
    return (
        len(header) > 2
        and all(_is_number(field) for row in below for field in row[1:])
        and not all(map(_is_number, header[1:]))
    )


def _is_number(text: str) -> bool:
    return np.isfinite(to_number(text)) if text else False


def is_term(text: str) -> bool:
    """Return whether text is the id of a term, or several joined by ";", "|" or ","."""
    return bool(text) and all(TERM_ID.fullmatch(part.strip()) is not None for part in re.split("[;|,]", text))


def to_numbers(column: pd.Series) -> pd.Series:
    """Return a column as float64, with NaN for values that are not numbers.

    `pandas.to_numeric` crashes the interpreter on exponents with many digits; Python reads them as infinite.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype(np.float64)
    return pd.Series([to_number(value) for value in column], index=column.index, name=column.name, dtype=np.float64)


def to_number(value: object) -> float:
    """Return a value as a number, NaN if it is none."""
    if isinstance(value, str) and "_" in value:  # Python would read "1_000" as a thousand
        return np.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return np.nan


def text_of(column: pd.Series) -> pd.Series:
    """Return a column as stripped text, empty if missing."""
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def name_of(value: object) -> str:
    """Return a name as stripped text, empty if missing; an Entrez id that went through a float (10661.0) as it was."""
    return "" if pd.isna(value) else re.sub(r"^(\d+)\.0$", r"\1", str(value).strip())


def plain(column: object) -> str:
    """Return a column name in a form for comparison: ``"#Gene symbol"`` and ``"gene.symbol"`` give ``"gene_symbol"``.

    Brackets also separate words: ``"log2(FC)"`` is ``"log2_fc"``.
    """
    return re.sub(r"[\s.\-()\[\]]+", "_", str(column).strip().lstrip("#").strip().rstrip(")]").lower())


def words_of(column: object) -> str:
    """Return a name as :func:`plain` does, splitting words as in ``"SymbolA"``, ``"fromNode"`` and ``"2:Gene1"``."""
    return plain(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", re.sub(r"^\d+:", "", str(column))))


def find_column(table: pd.DataFrame, names: Iterable[str], without: Iterable[object] = ()) -> str | None:
    """Return the table's column for the first of `names` (in the spelling of :func:`plain`) that it has; None if none.

    The most specific names come first; columns in `without` are excluded.
    """
    left_out = set(without)
    columns = {plain(column): column for column in reversed(list(table.columns)) if column not in left_out}
    return next((columns[name] for name in names if name in columns), None)


def check_column(table: pd.DataFrame, column: Any, argument: str) -> Any:
    """Return the column, or an error that names the argument and the columns there are."""
    if column not in table.columns:
        raise ValueError(
            f"{argument}={column!r} is not a column. The columns are {', '.join(map(repr, table.columns))}."
        )
    return column


def check_single(table: pd.DataFrame, columns: Iterable[object]) -> None:
    """Raise if a column to be read occurs twice."""
    twice = [column for column in columns if column is not None and (table.columns == column).sum() > 1]
    if twice:
        raise ValueError(
            f"There are several columns called {', '.join(map(repr, twice))}, and which is meant is not known. The columns are "
            f"{', '.join(map(repr, table.columns))}. Rename or drop all but one of each."
        )


def names_of(column: pd.Series, what: str) -> pd.Series:
    """Return a column of names as text without spaces around it, or an error if some are missing."""
    missing = column.isna()
    if pd.api.types.is_float_dtype(column.dtype) and (column[~missing] % 1 == 0).all():
        column = column.astype("Int64")  # Entrez ids, of which some were missing: 10661, not 10661.0
    # Process only distinct names, because edge lists repeat each many times.
    distinct = {name: str(name).strip() for name in column[~missing].unique()}
    names = column.map(distinct)
    empty = missing | (names == "")
    if empty.any():
        rows = ", ".join(map(str, empty.index[empty][:3]))
        raise ValueError(
            f"{int(empty.sum())} of {len(column)} rows have no name in column {column.name!r} ({what}), the first: {rows}. "
            f"Leave them out, for example with `table.dropna(subset=[{column.name!r}])`"
            + ("." if missing.any() else " after `table = table.replace('', None)`.")
        )
    return names
