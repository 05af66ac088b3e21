"""From names and vectors to the table that every reader returns."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from scapp._genes import shorten
from scapp._tables import existing_file, find_column, is_path, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PathLike: TypeAlias = str | os.PathLike[str]
Duplicates = Literal["error", "first", "mean"]

# The tokens of a vocabulary that stand for no gene: <pad>, <mask>, <cls>, <eoc>, …
SPECIAL = re.compile(r"^<.*>$")
VERSION = re.compile(r"\.\d+(_PAR_Y)?$")

logger = logging.getLogger(__name__)


def to_frame(
    names: Sequence[str],
    values: Any,
    *,
    source: Path,
    format: str,
    ensembl_ids: pd.DataFrame | PathLike | None = None,
    duplicates: Duplicates = "error",
    **attrs: Any,
) -> pd.DataFrame:
    """Check names and vectors, and join them.

    Parameters
    ----------
    names
        One name a row, as in the file. Special tokens, such as ``"<pad>"``, are left out and counted.
    values
        Numbers of shape (n_names, n_dimensions).
    source, format
        The file and what kind it is, for the messages and ``attrs``.
    ensembl_ids
        Table, or its path, with columns ``ensembl_id`` and ``symbol``; see :func:`_to_symbols`.
    duplicates
        What to do with a name that occurs more than once.
    attrs
        More to be noted in ``attrs``.

    Raises
    ------
    ValueError
        If the shapes disagree, a name is empty or occurs twice, or a value is not finite.
    """
    values = np.asarray(values)
    names = [str(name).strip() for name in names]
    if duplicates not in ("error", "first", "mean"):
        raise ValueError(f"duplicates must be 'error', 'first' or 'mean', found {duplicates!r}.")
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.shape[1]:
        raise ValueError(
            f"{str(source)!r} should hold a matrix of numbers, genes by dimensions, found an array of type {values.dtype} "
            f"and shape {values.shape}."
        )
    if len(names) != len(values):
        raise ValueError(f"{str(source)!r} has {len(values)} vectors, but there are {len(names)} gene names.")
    gene = np.array([not SPECIAL.match(name) for name in names], dtype=bool)
    attrs = {"source": str(source), "format": format, **attrs, "n_special_tokens": int((~gene).sum())}
    kept = [name for name, is_gene in zip(names, gene, strict=True) if is_gene]
    values = values[gene].astype(np.float32)
    _check(kept, values, source)
    index, values, n_repeated = _without_duplicates(pd.Index(kept, dtype=object), values, duplicates, source)
    frame = pd.DataFrame(values, index=index, columns=pd.RangeIndex(values.shape[1]))
    frame.attrs = {**attrs, "n_repeated_names": n_repeated}
    if ensembl_ids is not None:
        frame = _to_symbols(frame, ensembl_ids, source)
    frame.index.name = "gene"
    return frame


def _check(names: list[str], values: NDArray[np.float32], source: Path) -> None:
    if not names:
        raise ValueError(f"{str(source)!r} holds no gene.")
    empty = sum(not name for name in names)
    if empty:
        raise ValueError(f"{empty} of the {len(names)} gene names of {str(source)!r} are empty.")
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ValueError(
            f"The vectors of {int(bad.sum())} gene(s) of {str(source)!r} hold NaN, infinite values or values too large for "
            f"float32: {shorten(np.array(names, dtype=object)[bad])}. Leave these genes out of the file."
        )


def _without_duplicates(
    index: pd.Index, values: NDArray[np.float32], duplicates: Duplicates, source: Path
) -> tuple[pd.Index, NDArray[np.float32], int]:
    twice = index[index.duplicated()].unique()
    if not len(twice):
        return index, values, 0
    if duplicates == "error":
        raise ValueError(
            f"{len(twice)} gene name(s) occur more than once in {str(source)!r}: {shorten(twice)}. Pass "
            "duplicates='first' to take the first vector of each, or duplicates='mean' for the mean."
        )
    first = ~index.duplicated()
    if duplicates == "mean":
        # Sums in double precision, one gene after the other, in the order of the first occurrences.
        code, _ = pd.factorize(index)
        sums = np.zeros((int(first.sum()), values.shape[1]))
        np.add.at(sums, code, values)
        return index[first], (sums / np.bincount(code)[:, None]).astype(np.float32), len(twice)
    return index[first], values[first], len(twice)


def _to_symbols(frame: pd.DataFrame, table: pd.DataFrame | PathLike, source: Path) -> pd.DataFrame:
    """Translate Ensembl ids into symbols; an id without exactly one symbol is left out and counted.

    Versions (``ENSG00000102145.15``) are stripped on both sides. Left out are ids that the table lacks, ids for which
    it has several symbols, and ids that share their symbol with another id of the file.
    """
    symbols = _read_ensembl(table)
    stripped = [VERSION.sub("", name) for name in frame.index]
    found = [symbols.get(name, set()) for name in stripped]
    unknown = [name for name, some in zip(frame.index, found, strict=True) if not some]
    several = sum(len(some) > 1 for some in found)
    single = pd.Series([next(iter(some)) if len(some) == 1 else None for some in found], dtype=object)
    shared = single.notna() & single.duplicated(keep=False)
    kept = (single.notna() & ~shared).to_numpy()
    if not kept.any():
        raise ValueError(
            f"None of the {len(frame)} names of {str(source)!r} is an Ensembl id that the table translates. Names: "
            f"{shorten(frame.index, 3)}. Ids of the table: {shorten(symbols, 3)}. If the names are symbols already, "
            "leave ensembl_ids out."
        )
    translated = frame[kept]
    translated.index = pd.Index(single[kept], dtype=object)
    counts = {
        "n_ids": len(frame),
        "n_translated": int(kept.sum()),
        "n_unknown": len(unknown),
        "n_several_symbols": several,
        "n_shared_symbol": int(shared.sum()),
    }
    translated.attrs = {**frame.attrs, "ensembl_ids": counts}
    if not kept.all():
        logger.info(
            "%d of %d Ensembl ids have a symbol of their own. Left out: %d that the table lacks, %d of several symbols, "
            "%d that share their symbol with another id.",
            counts["n_translated"], counts["n_ids"], counts["n_unknown"], several, counts["n_shared_symbol"],
        )  # fmt: skip
    return translated


def _read_ensembl(table: pd.DataFrame | PathLike) -> dict[str, set[str]]:
    if is_path(table):
        table = read_table(existing_file(table))
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"ensembl_ids must be a DataFrame or a path, found {type(table).__name__}.")
    ids = find_column(table, ["ensembl_id", "ensembl", "ensembl_gene_id", "gene_id"])
    names = find_column(table, ["symbol", "gene_symbol", "gene_name", "hgnc_symbol"])
    if ids is None or names is None:
        raise ValueError(
            "The table of Ensembl ids needs the columns 'ensembl_id' and 'symbol', found "
            f"{', '.join(map(repr, table.columns))}. Rename them."
        )
    symbols: dict[str, set[str]] = {}
    pairs: Iterable[tuple[str, str]] = table[[ids, names]].dropna().astype(str).itertuples(index=False, name=None)
    for name, symbol in pairs:
        if name.strip() and symbol.strip():
            symbols.setdefault(VERSION.sub("", name.strip()), set()).add(symbol.strip())
    return symbols
