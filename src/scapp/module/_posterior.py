"""Joint posterior of the prediction errors of several perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from scapp.module._base import BATCH, Wanted
from scapp.module._evidence import Genes

if TYPE_CHECKING:
    from scapp.module._app import APPModule


class Posterior:
    r"""Covariance of the prediction errors of some perturbations, averaged over genes.

    The closed form is a Gaussian process: the errors of predicting P and Q have the covariance
    :math:`a\,(K(P, Q) - K_P (K + \lambda D)^{-1} K_Q)`, and a measurement has the noise :math:`a \lambda d`
    :cite:p:`Rasmussen2006`. The amplitude a converts them to squared log-fold-changes, so that new measurements differ from
    predictions as much as their standard deviations say.

    Attributes
    ----------
    noise
        Noise variance of a measurement of each perturbation, shape (n,).
    """

    @torch.no_grad()
    def __init__(self, module: APPModule, perturbations: Sequence[Genes]):
        closed = module.closed_form
        self._module, self._perturbations = module, list(perturbations)
        penalty = closed.penalty.clamp(max=1e3)
        self._penalty = float(penalty.median())
        kernel = closed.to_training(module.asked(perturbations))
        self._half = (kernel @ closed.vectors) / (closed.values + self._penalty).sqrt()
        noise = (self._penalty * closed.new_noise(perturbations)).numpy()
        self._amplitude = 1.0
        some = np.arange(len(noise))[:: -(-len(noise) // BATCH)]
        std = module.predict([self._perturbations[i] for i in some], Wanted(attention=False)).std
        self._amplitude = float(std.square().mean()) / float((self.variance(some) + noise[some]).mean())
        self.noise = self._amplitude * noise

    @torch.no_grad()
    def covariance(self, a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return covariances between the perturbations at positions `a` and `b`, shape (n_a, n_b)."""
        prior = self._module.prior_kernel([self._perturbations[i] for i in a], [self._perturbations[i] for i in b])
        return self._amplitude * (prior - self._half[a] @ self._half[b].T).numpy()

    def variance(self, a: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return variances of the perturbations at positions `a`, shape (n_a,)."""
        blocks = [a[i : i + BATCH] for i in range(0, len(a), BATCH)]
        return np.concatenate([np.maximum(self.covariance(block, block).diagonal(), 0) for block in blocks])
