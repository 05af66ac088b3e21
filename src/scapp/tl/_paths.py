"""Shortest paths of a few steps from some nodes of a network; arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from scapp.graph import csr_to_edge_index

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

# Of paths with equally many steps the strongest is taken: its cost decides only where nothing else does.
TIE = 1e-6


@dataclass(frozen=True)
class Edges:
    """Edges of several networks together, sorted by target: each pair of nodes once, with its strongest edge.

    `strength` is the magnitude of the weight relative to the largest of its network, between 0 and 1.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float64]
    strength: NDArray[np.float64]
    network: NDArray[np.int64]


def join_networks(networks: Mapping[str, sparse.spmatrix]) -> Edges:
    """Join networks over the same nodes; without edges from a node to itself."""
    found = []
    for k, adjacency in enumerate(networks.values()):
        (rows, columns), values = csr_to_edge_index(adjacency)
        keep = rows != columns
        weight = values[keep].astype(np.float64)
        largest = np.abs(weight).max(initial=0) or 1.0
        found.append((rows[keep], columns[keep], weight, np.abs(weight) / largest, np.full(len(weight), k)))
    source, target, weight, strength, network = map(np.concatenate, zip(*found, strict=True))
    order = np.lexsort((network, -strength, source, target))
    source, target = source[order], target[order]
    first = np.r_[True, (source[1:] != source[:-1]) | (target[1:] != target[:-1])][: len(source)]
    kept = order[first]
    return Edges(source[first], target[first], weight[kept], strength[kept], network[kept])


def path_costs(edges: Edges, by: Literal["weight", "hops"]) -> NDArray[np.float64]:
    """Return the cost of each edge, so that the cheapest path is the one wanted."""
    permutation_p_value = -np.log(edges.strength)
    if by == "weight":
        return permutation_p_value
    return 1 + TIE * permutation_p_value / (permutation_p_value.max(initial=0) or 1.0)


def shortest_paths(
    edges: Edges, cost: NDArray[np.float64], starts: NDArray[np.int64], n_nodes: int, max_length: int
) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    """Return cheapest paths of at most `max_length` edges from any of the starts, by Bellman and Ford's recursion.

    Dijkstra's algorithm would not know of the limit: its cheapest path may be too long where another one is not.

    Returns
    -------
    The costs of shape (n_nodes,), infinite without a path; and for each number of edges the last edge of the path to each
    node, -1 where a path of fewer edges is as cheap.
    """
    distance = np.full(n_nodes, np.inf)
    distance[starts] = 0
    last: list[NDArray[np.int64]] = []
    begins = np.flatnonzero(np.r_[True, edges.target[1:] != edges.target[:-1]][: len(edges.target)])
    targets = edges.target[begins]
    for _ in range(min(max_length, n_nodes)):
        edge = np.full(n_nodes, -1, dtype=np.int64)
        if len(begins):
            candidate = distance[edges.source] + cost
            best = np.minimum.reduceat(candidate, begins)
            sizes = np.diff(np.r_[begins, len(candidate)])
            is_best = np.flatnonzero(candidate == np.repeat(best, sizes))
            first = is_best[np.searchsorted(is_best, begins)]
            better = best < distance[targets]
            edge[targets[better]] = first[better]
            distance = distance.copy()
            distance[targets[better]] = best[better]
        if (edge < 0).all():
            break  # no path of more edges is cheaper
        last.append(edge)
    return distance, last


def trace(node: int, last: list[NDArray[np.int64]], source: NDArray[np.int64]) -> list[int]:
    """Return the edges of the path to a node, from its start."""
    path: list[int] = []
    for edge in reversed(last):
        if edge[node] >= 0:
            path.append(int(edge[node]))
            node = int(source[edge[node]])
    return path[::-1]
