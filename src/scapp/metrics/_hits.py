"""Metrics of finding the largest effects: the regulators of a gene, and the genes that a perturbation changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import average_precision_score

from scapp._checked import checked
from scapp.metrics._align import by_label
from scapp.metrics._arrays import as_number, read_same_shape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@checked
@by_label
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

    The perturbations are ordered by their score for the gene, and the first :math:`bN` are tested, with :math:`b` the
    budget and :math:`N` the number of perturbations: rounded to the next whole number, and at least one. Perturbations
    that tie at the last place count by their chance of a place, so that a constant score finds what guessing finds: the
    budget. Where there are more regulators than places, the best possible share is the places over the regulators.

    Parameters
    ----------
    scores
        Scores of shape (n_perturbations, n_genes), the largest first, such as the magnitude of predicted log-fold-changes
        or the probability of a change.
    effects
        Observed effects of the same shape, for example z-scores. Set those of a perturbation on its own target to 0,
        as it is no discovery.
    threshold
        Smallest magnitude of a hit, more than 0, in the unit of `effects`.
    budget
        Share of the perturbations that is tested, more than 0 and up to 1.
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    One share a gene, from 0 to 1; NaN for a gene without a hit, so that ``np.nanmean`` is the mean over those with one.

    Raises
    ------
    ValueError
        If the shapes differ or are not (n_perturbations, n_genes), a scored value is NaN or infinite, or `threshold`,
        `budget` or `genes` does not fit.
    TypeError
        If an array does not hold numbers.

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


@checked
@by_label
def changed_genes_auprc(
    probabilities: ArrayLike, changed: ArrayLike, *, genes: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """Compute how well probabilities of a change find the genes that changed: area under precision and recall.

    The area is scikit-learn's average precision. Guessing gets the share of the genes that changed, which differs between
    perturbations.

    Parameters
    ----------
    probabilities
        Probabilities of a change, or any score that is larger where a change is likelier, of shape
        (n_perturbations, n_genes), or (n_genes,).
    changed
        Which genes changed, of the same shape; boolean, or 0 and 1.
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    One area a perturbation, from 0 to 1, the best; a float for 1-d input. NaN where no gene changed.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, `changed` holds anything but 0 and 1, or `genes` does
        not fit.
    TypeError
        If an array does not hold numbers.
    """
    score, outcome = read_same_shape({"probabilities": probabilities, "changed": changed}, genes)
    check_binary(outcome, "changed")
    rows = zip(np.atleast_2d(score), np.atleast_2d(outcome), strict=True)
    areas = [average_precision_score(row, values) if row.any() else np.nan for values, row in rows]
    return as_number(np.array(areas).reshape(score.shape[:-1]))


@checked
@by_label
def changed_genes_precision_recall(
    called: ArrayLike, changed: ArrayLike, *, threshold: float = 0.5, genes: ArrayLike | None = None
) -> tuple[float | NDArray[np.float64], float | NDArray[np.float64]]:
    """Compute how many of the genes that are called changed did change, and how many of those that did are called.

    Parameters
    ----------
    called
        Probabilities of a change, such as ``layers["p_change"]``, or which genes are called, as 0 and 1; of shape
        (n_perturbations, n_genes), or (n_genes,).
    changed
        Which genes changed, of the same shape; boolean, or 0 and 1.
    threshold
        The probability from which on a gene is called, more than 0 and up to 1.
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    Precision and recall, one number a perturbation each; floats for 1-d input. Precision is NaN where no gene is called,
    recall where none changed.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, `changed` holds anything but 0 and 1, `called` is no
        probability, or `threshold` or `genes` does not fit.
    TypeError
        If an array does not hold numbers.

    See Also
    --------
    changed_genes_auprc : over all thresholds.

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
