"""What one predicted value is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from scapp._checked import checked
from scapp.pl._figure import BLACK, GREEN, GREY, LFC_UNIT, ORANGE, SKY, axes, finish_figure

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "training perturbation": ORANGE,
    "gene": GREEN,
    "centre": SKY,
    "all others": GREY,
}
NAMES = {
    "training perturbation": "training perturbation",
    "gene": "gene of a network",
    "centre": "mean of the screen",
    "all others": "all others",
}
NEEDED = ("perturbation", "gene", "source", "term", "name", "contribution")


@checked
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
    """Plot the largest contributions to one predicted value, each bar beginning where the one above ends.

    Parameters
    ----------
    table
        As :func:`scapp.tl.explain` returns.
    n_top
        How many contributions are shown on their own; the others are summed.
    legend
        Say below which color is which source.
    ax, figsize
        Where to draw, or the size of a new figure in inches; by default as high as the bars need.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The last bar ends at the dashed line, the prediction.

    Raises
    ------
    ValueError
        If a column is missing, or the table is about more than one prediction.

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
    ax.barh(y, end - start, left=start, height=0.7, color=[COLORS[source] for source in rows["source"]], zorder=2)
    ax.vlines(end[:-1], y[1:] - 0.35, y[:-1] + 0.35, color=BLACK, linewidth=0.6, zorder=3)
    ax.axvline(0, color=BLACK, linewidth=0.8)
    ax.axvline(end[-1], color=BLACK, linewidth=0.8, linestyle="--")
    for at, value in zip(y, rows["contribution"], strict=True):
        ax.annotate(
            f"{value:+.3f}", (1, at), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
            fontsize=7, va="center", annotation_clip=False,
        )  # fmt: skip
    ax.set_yticks(y, rows["label"], fontsize=7)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_xlabel(LFC_UNIT, fontsize=8)
    perturbation, gene = table["perturbation"].iloc[0], table["gene"].iloc[0]
    ax.set_title(f"{gene} under {perturbation}:\npredicted {end[-1]:+.3f}", fontsize=9)
    shown = [source for source in COLORS if source in set(rows["source"]) - {"all others"}]
    if legend:
        handles = [Patch(color=COLORS[source], label=NAMES[source]) for source in shown]
        ax.figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _bars(table: pd.DataFrame, n_top: int) -> pd.DataFrame:
    """Return the largest contributions with their labels, and the sum of the others."""
    missing = [column for column in NEEDED if column not in table]
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
    rest = {
        "source": "all others",
        "label": f"{len(others)} others",
        "contribution": others["contribution"].sum(),
    }
    return pd.concat([rows.iloc[:n_top], pd.DataFrame([rest])], ignore_index=True)
