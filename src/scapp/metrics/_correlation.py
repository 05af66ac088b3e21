"""Correlation of predicted and observed changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp.metrics._align import by_label
from scapp.metrics._arrays import as_number, read_pair, read_profile, read_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@checked
@by_label
def pearson_delta(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    genes: ArrayLike | None = None,
) -> float | NDArray[np.float64]:
    r"""Return the Pearson correlation over the genes of each predicted change with the observed one.

    .. math:: \operatorname{cor}_g(\hat y_g - r_g,\; y_g - r_g)

    With log-fold-changes as input and no reference, this is the correlation of the changes from control ("Pearson
    delta", :cite:p:`AhlmannEltze2025`). A shift that all perturbations of a screen share makes it high for any
    prediction that has the shift; with the mean log-fold-change of the training perturbations as `reference`, it says
    how much of what is specific to a perturbation was predicted :cite:p:`VinasTorne2025`.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes of shape (n_perturbations, n_genes), or (n_genes,).
    reference
        What both are compared with, of shape (n_genes,): None for the control, or the mean log-fold-change of the
        training perturbations.
    weights
        One weight a gene, 0 or more, such as those of :func:`effect_weights`: of the shape of `observed`, or (n_genes,);
        equal weights if None. Means and variances over the genes are weighted.
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    One correlation a perturbation, from -1 to 1; a float for 1-d input. NaN means undefined: prediction or observation
    is the same for all scored genes after subtraction of the reference, as that of
    :class:`scapp.baselines.NoChange` is. Count these rather than average over the rest.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, a weight is negative, fewer than two genes are scored, or
        `genes` does not fit.
    TypeError
        If an array does not hold numbers.
    """
    delta_predicted, delta_observed = read_pair(predicted, observed, genes)
    if delta_observed.shape[-1] < 2:
        raise ValueError("A correlation needs at least two genes, found one.")
    if reference is not None:
        baseline = read_profile(reference, "reference", np.shape(observed)[-1], genes)
        delta_predicted, delta_observed = delta_predicted - baseline, delta_observed - baseline
    equal = np.ones(np.shape(observed)[-1])
    shares = read_weights(equal if weights is None else weights, np.shape(observed), genes)
    x, y = _standardise(delta_predicted, shares), _standardise(delta_observed, shares)
    return as_number(np.clip(np.sum(x * y, axis=-1), -1, 1))


@checked
@by_label
def cosine(predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None) -> float | NDArray[np.float64]:
    r"""Return the cosine of the angle between each predicted change and the observed one.

    .. math:: \frac{\sum_g \hat y_g y_g}{\sqrt{\sum_g \hat y_g^2} \sqrt{\sum_g y_g^2}}

    As :func:`pearson_delta`, without the mean over the genes taken off: a prediction of the right pattern but of
    another size has a cosine of 1 :cite:p:`Wu2024`.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes of shape (n_perturbations, n_genes), or (n_genes,). Not profiles: all of these point the same
        way.
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    One cosine a perturbation, from -1 to 1; a float for 1-d input. NaN means undefined: no scored gene changes in the
    prediction, as in that of :class:`scapp.baselines.NoChange`, or in the observation. Count these rather than average
    over the rest.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, or `genes` chooses none or does not fit.
    TypeError
        If an array does not hold numbers.
    """
    predicted, observed = read_pair(predicted, observed, genes)
    return as_number(np.clip(np.sum(_unit(predicted) * _unit(observed), axis=-1), -1, 1))


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale to length 1 over the genes; NaN where all values are 0."""
    # The largest value is divided out first: squares of very small or large values leave the range of float64.
    largest = np.abs(values).max(axis=-1, keepdims=True)
    scaled = values / np.where(largest == 0, np.nan, largest)
    return scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)


def _standardise(values: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring to mean 0 and length 1 over the genes, each with its share of the weight; NaN where all values are the same."""
    centred = np.sqrt(shares) * (values - np.sum(shares * values, axis=-1, keepdims=True))
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    # Rounding leaves a little where all values are the same: that is no variation to correlate.
    negligible = ~(length > 1e-7 * np.linalg.norm(np.sqrt(shares) * values, axis=-1, keepdims=True))
    return centred / np.where(negligible, np.nan, length)
