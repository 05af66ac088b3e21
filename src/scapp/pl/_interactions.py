"""Genetic interactions of all pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize, TwoSlopeNorm
from matplotlib.patches import Patch
from scipy.cluster.hierarchy import leaves_list, linkage

from scapp._genes import shorten
from scapp._keys import Key
from scapp.pl._figure import Color, axes, color_bar, figure_of, finish_figure, picture

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASS = "interaction"
COLORS = {
    "synergy": Color.VERMILION,
    "suppression": Color.BLUE,
    "neomorphism": Color.GREEN,
    "redundancy": Color.ORANGE,
    "epistasis": Color.SKY,
    "additive": "#F7F7F7",
    "undetermined": Color.GREY,
}
NOTHING = "#DDDDDD"
LABELS = {
    "magnitude": "magnitude (above 1: more than the mean of both)",
    "model_fit": "model fit (distance correlation)",
    "similarity_of_singles": "similarity of the single perturbations",
    "equality_of_contribution": "equality of contribution",
    "dominance": "dominance, |log10(c1 / c2)|",
    "deviation": "deviation from additivity (length)",
    "relative_deviation": "deviation relative to the sum",
}
# Smallest legible size of a name, in points.
LEAST_POINTS = 4.0


@picture
def interaction_map(
    data: AnnData | pd.DataFrame,
    *,
    score: str = "magnitude",
    genes: Iterable[str] | None = None,
    cluster: bool = True,
    center: float | None = None,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    key: str = Key.uns.GENETIC_INTERACTIONS,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot a score, or the class, of every pair of genes; pairs without a value are grey.

    Parameters
    ----------
    data
        The table that :func:`scapp.tl.genetic_interactions` returns, or the AnnData that it wrote into.
    score
        Column of the table; ``"interaction"`` shows the classes.
    genes
        Genes to show, in this order if `cluster` is False; all if None.
    cluster
        Whether to place similar genes next to each other (average linkage of the rows). For classes, the magnitude is
        clustered.
    center
        Middle value of diverging colors; by default 1 for the magnitude and none for other scores.
    cmap, vmin, vmax
        Color map and its limits; by default the 2nd and 98th percentile.
    key
        Key of the interactions in `uns`.
    {fitted_figure}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. If the names do not fit, only every second, third, … is shown, and
    the axis says so.

    Raises
    ------
    ValueError
        If the table, the column or a gene is missing, or a pair occurs twice.
    """
    table = _table(data, score, key)
    names = _genes(table, genes)
    by = "magnitude" if score == CLASS else score
    if cluster and len(names) > 2:
        compared = _square(table, by, names)
        compared[~np.isfinite(compared)] = np.nan
        # Missing values are replaced by the mean.
        filled = np.nan_to_num(compared, nan=np.nanmean(compared) if np.isfinite(compared).any() else 0)
        names = [names[i] for i in leaves_list(linkage(filled, method="average", optimal_ordering=True))]
    codes = {name: i for i, name in enumerate(COLORS)}
    column = table[CLASS].map(codes) if score == CLASS else table[score]
    values = _square(table.assign(**{score: column.astype(float)}), score, names)
    n = len(names)
    side = float(np.clip(1.6 + 0.075 * n, 3.5, 9.0))
    ax = axes(ax, figsize or (side, side * 0.9))
    colors: str | ListedColormap
    norm: Normalize
    if score == CLASS:
        colors = ListedColormap(list(COLORS.values()))
        norm = BoundaryNorm(np.arange(len(COLORS) + 1) - 0.5, len(COLORS))
    else:
        colors, norm = _scale(values, score, center, cmap, vmin, vmax)
    ax.set_facecolor(NOTHING)
    image = ax.imshow(np.ma.masked_invalid(values), cmap=colors, norm=norm, interpolation="nearest")
    _name(ax, names)
    ax.tick_params(length=0, pad=1)
    ax.spines[:].set_visible(False)
    ax.set_title(f"{np.isfinite(values).sum() // 2} pairs of {n} genes", fontsize=8)
    if score == CLASS:
        there = {name: color for name, color in COLORS.items() if name in set(table[CLASS])} | {"not scored": NOTHING}
        handles = [Patch(fc=color, ec=Color.GREY, lw=0.4, label=name) for name, color in there.items()]
        ax.legend(handles=handles, fontsize=6.5, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    else:
        color_bar(ax, image, LABELS.get(score, score.replace("_", " ")), shrink=0.7, aspect=25, extend="both")
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _table(data: AnnData | pd.DataFrame, score: str, key: str) -> pd.DataFrame:
    if isinstance(data, AnnData):
        if key not in data.uns:
            raise ValueError(f"adata.uns has no {key!r}. It is filled by `scapp.tl.genetic_interactions`.")
        data = data.uns[key][Key.tables.PAIRS]
    missing = [column for column in ("first", "second", score) if column not in data]
    if missing:
        raise ValueError(
            f"The table has no column {', '.join(missing)}; it has {shorten(data.columns, 20)}. "
            "Interactions are computed by `scapp.tl.genetic_interactions`."
        )
    twice = data[["first", "second"]].astype(str).apply(lambda pair: tuple(sorted(pair)), axis=1).duplicated()
    if twice.any():
        raise ValueError(f"{int(twice.sum())} pairs occur more than once in the table; a map shows each once.")
    return data


def _genes(table: pd.DataFrame, genes: Iterable[str] | None) -> list[str]:
    there = sorted({*table["first"].astype(str), *table["second"].astype(str)})
    if genes is None:
        return there
    names = list(dict.fromkeys(genes))
    missing = [name for name in names if name not in set(there)]
    if missing or len(names) < 2:
        raise ValueError(
            f"Expected at least two genes of the table, found {len(names)}; without a pair: {shorten(missing) or 'none'}."
        )
    return names


def _square(table: pd.DataFrame, score: str, names: list[str]) -> np.ndarray:
    """Return the symmetric matrix of a score, NaN on the diagonal and for pairs without it."""
    row, column = (pd.Index(names).get_indexer(table[end].astype(str)) for end in ("first", "second"))
    known = (row >= 0) & (column >= 0)
    values = np.full((len(names),) * 2, np.nan)
    values[row[known], column[known]] = values[column[known], row[known]] = table[score].to_numpy(dtype=float)[known]
    return values


def _scale(
    values: np.ndarray, score: str, center: float | None, cmap: str | None, vmin: float | None, vmax: float | None
) -> tuple[str, Normalize]:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [2, 98]) if len(finite) else (0.0, 1.0)
    low, high = low if vmin is None else vmin, high if vmax is None else vmax
    if center is None and score == "magnitude":
        center = 1.0
    if center is None:
        return cmap or "cividis", Normalize(low, high if high > low else low + 1)
    reach = max(abs(low - center), abs(high - center)) or 1.0
    low = center - reach if vmin is None else vmin
    high = center + reach if vmax is None else vmax
    return cmap or "RdBu_r", TwoSlopeNorm(center, min(low, center - 1e-9), max(high, center + 1e-9))


def _name(ax: Axes, names: list[str]) -> None:
    """Write as many gene names as are legible."""
    room = 72 * figure_of(ax).get_figheight() * ax.get_position().height / len(names)  # points a gene
    every = max(1, int(np.ceil(LEAST_POINTS / room)))
    shown = range(0, len(names), every)
    size = float(np.clip(room * every, LEAST_POINTS, 7))
    ax.set_xticks(shown, [names[i] for i in shown], rotation=90, fontsize=size)
    ax.set_yticks(shown, [names[i] for i in shown], fontsize=size)
    if every > 1:
        ax.set_xlabel(f"one of {every} genes is named", fontsize=7)
