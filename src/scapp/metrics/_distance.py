"""Distances between predicted and observed profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp.metrics._align import by_label
from scapp.metrics._arrays import as_number, read_pair

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@checked
@by_label
def l2(predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None) -> float | NDArray[np.float64]:
    r"""Return the Euclidean distance of each prediction from what was observed.

    .. math:: \sqrt{\sum_g (\hat y_g - y_g)^2}

    The main score of the benchmark of :cite:p:`AhlmannEltze2025`, there over the 1,000 genes of the highest expression
    in control cells (:func:`top_expressed_genes`). Log-fold-changes and expression profiles give the same number if
    they differ by the same control mean.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes or profiles of shape (n_perturbations, n_genes), or (n_genes,).
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    One number per perturbation, in the unit of the input; a float for 1-d input. Divided by the square root of the number
    of genes, it is :func:`rmse`.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, or `genes` chooses none or does not fit.
    TypeError
        If an array does not hold numbers.
    """
    predicted, observed = read_pair(predicted, observed, genes)
    return as_number(np.sqrt(np.sum((predicted - observed) ** 2, axis=-1)))


@checked
@by_label
def rmse(predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None) -> float | NDArray[np.float64]:
    r"""Return the root mean square error of each prediction.

    .. math:: \sqrt{\frac{1}{G} \sum_g (\hat y_g - y_g)^2}

    Parameters
    ----------
    predicted, observed
        Log-fold-changes or profiles of shape (n_perturbations, n_genes), or (n_genes,).
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    One number per perturbation, in the unit of the input; a float for 1-d input.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, or `genes` chooses none or does not fit.
    TypeError
        If an array does not hold numbers.
    """
    predicted, observed = read_pair(predicted, observed, genes)
    return as_number(np.sqrt(np.mean((predicted - observed) ** 2, axis=-1)))


@checked
@by_label
def mae(predicted: ArrayLike, observed: ArrayLike, *, genes: ArrayLike | None = None) -> float | NDArray[np.float64]:
    r"""Return the mean absolute error of each prediction.

    .. math:: \frac{1}{G} \sum_g |\hat y_g - y_g|

    Less ruled by the few genes of the largest error than :func:`rmse`; one of the three scores of the Virtual Cell
    Challenge :cite:p:`Roohani2025`.

    Parameters
    ----------
    predicted, observed
        Log-fold-changes or profiles of shape (n_perturbations, n_genes), or (n_genes,).
    genes
        Mask or indices of the genes to score; all if None.

    Returns
    -------
    One number per perturbation, in the unit of the input; a float for 1-d input.

    Raises
    ------
    ValueError
        If the shapes differ, a scored value is NaN or infinite, or `genes` chooses none or does not fit.
    TypeError
        If an array does not hold numbers.
    """
    predicted, observed = read_pair(predicted, observed, genes)
    return as_number(np.mean(np.abs(predicted - observed), axis=-1))
