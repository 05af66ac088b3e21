"""Writing predictions into AnnData, all at once after everything has been computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._genes import shorten
from scapp._keys import Key


@dataclass(frozen=True)
class Results:
    """Predictions of n perturbations over all genes; NaN where a gene was not measured.

    `lfc`, `std` and `attention` have the shape (n_perturbations, n_vars), float32.
    """

    lfc: np.ndarray
    std: np.ndarray
    attention: np.ndarray
    obs: pd.DataFrame

    def layers(self, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The layers, of some rows (repeated as often as asked)."""
        values = {
            Key.layers.PREDICTED_LFC: self.lfc,
            Key.layers.PREDICTED_LFC_STD: self.std,
            Key.layers.ATTENTION: self.attention,
        }
        return values if rows is None else {key: value[rows] for key, value in values.items()}


def over_all_genes(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Spread columns of measured genes over all genes, NaN elsewhere."""
    # Taking columns, the last of which is NaN, is several times faster than assigning to columns chosen by a mask.
    column = np.where(measured, np.cumsum(measured) - 1, values.shape[1])
    with_nan = np.column_stack([values, np.full(len(values), np.nan, dtype=np.float32)])
    return np.take(with_nan, column, axis=1).astype(np.float32, copy=False)


def profile_of(
    control_mean: AnnData | pd.Series | np.ndarray, genes: Sequence[str], measured: np.ndarray
) -> np.ndarray:
    """Mean expression of control cells over the genes of a model, from what a user has of it.

    Raises
    ------
    ValueError
        If the profile lacks a measured gene, has another length, or is no expression.
    """
    if isinstance(control_mean, AnnData):
        if Key.var.CONTROL_MEAN not in control_mean.var:
            raise ValueError(
                "This AnnData has no var['control_mean']. Calculate its effects with `scapp.pp.pseudobulk`, or pass the mean "
                "log-normalised expression of its control cells as a Series indexed by gene."
            )
        control_mean = control_mean.var[Key.var.CONTROL_MEAN]
    if isinstance(control_mean, pd.Series):
        control_mean = control_mean.reindex(genes)
    profile = np.asarray(control_mean, dtype=np.float32)
    if profile.shape != (len(genes),):
        raise ValueError(
            f"control_mean has the shape {profile.shape}, expected one value for each of the {len(genes)} genes of the model "
            "(model.genes). Pass a Series indexed by gene."
        )
    absent = np.array(genes, dtype=object)[measured & np.isnan(profile)]
    if len(absent):
        raise ValueError(
            f"control_mean has no value for {len(absent)} of the {int(measured.sum())} measured genes: {shorten(absent)}."
        )
    if (profile < 0).any():
        raise ValueError("control_mean holds negative values: expected mean log1p of counts per 10,000.")
    return profile


def new_anndata(
    obs: pd.DataFrame,
    genes: Sequence[str],
    measured: np.ndarray,
    control_mean: np.ndarray | None,
    results: Results | None = None,
) -> AnnData:
    """Predictions as an AnnData of their own; `X` is the predicted mean expression where that of the controls is known.

    Without results, `X` and the layers are left out.
    """
    var = pd.DataFrame({Key.var.MEASURED: measured}, index=pd.Index(genes, dtype=object))
    X = None
    if control_mean is not None:
        var[Key.var.CONTROL_MEAN] = control_mean
        if results is not None:
            X = np.maximum(control_mean + results.lfc, 0)  # log1p expression cannot be negative
    return AnnData(X=X, obs=obs, var=var, layers=None if results is None else results.layers())
