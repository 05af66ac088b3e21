"""Writing predictions into AnnData, all at once after everything has been computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

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


def rank_genes(
    scores: np.ndarray,
    lfc: np.ndarray,
    groups: Sequence[str],
    genes: Sequence[str],
    *,
    groupby: str,
    reference: str,
) -> dict:
    """Genes ranked by attention, in the form of scanpy's ``rank_genes_groups``.

    Parameters
    ----------
    scores, lfc
        Attention and predicted log-fold-changes of shape (n_groups, n_genes).
    groups
        Label of each row, as it stands in ``obs[groupby]``.
    genes
        Name of each column.
    groupby, reference
        Column of `obs`, and what the log-fold-changes are relative to.

    Returns
    -------
    Dictionary for ``adata.uns``; p-values are NaN, as attention has none.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    names = np.asarray(genes, dtype=object)[order]

    def record(columns: np.ndarray, dtype: str) -> np.recarray:
        # A list of (field, type) takes any label, "/" and "+" among them; a dictionary key would not.
        return np.rec.fromarrays(list(columns), dtype=[(group, dtype) for group in groups])

    nothing = np.full(order.shape, np.nan)
    return {
        "params": {
            "groupby": groupby,
            "reference": reference,
            "method": "attention",
            "use_raw": False,
            "layer": Key.layers.PREDICTED_LFC,
            "corr_method": "none",
        },
        "names": record(names, "O"),
        "scores": record(np.take_along_axis(scores, order, 1), "float32"),
        "logfoldchanges": record(np.take_along_axis(lfc, order, 1), "float32"),
        "pvals": record(nothing, "float64"),
        "pvals_adj": record(nothing, "float64"),
    }
