"""Error with a damaged network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp.pl._benchmark._table import SERIES, check_columns
from scapp.pl._figure import BLACK, axes, done

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checked
def benchmark_network_damage(
    damage: pd.DataFrame,
    *,
    labels: Mapping[str, str] | None = None,
    claimed: pd.DataFrame | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 3.0),
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Error with a damaged network relative to that with the whole network.

    Parameters
    ----------
    damage
        One row a task and method: the columns ``task``, ``method``, ``ratio``, ``ratio_low`` and ``ratio_high``, the
        ratio to the model with the whole network. What stands before the first comma of a method is left out.
    labels
        What the tasks are called in the legend.
    claimed
        Ratios that were claimed, with the columns ``task``, ``method`` and ``ratio``: drawn hollow.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Lines are 95 % intervals.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    check_columns(damage, ("task", "method", "ratio", "ratio_low", "ratio_high"))
    methods, tasks = list(pd.unique(damage["method"])), list(pd.unique(damage["task"]))
    ax = axes(ax, figsize)
    for t, task in enumerate(tasks):
        shift = (t - (len(tasks) - 1) / 2) * 0.3
        of = damage[damage["task"] == task]
        x = np.array([methods.index(method) for method in of["method"]]) + shift
        color, marker = SERIES[t % len(SERIES)]
        ax.vlines(x, of["ratio_low"], of["ratio_high"], color=color, linewidth=1.4)
        name = (labels or {}).get(task, task)
        ax.scatter(x, of["ratio"], color=color, marker=marker, s=22, zorder=3, label=f"{name}: measured")
        if claimed is not None:
            of = claimed[(claimed["task"] == task) & claimed["method"].isin(methods)]
            x = np.array([methods.index(method) for method in of["method"]]) + shift + 0.1
            ax.scatter(
                x,
                of["ratio"],
                facecolor="none",
                edgecolor=color,
                marker=marker,
                s=22,
                label=f"{name}: the paper's claim",
            )
    ax.axhline(1, color=BLACK, linewidth=0.8, linestyle="--", zorder=1)
    short = [method.partition(", ")[2] or method for method in methods]
    ax.set_xticks(range(len(methods)), [_broken(name) for name in short], fontsize=7)
    ax.set_xlim(-0.6, len(methods) - 0.4)
    ax.tick_params(axis="y", labelsize=7)
    ax.set_ylabel("error relative to the whole network", fontsize=8)
    ax.figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return done(ax, show=show, save=save, return_fig=return_fig)


def _broken(name: str) -> str:
    """A label with a word a line, a number and its percentage together."""
    return name.replace(" ", "\n").replace("\n%", " %")
