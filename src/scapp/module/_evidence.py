"""Evidence about genes: similarities of random walks on each network, and of annotations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.linalg.lapack import dpotrf, dpotri
from torch import Tensor

Genes = tuple[int, ...]

RESTART = 0.5
# The neglected part of the walk is (1 - RESTART)^54, below 1e-16, which changes the square roots by less than 1e-8.
N_STEPS = 54
# Sparse steps access memory at random, so a multiplication costs this many times more than in a dense solver.
SPARSE_COST = 30
LARGEST_DENSE = 12_000
# Larger tables of similarities are stored in single precision.
LARGEST_DOUBLE = 5e7


class Evidence:
    r"""Hold the evidence about genes from outside the screen: networks and annotations, with one similarity for each.

    For a network, the similarity of two genes is the Bhattacharyya coefficient of their random walks with restart,

    .. math:: k(p, i) = \sum_j \sqrt{w(p, j)\, w(i, j)},

    which is one for equal walks and zero for walks that never meet. The walk is the fixed point of equations 1 and 2
    with mean aggregation and no nonlinearity: :math:`w_p = r\, e_p + (1 - r)\, W w_p`. For annotations, it is the
    cosine of the genes' features, or zero if negative. A gene that is missing from a source is similar to no gene by
    that source.

    Parameters
    ----------
    networks
        Matrices of shape (n_nodes, n_nodes); direction and signs are ignored.
    features
        Gene features, shape (n_nodes, n_features); a row of NaN marks a gene without features.
    n_nodes
        Number of genes.
    added
        Mask of the genes that were added after training, shape (n_nodes,). Their similarities come from the whole
        networks; those among the other genes come from the networks without them, on which the model was trained.
    """

    def __init__(
        self,
        networks: Sequence[sparse.spmatrix],
        features: Sequence[NDArray[np.floating]] = (),
        *,
        n_nodes: int,
        added: NDArray[np.bool_] | None = None,
    ):
        self.n_nodes = n_nodes
        self._added = np.zeros(n_nodes, dtype=bool) if added is None else np.asarray(added, dtype=bool)
        self._whole = [_Walks(network, n_nodes) for network in networks]
        self._walks = self._whole
        if self._added.any():
            kept = sparse.diags((~self._added).astype(np.float64))
            self._walks = [_Walks(kept @ network @ kept, n_nodes) for network in networks]
        self._vectors = [_unit_rows(values) for values in features]

    @property
    def n_sources(self) -> int:
        """Number of networks and annotations."""
        return len(self._walks) + len(self._vectors)

    def similarities(self, nodes: Sequence[int], others: Sequence[int]) -> NDArray[np.floating]:
        """Return the similarities of genes by each source, shape (n_sources, n, n_others)."""
        dtype = np.float32 if self.n_sources * len(nodes) * len(others) > LARGEST_DOUBLE else np.float64
        found = np.zeros((self.n_sources, len(nodes), len(others)), dtype=dtype)
        if not len(nodes) or not len(others):
            return found
        for k, walks in enumerate(self._walks):
            found[k] = walks.products(nodes, others, dtype)
        late, late_others = (np.flatnonzero(self._added[list(side)]).tolist() for side in (nodes, others))
        for k, walks in enumerate(self._whole):
            if len(late):
                found[k, late] = walks.products([nodes[i] for i in late], others, dtype)
            if len(late_others):
                found[k, :, late_others] = walks.products([others[i] for i in late_others], nodes, dtype)
        for k, vectors in enumerate(self._vectors, len(self._walks)):
            found[k] = np.maximum(vectors[list(nodes)] @ vectors[list(others)].T, 0)
        # Rounding must not make the similarity of a gene with itself exceed one.
        return np.minimum(found, 1.0, out=found)

    def within(self, perturbations: Sequence[Genes]) -> NDArray[np.float64]:
        """Return the summed similarities among the genes of each perturbation, shape (n_sources, n)."""
        found = np.zeros((self.n_sources, len(perturbations)))
        nodes = genes_of(perturbations)
        holds = membership(perturbations, nodes)
        for walks in self._walks:
            walks.extend(nodes)
        vectors: list[NDArray] = [walks.roots(nodes) for walks in self._walks]
        vectors += [values[nodes] for values in self._vectors]
        # Similarities are products of these vectors, and a row of `holds` sums over the genes of a perturbation.
        for k, rows in enumerate(vectors):
            summed = np.asarray(holds @ rows.astype(np.float64))
            found[k] = np.einsum("ij,ij->i", summed, summed)
        late = [row for row, genes in enumerate(perturbations) if self._added[list(genes)].any()]
        if late:
            holds = holds[late]
            for k, similar in enumerate(self.similarities(nodes, nodes)[: len(self._walks)]):
                found[k, late] = np.asarray(holds.multiply(holds @ similar).sum(axis=1)).ravel()
        return found

    def through_genes(
        self,
        nodes: Sequence[int],
        others: Sequence[int],
        attention: NDArray[np.floating],
        weights: NDArray[np.floating],
    ) -> NDArray[np.float32]:
        r"""Return the network genes through which each gene is similar to others.

        Gene j contributes :math:`\sum_i \alpha_i \sum_m g_m \sqrt{w_m(p, j)\, w_m(i, j)}`, so that each row sums to the
        attention-weighted similarities of p to the others by the networks.

        Parameters
        ----------
        nodes
            The genes p.
        others
            The genes i.
        attention
            Weight of each of the others for each gene, shape (n, n_others).
        weights
            Weight of each network.

        Returns
        -------
        Array of shape (n, n_nodes).
        """
        found = np.zeros((len(nodes), self.n_nodes), dtype=np.float32)
        attention = attention.astype(np.float32)
        late = self._added[list(nodes)]
        for sources, which in ((self._walks, ~late), (self._whole, late)):
            if not which.any():
                continue
            rows = slice(None) if which.all() else np.flatnonzero(which)  # a full slice avoids a copy
            asked = np.asarray(nodes)[rows].tolist()
            for weight, walks in zip(weights, sources, strict=True):
                walks.extend([*asked, *others])
                through = attention[rows] @ walks.roots(others)
                through *= walks.roots(asked)
                through *= np.float32(weight)
                found[rows] += through
        return found


class _Walks:
    """Square roots of the random walks on one network, computed for each gene on first use."""

    def __init__(self, network: sparse.spmatrix, n_nodes: int):
        self._transition, self._degree = _transition(network)
        self._has_edge = np.asarray(self._transition.diagonal() == 0)
        self._roots = np.zeros((0, n_nodes), dtype=np.float32)
        self._row_of = np.full(n_nodes, -1)

    def extend(self, nodes: Sequence[int]) -> None:
        """Compute the walks of genes for which they are missing."""
        asked = np.unique(np.asarray(nodes, dtype=np.intp))
        new = asked[self._row_of[asked] < 0]
        if len(new):
            walks = _random_walks(self._transition, self._degree, new)
            roots = np.sqrt(np.maximum(walks, 0, out=walks), out=walks).astype(np.float32)
            roots[~self._has_edge[new]] = 0
            self._row_of[new] = len(self._roots) + np.arange(len(new))
            self._roots = np.concatenate([self._roots, roots])

    def products(self, nodes: Sequence[int], others: Sequence[int], dtype: type) -> NDArray[np.floating]:
        """Return the similarities of genes, shape (n, n_others)."""
        self.extend([*nodes, *others])
        return self.roots(nodes).astype(dtype, copy=False) @ self.roots(others).T.astype(dtype, copy=False)

    def roots(self, nodes: Sequence[int]) -> NDArray[np.float32]:
        """Return the roots of genes with computed walks, shape (n, n_nodes)."""
        rows = self._row_of[list(nodes)]
        # The training genes come first and in order, so they need no copy.
        if len(rows) and (np.diff(rows) == 1).all():
            return self._roots[rows[0] : rows[-1] + 1]
        return self._roots[rows]


def genes_of(perturbations: Iterable[Genes]) -> list[int]:
    """Return the genes that occur in some perturbations, in order."""
    return sorted({gene for genes in perturbations for gene in genes})


def membership(perturbations: Sequence[Genes], genes: Sequence[int]) -> sparse.csr_matrix:
    """Return a matrix of the genes in each perturbation, shape (n_perturbations, n_genes)."""
    place = {gene: k for k, gene in enumerate(genes)}
    rows = np.repeat(np.arange(len(perturbations)), [len(p) for p in perturbations])
    columns = [place[gene] for p in perturbations for gene in p]
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(perturbations), len(genes)))


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of a symmetric matrix, whose memory is overwritten by the vectors."""
    # SciPy's LAPACK call takes two thirds of the time of torch's.
    values, vectors = linalg.eigh(matrix.numpy().T, overwrite_a=True, check_finite=False, driver="evd")
    return torch.as_tensor(values), torch.as_tensor(vectors)


def _transition(network: sparse.spmatrix) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
    """Return the step probabilities and the sum of weights of each gene; a gene without edges keeps its walker."""
    weight = abs(sparse.csr_matrix(network, dtype=np.float64))
    weight = weight.maximum(weight.T)
    weight = sparse.csr_matrix(weight - sparse.diags(weight.diagonal()))
    weight.eliminate_zeros()
    degree = np.asarray(weight.sum(axis=1)).ravel()
    stays = sparse.diags((degree == 0).astype(np.float64))
    degree = np.where(degree > 0, degree, 1)
    return sparse.csr_matrix(sparse.diags(1 / degree) @ weight + stays), degree


def _random_walks(
    transition: sparse.csr_matrix, degree: NDArray[np.float64], starts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the distributions of walks with restart from some genes, shape (n_starts, n_nodes)."""
    n_nodes = transition.shape[0]
    steps_cost = N_STEPS * transition.nnz * len(starts) * SPARSE_COST
    if n_nodes <= LARGEST_DENSE and steps_cost > n_nodes**3:
        return _all_walks(transition, degree)[starts]
    moved = sparse.csr_matrix(transition.T)
    walk = np.zeros((n_nodes, len(starts)))
    at_start = (starts, np.arange(len(starts)))
    walk[at_start] = 1.0
    for _ in range(N_STEPS):
        walk = (1 - RESTART) * (moved @ walk)
        walk[at_start] += RESTART
    return np.ascontiguousarray(walk.T)


def _all_walks(transition: sparse.csr_matrix, degree: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distributions of walks from all genes by inverting a matrix, made symmetric by roots of degrees."""
    root = np.sqrt(degree)
    system = ((RESTART - 1) * (sparse.diags(root) @ transition @ sparse.diags(1 / root))).toarray(order="F")
    system[np.diag_indices_from(system)] += 1
    factor, _ = dpotrf(system, lower=1, overwrite_a=1)
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)  # only the lower triangle is filled
    walks = np.tril(inverse, -1)
    walks += np.tril(inverse).T
    walks *= RESTART / root[:, None]
    walks *= root
    return walks


def _unit_rows(values: NDArray[np.floating]) -> NDArray[np.float64]:
    filled = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
    length = np.linalg.norm(filled, axis=1, keepdims=True)
    return filled / np.where(length > 0, length, 1)
