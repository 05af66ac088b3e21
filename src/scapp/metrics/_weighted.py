"""Errors that give most weight to the genes that a perturbation changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp.metrics._arrays import (
    array_metric,
    as_number,
    read_array,
    read_pair,
    read_reference,
    read_same_shape,
    read_weights,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@array_metric
def effect_weights(
    effects: ArrayLike,
    standard_errors: ArrayLike | None = None,
    *,
    reference: ArrayLike | None = None,
    genes: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Return weights of the genes of each perturbation, which are higher the more specifically it changes them.

    .. math:: w_{pg} = \left( \frac{|t_{pg}| - \min_h |t_{ph}|}{\max_h |t_{ph}| - \min_h |t_{ph}|} \right)^2
        \quad\text{with}\quad t_{pg} = \frac{y_{pg} - r_{pg}}{s_{pg}}

    These are the weights of :cite:p:`Mejia2025`, who use the t-statistic of a perturbation's cells against those of all
    other perturbations. Here there are no cells, so :math:`r_p` is the mean of the other perturbations and :math:`s`
    the standard error of the difference. Without standard errors, all genes of a perturbation count as equally well
    measured.

    Parameters
    ----------
    effects
        Observed log-fold-changes, shape (n_perturbations, n_genes), or (n_genes,) with a `reference`.
    standard_errors
        Their standard errors, of the same shape and positive, such as ``layers["lfc_se"]``.
    reference
        Profile to compare the effects with, shape (n_genes,), such as the mean log-fold-change of the training
        perturbations. If None, the mean of the other rows of `effects`.
    genes
        Mask or indices of the genes that are scored; all if None. All others get the weight 0.

    Returns
    -------
    Weights from 0 to 1 in the shape of `effects`; 0 for all genes of a perturbation with the same t everywhere.

    Raises
    ------
    ValueError
        If the shapes do not fit, a scored value is NaN or infinite, a standard error is not positive, or there is
        neither a reference nor a second perturbation.
    {no_numbers}
    """
    everything = read_array(effects, "effects")
    given = {"effects": effects} | ({} if standard_errors is None else {"standard_errors": standard_errors})
    chosen, *known = read_same_shape(given, genes)
    errors = known[0] if known else None
    if errors is not None and (errors <= 0).any():
        raise ValueError(
            f"{int((errors <= 0).sum())} standard errors are 0 or less: the t-statistic would be infinite. Set a "
            "floor, for example `np.maximum(se, np.quantile(se[se > 0], 0.01))`."
        )
    if reference is not None:
        t = chosen - read_reference(reference, everything.shape[-1], genes)
        spread = errors
    else:
        if chosen.ndim != 2 or len(chosen) < 2:
            raise ValueError("One perturbation has no others to be compared with: pass a reference.")
        n_others = len(chosen) - 1
        t = chosen - (chosen.sum(axis=0) - chosen) / n_others
        spread = None if errors is None else np.sqrt(errors**2 + ((errors**2).sum(axis=0) - errors**2) / n_others**2)
    size = np.abs(t if spread is None else t / spread)
    lowest, highest = size.min(axis=-1, keepdims=True), size.max(axis=-1, keepdims=True)
    weights = np.divide(size - lowest, highest - lowest, out=np.zeros_like(size), where=highest > lowest) ** 2
    if genes is None:
        return weights
    everywhere = np.zeros_like(everything)
    everywhere[..., np.asarray(genes)] = weights
    return everywhere


@array_metric
def weighted_mse(
    predicted: ArrayLike, observed: ArrayLike, weights: ArrayLike, *, genes: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    r"""Return the weighted mean squared error over genes.

    .. math:: \frac{\sum_g w_g (\hat y_g - y_g)^2}{\sum_g w_g}

    With the weights of :func:`effect_weights`, errors count where the perturbation has an effect, and not in the
    thousands of unaffected genes, which make the mean of all perturbations look good :cite:p:`Mejia2025`.

    Parameters
    ----------
    {profiles}
    weights
        Weight of each gene, 0 or more, in the shape of `observed`, or (n_genes,) to use the same in all perturbations.
    {genes}

    Returns
    -------
    One number per perturbation, in the squared unit of the input; a float for 1-d input. NaN if all weights of the
    perturbation are 0.

    Raises
    ------
    ValueError
        If the shapes do not fit, a scored value is NaN or infinite, a weight is negative, or `genes` does not fit.
    {no_numbers}
    """
    prediction, observation = read_pair(predicted, observed, genes)
    shares = read_weights(weights, np.shape(observed), genes)
    return as_number(np.sum(shares * (prediction - observation) ** 2, axis=-1))


@array_metric
def weighted_r2(
    predicted: ArrayLike,
    observed: ArrayLike,
    weights: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    genes: ArrayLike | None = None,
) -> float | NDArray[np.float64]:
    r"""Return the share of the weighted variance over genes of the observed change that is predicted.

    .. math:: 1 - \frac{\sum_g w_g (\hat y_g - y_g)^2}{\sum_g w_g (\delta_g - \bar\delta)^2}
        \quad\text{with}\quad \delta_g = y_g - r_g, \quad \bar\delta = \frac{\sum_g w_g \delta_g}{\sum_g w_g}

    :cite:p:`Mejia2025` write :math:`R^2_w(\Delta)`. The best value is 1; the best prediction of one constant change for
    all genes scores 0; there is no lower limit. It puts the weighted error on a scale that does not depend on the size
    of the effect.

    Parameters
    ----------
    {changes}
    weights
        Weight of each gene, 0 or more, in the shape of `observed`, or (n_genes,); see :func:`effect_weights`.
    reference
        Profile subtracted from both, shape (n_genes,): the mean log-fold-change of the training perturbations, as
        :cite:p:`Mejia2025` recommend, or None for the control.
    {genes}

    Returns
    -------
    One number per perturbation, at most 1; a float for 1-d input. NaN means undefined: all genes with a weight have the
    same observed change.

    Raises
    ------
    ValueError
        If the shapes do not fit, a scored value is NaN or infinite, a weight is negative, or `genes` does not fit.
    {no_numbers}
    """
    prediction, observation = read_pair(predicted, observed, genes)
    shares = read_weights(weights, np.shape(observed), genes)
    error = np.sum(shares * (prediction - observation) ** 2, axis=-1)
    change = observation
    if reference is not None:
        change = observation - read_reference(reference, np.shape(observed)[-1], genes)
    centred = change - np.sum(shares * change, axis=-1, keepdims=True)
    variance = np.sum(shares * centred**2, axis=-1)
    # If all weighted changes are equal, rounding leaves a tiny variance, which does not count.
    negligible = ~(variance > 1e-14 * np.sum(shares * change**2, axis=-1))
    return as_number(1 - error / np.where(negligible, np.nan, variance))
