"""The genes that a prediction attends to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._keys import Key
from scapp._perturbations import parse_label
from scapp.pl._figure import BLUE, VERMILION, axes, done, row_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def attention(
    adata: AnnData,
    perturbation: str,
    *,
    n_genes: int = 20,
    layer: str = Key.layers.ATTENTION,
    sep: str = "+",
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 4.2),
    show: bool | None = None,
    save: str | Path | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Genes ranked by the attention of one perturbation, on a logarithmic scale; the perturbed genes stand out.

    Parameters
    ----------
    adata
        Predictions with one observation a perturbation, as :meth:`scapp.model.APP.predict` returns.
    perturbation
        One of ``adata.obs_names``.
    n_genes
        How many genes.
    layer
        Layer of the attention.
    sep
        What joins the genes of the label.
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
        If the layer or the perturbation is missing.
    """
    values = row_of(adata, perturbation, layer, "`APP.predict`")
    order = np.argsort(-values, kind="stable")[:n_genes][::-1]
    perturbed = set(parse_label(perturbation, control=None, sep=sep))
    names = adata.var_names[order]
    ax = axes(ax, figsize)
    colors = [VERMILION if name in perturbed else BLUE for name in names]
    ax.hlines(np.arange(len(order)), values[order].min() * 0.8, values[order], color=colors, linewidth=1.5)
    ax.scatter(values[order], np.arange(len(order)), color=colors, s=18, zorder=3)
    ax.set_xscale("log")
    ax.set_yticks(np.arange(len(order)), names, fontsize=7)
    for label, color in zip(ax.get_yticklabels(), colors, strict=True):
        label.set_color(color)
    ax.set_xlabel("attention (all genes sum to 1)")
    ax.set_title(f"{perturbation}: most attended genes\n(perturbed genes in red)", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return done(ax, show=show, save=save, return_fig=return_fig)
