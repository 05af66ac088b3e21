"""Plots of predicted effects: against observed effects, with intervals, and as sums of contributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation
from scipy import stats

from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, parse_label
from scapp.pl._figure import (
    LFC_UNIT,
    Color,
    axes,
    figure_of,
    finish_figure,
    label_axes,
    name_points,
    name_rows,
    note,
    picture,
)
from scapp.pl._rows import PREDICT, observed_of, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Color and name of each source of a prediction.
SOURCES = {
    "training perturbation": (Color.ORANGE, "training perturbation"),
    "gene": (Color.GREEN, "gene of a network"),
    "centre": (Color.SKY, "mean of the screen"),
    "all others": (Color.GREY, "all others"),
}
EXPLANATION_COLUMNS = ("perturbation", "gene", "source", "term", "name", "contribution")


@picture
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
    """Plot predicted against observed log-fold-changes, naming the genes with the largest changes and errors.

    Parameters
    ----------
    {predictions}
    {perturbation}
    observed
        Effects with the observed log-fold-changes, from :func:`scapp.pp.pseudobulk`; genes are matched by name. If None,
        `adata` itself.
    observed_layer, predicted_layer
        The layers.
    n_top
        Number of genes with the largest observed change to name.
    n_missed
        Number of genes with the largest error to name, in red.
    {sep}
    {figure}

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
    y = rows_of(adata, [perturbation], predicted_layer, sep=sep)[0]
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
    ax.plot([low - pad, high + pad], [low - pad, high + pad], color=Color.GREY, linewidth=1, linestyle="--", zorder=1)
    is_missed = np.isin(np.arange(len(x)), missed)
    points = np.column_stack([x, y])
    ax.scatter(x, y, s=8, c=np.where(is_missed, Color.VERMILION, Color.BLUE), alpha=0.6, linewidth=0, zorder=2)
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
    title = f"{perturbation} ({known.sum()} genes)" + ("\n(largest errors in red)" if len(missed) else "")
    label_axes(ax, x=f"observed {LFC_UNIT}", y=f"predicted {LFC_UNIT}", title=title)
    named = np.concatenate([missed, changed[~is_missed[changed]]])
    name_points(
        ax,
        points[named],
        list(names[named]),
        others=points,
        colors=np.where(is_missed[named], Color.VERMILION, Color.BLACK).tolist(),
        bold=names[named].isin(parse_label(perturbation, control=(), sep=sep)).tolist(),
    )
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


@picture
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
    """Plot predicted log-fold-changes of the most changed genes with their intervals, and observed values if given.

    Parameters
    ----------
    {predictions}
    {perturbation}
    n_genes
        Number of genes with the largest predicted change to show.
    genes
        Genes to show instead.
    level
        Nominal coverage of the intervals, which are ± z standard deviations with the normal quantile z.
    layer, std_layer
        Layers of the predictions and of their standard deviations; no intervals are drawn if `std_layer` is None.
    observed
        Effects with observed log-fold-changes, from :func:`scapp.pp.pseudobulk`; genes are matched by name. If None,
        they are taken from `adata` if it has `observed_layer`.
    observed_layer
        Layer of the observed log-fold-changes.
    {sep}
    {fitted_figure}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The largest increase is on top; the perturbed genes are red.

    Raises
    ------
    ValueError
        If a layer, the perturbation or a gene is missing, a gene has no prediction, or `level` is not between 0 and 1.

    Examples
    --------
    >>> predicted = model.predict(["CEBPA+KLF1"])
    >>> scapp.pl.predicted_profile(predicted, "CEBPA+KLF1", level=0.95)
    """
    if not 0 < level < 1:
        raise ValueError(f"level is the share that an interval should hold, between 0 and 1; found {level}.")
    values = rows_of(adata, [perturbation], layer, sep=sep)[0]
    std = None
    if std_layer is not None:
        filled_by = f"{PREDICT}, not by the baselines; pass std_layer=None to draw no intervals"
        std = rows_of(adata, [perturbation], std_layer, filled_by, sep=sep)[0]
    seen = None
    if observed is not None or observed_layer in adata.layers:
        seen = observed_of(adata, perturbation, observed, observed_layer, sep=sep)
    if genes is None:
        # Genes that were not measured are NaN and come last.
        rows = np.argsort(-np.abs(values), kind="stable")[: min(n_genes, int(np.isfinite(values).sum()))]
    else:
        rows = _rows_of_genes(adata, genes, values)
    rows = rows[np.argsort(values[rows], kind="stable")]

    ax = axes(ax, figsize or (3.5, 1.25 + 0.165 * len(rows)))
    y, names = np.arange(len(rows)), adata.var_names[rows]
    perturbed = names.isin(parse_label(perturbation, control=(), sep=sep))
    colors = np.where(perturbed, Color.VERMILION, Color.BLUE).tolist()
    ax.axvline(0, color=Color.BLACK, linewidth=0.6, zorder=1)
    if std is not None:
        half = stats.norm.ppf((1 + level) / 2) * std[rows]
        ax.hlines(y, values[rows] - half, values[rows] + half, color=colors, linewidth=2, alpha=0.5, zorder=2)
    interval = "" if std is None else f", {100 * level:g} % interval"
    ax.scatter(values[rows], y, color=colors, s=16, zorder=3)
    handles = [ax.scatter([], [], color=Color.BLUE, s=16, label=f"predicted{interval}")]
    if seen is not None:
        handles.append(
            ax.scatter(seen[rows], y, marker="D", s=14, facecolor="white", edgecolor=Color.BLACK, linewidth=0.8, zorder=4,
                       label="observed")
        )  # fmt: skip
    name_rows(ax, names, colors)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    marked = "\n(perturbed genes in red)" if perturbed.any() else ""
    label_axes(ax, x=LFC_UNIT, title=f"{perturbation}{': most changed genes' if genes is None else ''}{marked}")
    # Below the axes, because bars may reach every corner inside, and at a fixed distance in inches.
    below = ax.transAxes + ScaledTranslation(0, -0.36, figure_of(ax).dpi_scale_trans)
    ax.legend(
        handles=handles, fontsize=7, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
    )  # fmt: skip
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _rows_of_genes(adata: AnnData, genes: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Return the positions of genes, all of which must exist and have a prediction."""
    rows = adata.var_names.get_indexer(list(genes))
    if (rows < 0).any():
        raise ValueError(
            f"These are not genes of adata: {shorten(g for g, row in zip(genes, rows, strict=True) if row < 0)}."
        )
    if not np.isfinite(values[rows]).all():
        nothing = adata.var_names[rows][~np.isfinite(values[rows])]
        raise ValueError(
            f"Nothing was predicted for {shorten(nothing)}: log-fold-changes are predicted of measured genes only. Leave "
            "them out."
        )
    return rows


@picture
def explanation(
    table: pd.DataFrame,
    *,
    n_top: int = 10,
    legend: bool = True,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the largest contributions to one predicted value; each bar begins where the one above ends.

    Parameters
    ----------
    table
        Table from :func:`scapp.tl.explain`.
    n_top
        Number of contributions to show separately; the rest are summed.
    legend
        Whether to explain the colors of the sources below the axes.
    {fitted_figure}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The last bar ends at the dashed line, the prediction.

    Raises
    ------
    ValueError
        If a column is missing, or the table covers more than one prediction.

    Examples
    --------
    >>> scapp.pl.explanation(scapp.tl.explain(model, "CEBPA+KLF1", "HBG1"))
    """
    rows = _bars(table, n_top)
    end = rows["contribution"].cumsum().to_numpy()
    start = end - rows["contribution"].to_numpy()
    y = np.arange(len(rows))[::-1]
    ax = axes(ax, figsize or (3.5, 1.1 + 0.2 * len(rows) + 0.3 * legend))
    ax.use_sticky_edges = False  # a bar that begins where another ends would touch the frame
    ax.barh(y, end - start, left=start, height=0.7, color=[SOURCES[source][0] for source in rows["source"]], zorder=2)
    ax.vlines(end[:-1], y[1:] - 0.35, y[:-1] + 0.35, color=Color.BLACK, linewidth=0.6, zorder=3)
    ax.axvline(0, color=Color.BLACK, linewidth=0.8)
    ax.axvline(end[-1], color=Color.BLACK, linewidth=0.8, linestyle="--")
    for at, value in zip(y, rows["contribution"], strict=True):
        note(ax, f"{value:+.3f}", (1, at), xycoords=("axes fraction", "data"), fontsize=7, annotation_clip=False)
    ax.set_yticks(y, rows["label"], fontsize=7)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    perturbation, gene = table["perturbation"].iloc[0], table["gene"].iloc[0]
    label_axes(ax, x=LFC_UNIT, title=f"{gene} under {perturbation}:\npredicted {end[-1]:+.3f}")
    if legend:
        shown = set(rows["source"]) - {"all others"}
        handles = [Patch(color=color, label=name) for source, (color, name) in SOURCES.items() if source in shown]
        ax.figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _bars(table: pd.DataFrame, n_top: int) -> pd.DataFrame:
    """Return the largest contributions with their labels, and the sum of the others."""
    missing = [column for column in EXPLANATION_COLUMNS if column not in table]
    if missing:
        raise ValueError(f"The table has no column {', '.join(missing)}; pass what `scapp.tl.explain` returns.")
    asked = table[["perturbation", "gene"]].drop_duplicates()
    if len(asked) != 1:
        raise ValueError(f"The table is about {len(asked)} predictions; choose the rows of one perturbation and gene.")
    if n_top < 1:
        raise ValueError(f"n_top must be at least 1, found {n_top}.")
    rows = table.iloc[np.argsort(-table["contribution"].abs().to_numpy(), kind="stable")].reset_index(drop=True)
    several = rows["term"].where(rows["source"] != "centre").nunique() > 1
    kind = " (" + rows["term"] + ")" if several else ""
    label = rows["name"].where(~rows["source"].isin(["centre", "intercept"]), rows["source"])
    rows["label"] = label + np.where(rows["source"] == "centre", "", kind)
    if len(rows) <= n_top + 1:
        return rows
    others = rows.iloc[n_top:]
    rest = {"source": "all others", "label": f"{len(others)} others", "contribution": others["contribution"].sum()}
    return pd.concat([rows.iloc[:n_top], pd.DataFrame([rest])], ignore_index=True)
