"""One row for each perturbation, from the layers of predictions, effects or cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._effects import label_column
from scapp._labels import column_of_obs

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

# Which function fills the layers of predictions, for messages.
FILLED = "It is filled by `APP.predict`."


def labels_of(adata: AnnData, key: str) -> pd.Series:
    """Return the label of each observation, as text."""
    return column_of_obs(adata, label_column(adata, key), "perturbation_key").astype(str)


def mean_rows(values: Any, labels: pd.Series, wanted: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean of rows over the observations of each label, of shape (n_wanted, n_columns).

    Cells of one perturbation were given the same prediction; their mean is that prediction.
    """
    place = pd.Index(wanted).get_indexer(pd.Index(labels))
    used = np.flatnonzero(place >= 0)
    if len(used) == len(wanted):
        return dense(values[used[np.argsort(place[used], kind="stable")]])
    # Only the rows of a label enter its mean, so NaN (such as the attention of control cells) stays with its label.
    weights = sparse.csr_matrix((np.ones(len(used)), (place[used], used)), shape=(len(wanted), len(labels)))
    return dense(weights @ values) / np.asarray(weights.sum(axis=1)).reshape(-1, 1)


def dense(values: Any) -> NDArray[np.float64]:
    """Return the values of a layer, sparse or not."""
    return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)
