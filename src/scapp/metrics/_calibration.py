"""Whether the predicted spread is the spread of the errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from scapp.metrics._arrays import as_number, read_same_shape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def interval_coverage(
    predicted: ArrayLike,
    std: ArrayLike,
    observed: ArrayLike,
    *,
    level: float = 0.8,
    genes: ArrayLike | None = None,
    n_largest: int | None = None,
) -> float | NDArray[np.float64]:
    r"""Share of the genes whose observed change lies in the predicted interval.

    .. math:: \frac{1}{G} \sum_g \left[\, |y_g - \hat y_g| \le z_{(1 + \text{level}) / 2}\; \hat\sigma_g \right]

    The intervals are those of a normal distribution. A calibrated prediction covers as many as the level says on the
    average over perturbations; more means that the spread is too wide, fewer that it is too narrow
    :cite:p:`Gneiting2007`.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes or profiles of shape (n_perturbations, n_genes), or (n_genes,).
    std
        Predicted standard deviations, 0 or more, of the same shape and in the same unit, such as
        ``layers["predicted_lfc_std"]``.
    level
        Probability of the interval, between 0 and 1.
    genes
        Mask or indices of the genes to score; all if None.
    n_largest
        Score only so many of these genes, those with the largest predicted change of each perturbation. They are the ones
        that people look at, and intervals that hold over all genes need not hold there.

    Returns
    -------
    One share a perturbation, from 0 to 1; a float for 1-d input.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, a standard deviation is negative, or `level`, `genes` or
        `n_largest` does not fit.
    TypeError
        If an array does not hold numbers.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, found {level}.")
    prediction, spread, observation = _read(predicted, std, observed, genes)
    inside = np.abs(observation - prediction) <= stats.norm.ppf((1 + level) / 2) * spread
    if n_largest is not None:
        if not 1 <= n_largest <= prediction.shape[-1]:
            raise ValueError(f"n_largest must be from 1 to the {prediction.shape[-1]} scored genes, found {n_largest}.")
        largest = np.argsort(-np.abs(prediction), axis=-1, kind="stable")[..., :n_largest]
        inside = np.take_along_axis(inside, largest, axis=-1)
    return as_number(np.mean(inside, axis=-1))


def spread_error_spearman(
    std: ArrayLike, predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None
) -> float:
    r"""Rank correlation over perturbations of the mean predicted standard deviation with the error.

    .. math:: \operatorname{cor}^{\text{Spearman}}_p \Bigl( \tfrac{1}{G} \sum_g \hat\sigma_{pg},\;
        \sqrt{\textstyle\sum_g (\hat y_{pg} - y_{pg})^2} \Bigr)

    Whether the predictions of which a model is less sure are those that are worse; it does not say whether the size of
    the spread is right, which :func:`interval_coverage` does.

    Parameters
    ----------
    std
        Predicted standard deviations, 0 or more, of shape (n_perturbations, n_genes).
    predicted, observed
        Log-fold-changes or profiles of the same shape.
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    A correlation, from -1 to 1; NaN if spread or error is the same for all perturbations.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, a standard deviation is negative, there are fewer than
        three perturbations, or `genes` does not fit.
    TypeError
        If an array does not hold numbers.
    """
    prediction, spread, observation = _read(predicted, std, observed, genes)
    if prediction.ndim != 2 or len(prediction) < 3:
        raise ValueError(f"A correlation over perturbations needs three or more, found shape {prediction.shape}.")
    mean_spread = spread.mean(axis=1)
    error = np.sqrt(np.sum((prediction - observation) ** 2, axis=1))
    if np.ptp(mean_spread) == 0 or np.ptp(error) == 0:
        return float("nan")
    return float(stats.spearmanr(mean_spread, error).statistic)


def _read(
    predicted: ArrayLike, std: ArrayLike, observed: ArrayLike, genes: ArrayLike | None
) -> list[NDArray[np.float64]]:
    arrays = read_same_shape({"predicted": predicted, "std": std, "observed": observed}, genes)
    if (arrays[1] < 0).any():
        raise ValueError(f"{int((arrays[1] < 0).sum())} values of std are negative; expected standard deviations.")
    return arrays
