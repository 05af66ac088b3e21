"""Distances and correlations between predicted and observed profiles, and the distance between two populations of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.metrics import pairwise_distances_chunked

from scapp.metrics._arrays import (
    array_metric,
    as_number,
    check_finite,
    choose_genes,
    read_array,
    read_pair,
    read_reference,
    read_weights,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CellMetric = Literal["euclidean", "sqeuclidean"]


@array_metric
def l2(predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None) -> float | NDArray[np.float64]:
    r"""Return the Euclidean distance between each prediction and the observation.

    .. math:: \sqrt{\sum_g (\hat y_g - y_g)^2}

    This is the main score of the benchmark of :cite:p:`AhlmannEltze2025`, where it is computed over the 1,000 genes
    with the highest expression in control cells (:func:`top_expressed_genes`). Log-fold-changes and expression profiles
    give the same number if they differ by the same control mean.

    Parameters
    ----------
    {profiles}
    {genes}

    Returns
    -------
    One number per perturbation, in the unit of the input; a float for 1-d input. Divided by the square root of the number
    of genes, it is :func:`rmse`.

    Raises
    ------
    {raises}
    """
    predicted, observed = read_pair(predicted, observed, genes)
    return as_number(np.sqrt(np.sum((predicted - observed) ** 2, axis=-1)))


@array_metric
def rmse(predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None) -> float | NDArray[np.float64]:
    r"""Return the root mean square error of each prediction.

    .. math:: \sqrt{\frac{1}{G} \sum_g (\hat y_g - y_g)^2}

    Parameters
    ----------
    {profiles}
    {genes}

    Returns
    -------
    One number per perturbation, in the unit of the input; a float for 1-d input.

    Raises
    ------
    {raises}
    """
    predicted, observed = read_pair(predicted, observed, genes)
    return as_number(np.sqrt(np.mean((predicted - observed) ** 2, axis=-1)))


@array_metric
def mae(predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None) -> float | NDArray[np.float64]:
    r"""Return the mean absolute error of each prediction.

    .. math:: \frac{1}{G} \sum_g |\hat y_g - y_g|

    It depends less than :func:`rmse` on the few genes with the largest errors, and is one of the three scores of the
    Virtual Cell Challenge :cite:p:`Roohani2025`.

    Parameters
    ----------
    {profiles}
    {genes}

    Returns
    -------
    One number per perturbation, in the unit of the input; a float for 1-d input.

    Raises
    ------
    {raises}
    """
    predicted, observed = read_pair(predicted, observed, genes)
    return as_number(np.mean(np.abs(predicted - observed), axis=-1))


@array_metric
def pearson_delta(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    genes: ArrayLike | None = None,
) -> float | NDArray[np.float64]:
    r"""Return the Pearson correlation over genes between each predicted and observed change.

    .. math:: \operatorname{cor}_g(\hat y_g - r_g,\; y_g - r_g)

    With log-fold-changes as input and no reference, this is the correlation of the changes from control ("Pearson
    delta", :cite:p:`AhlmannEltze2025`). If all perturbations of a screen share a response, it is high for any
    prediction that contains this response. With the mean log-fold-change of the training perturbations as `reference`,
    it shows how well the perturbation-specific part was predicted :cite:p:`VinasTorne2025`.

    Parameters
    ----------
    {changes}
    reference
        Profile subtracted from both, shape (n_genes,): the mean log-fold-change of the training perturbations, or None for
        the control.
    weights
        Weight of each gene, 0 or more, for example from :func:`effect_weights`; in the shape of `observed`, or
        (n_genes,). If None, all genes weigh the same. The weights apply to the means and variances over genes.
    {genes}

    Returns
    -------
    One correlation per perturbation, from -1 to 1; a float for 1-d input. NaN means undefined: after subtracting the
    reference, the prediction (such as that of :class:`scapp.baselines.NoChange`) or the observation is the same for all
    scored genes. Report how many are undefined, not only the mean of the rest.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, a weight is negative, fewer than two genes are scored, or
        `genes` does not fit.
    {no_numbers}
    """
    delta_predicted, delta_observed = read_pair(predicted, observed, genes)
    if delta_observed.shape[-1] < 2:
        raise ValueError("A correlation needs at least two genes, found one.")
    if reference is not None:
        baseline = read_reference(reference, np.shape(observed)[-1], genes)
        delta_predicted, delta_observed = delta_predicted - baseline, delta_observed - baseline
    equal = np.ones(np.shape(observed)[-1])
    shares = read_weights(equal if weights is None else weights, np.shape(observed), genes)
    x, y = _standardise(delta_predicted, shares), _standardise(delta_observed, shares)
    return as_number(np.clip(np.sum(x * y, axis=-1), -1, 1))


@array_metric
def cosine(predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None) -> float | NDArray[np.float64]:
    r"""Return the cosine of the angle between each predicted change and the observed one.

    .. math:: \frac{\sum_g \hat y_g y_g}{\sqrt{\sum_g \hat y_g^2} \sqrt{\sum_g y_g^2}}

    Like :func:`pearson_delta`, but without subtracting the mean over genes. A prediction with the right pattern has a
    cosine of 1, whatever its size :cite:p:`Wu2024`.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes, shape (n_perturbations, n_genes) or (n_genes,). Do not pass expression profiles, which all
        point in the same direction.
    {genes}

    Returns
    -------
    One cosine per perturbation, from -1 to 1; a float for 1-d input. NaN means undefined: no scored gene changes in the
    prediction (as in that of :class:`scapp.baselines.NoChange`) or in the observation. Report how many are undefined,
    not only the mean of the rest.

    Raises
    ------
    {raises}
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


@array_metric
def energy_distance(
    cells: ArrayLike,
    others: ArrayLike,
    *,
    genes: ArrayLike | None = None,
    metric: CellMetric = "euclidean",
    unbiased: bool = True,
) -> float:
    r"""Compute the energy distance (E-distance) of two populations of cells.

    .. math:: 2\, \mathbb{E}\, d(x, y) - \mathbb{E}\, d(x, x') - \mathbb{E}\, d(y, y')

    with cells x, x' from one population and y, y' from the other. Its expectation is zero if both are drawn from the same
    distribution and positive otherwise: unlike a comparison of means, it responds to differences in spread and shape. Use
    it to compare predicted cells (:func:`scapp.tl.sample_cells`) with measured ones, or perturbed cells with controls
    :cite:p:`Peidli2024`.

    The distance grows with the number of genes and their noise. As usual, first reduce both populations to some
    principal components of all cells; distances in different spaces cannot be compared.

    Parameters
    ----------
    cells, others
        The two populations, shapes (n_cells, n_genes) and (n_others, n_genes); columns are genes or components. Memory
        does not grow with n_cells times n_others.
    genes
        Mask or indices of the columns to compare; all if None.
    metric
        The distance d: ``"euclidean"``, or its square ``"sqeuclidean"``, as in scPerturb. With the square only the means
        matter, and the result is twice the squared distance between them.
    unbiased
        Whether to leave a cell out of the comparison with its own population. If False, as in cell-eval, each mean
        includes distances of zero, which makes small populations look farther apart.

    Returns
    -------
    A number, in the unit of the cells (its square for ``"sqeuclidean"``). It may be slightly negative by chance if
    `unbiased`.

    Raises
    ------
    ValueError
        If the columns differ, a population has fewer than two cells, a value is NaN or infinite, or `metric` is unknown.
    {no_numbers}

    See Also
    --------
    scapp.tl.sample_cells, perturbation_discrimination

    Examples
    --------
    >>> float(scapp.metrics.energy_distance([[0.0], [1.0]], [[5.0], [6.0]]))
    8.0
    """
    read = {name: read_array(values, name) for name, values in (("cells", cells), ("others", others))}
    for name, array in read.items():
        if array.ndim != 2 or len(array) < 2:
            raise ValueError(
                f"{name} has shape {array.shape}; expected two cells or more, of shape (n_cells, n_genes)."
            )
    first, second = read["cells"], read["others"]
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"cells have {first.shape[1]} columns and others {second.shape[1]}. Expected the same genes or components in both."
        )
    first, second = (choose_genes(array, genes) for array in (first, second))
    for name, array in (("cells", first), ("others", second)):
        check_finite(array, name)
    between = _sum(first, second, metric) / (len(first) * len(second))
    within = [_sum(each, each, metric) / (len(each) * (len(each) - unbiased)) for each in (first, second)]
    return 2 * between - within[0] - within[1]


def _sum(x: NDArray[np.float64], y: NDArray[np.float64], metric: CellMetric) -> float:
    """Return the sum of all distances, without holding them."""
    parts = pairwise_distances_chunked(x, y, reduce_func=lambda block, _: block.sum(axis=1), metric=metric)
    return float(sum(part.sum() for part in parts))
