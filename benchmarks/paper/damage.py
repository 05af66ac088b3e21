"""Damage a network on purpose, to see how much a model depends on it: the graph functions, and APP on damaged networks."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from scapp import pp
from scapp._edges import read_edges  # a table or file of edges of any kind, as pp.add_network reads it
from scapp.benchmark import AppMethod, Predicted, Sources, Split, Task
from scapp.graph import csr_to_edge_index, edges_to_csr, is_symmetric


@dataclass(frozen=True)
class Damage:
    """Describe damage to a network before anything is derived from it.

    Parameters
    ----------
    kind
        ``"remove"`` edges, ``"add"`` false ones, or ``"rewire"`` all with the degrees kept.
    fraction
        Share of the edges that is removed or added; without meaning for ``"rewire"``.
    seed
        Seed of the choice.
    """

    kind: Literal["remove", "add", "rewire"]
    fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("remove", "add", "rewire"):
            raise ValueError(f"The kind of damage must be 'remove', 'add' or 'rewire', found {self.kind!r}.")

    def apply(self, edges: pd.DataFrame, *, directed: bool) -> pd.DataFrame:
        """Return damaged edges with the columns source, target and weight; all genes of the table are nodes."""
        ends, names = pd.factorize(pd.concat([edges["source"], edges["target"]]), sort=True)
        n = len(edges)
        adjacency = edges_to_csr(
            ends[:n], ends[n:], edges["weight"], n_nodes=len(names), directed=directed, duplicates="max"
        )
        if self.kind == "remove":
            damaged = remove_edges(adjacency, self.fraction, seed=self.seed)
        elif self.kind == "add":
            damaged = add_random_edges(adjacency, self.fraction, seed=self.seed)
        else:
            damaged = rewire(adjacency, seed=self.seed)
        index, _ = csr_to_edge_index(damaged)
        once = np.ones(index.shape[1], dtype=bool) if directed else index[0] <= index[1]
        source, target = np.asarray(names)[index[:, once]]
        return pd.DataFrame({"source": source, "target": target, "weight": damaged.data[once]})


@dataclass(frozen=True)
class DamagedSources(Sources):
    """Describe the sources of a task with a damaged network; `whole` is the task with the undamaged one."""

    damage: Damage = Damage("rewire")
    whole: Task | None = None

    def add_to(self, effects: AnnData) -> AnnData:
        """Add the damaged network and the features that come from it, and the other features as they are."""
        assert self.whole is not None
        whole = self.whole.inputs()
        table = read_edges(self.network, var_names=whole.var_names)
        directed = table.directed if self.directed is None else self.directed
        edges = self.damage.apply(table.edges, directed=directed)
        derived = {key: of for key, of in self.features.items() if isinstance(of["features"], str)}
        derived = {key: of for key, of in derived.items() if of["features"] == "network"}
        adata = Sources(edges, self.aliases, derived, directed).add_to(effects)
        for name in self.channels:
            shared: dict[str, Any] = {"aliases": self.aliases, "directed": directed, "control": None}
            pp.add_network(adata, self._damaged_channel(name, edges), key_added=name, **shared)
        for key in self.features:
            if key not in derived:
                adata.varm[key] = whole.varm[key]
        adata.uns.pop("scapp", None)
        return adata

    def _damaged_channel(self, name: str, kept: pd.DataFrame) -> pd.DataFrame:
        """Damage a channel as the whole network is: an edge that was removed there is removed here."""
        edges = self.channel(name)
        if self.damage.kind != "remove":
            return self.damage.apply(edges, directed=bool(self.directed))
        left = {frozenset(pair) for pair in zip(kept["source"], kept["target"], strict=True)}
        pairs = zip(edges["source"], edges["target"], strict=True)
        return edges[[frozenset(pair) in left for pair in pairs]]


@functools.lru_cache(maxsize=16)
def damaged(task: Task, damage: Damage) -> Task:
    """Return a task whose network is damaged, the same object for the same task and damage."""
    sources = task.sources
    if sources is None:
        raise ValueError(f"The task {task.name!r} has no network to damage.")
    fields = (sources.network, sources.aliases, sources.features, sources.directed, sources.channels)
    return replace(task, sources=DamagedSources(*fields, damage=damage, whole=task))


@dataclass(frozen=True, eq=False)
class DamagedApp(AppMethod):
    """Take APP on a damaged network as a method."""

    damage: Damage = Damage("rewire")

    def options(self) -> dict[str, Any]:
        """Return the damage and the options of APP."""
        return {"damage": repr(self.damage), **self.arguments}

    def prepare(self, task: Task) -> None:
        """Build the damaged inputs before the clock begins."""
        super().prepare(damaged(task, self.damage))

    def predict(self, task: Task, split: Split) -> Predicted:
        """Train on the damaged network, and predict."""
        return super().predict(damaged(task, self.damage), split)


def remove_edges(adjacency: sparse.spmatrix, fraction: float, *, seed: int = 0) -> sparse.csr_matrix:
    """Remove a fraction of the edges at random.

    Parameters
    ----------
    adjacency
        The network. If it is symmetric, an edge is a pair of nodes and stays or goes as a whole.
    fraction
        Which part of the edges goes, in [0, 1]; rounded to whole edges.
    seed
        Seed; a larger fraction removes a superset of the edges that a smaller one removes.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie between 0 and 1, found {fraction!r}.")
    matrix, ends, values, directed = _edges(adjacency)
    order = np.random.default_rng(seed).permutation(len(values))
    keep = np.sort(order[round(fraction * len(values)) :])
    return _assemble(ends[:, keep], values[keep], matrix, directed)


def add_random_edges(adjacency: sparse.spmatrix, fraction: float, *, seed: int = 0) -> sparse.csr_matrix:
    """Add false edges between random nodes.

    Parameters
    ----------
    adjacency
        The network. If it is symmetric, so is the result.
    fraction
        How many edges come, as a part of those there are; rounded to whole edges. They are no self-loops and
        join nodes that were not joined, and their weights are drawn from those of the true edges.
    seed
        Seed; a larger fraction adds a superset.

    Raises
    ------
    ValueError
        If there is no room for so many edges.
    """
    if fraction < 0:
        raise ValueError(f"fraction must not be negative, found {fraction!r}.")
    matrix, ends, values, directed = _edges(adjacency)
    n_nodes, n_new = matrix.shape[0], round(fraction * len(values))
    n_pairs = n_nodes * (n_nodes - 1) // (1 if directed else 2)
    n_free = n_pairs - int((ends[0] != ends[1]).sum())
    if n_new > n_free:
        raise ValueError(f"{n_new} edges are to be added, but only {n_free} pairs of nodes are not joined.")
    places, weights = (np.random.default_rng(seed) for seed in np.random.SeedSequence(seed).spawn(2))
    new = _free_pairs(n_new, _codes(ends, n_nodes), n_nodes, directed, places)
    drawn = values[(weights.random(n_new) * len(values)).astype(np.int64)]
    ends = np.hstack([ends, np.vstack([new // n_nodes, new % n_nodes])])
    return _assemble(ends, np.r_[values, drawn], matrix, directed)


def _free_pairs(n_new: int, taken: NDArray, n_nodes: int, directed: bool, rng: np.random.Generator) -> NDArray:
    """Draw codes of random pairs of different nodes that are not taken, without repeats."""
    if n_nodes <= 1000:  # few enough to list them all
        everything = np.arange(n_nodes * n_nodes)
        first, second = everything // n_nodes, everything % n_nodes
        allowed = everything[(first != second) if directed else (first < second)]
        return rng.permutation(np.setdiff1d(allowed, taken))[:n_new]
    new = np.zeros(0, dtype=np.int64)
    while len(new) < n_new:  # drawing and rejecting is quick while networks are sparse
        pairs = rng.integers(n_nodes, size=(8192, 2))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        candidates = _codes(pairs.T if directed else np.sort(pairs, axis=1).T, n_nodes)
        candidates = np.r_[new, candidates[~np.isin(candidates, taken)]]
        new = candidates[np.sort(np.unique(candidates, return_index=True)[1])]
    return new[:n_new]


def rewire(adjacency: sparse.spmatrix, *, n_swaps: float = 10.0, seed: int = 0) -> sparse.csr_matrix:
    """Shuffle a network and keep the number of edges of every node.

    Double edge swaps: two random edges (a, b) and (c, d) become (a, d) and (c, b), unless that would make a
    self-loop or an edge that is there already. In a directed network both the outgoing and the incoming
    degree of each node stay. Weights travel with the edges; self-loops stay where they are.

    Parameters
    ----------
    adjacency
        The network. If it is symmetric, so is the result.
    n_swaps
        Attempted swaps for each edge.
    seed
        Seed.

    References
    ----------
    Maslov, Sneppen. Specificity and stability in topology of protein networks. Science 2002.
    """
    if n_swaps < 0:
        raise ValueError(f"n_swaps must not be negative, found {n_swaps!r}.")
    matrix, ends, values, directed = _edges(adjacency)
    loops = ends[0] == ends[1]
    sources, targets = ends[0, ~loops].tolist(), ends[1, ~loops].tolist()
    n_edges, n_nodes = len(sources), matrix.shape[0]

    def code(a: int, b: int) -> int:
        return a * n_nodes + b if directed or a < b else b * n_nodes + a

    present = {code(a, b) for a, b in zip(sources, targets, strict=True)}
    rng = np.random.default_rng(seed)
    attempts = round(n_swaps * n_edges) if n_edges > 1 else 0
    picks = rng.integers(max(n_edges, 1), size=(attempts, 2)).tolist()
    flips = (rng.random(attempts) < 0.5).tolist()
    for (i, j), flip in zip(picks, flips, strict=True):
        a, b, c, d = sources[i], targets[i], sources[j], targets[j]
        if flip and not directed:  # an undirected edge has no first end
            c, d = d, c
        if i == j or a == d or c == b:
            continue
        first, second = code(a, d), code(c, b)
        if first in present or second in present or first == second:
            continue
        present -= {code(a, b), code(c, d)}
        present |= {first, second}
        sources[i], targets[i], sources[j], targets[j] = a, d, c, b
    shuffled = np.hstack([np.array([sources, targets], dtype=np.int64).reshape(2, -1), ends[:, loops]])
    return _assemble(shuffled, np.r_[values[~loops], values[loops]], matrix, directed)


def _edges(adjacency: sparse.spmatrix) -> tuple[sparse.csr_matrix, NDArray, NDArray, bool]:
    """Return the matrix, its edges (each pair once if symmetric), their weights, and whether it is directed."""
    matrix = _canonical(adjacency)
    directed = not is_symmetric(matrix)
    index, _ = csr_to_edge_index(matrix)
    once = np.ones(index.shape[1], dtype=bool) if directed else index[0] <= index[1]
    return matrix, index[:, once], matrix.data[once], directed


def _codes(ends: NDArray, n_nodes: int) -> NDArray:
    return ends[0] * n_nodes + ends[1]


def _assemble(ends: NDArray, values: NDArray, like: sparse.csr_matrix, directed: bool) -> sparse.csr_matrix:
    rows, columns, data = ends[0], ends[1], values
    if not directed:
        mirror = rows != columns
        rows, columns = np.r_[rows, ends[1, mirror]], np.r_[columns, ends[0, mirror]]
        data = np.r_[values, values[mirror]]
    return _canonical(sparse.csr_matrix((data.astype(like.dtype), (rows, columns)), shape=like.shape))


def _canonical(adjacency: sparse.spmatrix) -> sparse.csr_matrix:
    """Copy a square matrix as csr: floats, sorted, without stored zeros or repeated entries."""
    matrix = sparse.csr_matrix(adjacency, copy=True)
    if not np.issubdtype(matrix.dtype, np.floating):
        matrix = matrix.astype(np.float32)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix
