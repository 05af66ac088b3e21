"""Choose the cells of a screen that respond to their perturbation according to Mixscape."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scapp._genes import shorten
from scapp._labels import Perturbation, format_label

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)
# Mixscape ends its classes with the type of perturbation, "KO" unless it was told another, or "NP" for non-perturbed.
RESPONDING, NOT_RESPONDING = ("KO", "KD", "OE"), ("NP",)


def read_responders(
    adata: AnnData, responders_key: str, perturbations: list[Perturbation]
) -> tuple[NDArray[np.bool_], dict[Perturbation, float]]:
    """Read which cells respond, and say how many do not.

    Parameters
    ----------
    adata
        Cells.
    responders_key
        Column of ``adata.obs``: classes of Mixscape, or True and False. That of control cells is not asked.
    perturbations
        Perturbation of each cell, ``()`` for controls.

    Returns
    -------
    Whether the effects are calculated from each cell, controls included, of shape (n_obs,); and the share of each
    perturbation's cells that respond.

    Raises
    ------
    ValueError
        If there is no such column, or perturbed cells have no value in it or one that says neither.
    """
    if responders_key not in adata.obs:
        columns = shorten(map(repr, adata.obs.columns), 12) or "none"
        raise ValueError(
            f"adata.obs has no column {responders_key!r}. Name one of its columns with responders_key=…: {columns}."
        )
    column = adata.obs[responders_key]
    perturbed = np.array([genes != () for genes in perturbations], dtype=bool)
    missing = int(column[perturbed].isna().sum())
    if missing:
        raise ValueError(
            f"{missing} of the {int(perturbed.sum())} perturbed cells have no value in adata.obs[{responders_key!r}] "
            "(responders_key), which has to say of each whether it responds. Leave these cells out, or say that they do not respond: "
            f"`adata.obs[{responders_key!r}] = adata.obs[{responders_key!r}].astype(object).fillna('NP')`."
        )
    meaning = {value: _responds(value) for value in pd.unique(column[perturbed])}
    unknown = [repr(value) for value, responds in meaning.items() if responds is None]
    if unknown:
        raise ValueError(
            f"adata.obs[{responders_key!r}] (responders_key) has these values of perturbed cells: {shorten(unknown)}. Expected are "
            "classes of Mixscape ('KO' and 'NP', alone or after the gene as in 'STAT1 KO'; also 'KD' and 'OE'), or True and False. "
            "Make such a column first, for example `adata.obs['responds'] = adata.obs['mixscape_class_p_ko'] > 0.5`."
        )
    responds = np.array([meaning.get(value) is True for value in column], dtype=bool) & perturbed
    n_cells = Counter(perturbations)
    n_responding = Counter(genes for genes, keep in zip(perturbations, responds, strict=True) if keep)
    shares = {genes: n_responding[genes] / n for genes, n in n_cells.items() if genes != ()}
    if shares:
        least = min(shares, key=lambda genes: (shares[genes], genes))
        logger.info(
            "%d of %d perturbed cells do not respond by adata.obs[%r] and are left out; the share that responds is least for %s "
            "(%.0f %%).",
            int(perturbed.sum() - responds.sum()),
            int(perturbed.sum()),
            responders_key,
            format_label(least),
            100 * shares[least],
        )
    return responds | ~perturbed, shares


def _responds(value: object) -> bool | None:
    """Return what a value says, None if it says neither."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    ending = value.rsplit(maxsplit=1)[-1] if isinstance(value, str) and value.strip() else None
    return True if ending in RESPONDING else False if ending in NOT_RESPONDING else None
