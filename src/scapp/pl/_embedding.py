"""Perturbations in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, refuse_text
from scapp.pl._figure import COLUMN, Color, axes, color_bar, finish_figure, label_axes, name_points, picture
from scapp.pl._rows import index_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A color and a marker for each category, so that readers who cannot tell the colors apart can use the markers.
COLORS = (Color.BLUE, Color.VERMILION, Color.GREEN, Color.ORANGE, Color.SKY, Color.PINK, Color.BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAX_CATEGORIES = 2 * len(COLORS)
MAX_NAMED = 40


@picture
def perturbation_embedding(
    adata: AnnData,
    *,
    color: str | None = Key.obs.MODULE,
    basis: str = Key.obsm.PERTURBATION_UMAP,
    names: bool | Sequence[str] | None = None,
    sep: str = SEPARATOR,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (COLUMN, 3.3),
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot perturbations in two dimensions, a point for each, coloured by module or by another column.

    Parameters
    ----------
    adata
        One observation per perturbation, embedded by :func:`scapp.tl.perturbation_embedding`.
    color
        Column of `obs` to color by. Numbers are shown on a continuous scale; other values, and up to seven distinct
        integers, as categories (at most 14). None for no color.
    basis
        Key of the coordinates in `obsm`, with or without ``"X_"``, shape (n_obs, 2 or more); the first two are drawn.
    names
        Perturbations whose names are written next to their points; True for all (at most 40), False for none. If None,
        all if there are at most 40, otherwise none.
    {sep}
    {figure}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown.

    Raises
    ------
    ValueError
        If the coordinates or the column are missing, a name is unknown, or there are too many categories or names to be
        legible.

    Examples
    --------
    >>> scapp.tl.perturbation_embedding(effects, model)
    >>> scapp.pl.perturbation_embedding(effects, color="module")
    """
    points = _coordinates(adata, basis)
    column = None if color is None else _column(adata, color)
    rows = _named(adata, names, sep)
    ax = axes(ax, figsize)
    if column is None:
        ax.scatter(points[:, 0], points[:, 1], s=14, color=Color.BLUE, linewidth=0)
    elif _is_scale(column):
        _draw_numbers(ax, points, column)
    else:
        _draw_categories(ax, points, column)
    label = basis.removeprefix("X_").replace("_", " ").replace("umap", "UMAP").replace("pca", "PCA")
    label_axes(ax, x=f"{label} 1", y=f"{label} 2", title=f"{len(points):,} perturbations")
    ax.set(xticks=[], yticks=[])  # the units mean nothing
    ax.margins(0.08)
    name_points(ax, points[rows], list(adata.obs_names[rows]), others=points, fontsize=5.5)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _coordinates(adata: AnnData, basis: str) -> np.ndarray:
    key = next((key for key in (basis, f"X_{basis}") if key in adata.obsm), None)
    if key is None:
        raise ValueError(
            f"adata.obsm has no {basis!r}; it has {shorten(map(repr, adata.obsm)) or 'nothing'}. It is filled by "
            "`scapp.tl.perturbation_embedding(adata, model)`."
        )
    values = np.asarray(adata.obsm[key], dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"adata.obsm[{key!r}] has the shape {values.shape}, expected two columns or more.")
    return values[:, :2]


def _column(adata: AnnData, color: str) -> pd.Series:
    if color not in adata.obs:
        mend = (
            " Modules are found by `scapp.tl.perturbation_embedding(adata, model)`." if color == Key.obs.MODULE else ""
        )
        raise ValueError(
            f"adata.obs has no column {color!r}; it has {shorten(map(repr, adata.obs), 10) or 'none'}.{mend}"
        )
    column = adata.obs[color]
    if not _is_scale(column) and column.nunique() > MAX_CATEGORIES:
        raise ValueError(
            f"obs[{color!r}] has {column.nunique()} categories; at most {MAX_CATEGORIES} can be told apart. Color by a "
            "coarser column; modules become fewer with `scapp.tl.perturbation_embedding(…, resolution=0.5)`."
        )
    return column


def _is_scale(column: pd.Series) -> bool:
    """Return whether to color a column on a continuous scale instead of by category."""
    kind = pd.api.types
    few = column.nunique() <= len(COLORS)
    return (
        kind.is_numeric_dtype(column.dtype)
        and not kind.is_bool_dtype(column.dtype)
        and not (few and kind.is_integer_dtype(column.dtype))
    )


def _named(adata: AnnData, names: bool | Sequence[str] | None, sep: str) -> np.ndarray:
    """Return the rows of the perturbations to be named."""
    if names is None:
        names = adata.n_obs <= MAX_NAMED
    if isinstance(names, bool):
        names = list(adata.obs_names) if names else []
    refuse_text(names, "names")
    if len(names) > MAX_NAMED:
        raise ValueError(
            f"{len(names)} names next to their points would not be legible, at most {MAX_NAMED}; choose some with names=[…]."
        )
    return np.array([index_of(adata, name, sep=sep) for name in names], dtype=int)


def _draw_numbers(ax: Axes, points: np.ndarray, column: pd.Series) -> None:
    values = column.to_numpy(dtype=float, na_value=np.nan)
    known = np.isfinite(values)
    ax.scatter(points[~known, 0], points[~known, 1], s=14, color=Color.GREY, linewidth=0)
    drawn = ax.scatter(points[known, 0], points[known, 1], s=14, c=values[known], cmap="viridis", linewidth=0)
    color_bar(ax, drawn, str(column.name), aspect=30)


def _draw_categories(ax: Axes, points: np.ndarray, column: pd.Series) -> None:
    known = column.astype("category")
    unknown = known.isna().to_numpy()
    if unknown.any():
        ax.scatter(points[unknown, 0], points[unknown, 1], s=14, color=Color.GREY, linewidth=0, label="unknown")
    for k, category in enumerate(known.cat.remove_unused_categories().cat.categories):
        of = (known == category).to_numpy()
        # After seven categories the colors repeat with other markers.
        marker = MARKERS[(k + k // len(COLORS)) % len(MARKERS)]
        ax.scatter(
            points[of, 0], points[of, 1], s=16, color=COLORS[k % len(COLORS)], marker=marker, linewidth=0,
            label=str(category),
        )  # fmt: skip
    ax.legend(
        title=str(column.name), title_fontsize=7, fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1),
        handletextpad=0.1, borderpad=0,
    )  # fmt: skip
