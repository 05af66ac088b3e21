"""Predicted against observed effects of one perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp._keys import Key
from scapp._labels import SEPARATOR, parse_label
from scapp.pl._figure import BLACK, BLUE, GREY, LFC_UNIT, VERMILION, axes, finish_figure
from scapp.pl._names import name_points
from scapp.pl._rows import PREDICT, observed_of, row_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checked
def predicted_vs_observed(
    adata: AnnData,
    perturbation: str,
    *,
    observed: AnnData | None = None,
    observed_layer: str = Key.layers.LFC,
    predicted_layer: str = Key.layers.PREDICTED_LFC,
    n_top: int = 10,
    n_missed: int = 5,
    sep: str = SEPARATOR,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 3.7),
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the predicted against the observed log-fold-change of each gene; what changes most and what is missed most is named.

    Parameters
    ----------
    adata
        Predictions with one observation per perturbation, as :meth:`scapp.model.APP.predict` returns.
    perturbation
        One of ``adata.obs_names``; the genes of a combination in any order.
    observed
        Effects that hold the observed log-fold-changes, as :func:`scapp.pp.pseudobulk` returns; genes are matched by name.
        `adata` itself if None.
    observed_layer, predicted_layer
        The layers.
    n_top
        How many genes are named for the largest observed change.
    n_missed
        How many genes are named, in red, for the largest difference between the two.
    sep
        What joins the genes of a label.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Names of perturbed genes are bold.

    Raises
    ------
    ValueError
        If a layer or the perturbation is missing, or no gene has both values.

    Examples
    --------
    >>> predicted = model.predict(["CEBPA+KLF1"])
    >>> scapp.pl.predicted_vs_observed(predicted, "CEBPA+KLF1", observed=effects)
    """
    y = row_of(adata, perturbation, predicted_layer, PREDICT, sep=sep)
    x = observed_of(adata, perturbation, observed, observed_layer, sep=sep)
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        raise ValueError(f"No gene of {perturbation!r} has both an observed and a predicted log-fold-change.")
    x, y, names = x[known], y[known], adata.var_names[known]
    changed = np.argsort(-np.abs(x), kind="stable")[:n_top]
    missed = np.argsort(-np.abs(x - y), kind="stable")[:n_missed]
    ax = axes(ax, figsize)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    pad = 0.08 * (high - low or 1)
    ax.plot([low - pad, high + pad], [low - pad, high + pad], color=GREY, linewidth=1, linestyle="--", zorder=1)
    is_missed = np.isin(np.arange(len(x)), missed)
    points = np.column_stack([x, y])
    ax.scatter(x, y, s=8, c=np.where(is_missed, VERMILION, BLUE), alpha=0.6, linewidth=0, zorder=2)
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
    ax.tick_params(labelsize=7)
    ax.set_xlabel(f"observed {LFC_UNIT}", fontsize=8)
    ax.set_ylabel(f"predicted {LFC_UNIT}", fontsize=8)
    ax.set_title(
        f"{perturbation} ({known.sum()} genes)" + ("\n(largest errors in red)" if len(missed) else ""), fontsize=9
    )
    ax.spines[["top", "right"]].set_visible(False)
    named = np.concatenate([missed, changed[~is_missed[changed]]])
    name_points(
        ax,
        points[named],
        list(names[named]),
        others=points,
        colors=np.where(is_missed[named], VERMILION, BLACK).tolist(),
        bold=names[named].isin(parse_label(perturbation, control=(), sep=sep)).tolist(),
    )
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)
