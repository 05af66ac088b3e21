"""Attention of several perturbations to the genes that they attend to most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import colormaps, colors
from scipy import sparse

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, parse_label
from scapp.pl._figure import BLACK, COLUMN, axes, finish_figure
from scapp.pl._rows import PREDICT, check_layer, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More columns than these do not fit a page of two columns (7 inches), nor more rows its height, with names of 6 points.
MAX_PERTURBATIONS, MAX_GENES = 50, 80
FLOOR = 1e-6  # below, a gene is not attended to; the least that a softmax leaves would take up the whole scale


@checked
def attention_heatmap(
    adata: AnnData,
    perturbations: Sequence[str] | None = None,
    *,
    n_genes: int = 5,
    relative: bool = False,
    layer: str = Key.layers.ATTENTION,
    sep: str = SEPARATOR,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    r"""Plot the attention of perturbations (columns) to the genes that one of them attends to most (rows).

    Parameters
    ----------
    adata
        Predictions with one observation per perturbation, as :meth:`scapp.model.APP.predict` returns.
    perturbations
        Which of ``adata.obs_names``, in this order; all if None, at most 50.
    n_genes
        How many genes of each perturbation; the rows are the union of them.
    relative
        Show what is specific rather than what is always attended to: the natural logarithm of the attention relative to its mean
        over all observations of `adata` that have attention, :math:`\ln\frac{\alpha_{Pg} + 1/G}{\bar\alpha_g + 1/G}`.
        The uniform attention :math:`1/G` to each of the :math:`G` genes is added so that genes nobody attends to stay near
        0.
    layer
        Layer of the attention.
    sep
        What joins the genes of a label.
    ax, figsize
        Where to draw, or the size of a new figure in inches; by default one column of a journal wide (3.5 inches), and
        wider where there are more perturbations than fit.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. A black dot marks a perturbed gene in its perturbation; grey is an
    attention below one in a million.

    Raises
    ------
    ValueError
        If the layer or a perturbation is missing, a perturbation has no attention, or there are more perturbations or
        genes than can be read.

    Examples
    --------
    >>> predicted = model.predict(["KLF1", "CEBPA", "CEBPA+KLF1"])
    >>> scapp.pl.attention_heatmap(predicted, n_genes=8, relative=True)
    """
    if isinstance(perturbations, str):
        raise TypeError(
            f"Expected a list of perturbations, found the text {perturbations!r}. Pass [{perturbations!r}]."
        )
    names = [str(name) for name in (adata.obs_names if perturbations is None else perturbations)]
    values = _attention_of(adata, names, layer, sep)
    if relative:
        uniform = 1 / adata.n_vars
        values = np.log((values + uniform) / (_mean_attention(adata, layer) + uniform))
    rows = _most_attended(values, n_genes, n_groups=len(names))
    genes, shown = adata.var_names[rows], values[:, rows].T
    if not relative:
        shown = np.ma.masked_less(shown, FLOOR)

    width = max(COLUMN, 1.5 + 0.11 * len(names))
    ax = axes(ax, figsize or (width, 1.0 + 0.1 * len(rows) + 0.05 * max(map(len, names))))
    if relative:
        limit = np.abs(shown).max()
        palette, norm = "PuOr_r", colors.Normalize(-limit, limit)
    else:
        palette, norm = "viridis", colors.LogNorm(shown.min(), shown.max())
    image = ax.pcolormesh(shown, cmap=colormaps[palette].with_extremes(bad="#cccccc"), norm=norm, rasterized=True)
    for column, name in enumerate(names):
        perturbed = np.flatnonzero(genes.isin(parse_label(name, control=(), sep=sep))) + 0.5
        ax.scatter(np.full(len(perturbed), column + 0.5), perturbed, s=9, color=BLACK, edgecolor="white", linewidth=0.5)
    ax.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, fontsize=6)
    ax.set_yticks(np.arange(len(rows)) + 0.5, genes, fontsize=6)
    ax.set(xlim=(0, len(names)), ylim=(len(rows), 0))
    ax.tick_params(length=1.5, width=0.5, pad=1.5)
    figure = ax.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(image, ax=ax, pad=0.02, aspect=30)
    bar.ax.tick_params(labelsize=6)
    bar.set_label("ln (attention / mean over perturbations)" if relative else "attention", fontsize=7)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _attention_of(adata: AnnData, names: Sequence[str], layer: str, sep: str) -> np.ndarray:
    """Return attention of each perturbation, of shape (n_perturbations, n_vars)."""
    check_layer(adata, layer, PREDICT)
    if not 1 <= len(names) <= MAX_PERTURBATIONS:
        raise ValueError(
            f"{len(names)} perturbations are asked; from 1 to {MAX_PERTURBATIONS} can be read. Name those of interest, "
            "for example the first with `scapp.pl.attention_heatmap(adata, list(adata.obs_names[:20]))`."
        )
    values = rows_of(adata, names, layer, PREDICT, sep=sep)
    without = [name for name, row in zip(names, values, strict=True) if not row.any() or not np.isfinite(row).all()]
    if without:
        raise ValueError(
            f"These observations have no attention, as controls have none: {shorten(map(repr, without))}. Leave them out."
        )
    return values


def _mean_attention(adata: AnnData, layer: str) -> np.ndarray:
    """Return the mean over the observations that have attention, of shape (n_vars,)."""
    values = adata.layers[layer]
    return np.asarray(values.mean(axis=0)).ravel() if sparse.issparse(values) else np.nanmean(values, axis=0)


def _most_attended(values: np.ndarray, n_genes: int, *, n_groups: int) -> np.ndarray:
    """Return columns of the first genes of each row, each once: those of the first row, then what the second adds, …."""
    order = np.argsort(-values, axis=1, kind="stable")
    rows = pd.unique(order[:, :n_genes].ravel())
    if n_genes < 1 or len(rows) > MAX_GENES:
        fits = [n for n in range(1, max(n_genes, 2)) if len(pd.unique(order[:, :n].ravel())) <= MAX_GENES]
        raise ValueError(
            f"The first n_genes={n_genes} of {n_groups} perturbations are {len(rows)} genes; from 1 to {MAX_GENES} can be "
            f"read. Pass {f'n_genes={fits[-1]}' if fits else 'fewer perturbations'}."
        )
    return rows
