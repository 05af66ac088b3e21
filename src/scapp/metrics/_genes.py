"""The genes to score, and how well the largest effects are found: the genes that a perturbation changes, the regulators of a gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import average_precision_score

from scapp._checked import checked
from scapp._docs import documented
from scapp.metrics._arrays import SHARED, array_metric, as_number, by_label, read_array, read_pair, read_same_shape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@checked
def top_expressed_genes(control_mean: ArrayLike, n: int = 1000) -> NDArray[np.intp]:
    """Return the genes with the highest mean expression in control cells, which the published benchmark scores.

    See :cite:p:`AhlmannEltze2025`. Ties keep the order of the array.

    Parameters
    ----------
    control_mean
        Mean expression of each gene in control cells, shape (n_genes,), such as ``var["control_mean"]``. NaN counts as
        0.
    n
        Number of genes; all genes if there are fewer.

    Returns
    -------
    Indices of the genes, the highest first, shape (min(n, n_genes),).

    Raises
    ------
    ValueError
        If `control_mean` is not 1-d or holds infinite values, or `n` is less than 1.
    TypeError
        If it does not hold numbers.
    """
    means = read_array(control_mean, "control_mean")
    if means.ndim != 1:
        raise ValueError(f"control_mean must have one value per gene, found shape {means.shape}.")
    if np.isinf(means).any():
        raise ValueError(f"{int(np.isinf(means).sum())} values of control_mean are infinite.")
    if n < 1:
        raise ValueError(f"n must be at least 1, found {n}.")
    return np.argsort(-np.nan_to_num(means, nan=0.0), kind="stable")[:n]


@checked(own=("k",))
@by_label
@documented(SHARED)
def top_k_overlap(
    predicted: ArrayLike, observed: ArrayLike, k: int, *, genes: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    r"""Return the overlap of the k genes with the largest observed and the k with the largest predicted change.

    .. math:: \frac{1}{k} \bigl| \operatorname{top}_k |\hat y| \cap \operatorname{top}_k |y| \bigr|

    The direction of the changes is ignored; see :func:`direction_match`. If fewer than k genes change in the
    observation, k is their number. A gene with no predicted change never counts as one of the largest, so the
    prediction of no change scores 0. Predicted genes that tie for the last place count by their chance of a place;
    observed genes that tie for it all count as right. This is the overlap at k of cell-eval :cite:p:`Roohani2025` among
    genes that are significant in both, except that cell-eval breaks ties by the order of the genes and returns 0
    instead of NaN.

    Parameters
    ----------
    {changes}
    k
        How many genes.
    {genes}

    Returns
    -------
    One share per perturbation, from 0 to 1; a float for 1-d input. NaN if no gene changes in the observation.

    Raises
    ------
    ValueError
        If `k` is less than 1, the shapes differ, a scored value is NaN or infinite, or `genes` does not fit.
    {no_numbers}
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


@array_metric
def direction_match(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    k: int | None = None,
    threshold: float | None = None,
    genes: ArrayLike | None = None,
) -> float | NDArray[np.float64]:
    r"""Return the share of the most changed genes that are predicted to change in the right direction.

    .. math:: \frac{1}{|S|} \sum_{g \in S} [\operatorname{sign} \hat y_g = \operatorname{sign} y_g]

    S contains the k genes with the largest observed change (and all that tie for the last place), or all with an
    observed change of at least `threshold`. A predicted change of exactly 0 counts as wrong; guessing scores 0.5. This
    is the direction match of cell-eval :cite:p:`Roohani2025`, where S contains the genes with a significant change.

    Parameters
    ----------
    {changes}
    k
        How many genes. Pass this or `threshold`.
    threshold
        Smallest observed change that counts, more than 0, in the unit of the log-fold-changes.
    {genes}

    Returns
    -------
    One share per perturbation, from 0 to 1; a float for 1-d input. NaN if no gene changes that much.

    Raises
    ------
    ValueError
        If not exactly one of `k` and `threshold` is given or it is too small, the shapes differ, a scored value is NaN
        or infinite, or `genes` does not fit.
    {no_numbers}
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


@array_metric
def hit_discovery_recall(
    scores: ArrayLike,
    effects: ArrayLike,
    *,
    threshold: float = 2.0,
    budget: float = 0.1,
    genes: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Compute the share of a gene's true regulators that a follow-up screen of limited size would find.

    .. math:: \frac{|\operatorname{top}_{bN}(s_{\cdot g}) \cap H_g|}{|H_g|}, \qquad
        H_g = \{p : |y_{pg}| \ge \text{threshold}\}

    The perturbations are ordered by their score for the gene, and the first :math:`bN` are tested, where :math:`b` is
    the budget and :math:`N` the number of perturbations; :math:`bN` is rounded and at least one. Perturbations that tie
    for the last place count by their chance of a place, so a constant score does as well as guessing, whose share is
    the budget. If there are more regulators than places, the best possible share is the number of places divided by
    that of regulators.

    Parameters
    ----------
    scores
        Scores, shape (n_perturbations, n_genes), such as the magnitude of predicted log-fold-changes or the probability
        of a change; perturbations with larger scores are tested first.
    effects
        Observed effects of the same shape, for example z-scores. Set the effect of a perturbation on its own target to
        0, because it is no discovery.
    threshold
        Smallest magnitude of a hit, more than 0, in the unit of `effects`.
    budget
        Share of the perturbations that is tested, more than 0 and up to 1.
    {genes}

    Returns
    -------
    One share per gene, from 0 to 1; NaN for a gene without a hit, so that ``np.nanmean`` averages over genes with hits.

    Raises
    ------
    ValueError
        If the shapes differ or are not (n_perturbations, n_genes), a scored value is NaN or infinite, or `threshold`,
        `budget` or `genes` does not fit.
    {no_numbers}

    Examples
    --------
    >>> scores, z_scores = np.array([[3.0], [2.0], [1.0], [0.0]]), np.array([[2.5], [0.0], [-4.0], [0.0]])
    >>> float(scapp.metrics.hit_discovery_recall(scores, z_scores, budget=0.5)[0])
    0.5
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be more than 0, found {threshold}.")
    if not 0 < budget <= 1:
        raise ValueError(f"budget must be more than 0 and at most 1, found {budget}.")
    score, effect = read_same_shape({"scores": scores, "effects": effects}, genes)
    if score.ndim != 2 or not len(score):
        raise ValueError(f"Expected arrays of shape (n_perturbations, n_genes), found {score.shape}.")
    hit = np.abs(effect) >= threshold
    n_tested = max(1, int(np.floor(budget * len(score) + 0.5)))
    cutoff = np.sort(score, axis=0)[len(score) - n_tested]
    surely, tied = score > cutoff, score == cutoff
    chance = (n_tested - surely.sum(axis=0)) / tied.sum(axis=0)
    found = np.sum(hit * (surely + tied * chance), axis=0)
    n_hits = hit.sum(axis=0)
    return found / np.where(n_hits > 0, n_hits, np.nan)


@array_metric
def changed_genes_auprc(
    probabilities: ArrayLike, changed: ArrayLike, *, genes: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """Compute how well probabilities of a change find the genes that changed: area under the precision-recall curve.

    The area is scikit-learn's average precision. Guessing scores the share of genes that changed, which differs between
    perturbations.

    Parameters
    ----------
    probabilities
        Probabilities of a change, or any score that increases with them, shape (n_perturbations, n_genes) or
        (n_genes,).
    changed
        Mask of the genes that changed, of the same shape; boolean, or 0 and 1.
    {genes}

    Returns
    -------
    One area per perturbation, from 0 to 1 (best); a float for 1-d input. NaN if no gene changed.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, `changed` holds anything but 0 and 1, or `genes` does
        not fit.
    {no_numbers}
    """
    score, outcome = read_same_shape({"probabilities": probabilities, "changed": changed}, genes)
    check_binary(outcome, "changed")
    rows = zip(np.atleast_2d(score), np.atleast_2d(outcome), strict=True)
    areas = [average_precision_score(row, values) if row.any() else np.nan for values, row in rows]
    return as_number(np.array(areas).reshape(score.shape[:-1]))


@array_metric
def changed_genes_precision_recall(
    called: ArrayLike, changed: ArrayLike, *, threshold: float = 0.5, genes: ArrayLike | None = None
) -> tuple[float | NDArray[np.float64], float | NDArray[np.float64]]:
    """Compute the precision and recall of calling genes changed.

    Parameters
    ----------
    called
        Probabilities of a change, such as ``layers["p_change"]``, or the calls themselves as 0 and 1; shape
        (n_perturbations, n_genes) or (n_genes,).
    changed
        Mask of the genes that changed, of the same shape; boolean, or 0 and 1.
    threshold
        Smallest probability at which a gene is called, more than 0 and at most 1.
    {genes}

    Returns
    -------
    Precision and recall, with one number per perturbation; floats for 1-d input. Precision is NaN if no gene is called,
    and recall if none changed.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, `changed` holds anything but 0 and 1, `called` is no
        probability, or `threshold` or `genes` does not fit.
    {no_numbers}

    See Also
    --------
    changed_genes_auprc : area over all thresholds.

    Examples
    --------
    >>> precision, recall = scapp.metrics.changed_genes_precision_recall([0.9, 0.6, 0.2, 0.1], [1, 0, 1, 0])
    >>> precision, recall
    (0.5, 0.5)
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be more than 0 and at most 1, found {threshold}.")
    score, outcome = read_same_shape({"called": called, "changed": changed}, genes)
    check_binary(outcome, "changed")
    if (score < 0).any() or (score > 1).any():
        raise ValueError(
            f"called reaches from {score.min():.3g} to {score.max():.3g}; expected probabilities, from 0 to 1, or which genes are "
            "called, for example `np.abs(lfc) > threshold`."
        )
    positive = score >= threshold
    right = (positive * outcome).sum(axis=-1)
    n_called, n_changed = positive.sum(axis=-1), outcome.sum(axis=-1)
    precision = right / np.where(n_called > 0, n_called, np.nan)
    return as_number(precision), as_number(right / np.where(n_changed > 0, n_changed, np.nan))


def check_binary(outcomes: NDArray[np.float64], name: str) -> None:
    """Raise if an outcome is neither 0 nor 1."""
    other = (outcomes != 0) & (outcomes != 1)
    if other.any():
        raise ValueError(
            f"{int(other.sum())} values of {name} are neither 0 nor 1, the first {outcomes[other][0]:g}. Pass what happened, for "
            "example `np.abs(lfc) > threshold`."
        )
