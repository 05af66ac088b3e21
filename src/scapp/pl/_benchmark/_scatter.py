"""Error of one method against that of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scapp._checked import checked
from scapp.pl._benchmark._table import chosen
from scapp.pl._figure import BLACK, BLUE, VERMILION, axes, done

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checked
def benchmark_scatter(
    results: pd.DataFrame,
    method: str,
    *,
    against: str,
    task: str | None = None,
    metric: str = "l2",
    title: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 3.5),
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Error of one method against that of another, a point for each held-out perturbation and split.

    Parameters
    ----------
    results
        One row a score: the columns ``task``, ``method``, ``seed``, ``perturbation``, ``metric`` and ``value``.
    method, against
        The methods on the vertical and on the horizontal axis.
    task, title
        As in :func:`scapp.pl.benchmark_ratios`.
    metric
        Which error; lower is taken as better.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Below the line `method` is the better; the share of such points
    is written there.

    Raises
    ------
    ValueError
        If a column, the task, a method or the metric is missing.
    """
    needed = ("task", "method", "seed", "perturbation", "metric", "value")
    rows = chosen(results, needed, task, [method, against])
    rows = rows[(rows["metric"] == metric) & (rows["perturbation"] != "")]
    table = rows.pivot(index=["seed", "perturbation"], columns="method", values="value")
    if not {method, against} <= set(table.columns) or table.dropna().empty:
        raise ValueError(f"{method!r} and {against!r} have no {metric} of the same perturbations.")
    pairs = table.dropna()
    x, y = pairs[against].to_numpy(), pairs[method].to_numpy()
    ax = axes(ax, figsize)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    pad = 0.05 * (high - low or 1)
    ends = [low - pad, high + pad]
    ax.plot(ends, ends, color=BLACK, linewidth=0.8, linestyle="--", zorder=1)
    won = y < x
    ax.scatter(x[won], y[won], s=9, color=BLUE, alpha=0.55, linewidth=0, zorder=2)
    ax.scatter(x[~won], y[~won], s=9, color=VERMILION, alpha=0.55, linewidth=0, zorder=2)
    ax.text(
        0.97, 0.04, f"better on {100 * won.mean():.0f} %", transform=ax.transAxes, ha="right", fontsize=8, color=BLUE
    )
    ax.set(xlim=ends, ylim=ends, box_aspect=1)
    ax.tick_params(labelsize=7)
    name = "L2 distance" if metric == "l2" else metric
    ax.set_xlabel(f"{name}, {against}", fontsize=8)
    ax.set_ylabel(f"{name}, {method}", fontsize=8)
    ax.set_title(rows["task"].iloc[0] if title is None else title, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return done(ax, show=show, save=save, return_fig=return_fig)
