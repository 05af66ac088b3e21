"""Choose the cells of a screen that respond to their perturbation according to Mixscape."""

from __future__ import annotations

import logging
import re
from collections import Counter

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scapp._genes import shorten
from scapp._labels import Perturbation, column_of_obs, format_label

logger = logging.getLogger(__name__)
# Mixscape ends its classes with the type of perturbation, "KO" unless it was told another, or "NP" for non-perturbed.
RESPONDING, NOT_RESPONDING = ("KO", "KD", "OE"), ("NP",)
# What may stand between the genes of a combination, or before the number of a guide, in the name before the class.
JOINS = re.compile(r"[\s+_,;|&/:]+")


def read_responders(
    adata: AnnData, responders_key: str, perturbations: list[Perturbation]
) -> tuple[NDArray[np.bool_], dict[Perturbation, float]]:
    """Return from which cells effects are calculated, controls included, and the share of each perturbation's cells that respond.

    The column of ``adata.obs`` holds classes of Mixscape, or True and False; that of control cells is not asked. ValueError if there
    is no such column, perturbed cells have no value in it or one that says neither, or it names another perturbed gene than the label
    of the cell.
    """
    if responders_key not in adata.obs:
        column_of_obs(adata, responders_key, "responders_key")  # raises, with the columns that there are
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
    _check_aligned(column, responders_key, perturbations)
    responds = np.array([meaning.get(value) is True for value in column], dtype=bool) & perturbed
    n_cells = Counter(perturbations)
    n_responding = Counter(genes for genes, keep in zip(perturbations, responds, strict=True) if keep)
    shares = {genes: n_responding[genes] / n for genes, n in n_cells.items() if genes != ()}
    if shares:
        least = min(shares, key=lambda genes: (shares[genes], genes))
        logger.info(
            "%d of %d perturbed cells do not respond by adata.obs[%r] and are left out; the share that responds is least for %s "
            "(%.0f %%).",
            *(
                perturbed.sum() - responds.sum(),
                perturbed.sum(),
                responders_key,
                format_label(least),
                100 * shares[least],
            ),
        )
    return responds | ~perturbed, shares


def _check_aligned(column: pd.Series, responders_key: str, perturbations: list[Perturbation]) -> None:
    """Raise if classes such as "STAT1 KO" stand beside cells in which other genes of the screen were perturbed.

    Names of guides, parts of combinations and names that the screen does not have are no contradiction.
    """
    known = {gene for genes in perturbations for gene in genes}
    n_cells = Counter(pair for pair in zip(column, perturbations, strict=True) if pair[1] and isinstance(pair[0], str))
    wrong = {pair: n for pair, n in n_cells.items() if _names_others(pair[0], pair[1], known)}
    if wrong:
        shown = shorten([f"{value!r} of cells labeled {format_label(genes)}" for value, genes in wrong])
        raise ValueError(
            f"{sum(wrong.values())} of the {sum(n_cells.values())} perturbed cells have another gene in adata.obs[{responders_key!r}] "
            f"(responders_key) than in their label: {shown}. Is it in another order of cells?\nAlign it by the names of the cells, as in "
            f"`adata.obs[{responders_key!r}] = classified.obs[{responders_key!r}].reindex(adata.obs_names)`."
        )


def _names_others(value: str, genes: Perturbation, known: set[str]) -> bool:
    name = "".join(value.rsplit(maxsplit=1)[:-1]).strip()
    named = {name, *JOINS.split(name)} - {""}
    # "STAT1g2" is a guide of STAT1, whichever of both is the label.
    own = any(part.startswith(gene) or gene.startswith(part) for part in named for gene in genes)
    return not own and not named.isdisjoint(known)


def _responds(value: object) -> bool | None:
    """Return the meaning of a value; None if it is neither."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    ending = value.rsplit(maxsplit=1)[-1] if isinstance(value, str) and value.strip() else None
    return True if ending in RESPONDING else False if ending in NOT_RESPONDING else None
