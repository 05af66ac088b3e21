"""Metrics of the genes that a perturbation changes most: are they found, and in the right direction?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp.metrics._align import by_label
from scapp.metrics._arrays import as_number, read_pair

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@checked(own=("k",))
@by_label
def top_k_overlap(
    predicted: ArrayLike, observed: ArrayLike, k: int, *, genes: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    r"""Return the share of the k genes of the largest observed change that are among the k of the largest predicted change.

    .. math:: \frac{1}{k} \bigl| \operatorname{top}_k |\hat y| \cap \operatorname{top}_k |y| \bigr|

    Up and down count alike; :func:`direction_match` tells them apart. Where fewer than k genes change at all in the
    observation, k is their number. A gene of no predicted change is never among the largest, so the prediction of no
    change scores 0. Ties of the prediction at the last place count by their chance of a place; ties of the observation
    there are all right. The overlap at k of cell-eval :cite:p:`Roohani2025` among genes that are significant in both,
    except that cell-eval breaks ties by the order of the genes and gives 0 where this is NaN.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes of shape (n_perturbations, n_genes), or (n_genes,).
    k
        How many genes.
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    One share a perturbation, from 0 to 1; a float for 1-d input. NaN where no gene changes in the observation.

    Raises
    ------
    ValueError
        If `k` is less than 1, the shapes differ, a scored value is NaN or infinite, or `genes` does not fit.
    TypeError
        If an array does not hold numbers.
    """
    _check_k(k)
    prediction, observation = (np.abs(array) for array in read_pair(predicted, observed, genes))
    n_wanted = np.minimum(k, np.count_nonzero(observation, axis=-1))[..., None]
    right = _at_least(observation, _cutoff(observation, n_wanted))

    n_called = np.minimum(n_wanted, np.count_nonzero(prediction, axis=-1)[..., None])
    cutoff = _cutoff(prediction, n_called)
    surely = prediction > cutoff
    tied = (prediction == cutoff) & (prediction > 0)
    places = (n_called - surely.sum(axis=-1, keepdims=True)) / np.maximum(tied.sum(axis=-1, keepdims=True), 1)
    found = np.sum(right * (surely + tied * places), axis=-1)
    total = n_wanted[..., 0]
    return as_number(found / np.where(total > 0, total, np.nan))


@checked
@by_label
def direction_match(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    k: int | None = None,
    threshold: float | None = None,
    genes: ArrayLike | None = None,
) -> float | NDArray[np.float64]:
    r"""Return the share of the most changed genes that are predicted to go up where they go up, and down where they go down.

    .. math:: \frac{1}{|S|} \sum_{g \in S} [\operatorname{sign} \hat y_g = \operatorname{sign} y_g]

    S are the k genes of the largest observed change (with all that tie at the last place), or all of an observed
    change of `threshold` or more. A predicted change of exactly 0 goes neither way and is wrong; guessing scores 0.5.
    The direction match of cell-eval :cite:p:`Roohani2025`, whose S are the genes of a significant change.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes of shape (n_perturbations, n_genes), or (n_genes,).
    k
        How many genes. Pass this or `threshold`.
    threshold
        Smallest observed change that counts, more than 0, in the unit of the log-fold-changes.
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    One share a perturbation, from 0 to 1; a float for 1-d input. NaN where no gene changes that much.

    Raises
    ------
    ValueError
        If not exactly one of `k` and `threshold` is given or it is too small, the shapes differ, a scored value is NaN
        or infinite, or `genes` does not fit.
    TypeError
        If an array does not hold numbers.
    """
    prediction, observation = read_pair(predicted, observed, genes)
    size = np.abs(observation)
    if threshold is not None and k is None:
        if not threshold > 0:
            raise ValueError(f"threshold must be more than 0, found {threshold}.")
        counted = size >= threshold
    elif k is None or threshold is not None:
        raise ValueError(f"Pass either k or threshold, found k={k} and threshold={threshold}.")
    else:
        _check_k(k)
        counted = _at_least(size, _cutoff(size, np.minimum(k, np.count_nonzero(size, axis=-1))[..., None]))
    right = counted & (np.sign(prediction) == np.sign(observation))
    total = counted.sum(axis=-1)
    return as_number(right.sum(axis=-1) / np.where(total > 0, total, np.nan))


def _check_k(k: int) -> None:
    if not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, found {k!r}.")


def _cutoff(size: NDArray[np.float64], k: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the k-th largest value of each row; infinite where k is 0."""
    ordered = np.sort(size, axis=-1)
    return np.where(k > 0, np.take_along_axis(ordered, size.shape[-1] - np.maximum(k, 1), axis=-1), np.inf)


def _at_least(size: NDArray[np.float64], cutoff: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (size >= cutoff) & (size > 0)
