"""Tables of your own, and HGNC's names of genes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd

from scapp._download import RemoteFile, fetch
from scapp.networks._note import noted
from scapp.pp._annotations import read_annotations
from scapp.pp._edges import edge_ends, read_edges, weight_column
from scapp.pp._tables import (
    check_column,
    check_single,
    existing_file,
    find_column,
    is_gzipped,
    is_path,
    names_of,
    read_table,
    to_number,
    whole,
)

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

_HGNC = RemoteFile(
    "hgnc_complete_set.txt",
    "https://storage.googleapis.com/public-download-files/hgnc/tsv/tsv/hgnc_complete_set.txt",
    header="hgnc_id\t",
)
_HGNC_COLUMNS = ["hgnc_id", "symbol", "alias_symbol", "prev_symbol", "entrez_id", "ensembl_gene_id"]


def from_table(
    table: pd.DataFrame | PathLike,
    *,
    source: str | None = None,
    target: str | None = None,
    weight: str | None = None,
    gene: str | None = None,
    term: str | None = None,
    parents: pd.DataFrame | PathLike | None = None,
    directed: bool | None = None,
    min_weight: float | None = None,
    name: str = "",
    licence: str = "",
    version: str = "",
) -> pd.DataFrame:
    """A network or annotations from a table of any form, checked and in the form of the others of this module.

    Parameters
    ----------
    table
        DataFrame, or the path of a csv, tsv or parquet file, gzipped or not.
    source, target, weight
        Columns of a network; found by their usual names if None. Without weights, all are one.
    gene, term
        Columns of annotations, which are read if one of these is given, or if no columns of a network are found: neither ends
        nor weights of edges, by their usual names. The first two columns if None; which are taken is logged.
    parents
        Of annotations: table, or path, of narrower and broader terms, by which annotations are passed on, as in
        :func:`scapp.pp.similarity_network`.
    directed
        Whether edges have a direction; None says nothing about it, and :func:`scapp.pp.add_network` decides.
    min_weight
        Edges of a smaller magnitude are left out.
    name, licence, version
        To be noted with the table.

    Returns
    -------
    For a network ``source``, ``target``, ``weight`` and the further columns; for annotations ``gene`` and ``term``. What
    is known of the origin is in ``attrs``.

    Raises
    ------
    ValueError
        If there is no such file or column, the file is broken or has no header, names or weights are missing, the table may
        be a network whose ends are not known, or nothing is left.
    TypeError
        If `table` is something else.
    """
    path = existing_file(table) if is_path(table) else None
    if path is not None:
        table = read_table(path)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table must be a DataFrame or a path, found {type(table).__name__}.")
    # Rows are told apart by their place: an index may hold a value twice, as after pandas.concat.
    table = table.reset_index(drop=True)
    annotated = gene is not None or term is not None
    if not annotated and source is None and target is None and edge_ends(table) is None:
        weight = weight_column(table) if weight is None else check_column(table, weight, "weight")
        annotated = weight is None or None not in (find_column(table, ["gene"]), find_column(table, ["term"]))
    if annotated:
        read = _annotations(table, gene, term, parents)
    else:
        if parents is not None:
            raise ValueError(
                "parents=… passes annotations on, but this table is read as a network. Name gene= and term=."
            )
        read = _edges(table, source, target, weight, min_weight)
    origin = name or (path.name if path is not None else "")
    return noted(
        read, source=origin, licence=licence, version=version, path=path, directed=None if annotated else directed
    )


def _edges(
    table: pd.DataFrame, source: str | None, target: str | None, weight: str | None, min_weight: float | None
) -> pd.DataFrame:
    if min_weight is not None and not min_weight >= 0:
        raise ValueError(f"min_weight bounds the magnitude and must not be negative, found {min_weight!r}.")
    read = read_edges(table, var_names=[], source=source, target=target, weight=weight)
    ends = (source, target) if source is not None and target is not None else edge_ends(table)
    used = {*(ends or ()), weight or read.weight_column}
    others = [column for column in table.columns if column not in used and column not in read.edges.columns]
    edges = read.edges.join(table[others])
    if min_weight is not None:
        magnitude = edges["weight"].abs()
        edges = edges[magnitude >= min_weight]
        if edges.empty:
            raise ValueError(
                f"No edge has a weight of min_weight={min_weight} or more; the largest is {magnitude.max()}. Lower it."
            )
    return edges.reset_index(drop=True)


def _annotations(
    table: pd.DataFrame, gene: str | None, term: str | None, parents: pd.DataFrame | PathLike | None
) -> pd.DataFrame:
    if table.shape[1] < 2:
        raise ValueError(f"A table needs two columns at least, found {', '.join(map(repr, table.columns)) or 'none'}.")
    if gene is None and term is None:
        _check_header(table)
    gene = table.columns[0] if gene is None else check_column(table, gene, "gene")
    term = next(c for c in table.columns if c != gene) if term is None else check_column(table, term, "term")
    check_single(table, [gene, term])
    logger.info("Read as annotations: genes from column %r, terms from column %r.", gene, term)
    pairs = pd.DataFrame({"gene": names_of(table[gene], "gene"), "term": names_of(table[term], "term")})
    if parents is None:
        return pairs.drop_duplicates(ignore_index=True)
    read = read_annotations(pairs, parents=parents)
    found = read.membership.tocoo()
    genes, terms = pd.Index(read.genes, dtype=object), pd.Index(read.terms, dtype=object)
    return pd.DataFrame({"gene": genes[found.row], "term": terms[found.col]})


def _check_header(table: pd.DataFrame) -> None:
    """Raise if the first row of the file was taken for its header, or the first two columns hold numbers."""
    numbers = [name for name in table.columns if np.isfinite(to_number(str(name)))]
    if numbers:
        raise ValueError(
            f"The table has no header, it seems: its columns are {', '.join(map(repr, table.columns))}. Read it with "
            "`pd.read_csv(path, sep='\\t', header=None, names=['source', 'target', 'weight'])`, or names=['gene', 'term']."
        )
    measured = [name for name in table.columns[:2] if pd.api.types.is_float_dtype(table[name])]
    if measured:
        raise ValueError(
            f"Genes and terms are expected in the first two columns, but {measured[0]!r} holds numbers. Name the columns with "
            "gene= and term=. (A matrix of genes by genes goes to scapp.pp.add_network as an array.)"
        )


def hgnc(
    *,
    file: PathLike | None = None,
    folder: PathLike | None = None,
    base_url: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The names of human genes from HGNC :cite:p:`Seal2023`: symbols, previous symbols, aliases, Entrez and Ensembl ids.

    For ``aliases=`` of :func:`scapp.pp.harmonize_genes` and :func:`scapp.pp.add_network`.

    Parameters
    ----------
    file
        Local copy of ``hgnc_complete_set.txt``, in the place of a download.
    folder, base_url, progress
        As in :func:`scapp.datasets.norman_2019_effects`.

    Returns
    -------
    One row a gene: ``hgnc_id``, ``symbol``, ``alias_symbol``, ``prev_symbol`` (several are joined by ``|``), ``entrez_id``
    and ``ensembl_gene_id``, all text. Origin, licence and date are in ``attrs``.

    Raises
    ------
    ConnectionError
        If the file cannot be fetched.
    ValueError
        If the file is another.
    """
    path: Path = (
        existing_file(file) if file is not None else fetch(_HGNC, folder=folder, base_url=base_url, progress=progress)
    )
    with whole(path):
        table = pd.read_csv(
            path, sep="\t", dtype=str, na_filter=False, compression="gzip" if is_gzipped(path) else None
        )
    missing = [name for name in _HGNC_COLUMNS if name not in table]
    if missing:
        raise ValueError(f"{str(path)!r} is not HGNC's complete set: it has no column {', '.join(map(repr, missing))}.")
    return noted(
        table[_HGNC_COLUMNS].copy(),
        source="HGNC",
        licence="CC0 1.0",
        version="",
        path=path,
        url=_HGNC.url,
        organism="human",
    )
