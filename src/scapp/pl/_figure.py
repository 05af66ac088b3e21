"""What all pictures share: where they are drawn, how they are shown, saved and returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00"
GREY, PINK = "#999999", "#CC79A7"
PALETTE = (GREY, SKY, ORANGE, BLUE, GREEN, VERMILION, BLACK)
LFC_UNIT = "log-fold-change (natural log)"
COLUMN = 3.5  # width of a column of a journal, in inches


def axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """The axes given, or those of a new figure."""
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def done(ax: Axes, *, show: bool | None, save: str | Path | None, return_fig: bool) -> Axes | Figure | None:
    """Save, show or return, by scanpy's habits; `show` None is ``scanpy.settings.autoshow``."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    if save is not None:
        figure.savefig(save, dpi=200, bbox_inches="tight")
    if return_fig:
        return figure
    if show is None:
        import scanpy as sc

        show = sc.settings.autoshow
    if not show:
        return ax
    plt.show()
    return None
