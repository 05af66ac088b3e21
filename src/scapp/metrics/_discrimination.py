"""Metrics of telling perturbations apart: is a prediction closest to its own perturbation?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.spatial.distance import cdist

from scapp.metrics._arrays import array_metric, check_finite, choose_genes, read_array, read_pair

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Metric = Literal["l1", "l2", "cosine"]


@array_metric
def perturbation_discrimination(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    genes: ArrayLike | None = None,
    metric: Metric = "l1",
    candidates: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Measure how well each prediction finds its own perturbation among all observed ones ("PDS").

    .. math::
        1 - \frac{1}{N} \Bigl( \#\{q \ne p: d(\hat y_p, y_q) < d(\hat y_p, y_p)\}
        + \tfrac12\, \#\{q \ne p: d(\hat y_p, y_q) = d(\hat y_p, y_p)\} \Bigr)

    The :math:`N` observations are ordered by their distance from the prediction. The score is 1 if the right one is the
    nearest and :math:`1/N` if it is the farthest. A method that predicts the same for all perturbations scores
    :math:`(N + 1) / 2N` on average, about one half, however close its prediction is. This is the perturbation
    discrimination score of the Virtual Cell Challenge :cite:p:`Roohani2025`. Its package cell-eval gives the same
    numbers for the same arrays, except for ties: it resolves them by the order of the perturbations, which decides the
    score of a prediction of no change under the cosine, whereas here a tie counts as half.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes, shape (n_perturbations, n_genes).
    genes
        Mask or indices of the genes to compare; all if None.
    metric
        The distance d: "l1", the sum of absolute differences (the challenge's choice); "l2", Euclidean; or "cosine", 1
        minus the cosine, which is 1 for a profile without any change. Scaling the predictions alone can raise the score
        with the first two, but not with the cosine.
    candidates
        Additional observed log-fold-changes to choose from, shape (n, n_genes), such as those of the training
        perturbations.
    exclude
        Mask of shape (n_perturbations, n_genes), True for genes not to compare for that perturbation. As in cell-eval,
        use it for its own targets, whose change reveals which gene was perturbed but nothing about the effect. The
        other candidates keep the change of their own targets, which makes them more distant even from a prediction that
        is the same for all. If targets change a lot, leave all of them out with `genes` instead.

    Returns
    -------
    One score per perturbation, above 0 and at most 1 (best).

    Raises
    ------
    ValueError
        If the shapes differ or do not fit, a compared value is NaN or infinite, there is nothing to tell apart, a
        perturbation has no gene to compare, or `metric` is unknown.
    TypeError
        If an array does not hold numbers, or `exclude` is not a mask.
    """
    predicted_rows, observed_rows, compared = _read(predicted, observed, genes, exclude)
    others = observed_rows
    if candidates is not None:
        others = np.concatenate([observed_rows, _read_candidates(candidates, np.shape(observed)[-1], genes)])
    if len(others) < 2:
        raise ValueError(
            "There is nothing to tell one observation from: pass two perturbations or more, or candidates."
        )
    distances = _distances(predicted_rows, others, compared, metric)
    return 1 - _n_closer(distances) / len(others)


@array_metric
def rank(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    genes: ArrayLike | None = None,
    metric: Metric = "l2",
    exclude: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Compute the share of predictions for other perturbations that are closer to an observation than its own prediction.

    .. math::
        \frac{1}{N - 1} \Bigl( \#\{q \ne p: d(\hat y_q, y_p) < d(\hat y_p, y_p)\}
        + \tfrac12\, \#\{q \ne p: d(\hat y_q, y_p) = d(\hat y_p, y_p)\} \Bigr)

    The best score is 0, and a method that predicts the same for all perturbations scores exactly 0.5. This is the rank
    metric of PerturBench :cite:p:`Wu2024`, except that its code breaks ties at random, of which this is the mean, and
    divides by N. :func:`perturbation_discrimination` asks the reverse: which observation is closest to a prediction?

    Parameters
    ----------
    predicted, observed
        Log-fold-changes of shape (n_perturbations, n_genes), of two perturbations or more.
    genes
        Mask or indices of the genes to compare; all if None.
    metric
        The distance d, as for :func:`perturbation_discrimination`; PerturBench reports "l2" (its RMSE rank) and
        "cosine".
    exclude
        Mask of shape (n_perturbations, n_genes), True for the genes not to compare for that perturbation.

    Returns
    -------
    One number per perturbation, from 0 (best) to 1.

    Raises
    ------
    ValueError
        If the shapes differ or do not fit, a compared value is NaN or infinite, there is only one perturbation, a
        perturbation has no gene to compare, or `metric` is unknown.
    TypeError
        If an array does not hold numbers, or `exclude` is not a mask.
    """
    predicted_rows, observed_rows, compared = _read(predicted, observed, genes, exclude)
    if len(predicted_rows) < 2:
        raise ValueError("A rank needs the predictions of two perturbations or more, found one.")
    distances = _distances(observed_rows, predicted_rows, compared, metric)
    return _n_closer(distances) / (len(predicted_rows) - 1)


@array_metric
def kept_spread(predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None) -> float:
    r"""Compute the share of the measured spread between perturbations that the predictions keep.

    .. math:: \sqrt{\frac{\sum_{pg} (\hat y_{pg} - \bar{\hat y}_g)^2}{\sum_{pg} (y_{pg} - \bar y_g)^2}}

    Means are over perturbations. A method that predicts the same for all keeps 0 ("mean collapse"), however close its
    prediction is. The measured spread includes measurement noise, which a prediction should not have, so the best
    prediction keeps less than 1, and keeping 1 is not better. Read it together with an error such as :func:`l2`.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes of shape (n_perturbations, n_genes), of two perturbations or more.
    {genes}

    Returns
    -------
    A share of at least 0; more than 1 if the predictions differ more than the observations. NaN if all observations are
    the same.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, there are fewer than two perturbations, or `genes` does
        not fit.
    {no_numbers}

    See Also
    --------
    perturbation_discrimination, rank

    Examples
    --------
    >>> scapp.metrics.kept_spread([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 2.0]])
    0.5
    """
    prediction, observation = read_pair(predicted, observed, genes)
    if prediction.ndim != 2 or len(prediction) < 2:
        raise ValueError(f"A spread between perturbations needs two or more of them, found shape {prediction.shape}.")
    if not np.ptp(observation, axis=0).any():
        return float("nan")
    kept, measured = (float(np.linalg.norm(array - array.mean(axis=0))) for array in (prediction, observation))
    return kept / measured


def _read(
    predicted: ArrayLike, observed: ArrayLike, genes: ArrayLike | None, exclude: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_] | None]:
    """Return both arrays, and the mask of the genes to compare for each perturbation, None for all."""
    predicted_rows, observed_rows = read_pair(predicted, observed, genes)
    if predicted_rows.ndim != 2:
        raise ValueError(f"Expected (n_perturbations, n_genes), found {predicted_rows.shape}: one profile has no rank.")
    if exclude is None:
        return predicted_rows, observed_rows, None
    mask = np.asarray(exclude)
    if mask.dtype != bool:
        raise TypeError(f"exclude must be a mask of True and False, found {mask.dtype} values.")
    if mask.shape != np.shape(observed):
        raise ValueError(f"exclude has shape {mask.shape}; expected that of observed, {np.shape(observed)}.")
    compared = ~choose_genes(mask, genes)
    if not compared.any(axis=1).all():
        raise ValueError(f"exclude leaves no gene to compare for {int((~compared.any(axis=1)).sum())} perturbation(s).")
    return predicted_rows, observed_rows, compared


def _read_candidates(candidates: ArrayLike, n_genes: int, genes: ArrayLike | None) -> NDArray[np.float64]:
    rows = read_array(candidates, "candidates")
    if rows.ndim != 2 or rows.shape[1] != n_genes:
        raise ValueError(f"candidates has shape {rows.shape}; expected (n, {n_genes}), with the genes of observed.")
    rows = choose_genes(rows, genes)
    check_finite(rows, "candidates")
    return rows


def _distances(
    rows: NDArray[np.float64], columns: NDArray[np.float64], compared: NDArray[np.bool_] | None, metric: Metric
) -> NDArray[np.float64]:
    """Return the distance of each row from each column, over the genes compared for the row; squared for "l2"."""
    if metric == "cosine":
        return _cosine_distances(rows, columns, compared)
    distances = cdist(rows, columns, "cityblock" if metric == "l1" else "sqeuclidean")
    if compared is not None:
        # Few genes are left out: taking their part off is cheaper than one distance matrix a perturbation.
        for i in np.flatnonzero(~compared.all(axis=1)):
            difference = np.abs(columns[:, ~compared[i]] - rows[i, ~compared[i]])
            distances[i] -= (difference if metric == "l1" else difference**2).sum(axis=1)
    return distances


def _cosine_distances(
    rows: NDArray[np.float64], columns: NDArray[np.float64], compared: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    kept = np.ones_like(rows) if compared is None else compared.astype(float)
    lengths = np.linalg.norm(rows * kept, axis=1)[:, None] * np.sqrt(kept @ (columns**2).T)
    products = (rows * kept) @ columns.T
    return 1 - np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def _n_closer(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count, for each row i, the columns that are closer than column i; a tie counts as half."""
    n = len(distances)
    own = distances[np.arange(n), np.arange(n), None]
    # Equal profiles differ by rounding, which must not decide between them.
    tolerance = 1e-11 * np.maximum(distances.max(axis=1, keepdims=True), own)
    closer = distances < own - tolerance
    tied = np.abs(distances - own) <= tolerance
    return closer.sum(axis=1) + (tied.sum(axis=1) - 1) / 2
