"""Evidence about genes: where random walks lead on each network, and what annotations say, as similarities of genes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Genes = tuple[int, ...]

RESTART = 0.5
N_STEPS = 27  # what the walk leaves out is (1 - RESTART)^27 of it, below 1e-8
# Sparse steps read memory in no order, so a multiplication costs this many times one of a dense solver.
SPARSE_COST = 10
LARGEST_DENSE = 12_000
# Larger tables of similarities are kept with half the digits.
LARGEST_DOUBLE = 5e7


class Evidence:
    r"""Hold what is known about the genes beside the screen: networks and annotations, one similarity for each.

    For a network, the similarity of two genes is the Bhattacharyya coefficient of their random walks with restart,

    .. math:: k(p, i) = \sum_j \sqrt{w(p, j)\, w(i, j)},

    one for equal walks and zero for walks that never meet. The walk is the fixed point of equations 1 and 2 with mean
    aggregation and no nonlinearity: :math:`w_p = r\, e_p + (1 - r)\, W w_p`. For annotations, it is the cosine of the
    genes' features, at least zero. A gene that a source does not know is similar to no gene by that source.

    Parameters
    ----------
    networks
        Matrices of shape (n_nodes, n_nodes); direction and signs are ignored.
    features
        Gene features of shape (n_nodes, n_features); a row of NaN marks a gene without.
    n_nodes
        Number of genes.
    """

    def __init__(
        self, networks: Sequence[sparse.spmatrix], features: Sequence[NDArray[np.floating]] = (), *, n_nodes: int
    ):
        self.n_nodes = n_nodes
        self._transitions = [_transition(network, n_nodes) for network in networks]
        self._vectors = [_unit_rows(values) for values in features]
        self._walks: list[dict[int, NDArray[np.float32]]] = [{} for _ in networks]

    @property
    def n_sources(self) -> int:
        """Number of networks and annotations."""
        return len(self._transitions) + len(self._vectors)

    def known(self) -> NDArray[np.bool_]:
        """Return which genes any source knows, of shape (n_nodes,)."""
        found = np.zeros(self.n_nodes, dtype=bool)
        for transition in self._transitions:
            found |= _has_edge(transition)
        for vectors in self._vectors:
            found |= vectors.any(axis=1)
        return found

    def similarities(self, nodes: Sequence[int], others: Sequence[int]) -> NDArray[np.floating]:
        """Return the similarities of genes by each source, of shape (n_sources, n, n_others)."""
        dtype = np.float32 if self.n_sources * len(nodes) * len(others) > LARGEST_DOUBLE else np.float64
        found = np.zeros((self.n_sources, len(nodes), len(others)), dtype=dtype)
        if not len(nodes) or not len(others):
            return found
        self._walk([*nodes, *others])
        for k, walks in enumerate(self._walks):
            found[k] = _stack(walks, nodes) @ _stack(walks, others).T
        for k, vectors in enumerate(self._vectors, len(self._walks)):
            found[k] = np.maximum(vectors[list(nodes)] @ vectors[list(others)].T, 0)
        # Rounding must not make a gene more similar to itself than one.
        return np.minimum(found, 1.0, out=found)

    def within(self, perturbations: Sequence[Genes]) -> NDArray[np.float64]:
        """Return the sum of the similarities of all genes of each perturbation to each other: (n_sources, n)."""
        nodes = sorted({gene for genes in perturbations for gene in genes})
        place = {node: k for k, node in enumerate(nodes)}
        self._walk(nodes)
        found = np.zeros((self.n_sources, len(perturbations)))
        for k in range(self.n_sources):
            vectors = (
                _stack(self._walks[k], nodes) if k < len(self._walks) else self._vectors[k - len(self._walks)][nodes]
            )
            for i, genes in enumerate(perturbations):
                rows = vectors[[place[gene] for gene in genes]]
                found[k, i] = np.square(rows.sum(axis=0) if len(genes) > 1 else rows[0]).sum()
        return found

    def shared_genes(self, node: int, others: Sequence[int]) -> NDArray[np.float64]:
        r"""Return through which genes of the networks a gene is similar to others.

        Gene j contributes :math:`\sqrt{w(p, j)\, w(i, j)}` to the similarity of p and i.

        Returns
        -------
        Array of shape (n_networks, n_others, n_nodes), whose sums over the last axis are the similarities.
        """
        self._walk([node, *others])
        found = np.zeros((len(self._walks), len(others), self.n_nodes))
        for k, walks in enumerate(self._walks):
            found[k] = walks[node] * _stack(walks, others)
        return found

    def mediators(
        self,
        nodes: Sequence[int],
        others: Sequence[int],
        attention: NDArray[np.floating],
        weights: NDArray[np.floating],
    ) -> NDArray[np.float64]:
        r"""Return through which genes of the networks each gene is like those that it attends to.

        :math:`a_j \propto \sum_i \alpha_i \sum_m g_m \sqrt{w_m(p, j)\, w_m(i, j)}`. A gene without edges is reached
        through itself.

        Parameters
        ----------
        nodes
            The genes p.
        others
            The genes i.
        attention
            Of the genes to the others, of shape (n, n_others).
        weights
            Of the networks.

        Returns
        -------
        Array of shape (n, n_nodes) whose rows sum to one.
        """
        self._walk([*nodes, *others])
        found = np.zeros((len(nodes), self.n_nodes))
        for weight, walks in zip(weights, self._walks, strict=True):
            found += weight * _stack(walks, nodes) * (attention @ _stack(walks, others))
        total = found.sum(axis=1)
        alone = total <= 1e-12
        found[alone] = 0
        found[alone, np.asarray(nodes)[alone]] = 1
        return found / np.where(alone, 1, total)[:, None]

    def _walk(self, nodes: Sequence[int]) -> None:
        """Walk from the genes whose walks are not known yet, and keep the square roots."""
        for transition, walks in zip(self._transitions, self._walks, strict=True):
            new = sorted(set(nodes) - set(walks))
            if new:
                roots = np.sqrt(np.maximum(_random_walks(transition, new), 0))
                roots[~_has_edge(transition)[new]] = 0
                walks.update(zip(new, roots.astype(np.float32), strict=True))


def _stack(walks: dict[int, NDArray[np.float32]], nodes: Sequence[int]) -> NDArray[np.float64]:
    return np.stack([walks[node] for node in nodes]).astype(np.float64)


def _transition(network: sparse.spmatrix, n_nodes: int) -> sparse.csr_matrix:
    """Return the probabilities of each step; a gene without edges keeps its walker."""
    weight = abs(sparse.csr_matrix(network, dtype=np.float64))
    weight = weight.maximum(weight.T).tolil()
    weight.setdiag(0)
    weight = sparse.csr_matrix(weight)
    weight.eliminate_zeros()
    total = np.asarray(weight.sum(axis=1)).ravel()
    stays = sparse.diags((total == 0).astype(np.float64))
    return sparse.csr_matrix(sparse.diags(1 / np.where(total > 0, total, 1)) @ weight + stays)


def _has_edge(transition: sparse.csr_matrix) -> NDArray[np.bool_]:
    return np.asarray(transition.diagonal() == 0)


def _random_walks(transition: sparse.csr_matrix, starts: Sequence[int]) -> NDArray[np.float64]:
    """Return where walks with restart from some genes lead, of shape (n_starts, n_nodes)."""
    n_nodes = transition.shape[0]
    steps_cost = N_STEPS * transition.nnz * len(starts) * SPARSE_COST
    if n_nodes <= LARGEST_DENSE and steps_cost > n_nodes**3:
        system = np.eye(n_nodes) - (1 - RESTART) * transition.T.toarray()
        start = np.zeros((n_nodes, len(starts)))
        start[list(starts), np.arange(len(starts))] = RESTART
        return np.ascontiguousarray(np.linalg.solve(system, start).T)
    moved = sparse.csr_matrix(transition.T)
    walk = np.zeros((n_nodes, len(starts)))
    at_start = (np.asarray(starts), np.arange(len(starts)))
    walk[at_start] = 1.0
    for _ in range(N_STEPS):
        walk = (1 - RESTART) * (moved @ walk)
        walk[at_start] += RESTART
    return np.ascontiguousarray(walk.T)


def _unit_rows(values: NDArray[np.floating]) -> NDArray[np.float64]:
    filled = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
    length = np.linalg.norm(filled, axis=1, keepdims=True)
    return filled / np.where(length > 0, length, 1)
