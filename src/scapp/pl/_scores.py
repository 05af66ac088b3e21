"""Plots of errors: of methods in a benchmark, and of a model during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from scapp.pl._figure import COLUMN, PALETTE, Color, axes, figure_of, finish_figure, label_axes, note, picture

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Color and name of each group of methods; name, color and style of each loss.
GROUPS = {
    "baseline": (Color.GREY, "simple models"),
    "app": (Color.VERMILION, "APP"),
    "ablation": (Color.ORANGE, "APP without a part"),
    "embedding": (Color.SKY, "published embeddings"),
    "external": (Color.BLACK, "other programs"),
}
METRICS = {"l2": "L2 distance to the observed effect", "pearson_delta": "Pearson correlation of the changes"}
LOSSES = {
    "train_loss": ("mean", Color.BLUE, "--"),
    "leave_one_out_closed_form": ("closed form", Color.VERMILION, "-"),
    "leave_one_out_singles": ("closed form of the singles", Color.ORANGE, "-"),
    "leave_one_out_attention": ("attention", Color.GREEN, "-"),
}


@picture
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
    """Plot the score of each method relative to a reference, with its interval; the best is on top.

    Parameters
    ----------
    summary
        Table with one row per method, from :func:`scapp.benchmark.summarise` with a reference; it has the columns ``task``,
        ``method``, ``group``, ``reference``, ``ratio``, ``ratio_low`` and ``ratio_high``.
    task
        Name of the task; optional if there is only one.
    methods
        Methods to show; all if None.
    ceiling
        Noise ceiling, the error that a perfect prediction would have because of noise in the data: the table from
        :func:`scapp.benchmark.ceilings`, or a ratio to the reference. Not drawn if None.
    title
        Title of the plot; the name of the task if None.
    legend
        Whether to explain the colors of the groups below.
    {fitted_figure}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Lines are 95 % intervals, and the numbers on the right are the
    ratios.

    Raises
    ------
    ValueError
        If a column, the task or a method is missing.
    """
    rows = _chosen(summary, task, methods).sort_values("ratio", ascending=False, kind="stable")
    ax = axes(ax, figsize or (COLUMN, 1.0 + 0.19 * len(rows) + 0.4 * legend))
    y = np.arange(len(rows))
    colors = [GROUPS.get(group, (Color.BLACK,))[0] for group in rows["group"]]
    ax.axvline(1, color=Color.BLACK, linewidth=0.8, linestyle="--", zorder=1)
    limit = _ceiling_of(ceiling, rows["task"].iloc[0], rows["reference"].iloc[0])
    if limit is not None:
        ax.axvline(limit, color=Color.BLUE, linewidth=0.8, linestyle=":", zorder=1)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        note(ax, "noise ceiling", (limit, -1), shift=2, fontsize=6, color=Color.BLUE, bbox=box)
    ax.hlines(y, rows["ratio_low"], rows["ratio_high"], color=colors, linewidth=1.6, zorder=2)
    ax.scatter(rows["ratio"], y, color=colors, s=22, zorder=3)
    ax.set_yticks(y, rows["method"], fontsize=7)
    for label, method in zip(ax.get_yticklabels(), rows["method"], strict=True):
        label.set_fontweight("bold" if method == "APP" else "normal")
    for at, ratio in zip(y, rows["ratio"], strict=True):
        on_the_right = {"xycoords": ("axes fraction", "data"), "annotation_clip": False}
        note(ax, f"{ratio:.3f}", (1, at), shift=4, fontsize=7, **on_the_right)
    ax.set_ylim(-0.7 if limit is None else -1.5, len(rows) - 0.3)  # the ceiling is named below the methods
    label_axes(
        ax,
        x=f"error relative to {rows['reference'].iloc[0]}\n(lower is better)",
        title=rows["task"].iloc[0] if title is None else title,
    )
    there = [GROUPS[group] for group in GROUPS if group in set(rows["group"])]
    if legend and len(there) > 1:
        wide = figure_of(ax).get_figwidth() > 1.4 * COLUMN
        handles = [ax.scatter([], [], color=color, s=22, label=name) for color, name in there]
        ax.figure.legend(handles=handles, loc="outside lower center", ncols=3 if wide else 2, fontsize=7, frameon=False)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _check_columns(table: pd.DataFrame, *needed: str) -> None:
    if missing := [column for column in needed if column not in table.columns]:
        raise ValueError(f"The table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")


def _chosen(table: pd.DataFrame, task: str | None, methods: Sequence[str] | None) -> pd.DataFrame:
    """Return the rows of one task and of some methods."""
    _check_columns(table, "task", "method", "group", "reference", "ratio", "ratio_low", "ratio_high")
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
    _check_columns(ceiling, "task", "method", "mean", "ceiling")
    of_reference = ceiling[(ceiling["task"] == task) & (ceiling["method"] == reference)]
    return None if of_reference.empty else float(of_reference["ceiling"].iloc[0] / of_reference["mean"].iloc[0])


@picture
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
        Score of a perfect prediction given the noise of the data, by kind, where known; drawn as a dotted line.
    {figure}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Whiskers are 95 % intervals of the mean over perturbations.

    Raises
    ------
    ValueError
        If a column is missing, or `ceiling` names a kind that is not in the table.
    """
    _check_columns(table, "method", "kind", metric)
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
                k + (m - (len(methods) - 1) / 2) * width, values.mean(), width * 0.9, yerr=error,
                color=PALETTE[m % len(PALETTE)], error_kw={"linewidth": 1},
            )  # fmt: skip
    for kind, limit in (ceiling or {}).items():
        k = list(kinds).index(kind)
        ax.hlines(limit, k - 0.45, k + 0.45, color=Color.BLACK, linestyle=":", linewidth=1.2, zorder=3)
    handles: list[Any] = [ax.bar(0, 0, color=PALETTE[m % len(PALETTE)]) for m in range(len(methods))]
    names = [str(method) for method in methods]
    if ceiling:
        handles.append(ax.hlines([], 0, 0, color=Color.BLACK, linestyle=":", linewidth=1.2))
        names.append("noise ceiling")
    ax.legend(handles, names, fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    counts = table.groupby("kind")["perturbation"].nunique() if "perturbation" in table else None
    ticks = [kind if counts is None else f"{kind}\n(n = {counts[kind]})" for kind in kinds]
    ax.set_xticks(range(len(kinds)), ticks, fontsize=7)
    ax.axhline(0, color="black", linewidth=0.8)
    label_axes(ax, y=METRICS.get(metric, metric))
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


@picture
def training_history(
    history: dict[str, pd.DataFrame],
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 2.6),
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot training and validation loss by epoch, and mark the best epoch on held-out perturbations.

    Parameters
    ----------
    history
        ``model.history``.
    {figure}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The model keeps the weights of the best epoch.

    Raises
    ------
    ValueError
        If the model has no history.

    Examples
    --------
    >>> model.train()
    >>> scapp.pl.training_history(model.history)
    """
    if not history or "train_loss" not in history:
        raise ValueError("There is no training history: call `model.train()` with at least one epoch first.")
    ax = axes(ax, figsize)
    for key, (name, color, style) in LOSSES.items():
        if key in history:
            values = history[key].iloc[:, 0].astype(float)
            # A line through a single epoch would be invisible.
            marker = "o" if len(values) == 1 else None
            ax.plot(values.index, values, color=color, label=name, linewidth=1.5, linestyle=style, marker=marker)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(ax, x="epoch", y="left-out error, relative to no change")
    ax.legend(fontsize=7, frameon=False)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)
