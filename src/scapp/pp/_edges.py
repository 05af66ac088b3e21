"""Edges of every accepted kind into one table: source, target, weight."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse

from scapp.network import is_symmetric
from scapp.pp._tables import (
    PathLike,
    check_column,
    check_single,
    find_column,
    is_path,
    names_of,
    read_table,
    to_numbers,
)

if TYPE_CHECKING:
    import networkx

    Edges: TypeAlias = pd.DataFrame | PathLike | sparse.spmatrix | np.ndarray | networkx.Graph

# Column names in lower case. OmniPath's symbols come before its UniProt ids, which are also called source and target.
_ENDS = {
    ("source_genesymbol", "target_genesymbol"): "OmniPath",
    ("source", "target"): "decoupler, GEARS",
    ("protein1", "protein2"): "STRING",
    ("preferredname_a", "preferredname_b"): "STRING",
    ("regulator", "target"): "regulatory networks",
    ("tf", "target"): "regulatory networks",
    ("regulatorygene", "targetgene"): "GENIE3",
    ("gene1", "gene2"): "",
    ("gene_1", "gene_2"): "",
    ("gene_a", "gene_b"): "",
    ("official symbol interactor a", "official symbol interactor b"): "BioGRID",
    ("from", "to"): "igraph",
    ("node1", "node2"): "STRING",
}
_WEIGHTS = ["weight", "combined_score", "score", "mor", "importance"]
# A column that says who regulates says that the edge has a direction.
_REGULATORS = {"regulator", "regulatorygene", "tf"}


@dataclass(frozen=True)
class EdgeTable:
    """Edges by name, and what was found out about them.

    Parameters
    ----------
    edges
        Columns source and target (text), weight (float64, finite).
    directed
        Whether the input itself says that its edges have a direction.
    weight_column
        Where the weights come from; empty if there were none, and all are one.
    """

    edges: pd.DataFrame
    directed: bool
    weight_column: str


def weight_column(table: pd.DataFrame) -> str | None:
    """The column of the weights of edges, by its usual names; None if there is none."""
    return find_column(table, _WEIGHTS)


def looks_like_edges(table: pd.DataFrame) -> bool:
    """Whether the columns of a table have the usual names of the two ends of an edge."""
    return edge_ends(table) is not None


def read_edges(
    edges: Edges,
    *,
    var_names: Sequence[str],
    source: str | None = None,
    target: str | None = None,
    weight: str | None = None,
) -> EdgeTable:
    """Read edges.

    Parameters
    ----------
    edges
        Table, path of one, square matrix in the order of `var_names`, or networkx graph.
    var_names
        The genes that stand for the rows and columns of a matrix.
    source, target
        Columns of the two ends; found by their usual names if omitted.
    weight
        Column, or edge attribute, of the weights; found by its usual names if omitted.

    Raises
    ------
    ValueError
        If the columns are not found, a matrix has the wrong shape, there are no edges, a name is missing, or a
        weight is missing, infinite or not a number.
    TypeError
        If `edges` is something else.
    """
    if is_path(edges):
        edges = read_table(edges)
    if not isinstance(edges, pd.DataFrame) and (source is not None or target is not None):
        raise ValueError("source=… and target=… name columns of a table; leave them out for a matrix or a graph.")
    if isinstance(edges, pd.DataFrame):
        table = _from_table(edges, source, target, weight)
    elif sparse.issparse(edges) or isinstance(edges, np.ndarray):
        table = _from_matrix(edges, var_names)
    elif hasattr(edges, "is_directed") and hasattr(edges, "edges"):
        table = _from_graph(edges, weight)
    else:
        raise TypeError(
            "edges must be a DataFrame, the path of a csv, tsv or parquet file, a scipy or numpy matrix, or a networkx "
            f"graph, found {type(edges).__name__}."
        )
    if table.edges.empty:
        raise ValueError("There are no edges in what was given: the table has no rows, or the matrix no entries.")
    weights = table.edges["weight"].to_numpy()
    _check_weights(table.edges, weights, weights, f" (in {table.weight_column!r})" if table.weight_column else "")
    return table


def edge_ends(table: pd.DataFrame) -> tuple[str, str] | None:
    """The columns of the two ends of an edge, by their usual names; None if there are none."""
    for first, second in _ENDS:
        source, target = find_column(table, [first]), find_column(table, [second])
        if source is not None and target is not None:
            return source, target
    return None


def _from_table(table: pd.DataFrame, source: str | None, target: str | None, weight: str | None) -> EdgeTable:
    if (source is None) != (target is None):
        raise ValueError("Pass both source=… and target=…, or neither.")
    if source is not None and target is not None:
        ends = check_column(table, source, "source"), check_column(table, target, "target")
    else:
        found = edge_ends(table)
        if found is None:
            known = "; ".join(f"{a}, {b}" + (f" ({where})" if where else "") for (a, b), where in _ENDS.items())
            raise ValueError(
                f"Cannot tell which columns hold the two ends of an edge. The columns are "
                f"{', '.join(map(repr, table.columns))}; known pairs (in any case) are: {known}. Name them with "
                "source='…', target='…' and, if there are weights, weight='…'. (If the first row of a file is an edge and "
                "not a header, read it with `pd.read_csv(path, sep='\\t', header=None, names=['source', 'target', 'weight'])`.)"
            )
        ends = found
    if weight is not None:
        check_column(table, weight, "weight")
    else:
        weight = weight_column(table)
    check_single(table, [*ends, weight])
    values: Any = 1.0 if weight is None else to_numbers(table[weight])
    edges = pd.DataFrame(
        {"source": names_of(table[ends[0]], "source"), "target": names_of(table[ends[1]], "target"), "weight": values}
    )
    if weight is not None:
        _check_weights(edges, values.to_numpy(), table[weight].astype(object).to_numpy(), f" (in {weight!r})")
    directed = table.attrs.get("directed", ends[0].lower() in _REGULATORS)  # scapp.networks says it
    return EdgeTable(edges, bool(directed), weight or "")


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
    finite = bool(np.isfinite(coo.data).all())
    return EdgeTable(edges[edges["weight"] != 0], finite and not is_symmetric(coo), "matrix")


def _from_graph(graph: networkx.Graph, weight: str | None) -> EdgeTable:
    attribute = weight or "weight"
    listed = list(graph.edges(data=attribute, default=None))
    edges = pd.DataFrame(listed, columns=["source", "target", "weight"])
    weighted = edges["weight"].notna().any()
    if weight is not None and len(edges) and not weighted:
        raise ValueError(f"No edge of the graph has the attribute weight={weight!r}.")
    edges["weight"] = to_numbers(edges["weight"]) if weighted else 1.0
    edges["source"], edges["target"] = names_of(edges["source"], "node"), names_of(edges["target"], "node")
    return EdgeTable(edges, bool(graph.is_directed()), attribute if weighted else "")


def _check_weights(edges: pd.DataFrame, weights: np.ndarray, given: np.ndarray, where: str) -> None:
    """Raise unless all weights are finite, and show what was given in their place."""
    bad = ~np.isfinite(weights)
    if bad.any():
        ends = edges[["source", "target"]].to_numpy()
        first = "; ".join(
            f"{ends[i][0]} -> {ends[i][1]}: {'nothing' if isinstance(given[i], str) and not given[i] else given[i]}"
            for i in np.flatnonzero(bad)[:3]
        )
        commas = all(isinstance(value, str) and re.fullmatch(r"-?\d+,\d+", value.strip()) for value in given[bad])
        raise ValueError(
            f"{bad.sum()} of {len(bad)} edges have a weight that is missing, infinite or not a number{where}, the first: {first}. "
            + (
                "These are decimal commas: read the file with `pd.read_csv(path, sep=…, decimal=',')`."
                if commas
                else "Give them a weight, leave them out, or choose another column with weight='…'."
            )
        )
