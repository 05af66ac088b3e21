"""Objectives that score the predicted log-fold-changes of a perturbation; higher is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from scapp._genes import shorten
from scapp._labels import near_matches
from scapp._tables import to_numbers
from scapp._warn import warn_user

Metric = Literal["cosine", "pearson", "l2", "dot"]
Objective: TypeAlias = pd.Series | Mapping[str, Iterable[str]] | Iterable[str] | Callable[[pd.DataFrame], np.ndarray]


@dataclass(frozen=True)
class Signature:
    """Agreement with desired log-fold-changes `wanted` of the measured genes at `columns`."""

    columns: np.ndarray
    wanted: np.ndarray
    metric: Metric

    def __call__(self, lfc: np.ndarray) -> np.ndarray:
        found, wanted = lfc[:, self.columns], self.wanted
        if self.metric == "l2":
            return -np.linalg.norm(found - wanted, axis=1)
        if self.metric == "pearson":
            found, wanted = found - found.mean(axis=1, keepdims=True), wanted - wanted.mean()
        score = found @ wanted
        if self.metric == "dot":
            return score
        # Where nothing is predicted to change, nothing agrees.
        return score / np.maximum(np.linalg.norm(found, axis=1) * np.linalg.norm(wanted), np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Function:
    """A function of the user, called with a table of log-fold-changes, one column a measured gene."""

    function: Callable[[pd.DataFrame], np.ndarray]
    genes: pd.Index

    def __call__(self, lfc: np.ndarray) -> np.ndarray:
        found = np.asarray(self.function(pd.DataFrame(lfc, columns=self.genes)), dtype=np.float64)
        if found.shape != (len(lfc),):
            raise ValueError(
                f"The objective returned the shape {found.shape} for {len(lfc)} perturbations, expected ({len(lfc)},): "
                "one number for each row of the table."
            )
        if np.isnan(found).any():
            raise ValueError(
                f"The objective is NaN for {int(np.isnan(found).sum())} of {len(found)} perturbations, and NaN cannot be "
                "ranked. Return -inf for perturbations that are not wanted."
            )
        return found


def read_objective(objective: Objective, metric: Metric, genes: Sequence[str]) -> Signature | Function:
    """Check an objective and bring it into the order of the measured genes.

    Parameters
    ----------
    objective, metric
        As in :func:`scapp.tl.screen`.
    genes
        The measured genes.

    Raises
    ------
    TypeError, ValueError
        As :func:`scapp.tl.screen` says.
    """
    if callable(objective):
        return Function(objective, pd.Index(genes))
    if isinstance(objective, pd.Series):
        return _signature(objective, metric, genes)
    if isinstance(objective, str):
        raise TypeError(f"Expected a signature, a list of genes or a function, found the text {objective!r}.")
    if isinstance(objective, np.ndarray | pd.DataFrame) or not isinstance(objective, Iterable):
        raise TypeError(
            f"Expected a signature, a list of genes or a function, found {type(objective).__name__}. A signature is a pandas "
            "Series of log-fold-changes, indexed by gene: pd.Series(values, index=genes)."
        )
    module = objective if isinstance(objective, Mapping) else {"up": objective}
    other = set(module) - {"up", "down"}
    if other or not module:
        raise ValueError(
            f"A module of genes is given as {{'up': […], 'down': […]}}, found the keys {shorten(map(repr, module)) or 'none'}. "
            "Desired log-fold-changes of genes are given as a pandas Series."
        )
    weights = np.zeros(len(genes))
    for direction, sign in (("up", 1.0), ("down", -1.0)):
        if direction in module:
            if isinstance(module[direction], str):
                raise TypeError(
                    f"Expected a list of genes that go {direction}, found the text {module[direction]!r}. Pass "
                    f"[{module[direction]!r}]."
                )
            columns = _positions(
                pd.Index(list(module[direction]), dtype=object), genes, f"the genes that go {direction}"
            )
            weights[columns] += sign / len(columns)
    columns = np.flatnonzero(weights)
    if not len(columns):
        raise ValueError("The genes that go up are those that go down: no perturbation can do both.")
    return Signature(columns, weights[columns], "dot")


def _signature(wanted: pd.Series, metric: Metric, genes: Sequence[str]) -> Signature:
    values = to_numbers(wanted)
    bad = ~np.isfinite(values.to_numpy(dtype=np.float64))
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} values of the signature are not finite numbers, of {shorten(wanted.index[bad])}. "
            "Leave these genes out with `signature.dropna()`."
        )
    if wanted.index.has_duplicates:
        twice = wanted.index[wanted.index.duplicated()].unique()
        raise ValueError(f"The signature names these genes more than once: {shorten(twice)}. Name each once.")
    columns = _positions(wanted.index, genes, "the genes of the signature")
    known = values[wanted.index.isin(genes)].to_numpy(dtype=np.float64)
    flat = not known.any() if metric in ("cosine", "dot") else metric == "pearson" and np.ptp(known) == 0
    if flat:
        raise ValueError(
            f"The signature is {known[0]:g} for all of its {len(known)} measured genes, which no perturbation can agree with "
            f"more than another by metric={metric!r}."
        )
    return Signature(columns, known, metric)


def _positions(asked: pd.Index, genes: Sequence[str], what: str) -> np.ndarray:
    """Return positions of those genes that were measured, with a warning about the others; an error if there is none."""
    if not len(asked):
        raise ValueError(f"There is nothing among {what}: name at least one gene.")
    column = {gene: i for i, gene in enumerate(genes)}
    absent = [gene for gene in asked if gene not in column]
    if len(absent) == len(asked):
        like = near_matches(str(absent[0]), genes)
        hint = f" Is {absent[0]!r} {like[0]!r}?" if like else ""
        raise ValueError(
            f"None of {what} ({shorten(absent)}) is among the {len(genes)} measured genes ({shorten(genes)}).{hint} "
            "Use the names that the model was trained with, model.genes."
        )
    if absent:
        warn_user(
            f"{len(absent)} of {len(asked)} of {what} were not measured and do not count: {shorten(absent)}.",
        )
    return np.array([column[gene] for gene in asked if gene in column])
