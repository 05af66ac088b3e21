"""What all pictures share: where they are drawn, how they are shown, saved and returned."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.text import Text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00"
GREY, PINK = "#999999", "#CC79A7"
PALETTE = (GREY, SKY, ORANGE, BLUE, GREEN, VERMILION, BLACK)
LFC_UNIT = "log-fold-change (natural log)"
COLUMN = 3.5  # width of a column of a journal, in inches


def _place(save: str | Path | bool, name: str) -> Path:
    """Return where a figure is saved: where only a suffix, or True, is given, in scanpy's folder under the name of the plot."""
    import scanpy as sc

    if isinstance(save, bool):
        return Path(sc.settings.figdir) / f"{name}.{sc.settings.file_format_figs}"
    if isinstance(save, str) and re.fullmatch(r"\.\w+", save):
        return Path(sc.settings.figdir) / f"{name}{save}"
    return Path(save).expanduser()


def literal(ax: Axes) -> None:
    """Draw names with a dollar sign as they are, and not as formulas."""
    for text in ax.findobj(Text):
        if "$" in text.get_text() and r"\mathdefault" not in text.get_text():  # of logarithmic scales
            text.set_parse_math(False)


def axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """Return the axes given, or those of a new figure."""
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def finish_figure(
    ax: Axes, *, show: bool | None, save: str | Path | bool | None, return_fig: bool
) -> Axes | Figure | None:
    """Save, show or return, by scanpy's habits; `show` None is ``scanpy.settings.autoshow``."""
    literal(ax)
    figure = ax.get_figure(root=True)
    assert figure is not None
    if save is not None and save is not False:
        place = _place(save, sys._getframe(1).f_code.co_name)
        place.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(place, dpi=200, bbox_inches="tight")
    if return_fig:
        return figure
    if show is None:
        import scanpy as sc

        show = sc.settings.autoshow
    if not show:
        return ax
    plt.show()
    return None
