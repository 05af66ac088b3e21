"""Metrics of calibration: predicted spread against the errors, and predicted probabilities against frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from scapp.metrics._arrays import array_metric, as_number, read_same_shape
from scapp.metrics._genes import check_binary

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@array_metric
def interval_coverage(
    predicted: ArrayLike,
    std: ArrayLike,
    observed: ArrayLike,
    *,
    level: float = 0.8,
    genes: ArrayLike | None = None,
    n_largest: int | None = None,
) -> float | NDArray[np.float64]:
    r"""Return the share of the genes whose observed change lies in the predicted interval.

    .. math:: \frac{1}{G} \sum_g \left[\, |y_g - \hat y_g| \le z_{(1 + \text{level}) / 2}\; \hat\sigma_g \right]

    The intervals are those of a normal distribution. Averaged over perturbations, the coverage of a calibrated
    prediction equals the level; a higher coverage means that the spread is too wide, a lower one that it is too narrow
    :cite:p:`Gneiting2007`.

    Parameters
    ----------
    {profiles}
    std
        Predicted standard deviations, 0 or more, of the same shape and in the same unit, such as
        ``layers["predicted_lfc_std"]``.
    level
        Probability of the interval, between 0 and 1.
    {genes}
    n_largest
        Score only this many of these genes: those with the largest predicted change in each perturbation. They are the
        ones that people look at, and intervals that are calibrated over all genes need not be calibrated there.

    Returns
    -------
    One share per perturbation, from 0 to 1; a float for 1-d input.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, a standard deviation is negative, or `level`, `genes` or
        `n_largest` does not fit.
    {no_numbers}
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


@array_metric
def spread_error_spearman(
    std: ArrayLike, predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None
) -> float:
    r"""Return the rank correlation over perturbations between the mean predicted standard deviation and the error.

    .. math:: \operatorname{cor}^{\text{Spearman}}_p \Bigl( \tfrac{1}{G} \sum_g \hat\sigma_{pg},\;
        \sqrt{\textstyle\sum_g (\hat y_{pg} - y_{pg})^2} \Bigr)

    It shows whether less certain predictions are worse. It does not show whether the size of the spread is right; for
    that, see :func:`interval_coverage`.

    Parameters
    ----------
    std
        Predicted standard deviations, 0 or more, of shape (n_perturbations, n_genes).
    predicted, observed
        Log-fold-changes or profiles of the same shape.
    {genes}

    Returns
    -------
    A correlation, from -1 to 1; NaN if spread or error is the same for all perturbations.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, a standard deviation is negative, there are fewer than
        three perturbations, or `genes` does not fit.
    {no_numbers}
    """
    prediction, spread, observation = _read(predicted, std, observed, genes)
    if prediction.ndim != 2 or len(prediction) < 3:
        raise ValueError(f"A correlation over perturbations needs three or more, found shape {prediction.shape}.")
    mean_spread = spread.mean(axis=1)
    error = np.sqrt(np.sum((prediction - observation) ** 2, axis=1))
    if np.ptp(mean_spread) == 0 or np.ptp(error) == 0:
        return float("nan")
    return float(stats.spearmanr(mean_spread, error).statistic)


@array_metric
def reliability(
    probabilities: ArrayLike, outcomes: ArrayLike, *, n_bins: int = 10, genes: ArrayLike | None = None
) -> pd.DataFrame:
    """Compare predicted probabilities with observed frequencies, in equally large groups of predictions.

    The predictions are divided by the rank of their probabilities, by default into tenths. If the probabilities are
    calibrated, both columns agree except for chance :cite:p:`Gneiting2007`. Equal probabilities stay together, so if
    there are many ties, groups differ in size or are fewer. Without ties, and if the number of predictions is a
    multiple of the number of groups, this is scikit-learn's ``calibration_curve`` with ``strategy="quantile"``.

    Parameters
    ----------
    probabilities
        Predicted probabilities, from 0 to 1, such as those of a change, shape (n_perturbations, n_genes) or (n_genes,).
    outcomes
        Outcomes, of the same shape; boolean, or 0 and 1.
    n_bins
        Number of groups.
    {genes}

    Returns
    -------
    One row per group, from the least to the most probable: ``predicted``, the mean probability; ``observed``, the share of
    positive outcomes; and ``n``, the number of predictions.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN, infinite or not a probability, an outcome is neither 0 nor 1, or
        `n_bins` or `genes` does not fit.
    {no_numbers}

    See Also
    --------
    expected_calibration_error, interval_coverage

    Examples
    --------
    >>> scapp.metrics.reliability([0.1, 0.3, 0.7, 0.9], [0, 0, 1, 1], n_bins=2)["predicted"].round(3).tolist()
    [0.2, 0.8]
    """
    if not isinstance(n_bins, int | np.integer) or n_bins < 1:
        raise ValueError(f"n_bins must be a whole number of at least 1, found {n_bins!r}.")
    probability, outcome = read_same_shape({"probabilities": probabilities, "outcomes": outcomes}, genes)
    outside = (probability < 0) | (probability > 1)
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} values of probabilities are below 0 or above 1, the first {probability[outside][0]:g}. "
            "Expected probabilities."
        )
    check_binary(outcome, "outcomes")
    probability, outcome = probability.ravel(), outcome.ravel()
    # Twice the rank is a whole number, also the mean rank of equal probabilities, so that no rounding divides them.
    twice = (2 * stats.rankdata(probability)).astype(np.int64) - 1
    group = n_bins * twice // (2 * len(probability))
    n = np.bincount(group, minlength=n_bins)
    filled = n > 0
    means = [np.bincount(group, values, minlength=n_bins)[filled] / n[filled] for values in (probability, outcome)]
    return pd.DataFrame({"predicted": means[0], "observed": means[1], "n": n[filled]})


@array_metric
def expected_calibration_error(
    probabilities: ArrayLike, outcomes: ArrayLike, *, n_bins: int = 10, genes: ArrayLike | None = None
) -> float:
    r"""Compute the mean distance between predicted probabilities and observed frequencies.

    .. math:: \sum_b \frac{n_b}{n}\, |\bar p_b - \bar o_b|

    over the groups :math:`b` of :func:`reliability`. Chance alone makes it larger than 0.

    Parameters
    ----------
    probabilities, outcomes, n_bins, genes
        As for :func:`reliability`.

    Returns
    -------
    A distance from 0 (best) to 1.

    Raises
    ------
    ValueError, TypeError
        As for :func:`reliability`.
    """
    table = reliability(probabilities, outcomes, n_bins=n_bins, genes=genes)
    return float(np.average(np.abs(table["predicted"] - table["observed"]), weights=table["n"]))


def _read(
    predicted: ArrayLike, std: ArrayLike, observed: ArrayLike, genes: ArrayLike | None
) -> list[NDArray[np.float64]]:
    arrays = read_same_shape({"predicted": predicted, "std": std, "observed": observed}, genes)
    if (arrays[1] < 0).any():
        raise ValueError(f"{int((arrays[1] < 0).sum())} values of std are negative; expected standard deviations.")
    return arrays
