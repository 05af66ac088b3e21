"""Pictures of a benchmark: ratios, test sets, perturbations, calibration, attention and damaged networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker

from scapp.pl._figure import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, axes, done

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "baseline": GREY,
    "app": VERMILION,
    "ablation": ORANGE,
    "network": GREEN,
    "embedding": SKY,
    "external": BLACK,
}
NAMES = {
    "baseline": "simple models",
    "app": "APP",
    "ablation": "APP without a part",
    "network": "APP, damaged network",
    "embedding": "published embeddings",
    "external": "other programs",
}
SERIES = ((VERMILION, "o"), (BLUE, "s"), (GREEN, "^"), (ORANGE, "D"), (SKY, "v"), (GREY, "P"), (BLACK, "X"))


def benchmark_ratios(
    summary: pd.DataFrame,
    *,
    task: str | None = None,
    methods: Sequence[str] | None = None,
    ceiling: float | None = None,
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Score of each method relative to a reference, with its interval; the best on top.

    Parameters
    ----------
    summary
        One row a method, as `scapp.benchmark.summarise` returns with a reference: the columns ``task``, ``method``,
        ``group``, ``reference``, ``ratio``, ``ratio_low`` and ``ratio_high``.
    task
        Which task; may be left out if there is one.
    methods
        Only these.
    ceiling
        Ratio that the noise of the data leaves to a perfect prediction, where it is known.
    title
        Above the picture; the name of the task if None.
    legend
        Say below which color is which group.
    ax, figsize
        Where to draw, or the size of a new figure in inches; by default as high as the methods need.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path, return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Lines are 95 % intervals, numbers at the right the ratios.

    Raises
    ------
    ValueError
        If a column, the task or a method is missing.
    """
    needed = ("task", "method", "group", "reference", "ratio", "ratio_low", "ratio_high")
    rows = _chosen(summary, needed, task, methods).sort_values("ratio", ascending=False, kind="stable")
    ax = axes(ax, figsize or (5.0, 0.9 + 0.19 * len(rows) + 0.3 * legend))
    y = np.arange(len(rows))
    colors = [COLORS.get(group, BLACK) for group in rows["group"]]
    ax.axvline(1, color=BLACK, linewidth=0.8, linestyle="--", zorder=1)
    if ceiling is not None:
        ax.axvline(ceiling, color=BLUE, linewidth=0.8, linestyle=":", zorder=1)
        ax.annotate(
            "noise ceiling",
            (ceiling, 0),
            xytext=(2, 0),
            textcoords="offset points",
            fontsize=6,
            color=BLUE,
            va="center",
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
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_xlabel(f"error relative to {rows['reference'].iloc[0]} (lower is better)", fontsize=8)
    ax.set_title(rows["task"].iloc[0] if title is None else title, fontsize=9)
    groups = [group for group in COLORS if group in set(rows["group"])]
    if legend and len(groups) > 1:
        handles = [ax.scatter([], [], color=COLORS[group], s=22, label=NAMES[group]) for group in groups]
        ax.figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return done(ax, show=show, save=save, return_fig=return_fig)


def benchmark_by_test_set(
    strata: pd.DataFrame,
    *,
    methods: Sequence[str],
    task: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (7.0, 3.0),
    show: bool | None = None,
    save: str | Path | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Score of a few methods relative to a reference in each split and each stratum of the held-out perturbations.

    Parameters
    ----------
    strata
        One row a method and stratum: the columns ``task``, ``kind``, ``stratum``, ``method``, ``reference``, ``ratio``,
        ``ratio_low``, ``ratio_high`` and ``n_perturbations``.
    methods
        Which are shown, at most seven.
    task, title
        As in :func:`scapp.pl.benchmark_ratios`.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path, return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Lines are 95 % intervals, n counts perturbations.

    Raises
    ------
    ValueError
        If a column, the task or a method is missing, or the methods are too many to be told apart.
    """
    if len(methods) > len(SERIES):
        raise ValueError(f"{len(methods)} methods cannot be told apart; choose at most {len(SERIES)} with `methods`.")
    needed = (
        "task", "kind", "stratum", "method", "reference", "ratio", "ratio_low", "ratio_high", "n_perturbations",
    )  # fmt: skip
    rows = _chosen(strata, needed, task, methods)
    ax = axes(ax, figsize)
    sets = rows[["kind", "stratum"]].drop_duplicates()
    gap = 0.6  # between splits, effect sizes and genes seen
    place = {
        (kind, name): i + gap * list(pd.unique(sets["kind"])).index(kind)
        for i, (kind, name) in enumerate(sets.itertuples(index=False))
    }
    for m, method in enumerate(methods):
        of = rows[rows["method"] == method]
        x = np.array([place[pair] for pair in zip(of["kind"], of["stratum"], strict=True)])
        x = x + (m - (len(methods) - 1) / 2) * 0.7 / len(methods)
        color, marker = SERIES[m]
        ax.vlines(x, of["ratio_low"], of["ratio_high"], color=color, linewidth=1.4)
        ax.scatter(x, of["ratio"], color=color, marker=marker, s=20, zorder=3, label=method)
    ax.axhline(1, color=BLACK, linewidth=0.8, linestyle="--", zorder=1)
    counts = rows.groupby(["kind", "stratum"])["n_perturbations"].max()
    ax.set_xticks(list(place.values()), [f"{name}\nn = {counts[kind, name]}" for kind, name in place], fontsize=7)
    for kind in pd.unique(sets["kind"]):
        at = [x for (of, _), x in place.items() if of == kind]
        ax.annotate(
            kind, (float(np.mean(at)), 0), xycoords=("data", "axes fraction"), xytext=(0, -26),
            textcoords="offset points", ha="center", va="top", fontsize=8, annotation_clip=False,
        )  # fmt: skip
    ax.set_xlabel(" ", fontsize=8)  # keeps room for the kinds
    ax.tick_params(axis="y", labelsize=7)
    ax.set_ylabel(f"error relative to {rows['reference'].iloc[0]}", fontsize=8)
    ax.set_title(rows["task"].iloc[0] if title is None else title, fontsize=9)
    ax.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    ax.spines[["top", "right"]].set_visible(False)
    return done(ax, show=show, save=save, return_fig=return_fig)


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
    save: str | Path | None = None,
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
        As in scanpy: show the figure, save it to this path, return the figure.

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
    rows = _chosen(results, needed, task, [method, against])
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


def benchmark_calibration(
    calibration: pd.DataFrame,
    *,
    method: str = "APP",
    labels: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 3.5),
    show: bool | None = None,
    save: str | Path | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Share of observed values inside predicted intervals, against the share that the intervals promise.

    Parameters
    ----------
    calibration
        One row a task, method and interval: the columns ``task``, ``method``, ``nominal``, ``empirical``, ``low`` and
        ``high``.
    method
        Which method; one line for each task.
    labels
        What the tasks are called in the legend.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path, return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Above the line the intervals are too wide, below too narrow.

    Raises
    ------
    ValueError
        If a column or the method is missing.
    """
    _columns(calibration, ("task", "method", "nominal", "empirical", "low", "high"))
    rows = calibration[calibration["method"] == method]
    if rows.empty:
        raise ValueError(f"There is no coverage of {method!r}; there is of {_listed(calibration['method'])}.")
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


def benchmark_attention(
    attended: pd.DataFrame,
    *,
    n_genes: int = 10,
    ax: Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    return_fig: bool = False,
) -> Sequence[Axes] | Figure | None:
    """The genes that predictions attend to most, a panel for each perturbation.

    Parameters
    ----------
    attended
        One row a panel and gene: the columns ``panel`` (its title), ``gene``, ``score`` and ``perturbed``, whether the
        gene is one of the perturbed ones.
    n_genes
        How many genes a panel shows.
    ax, figsize
        Where to draw, an axes for each panel, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path, return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The scale is logarithmic, and the perturbed genes are red.

    Raises
    ------
    ValueError
        If a column is missing, or there are fewer axes than panels.
    """
    _columns(attended, ("panel", "gene", "score", "perturbed"))
    panels = list(pd.unique(attended["panel"]))
    if ax is None:
        size = figsize or (2.4 * len(panels), 0.9 + 0.18 * n_genes)
        ax = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False)[1][0]
    if len(ax) != len(panels):
        raise ValueError(f"There are {len(panels)} panels ({', '.join(panels)}) and {len(ax)} axes.")
    for panel, of_panel in zip(panels, ax, strict=True):
        rows = attended[attended["panel"] == panel].nlargest(n_genes, "score").iloc[::-1]
        y = np.arange(len(rows))
        colors = [VERMILION if perturbed else BLUE for perturbed in rows["perturbed"]]
        of_panel.hlines(y, rows["score"].min() * 0.8, rows["score"], color=colors, linewidth=1.5)
        of_panel.scatter(rows["score"], y, color=colors, s=16, zorder=3)
        of_panel.set_xscale("log")
        few = rows["score"].max() > 15 * rows["score"].min()
        of_panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1,) if few else (1, 2, 5)))
        of_panel.xaxis.set_major_formatter("{x:g}")
        of_panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        of_panel.tick_params(axis="x", labelsize=6)
        of_panel.set_yticks(y, rows["gene"], fontsize=7)
        for label, color in zip(of_panel.get_yticklabels(), colors, strict=True):
            label.set_color(color)
        of_panel.set_title(panel, fontsize=8)
        of_panel.set_xlabel("attention", fontsize=7)
        of_panel.spines[["top", "right"]].set_visible(False)
    drawn = done(ax[0], show=show, save=save, return_fig=return_fig)
    return ax if drawn is ax[0] else drawn  # type: ignore[return-value]


def benchmark_network_damage(
    damage: pd.DataFrame,
    *,
    labels: Mapping[str, str] | None = None,
    claimed: pd.DataFrame | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (5.0, 3.0),
    show: bool | None = None,
    save: str | Path | None = None,
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
        As in scanpy: show the figure, save it to this path, return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. Lines are 95 % intervals.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    _columns(damage, ("task", "method", "ratio", "ratio_low", "ratio_high"))
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
    ax.tick_params(axis="y", labelsize=7)
    ax.set_ylabel("error relative to the whole network", fontsize=8)
    ax.figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return done(ax, show=show, save=save, return_fig=return_fig)


def _columns(table: pd.DataFrame, needed: Sequence[str]) -> None:
    if missing := [column for column in needed if column not in table.columns]:
        raise ValueError(f"The table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")


def _chosen(
    table: pd.DataFrame, needed: Sequence[str], task: str | None, methods: Sequence[str] | None
) -> pd.DataFrame:
    """Rows of one task and of some methods."""
    _columns(table, needed)
    if task is None and table["task"].nunique() != 1:
        raise ValueError(
            f"The table has {table['task'].nunique()} tasks; name one with `task`: {_listed(table['task'])}."
        )
    rows = table if task is None else table[table["task"] == task]
    if rows.empty:
        raise ValueError(f"There is no task {task!r}; the tasks are {_listed(table['task'])}.")
    if methods is None:
        return rows
    if missing := [method for method in methods if method not in set(rows["method"])]:
        raise ValueError(f"There is no method {', '.join(map(repr, missing))}; there are {_listed(rows['method'])}.")
    return rows[rows["method"].isin(list(methods))]


def _listed(names: pd.Series) -> str:
    return ", ".join(map(repr, pd.unique(names)))


def _broken(name: str) -> str:
    """A label over two lines, the first up to the percentage."""
    first, sign, rest = name.partition(" % ")
    return f"{first} %\n{rest}" if sign else name.replace(" ", "\n", 1)
