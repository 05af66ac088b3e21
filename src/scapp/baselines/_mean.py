"""Constants, averages of training effects, and what another screen measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, format_label, perturbed_genes
from scapp._training_effects import TrainingEffects, read_effects
from scapp._warn import warn_user
from scapp.baselines._base import Baseline

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

MAX_STEPS = 10_000
# A step shorter than this share of the spread of the profiles ends the search.
TOLERANCE = 1e-9


class Constant(Baseline):
    """A baseline that predicts the same for all perturbations; a subclass says what, over the measured genes (`_constant`)."""

    _constant: NDArray[np.float64]

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        return np.tile(self._constant, (len(perturbations), 1))


class NoChange(Constant):
    """Predict that nothing changes: a log-fold-change of 0 for each gene.

    Examples
    --------
    >>> NoChange().fit(effects).predict(["KLF1+CEBPA"])
    """

    def _fit(self, training: TrainingEffects) -> None:
        self._constant = np.zeros(len(training.genes))


class Mean(Constant):
    """Predict the mean log-fold-change of the training perturbations, each with the same weight.

    The perturbation-mean baseline of :cite:p:`AhlmannEltze2025`. Singles and combinations count alike; fit it to a
    part of the effects for the mean of that part.

    Examples
    --------
    >>> Mean().fit(effects).predict(["KLF1"])
    """

    def _fit(self, training: TrainingEffects) -> None:
        self._constant = training.lfc.mean(axis=0)


class GeometricMedian(Constant):
    r"""Predict the geometric median of the training perturbations, each with the same weight.

    .. math:: \hat y = \operatorname{arg\,min}_y \sum_p \lVert y - y_p \rVert

    Among all constants, it minimises the mean L2 distance to the training profiles, which is the score of the published
    benchmark :cite:p:`AhlmannEltze2025`; the mean minimises the squared distance. It is found by Weiszfeld's algorithm
    in the form of :cite:t:`Vardi2000`, which does not get stuck at a training profile. The distance is over all
    measured genes; pass ``effects[:, scored].copy()`` to use only the scored genes.

    Examples
    --------
    >>> GeometricMedian().fit(effects).predict(["KLF1"])
    """

    def _fit(self, training: TrainingEffects) -> None:
        self._constant = geometric_median(training.lfc)


class MatchingMean(Baseline):
    r"""Predict a combination as the mean of the log-fold-changes of its genes, each measured alone.

    .. math:: \hat y_{AB} = (y_A + y_B) / 2

    This is the matching mean of Systema :cite:p:`VinasTorne2025`, as in its code. A gene that was not perturbed alone
    in training gets the mean effect of all training perturbations, singles and combinations alike, and a warning names
    it. Systema averages cells; here each perturbation has the same weight. A single perturbation is predicted as
    measured, or else as the mean of all.

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
    r"""Predict a combination as the mean of the training combinations that share a gene with it.

    .. math:: \hat y_p = \frac{\sum_q w_{pq}\, y_q}{\sum_q w_{pq}}, \qquad w_{pq} = \frac{|p \cap q|}{|q|}

    The sums are over the training combinations :math:`q`; a combination counts more if it shares a larger fraction of
    its genes. A combination that shares no gene with any of them is predicted as the mean of the training combinations,
    or of all training perturbations if there are none, and a warning names it. A single perturbation is predicted as
    the mean of the training singles.

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
            meant = "combinations" if self._combinations else "perturbations, of which none is a combination,"
            warn_user(
                f"{len(alone)} combination(s) share no gene with a training combination: "
                f"{shorten(map(format_label, alone), 10)}. The mean of the training {meant} stands for each."
            )
        if singles:
            warn_user(
                f"No single perturbation is in training to predict {len(singles)} from: "
                f"{shorten(map(format_label, singles), 10)}. The mean of the training combinations stands for each."
            )
        return predicted


class CarriedOver(Baseline):
    r"""Predict the effect of the same perturbation measured in another screen, cell line or condition, times one factor.

    .. math:: \hat y_{pg} = a\, x_{pg}, \qquad a = \frac{\sum_{q, g} y_{qg}\, x_{qg}}{\sum_{q, g} x_{qg}^2}

    Here x are the effects of the other screen and y those of this one, and the sums are over perturbations q measured
    in both. If the lines respond alike, it is hard to beat; if not, the scale a is small. Compare any model that uses
    the other screen as features (:func:`scapp.pp.add_effects_as_features`) with it.

    Genes and perturbations that are missing from the other screen are predicted by the mean of the training
    perturbations; warnings name them.

    Parameters
    ----------
    other
        Effects of the other screen, with one observation per perturbation and no controls. They are not changed.
    layer, perturbation_key, sep
        Where its log-fold-changes and labels stand, as in `fit`.

    Attributes
    ----------
    scale
        The scale a, after `fit`.

    Raises
    ------
    ValueError
        If the effects cannot be read, as in `fit`; in `fit`, also if the two screens share no measured gene or no
        perturbation from which to learn the scale.

    Examples
    --------
    >>> CarriedOver(rpe1).fit(k562).predict(["KLF1"])
    """

    @checked
    def __init__(
        self,
        other: AnnData,
        *,
        layer: str | None = Key.layers.LFC,
        perturbation_key: str = Key.obs.PERTURBATION,
        sep: str = SEPARATOR,
    ) -> None:
        self._other = read_effects(other, layer=layer, perturbation_key=perturbation_key, sep=sep)

    def _fit(self, training: TrainingEffects) -> None:
        column = {gene: k for k, gene in enumerate(self._other.genes)}
        here = np.array([gene in column for gene in training.genes])
        if not here.any():
            raise ValueError(
                f"The two screens share no measured gene: {shorten(training.genes)} here, {shorten(self._other.genes)} there. "
                "Bring them to the same names with `scapp.pp.harmonize_genes`."
            )
        there = [column[gene] for gene in training.genes if gene in column]
        known = dict(zip(self._other.perturbations, self._other.lfc[:, there], strict=True))
        shared = [i for i, genes in enumerate(training.perturbations) if genes in known]
        if not shared:
            raise ValueError(
                f"The two screens share none of the {len(training.perturbations)} training perturbations, so there is nothing "
                "to learn the scale of the other screen from. Bring labels and genes to the same names."
            )
        absent = [gene for gene in training.genes if gene not in column]
        if absent:
            warn_user(
                f"The other screen did not measure {len(absent)} of the {len(training.genes)} genes: {shorten(absent, 10)}. "
                "The mean of all training perturbations stands for their changes."
            )
        x = np.stack([known[training.perturbations[i]] for i in shared])
        size = np.square(x).sum()
        self.scale = float((x * training.lfc[shared][:, here]).sum() / size) if size > 0 else 0.0
        self._known, self._here, self._mean = known, here, training.lfc.mean(axis=0)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        missing = [format_label(genes) for genes in perturbations if genes not in self._known]
        if missing:
            warn_user(
                f"The other screen lacks {len(missing)} of these {len(perturbations)} perturbations: {shorten(missing, 10)}. "
                "The mean of all training perturbations stands for each."
            )
        predicted = np.tile(self._mean, (len(perturbations), 1))
        for row, genes in zip(predicted, perturbations, strict=True):
            if genes in self._known:
                row[self._here] = self.scale * self._known[genes]
        return predicted


def geometric_median(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the point with the least sum of distances to the rows of `points`, of shape (n_points, n_dimensions)."""
    median = points.mean(axis=0)
    spread = float(np.linalg.norm(points - median, axis=1).mean())
    if spread == 0:
        return median
    for _ in range(MAX_STEPS):
        distance = np.linalg.norm(points - median, axis=1)
        apart = distance > 1e-12 * spread
        weight = 1 / distance[apart]
        stepped = weight @ points[apart] / weight.sum()
        if n_here := np.count_nonzero(~apart):
            pull = float(np.linalg.norm(weight @ points[apart] - weight.sum() * median))
            # The points here hold on with a force of one each: below it, nothing moves.
            stay = 1.0 if pull <= n_here else n_here / pull
            stepped = (1 - stay) * stepped + stay * median
        moved = float(np.linalg.norm(stepped - median))
        median = stepped
        if moved <= TOLERANCE * spread:
            break
    # Towards a minimum that is one of the points, the steps become ever shorter: end it by comparing.
    nearest = points[np.linalg.norm(points - median, axis=1).argmin()]
    total = [float(np.linalg.norm(points - at, axis=1).sum()) for at in (nearest, median)]
    return nearest if total[0] <= total[1] else median
