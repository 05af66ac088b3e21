"""Helpers shared by all plots: parameter descriptions, axes, labels, and showing, saving and returning figures."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.text import Text

from scapp._checked import checked
from scapp._docs import documented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import BboxBase


class Color:
    """Okabe and Ito's palette, which color-blind readers can tell apart."""

    BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00"
    GREY, PINK = "#999999", "#CC79A7"


PALETTE = (Color.GREY, Color.SKY, Color.ORANGE, Color.BLUE, Color.GREEN, Color.VERMILION, Color.BLACK)
LFC_UNIT = "log-fold-change (natural log)"
COLUMN = 3.5  # width of a column of a journal, in inches
DISTANCES = (4, 7, 11, 16, 22, 30, 40, 52, 66, 82, 100)  # of a name from its point, in points
DIRECTIONS = np.linspace(0, 2 * np.pi, 16, endpoint=False)
GAP = 1.0  # between names, in points
# What a place costs: a covered point, a line over a name or a name over a line, a point of distance.
COVERED, CROSSED, FAR = 1.0, 4.0, 0.08

# Parameters that many pictures share: a line ``{name}`` of a docstring stands for the text of that name.
_DRAWN = """\
ax, figsize
    Where to draw, or the size of a new figure in inches"""
_SAVED = """\
show, save, return_fig
    As in scanpy: show the figure, save it to this path (or with a suffix such as
    ``".pdf"``, or True, in scanpy's folder of figures), return the figure."""
PARAMETERS = {
    "predictions": """\
adata
    Predictions with one observation per perturbation, as :meth:`scapp.model.APP.predict` returns.""",
    "perturbation": """\
perturbation
    One of ``adata.obs_names``; the genes of a combination in any order.""",
    "sep": """\
sep
    What joins the genes of a label.""",
    "figure": f"{_DRAWN}.\n{_SAVED}",
    "fitted_figure": f"{_DRAWN}; by default as large as what is drawn needs.\n{_SAVED}",
    "saved": _SAVED,
}
Given = ParamSpec("Given")
Result = TypeVar("Result")


def picture(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Check the options of a plotting function, and fill the texts of shared parameters into its docstring."""
    return checked(documented(PARAMETERS)(function))


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


def figure_of(ax: Axes) -> Figure:
    """Return the whole figure that axes belong to."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def label_axes(ax: Axes, *, x: str | None = None, y: str | None = None, title: str | None = None) -> None:
    """Give axes their labels and title, ticks of 7 points, and no frame above and at the right."""
    ax.tick_params(labelsize=7, which="both")
    ax.spines[["top", "right"]].set_visible(False)
    if x is not None:
        ax.set_xlabel(x, fontsize=8)
    if y is not None:
        ax.set_ylabel(y, fontsize=8)
    if title is not None:
        ax.set_title(title, fontsize=9)


def name_rows(ax: Axes, names: Sequence[str], colors: Sequence[str]) -> None:
    """Write the names of rows at the left, in colors."""
    ax.set_yticks(np.arange(len(names)), names, fontsize=7)
    for text, color in zip(ax.get_yticklabels(), colors, strict=True):
        text.set_color(color)


def note(ax: Axes, text: str, at: tuple[Any, Any], *, shift: float = 3, **options: Any) -> None:
    """Write a text beside a place, so many points to the right."""
    ax.annotate(text, at, xytext=(shift, 0), textcoords="offset points", va="center", **options)


def color_bar(ax: Axes, image: Any, label: str, **options: Any) -> None:
    """Draw the scale of the colors beside axes."""
    bar = figure_of(ax).colorbar(image, ax=ax, pad=0.02, **options)
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=6)


def axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """Return the axes given, or those of a new figure."""
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def finish_figure(
    ax: Axes, *, show: bool | None, save: str | Path | bool | None, return_fig: bool
) -> Axes | Figure | None:
    """Save, show or return, by scanpy's habits; `show` None is ``scanpy.settings.autoshow``."""
    literal(ax)
    figure = figure_of(ax)
    if save is not None and save is not False:
        place = _place(save, sys._getframe(1).f_code.co_name)
        formats = figure.canvas.get_supported_filetypes()
        if place.suffix and place.suffix.lstrip(".").lower() not in formats:
            raise ValueError(
                f"save={str(save)!r} ends in no format of a picture. Expected one of {', '.join(sorted(formats))}; call it, for example, "
                f"{place.stem + '.png'!r}."
            )
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


def name_points(
    ax: Axes,
    points: np.ndarray,
    names: Sequence[str],
    *,
    others: np.ndarray,
    colors: Sequence[str] | None = None,
    bold: Sequence[bool] | None = None,
    fontsize: float = 6,
) -> list[Annotation]:
    """Write names beside points, the first with the first choice of a place.

    Libraries that push labels apart do so by forces, and leave overlaps where it is crowded. Here each name takes, of many
    places around its point, the one that covers the fewest points and lines; it never lies over another name while there
    is room. The axes must be finished but for the names, as limits and labels decide where there is room. `others` are all
    points that are drawn, of shape (n_points, 2), not to be covered where that can be helped. The annotations are returned in
    the order of `names`.
    """
    figure = figure_of(ax)
    figure.draw_without_rendering()  # puts the axes where the layout wants them
    unit = figure.dpi / 72
    frame = ax.get_window_extent()
    drawn = ax.transData.transform(others)
    boxes: list[np.ndarray] = []
    lines: list[np.ndarray] = []
    annotations = []
    for i, (point, name) in enumerate(zip(points, names, strict=True)):
        text = ax.annotate(
            name, point, xytext=(0, 0), textcoords="offset points", ha="center", va="center", fontsize=fontsize,
            color=Color.BLACK if colors is None else colors[i], fontweight="bold" if bold is not None and bold[i] else None,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#555555", "shrinkA": 0, "shrinkB": 1},
            annotation_clip=False,
        )  # fmt: skip
        text.set_in_layout(False)  # it lies within the axes, and must not move them
        extent = text.get_window_extent()  # holds the line to the point as well, by which it is wider than the name
        half = np.array([Text.get_window_extent(text).width, extent.height]) / 2
        at = ax.transData.transform(point)
        centre = _best(at, half, unit, frame, drawn, boxes, lines)
        boxes.append(np.concatenate([centre - half, centre + half]))
        lines.append(np.concatenate([at, centre]))
        text.set_position(tuple((centre - at) / unit))
        annotations.append(text)
    return annotations


def _best(
    at: np.ndarray,
    half: np.ndarray,
    unit: float,
    frame: BboxBase,
    drawn: np.ndarray,
    boxes: list[np.ndarray],
    lines: list[np.ndarray],
) -> np.ndarray:
    """Return the centre of the best place for one name, in pixels."""
    distance = np.repeat(DISTANCES, len(DIRECTIONS)) * unit
    direction = np.tile(DIRECTIONS, len(DISTANCES))
    way = np.column_stack([np.cos(direction), np.sin(direction)])
    # The edge of the box, not its centre, is that far from the point.
    centres = at + way * (distance[:, None] + half * np.abs(way))
    low, high = centres - half, centres + half
    inside = (low >= (frame.x0, frame.y0)).all(axis=1) & (high <= (frame.x1, frame.y1)).all(axis=1)
    covered = np.array([((drawn > a) & (drawn < b)).all(axis=1).sum() for a, b in zip(low, high, strict=True)])
    cost = COVERED * covered + FAR * distance / unit
    overlap = np.zeros(len(centres))
    for box in boxes:
        common = np.minimum(high, box[2:]) - np.maximum(low, box[:2]) + GAP * unit
        overlap += np.clip(common, 0, None).prod(axis=1)
        cost += CROSSED * _crosses(at, centres, box[:2], box[2:])
    for line in lines:
        cost += CROSSED * _crosses(line[:2], line[2:], low, high)
    # Overlaps come first, then leaving the axes: a name outside can be read, two over each other cannot.
    return centres[np.lexsort([cost, ~inside, overlap])[0]]


def _crosses(start: np.ndarray, end: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return whether lines pass through boxes (Liang and Barsky's clipping); many of the one or of the other."""
    way = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        entering, leaving = (low - start) / way, (high - start) / way
    # A line along an axis is inside all the way, or never.
    entering, leaving = np.fmin(entering, leaving), np.fmax(entering, leaving)
    return np.maximum(entering.max(axis=-1), 0) < np.minimum(leaving.min(axis=-1), 1)
