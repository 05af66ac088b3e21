"""Ranked genes in the form in which scanpy keeps them, so that its plots and tables read ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rank_genes(
    scores: NDArray[np.floating],
    lfc: NDArray[np.floating],
    groups: Sequence[str],
    genes: Sequence[str],
    *,
    groupby: str,
    reference: str,
    layer: str,
    method: str = "attention",
    n_genes: int | None = None,
) -> dict[str, Any]:
    """Genes ranked by a score, in the form of scanpy's ``rank_genes_groups``.

    Parameters
    ----------
    scores, lfc
        Score and log-fold-change of each gene, of shape (n_groups, n_genes).
    groups
        Label of each row, as it stands in ``obs[groupby]``.
    genes
        Name of each column.
    groupby, reference
        Column of `obs`, and what the log-fold-changes are relative to.
    layer
        Layer that holds the log-fold-changes.
    method
        What the score is.
    n_genes
        How many genes of each group are kept; all if None.

    Returns
    -------
    Dictionary for ``adata.uns``; p-values are NaN, as these scores have none.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n_genes]
    names = np.asarray(genes, dtype=object)[order]

    def record(columns: np.ndarray, dtype: str) -> np.recarray:
        # A list of (field, type) takes any label, "/" and "+" among them; a dictionary key would not.
        return np.rec.fromarrays(list(columns), dtype=[(group, dtype) for group in groups])

    nothing = np.full(order.shape, np.nan)
    return {
        # scanpy reads these six, some of them in single plots only.
        "params": {
            "groupby": groupby,
            "reference": reference,
            "method": method,
            "use_raw": False,
            "layer": layer,
            "corr_method": "none",
        },
        "names": record(names, "O"),
        "scores": record(np.take_along_axis(scores, order, 1), "float32"),
        "logfoldchanges": record(np.take_along_axis(lfc, order, 1), "float32"),
        "pvals": record(nothing, "float64"),
        "pvals_adj": record(nothing, "float64"),
    }
