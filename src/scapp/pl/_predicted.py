"""Predicted against observed effects of one perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._keys import Key
from scapp.pl._figure import BLUE, GREY, LFC_UNIT, axes, done, row_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def predicted_vs_observed(
    adata: AnnData,
    perturbation: str,
    *,
    observed_layer: str = Key.layers.LFC,
    predicted_layer: str = Key.layers.PREDICTED_LFC,
    n_top: int = 10,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 3.5),
    show: bool | None = None,
    save: str | Path | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Predicted against observed log-fold-change of each gene, the genes that change most named.

    Parameters
    ----------
    adata
        One observation a perturbation, with both layers.
    perturbation
        One of ``adata.obs_names``.
    observed_layer, predicted_layer
        The layers.
    n_top
        How many genes are named: those with the largest observed change.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path, return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown.

    Raises
    ------
    ValueError
        If a layer or the perturbation is missing.
    """
    observed = row_of(adata, perturbation, observed_layer, "`scapp.pp.pseudobulk`")
    predicted = row_of(adata, perturbation, predicted_layer, "`APP.predict`")
    known = np.isfinite(observed) & np.isfinite(predicted)
    x, y, names = observed[known], predicted[known], adata.var_names[known]
    ax = axes(ax, figsize)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    pad = 0.08 * (high - low or 1)
    ax.plot([low - pad, high + pad], [low - pad, high + pad], color=GREY, linewidth=1, linestyle="--", zorder=1)
    ax.scatter(x, y, s=8, color=BLUE, alpha=0.6, linewidth=0, zorder=2)
    named = np.argsort(-np.abs(x), kind="stable")[:n_top]
    height = (high - low + 2 * pad) / (figsize[1] * 7)  # of a line of text, in the units of the data
    for i, y_text in zip(named, _apart(y[named], height), strict=True):
        right = x[i] < (low + high) / 2
        ax.annotate(
            names[i],
            (x[i], y[i]),
            xytext=(x[i] + (0.6 if right else -0.6) * height, y_text),
            ha="left" if right else "right",
            va="center",
            fontsize=6,
            arrowprops={"arrowstyle": "-", "linewidth": 0.3, "shrinkA": 0, "shrinkB": 1},
        )
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
    ax.set_xlabel(f"observed {LFC_UNIT}", fontsize=8)
    ax.set_ylabel(f"predicted {LFC_UNIT}", fontsize=8)
    ax.set_title(f"{perturbation} ({known.sum()} genes)", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return done(ax, show=show, save=save, return_fig=return_fig)


def _apart(heights: np.ndarray, least: float) -> np.ndarray:
    """Heights of labels, moved up as little as keeps them from overlapping."""
    placed = heights.astype(float)
    order = np.argsort(heights, kind="stable")
    for below, above in zip(order[:-1], order[1:], strict=True):
        placed[above] = max(placed[above], placed[below] + least)
    return placed
