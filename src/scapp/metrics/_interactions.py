"""Genetic interactions: where two perturbations together do not do the sum of what each does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from scapp.metrics._arrays import array_metric, read_same_shape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Kind = Literal["synergy", "buffering", "opposite"]


@array_metric
def interaction_classes(
    observed: ArrayLike,
    additive: ArrayLike,
    *,
    singles: tuple[ArrayLike, ArrayLike] | None = None,
    share: float = 0.05,
    genes: ArrayLike | None = None,
) -> NDArray[np.str_]:
    r"""Return the kind of interaction of each double perturbation and gene.

    ============ ====================================================================================
    "additive"   not among the `share` of largest :math:`|y - a|`
    "synergy"    the change goes further than the sum of the single ones, in its direction
    "buffering"  it falls short of the sum, without passing the level of the control
    "opposite"   it goes to the other side of the control
    "other"      with `singles`: the two single changes do not go the same way, so the words do not apply
    ============ ====================================================================================

    Where the sum is exactly 0, every change goes further than it. The classes of :cite:p:`AhlmannEltze2025`, who call interactions by an empirical null at a false discovery rate of
    5 % rather than by a fixed share, and always look at the single changes.

    Parameters
    ----------
    observed
        Log-fold-changes of double perturbations, of shape (n_perturbations, n_genes), or (n_genes,).
    additive
        The sum of the log-fold-changes of the two single perturbations, of the same shape.
    singles
        The two log-fold-changes that were summed, each of the same shape; without them no value is "other".
    share
        Which part of all doubles and genes counts as interaction, between 0 and 1. Ties at the last place all count,
        a difference of exactly 0 never does.
    {genes}

    Returns
    -------
    One word for each double and chosen gene.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, or `share` or `genes` does not fit.
    {no_numbers}
    """
    arrays = {"observed": observed, "additive": additive}
    observation, total, *single = read_same_shape({**arrays, **_named(singles)}, genes)
    return np.where(_interacting(observation, total, share), _kinds(observation, total, single), "additive")


@array_metric
def interaction_auprc(
    predicted: ArrayLike,
    observed: ArrayLike,
    additive: ArrayLike,
    *,
    kind: Kind | None = None,
    singles: tuple[ArrayLike, ArrayLike] | None = None,
    share: float = 0.05,
    genes: ArrayLike | None = None,
) -> float:
    r"""Measure how well the predicted differences from additivity find the observed ones: area under precision and recall.

    All doubles and genes are ordered by :math:`|\hat y - a|`; right are the `share` of them of the largest
    :math:`|y - a|`. The area is scikit-learn's average precision. Compare it with that of the prediction of no change,
    0, and not with the `share` that guessing gets: where much changes much can deviate from the sum, so no change does
    far better than guessing, and no published model did better than it :cite:p:`AhlmannEltze2025`. Any multiple of the
    additive prediction orders as no change does.

    Parameters
    ----------
    predicted, observed, additive
        Log-fold-changes of double perturbations as predicted, as observed, and the sum of those of the two single
        perturbations, of shape (n_perturbations, n_genes), or (n_genes,).
    kind
        "synergy", "buffering" or "opposite": right are the interactions of this class (:func:`interaction_classes`)
        only, and only what is predicted to be of this class is called, in the same order. Guessing then gets the share
        of the class. None for all.
    singles
        The two log-fold-changes that were summed, for the classes; see :func:`interaction_classes`.
    share
        Which part of all doubles and genes counts as interaction, between 0 and 1.
    {genes}

    Returns
    -------
    The area, from 0 to 1, the best; NaN if there is no interaction (of the kind).

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, or `kind`, `share` or `genes` does not fit.
    {no_numbers}
    """
    prediction, observation, total, *single = read_same_shape(
        {"predicted": predicted, "observed": observed, "additive": additive, **_named(singles)}, genes
    )
    interacting, score = _interacting(observation, total, share), np.abs(prediction - total)
    if kind is not None:
        interacting &= _kinds(observation, total, single) == kind
        score = np.where(_kinds(prediction, total, single) == kind, score, 0)
    if not interacting.any():
        return float("nan")
    return float(average_precision_score(interacting.ravel(), score.ravel()))


@array_metric
def interaction_tpr_at_fdp(
    predicted: ArrayLike,
    observed: ArrayLike,
    additive: ArrayLike,
    *,
    fdp: float = 0.5,
    share: float = 0.05,
    genes: ArrayLike | None = None,
) -> float:
    r"""Return the share of the interactions that are found if at most the proportion `fdp` of what is called may be wrong.

    The largest true positive rate of any cutoff on :math:`|\hat y - a|` whose false discovery proportion is `fdp` or
    less, as in the curves of :cite:p:`AhlmannEltze2025`, who interpolate between cutoffs.

    Parameters
    ----------
    predicted, observed, additive
        As for :func:`interaction_auprc`.
    fdp
        Allowed proportion of false among called interactions, from 0 to less than 1.
    share
        Which part of all doubles and genes counts as interaction, between 0 and 1.
    {genes}

    Returns
    -------
    A share, from 0 (also if no cutoff is that clean) to 1; NaN if there is no interaction.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, or `fdp`, `share` or `genes` does not fit.
    {no_numbers}
    """
    if not 0 <= fdp < 1:
        raise ValueError(f"fdp must be from 0 to less than 1, found {fdp}.")
    prediction, observation, total = read_same_shape(
        {"predicted": predicted, "observed": observed, "additive": additive}, genes
    )
    interacting = _interacting(observation, total, share)
    if not interacting.any():
        return float("nan")
    precision, recall, _ = precision_recall_curve(interacting.ravel(), np.abs(prediction - total).ravel())
    # The last point of the curve, precision 1 at recall 0, belongs to calling nothing.
    return float(recall[precision >= 1 - fdp - 1e-12].max())


@array_metric
def interaction_sign_match(
    predicted: ArrayLike,
    observed: ArrayLike,
    additive: ArrayLike,
    *,
    share: float = 0.05,
    genes: ArrayLike | None = None,
) -> float:
    r"""Return the share of the rightly called interactions that are predicted to the right side of additivity.

    Called are the `share` of doubles and genes of the largest :math:`|\hat y - a|`; rightly, if they are among the
    `share` of the largest :math:`|y - a|`. Most interactions fall short of the sum, so that the prediction of no change
    is on the right side of most: compare with it.

    Parameters
    ----------
    predicted, observed, additive
        As for :func:`interaction_auprc`.
    share
        Which part of all doubles and genes counts as interaction, and is called, between 0 and 1.
    {genes}

    Returns
    -------
    A share, from 0 to 1; NaN if nothing is rightly called.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, or `share` or `genes` does not fit.
    {no_numbers}
    """
    prediction, observation, total = read_same_shape(
        {"predicted": predicted, "observed": observed, "additive": additive}, genes
    )
    rightly = _interacting(observation, total, share) & _interacting(prediction, total, share)
    if not rightly.any():
        return float("nan")
    return float(np.mean(np.sign(prediction - total)[rightly] == np.sign(observation - total)[rightly]))


def _named(singles: tuple[ArrayLike, ArrayLike] | None) -> dict[str, ArrayLike]:
    return {} if singles is None else {"singles[0]": singles[0], "singles[1]": singles[1]}


def _interacting(values: NDArray[np.float64], additive: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Return whether a value is among the share of largest differences from additivity."""
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, found {share}.")
    difference = np.abs(values - additive)
    n = max(1, round(share * difference.size))
    cutoff = np.partition(difference, difference.size - n, axis=None)[difference.size - n]
    return (difference >= cutoff) & (difference > 0)


def _kinds(
    values: NDArray[np.float64], additive: NDArray[np.float64], singles: list[NDArray[np.float64]]
) -> NDArray[np.str_]:
    """Return the class of each value, as if all interacted."""
    # Along the direction of the sum, the control is at 0 and the sum at its size.
    along = values * np.sign(additive)
    kinds = np.select([along < 0, along < np.abs(additive)], ["opposite", "buffering"], "synergy")
    if singles:
        signs = [np.sign(single) for single in singles]
        kinds = np.where((signs[0] == signs[1]) & (signs[0] != 0), kinds, "other")
    return kinds
