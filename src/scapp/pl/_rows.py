"""Look up perturbations in an AnnData with one observation each, with errors that say what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scapp._genes import check_layer, shorten
from scapp._labels import SEPARATOR, did_you_mean, parse_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

# The function that writes each layer that plots read.
PREDICT, PSEUDOBULK = "It is filled by `APP.predict`", "It is filled by `scapp.pp.pseudobulk`"


def rows_of(
    adata: AnnData, perturbations: Sequence[str], layer: str, filled_by: str = PREDICT, *, sep: str = SEPARATOR
) -> np.ndarray:
    """Return rows of perturbations, shape (n_perturbations, n_vars), in the given order; genes of a label in any order."""
    check_layer(adata, layer, f"{filled_by}.")
    rows = adata.layers[layer][[index_of(adata, name, sep=sep) for name in perturbations]]
    return rows.toarray() if sparse.issparse(rows) else np.asarray(rows)


def observed_of(
    adata: AnnData, perturbation: str, observed: AnnData | None, layer: str, *, sep: str = SEPARATOR
) -> np.ndarray:
    """Return the observed log-fold-changes of one perturbation over the genes of `adata`, shape (n_vars,), NaN if unknown.

    They are read from `observed`, or from `adata` itself if that is None.
    """
    if observed is None:
        filled_by = f"{PSEUDOBULK}: pass the effects with observed=effects"
        return rows_of(adata, [perturbation], layer, filled_by, sep=sep)[0]
    values = rows_of(observed, [perturbation], layer, PSEUDOBULK, sep=sep)[0]
    column = observed.var_names.get_indexer(adata.var_names)
    if (column < 0).all():
        raise ValueError(
            f"No gene of adata is among those of the observed effects, which begin with {shorten(observed.var_names)}."
        )
    return np.where(column < 0, np.nan, values[column])


def index_of(adata: AnnData, perturbation: str, *, sep: str = SEPARATOR) -> int:
    """Return the position of a perturbation in ``adata.obs_names``, with its genes in any order."""
    rows = np.flatnonzero(adata.obs_names == perturbation)
    if not len(rows):
        known = set(adata.var_names)
        wanted = _genes_of(perturbation, sep, known)
        rows = np.array(
            [i for i, name in enumerate(adata.obs_names) if wanted and _genes_of(name, sep, known) == wanted]
        )
    if len(rows) == 1:
        return int(rows[0])
    columns = [key for key in adata.obs if (adata.obs[key].astype(object) == perturbation).any()]
    if columns:
        n = int((adata.obs[columns[0]].astype(object) == perturbation).sum())
        hint = f" It labels {n} observations in obs[{columns[0]!r}]: these are cells."
    else:
        hint = did_you_mean(str(perturbation), adata.obs_names)
    raise ValueError(
        f"adata has {len(rows)} observations named {perturbation!r}, expected one.{hint} Pictures take effects or "
        f"predictions with one observation per perturbation, as `model.predict([{perturbation!r}])` and "
        "`scapp.pp.pseudobulk` return."
    )


def _genes_of(label: object, sep: str, genes: set[str]) -> tuple[str, ...]:
    """Return the genes of a label in alphabetical order; empty if it is not a label, such as a cell barcode."""
    try:
        return parse_label(label, control=None, sep=sep, genes=genes)  # type: ignore[arg-type]
    except ValueError:
        return ()
