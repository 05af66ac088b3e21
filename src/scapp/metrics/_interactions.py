"""Genetic interactions: deviations of double perturbations from the sum of the single effects."""

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
    r"""Return the class of the interaction of each double perturbation in each gene.

    ============ ====================================================================================
    "additive"   not among the `share` of largest :math:`|y - a|`
    "synergy"    the change goes further than the sum of the single ones, in its direction
    "buffering"  it falls short of the sum, without passing the level of the control
    "opposite"   it goes to the other side of the control
    "other"      with `singles`: the two single changes do not go the same way, so the words do not apply
    ============ ====================================================================================

    If the sum is exactly 0, every change goes further. These are the classes of :cite:p:`AhlmannEltze2025`, who call
    interactions by an empirical null at a false discovery rate of 5 % instead of by a fixed share, and always use the
    single changes.

    Parameters
    ----------
    observed
        Log-fold-changes of double perturbations, of shape (n_perturbations, n_genes), or (n_genes,).
    additive
        The sum of the log-fold-changes of the two single perturbations, of the same shape.
    singles
        The two log-fold-changes in the sum, each of the same shape; without them no value is "other".
    share
        Share of all values (doubles times genes) that count as interactions, between 0 and 1. Ties for the last place
        all count; a difference of exactly 0 never does.
    {genes}

    Returns
    -------
    One class name for each double and scored gene.

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
    r"""Compute how well predicted differences from additivity find observed ones: area under the precision-recall curve.

    All values (doubles times genes) are ordered by :math:`|\hat y - a|`; the `share` with the largest :math:`|y - a|`
    are the true interactions. The area is scikit-learn's average precision. Compare it with that of predicting no
    change (zeros), and not with guessing, which scores the `share`: large changes can deviate more from the sum, so no
    change does far better than guessing, and no published model beat it :cite:p:`AhlmannEltze2025`. Any multiple of the
    additive prediction gives the same order as no change.

    Parameters
    ----------
    predicted, observed, additive
        Predicted and observed log-fold-changes of double perturbations, and the sums of those of the two single
        perturbations, shape (n_perturbations, n_genes) or (n_genes,).
    kind
        "synergy", "buffering" or "opposite": only interactions of this class (:func:`interaction_classes`) count as
        true, and only values predicted to be in this class are called, in the same order. Guessing then scores the
        share of the class. None for all classes.
    singles
        The two log-fold-changes in the sum, for the classes; see :func:`interaction_classes`.
    share
        Share of all values (doubles times genes) that count as interactions, between 0 and 1.
    {genes}

    Returns
    -------
    The area, from 0 to 1 (best); NaN if there is no interaction (of this class).

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
    r"""Return the share of interactions found if at most the proportion `fdp` of the calls may be wrong.

    This is the largest true positive rate over all cutoffs on :math:`|\hat y - a|` whose false discovery proportion is
    at most `fdp`, as in the curves of :cite:p:`AhlmannEltze2025`, who interpolate between cutoffs.

    Parameters
    ----------
    predicted, observed, additive
        As for :func:`interaction_auprc`.
    fdp
        Allowed proportion of false calls, from 0 to less than 1.
    share
        Share of all values (doubles times genes) that count as interactions, between 0 and 1.
    {genes}

    Returns
    -------
    A share from 0 (also if no cutoff meets `fdp`) to 1; NaN if there is no interaction.

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
    r"""Return the share of correctly called interactions that are predicted on the right side of the sum.

    The `share` of values (doubles times genes) with the largest :math:`|\hat y - a|` are called, correctly so if they
    are among the `share` with the largest :math:`|y - a|`. Most interactions fall short of the sum, so the prediction
    of no change is on the right side of most of them; compare with it.

    Parameters
    ----------
    predicted, observed, additive
        As for :func:`interaction_auprc`.
    share
        Share of all values that count as interactions, and that are called, between 0 and 1.
    {genes}

    Returns
    -------
    A share from 0 to 1; NaN if nothing is correctly called.

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
    """Return a mask of the values among the share with the largest differences from additivity."""
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, found {share}.")
    difference = np.abs(values - additive)
    n = max(1, round(share * difference.size))
    cutoff = np.partition(difference, difference.size - n, axis=None)[difference.size - n]
    return (difference >= cutoff) & (difference > 0)


def _kinds(
    values: NDArray[np.float64], additive: NDArray[np.float64], singles: list[NDArray[np.float64]]
) -> NDArray[np.str_]:
    """Return the class that each value has if it is an interaction."""
    # Along the direction of the sum, the control is at 0 and the sum at its size.
    along = values * np.sign(additive)
    kinds = np.select([along < 0, along < np.abs(additive)], ["opposite", "buffering"], "synergy")
    if singles:
        signs = [np.sign(single) for single in singles]
        kinds = np.where((signs[0] == signs[1]) & (signs[0] != 0), kinds, "other")
    return kinds
