"""The genes that the predictions of a benchmark attend to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker

from scapp._checked import checked
from scapp.pl._benchmark._table import check_columns
from scapp.pl._figure import BLUE, VERMILION, done

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checked
def benchmark_attention(
    attended: pd.DataFrame,
    *,
    n_genes: int = 10,
    ax: Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
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
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The scale is logarithmic, and the perturbed genes are red.

    Raises
    ------
    ValueError
        If a column is missing, or there are fewer axes than panels.
    """
    check_columns(attended, ("panel", "gene", "score", "perturbed"))
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
