"""Tables of your own, and HGNC's names of genes."""

from __future__ import annotations

import logging
from collections import deque

import numpy as np
import pandas as pd

from scapp._annotations import annotated_rows, gene_and_term, named_columns, read_annotations, split_terms
from scapp._checked import checked
from scapp._download import RemoteFile, fetch, small_tables
from scapp._edge_columns import edge_ends, matrix_as_edges, read_signs, split_names_of_edges, weight_column
from scapp._edges import is_effects_table, read_edge_file, read_edges, table_of, unknown_ends
from scapp._gene_names import OF_GENES, kind_of, warn_of_dates
from scapp._genes import shorten
from scapp._provenance import check_columns, noted
from scapp._tables import (
    PathLike,
    check_column,
    check_single,
    existing_file,
    is_path,
    is_term,
    names_of,
    open_bytes,
    open_text,
    read_table,
    to_number,
    whole,
)

logger = logging.getLogger(__name__)

_HGNC = RemoteFile(
    "hgnc_complete_set.txt",
    "https://storage.googleapis.com/public-download-files/hgnc/tsv/tsv/hgnc_complete_set.txt",
    header="hgnc_id\t",
)
_SMALL_NAMES = "gene_aliases.tsv.gz"
_HGNC_COLUMNS = ["hgnc_id", "symbol", "alias_symbol", "prev_symbol", "entrez_id", "ensembl_gene_id"]


@checked(own=("table",))
def from_table(
    table: pd.DataFrame | PathLike | list[tuple],
    *,
    source: str | int | None = None,
    target: str | int | None = None,
    weight: str | int | None = None,
    gene: str | None = None,
    term: str | None = None,
    parents: pd.DataFrame | PathLike | None = None,
    directed: bool | None = None,
    min_weight: float | None = None,
    name: str = "",
    license: str = "",
    version: str = "",
) -> pd.DataFrame:
    """Read and check a network or annotations from any kind of table.

    Parameters
    ----------
    table
        DataFrame (of pandas or polars), the path of a csv, tsv or parquet file, gzipped or not, or a list of pairs, or of
        triples with a weight.
    source, target, weight
        Columns of a network; if None, common names are recognised, as in :func:`scapp.pp.add_network`. Without weights,
        all are one; signs are read from their columns. For a file without a header, give positions, counted from 0.
    gene, term
        Columns of annotations. The table is read as annotations if one of these is given, if its columns have the usual
        names (those of BioMart, CellMarker, PanglaoDB, CORUM, UniProt and others are known), or if it has no names, signs or
        weights of edges and two columns that share no entries. Columns without usual names are found by ids of terms
        and genes in them; the choice is logged. Several terms in one field (``"GO:0000001;GO:0000002"``) are split;
        rows without a term, or with the qualifier NOT, are left out.
    parents
        For annotations: table, or path, of narrower and broader terms for propagating annotations, as in
        :func:`scapp.pp.similarity_network`.
    directed
        Whether edges have a direction. If None, it is inferred from the table (regulators, signs), or left to
        :func:`scapp.pp.add_network`.
    min_weight
        Leave out edges with a smaller magnitude.
    name, license, version
        Provenance to store with the table.

    Returns
    -------
    For a network ``source``, ``target``, ``weight`` and the other columns; for annotations ``gene`` and ``term``.
    ``attrs`` holds the known provenance.

    Raises
    ------
    ValueError
        If the file or a column is missing, the file is damaged or has no header, names or weights are missing, the
        table may be a network whose ends cannot be identified, the columns of genes and terms cannot be told, or nothing is
        left.
    TypeError
        If `table` has an unsupported type.
    """
    path = existing_file(table) if is_path(table) else None
    annotated = gene is not None or term is not None
    if path is not None:
        table = read_table(path) if annotated else read_edge_file(path, [source, target, weight])
    if isinstance(table, list) and table and all(isinstance(edge, list | tuple) for edge in table):
        table = table_of(table)
    if not isinstance(table, pd.DataFrame):
        if path is not None:
            raise ValueError(f"{str(path)!r} holds a graph. Pass it to `scapp.pp.add_network(adata, {path.name!r})`.")
        raise TypeError(f"table must be a DataFrame or a path, found {type(table).__name__}.")
    # Rows are identified by position, because an index may have duplicates, as after pandas.concat. For a matrix it holds names.
    attrs = table.attrs
    table = table.reset_index(drop=pd.api.types.is_numeric_dtype(table.index.dtype))
    table.attrs = attrs
    if annotated or (source is None and target is None and weight is None and _are_annotations(table)):
        read = _annotations(table, gene, term, parents, from_file=path is not None)
        directed = None
    else:
        if parents is not None:
            raise ValueError(
                "parents=… passes annotations on, but this table is read as a network. Name gene= and term=."
            )
        read, found = _edges(table, source, target, weight, min_weight)
        directed = True if directed is None and found else directed
    warn_of_dates(pd.unique(read[["gene"] if "gene" in read else ["source", "target"]].to_numpy().ravel()), "table")
    origin = name or (path.name if path is not None else "")
    return noted(read, source=origin, license=license, version=version, path=path, directed=directed)


def _are_annotations(table: pd.DataFrame) -> bool:
    """Return whether a table holds annotations; raise if neither its column names nor its content show it."""
    if edge_ends(table) is not None or split_names_of_edges(table) is not None or matrix_as_edges(table) is not None:
        return False
    if table.shape[1] < 2:
        return True  # an error that says so
    if is_effects_table(table):
        raise ValueError(unknown_ends(table))
    if all(named_columns(table)):
        return True
    if weight_column(table) is not None or any(read_signs(table[column]) is not None for column in table.columns[2:]):
        return False
    _check_header(table)
    if table.shape[1] > 2 and any(named_columns(table)):
        return True
    one, other = (names_of(table.iloc[:, k], "name") for k in (0, 1))
    shared = set(one) & set(other)
    kinds = kind_of(list(one[:1000])), kind_of(list(other[:1000]))
    if shared or (kinds[0] == kinds[1] and kinds[0] in OF_GENES):
        why = f"both hold {shorten(map(repr, sorted(shared)), 3)}" if shared else f"both hold {kinds[0]}"
        raise ValueError(
            f"Are {table.columns[0]!r} and {table.columns[1]!r} the two ends of edges, or genes and terms? {why[0].upper()}{why[1:]}. "
            f"Say it with source={table.columns[0]!r}, target={table.columns[1]!r}, or with gene={table.columns[0]!r}, "
            f"term={table.columns[1]!r}."
        )
    return True


def _edges(
    table: pd.DataFrame,
    source: str | int | None,
    target: str | int | None,
    weight: str | int | None,
    min_weight: float | None,
) -> tuple[pd.DataFrame, bool]:
    """Return the edges with their further columns, and whether the table says that they have a direction."""
    if min_weight is not None and not min_weight >= 0:
        raise ValueError(f"min_weight bounds the magnitude and must not be negative, found {min_weight!r}.")
    read = read_edges(table, var_names=[], source=source, target=target, weight=weight)
    edges = read.edges
    edges = edges.join(table[[column for column in read.unread if column in table and column not in edges]])
    if min_weight is not None:
        magnitude = edges["weight"].abs()
        edges = edges[magnitude >= min_weight]
        if edges.empty:
            raise ValueError(
                f"No edge has a weight of min_weight={min_weight} or more; the largest is {magnitude.max()}. Lower it."
            )
    if read.sign_column:
        unknown = f", not known for {read.n_without_sign}" if read.n_without_sign else ""
        logger.info("Signs of edges from %s%s.", read.sign_column, unknown)
    return edges.reset_index(drop=True), read.directed


def _annotations(
    table: pd.DataFrame,
    gene: str | None,
    term: str | None,
    parents: pd.DataFrame | PathLike | None,
    *,
    from_file: bool,
) -> pd.DataFrame:
    if table.shape[1] < 2:
        raise ValueError(f"A table needs two columns at least, found {', '.join(map(repr, table.columns)) or 'none'}.")
    given = [
        None if column is None else check_column(table, column, what)
        for column, what in ((gene, "gene"), (term, "term"))
    ]
    check_single(table, given)
    gene, term = given if None not in given else gene_and_term(table, *given, from_file=from_file)
    logger.info("Read as annotations: genes from column %r, terms from column %r.", gene, term)
    table = annotated_rows(table, term)
    names, terms = split_terms(names_of(table[gene], "gene"), names_of(table[term], "term"))
    pairs = pd.DataFrame({"gene": names, "term": terms})
    if pairs.empty:
        raise ValueError("There are no annotations in this table: it has no rows.")
    if parents is None:
        return pairs.drop_duplicates(ignore_index=True)
    return read_annotations(pairs, parents=parents).pairs()


def _check_header(table: pd.DataFrame) -> None:
    """Raise if the first row of the file was taken for its header, or the first two columns hold numbers."""
    numbers = [
        name
        for name in table.columns
        if not isinstance(name, int) and (np.isfinite(to_number(str(name))) or is_term(str(name)))
    ]
    if numbers:
        raise ValueError(
            f"The table seems to have no header: its columns are {', '.join(map(repr, table.columns))}. Read it with "
            "`pd.read_csv(path, sep='\\t', header=None, names=['source', 'target', 'weight'])`, or names=['gene', 'term']."
        )
    measured = [name for name in table.columns[:2] if pd.api.types.is_float_dtype(table[name])]
    if measured:
        raise ValueError(
            f"Genes and terms are expected in the first two columns, but {measured[0]!r} holds numbers. Name the columns with "
            "gene= and term=. (A matrix of genes by genes goes to scapp.pp.add_network as an array.)"
        )


@checked
def hgnc(
    *,
    file: PathLike | None = None,
    folder: PathLike | None = None,
    base_url: str | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return the names of human genes from HGNC :cite:p:`Seal2023`: symbols, previous symbols, aliases, Entrez and Ensembl ids.

    Pass it as ``aliases=`` to :func:`scapp.pp.harmonize_genes` and :func:`scapp.pp.add_network`.

    Parameters
    ----------
    file
        Local copy of ``hgnc_complete_set.txt``, used instead of a download.
    folder, base_url, progress_bar
        As in :func:`scapp.datasets.norman_2019_effects`.

    Returns
    -------
    One row per gene: ``hgnc_id``, ``symbol``, ``alias_symbol``, ``prev_symbol`` (several are joined by ``|``), ``entrez_id``
    and ``ensembl_gene_id``, all text. Origin, license and date are in ``attrs``. Where the folder of data has no such file but
    a ``gene_aliases.tsv.gz`` (:doc:`/data`), one row per alias: ``symbol`` and ``alias_symbol``.

    Raises
    ------
    ConnectionError
        If the file cannot be fetched.
    ValueError
        If the file is not HGNC's.
    """
    small = small_tables([_SMALL_NAMES], instead_of=_HGNC, local=file, folder=folder)
    if small:
        table = read_table(small[0])
        check_columns(small[0], table.columns, ["symbol", "alias_symbol"], "a table of aliases", "Remove it.")
        table = table[["symbol", "alias_symbol"]].astype(str)
        return noted(table, source="org.Hs.eg.db", license="Artistic 2.0", version="", path=small[0], organism="human")
    path = fetch(_HGNC, local=file, folder=folder, base_url=base_url, progress_bar=progress_bar)
    with whole(path):
        with open_text(path) as lines:
            header = next(lines, "").rstrip("\r\n").split("\t")
            if not set(_HGNC_COLUMNS) <= set(header):  # or is the file broken?
                deque(lines, maxlen=0)
        check_columns(path, header, _HGNC_COLUMNS, "HGNC's complete set", "Download it again.")
        with open_bytes(path) as packed:
            table = pd.read_csv(packed, sep="\t", dtype=str, na_filter=False, usecols=_HGNC_COLUMNS)
    table, url = table[_HGNC_COLUMNS].copy(), _HGNC.url
    return noted(table, source="HGNC", license="CC0 1.0", version="", path=path, url=url, organism="human")
