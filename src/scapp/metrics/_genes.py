"""Choose the genes to score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp.metrics._arrays import read_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@checked
def top_expressed_genes(control_mean: ArrayLike, n: int = 1000) -> NDArray[np.intp]:
    """Return the genes of the highest mean expression in control cells, as the published benchmark scores them.

    See :cite:p:`AhlmannEltze2025`; equal means stay in the order of the array.

    Parameters
    ----------
    control_mean
        Mean expression of each gene in control cells, of shape (n_genes,), such as ``var["control_mean"]``. NaN counts
        as 0.
    n
        How many genes; all of them if there are fewer.

    Returns
    -------
    Indices of the genes, the highest first, of shape (min(n, n_genes),).

    Raises
    ------
    ValueError
        If `control_mean` is not 1-d or holds infinite values, or `n` is less than 1.
    TypeError
        If it does not hold numbers.
    """
    means = read_array(control_mean, "control_mean")
    if means.ndim != 1:
        raise ValueError(f"control_mean must have one value per gene, found shape {means.shape}.")
    if np.isinf(means).any():
        raise ValueError(f"{int(np.isinf(means).sum())} values of control_mean are infinite.")
    if n < 1:
        raise ValueError(f"n must be at least 1, found {n}.")
    return np.argsort(-np.nan_to_num(means, nan=0.0), kind="stable")[:n]
