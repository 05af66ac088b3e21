"""Reading the perturbation of each observation from ``adata.obs``."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from scapp._genes import shorten
from scapp._perturbations import SEPARATOR, Perturbation, check_control, parse_labels


def read_perturbations(
    adata: AnnData,
    *,
    perturbation_key: str,
    control: str | None,
    sep: str = SEPARATOR,
    effects_allowed: bool = True,
) -> list[Perturbation]:
    """The perturbed genes of each observation.

    Parameters
    ----------
    adata
        Cells, or effects (one observation a perturbation).
    perturbation_key
        Column of ``adata.obs`` that holds the labels.
    control
        Label of the control cells; None if there are none.
    sep
        What joins the genes of a combination.
    effects_allowed
        Whether a table of effects (each observation its own perturbation, none of them a control) may pass although
        `control` is given.

    Returns
    -------
    One tuple of genes in alphabetical order for each observation; empty for a control.

    Raises
    ------
    ValueError
        If the column is missing, an observation has no label, a label cannot be read, or none is labelled `control`.
    TypeError
        If `adata` is no AnnData.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(f"Expected an AnnData, found {type(adata).__name__}.")
    labels = list(column_of_obs(adata, perturbation_key, "perturbation_key"))
    perturbations = parse_labels(labels, control=control, sep=sep)
    if control is not None and not (effects_allowed and is_effects(perturbations)):
        check_control(labels, control)
    return perturbations


def is_effects(perturbations: list[Perturbation]) -> bool:
    """Whether these are the rows of a table of effects: each perturbation once, and no control."""
    distinct = set(perturbations)
    return len(distinct) == len(perturbations) and () not in distinct


def column_of_obs(adata: AnnData, key: str, argument: str) -> pd.Series:
    """A column of ``adata.obs`` without missing values, or an error that names the argument and the columns there are."""
    if isinstance(key, list | tuple):
        raise TypeError(
            f"{argument} names one column of adata.obs, found the {type(key).__name__} {key!r}. Join several into one first, as in "
            "`adata.obs['both'] = adata.obs['a'].astype(str) + '-' + adata.obs['b'].astype(str)`."
        )
    if key not in adata.obs:
        columns = shorten(map(repr, adata.obs.columns), 12) or "none"
        raise ValueError(f"adata.obs has no column {key!r}. Name one of its columns with {argument}=…: {columns}.")
    column = adata.obs[key]
    missing = int(column.isna().sum())
    if missing:
        raise ValueError(
            f"{missing} of the {adata.n_obs} observations have no value in adata.obs[{key!r}] ({argument}). "
            f"Fill them in, or leave these observations out with `adata = adata[adata.obs[{key!r}].notna()].copy()`."
        )
    return column
