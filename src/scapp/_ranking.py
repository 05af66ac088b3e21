"""Ranked genes in the form in which scanpy keeps them, so that its plots and tables read ours."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scapp._keys import Key
from scapp._warn import warn_user

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

# scanpy's form has one field for each group, and HDF5 describes all fields of an array in 64 kB.
MOST_GROUPS = 500
MOST_BYTES = 60_000
BYTES_OF_FIELD = 64  # in addition to the name


def fits_scanpy(groups: Sequence[str]) -> bool:
    """Return whether an h5ad file holds a ranking of these groups in scanpy's form."""
    size = sum(len(group.encode()) + BYTES_OF_FIELD for group in groups)
    return len(groups) <= MOST_GROUPS and size <= MOST_BYTES


def write_ranking(
    adata: AnnData,
    key: str,
    scores: NDArray[np.floating],
    lfc: NDArray[np.floating],
    groups: Sequence[str],
    genes: Sequence[str],
    **options: Any,
) -> None:
    """Write ranked genes into ``uns[key]`` in scanpy's form where a file holds it, else into ``uns[complete_key(key)]`` as arrays.

    The further arguments are those of :func:`rank_genes`.
    """
    if fits_scanpy(groups):
        ranked = rank_genes(scores, lfc, groups, genes, **options)
        adata.uns.pop(complete_key(key), None)
        adata.uns[key] = ranked
        return
    complete = rank_all(scores, groups, genes, **options)
    adata.uns.pop(key, None)  # of other perturbations
    adata.uns[complete_key(key)] = complete
    warn_user(
        f"{len(groups)} perturbations are more than scanpy's form of ranked genes can keep in a file ({MOST_GROUPS}, fewer of long "
        f"names): the ranking of all is in adata.uns[{complete_key(key)!r}].\nFor those that are to be drawn by scanpy, call "
        f"`scapp.tl.rank_attention_genes(adata, groups=[{groups[0]!r}, …])`."
    )


def order_for_scanpy(adata: AnnData, groupby: str) -> None:
    """Write the dendrogram for scanpy's plots if scanpy would fail, because it reduces even a few rows to 50 components."""
    import scanpy as sc

    groups = adata.obs[groupby]
    n_components = sc.settings.N_PCS
    if adata.X is None or "X_pca" in adata.obsm or not adata.n_obs <= n_components < adata.n_vars:
        return
    if (
        not isinstance(groups.dtype, pd.CategoricalDtype)
        or set(groups.cat.categories) != set(groups)
        or len(set(groups)) < 3
    ):
        return
    with warnings.catch_warnings(), contextlib.suppress(ValueError):  # of rows that do not vary
        warnings.simplefilter("ignore")
        sc.tl.dendrogram(adata, groupby, use_rep="X")


def complete_key(key: str) -> str:
    """Return the key of the complete ranking, given the key of scanpy's format."""
    return f"{key}_{Key.uns.COMPLETE}"


def rank_all(
    scores: NDArray[np.floating],
    groups: Sequence[str],
    genes: Sequence[str],
    *,
    n_genes: int | None = None,
    **params: Any,
) -> dict[str, Any]:
    """Rank genes in plain arrays, which a file holds for any number of groups.

    The dictionary for ``adata.uns`` holds `groups` (n_groups,), `genes` (n_columns,), `order` (n_groups, n_genes), the columns of
    each group from the best on, their `scores` of the same shape, and `params`.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n_genes]
    return {
        "params": _params(**params),
        "groups": np.array(groups, dtype=object),
        "genes": np.array(genes, dtype=object),
        "order": order.astype(np.int32),
        "scores": np.take_along_axis(scores, order, 1).astype(np.float32),
    }


def read_group(adata: AnnData, key: str, group: str) -> tuple[NDArray[Any], NDArray[np.float64], str]:
    """Return the genes of one group, best first, their scores, and the name of the score.

    KeyError with the key if there is no such ranking; with the group and all groups if it has no such group.
    """
    ranking = adata.uns.get(key)
    if isinstance(ranking, Mapping) and {"names", "scores"} <= set(ranking):
        groups = list(ranking["names"].dtype.names)
        if group not in groups:
            raise KeyError(group, groups)
        names, scores = ranking["names"][group], ranking["scores"][group]
    else:
        ranking = adata.uns.get(complete_key(key))
        if ranking is None:
            raise KeyError(key)
        groups = [str(name) for name in ranking["groups"]]
        if group not in groups:
            raise KeyError(group, groups)
        row = groups.index(group)
        names, scores = np.asarray(ranking["genes"], dtype=object)[ranking["order"][row]], ranking["scores"][row]
    method = str(ranking.get("params", {}).get("method", "score"))
    return np.asarray(names, dtype=object), np.asarray(scores, dtype=float), method


def rank_genes(
    scores: NDArray[np.floating],
    lfc: NDArray[np.floating],
    groups: Sequence[str],
    genes: Sequence[str],
    *,
    groupby: str,
    layer: str,
    method: str = "attention",
    n_genes: int | None = None,
) -> dict[str, Any]:
    """Return genes ranked by a score, in the format of scanpy's ``rank_genes_groups``, with NaN for p-values.

    `scores` and `lfc` have the shape (n_groups, n_genes); `groups` holds the labels of the rows as they stand in ``obs[groupby]``,
    `genes` the names of the columns; `layer` is where the log-fold-changes are and `method` what the score is. The best `n_genes` of
    each group are kept; all if None.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n_genes]
    names = np.asarray(genes, dtype=object)[order]

    def record(columns: np.ndarray, dtype: str) -> np.recarray:
        # A list of (field, type) takes any label, "/" and "+" among them; a dictionary key would not.
        return np.rec.fromarrays(list(columns), dtype=[(group, dtype) for group in groups])

    nothing = np.full(order.shape, np.nan)
    return {
        "params": _params(groupby=groupby, layer=layer, method=method),
        "names": record(names, "O"),
        "scores": record(np.take_along_axis(scores, order, 1), "float32"),
        "logfoldchanges": record(np.take_along_axis(lfc, order, 1), "float32"),
        "pvals": record(nothing, "float64"),
        "pvals_adj": record(nothing, "float64"),
    }


def _params(*, groupby: str, layer: str, method: str = "attention") -> dict[str, Any]:
    """Return the six parameters that scanpy reads, some of them in single plots only."""
    # scanpy writes the reference, the other perturbations, into titles and compares with it in violins.
    params = {"groupby": groupby, "reference": "rest", "method": method, "use_raw": False, "layer": layer}
    return params | {"corr_method": "none"}
