"""Score of a few methods in each split and stratum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp.pl._benchmark._table import SERIES, ceiling_of, chosen
from scapp.pl._figure import BLACK, BLUE, COLUMN, axes, done

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checked
def benchmark_by_test_set(
    strata: pd.DataFrame,
    *,
    methods: Sequence[str],
    task: str | None = None,
    ceiling: float | pd.DataFrame | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
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
    task, ceiling, title
        As in :func:`scapp.pl.benchmark_ratios`.
    ax, figsize
        Where to draw, or the size of a new figure in inches; by default as wide as the strata need.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

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
    rows = chosen(strata, needed, task, methods)
    sets = rows[["kind", "stratum"]].drop_duplicates()
    ax = axes(ax, figsize or (max(COLUMN, 0.8 + 0.42 * len(sets)), 3.0))
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
    return done(ax, show=show, save=save, return_fig=return_fig)
