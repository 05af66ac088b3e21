"""Proximity of genes in a network: random walk with restart, its embedding, and tf-idf of annotations."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.linalg import eigsh, svds
from sklearn.utils.extmath import randomized_svd

from scapp.graph._adjacency import as_csr, is_symmetric, normalize

# Chunks of profiles that are computed in parallel; each takes n_nodes x chunk_size numbers, twice.
MAX_THREADS = 8
SMALLEST_RESTART = 1e-3


def diffusion(
    adjacency: sparse.spmatrix,
    seeds: ArrayLike | None = None,
    *,
    restart: float = 0.5,
    normalization: Literal["row", "sym"] = "row",
    min_value: float | None = None,
    tol: float = 1e-7,
    chunk_size: int = 512,
) -> NDArray[np.float32] | sparse.csr_matrix:
    r"""Compute the random walk with restart (personalised PageRank) from some nodes.

    Solves :math:`P = r \, (I - (1 - r) W)^{-1}` by its series :math:`r \sum_k (1 - r)^k W^k`, where :math:`W`
    is the normalised network; signs of weights are ignored, and direction is followed. A node without outgoing edges
    keeps the walker, so that each profile of the row-normalised walk sums to one.

    Parameters
    ----------
    adjacency
        The network, directed or symmetric.
    seeds
        The nodes from which the walks start; all if omitted.
    restart
        Probability :math:`r` of returning to the start at each step, from 0.001 to 1; larger values are more local.
    normalization
        ``"row"`` for transition probabilities, ``"sym"`` for the symmetric form, which damps hubs and is a
        kernel (symmetric, positive definite) if the network is symmetric.
    min_value
        If given, smaller entries are dropped and a sparse matrix is returned.
    tol
        Bound on the neglected remainder of the series, relative to the whole.
    chunk_size
        Number of profiles to compute together; limits the memory used besides the result.

    Returns
    -------
    The profiles, shape (n_seeds, n_nodes): float32 array, or csr matrix if `min_value` is given.

    References
    ----------
    Tong, Faloutsos, Pan. Fast random walk with restart and its applications. ICDM 2006.
    """
    check_restart(restart)
    transition_t = sparse.csr_matrix(_transition(adjacency, normalization).T)
    n_nodes = transition_t.shape[0]
    starts = np.arange(n_nodes) if seeds is None else np.atleast_1d(np.asarray(seeds, dtype=np.int64))
    if len(starts) and (starts.min() < 0 or starts.max() >= n_nodes):
        raise ValueError(f"Seeds must be node numbers from 0 to {n_nodes - 1}.")
    # W has spectral radius <= 1, so after k steps the neglected part of the series is (1 - r)^k of the whole.
    n_steps = 1 if restart == 1 else int(np.ceil(np.log(tol) / np.log1p(-restart)))

    def profiles_of(part: NDArray[np.int64]) -> NDArray[np.float32] | sparse.csr_matrix:
        at_start = (part, np.arange(len(part)))
        profile = np.zeros((n_nodes, len(part)))
        profile[at_start] = restart
        for _ in range(n_steps):
            profile = transition_t @ profile
            profile *= 1 - restart
            profile[at_start] += restart
        found = profile.T.astype(np.float32)
        return found if min_value is None else sparse.csr_matrix(np.where(found >= min_value, found, 0))

    parts = [starts[i : i + chunk_size] for i in range(0, len(starts), chunk_size)]
    chunks = Parallel(n_jobs=min(effective_n_jobs(-1), MAX_THREADS), prefer="threads")(map(delayed(profiles_of), parts))
    if min_value is not None:
        return sparse.vstack(chunks, format="csr") if chunks else sparse.csr_matrix((0, n_nodes), dtype=np.float32)
    return np.vstack(chunks) if chunks else np.zeros((0, n_nodes), dtype=np.float32)


def diffusion_embedding(
    adjacency: sparse.spmatrix, n_components: int = 128, *, restart: float = 0.5, seed: int = 0
) -> NDArray[np.float32]:
    r"""Reduce the symmetric diffusion profiles of all nodes by their exact truncated singular value decomposition.

    The profiles :math:`P = r (I - (1 - r) S)^{-1}` share the eigenvectors of the normalised network
    :math:`S`, and their eigenvalues are :math:`r / (1 - (1 - r) \lambda)`, increasing in :math:`\lambda` and
    positive. The largest eigenpairs of the sparse :math:`S` therefore give the decomposition of the dense :math:`P`,
    which is never formed.

    The network must be symmetric; signs of its weights are ignored. The result, shape (n_nodes, n_components) or with
    fewer columns if there are fewer nodes, holds eigenvectors times eigenvalues, strongest first, so that dot products
    of rows approximate those of the profiles. The same seed gives the same result.
    """
    check_restart(restart)
    if not is_symmetric(adjacency):
        raise ValueError("The diffusion embedding needs a symmetric network; pass symmetrize(adjacency).")
    walk = _transition(adjacency, "sym")
    n_nodes = walk.shape[0]
    n_components = min(n_components, n_nodes)
    if n_components > n_nodes // 2:  # the iterative solver is faster only for a few of many components
        values, vectors = np.linalg.eigh(walk.toarray())
        values, vectors = values[-n_components:], vectors[:, -n_components:]
    else:
        start = np.random.default_rng(seed).standard_normal(n_nodes)
        values, vectors = eigsh(walk, k=n_components, which="LA", v0=start, tol=1e-7)
    order = np.argsort(-values, kind="stable")
    scores = vectors[:, order] * (restart / (1 - (1 - restart) * values[order]))
    return _fix_signs(scores).astype(np.float32)


# Cache of embeddings of the last networks, by content; it saves seconds for each model that is trained again on the same ones.
_EMBEDDINGS: dict[tuple, NDArray[np.float32]] = {}
N_EMBEDDINGS = 8


def hellinger_embedding(
    adjacency: sparse.spmatrix, n_components: int = 128, *, restart: float = 0.5, seed: int = 0
) -> NDArray[np.float32]:
    r"""Reduce the square roots of the diffusion profiles of all nodes by a truncated singular value decomposition.

    A profile is a distribution over the nodes; the dot product of the square roots of two profiles is their
    Bhattacharyya coefficient, 1 for equal and 0 for disjoint distributions. The root gives more weight to the many weak
    paths: these similarities of genes predict similar effects of knockdowns far better than those of the profiles
    themselves (docs/model_log.md).

    Direction is followed, and signs of weights are ignored. The result, shape (n_nodes, n_components) or with fewer
    columns if there are fewer nodes, strongest first, has rows of about unit length, so that dot products of rows
    approximate the coefficients. The same seed gives the same result.
    """
    csr = as_csr(adjacency)
    digest = hashlib.sha256()
    for part in (csr.indptr, csr.indices, csr.data):
        digest.update(np.ascontiguousarray(part).tobytes())
    key = (digest.hexdigest(), csr.shape, n_components, restart, seed)
    if key not in _EMBEDDINGS:
        # Below one part in a hundred thousand, the root would amplify the truncation error of the series.
        profiles = sparse.csr_matrix(diffusion(csr, restart=restart, min_value=1e-5, tol=1e-5)).sqrt()
        n = min(n_components, profiles.shape[0])
        vectors, values, _ = randomized_svd(profiles, n, n_oversamples=32, n_iter=4, random_state=seed)
        _EMBEDDINGS[key] = _fix_signs(vectors * values).astype(np.float32)
        while len(_EMBEDDINGS) > N_EMBEDDINGS:
            _EMBEDDINGS.pop(next(iter(_EMBEDDINGS)))
    return _EMBEDDINGS[key].copy()


def tf_idf(membership: sparse.spmatrix) -> sparse.csr_matrix:
    r"""Weight annotations by their rarity and normalise every row to unit length.

    Entry (gene, term) becomes :math:`\log(n / n_t)`, where :math:`n_t` of the :math:`n` genes have the term; a term
    that all genes have counts nothing. Dot products of rows are then cosine similarities. `membership`, shape (n_genes,
    n_terms), is non-zero where the gene has the term; rows of genes without a (distinguishing) term are empty.
    """
    matrix = sparse.csr_matrix(membership, dtype=np.float64, copy=True)
    matrix.eliminate_zeros()
    matrix.data[:] = 1
    frequency = np.asarray(matrix.sum(axis=0)).ravel()
    weights = np.log(matrix.shape[0] / np.maximum(frequency, 1))
    matrix = sparse.csr_matrix(matrix @ sparse.diags(weights))
    matrix.eliminate_zeros()
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(np.divide(1, length, out=np.zeros_like(length), where=length > 0)) @ matrix)


def truncated_svd(matrix: sparse.spmatrix | NDArray, n_components: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return the left singular vectors times singular values, strongest first, with fixed signs and a fixed start.

    For a sparse or dense matrix of shape (n_rows, n_columns), the result has the shape (n_rows, n_components), or fewer
    columns if the matrix has fewer.
    """
    n_components = min(n_components, *matrix.shape)
    if n_components > min(matrix.shape) // 2:
        dense = sparse.csr_matrix(matrix).toarray()
        vectors, values, _ = np.linalg.svd(dense.astype(np.float64), full_matrices=False)
        vectors, values = vectors[:, :n_components], values[:n_components]
    else:
        start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
        vectors, values, _ = svds(matrix.astype(np.float64), k=n_components, v0=start, tol=1e-5)
    order = np.argsort(-values, kind="stable")
    return _fix_signs(vectors[:, order] * values[order]).astype(np.float32)


def _fix_signs(scores: NDArray) -> NDArray:
    """Make the entry of largest magnitude of every column positive."""
    largest = scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])]
    return scores * np.where(largest < 0, -1.0, 1.0)


def _transition(adjacency: sparse.spmatrix, normalization: Literal["row", "sym"]) -> sparse.csr_matrix:
    """Return the normalised float64 matrix of the walk: magnitudes, with self-loops at nodes without outgoing edges."""
    if normalization not in ("row", "sym"):
        raise ValueError(f"normalization must be 'row' or 'sym', found {normalization!r}.")
    magnitude = abs(as_csr(adjacency)).astype(np.float64)
    dangling = (np.diff(magnitude.indptr) == 0).astype(np.float64)
    return normalize(magnitude + sparse.diags(dangling), normalization)


def check_restart(restart: float) -> None:
    """Raise unless a restart probability is valid and large enough for the walk to be computed."""
    if not SMALLEST_RESTART <= restart <= 1:
        raise ValueError(
            f"restart must be a probability above 0 and at most 1, found {restart!r}.\nBelow {SMALLEST_RESTART:g} a walk takes more "
            "than ten thousand steps and forgets its start.\nPass for example restart=0.5."
        )
