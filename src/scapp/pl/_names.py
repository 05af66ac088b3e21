"""Names beside points that lie over no other name.

Libraries that push labels apart do so by forces, and leave overlaps where it is crowded. Here each name takes, of many places
around its point, the one that covers the fewest points and lines; it never lies over another name while there is room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.text import Text

from scapp.pl._figure import BLACK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import BboxBase

DISTANCES = (4, 7, 11, 16, 22, 30, 40, 52, 66, 82, 100)  # of a name from its point, in points
DIRECTIONS = np.linspace(0, 2 * np.pi, 16, endpoint=False)
GAP = 1.0  # between names, in points
# What a place costs: a covered point, a line over a name or a name over a line, a point of distance.
COVERED, CROSSED, FAR = 1.0, 4.0, 0.08


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

    Parameters
    ----------
    ax
        Axes that are finished but for the names: limits and labels decide where there is room.
    points
        Points to be named, of shape (n_names, 2), in the units of the data.
    names
        Their names.
    others
        All points that are drawn, of shape (n_points, 2), not to be covered where that can be helped.
    colors, bold
        Of each name.
    fontsize
        In points.

    Returns
    -------
    The annotations, in the order of `names`.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
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
            color=BLACK if colors is None else colors[i], fontweight="bold" if bold is not None and bold[i] else None,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#555555", "shrinkA": 0, "shrinkB": 1},
            annotation_clip=False,
        )  # fmt: skip
        text.set_in_layout(False)  # it lies within the axes, and must not move them
        extent = text.get_window_extent()
        half = np.array([_width(text), extent.height]) / 2
        at = ax.transData.transform(point)
        centre = _best(at, half, unit, frame, drawn, boxes, lines)
        boxes.append(np.concatenate([centre - half, centre + half]))
        lines.append(np.concatenate([at, centre]))
        text.set_position(tuple((centre - at) / unit))
        annotations.append(text)
    return annotations


def _width(text: Annotation) -> float:
    """Return the width of the name alone; the extent of an annotation holds its line as well."""
    return Text.get_window_extent(text).width


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
