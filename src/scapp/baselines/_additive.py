"""Combinations as the sum of their genes' measured effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._genes import shorten
from scapp._training_effects import TrainingEffects
from scapp._warn import warn_user
from scapp.baselines._base import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._labels import Perturbation


class Additive(Baseline):
    r"""Predicts a combination as the sum of the log-fold-changes of its genes, each measured alone.

    .. math:: \hat y_{AB} = y_A + y_B

    the additive model of :cite:p:`AhlmannEltze2025`. A gene that was not perturbed alone in training is taken to do
    what single perturbations do on average: its summand is the mean over the training singles, and a warning names it.
    The published values are over combinations whose genes were all perturbed alone.

    Examples
    --------
    >>> Additive().fit(effects).predict(["KLF1+CEBPA"])
    """

    def _fit(self, training: TrainingEffects) -> None:
        singles = training.singles
        if not singles:
            raise ValueError(
                f"None of the {len(training.perturbations)} training perturbations is of a single gene; an additive "
                "model needs the effects of single genes to sum. Include them in the effects, or use scapp.baselines.Mean."
            )
        self._singles = singles
        self._mean_single = np.array(list(singles.values())).mean(axis=0)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        self._warn_of_unknown(perturbations)
        return self._sum(perturbations)

    def _warn_of_unknown(self, perturbations: list[Perturbation]) -> None:
        unknown = sorted({gene for genes in perturbations for gene in genes if gene not in self._singles})
        if unknown:
            warn_user(
                f"{len(unknown)} gene(s) were not perturbed alone in training: {shorten(unknown, 10)}. The mean of the "
                f"{len(self._singles)} training singles stands for each."
            )

    def _sum(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        summands = [[self._singles.get(gene, self._mean_single) for gene in genes] for genes in perturbations]
        return np.array([np.sum(rows, axis=0) for rows in summands]).reshape(len(perturbations), len(self._mean_single))


class ShrunkAdditive(Additive):
    r"""Predicts a combination as the sum of its genes' log-fold-changes, times one number learned from combinations.

    .. math:: \hat y_{AB} = c\,(y_A + y_B), \qquad
        c = \frac{\sum_{AB} \langle y_A + y_B,\, y_{AB} \rangle}{\sum_{AB} \lVert y_A + y_B \rVert^2}

    with the sums over the training combinations whose genes were all perturbed alone: the least-squares fit over all
    measured genes. To fit it to the genes that are scored, pass ``effects[:, scored].copy()``. Single perturbations are
    predicted as measured, without the factor. Without a training combination, :math:`c = 1` and a warning says so.

    The factor is read from :attr:`scale`.

    Examples
    --------
    >>> ShrunkAdditive().fit(effects).scale
    """

    _scale: float = 1.0

    @property
    def scale(self) -> float:
        """The factor `c` of the sum."""
        return self._scale

    def _fit(self, training: TrainingEffects) -> None:
        super()._fit(training)
        rows = self._summable(training.perturbations)
        additive = self._sum([training.perturbations[i] for i in rows])
        size = float(np.sum(additive**2))
        if size > 0:
            self._scale = float(np.sum(additive * training.lfc[rows])) / size
            return
        self._scale = 1.0
        warn_user(
            "No training combination has a sum of measured single effects to compare with, so the sum is not shrunk "
            "(scale 1) and predictions are those of scapp.baselines.Additive."
        )

    def _summable(self, perturbations: list[Perturbation]) -> list[int]:
        """Return which perturbations are combinations of genes that were all perturbed alone."""
        return [
            i
            for i, genes in enumerate(perturbations)
            if len(genes) > 1 and all(gene in self._singles for gene in genes)
        ]

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        self._warn_of_unknown(perturbations)
        return self._scaled_sum(perturbations)

    def _scaled_sum(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        factor = np.array([self._scale if len(genes) > 1 else 1.0 for genes in perturbations])
        return factor[:, None] * self._sum(perturbations)
