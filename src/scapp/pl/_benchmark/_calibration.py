"""How often predicted intervals hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scapp._checked import checked
from scapp.pl._benchmark._table import SERIES, check_columns, listed
from scapp.pl._figure import BLACK, GREY, axes, done

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checked
def benchmark_calibration(
    calibration: pd.DataFrame,
    *,
    method: str = "APP",
    labels: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 3.5),
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Share of observed values inside predicted intervals, against the share that the intervals promise.

    Parameters
    ----------
    calibration
        One row a task, method and interval: the columns ``task``, ``method``, ``nominal``, ``empirical``, ``low`` and
        ``high``; rows of a column ``n_largest`` above 0 are left out.
    method
        Which method; one line for each task.
    labels
        What the tasks are called in the legend.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Above the line the intervals are too wide, below too narrow.

    Raises
    ------
    ValueError
        If a column or the method is missing.
    """
    check_columns(calibration, ("task", "method", "nominal", "empirical", "low", "high"))
    if "n_largest" in calibration:
        calibration = calibration[calibration["n_largest"] == 0]
    rows = calibration[calibration["method"] == method]
    if rows.empty:
        raise ValueError(f"There is no coverage of {method!r}; there is of {listed(calibration['method'])}.")
    ax = axes(ax, figsize)
    ax.plot([0, 1], [0, 1], color=BLACK, linewidth=0.8, linestyle="--", zorder=1)
    for (task, of), (color, marker) in zip(rows.groupby("task", sort=False), SERIES, strict=False):
        of = of.sort_values("nominal")
        ax.vlines(of["nominal"], of["low"], of["high"], color=color, linewidth=1.4)
        ax.plot(
            of["nominal"], of["empirical"], color=color, marker=marker, markersize=5, linewidth=1,
            label=(labels or {}).get(str(task), str(task)),
        )  # fmt: skip
    ax.text(0.03, 0.5, "intervals too wide", transform=ax.transAxes, fontsize=7, color=GREY)
    ax.text(0.97, 0.03, "intervals too narrow", transform=ax.transAxes, fontsize=7, color=GREY, ha="right")
    ax.set(xlim=(0, 1), ylim=(0, 1), box_aspect=1)
    ax.set_xticks(sorted(rows["nominal"].unique()))
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.tick_params(labelsize=7)
    ax.set_xlabel("values that an interval should hold", fontsize=8)
    ax.set_ylabel("observed values that it holds", fontsize=8)
    ax.legend(fontsize=7, frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)
    return done(ax, show=show, save=save, return_fig=return_fig)
