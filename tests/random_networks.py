"""Small networks, drawn at random or by hypothesis, for the tests of graph functions and of damage."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy import sparse

from scapp import graph

N_NODES = 6
nodes = st.integers(0, N_NODES - 1)
weights = st.integers(-8, 8).map(lambda w: w / 4)  # exact in float32
edge_lists = st.lists(st.tuples(nodes, nodes, weights), max_size=40)


def build(edges, **kwargs) -> sparse.csr_matrix:
    source, target, weight = zip(*edges, strict=True) if edges else ((), (), ())
    return graph.edges_to_csr(source, target, weight, n_nodes=N_NODES, **kwargs)


def random_network(n_nodes: int = 30, *, directed: bool, density: float = 0.15) -> sparse.csr_matrix:
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((n_nodes, n_nodes)) < density, rng.normal(size=(n_nodes, n_nodes)), 0).astype(
        np.float32
    )
    if not directed:
        dense = np.triu(dense)
        dense = dense + np.triu(dense, 1).T
    return sparse.csr_matrix(dense)
