"""Tables of features of genes: genes as rows, numbers as columns."""

from __future__ import annotations

import logging
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scapp._genes import shorten
from scapp._tables import (
    LARGEST_RATIO,
    LARGEST_SMALL,
    PathLike,
    begins_with_a_vector,
    existing_file,
    is_gmt,
    read_table,
    text_of,
    to_numbers,
    words_of,
)
from scapp._warn import warn_user

logger = logging.getLogger(__name__)

# Features are kept in single precision, and their squares are summed.
LARGEST_FEATURE = 1e15
_MISSING = ["", "na", "nan", "n/a", "none", "null", "-", "."]
# Words of which the names of ids, positions and lengths of genes consist.
_ABOUT_GENES = set(
    """entrez entrezgene ncbi hgnc ensembl gene genes id ids index taxon tax taxonomy start end stop begin tss tes tx txstart
    txend transcription site including and utrs chromosome chrom chr seqnames strand position pos coordinate midpoint length width bp
    transcript cds exon row rank number no name scaffold locus level""".split()
)


def read_feature_table(table: Any) -> tuple[list[str], NDArray[np.float64]]:
    """Return the genes of a table (its index or first column), once each, and their features, all finite; rows of NaN are left out.

    ValueError for text, genes that occur twice, missing, infinite or very large numbers, and for an empty table.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"A feature table must be a DataFrame indexed by gene, or a path, found {type(table).__name__}."
        )
    if table.shape[1] and not pd.api.types.is_numeric_dtype(table.dtypes.iloc[0]):
        table = table.set_index(table.columns[0])
    table = _only_features(table)
    text = [column for k, column in enumerate(table.columns) if not holds_numbers(table.iloc[:, k])]
    if text or not table.shape[1]:
        raise ValueError(
            f"A feature table must hold numbers, but {shorten(map(repr, text)) or 'there are no columns'}"
            f"{' do not' if text else ''}. Leave these columns out, or pass kind='annotations' or 'network'."
        )
    if pd.api.types.is_numeric_dtype(table.index.dtype):
        raise ValueError(
            f"A feature table must be indexed by gene, but its index holds numbers ({shorten(table.index, 3)}). "
            "Set it with `table.set_index('gene')`."
        )
    unnamed = [
        name
        for name in table.columns
        if isinstance(name, str) and re.fullmatch(r"-?\d+\.\d+(?:[eE][-+]?\d+)?(?:\.\d+)?", name)
    ]
    if table.shape[1] > 1 and len(unnamed) > table.shape[1] / 2:
        raise ValueError(
            f"The names of the columns are numbers ({shorten(unnamed, 3)}): the first gene was probably taken for a header and is lost. Read "
            "the file with header=None."
        )
    genes = table.index.astype(str)
    if not genes.is_unique:
        twice = genes[genes.duplicated()].unique()
        raise ValueError(
            f"{len(twice)} genes occur more than once in the feature table: {shorten(twice)}. Keep one row of each, for "
            "example with `table.groupby(level=0).mean()`."
        )
    values = np.column_stack([to_numbers(table.iloc[:, k]).to_numpy() for k in range(table.shape[1])])
    missing = np.isnan(values)
    words = np.column_stack([text_of(table.iloc[:, k]).str.lower().isin(_MISSING) for k in range(table.shape[1])])
    if (wrong := missing & ~words).any():
        i, k = np.argwhere(wrong)[0]
        raise ValueError(
            f"{int(wrong.sum())} values of the feature table are not numbers, the first: {table.iat[i, k]!r} of {genes[i]} in {table.columns[k]!r}.\n"
            "Expected numbers.\nCorrect them, or leave these genes or columns out."
        )
    empty = missing.all(axis=1)  # a row of NaN is how a gene without features is marked
    bad = (missing & ~empty[:, None]) | np.isinf(values)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} values of the feature table are missing or infinite, in the genes "
            f"{shorten(genes[bad.any(axis=1)])}. Fill them in, or leave these genes or columns out."
        )
    large = np.abs(np.where(missing, 0, values)) > LARGEST_FEATURE
    if large.any():
        raise ValueError(
            f"{int(large.sum())} values of the feature table are beyond {LARGEST_FEATURE:g}, in the genes "
            f"{shorten(genes[large.any(axis=1)])}.\nExpected numbers whose squares single precision can add up.\n"
            "Rescale the columns, for example with `(table - table.mean()) / table.std()`, or correct these values."
        )
    if empty.all():
        raise ValueError("There are no features: the table has no rows, or all are NaN.")
    values, genes = values[~empty], genes[~empty]
    return list(genes), values


def holds_numbers(column: pd.Series) -> bool:
    """Return whether a column holds numbers, or text that most are: a word such as NA makes text of all in a file."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return True
    text = text_of(column.head(1000))
    numbers = to_numbers(text[~text.str.lower().isin(_MISSING)])
    return len(numbers) > 0 and bool(numbers.notna().mean() > 0.5)


def _only_features(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out ids and positions of genes, and numbers of rows, which are numbers but say nothing by their size; warn of it."""
    ids = [column for column in table.columns if _is_id(column)]
    if not ids:
        return table
    warn_user(
        f"The columns {shorten(map(repr, ids))} of the feature table are ids or positions by their names, and are left out. If they are features, "
        "rename them."
    )
    return table.drop(columns=ids)


def _is_id(column: object) -> bool:
    """Return whether a column is called as ids, positions or lengths of genes, or numbers of rows, are."""
    words = {
        word for word in re.split("[_/]", re.sub(r"(?<=[a-z])id$", "_id", words_of(column))) if not word.isdigit()
    } - {""}
    return "id" in words or (bool(words) and words <= _ABOUT_GENES) or str(column).startswith("Unnamed: ")


def load_features(path: PathLike) -> Any:
    """Return the content of a file: npz files as a table indexed by gene, GMT files as their path."""
    if str(path).lower().endswith(".npz"):
        return _read_npz(path)
    if is_gmt(path):
        return existing_file(path)
    if begins_with_a_vector(path):
        logger.info("%s has no header: its first line is a gene with its numbers, as the lines below.", Path(path).name)
        return read_table(path, header=False)
    return read_table(path)


def _read_npz(path: PathLike) -> pd.DataFrame:
    """Return an npz file as a table: its only array of text names the rows of its only matrix. Pickled objects are not loaded."""
    path = existing_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > max(LARGEST_SMALL, LARGEST_RATIO * path.stat().st_size):
            raise ValueError(f"it unpacks to {size:,} bytes, over {LARGEST_RATIO} times its size")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as plain arrays ({error}). Save the names as text, not as objects: "
            "`np.savez(path, symbol=np.array(names, dtype=str), embedding=matrix)`."
        ) from error
    names = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "US"]
    matrices = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiu"]
    if len(names) != 1 or len(matrices) != 1 or len(arrays[names[0]]) != len(arrays[matrices[0]]):
        found = ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in arrays.items())
        raise ValueError(
            f"{str(path)!r} must hold one array of gene names and one matrix with as many rows, found {found}. "
            "Pass `pd.DataFrame(matrix, index=names)`."
        )
    index = arrays[names[0]]
    return pd.DataFrame(arrays[matrices[0]].astype(np.float32), index=index.astype(str))
