"""Scores of methods as bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp.pl._figure import BLACK, PALETTE, axes, finish_figure

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"l2": "L2 distance to the observed effect", "pearson_delta": "Pearson correlation of the changes"}


@checked
def scores(
    table: pd.DataFrame,
    *,
    metric: str = "l2",
    ceiling: Mapping[str, float] | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 3.2),
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the mean score of each method, one group of bars for each kind of held-out perturbation.

    Parameters
    ----------
    table
        One row per method and perturbation, with the columns ``method``, ``kind`` and the metric.
    metric
        Column to show.
    ceiling
        For each kind the score that the noise of the data leaves to a perfect prediction, where it is known: a dotted line.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Whiskers are 95 % intervals of the mean over perturbations.

    Raises
    ------
    ValueError
        If a column is missing, or `ceiling` names a kind that is not in the table.
    """
    missing = {"method", "kind", metric} - set(table.columns)
    if missing:
        raise ValueError(f"The table has no column {', '.join(sorted(missing))}; it has {', '.join(table.columns)}.")
    if unknown := set(ceiling or {}) - set(table["kind"]):
        raise ValueError(
            f"ceiling names {', '.join(map(repr, sorted(unknown)))}; kinds are {', '.join(map(repr, pd.unique(table['kind'])))}."
        )
    methods, kinds = pd.unique(table["method"]), pd.unique(table["kind"])
    ax = axes(ax, figsize)
    width = 0.8 / len(methods)
    for m, method in enumerate(methods):
        for k, kind in enumerate(kinds):
            values = table.loc[(table["method"] == method) & (table["kind"] == kind), metric].dropna().to_numpy()
            if not len(values):
                continue
            error = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0
            ax.bar(
                k + (m - (len(methods) - 1) / 2) * width,
                values.mean(),
                width * 0.9,
                yerr=error,
                color=PALETTE[m % len(PALETTE)],
                error_kw={"linewidth": 1},
            )
    for kind, limit in (ceiling or {}).items():
        k = list(kinds).index(kind)
        ax.hlines(limit, k - 0.45, k + 0.45, color=BLACK, linestyle=":", linewidth=1.2, zorder=3)
    handles: list[Any] = [ax.bar(0, 0, color=PALETTE[m % len(PALETTE)]) for m in range(len(methods))]
    names = [str(method) for method in methods]
    if ceiling:
        handles.append(ax.hlines([], 0, 0, color=BLACK, linestyle=":", linewidth=1.2))
        names.append("noise ceiling")
    ax.legend(handles, names, fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    counts = table.groupby("kind")["perturbation"].nunique() if "perturbation" in table else None
    ticks = [kind if counts is None else f"{kind}\n(n = {counts[kind]})" for kind in kinds]
    ax.set_xticks(range(len(kinds)), ticks, fontsize=7)
    ax.tick_params(axis="y", labelsize=7)
    ax.set_ylabel(LABELS.get(metric, metric), fontsize=8)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)
