"""Averages of training effects that do better than the mean: geometric median, matching singles, shared genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._genes import shorten
from scapp._labels import format_label, perturbed_genes
from scapp._training_effects import TrainingEffects
from scapp._warn import warn_user
from scapp.baselines._base import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._labels import Perturbation

MAX_STEPS = 10_000
# A step shorter than this share of the spread of the profiles ends the search.
TOLERANCE = 1e-9


class GeometricMedian(Baseline):
    r"""Predicts the geometric median of the training perturbations, each with the same weight.

    .. math:: \hat y = \operatorname{arg\,min}_y \sum_p \lVert y - y_p \rVert

    Of all constants, it has the least mean L2 distance to the training profiles, which is the score of the published
    benchmark :cite:p:`AhlmannEltze2025`; the mean has the least squared distance. It is found by Weiszfeld's algorithm
    in the form of :cite:t:`Vardi2000`, which does not get stuck where it meets a training profile. The distance is over
    all measured genes; pass ``effects[:, scored].copy()`` for that over the genes that are scored.

    Examples
    --------
    >>> GeometricMedian().fit(effects).predict(["KLF1"])
    """

    def _fit(self, training: TrainingEffects) -> None:
        self._median = geometric_median(training.lfc)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        return np.tile(self._median, (len(perturbations), 1))


class MatchingMean(Baseline):
    r"""Predicts a combination as the mean of the log-fold-changes of its genes, each measured alone.

    .. math:: \hat y_{AB} = (y_A + y_B) / 2

    the matching mean of Systema :cite:p:`VinasTorne2025`, as its code has it: a gene that was not perturbed alone in
    training is taken to do what the training perturbations do on average, singles and combinations alike, and a warning
    names it. Systema averages cells; here each perturbation has the same weight. A single perturbation is predicted as
    it was measured, or as the mean of all.

    Examples
    --------
    >>> MatchingMean().fit(effects).predict(["KLF1+CEBPA"])
    """

    def _fit(self, training: TrainingEffects) -> None:
        self._singles = training.singles
        self._mean = training.lfc.mean(axis=0)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        unknown = [gene for gene in perturbed_genes(perturbations) if gene not in self._singles]
        if unknown:
            warn_user(
                f"{len(unknown)} gene(s) were not perturbed alone in training: {shorten(unknown, 10)}. The mean of all "
                "training perturbations stands for each."
            )
        return np.array(
            [np.mean([self._singles.get(gene, self._mean) for gene in genes], axis=0) for genes in perturbations]
        )


class PartnerMean(Baseline):
    r"""Predicts a combination as the mean of the training combinations that share a gene with it.

    .. math:: \hat y_p = \frac{\sum_q w_{pq}\, y_q}{\sum_q w_{pq}}, \qquad w_{pq} = \frac{|p \cap q|}{|q|}

    over the training combinations :math:`q`: a combination that shares more of its genes counts more. For doubles it is
    the mean effect of their partners' doubles. One that shares no gene with any is predicted as the mean of the training
    combinations, or of all training perturbations where no combination is among them, and a warning names it. A single
    perturbation is predicted as the mean of the training singles.

    See Also
    --------
    MatchingMean, PairKernel, NearestPerturbation

    Examples
    --------
    >>> PartnerMean().fit(effects).predict(["KLF1+CEBPA"])
    """

    def _fit(self, training: TrainingEffects) -> None:
        combined = np.array([len(genes) > 1 for genes in training.perturbations])
        self._combinations = [genes for genes in training.perturbations if len(genes) > 1]
        self._lfc = training.lfc[combined]
        self._mean = training.lfc.mean(axis=0)
        self._mean_combination = self._lfc.mean(axis=0) if combined.any() else self._mean
        self._mean_single = self._mean if combined.all() else training.lfc[~combined].mean(axis=0)
        self._has_singles = not combined.all()

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        predicted = np.empty((len(perturbations), len(self._mean)))
        alone, singles = [], []
        for i, genes in enumerate(perturbations):
            if len(genes) == 1:
                predicted[i] = self._mean_single
                singles += [] if self._has_singles else [genes]
                continue
            weights = np.array([len(set(genes) & set(other)) / len(other) for other in self._combinations])
            if weights.any():
                predicted[i] = weights @ self._lfc / weights.sum()
            else:
                predicted[i] = self._mean_combination
                alone.append(genes)
        if alone:
            meant = (
                "training combinations"
                if self._combinations
                else "training perturbations, of which none is a combination,"
            )
            warn_user(
                f"{len(alone)} combination(s) share no gene with a training combination: "
                f"{shorten(map(format_label, alone), 10)}. The mean of the {meant} stands for each."
            )
        if singles:
            warn_user(
                f"No single perturbation is in training to predict {len(singles)} from: "
                f"{shorten(map(format_label, singles), 10)}. The mean of the training combinations stands for each."
            )
        return predicted


def geometric_median(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the point with the least sum of distances to the rows of `points`, of shape (n_points, n_dimensions)."""
    median = points.mean(axis=0)
    spread = float(np.linalg.norm(points - median, axis=1).mean())
    if spread == 0:
        return median
    for _ in range(MAX_STEPS):
        stepped = _step(points, median, spread)
        moved = float(np.linalg.norm(stepped - median))
        median = stepped
        if moved <= TOLERANCE * spread:
            break
    # Towards a minimum that is one of the points, the steps become ever shorter: end it by comparing.
    nearest = points[np.linalg.norm(points - median, axis=1).argmin()]
    return nearest if _total_distance(points, nearest) <= _total_distance(points, median) else median


def _step(points: NDArray[np.float64], at: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    distance = np.linalg.norm(points - at, axis=1)
    apart = distance > 1e-12 * spread
    weight = 1 / distance[apart]
    target = weight @ points[apart] / weight.sum()
    n_here = np.count_nonzero(~apart)
    if n_here == 0:
        return target
    pull = float(np.linalg.norm(weight @ points[apart] - weight.sum() * at))
    # The points here hold on with a force of one each: below it, nothing moves.
    stay = 1.0 if pull <= n_here else n_here / pull
    return (1 - stay) * target + stay * at


def _total_distance(points: NDArray[np.float64], at: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(points - at, axis=1).sum())
