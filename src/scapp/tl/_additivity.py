"""The scores of Norman et al. for one pair of perturbations, and the classes made of them; arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

N_SUBSETS = 20_000
MAX_ITERATIONS = 300
MIN_PAIRS = 20

# The score that decides for a class, and whether it has to be above the cut-off (1) or below (-1). In this order: where
# the linear model does not fit, its coefficients mean nothing; where the singles are alike, they cannot be told apart.
RULES: dict[str, tuple[str, Literal[1, -1]]] = {
    "neomorphism": ("fit_correlation", -1),
    "redundancy": ("similarity_of_singles", 1),
    "epistasis": ("equality_of_contribution", -1),
    "synergy": ("magnitude", 1),
    "suppression": ("magnitude", -1),
}
ADDITIVE, UNDETERMINED = "additive", "undetermined"
# In the analysis code of GEARS (paper/fig_utils.py of yhr91/GEARS_misc), the similarity there that of both singles to the
# pair.
GEARS_CUTOFFS = {"neomorphism": 0.88, "redundancy": 0.85, "epistasis": 0.28, "synergy": 1.15, "suppression": 1.0}
# How many of the 88 pairs that Figure 4F of Norman et al. names are in each class; the other 16 are additive.
NORMAN_SHARES = {
    "neomorphism": 13 / 88, "redundancy": 8 / 88, "epistasis": 9 / 88, "synergy": 30 / 88, "suppression": 12 / 88,
}  # fmt: skip


def pair_scores(
    first: NDArray[np.float64], second: NDArray[np.float64], pair: NDArray[np.float64], *, seed: int = 0
) -> dict[str, float]:
    """Compute all scores of a pair from the log-fold-changes of both singles and of the pair, each of shape (n_genes,)."""
    c1, c2 = theil_sen(first, second, pair, seed=seed)
    fitted = c1 * first + c2 * second
    a, b, ab = Distances.between(first), Distances.between(second), Distances.between(pair)
    to_first, to_second = a.correlation(ab), b.correlation(ab)
    additive = first + second
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "c1": c1,
            "c2": c2,
            "magnitude": float(np.hypot(c1, c2)),
            "dominance": float(np.abs(np.log10(np.abs(c1) / np.abs(c2)))),
            "model_fit": Distances.between(fitted).correlation(ab),
            "fit_correlation": float(np.corrcoef(fitted, pair)[0, 1]),
            "similarity": a.beside(b).correlation(ab),
            "similarity_of_singles": a.correlation(b),
            "similarity_first": to_first,
            "similarity_second": to_second,
            "equality_of_contribution": float(np.divide(min(to_first, to_second), max(to_first, to_second))),
            "deviation": float(np.linalg.norm(pair - additive)),
            "relative_deviation": float(np.divide(np.linalg.norm(pair - additive), np.linalg.norm(additive))),
        }


def theil_sen(
    first: NDArray[np.float64], second: NDArray[np.float64], pair: NDArray[np.float64], *, seed: int = 0
) -> tuple[float, float]:
    r"""Return the coefficients of :math:`ab \approx c_1 a + c_2 b` without intercept, by the estimator of Theil and Sen.

    For each of many random sets of two genes the two equations are solved; the coefficients are the spatial median of all
    solutions. scikit-learn does the same in a loop over the sets, some hundred times slower, which all pairs of a screen
    would not bear. NaN if the two singles are multiples of each other, or one has no effect.
    """
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, len(pair), (2, N_SUBSETS))
    determinant = first[i] * second[j] - first[j] * second[i]
    solvable = np.abs(determinant) > 1e-12 * np.abs(first).max(initial=0) * np.abs(second).max(initial=0)
    if not solvable.any():
        return float("nan"), float("nan")
    i, j, determinant = i[solvable], j[solvable], determinant[solvable]
    solutions = np.stack([pair[i] * second[j] - pair[j] * second[i], first[i] * pair[j] - first[j] * pair[i]])
    c1, c2 = _spatial_median(solutions / determinant)
    return float(c1), float(c2)


def _spatial_median(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the point with the smallest sum of distances to the columns of `points`, by Weiszfeld's iterations."""
    centre = np.median(points, axis=1)
    for _ in range(MAX_ITERATIONS):
        weights = 1 / np.maximum(np.hypot(*(points - centre[:, None])), 1e-12)
        moved = (points * weights).sum(axis=1) / weights.sum()
        if np.abs(moved - centre).max() < 1e-6:
            return moved
        centre = moved
    return centre


@dataclass(frozen=True)
class Distances:
    """Distances between all genes, with the terms needed for the distance covariance.

    The distance correlation of :cite:p:`Szekely2007`, as the V-statistic.
    """

    matrix: NDArray[np.float64]
    rows: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> Distances:
        """Make it from a matrix of distances."""
        return cls(matrix, matrix.mean(axis=0))

    @classmethod
    def between(cls, values: NDArray[np.float64]) -> Distances:
        """Return the distances between genes of one number each."""
        return cls.of(np.abs(np.subtract.outer(values, values)))

    def beside(self, other: Distances) -> Distances:
        """Return the Euclidean distances of both numbers together."""
        return Distances.of(np.sqrt(np.square(self.matrix) + np.square(other.matrix)))

    @cached_property
    def variance(self) -> float:
        """The squared distance variance."""
        return self.covariance(self)

    def covariance(self, other: Distances) -> float:
        """Return the squared distance covariance, without centring the matrices."""
        n = len(self.rows)
        # Not by BLAS, whose threads take longer to meet than a sum of this size takes.
        product = np.einsum("ij,ij->", self.matrix, other.matrix) / n**2
        mixed = 2 * np.dot(self.rows, other.rows) / n
        return max(float(product - mixed + self.rows.mean() * other.rows.mean()), 0.0)

    def correlation(self, other: Distances) -> float:
        """Return the distance correlation, from 0 to 1; NaN if all genes are the same in one of both."""
        size = np.sqrt(self.variance * other.variance)
        return min(float(np.sqrt(self.covariance(other) / size)), 1.0) if size > 0 else float("nan")


def check_cutoffs(cutoffs: str | Mapping[str, float], n_pairs: int) -> None:
    """Raise unless these cut-offs are valid for this number of pairs."""
    if isinstance(cutoffs, Mapping):
        if set(cutoffs) != set(RULES):
            raise ValueError(
                f"cutoffs must have one number for each of {', '.join(RULES)}; found {', '.join(cutoffs)}."
            )
    elif cutoffs not in ("screen", "gears"):
        raise ValueError(f"cutoffs must be 'screen', 'gears', or a number for each class; found {cutoffs!r}.")
    elif cutoffs == "screen" and n_pairs < MIN_PAIRS:
        raise ValueError(
            f"cutoffs='screen' takes quantiles over the pairs, which needs at least {MIN_PAIRS} with scores; there are "
            f"{n_pairs}. Pass more pairs, cutoffs='gears', or numbers of your own."
        )


def find_cutoffs(table: pd.DataFrame, cutoffs: str | Mapping[str, float]) -> dict[str, float]:
    """Return the cut-off of each class, for a table with one row per pair and the scores."""
    known = table.dropna(subset=[score for score, _ in RULES.values()])
    check_cutoffs(cutoffs, len(known))
    if isinstance(cutoffs, Mapping):
        return {name: float(value) for name, value in cutoffs.items()}
    if cutoffs == "gears":
        return dict(GEARS_CUTOFFS)
    found = {}
    for name, (score, side) in RULES.items():
        share = NORMAN_SHARES[name]
        found[name] = float(known[score].quantile(1 - share if side > 0 else share))
    return found


def classify(table: pd.DataFrame, cutoffs: Mapping[str, float]) -> NDArray[Any]:
    """Return the class of each pair: the first of the rules that it meets."""
    conditions, words = [table[[score for score, _ in RULES.values()]].isna().any(axis=1)], [UNDETERMINED]
    for name, (score, side) in RULES.items():
        conditions.append(side * table[score] > side * cutoffs[name])
        words.append(name)
    return np.select([condition.to_numpy() for condition in conditions], words, ADDITIVE).astype(object)
