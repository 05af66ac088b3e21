"""Conversion between edges or similarities and adjacency matrices; scaling, pruning, normalising."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

Duplicates = Literal["max", "mean", "sum", "error"]


def edges_to_csr(
    source: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    n_nodes: int,
    directed: bool = True,
    duplicates: Duplicates = "max",
) -> sparse.csr_matrix:
    """Build an adjacency matrix (float32, row = source, column = target) from a list of edges between numbered nodes.

    Parameters
    ----------
    source, target, weight
        Node numbers of the two ends, each of shape (n_edges,), and one weight per edge, by default one. Edges of weight
        zero are dropped.
    n_nodes
        The number of nodes.
    directed
        If False, every edge is also entered in the opposite direction. A pair listed in both directions becomes one
        edge with the stronger weight, so it does not matter whether a file lists each edge once or twice.
    duplicates
        How to combine an edge listed several times in the same direction: the weight of largest magnitude (ties with
        opposite signs are positive), the mean, the sum, or an error.
    """
    rows, columns = np.asarray(source, dtype=np.int64), np.asarray(target, dtype=np.int64)
    values = np.ones(len(rows)) if weight is None else np.asarray(weight, dtype=np.float64)
    if not (rows.ndim == 1 and rows.shape == columns.shape == values.shape):
        raise ValueError(
            f"Edges need one source, target and weight each, found arrays of shape {rows.shape}, {columns.shape}, {values.shape}."
        )
    if len(rows) and (min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= n_nodes):
        raise ValueError(f"Node numbers must lie in 0 to {n_nodes - 1}, the {n_nodes} nodes given by n_nodes.")
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} edge weights are NaN or infinite.")
    rows, columns, values = _merge_duplicates(rows, columns, values, n_nodes, duplicates)
    adjacency = sparse.csr_matrix((values.astype(np.float32), (rows, columns)), shape=(n_nodes, n_nodes))
    adjacency.eliminate_zeros()
    return adjacency if directed else symmetrize(adjacency)


def _merge_duplicates(
    rows: NDArray, columns: NDArray, values: NDArray, n_nodes: int, duplicates: Duplicates
) -> tuple[NDArray, NDArray, NDArray]:
    edge = rows * n_nodes + columns
    # Sort the strongest of each edge last, positive after negative, so that the result does not depend on the order
    # of the edges.
    order = np.lexsort((values, np.abs(values), edge))
    edge, values = edge[order], values[order]
    first = np.flatnonzero(np.r_[True, edge[1:] != edge[:-1]]) if len(edge) else np.zeros(0, dtype=np.int64)
    counts = np.diff(np.r_[first, len(edge)])
    if duplicates == "error":
        if (counts > 1).any():
            repeated = edge[first][counts > 1]
            pairs = ", ".join(f"({e // n_nodes}, {e % n_nodes})" for e in repeated[:3])
            raise ValueError(
                f"{len(repeated)} edges are listed more than once, the first {pairs}. "
                "Remove the repeats, or pass duplicates='max', 'mean' or 'sum'."
            )
        merged = values
    elif duplicates == "max":
        merged = values[first + counts - 1]
    elif duplicates in ("mean", "sum"):
        merged = np.add.reduceat(values, first) if len(first) else values
        if duplicates == "mean":
            merged = merged / counts
    else:
        raise ValueError(f"duplicates must be 'max', 'mean', 'sum' or 'error', found {duplicates!r}.")
    return edge[first] // n_nodes, edge[first] % n_nodes, merged


def csr_to_edge_index(adjacency: sparse.spmatrix) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """List the edges in the form for graph neural networks.

    The edge index has the shape (2, n_edges), first row the sources and second row the targets, in row order; the weights
    have the shape (n_edges,).
    """
    coo = sparse.coo_matrix(as_csr(adjacency))
    return np.vstack([coo.row, coo.col]).astype(np.int64), coo.data.astype(np.float32)


def as_csr(adjacency: sparse.spmatrix) -> sparse.csr_matrix:
    """Return a canonical float csr copy: sorted, no stored zeros, no repeated entries."""
    matrix = sparse.csr_matrix(adjacency, copy=True)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"An adjacency matrix must be square, found shape {matrix.shape}.")
    if not np.issubdtype(matrix.dtype, np.floating):
        matrix = matrix.astype(np.float32)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def is_symmetric(adjacency: sparse.spmatrix) -> bool:
    """Return whether every edge exists in both directions with the same weight (up to rounding)."""
    matrix = as_csr(adjacency)
    if matrix.nnz == 0:
        return True
    return bool(abs(matrix - matrix.T).max() <= 1e-6 * abs(matrix).max())


def symmetrize(adjacency: sparse.spmatrix) -> sparse.csr_matrix:
    """Remove the direction of the edges; of two opposite edges, keep the weight of larger magnitude."""
    matrix = as_csr(adjacency)
    index, values = csr_to_edge_index(matrix)
    n_nodes = matrix.shape[0]
    rows, columns = np.r_[index[0], index[1]], np.r_[index[1], index[0]]
    rows, columns, merged = _merge_duplicates(rows, columns, np.r_[values, values], n_nodes, "max")
    return sparse.csr_matrix((merged, (rows, columns)), shape=matrix.shape)


def scale_weights(adjacency: sparse.spmatrix) -> sparse.csr_matrix:
    """Divide all weights by the largest magnitude, so that they lie between -1 and 1."""
    matrix = as_csr(adjacency)
    if matrix.nnz:
        matrix.data /= np.abs(matrix.data).max()
    return matrix


def top_k(
    adjacency: sparse.spmatrix, k: int, *, by: Literal["source", "target", "either"] = "either"
) -> sparse.csr_matrix:
    """Keep the k strongest edges of every node by magnitude; ties go to the nodes that come first.

    A node ranks its outgoing edges, its incoming ones (as GEARS does), or both, in which case an edge is kept if it is
    among the strongest k of either end; a symmetric network then stays symmetric, and a hub can have more than k edges.
    """
    if not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"top_k must be a positive whole number, found {k!r}.")
    if by not in ("source", "target", "either"):
        raise ValueError(f"by must be 'source', 'target' or 'either', found {by!r}.")
    matrix = as_csr(adjacency)
    index, values = csr_to_edge_index(matrix)
    keep = np.zeros(len(values), dtype=bool)
    if by in ("source", "either"):
        keep |= _rank_within(index[0], index[1], values) < k
    if by in ("target", "either"):
        keep |= _rank_within(index[1], index[0], values) < k
    return sparse.csr_matrix((matrix.data[keep], index[:, keep]), shape=matrix.shape)


def _rank_within(group: NDArray, other: NDArray, values: NDArray) -> NDArray:
    """Return the rank of each edge within its group; the strongest has rank 0."""
    order = np.lexsort((other, -np.abs(values), group))
    sizes = np.bincount(group, minlength=group.max(initial=-1) + 1)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - starts[group[order]]
    return rank


def normalize(adjacency: sparse.spmatrix, how: Literal["row", "column", "sym"] = "sym") -> sparse.csr_matrix:
    r"""Divide the weights :math:`A` by the degrees of the nodes (sums of magnitudes); signs are kept.

    ``"row"``: :math:`D_{out}^{-1} A`, so that the magnitudes of each row sum to one. ``"column"``:
    :math:`A D_{in}^{-1}`, so that those of each column do. ``"sym"``: :math:`D_{out}^{-1/2} A D_{in}^{-1/2}`, whose
    eigenvalues lie between -1 and 1 if :math:`A` is symmetric. The rows and columns of nodes without edges stay empty.
    """
    powers = {"row": (1.0, 0.0), "column": (0.0, 1.0), "sym": (0.5, 0.5)}
    if how not in powers:
        raise ValueError(f"how must be 'row', 'column' or 'sym', found {how!r}.")
    matrix = as_csr(adjacency)
    magnitude = abs(matrix).astype(np.float64)
    left = _inverse_power(np.asarray(magnitude.sum(axis=1)).ravel(), powers[how][0])
    right = _inverse_power(np.asarray(magnitude.sum(axis=0)).ravel(), powers[how][1])
    return sparse.csr_matrix(sparse.diags(left) @ matrix @ sparse.diags(right)).astype(matrix.dtype)


def _inverse_power(degree: NDArray, power: float) -> NDArray:
    inverse = np.zeros_like(degree)
    np.power(degree, -power, out=inverse, where=degree > 0)
    return inverse


def nearest_neighbors(
    similarity_rows: Callable[[slice], NDArray],
    n_nodes: int,
    *,
    n_neighbors: int,
    min_similarity: float = 0.0,
    chunk_size: int = 512,
) -> sparse.csr_matrix:
    """Connect each node to the most similar ones, in a symmetric float32 matrix of similarities without self-loops.

    Parameters
    ----------
    similarity_rows
        Function of a slice of the nodes that returns their similarities to all nodes, shape (n_slice, n_nodes), so that
        the whole table is never in memory.
    n_nodes, chunk_size
        Number of nodes, and number of rows to compute together.
    n_neighbors
        Number of neighbours that each node chooses, by magnitude; it has more if other nodes choose it.
    min_similarity
        Minimum magnitude for an edge; zero never gives one.
    """
    if not isinstance(n_neighbors, int | np.integer) or n_neighbors < 1:
        raise ValueError(f"n_neighbors must be a positive whole number, found {n_neighbors!r}.")
    if min_similarity < 0:
        raise ValueError(f"The smallest similarity of an edge must not be negative, found {min_similarity!r}.")
    n_neighbors = min(n_neighbors, n_nodes - 1)
    edges: list[tuple[NDArray, NDArray, NDArray]] = []
    for start in range(0, n_nodes, chunk_size):
        values = np.array(similarity_rows(slice(start, min(start + chunk_size, n_nodes))), dtype=np.float32)
        rows = np.arange(len(values))
        values[rows, start + rows] = 0
        chosen = _strongest(np.abs(values), n_neighbors) & (values != 0) & (np.abs(values) >= min_similarity)
        near, neighbor = np.nonzero(chosen)
        edges.append((start + near, neighbor, values[near, neighbor]))
    rows, columns, weights = (np.concatenate(part) for part in zip(*edges, strict=True))
    return symmetrize(sparse.csr_matrix((weights, (rows, columns)), shape=(n_nodes, n_nodes)))


def _strongest(magnitude: NDArray, k: int) -> NDArray[np.bool_]:
    """Return a mask of the k largest of each row; ties go to the first, on every machine."""
    if k == 0:
        return np.zeros(magnitude.shape, dtype=bool)
    smallest = np.partition(magnitude, -k, axis=1)[:, [-k]]
    above, equal = magnitude > smallest, magnitude == smallest
    room = k - above.sum(axis=1, keepdims=True)
    return above | (equal & (np.cumsum(equal, axis=1) <= room))


def paths_to_networkx(paths: pd.DataFrame, genes: pd.DataFrame) -> nx.DiGraph:
    """Return the graph of one perturbation from the tables of :func:`scapp.tl.attention_subnetwork`.

    `paths` has one row per step of a path: `source`, `target`, `step`, `weight`, `strength`, `network`. `genes` has one row
    per node: `perturbation`, `gene`, and the evidence for it.
    """
    import networkx as nx

    graph = nx.DiGraph(perturbation=str(genes["perturbation"].iloc[0]))
    for node in genes.drop(columns="perturbation").to_dict("records"):
        graph.add_node(str(node.pop("gene")), **node)
    for edge in paths[paths["step"] > 0].to_dict("records"):
        kept = {name: edge[name] for name in ("weight", "strength", "network")}
        graph.add_edge(edge["source"], edge["target"], **kept)
    return graph
