"""Reading the arrays of a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def read_pair(
    predicted: ArrayLike, observed: ArrayLike, genes: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both arrays in float64, of one shape, with the chosen genes only and no NaN; or an error that says what is wrong."""
    arrays = [read_array(predicted, "predicted"), read_array(observed, "observed")]
    shapes = [array.shape for array in arrays]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"predicted has shape {shapes[0]} and observed {shapes[1]}. Expected the same perturbations and genes in "
            "the same order in both: (n_genes,) or (n_perturbations, n_genes)."
        )
    if not 1 <= len(shapes[0]) <= 2:
        raise ValueError(f"Expected arrays of shape (n_genes,) or (n_perturbations, n_genes), found {shapes[0]}.")
    chosen = [choose_genes(array, genes) for array in arrays]
    for name, array in zip(("predicted", "observed"), chosen, strict=True):
        check_finite(array, name)
    return chosen[0], chosen[1]


def read_array(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Values as float64; a TypeError if they are not numbers (a DataFrame's or an array's are)."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array of numbers, found {type(values).__name__}: {error}. "
            "Pass for example `adata.layers['lfc']`, made dense with .toarray() if it is sparse."
        ) from error


def choose_genes(array: NDArray[np.float64], genes: ArrayLike | None) -> NDArray[np.float64]:
    """The columns named by a boolean mask or by indices; all if None."""
    n_genes = array.shape[-1]
    if genes is None:
        if not n_genes:
            raise ValueError("There are no genes to score.")
        return array
    chosen = np.asarray(genes)
    if chosen.ndim != 1 or not (chosen.dtype == bool or np.issubdtype(chosen.dtype, np.integer)) or not chosen.size:
        raise ValueError(
            f"genes must be a mask or the indices of at least one gene, found {chosen.dtype} values of shape "
            f"{chosen.shape}. Translate names with `adata.var_names.get_indexer(names)`."
        )
    if chosen.dtype == bool:
        if len(chosen) != n_genes:
            raise ValueError(f"The mask genes is for {len(chosen)} genes, and the arrays have {n_genes}.")
        if not chosen.any():
            raise ValueError("The mask genes chooses no gene.")
    elif chosen.min() < 0 or chosen.max() >= n_genes:
        raise ValueError(f"genes holds indices from {chosen.min()} to {chosen.max()}; the arrays have {n_genes} genes.")
    return array[..., chosen]


def check_finite(array: NDArray[np.float64], name: str) -> None:
    """Raise if a value is NaN or infinite."""
    bad = ~np.isfinite(array)
    if bad.any():
        n_genes = int(np.atleast_2d(bad).any(axis=0).sum())
        raise ValueError(
            f"{int(bad.sum())} values of {name} are NaN or infinite, in {n_genes} gene(s). Score genes that were "
            "measured, for example with `genes=adata.var['measured'].to_numpy()`."
        )


def as_number(values: NDArray[np.float64]) -> float | NDArray[np.float64]:
    """A float for one perturbation, an array for several."""
    return values if values.ndim else float(values)
