"""The picture of a benchmark: the score of each method relative to a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp.pl._figure import BLACK, BLUE, COLUMN, GREY, ORANGE, SKY, VERMILION, axes, finish_figure

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "baseline": GREY,
    "app": VERMILION,
    "ablation": ORANGE,
    "embedding": SKY,
    "external": BLACK,
}
NAMES = {
    "baseline": "simple models",
    "app": "APP",
    "ablation": "APP without a part",
    "embedding": "published embeddings",
    "external": "other programs",
}


@checked
def benchmark_ratios(
    summary: pd.DataFrame,
    *,
    task: str | None = None,
    methods: Sequence[str] | None = None,
    ceiling: float | pd.DataFrame | None = None,
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Draw the score of each method relative to a reference, with its interval; the best on top.

    Parameters
    ----------
    summary
        One row per method, as :func:`scapp.benchmark.summarise` returns with a reference: the columns ``task``, ``method``,
        ``group``, ``reference``, ``ratio``, ``ratio_low`` and ``ratio_high``.
    task
        Name of the task; may be left out if there is one.
    methods
        Only these.
    ceiling
        Noise ceiling, the error that the noise of the data leaves to a perfect prediction: the table that
        :func:`scapp.benchmark.ceilings` returns, or a ratio to the reference. Not drawn if None.
    title
        Above the picture; the name of the task if None.
    legend
        Whether to explain the colors of the groups below.
    ax, figsize
        Where to draw, or the size of a new figure in inches; by default as high as the methods need.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Lines are 95 % intervals, numbers at the right the ratios.

    Raises
    ------
    ValueError
        If a column, the task or a method is missing.
    """
    rows = _chosen(summary, task, methods).sort_values("ratio", ascending=False, kind="stable")
    ax = axes(ax, figsize or (COLUMN, 1.0 + 0.19 * len(rows) + 0.4 * legend))
    y = np.arange(len(rows))
    colors = [COLORS.get(group, BLACK) for group in rows["group"]]
    ax.axvline(1, color=BLACK, linewidth=0.8, linestyle="--", zorder=1)
    limit = _ceiling_of(ceiling, rows["task"].iloc[0], rows["reference"].iloc[0])
    if limit is not None:
        ax.axvline(limit, color=BLUE, linewidth=0.8, linestyle=":", zorder=1)
        ax.annotate(
            "noise ceiling",
            (limit, -1),
            xytext=(2, 0),
            textcoords="offset points",
            fontsize=6,
            color=BLUE,
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    ax.hlines(y, rows["ratio_low"], rows["ratio_high"], color=colors, linewidth=1.6, zorder=2)
    ax.scatter(rows["ratio"], y, color=colors, s=22, zorder=3)
    ax.set_yticks(y, rows["method"], fontsize=7)
    for label, method in zip(ax.get_yticklabels(), rows["method"], strict=True):
        label.set_fontweight("bold" if method == "APP" else "normal")
    for at, ratio in zip(y, rows["ratio"], strict=True):
        ax.annotate(
            f"{ratio:.3f}", (1, at), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
            fontsize=7, va="center", annotation_clip=False,
        )  # fmt: skip
    ax.set_ylim(-0.7 if limit is None else -1.5, len(rows) - 0.3)  # the ceiling is named below the methods
    ax.tick_params(axis="x", labelsize=7)
    ax.set_xlabel(f"error relative to {rows['reference'].iloc[0]}\n(lower is better)", fontsize=8)
    ax.set_title(rows["task"].iloc[0] if title is None else title, fontsize=9)
    groups = [group for group in COLORS if group in set(rows["group"])]
    if legend and len(groups) > 1:
        wide = ax.get_figure(root=True).get_figwidth() > 1.4 * COLUMN  # type: ignore[union-attr]
        handles = [ax.scatter([], [], color=COLORS[group], s=22, label=NAMES[group]) for group in groups]
        ax.figure.legend(handles=handles, loc="outside lower center", ncols=3 if wide else 2, fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _check_columns(table: pd.DataFrame, needed: Sequence[str]) -> None:
    if missing := [column for column in needed if column not in table.columns]:
        raise ValueError(f"The table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")


def _chosen(table: pd.DataFrame, task: str | None, methods: Sequence[str] | None) -> pd.DataFrame:
    """Return the rows of one task and of some methods."""
    _check_columns(table, ("task", "method", "group", "reference", "ratio", "ratio_low", "ratio_high"))
    tasks = ", ".join(map(repr, pd.unique(table["task"])))
    if task is None and table["task"].nunique() != 1:
        raise ValueError(f"The table has {table['task'].nunique()} tasks; name one with `task`: {tasks}.")
    rows = table if task is None else table[table["task"] == task]
    if rows.empty:
        raise ValueError(f"There is no task {task!r}; the tasks are {tasks}.")
    if methods is None:
        return rows
    if missing := [method for method in methods if method not in set(rows["method"])]:
        known = ", ".join(map(repr, pd.unique(rows["method"])))
        raise ValueError(f"There is no method {', '.join(map(repr, missing))}; there are {known}.")
    return rows[rows["method"].isin(list(methods))]


def _ceiling_of(ceiling: float | pd.DataFrame | None, task: str, reference: str) -> float | None:
    """Return the noise ceiling relative to the reference method; None where it is not known."""
    if not isinstance(ceiling, pd.DataFrame):
        return ceiling
    _check_columns(ceiling, ("task", "method", "mean", "ceiling"))
    of_reference = ceiling[(ceiling["task"] == task) & (ceiling["method"] == reference)]
    return None if of_reference.empty else float(of_reference["ceiling"].iloc[0] / of_reference["mean"].iloc[0])
