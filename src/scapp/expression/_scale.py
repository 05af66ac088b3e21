"""On which scale are the values of cells? Told by the values of some cells, and by what scanpy noted of the log.

Counts of molecules are whole numbers, so after normalising, the values of one cell are multiples of its smallest: the
transformation whose inverse brings back such steps is the one that was taken, also where a part of the genes is left.
Where no steps are left, after denoising for example, cells that were normalised over these genes have equal sums under
the right inverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Cells of each matrix that are looked at.
N_SAMPLED = 64
# Steps beyond this are too fine to be told from rounding; the mean distance from a step that is still one; how much better than
# the second best.
LARGEST_STEP, SMALLEST_DISTANCE, CLEARLY = 10.5, 0.05, 3.0
# Spread of the sums of cells that were normalised to one sum.
LARGEST_SPREAD, EQUAL_SUMS = 0.02, 1e-3
MIN_CELLS = 5
# Any log of counts beyond this would be one of more molecules than a cell holds.
_LARGEST_EXPONENT = 40.0


class Transform(StrEnum):
    """Transformation of counts, which may or may not have been divided by the total of their cell before."""

    NONE = "not logged"
    LN = "natural log"
    LOG2 = "log2"
    LOG10 = "log10"
    SQRT = "square root"
    LOG_TWICE = "natural log, taken twice"
    ARCSINH = "inverse hyperbolic sine"


_INVERSES: dict[Transform, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    Transform.NONE: lambda x: x,
    Transform.LN: lambda x: np.expm1(np.minimum(x, _LARGEST_EXPONENT)),
    Transform.LOG2: lambda x: np.exp2(np.minimum(x, _LARGEST_EXPONENT)) - 1,
    Transform.LOG10: lambda x: 10 ** np.minimum(x, _LARGEST_EXPONENT / 2) - 1,
    Transform.SQRT: np.square,
    Transform.LOG_TWICE: lambda x: np.expm1(
        np.minimum(np.expm1(np.minimum(x, _LARGEST_EXPONENT / 8)), _LARGEST_EXPONENT)
    ),
}
# Factor that brings a log to the natural one.
TO_NATURAL = {Transform.LN: 1.0, Transform.LOG2: float(np.log(2)), Transform.LOG10: float(np.log(10))}
_BASES = {2.0: Transform.LOG2, 10.0: Transform.LOG10}


@dataclass(frozen=True)
class FoundScale:
    """Scale found for a matrix that holds fractions.

    `transform` is what was done to the counts, None if nothing tells, and `told_by` is ``"steps"``, ``"sums"``, ``"uns"`` or ``""``.
    `total` is the sum to which each cell was normalised, NaN where cells have different sums over these genes; `largest_total` the
    largest of these sums, before the log. `step` is the common step of all cells before the log, as of counts that were not
    normalised (times a constant); NaN where cells have steps of their own.
    """

    transform: Transform | None
    told_by: str
    total: float = np.nan
    largest_total: float = np.nan
    step: float = np.nan


def find_scale(cells: Sequence[NDArray[np.float64]], log1p: object = None) -> FoundScale:
    """Infer the transformation of counts from the nonzero values of cells or, if unclear, from ``uns["log1p"]``."""
    cells = [cell for cell in cells if len(cell)]
    distances = {transform: _distance_from_steps(cells, inverse) for transform, inverse in _INVERSES.items()}
    if distances[Transform.NONE] < SMALLEST_DISTANCE:
        del distances[Transform.SQRT]  # squares of whole numbers are whole numbers
    transform, told_by = _clearest(distances, SMALLEST_DISTANCE), "steps"
    if transform is None:
        noted = _from_uns(log1p)
        # Similar cells have nearly equal sums in any case, so the record is more reliable.
        limit = LARGEST_SPREAD if noted is None else EQUAL_SUMS
        transform, told_by = _clearest({t: _spread(_sums(cells, t)) for t in _INVERSES}, limit), "sums"
        if transform is None:
            transform, told_by = noted, "uns"
    if transform is Transform.LN:  # of which the inverse hyperbolic sine of large counts is a shifted copy
        distance = _distance_from_steps(cells, lambda x: np.sinh(np.minimum(x, _LARGEST_EXPONENT)))
        if distance < SMALLEST_DISTANCE and not CLEARLY * max(distance, 1e-6) >= distances[Transform.LN]:
            return FoundScale(Transform.ARCSINH, "steps")
    if transform is None:
        return FoundScale(None, "")
    sums = _sums(cells, transform)
    total = float(np.median(sums)) if len(sums) and _spread(sums) < LARGEST_SPREAD else np.nan
    step = np.nan
    if told_by == "steps":
        smallest = np.array([_INVERSES[transform](cell.min()) for cell in cells])
        step = float(np.median(smallest)) if _spread(smallest) < 1e-3 else np.nan
    return FoundScale(transform, told_by, total, float(sums.max(initial=0.0)), step)


def _distance_from_steps(
    cells: Sequence[NDArray[np.float64]], inverse: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> float:
    """Return the mean distance of the values of a cell from multiples of its smallest, its median over cells; NaN if unknown."""
    distances = []
    for cell in cells:
        values = np.unique(inverse(cell))
        steps = values / values[0]
        steps = steps[(steps > 1.2) & (steps < LARGEST_STEP)]
        if len(steps) > 1:
            distances.append(np.abs(steps - np.rint(steps)).mean())
    return float(np.median(distances)) if len(distances) >= min(MIN_CELLS, max(len(cells), 1)) else np.nan


def _sums(cells: Sequence[NDArray[np.float64]], transform: Transform) -> NDArray[np.float64]:
    return np.array([_INVERSES[transform](cell).sum() for cell in cells])


def _spread(values: NDArray[np.float64]) -> float:
    """Return the spread of values relative to their median; NaN for few values."""
    if len(values) < MIN_CELLS:
        return np.nan
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return float((high - low) / middle) if middle > 0 else np.nan


def _clearest(scores: Mapping[Transform, float], largest: float) -> Transform | None:
    """Return the transformation of the smallest score, if it is small and clearly smaller than the next."""
    known = sorted((score, transform) for transform, score in scores.items() if np.isfinite(score))
    if not known or known[0][0] > largest:
        return None
    if len(known) > 1 and known[1][0] < CLEARLY * max(known[0][0], 1e-9):
        return None
    return known[0][1]


def _from_uns(log1p: object) -> Transform | None:
    if not isinstance(log1p, Mapping):
        return None
    base: Any = log1p.get("base")
    if base is None:  # the natural log, also where a file has lost the None
        return Transform.LN
    try:
        return _BASES.get(
            round(float(np.asarray(base).ravel()[0]), 3), Transform.LN if np.isclose(float(base), math.e) else None
        )
    except (TypeError, ValueError, IndexError):
        return None
