"""A network of nearest neighbours, from similarities that are computed a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scapp.graph._adjacency import symmetrize


def nearest_neighbors(
    similarity_rows: Callable[[slice], NDArray],
    n_nodes: int,
    *,
    n_neighbors: int,
    min_similarity: float = 0.0,
    chunk_size: int = 512,
) -> sparse.csr_matrix:
    """Join each node to those most similar to it.

    Parameters
    ----------
    similarity_rows
        Called with a slice of the nodes, returns their similarities to all nodes, of shape (n_slice, n_nodes).
        The whole table is never held.
    n_nodes
        The number of nodes.
    n_neighbors
        How many neighbours a node chooses, by magnitude; it has more if others choose it.
    min_similarity
        Smaller magnitudes give no edge; zero never does.
    chunk_size
        Rows computed together.

    Returns
    -------
    Symmetric float32 matrix of shape (n_nodes, n_nodes) without self-loops; weights are the similarities, with
    their sign.
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
    """Return the k largest of each row; of equal ones those that come first, on every machine."""
    if k == 0:
        return np.zeros(magnitude.shape, dtype=bool)
    smallest = np.partition(magnitude, -k, axis=1)[:, [-k]]
    above, equal = magnitude > smallest, magnitude == smallest
    room = k - above.sum(axis=1, keepdims=True)
    return above | (equal & (np.cumsum(equal, axis=1) <= room))
