"""The genes that predictions attend to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import colormaps, colors
from scipy import sparse

from scapp._genes import check_layer, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, did_you_mean, parse_label, refuse_text
from scapp._ranking import read_group
from scapp.pl._figure import COLUMN, Color, axes, color_bar, finish_figure, label_axes, name_rows, picture
from scapp.pl._rows import PREDICT, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RELATIVE = "ln (attention / mean over perturbations)"
# Axis labels for the scores of a ranking, by method.
SCORES = {"attention_relative": RELATIVE, "attention_z_score": "attention (z-score over perturbations)"}
# With names of 6 points, no more columns fit the width of a page (7 inches), and no more rows its height.
MAX_PERTURBATIONS, MAX_GENES = 50, 80
FLOOR = 1e-6  # smaller attention counts as none; the tiny values of a softmax would take up the whole scale


@picture
def attention(
    adata: AnnData,
    perturbation: str,
    *,
    n_genes: int = 20,
    layer: str = Key.layers.ATTENTION,
    key: str | None = None,
    sep: str = SEPARATOR,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the genes ranked by the attention of one perturbation, with the perturbed genes highlighted.

    Parameters
    ----------
    adata
        Predictions with one observation per perturbation, from :meth:`scapp.model.APP.predict`; with `key`, any AnnData
        that holds a ranking.
    perturbation
        One of ``adata.obs_names``; with `key`, one of the groups of the ranking.
    n_genes
        Number of genes to show. Genes with zero attention are left out.
    layer
        Layer of the attention.
    key
        Show the scores of this ranking in `uns` instead of the layer. It must have the format of scanpy's
        ``rank_genes_groups``, as ``uns["attention_genes"]`` does, or the format that replaces it beyond 500
        perturbations.
    {sep}
    {fitted_figure}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The scale is logarithmic where all scores are positive.

    Raises
    ------
    ValueError
        If the layer, the ranking or the perturbation is missing, or the observation has no attention (as for controls).

    Examples
    --------
    >>> predicted = model.predict(["CEBPA+KLF1"])
    >>> scapp.pl.attention(predicted, "CEBPA+KLF1")
    """
    if key is None:
        values = rows_of(adata, [perturbation], layer, sep=sep)[0]
        order = np.argsort(-values, kind="stable")[:n_genes]
        order = order[values[order] > 0]  # not NaN either
        if not len(order):
            raise ValueError(f"The attention of {perturbation!r} is zero or NaN for all genes; controls have none.")
        names, values, label = adata.var_names[order].to_numpy(), values[order], "attention (all genes sum to 1)"
    else:
        names, values, label = _ranked(adata, perturbation, key, n_genes)
    names, values = names[::-1], values[::-1]
    perturbed = set(parse_label(perturbation, control=(), sep=sep))
    y = np.arange(len(values))
    logarithmic = bool((values > 0).all())
    ax = axes(ax, figsize or (3.5, 0.9 + 0.165 * len(values)))
    shades = [Color.VERMILION if name in perturbed else Color.BLUE for name in names]
    ax.hlines(y, values.min() * 0.8 if logarithmic else 0, values, color=shades, linewidth=1.5)
    ax.scatter(values, y, color=shades, s=18, zorder=3)
    if logarithmic:
        ax.set_xscale("log")
    name_rows(ax, names, shades)
    marked = "\n(perturbed genes in red)" if Color.VERMILION in shades else ""
    label_axes(ax, x=label, title=f"{perturbation}: most attended genes{marked}")
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _ranked(adata: AnnData, perturbation: str, key: str, n_genes: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the names and scores of the first genes of a ranking, and the label of the scores."""
    try:
        names, scores, method = read_group(adata, key, perturbation)
    except KeyError as error:
        if len(error.args) == 1:
            has = shorten(repr(k) for k, value in adata.uns.items() if hasattr(value, "keys") and "names" in value)
            raise ValueError(
                f"adata.uns has no ranking of genes {key!r}; it has {has or 'none'}. `model.predict()` without names writes "
                f"uns[{Key.uns.ATTENTION_GENES!r}]."
            ) from None
        groups = error.args[1]
        hint = did_you_mean(perturbation, groups) or f" Its groups are {shorten(groups)}."
        raise ValueError(f"The ranking uns[{key!r}] has no group {perturbation!r}.{hint}") from None
    return names[:n_genes], scores[:n_genes], SCORES.get(method, method)


@picture
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
    r"""Plot the attention of perturbations (columns) to the genes that at least one of them attends to most (rows).

    Parameters
    ----------
    {predictions}
    perturbations
        Names in ``adata.obs_names`` to show, in this order; all if None. At most 50.
    n_genes
        Number of genes per perturbation; the rows are their union.
    relative
        Show specific attention: the natural logarithm of the attention relative to its mean
        over all observations of `adata` that have attention, :math:`\ln\frac{\alpha_{Pg} + 1/G}{\bar\alpha_g + 1/G}`.
        The uniform attention :math:`1/G` to each of the :math:`G` genes is added so that genes without attention stay near
        0.
    layer
        Layer of the attention.
    {sep}
    ax, figsize
        Axes to draw on, or the size of a new figure in inches; by default as wide as a journal column (3.5 inches), or
        wider if there are more perturbations than fit.
    {saved}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Black dots mark the perturbed genes; grey means an attention below
    one in a million.

    Raises
    ------
    ValueError
        If the layer or a perturbation is missing, a perturbation has no attention, or there are too many perturbations
        or genes to be legible.

    Examples
    --------
    >>> predicted = model.predict(["KLF1", "CEBPA", "CEBPA+KLF1"])
    >>> scapp.pl.attention_heatmap(predicted, n_genes=8, relative=True)
    """
    refuse_text(perturbations, "perturbations")
    check_layer(adata, layer, f"{PREDICT}.")
    names = [str(name) for name in (adata.obs_names if perturbations is None else perturbations)]
    if not 1 <= len(names) <= MAX_PERTURBATIONS:
        raise ValueError(
            f"{len(names)} perturbations are asked; from 1 to {MAX_PERTURBATIONS} can be read. Name those of interest, "
            "for example the first with `scapp.pl.attention_heatmap(adata, list(adata.obs_names[:20]))`."
        )
    values = rows_of(adata, names, layer, sep=sep)
    without = [name for name, row in zip(names, values, strict=True) if not row.any() or not np.isfinite(row).all()]
    if without:
        raise ValueError(
            f"These observations have no attention, as controls have none: {shorten(map(repr, without))}. Leave them out."
        )
    if relative:
        every, uniform = adata.layers[layer], 1 / adata.n_vars
        # Observations without attention are NaN.
        mean = np.asarray(every.mean(axis=0)).ravel() if sparse.issparse(every) else np.nanmean(every, axis=0)
        values = np.log((values + uniform) / (mean + uniform))
    rows = _most_attended(values, n_genes)
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
        x = np.full(len(perturbed), column + 0.5)
        ax.scatter(x, perturbed, s=9, color=Color.BLACK, edgecolor="white", linewidth=0.5)
    ax.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, fontsize=6)
    ax.set_yticks(np.arange(len(rows)) + 0.5, genes, fontsize=6)
    ax.set(xlim=(0, len(names)), ylim=(len(rows), 0))
    ax.tick_params(length=1.5, width=0.5, pad=1.5)
    color_bar(ax, image, RELATIVE if relative else "attention", aspect=30)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _most_attended(values: np.ndarray, n_genes: int) -> np.ndarray:
    """Return the columns of the first genes of each row, without repeats, in the order of the rows."""
    order = np.argsort(-values, axis=1, kind="stable")
    rows = pd.unique(order[:, :n_genes].ravel())
    if n_genes < 1 or len(rows) > MAX_GENES:
        fits = [n for n in range(1, max(n_genes, 2)) if len(pd.unique(order[:, :n].ravel())) <= MAX_GENES]
        raise ValueError(
            f"The first n_genes={n_genes} of {len(values)} perturbations are {len(rows)} genes; from 1 to {MAX_GENES} can be "
            f"read. Pass {f'n_genes={fits[-1]}' if fits else 'fewer perturbations'}."
        )
    return rows
