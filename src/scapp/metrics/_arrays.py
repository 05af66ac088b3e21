"""Read and check the arguments of metrics: align tables, compare shapes, select genes, refuse NaN."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._docs import documented
from scapp._genes import shorten

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Axis = Literal["rows", "columns"]
Given = ParamSpec("Given")
Score = TypeVar("Score")
# These arguments share the genes with the others, but have their own perturbations or cells.
_OTHER_ROWS = frozenset({"candidates", "others"})
Scalar = TypeVar("Scalar", bound=np.generic)
# Parts of docstrings that many metrics share; a line ``{name}`` is replaced by the text of that name.
SHARED = {
    "profiles": """\
predicted, observed
    Log-fold-changes or profiles, shape (n_perturbations, n_genes) or (n_genes,).""",
    "changes": """\
predicted, observed
    Log-fold-changes, shape (n_perturbations, n_genes) or (n_genes,).""",
    "genes": """\
genes
    Mask or indices of the genes to score; all if None.""",
    "no_numbers": """\
TypeError
    If an array does not hold numbers.""",
    "raises": """\
ValueError
    If the shapes differ, a scored value is NaN or infinite, or `genes` chooses none or does not fit.
TypeError
    If an array does not hold numbers.""",
}


def array_metric(function: Callable[Given, Score]) -> Callable[Given, Score]:
    """Fill shared texts into the docstring of a metric, check its options, and align its tables by their labels."""
    return checked(by_label(documented(SHARED)(function)))


def by_label(function: Callable[Given, Score]) -> Callable[Given, Score]:
    """Align all DataFrames and Series among the arguments of a metric by their labels; refuse those whose labels differ.

    The first table with labels on an axis decides the order. Rows are perturbations; columns and the index of a Series
    are genes (or perturbations, in functions of one number per perturbation). Plain arrays are used as they are.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def aligned(*args: Given.args, **kwargs: Given.kwargs) -> Score:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # the error says which argument is missing or unknown
        first: dict[Axis, tuple[str, pd.Index]] = {}
        for name, value in given.arguments.items():
            if isinstance(value, tuple):
                value = tuple(_ordered(part, f"{name}[{i}]", first) for i, part in enumerate(value))
            given.arguments[name] = _ordered(value, name, first)
        return function(*given.args, **given.kwargs)

    return aligned


def _ordered(value: Any, name: str, first: dict[Axis, tuple[str, pd.Index]]) -> Any:
    if isinstance(value, pd.Series):
        if name == "genes" and value.dtype != bool:
            return value  # positions of genes, or names, which the metric refuses
        return value.iloc[_places(value.index, name, "columns", first)]
    if not isinstance(value, pd.DataFrame):
        return value
    columns = _places(value.columns, name, "columns", first)
    rows = slice(None) if name in _OTHER_ROWS else _places(value.index, name, "rows", first)
    return value.iloc[rows, columns]


def _places(labels: pd.Index, name: str, axis: Axis, first: dict[Axis, tuple[str, pd.Index]]) -> Any:
    """Return the positions of the labels of the first table among these."""
    reference, expected = first.setdefault(axis, (name, labels))
    if labels.equals(expected):
        return slice(None)
    what = "genes" if axis == "columns" else "perturbations"
    absent, extra = expected.difference(labels, sort=False), labels.difference(expected, sort=False)
    if len(absent) or len(extra):
        raise ValueError(
            f"The labels of {reference} and {name} differ: {len(absent)} {what} are in {reference} only "
            f"({shorten(absent) or 'none'}), {len(extra)} in {name} only ({shorten(extra) or 'none'}).\n"
            "Expected tables with the same labels, in any order.\n"
            f"Choose the shared ones with .loc, or pass .to_numpy() of both where rows and columns already correspond."
        )
    if not (labels.is_unique and expected.is_unique):
        twice = [*labels[labels.duplicated()].unique(), *expected[expected.duplicated()].unique()]
        raise ValueError(
            f"Labels of {what} occur more than once and are in a different order in {reference} and {name}: {shorten(twice)}.\n"
            "Expected each label once, or the same order in both.\nName them apart, or pass .to_numpy() of both."
        )
    return labels.get_indexer(expected)


def read_pair(
    predicted: ArrayLike, observed: ArrayLike, genes: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both arrays as float64, restricted to the chosen genes; refuse different shapes and NaN."""
    first, second = read_same_shape({"predicted": predicted, "observed": observed}, genes)
    return first, second


def read_same_shape(arrays: Mapping[str, ArrayLike], genes: ArrayLike | None) -> list[NDArray[np.float64]]:
    """Read the named arrays, all of the same shape, as :func:`read_pair` reads two."""
    read = {name: read_array(values, name) for name, values in arrays.items()}
    (first, reference), *others = read.items()
    for name, array in others:
        if array.shape != reference.shape:
            raise ValueError(
                f"{first} has shape {reference.shape} and {name} {array.shape}. Expected the same perturbations and "
                "genes in the same order in both: (n_genes,) or (n_perturbations, n_genes)."
            )
    if not 1 <= reference.ndim <= 2:
        raise ValueError(f"Expected arrays of shape (n_genes,) or (n_perturbations, n_genes), found {reference.shape}.")
    chosen = [choose_genes(array, genes) for array in read.values()]
    for name, array in zip(read, chosen, strict=True):
        check_finite(array, name)
    return chosen


def read_reference(values: ArrayLike, n_genes: int, genes: ArrayLike | None) -> NDArray[np.float64]:
    """Return one value for each chosen gene, such as a mean log-fold-change to subtract."""
    profile = read_array(values, "reference")
    if profile.shape != (n_genes,):
        raise ValueError(f"reference has shape {profile.shape}; expected one value for each of {n_genes} genes.")
    profile = choose_genes(profile, genes)
    check_finite(profile, "reference")
    return profile


def read_array(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return values as float64; raise a TypeError if they are not numbers."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array of numbers, found {type(values).__name__}: {error}. "
            "Pass for example `adata.layers['lfc']`, made dense with .toarray() if it is sparse."
        ) from error


def choose_genes(array: NDArray[Scalar], genes: ArrayLike | None) -> NDArray[Scalar]:
    """Return the columns named by a boolean mask or by indices; all if None."""
    n_genes = array.shape[-1]
    if genes is None:
        if not n_genes:
            raise ValueError("There are no genes to score.")
        return array
    try:
        chosen = np.asarray(genes)
    except ValueError as error:
        raise TypeError(f"genes must be a mask or indices, found {type(genes).__name__}: {error}.") from error
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


def read_weights(weights: ArrayLike, shape: tuple[int, ...], genes: ArrayLike | None) -> NDArray[np.float64]:
    """Return weights of the chosen genes that sum to 1; NaN where all are 0."""
    read = read_array(weights, "weights")
    if read.shape not in (shape, shape[-1:]):
        raise ValueError(f"weights has shape {read.shape}; expected that of observed, {shape}, or ({shape[-1]},).")
    chosen = choose_genes(read, genes)
    check_finite(chosen, "weights")
    if (chosen < 0).any():
        raise ValueError(f"{int((chosen < 0).sum())} weights are negative; expected 0 or more.")
    total = chosen.sum(axis=-1, keepdims=True)
    return chosen / np.where(total > 0, total, np.nan)


def as_number(values: NDArray[np.float64]) -> float | NDArray[np.float64]:
    """Return a float for one perturbation, an array for several."""
    return values if values.ndim else float(values)
