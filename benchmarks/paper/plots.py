"""Pictures of the page: test sets, perturbations, calibration, attention and damaged networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers can tell apart, as in scapp.pl.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#999999",
)  # fmt: skip
COLUMN = 3.5  # width of a column of a journal, in inches
SERIES = ((VERMILION, "o"), (BLUE, "s"), (GREEN, "^"), (ORANGE, "D"), (SKY, "v"), (GREY, "P"), (BLACK, "X"))


def axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """Return the axes given, or those of a new figure."""
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def check_columns(table: pd.DataFrame, needed: Sequence[str]) -> None:
    """Refuse a table that lacks a column, naming those that it has."""
    if missing := [column for column in needed if column not in table.columns]:
        raise ValueError(f"The table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")


def chosen(table: pd.DataFrame, needed: Sequence[str], task: str | None, methods: Sequence[str] | None) -> pd.DataFrame:
    """Return the rows of one task and of some methods."""
    check_columns(table, needed)
    if task is None and table["task"].nunique() != 1:
        raise ValueError(
            f"The table has {table['task'].nunique()} tasks; name one with `task`: {listed(table['task'])}."
        )
    rows = table if task is None else table[table["task"] == task]
    if rows.empty:
        raise ValueError(f"There is no task {task!r}; the tasks are {listed(table['task'])}.")
    if methods is None:
        return rows
    if missing := [method for method in methods if method not in set(rows["method"])]:
        raise ValueError(f"There is no method {', '.join(map(repr, missing))}; there are {listed(rows['method'])}.")
    return rows[rows["method"].isin(list(methods))]


def ceiling_of(ceiling: float | pd.DataFrame | None, task: str, reference: str) -> float | None:
    """Return the noise ceiling relative to the reference method; None where it is not known."""
    if not isinstance(ceiling, pd.DataFrame):
        return ceiling
    check_columns(ceiling, ("task", "method", "mean", "ceiling"))
    of_reference = ceiling[(ceiling["task"] == task) & (ceiling["method"] == reference)]
    return None if of_reference.empty else float(of_reference["ceiling"].iloc[0] / of_reference["mean"].iloc[0])


def listed(names: pd.Series) -> str:
    """List each name once, for a message."""
    return ", ".join(map(repr, pd.unique(names)))


def by_test_set(
    strata: pd.DataFrame,
    *,
    methods: Sequence[str],
    task: str | None = None,
    ceiling: float | pd.DataFrame | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the score of a few methods relative to a reference in each split and each stratum of the held-out perturbations."""
    if len(methods) > len(SERIES):
        raise ValueError(f"{len(methods)} methods cannot be told apart; choose at most {len(SERIES)} with `methods`.")
    needed = (
        "task", "kind", "stratum", "method", "reference", "ratio", "ratio_low", "ratio_high", "n_perturbations",
    )  # fmt: skip
    rows = chosen(strata, needed, task, methods)
    sets = rows[["kind", "stratum"]].drop_duplicates()
    ax = axes(ax, (max(COLUMN, 0.8 + 0.42 * len(sets)), 3.0))
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
    limit = ceiling_of(ceiling, rows["task"].iloc[0], rows["reference"].iloc[0])
    if limit is not None:
        ax.axhline(limit, color=BLUE, linewidth=0.8, linestyle=":", zorder=1)
        ax.annotate(
            "noise ceiling", (1, limit), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
            fontsize=6, color=BLUE, ha="right", annotation_clip=False,
        )  # fmt: skip
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
    columns = 3 if ax.get_figure(root=True).get_figwidth() > 1.4 * COLUMN else 2  # type: ignore[union-attr]
    pad = 6 + 12 * -(-len(methods) // columns)  # the methods stand between the title and the axes
    ax.set_title(rows["task"].iloc[0] if title is None else title, fontsize=9, pad=pad)
    ax.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def scatter(
    results: pd.DataFrame,
    method: str,
    *,
    against: str,
    task: str | None = None,
    metric: str = "l2",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the error of one method against that of another, a point for each held-out perturbation and split."""
    needed = ("task", "method", "seed", "perturbation", "metric", "value")
    rows = chosen(results, needed, task, [method, against])
    rows = rows[(rows["metric"] == metric) & (rows["perturbation"] != "")]
    table = rows.pivot(index=["seed", "perturbation"], columns="method", values="value")
    if not {method, against} <= set(table.columns) or table.dropna().empty:
        raise ValueError(f"{method!r} and {against!r} have no {metric} of the same perturbations.")
    pairs = table.dropna()
    x, y = pairs[against].to_numpy(), pairs[method].to_numpy()
    ax = axes(ax, (3.5, 3.5))
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
    return ax


def calibration(
    calibration: pd.DataFrame,
    *,
    method: str = "APP",
    labels: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of observed values inside predicted intervals, against the share that the intervals promise."""
    check_columns(calibration, ("task", "method", "nominal", "empirical", "low", "high"))
    if "n_largest" in calibration:
        calibration = calibration[calibration["n_largest"] == 0]
    rows = calibration[calibration["method"] == method]
    if rows.empty:
        raise ValueError(f"There is no coverage of {method!r}; there is of {listed(calibration['method'])}.")
    ax = axes(ax, (3.5, 3.5))
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
    return ax


def attention(
    attended: pd.DataFrame,
    *,
    n_genes: int = 10,
    ax: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """Draw the genes that predictions attend to most, a panel for each perturbation."""
    check_columns(attended, ("panel", "gene", "score", "perturbed"))
    panels = list(pd.unique(attended["panel"]))
    if ax is None:
        size = (2.4 * len(panels), 0.9 + 0.18 * n_genes)
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
    return ax


def network_damage(
    damage: pd.DataFrame,
    *,
    labels: Mapping[str, str] | None = None,
    claimed: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the error with a damaged network relative to that with the whole network."""
    check_columns(damage, ("task", "method", "ratio", "ratio_low", "ratio_high"))
    methods, tasks = list(pd.unique(damage["method"])), list(pd.unique(damage["task"]))
    ax = axes(ax, (3.5, 3.0))
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
    return ax


def _broken(name: str) -> str:
    """Break a label into a word a line, a number and its percentage together."""
    return name.replace(" ", "\n").replace("\n%", " %")
