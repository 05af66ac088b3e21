"""Predictions that do not depend on which genes are perturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._training_effects import TrainingEffects
from scapp.baselines._base import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._labels import Perturbation


class NoChange(Baseline):
    """Predicts that nothing changes: a log-fold-change of 0 for each gene.

    Examples
    --------
    >>> NoChange().fit(effects).predict(["KLF1+CEBPA"])
    """

    def _fit(self, training: TrainingEffects) -> None:
        self._n_genes = len(training.genes)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        return np.zeros((len(perturbations), self._n_genes))


class Mean(Baseline):
    """Predicts the mean log-fold-change of the training perturbations, each with the same weight.

    The perturbation-mean baseline of :cite:p:`AhlmannEltze2025`. Singles and combinations count alike; fit it to a
    part of the effects for the mean of that part.

    Examples
    --------
    >>> Mean().fit(effects).predict(["KLF1"])
    """

    def _fit(self, training: TrainingEffects) -> None:
        self._mean = training.lfc.mean(axis=0)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        return np.tile(self._mean, (len(perturbations), 1))
