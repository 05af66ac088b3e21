"""One row for each perturbation, from the layers of predictions, effects or cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._effects import label_column
from scapp._genes import shorten
from scapp._labels import column_of_obs

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def labels_of(adata: AnnData, key: str, argument: str) -> pd.Series:
    """Return the label of each observation, as text."""
    return column_of_obs(adata, label_column(adata, key), argument).astype(str)


def check_layer(adata: AnnData, layer: str, filled_by: str) -> None:
    """Raise unless the layer is there, saying which function fills it."""
    if layer not in adata.layers:
        layers = shorten(repr(key) for key in adata.layers if isinstance(key, str)) or "none"
        raise ValueError(f"adata has no layer {layer!r}; its layers are {layers}. It is filled by {filled_by}.")


def mean_rows(adata: AnnData, layer: str, labels: pd.Series, wanted: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean of a layer over the observations of each label, of shape (n_wanted, n_vars)."""
    return mean_of(adata.layers[layer], labels, wanted)


def mean_of(values: Any, labels: pd.Series, wanted: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean of rows over the observations of each label, of shape (n_wanted, n_columns).

    Cells of one perturbation were given the same prediction; their mean is that prediction.
    """
    place = pd.Index(wanted).get_indexer(pd.Index(labels))
    used = np.flatnonzero(place >= 0)
    if len(used) == len(wanted):
        rows = used[np.argsort(place[used], kind="stable")]
        return _dense(values[rows])
    # Only the rows of a label enter its mean: NaN, as control cells have for attention, stays with its own label.
    weights = sparse.csr_matrix((np.ones(len(used)), (place[used], used)), shape=(len(wanted), len(labels)))
    return _dense(weights @ values) / np.asarray(weights.sum(axis=1)).reshape(-1, 1)


def _dense(values: object) -> NDArray[np.float64]:
    return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)  # type: ignore[attr-defined]
