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
COLUMN = 3.5  # width of a journal column, in inches
DISTANCES = (4, 7, 11, 16, 22, 30, 40, 52, 66, 82, 100)  # of a name from its point, in points
DIRECTIONS = np.linspace(0, 2 * np.pi, 16, endpoint=False)
GAP = 1.0  # between names, in points
# Cost of a place for each covered point, each line crossing the name or name crossing a line, and each point of
# distance.
COVERED, CROSSED, FAR = 1.0, 4.0, 0.08

# Descriptions of parameters that many plots share; a line ``{name}`` in a docstring is replaced by the text of that
# name.
_DRAWN = """\
ax, figsize
    Axes to draw on, or the size of a new figure in inches"""
_SAVED = """\
show, save, return_fig
    As in scanpy: show the figure, save it to this path (or with a suffix such as
    ``".pdf"``, or True, in scanpy's folder of figures), return the figure."""
PARAMETERS = {
    "predictions": """\
adata
    Predictions with one observation per perturbation, from :meth:`scapp.model.APP.predict`.""",
    "perturbation": """\
perturbation
    One of ``adata.obs_names``; the genes of a combination in any order.""",
    "sep": """\
sep
    Separator between the genes of a label.""",
    "figure": f"{_DRAWN}.\n{_SAVED}",
    "fitted_figure": f"{_DRAWN}; by default fitted to the content.\n{_SAVED}",
    "saved": _SAVED,
}
Given = ParamSpec("Given")
Result = TypeVar("Result")


def picture(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Check the options of a plotting function, and fill the texts of shared parameters into its docstring."""
    return checked(documented(PARAMETERS)(function))


def _place(save: str | Path | bool, name: str) -> Path:
    """Return the path of a figure; given only a suffix or True, that of the plot's name in scanpy's folder."""
    import scanpy as sc

    if isinstance(save, bool):
        return Path(sc.settings.figdir) / f"{name}.{sc.settings.file_format_figs}"
    if isinstance(save, str) and re.fullmatch(r"\.\w+", save):
        return Path(sc.settings.figdir) / f"{name}{save}"
    return Path(save).expanduser()


def literal(ax: Axes) -> None:
    """Draw names with a dollar sign literally instead of as formulas."""
    for text in ax.findobj(Text):
        if "$" in text.get_text() and r"\mathdefault" not in text.get_text():  # of logarithmic scales
            text.set_parse_math(False)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that contains the axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def label_axes(ax: Axes, *, x: str | None = None, y: str | None = None, title: str | None = None) -> None:
    """Set labels, title and 7-point ticks, and remove the top and right frame."""
    ax.tick_params(labelsize=7, which="both")
    ax.spines[["top", "right"]].set_visible(False)
    if x is not None:
        ax.set_xlabel(x, fontsize=8)
    if y is not None:
        ax.set_ylabel(y, fontsize=8)
    if title is not None:
        ax.set_title(title, fontsize=9)


def name_rows(ax: Axes, names: Sequence[str], colors: Sequence[str]) -> None:
    """Write the row names on the left, in the given colors."""
    ax.set_yticks(np.arange(len(names)), names, fontsize=7)
    for text, color in zip(ax.get_yticklabels(), colors, strict=True):
        text.set_color(color)


def note(ax: Axes, text: str, at: tuple[Any, Any], *, shift: float = 3, **options: Any) -> None:
    """Write a text `shift` points to the right of a place."""
    ax.annotate(text, at, xytext=(shift, 0), textcoords="offset points", va="center", **options)


def color_bar(ax: Axes, image: Any, label: str, **options: Any) -> None:
    """Draw a color bar next to the axes."""
    bar = figure_of(ax).colorbar(image, ax=ax, pad=0.02, **options)
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=6)


def axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """Return the given axes, or those of a new figure."""
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def finish_figure(
    ax: Axes, *, show: bool | None, save: str | Path | bool | None, return_fig: bool
) -> Axes | Figure | None:
    """Save, show or return a figure as scanpy does; if `show` is None, ``scanpy.settings.autoshow`` decides."""
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
    """Write names next to points; earlier names choose their place first.

    Libraries that push labels apart by forces leave overlaps in crowded places. Here each name tries many places around its
    point and takes the one that covers the fewest points and lines; names overlap each other only if there is no room.
    Everything else in the axes must be finished, because limits and labels decide where there is room. `others` are all drawn
    points, shape (n_points, 2), which names should not cover. Returns the annotations in the order of `names`.
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
    # The distance is from the point to the edge of the box, not to its centre.
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
    # Avoiding overlaps matters more than staying inside the axes: a name outside is still legible, overlapping names
    # are not.
    return centres[np.lexsort([cost, ~inside, overlap])[0]]


def _crosses(start: np.ndarray, end: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return whether lines pass through boxes, by Liang-Barsky clipping; either may be an array of many."""
    way = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        entering, leaving = (low - start) / way, (high - start) / way
    # A line parallel to an axis is either inside all the way or never.
    entering, leaving = np.fmin(entering, leaving), np.fmax(entering, leaving)
    return np.maximum(entering.max(axis=-1), 0) < np.minimum(leaving.min(axis=-1), 1)
