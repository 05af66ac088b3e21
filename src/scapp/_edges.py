"""Conversion of edges in any accepted form to one table with source, target and weight."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.etree.ElementTree import ParseError

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._annotations import joined_names
from scapp._edge_columns import (
    ENDS,
    along_arrows,
    check_signs,
    edge_ends,
    find_signs,
    matrix_as_edges,
    read_signs,
    split_names_of_edges,
    tells_direction,
    weight_column,
)
from scapp._effect_columns import ADJUSTED, ERRORS, LN, LOG2, LOG10, P_VALUES, STATISTICS
from scapp._gene_names import kind_of
from scapp._genes import shorten
from scapp._tables import (
    PathLike,
    check_column,
    check_single,
    existing_file,
    find_column,
    has_no_header,
    is_gmt,
    is_path,
    is_term,
    names_of,
    open_text,
    read_table,
    to_numbers,
    unpacked_name,
    whole,
)

if TYPE_CHECKING:
    import networkx

    Pairs: TypeAlias = Iterable[tuple[str, str] | tuple[str, str, float]] | Mapping[Any, Any]
    Edges: TypeAlias = pd.DataFrame | PathLike | sparse.spmatrix | np.ndarray | networkx.Graph | Pairs

logger = logging.getLogger(__name__)

# Weights are stored in single precision, and those of repeated edges may be summed.
LARGEST_WEIGHT = 1e30
_MOST = 0.5


@dataclass(frozen=True)
class EdgeTable:
    """Edges by name, and what was found out about them.

    `edges` has the columns source and target (text) and weight (float64, finite); `directed` is whether the input itself says that
    its edges have a direction. `weight_column` and `sign_column` name where weights and signs come from, empty for none; the
    `n_without_sign` edges whose sign is not said are positive. `unread` are the columns that were not read.
    """

    edges: pd.DataFrame
    directed: bool
    weight_column: str
    sign_column: str = ""
    n_without_sign: int = 0
    unread: tuple[str, ...] = ()


def read_edges(
    edges: Edges,
    *,
    var_names: Sequence[str],
    source: str | int | None = None,
    target: str | int | None = None,
    weight: str | int | None = None,
) -> EdgeTable:
    """Read edges: a table, the path of one (or of a GraphML or sif file), a square matrix in the order of `var_names`, or a networkx graph.

    `source`, `target` and `weight` name columns (`weight`: or an edge attribute), which are found by their usual names if omitted;
    numbers are positions in a file without a header.

    Raises
    ------
    ValueError
        If the columns are not found, a matrix has the wrong shape, there are no edges, a name is missing, or a
        weight is missing, infinite or not a number.
    TypeError
        If `edges` has an unsupported type.
    """
    if is_path(edges):
        edges = read_edge_file(edges, [source, target, weight])
    elif isinstance(edges, list | tuple | set | Mapping):
        edges = table_of(edges)
    if not isinstance(edges, pd.DataFrame) and (source is not None or target is not None):
        raise ValueError("source=… and target=… name columns of a table; leave them out for a matrix or a graph.")
    if isinstance(edges, pd.DataFrame):
        table = _from_table(edges, source, target, weight)
    elif sparse.issparse(edges) or isinstance(edges, np.ndarray):
        table = _from_matrix(edges, var_names)
    elif hasattr(edges, "is_directed") and hasattr(edges, "edges"):
        table = _from_graph(edges, None if weight is None else str(weight))
    else:
        raise TypeError(
            "edges must be a DataFrame, the path of a csv, tsv or parquet file, a scipy or numpy matrix, a networkx graph, a list "
            f"of pairs or a dictionary, found {type(edges).__name__}."
        )
    if table.edges.empty:
        raise ValueError("There are no edges: the table has no rows, or the matrix no entries.")
    weights = table.edges["weight"].to_numpy()
    _check_weights(table.edges, weights, weights, f" (in {table.weight_column!r})" if table.weight_column else "")
    return table


def table_of(edges: Mapping[Any, Any] | Iterable[Any]) -> pd.DataFrame:
    """Convert edges given as pairs, or as triples with a weight, to a table.

    Or as a dictionary: from a gene to its targets, from a gene to a dictionary of targets and weights, or from a pair to its weight.
    """
    rows: list[tuple[Any, ...]] = []
    if isinstance(edges, Mapping):
        for one, others in edges.items():
            if isinstance(one, tuple):
                rows.append((*one, others))
            elif isinstance(others, Mapping):
                rows.extend((one, other, weight) for other, weight in others.items())
            elif isinstance(others, str) or not isinstance(others, Iterable):
                rows.append((one, others))
            else:
                rows.extend((one, other) for other in others)
    else:
        rows = [tuple(edge) if isinstance(edge, list | tuple) else (edge,) for edge in edges]
    lengths = {len(row) for row in rows}
    wrong = [row for row in rows if len(row) not in (2, 3) or not all(isinstance(name, str) for name in row[:2])]
    if wrong or len(lengths) > 1:
        raise ValueError(
            f"Edges given as a {type(edges).__name__} hold {wrong[0] if wrong else rows[:2]!r}.\nExpected pairs of names, ('KLF1', "
            "'HBB'), or triples with a weight, ('KLF1', 'HBB', 0.5), all of one length; or a dictionary from a gene to its targets."
        )
    names = ["source", "target", "weight"][: lengths.pop() if lengths else 2]
    return pd.DataFrame(rows, columns=names)


def read_edge_file(path: PathLike, columns: Sequence[str | int | None] = ()) -> pd.DataFrame | networkx.Graph:
    """Read the path of edges: a table, with a header or without, a GraphML or a sif file.

    `columns` are those that the user names; if some are numbers, the file has no header.
    """
    name = unpacked_name(path)
    if name.endswith((".graphml", ".gml")):
        return _read_graph(existing_file(path), name)
    if name.endswith(".sif"):  # Cytoscape's simple interaction format: a node, a relation, and one or more nodes
        rows: list[tuple[str, str, str]] = []
        with whole(file := existing_file(path)), open_text(file) as lines:
            for line in lines:
                fields = [part.strip() for part in line.split("\t" if "\t" in line else None) if part.strip()]
                rows.extend((fields[0], fields[1], other) for other in fields[2:])
        return pd.DataFrame(rows, columns=["source", "interaction", "target"], dtype=object)
    if is_gmt(path):
        raise ValueError(
            f"{str(path)!r} holds gene sets (GMT), not edges. Join genes of the same sets with "
            "`scapp.pp.similarity_network(adata, path)`, or read them with `scapp.resources.from_gmt(path)`."
        )
    by_position = any(isinstance(column, int) and not isinstance(column, bool) for column in columns)
    if by_position or has_no_header(path):
        return _without_header(path, by_position)
    return read_table(path)


def _without_header(path: PathLike, by_position: bool) -> pd.DataFrame:
    table = read_table(path, header=False)
    attributes = next((c for c in table.columns[2:] if table[c].astype(str).str.startswith("{").all()), None)
    if attributes is not None:
        raise ValueError(
            f"{str(path)!r} holds edges with attributes, as networkx writes them ({table[attributes].iloc[0]!r}). Read it with "
            "`networkx.read_edgelist(path)` (create_using=networkx.DiGraph if they have a direction), and pass the graph."
        )
    logger.info("%s has no header, so its columns are read by position.", Path(path).name)
    if table.shape[1] < 2 or any(all(map(is_term, table[c].astype(str))) for c in table):
        return table  # annotations
    if table.shape[1] == 2 and any(table[c].astype(str).str.contains(r"\w \w").mean() > _MOST for c in table):
        return table  # terms in words
    names = {} if by_position else {0: "source", 1: "target"}
    numbers = [c for c in table.columns[1:] if np.isfinite(to_numbers(table[c])).all()]
    rest = list(table.columns[2:])
    if numbers[:1] == [1] and table.shape[1] > 2 and 2 not in numbers and not by_position:
        # Behind each name is its id (RegNetwork, HIPPIE), or between the two their weight.
        ids = all(pd.api.types.is_integer_dtype(table[c].dtype) for c in (1, 3)) if 3 in numbers else False
        names, rest = {0: "source", 2: "target"}, [c for c in table.columns[1:] if c != 2 and not (ids and c in (1, 3))]
    signs = next((c for c in rest if read_signs(table[c]) is not None), None)
    second = next((c for c in rest if c in numbers), None)
    if signs is not None:
        names[signs] = "sign"
    elif second is not None:
        names[second] = "weight"
    # source, relation, target: the relation is between the ends.
    if by_position:
        return table.rename(columns=names)
    kinds = {c: kind_of([*table[c].head(1000).astype(str)]) for c in table.columns if c not in numbers}
    alike = [c for c in rest if kinds.get(c) and kinds[c] == kinds[0]]
    if 2 in rest and read_signs(table[1]) is not None:
        names = {0: "source", 1: "sign", 2: "target"}
    elif 2 in rest and alike == [2] and not kinds.get(1):
        names = {0: "source", 1: "interaction", 2: "target"}
    elif (
        1 in names
        and alike
        and (
            not kinds.get(1)
            or (signs is second is None and alike[0] == 2 and min(table[c].nunique() for c in (1, 2)) > 1)
        )
    ):
        raise ValueError(
            f"{str(path)!r} has no header, and its column {alike[0]} (from 0) holds names as the first does, such as "
            f"{str(table[alike[0]].iloc[0])!r}.\nExpected a source and a target in each line.\nIf these are lists of targets, pass a dictionary, "
            "`{'KLF1': ['HBB', 'ALAS2']}`; if not, name the ends: source=0, target=1."
        )
    elif signs is second is None and table.shape[1] == 3 and table[1].nunique() < table[2].nunique():
        names = {0: "source", 1: "interaction", 2: "target"}
    return table.rename(columns=names).rename(columns=str)


def _read_graph(path: Path, name: str) -> networkx.Graph:
    import networkx

    try:
        with whole(path), open_text(path) as file:
            text = file.read()
        return networkx.parse_graphml(text) if name.endswith(".graphml") else networkx.parse_gml(text)
    except (networkx.NetworkXError, ParseError, ValueError, KeyError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as {'GraphML' if name.endswith('.graphml') else 'GML'} ({error}). Write it again, for "
            "example with `networkx.write_graphml`, or pass a table of edges."
        ) from error


def _from_table(
    table: pd.DataFrame, source: str | int | None, target: str | int | None, weight: str | int | None
) -> EdgeTable:
    if (source is None) != (target is None):
        raise ValueError("Pass both source=… and target=…, or neither.")
    attrs = table.attrs
    if edge_ends(table) is None and None not in table.index.names and edge_ends(table.reset_index()) is not None:
        table = table.reset_index()
    given = list(table.columns)
    if source is not None and target is not None:
        ends = check_column(table, source, "source"), check_column(table, target, "target")
    else:
        found = edge_ends(table)
        if found is None and (named := split_names_of_edges(table)) is not None:
            table, found = named, ("source", "target")
        if found is None and weight is None and (matrix := matrix_as_edges(table)) is not None:
            table, found, attrs, given = matrix, ("source", "target"), matrix.attrs, []
        if found is None:
            raise ValueError(unknown_ends(table))
        ends = found
    if (arrows := along_arrows(table, ends)) is not None:
        table, attrs = arrows, {"directed": True, **attrs}
    if weight is not None:
        check_column(table, weight, "weight")
    else:
        weight = weight_column(table.drop(columns=list(ends)))
    check_single(table, [*ends, weight])
    values: Any = 1.0 if weight is None else to_numbers(table[weight])
    edges = pd.DataFrame(
        {"source": names_of(table[ends[0]], "source"), "target": names_of(table[ends[1]], "target"), "weight": values}
    )
    if weight is not None:
        _check_weights(edges, values.to_numpy(), table[weight].astype(object).to_numpy(), f" (in {weight!r})")
    signs = _give_signs(edges, table, [*ends, weight])
    # Signs belong to regulation, which is directed.
    regulated = bool(signs) or tells_direction(table, ends, [*ends, weight], edges["weight"].to_numpy())
    directed = attrs.get("directed", regulated)  # set by scapp.resources
    rest = _unread([column for column in table.columns if column in given], [*ends, weight], signs)
    return EdgeTable(edges, bool(directed), "" if weight is None else str(weight), unread=rest, **signs)


def _give_signs(edges: pd.DataFrame, table: pd.DataFrame, used: Sequence[object]) -> dict[str, Any]:
    """Give edges without negative weights the signs from their table, and return a record of these."""
    if (edges["weight"] < 0).any():
        return {}
    found = find_signs(table, used)
    if found is None:
        check_signs(table, used)
        return {}
    signs, column = found
    edges["weight"] *= np.where(signs < 0, -1.0, 1.0)
    return {"sign_column": column, "n_without_sign": int((signs == 0).sum())}


def _unread(columns: Iterable[object], used: Iterable[object], signs: Mapping[str, Any]) -> tuple[str, ...]:
    read = {str(column) for column in used if column is not None}
    if told := signs.get("sign_column"):
        read |= {told, *told.split(", ")}
    return tuple(str(column) for column in columns if str(column) not in read)


def unknown_ends(table: pd.DataFrame) -> str:
    """Return the message for a table whose source and target columns cannot be identified."""
    columns = shorten(map(repr, table.columns), 12)
    if is_effects_table(table):
        return f"This is a table of effects and not a network: its columns are {columns}. Read it with `scapp.pp.read_effects(table)`."
    if table.shape[1] >= 2 and len(table) and all(map(is_term, table.iloc[:, 1].astype(str))):
        return (
            f"The column {str(table.columns[1])!r} holds terms, such as {str(table.iloc[0, 1])!r}: these are annotations, not edges. Join genes of "
            "the same terms with `scapp.pp.similarity_network(adata, annotations)`."
        )
    if table.shape[1] > 2 and all(np.isfinite(to_numbers(table[column])).all() for column in table.columns[1:]):
        return (
            f"This is a table of numbers, {len(table):,} rows by {table.shape[1] - 1:,} columns, and which way its edges go cannot be told. "
            "Pass it in long form (source, target, weight), or square with the same genes in rows and columns. (Effects are read by "
            "`scapp.pp.read_effects`, features by `scapp.pp.add_gene_features`.)"
        )
    if (members := members_column(table)) is not None:
        return (
            f"The column {members!r} lists several genes in a field, such as {str(table[members].iloc[0])!r}: these are sets of genes, which "
            f"are no edges. Read them with `scapp.resources.from_table(table, gene={members!r}, term=…)`, and join genes of the "
            "same sets with `scapp.pp.similarity_network(adata, annotations)`."
        )
    square = table.select_dtypes("number")
    if table.shape[1] > 2 and square.shape[1] >= table.shape[1] - 1 and square.isna().to_numpy().any():
        return (
            f"This is a table of numbers with {int(square.isna().to_numpy().sum()):,} missing ones. If it is a network, square with the same genes "
            "in rows and columns, and missing values mean no edge, pass `table.fillna(0)`."
        )
    known = "; ".join(f"{a}, {b}" + (f" ({where})" if where else "") for (a, b), where in ENDS.items())
    return (
        f"Cannot tell which columns hold the two ends of an edge. The columns are {columns}; known pairs (in any case) are: {known}. "
        "Name them with source='…', target='…' and, if there are weights, weight='…' (of a file without a header by their "
        "positions: source=0, target=1). If these are genes and their terms or sets, join genes of the same ones with "
        "`scapp.pp.similarity_network`."
    )


def members_column(table: pd.DataFrame) -> str | None:
    """Return the column in which most fields list several genes; None if there is none, or more than one."""
    lists = [column for column in table.columns if isinstance(table[column], pd.Series) and joined_names(table[column])]
    return lists[0] if len(lists) == 1 else None


def is_effects_table(table: pd.DataFrame) -> bool:
    """Return whether a table holds differential expression, by the names of its columns."""
    effects = find_column(table, [*LOG2, *LN, *LOG10, "lfc", "logfc", "log_fc", "log_fold_change"])
    tests = find_column(table, [*P_VALUES, *ADJUSTED, *ERRORS, *STATISTICS])
    perturbed = find_column(table, ["perturbation", "perturbed_gene"])
    return effects is not None and (tests is not None or perturbed is not None)


def _from_matrix(matrix: sparse.spmatrix | np.ndarray, var_names: Sequence[str]) -> EdgeTable:
    n_genes = len(var_names)
    if matrix.shape != (n_genes, n_genes):
        raise ValueError(
            f"A network given as a matrix must have shape ({n_genes}, {n_genes}), one row and column for each gene in the "
            f"order of adata.var_names; found {matrix.shape}. If it is about other genes, pass a table of edges with their names."
        )
    coo = sparse.csr_matrix(matrix).astype(np.float64).tocoo()
    names = np.asarray(var_names, dtype=object)
    edges = pd.DataFrame({"source": names[coo.row], "target": names[coo.col], "weight": coo.data})
    one_way = bool(abs(coo - coo.T).max() > 1e-6 * abs(coo).max()) if coo.nnz and np.isfinite(coo.data).all() else False
    return EdgeTable(edges[edges["weight"] != 0], one_way, "matrix")


def _from_graph(graph: networkx.Graph, weight: str | None) -> EdgeTable:
    attribute = weight or "weight"
    data = [attributes for _, _, attributes in graph.edges(data=True)]
    names = list(dict.fromkeys(name for attributes in data for name in attributes))
    table = pd.DataFrame(data, columns=names, dtype=object)
    if weight is None and attribute not in names:
        attribute = weight_column(table) or attribute
    listed = list(graph.edges(data=attribute, default=None))
    edges = pd.DataFrame(listed, columns=["source", "target", "weight"])
    weighted = any(weight is not None for *_, weight in listed)
    if weight is not None and len(edges) and not weighted:
        raise ValueError(f"No edge of the graph has the attribute weight={weight!r}.")
    edges["weight"] = to_numbers(edges["weight"]) if weighted else 1.0
    names_of_nodes = _names_of_nodes(graph)
    for end in ("source", "target"):
        edges[end] = names_of(edges[end].map(names_of_nodes) if names_of_nodes else edges[end], "node")
    signs = _give_signs(edges, table, [attribute])
    rest = _unread(table.columns, [attribute] if weighted else [], signs)
    return EdgeTable(edges, bool(graph.is_directed()), str(attribute) if weighted else "", unread=rest, **signs)


def _names_of_nodes(graph: networkx.Graph) -> dict[Any, str]:
    """Return the names of nodes with numbered ids, as from igraph and Cytoscape (``"n0"``); empty if ids are names."""
    if not all(isinstance(node, int) or re.fullmatch(r"n?\d+", str(node)) for node in graph):
        return {}
    for key in ("name", "label", "gene", "symbol", "gene_symbol", "shared name", "id"):
        names = {node: str(attributes[key]).strip() for node, attributes in graph.nodes(data=True) if key in attributes}
        if len(names) == len(graph) == len(set(names.values())) and not all(map(str.isdecimal, names.values())):
            return names
    return {}


def _check_weights(edges: pd.DataFrame, weights: np.ndarray, given: np.ndarray, where: str) -> None:
    """Raise unless all weights are numbers that fit into single precision; the error shows the first others."""
    bad = ~np.isfinite(weights)
    large = ~bad & (np.abs(weights) > LARGEST_WEIGHT)
    if large.any():
        i = int(np.flatnonzero(large)[0])
        raise ValueError(
            f"{int(large.sum())} of {len(large)} edges have a weight beyond {LARGEST_WEIGHT:g}{where}, the first: "
            f"{edges['source'].iloc[i]} -> {edges['target'].iloc[i]}: {weights[i]:g}.\nExpected weights that single precision "
            "holds.\nDivide them by their largest magnitude, or choose another column with weight='…'."
        )
    if bad.any():
        ends = edges[["source", "target"]].to_numpy()
        first = "; ".join(
            f"{ends[i][0]} -> {ends[i][1]}: {'nothing' if isinstance(given[i], str) and not given[i] else given[i]}"
            for i in np.flatnonzero(bad)[:3]
        )
        mend = "Give them a weight, leave them out, or choose another column with weight='…'."
        if all(isinstance(value, str) and re.fullmatch(r"-?\d+,\d+", value.strip()) for value in given[bad]):
            mend = "These are decimal commas: read the file with `pd.read_csv(path, sep=…, decimal=',')`."
        raise ValueError(
            f"{bad.sum()} of {len(bad)} edges have a weight that is missing, infinite or not a number{where}, the first: {first}. {mend}"
        )
