"""Bringing tables with names into one order before their numbers are compared."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, ParamSpec, TypeVar

import pandas as pd

from scapp._genes import shorten

Axis = Literal["rows", "columns"]
Given = ParamSpec("Given")
Score = TypeVar("Score")
# These have the genes of the others, and perturbations or cells of their own.
_OTHER_ROWS = frozenset({"candidates", "others"})


def by_label(metric: Callable[Given, Score]) -> Callable[Given, Score]:
    """Align all DataFrames and Series among the arguments of a metric by their labels.

    The first table that has labels of an axis decides the order: rows are perturbations, columns and the index of a Series are
    genes (of a function of one number per perturbation: perturbations). Plain arrays are taken as they stand.
    """
    signature = inspect.signature(metric)

    @functools.wraps(metric)
    def aligned(*args: Given.args, **kwargs: Given.kwargs) -> Score:
        values = [*args, *kwargs.values(), *(part for value in args + tuple(kwargs.values()) for part in _parts(value))]
        if not any(isinstance(value, pd.DataFrame | pd.Series) for value in values):
            return metric(*args, **kwargs)
        given = signature.bind(*args, **kwargs)
        given.arguments = align(given.arguments)
        return metric(*given.args, **given.kwargs)

    return aligned


def align(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with every DataFrame and Series in the order of the first one.

    Raises
    ------
    ValueError
        If the labels of two tables differ, or are in another order and not unique.
    """
    first: dict[Axis, tuple[str, pd.Index]] = {}
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, tuple) and any(isinstance(part, pd.DataFrame | pd.Series) for part in value):
            found[name] = tuple(_ordered(part, f"{name}[{i}]", first) for i, part in enumerate(value))
        else:
            found[name] = _ordered(value, name, first)
    return found


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, tuple):
        yield from value


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
    """Return where the labels of the first table stand among these."""
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
            f"Labels of {what} occur more than once and stand in another order in {reference} than in {name}: {shorten(twice)}.\n"
            "Expected each label once, or the same order in both.\nName them apart, or pass .to_numpy() of both."
        )
    return labels.get_indexer(expected)
