"""The most changed genes of one prediction, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.transforms import ScaledTranslation
from scipy import stats

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, parse_label
from scapp.pl._figure import BLACK, BLUE, LFC_UNIT, VERMILION, axes, finish_figure
from scapp.pl._rows import PREDICT, observed_of, row_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checked
def predicted_profile(
    adata: AnnData,
    perturbation: str,
    *,
    n_genes: int = 20,
    genes: Sequence[str] | None = None,
    level: float = 0.8,
    layer: str = Key.layers.PREDICTED_LFC,
    std_layer: str | None = Key.layers.PREDICTED_LFC_STD,
    observed: AnnData | None = None,
    observed_layer: str = Key.layers.LFC,
    sep: str = SEPARATOR,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot predicted log-fold-changes of the most changed genes with their intervals, and the observed ones where there are any.

    Parameters
    ----------
    adata
        Predictions with one observation per perturbation, as :meth:`scapp.model.APP.predict` returns.
    perturbation
        One of ``adata.obs_names``; the genes of a combination in any order.
    n_genes
        How many genes: those with the largest predicted change.
    genes
        Show these instead.
    level
        What an interval should hold: predicted ± z standard deviations, with the quantile z of the normal distribution.
    layer, std_layer
        Layers of the predictions and of their standard deviations; no intervals are drawn if `std_layer` is None.
    observed
        Effects that hold observed log-fold-changes, as :func:`scapp.pp.pseudobulk` returns; genes are matched by name.
        If None they are taken from `adata`, if it has `observed_layer`.
    observed_layer
        Layer of the observed log-fold-changes.
    sep
        What joins the genes of a label.
    ax, figsize
        Where to draw, or the size of a new figure in inches; by default as high as the genes need.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The largest increase is on top; the perturbed genes are red.

    Raises
    ------
    ValueError
        If a layer, the perturbation or a gene is missing, nothing was predicted for a gene, or `level` is not between 0
        and 1.

    Examples
    --------
    >>> predicted = model.predict(["CEBPA+KLF1"])
    >>> scapp.pl.predicted_profile(predicted, "CEBPA+KLF1", level=0.95)
    """
    if not 0 < level < 1:
        raise ValueError(f"level is the share that an interval should hold, between 0 and 1; found {level}.")
    values = row_of(adata, perturbation, layer, PREDICT, sep=sep)
    std = None
    if std_layer is not None:
        filled_by = f"{PREDICT}, not by the baselines; pass std_layer=None to draw no intervals"
        std = row_of(adata, perturbation, std_layer, filled_by, sep=sep)
    seen = None
    if observed is not None or observed_layer in adata.layers:
        seen = observed_of(adata, perturbation, observed, observed_layer, sep=sep)
    rows = _most_changed(values, n_genes) if genes is None else _named(adata, genes, values)
    rows = rows[np.argsort(values[rows], kind="stable")]

    ax = axes(ax, figsize or (3.5, 1.25 + 0.165 * len(rows)))
    y, names = np.arange(len(rows)), adata.var_names[rows]
    perturbed = names.isin(parse_label(perturbation, control=(), sep=sep))
    colors = np.where(perturbed, VERMILION, BLUE).tolist()
    ax.axvline(0, color=BLACK, linewidth=0.6, zorder=1)
    if std is not None:
        half = stats.norm.ppf((1 + level) / 2) * std[rows]
        ax.hlines(y, values[rows] - half, values[rows] + half, color=colors, linewidth=2, alpha=0.5, zorder=2)
    interval = "" if std is None else f", {100 * level:g} % interval"
    ax.scatter(values[rows], y, color=colors, s=16, zorder=3)
    handles = [ax.scatter([], [], color=BLUE, s=16, label=f"predicted{interval}")]
    if seen is not None:
        handles.append(
            ax.scatter(seen[rows], y, marker="D", s=14, facecolor="white", edgecolor=BLACK, linewidth=0.8, zorder=4,
                       label="observed")
        )  # fmt: skip
    ax.set_yticks(y, names, fontsize=7)
    for text, color in zip(ax.get_yticklabels(), colors, strict=True):
        text.set_color(color)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_xlabel(LFC_UNIT, fontsize=8)
    marked = "\n(perturbed genes in red)" if perturbed.any() else ""
    ax.set_title(
        f"{perturbation}: most changed genes{marked}" if genes is None else f"{perturbation}{marked}", fontsize=9
    )
    # Below the axes, since bars may reach every corner inside; a distance in inches, whatever the height.
    figure = ax.get_figure(root=True)
    assert figure is not None
    below = ax.transAxes + ScaledTranslation(0, -0.36, figure.dpi_scale_trans)
    ax.legend(
        handles=handles,
        fontsize=7,
        frameon=False,
        ncols=2,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
    )
    ax.spines[["top", "right"]].set_visible(False)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _most_changed(values: np.ndarray, n_genes: int) -> np.ndarray:
    order = np.argsort(-np.abs(values), kind="stable")  # NaN, of genes that were not measured, comes last
    return order[: min(n_genes, int(np.isfinite(values).sum()))]


def _named(adata: AnnData, genes: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Return where genes stand; all must be there and have a prediction."""
    rows = adata.var_names.get_indexer(list(genes))
    if (rows < 0).any():
        raise ValueError(
            f"These are no genes of adata: {shorten(g for g, row in zip(genes, rows, strict=True) if row < 0)}."
        )
    if not np.isfinite(values[rows]).all():
        nothing = adata.var_names[rows][~np.isfinite(values[rows])]
        raise ValueError(
            f"Nothing was predicted for {shorten(nothing)}: log-fold-changes are predicted of measured genes only. Leave "
            "them out."
        )
    return rows
