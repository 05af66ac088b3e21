"""Chance: which genes are alike in degree, what a permutation of them gives, and how surprising a value then is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_BINS = 10


def degree_bins(degree: NDArray[np.intp], n_bins: int = N_BINS) -> NDArray[np.intp]:
    """Return bins of genes of like degree, of about equal size; genes of equal degree stand in one bin, those without edges apart."""
    bins = np.zeros(len(degree), dtype=np.intp)
    linked = degree > 0
    if linked.any():
        edges = np.unique(np.quantile(degree[linked], np.linspace(0, 1, n_bins + 1)[1:-1]))
        bins[linked] = 1 + np.searchsorted(edges, degree[linked], side="right")
    return np.unique(bins, return_inverse=True)[1]


def permute_within(bins: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return a random permutation that maps each gene to one of its own bin."""
    permutation = np.empty(len(bins), dtype=np.intp)
    permutation[np.argsort(bins, kind="stable")] = np.lexsort((rng.random(len(bins)), bins))
    return permutation


def permutation_p_value(value: float, null: NDArray[np.floating]) -> float:
    """Compute the one-sided permutation p-value: the share of chance values that are as large, the observed among them."""
    return float((1 + np.sum(null >= value - 1e-12)) / (1 + len(null)))


def pairing_null(
    similarity: NDArray[np.floating], n_permutations: int, rng: np.random.Generator
) -> tuple[float, NDArray[np.floating]]:
    """Return the mean similarity of each perturbation with itself, and with others, assigned at random.

    Parameters
    ----------
    similarity
        Rows seen by one model, columns by another, of shape (n, n).
    n_permutations
        Number of assignments.
    rng
        Source of randomness.

    Returns
    -------
    The mean of the diagonal, and those of random assignments; over the pairs that have a similarity.
    """
    n = len(similarity)
    rows = np.arange(n)
    null = np.array([_mean(similarity[rows, rng.permutation(n)]) for _ in range(n_permutations)])
    return _mean(similarity.diagonal()), null


def sign_null(differences: NDArray[np.floating], n_permutations: int, rng: np.random.Generator) -> NDArray[np.floating]:
    """Return means of differences whose signs are thrown at random."""
    signs = rng.choice([-1.0, 1.0], size=(n_permutations, len(differences)))
    return signs @ differences / len(differences)


def _mean(values: NDArray[np.floating]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan
