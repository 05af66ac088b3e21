"""Compute the score of a perfect prediction, and the share of what can be explained that a prediction explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp.metrics._arrays import array_metric, as_number, read_array, read_same_shape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@array_metric
def noise_ceiling(
    half_1: ArrayLike, half_2: ArrayLike, *, genes: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    r"""Compute the L2 that even a perfect prediction would have because of measurement noise.

    .. math:: \tfrac12 \sqrt{\sum_g (h_{1g} - h_{2g})^2}

    Split the cells of a perturbation at random into two halves and compute the effect of each,
    :math:`h_1 = t + e_1` and :math:`h_2 = t + e_2`, with the same truth :math:`t` and independent errors of mean 0 and
    variance :math:`v_g`. The effect of all cells is :math:`y = (h_1 + h_2) / 2 = t + (e_1 + e_2) / 2`. The observed
    difference is :math:`h_1 - h_2 = e_1 - e_2`, so

    .. math::
        \mathbb{E} \lVert h_1 - h_2 \rVert^2 = \sum_g 2 v_g, \qquad
        \mathbb{E} \lVert t - y \rVert^2 = \sum_g \tfrac{v_g}{2}
        = \tfrac14\, \mathbb{E} \lVert h_1 - h_2 \rVert^2.

    The squared distance between the halves is four times the squared error of the truth against the whole measurement:
    a factor of two because each half has twice the variance of the whole, and another because both halves are noisy.
    The distance is therefore twice the error. If errors are symmetric, :math:`e_1 - e_2` and :math:`e_1 + e_2` have the
    same distribution, so this is exact for the mean L2 and not only for its square. Average over several random splits
    to reduce the noise.

    Two cautions. For log-fold-changes, the mean of the halves equals the whole only approximately. And if the halves
    share all control cells, the error of the control is not counted, which is right for a method that was trained with
    the same control.

    Parameters
    ----------
    half_1, half_2
        Effects of the two halves of the cells of each perturbation, shape (n_perturbations, n_genes) or (n_genes,). The
        halves must have the same number of cells.
    {genes}

    Returns
    -------
    One L2 per perturbation, in the unit of the input, to compare with :func:`l2` over the same genes; a float for 1-d
    input.

    Raises
    ------
    {raises}
    """
    first, second = read_same_shape({"half_1": half_1, "half_2": half_2}, genes)
    return as_number(np.sqrt(np.sum((first - second) ** 2, axis=-1)) / 2)


@array_metric
def explained_gap(l2: ArrayLike, l2_no_change: ArrayLike, ceiling: ArrayLike) -> float | NDArray[np.float64]:
    r"""Return the share of the gap between no change and the best possible that a method closes.

    .. math:: \frac{\text{L2}_\text{no change} - \text{L2}}{\text{L2}_\text{no change} - \text{L2}_\text{ceiling}}

    The prediction of no change gets 0 and the truth would get 1; a method that is worse than no change is negative.
    Pass means over the perturbations instead of averaging the shares, because a perturbation with almost no effect has
    almost no gap, and its share is mostly noise. The idea of using a positive as well as a negative control is from
    :cite:p:`Miller2025`.

    Parameters
    ----------
    l2
        Error of a method (:func:`l2`): one number, or one per perturbation.
    l2_no_change
        Error of the prediction of no change, of the same shape or a number; you may use another baseline instead.
    ceiling
        Error of a perfect prediction (:func:`noise_ceiling`), of the same shape or a number.

    Returns
    -------
    One share for each number given; a float for numbers. NaN if no change is no worse than a perfect prediction,
    because there is no gap to close. NaN in the input gives NaN.

    Raises
    ------
    ValueError
        If the shapes do not fit together or an error is negative.
    TypeError
        If an argument does not hold numbers.
    """
    named = {"l2": l2, "l2_no_change": l2_no_change, "ceiling": ceiling}
    arrays = {name: read_array(values, name) for name, values in named.items()}
    for name, array in arrays.items():
        if (array < 0).any():
            raise ValueError(f"{int((array < 0).sum())} values of {name} are negative; expected errors.")
    error, no_change, best = _broadcast(arrays)
    gap = no_change - best
    return as_number((no_change - error) / np.where(gap > 0, gap, np.nan))


@array_metric
def calibrated_score(score: ArrayLike, null: ArrayLike, best: ArrayLike) -> float | NDArray[np.float64]:
    r"""Return the position of a score between those of an uninformative and of a perfect prediction.

    .. math:: \frac{s - s_\text{null}}{s_\text{best} - s_\text{null}}

    The null gets 0 and the best 1; anything worse than the null is negative. This puts errors and correlations on one scale on
    which they can be averaged, and no longer rewards uninformative predictions. With the mean of the training perturbations or
    a random prediction as the null and a perfect prediction as the best, it is the scaled score of cell-eval
    :cite:p:`Roohani2025`, which cuts off at 0. With a positive control (a replicate of the measurement) as the score, a
    negative one as the null and a perfect prediction as the best, it is the dynamic range fraction of :cite:p:`Miller2025`:
    how much of its range a metric can use on these data.

    Parameters
    ----------
    score
        Score of a method: one number, one per perturbation, or one per method.
    null
        Score of a prediction without information about individual perturbations, of the same shape or a number.
    best
        Score of a perfect prediction, of the same shape or a number: 0 for errors, 1 for correlations; or that of the best
        possible one, such as :func:`noise_ceiling`.

    Returns
    -------
    One share for each number given; a float for numbers. NaN where there is no range: null and best are the same or,
    among several, in the reverse order of most. NaN in the input gives NaN. Pass means over perturbations instead of
    averaging the shares, because the share of a perturbation with hardly any range is mostly noise.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    TypeError
        If an argument does not hold numbers.

    See Also
    --------
    explained_gap : the same of the L2, between no change and the noise ceiling.
    scapp.benchmark.calibrated : the table of a benchmark on this scale.

    Examples
    --------
    >>> scapp.metrics.calibrated_score(score=3.0, null=4.0, best=0.0)
    0.25
    """
    named = {"score": score, "null": null, "best": best}
    own, nothing, perfect = _broadcast({name: read_array(values, name) for name, values in named.items()})
    gap = perfect - nothing
    # Whether a larger or a smaller score is the better one is the same for all.
    side = np.sign(np.nansum(np.sign(gap)))
    return as_number((own - nothing) / np.where(gap * side > 0, gap, np.nan))


def _broadcast(arrays: dict[str, NDArray[np.float64]]) -> tuple[NDArray[np.float64], ...]:
    try:
        return np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"Expected numbers, or one each for the same perturbations; found {shapes}.") from None
