"""What a trained ensemble knows of its own errors: how those of two perturbations go together, and those of two genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from scapp.module._units import Bags, Genes

if TYPE_CHECKING:
    from scapp.module._app import APPModule
    from scapp.module._calibration import Calibration

CHUNK, BLOCK = 1024, 256


class _Part(NamedTuple):
    """One term of the error: the states of some genes or pairs, and how often each counts in each perturbation."""

    members: nn.ModuleList
    states: list[Tensor]
    counts: sparse.csr_matrix
    amplitude: float

    def covariance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        counts_a, counts_b = self.counts[a], self.counts[b]
        used_a, used_b = np.unique(counts_a.indices), np.unique(counts_b.indices)
        if not len(used_a) or not len(used_b):
            return np.zeros((len(a), len(b)))
        total = np.zeros((len(used_a), len(used_b)))
        for member, states in zip(self.members, self.states, strict=True):
            for start in range(0, len(used_a), CHUNK):
                rows = used_a[start : start + CHUNK]
                total[start : start + CHUNK] += member.decoder.covariance(states[rows], states[used_b]).cpu().numpy()
        total *= self.amplitude / len(self.members)
        return counts_a[:, used_a] @ total @ counts_b[:, used_b].T


class Posterior:
    r"""Covariance of the errors of predicting some perturbations, from the closed form of the decoders.

    A decoder is a Gaussian process over cell states: the errors of predicting P and Q have the covariance
    :math:`a\,(k(s_P, s_Q) - k_P^\top A^{-1} k_Q)`, and a measurement has the noise :math:`a \lambda`
    :cite:p:`Rasmussen2006`. The amplitude a is that of the left-out residuals, so that covariances are in squared
    log-fold-changes, averaged over genes and members. With an anchor, the error of a combination is that of its
    interaction term and, scaled as the anchor scales them, those of its genes that were not measured alone; a single that
    was measured has none.

    Parameters
    ----------
    module
        A trained module.
    perturbations
        The perturbations, each a tuple of nodes.

    Attributes
    ----------
    noise
        Variance of the noise of measuring each, of shape (n_perturbations,).

    Raises
    ------
    ValueError
        If the decoders have no closed form.
    """

    @torch.inference_mode()
    def __init__(self, module: APPModule, perturbations: Sequence[Genes]):
        if not hasattr(module.main[0].decoder, "covariance"):
            raise ValueError(
                "The decoder of this model was trained by gradient descent and does not know how its errors go together. "
                "Make the model with decoder='kernel' or decoder='linear' and without preset='paper'."
            )
        n = len(perturbations)
        main, noise = _amplitude(module.main, module.main_calibration)
        self.noise = np.full(n, noise)
        self._parts: list[_Part] = []
        if not module.anchored:
            states = _states(module, module.main, module.features, perturbations)
            self._parts.append(_Part(module.main, states, sparse.identity(n, format="csr"), main))
            return
        combined = np.array([len(genes) > 1 for genes in perturbations])
        rest = sorted({gene for genes in perturbations for gene in genes} - set(module.single_column))
        if rest:
            column = {gene: k for k, gene in enumerate(rest)}
            rows, columns = zip(*((i, g) for i, p in enumerate(perturbations) for g in p if g in column), strict=True)
            scale = float(module.anchor.scale.square().mean().sqrt())
            weight = np.where(combined[list(rows)], scale, 1.0)
            counts = sparse.csr_matrix((weight, (rows, [column[g] for g in columns])), shape=(n, len(rest)))
            states = _states(module, module.main, module.features, [(gene,) for gene in rest])
            self._parts.append(_Part(module.main, states, counts, main))
        if len(module.interaction) and combined.any():
            amplitude, noise = _amplitude(module.interaction, module.interaction_calibration)
            self.noise[combined] = noise
            pairs = np.flatnonzero(combined).tolist()
            features = module.interaction_features
            states = _states(module, module.interaction, features, [perturbations[i] for i in pairs])
            counts = sparse.csr_matrix((np.ones(len(pairs)), (pairs, np.arange(len(pairs)))), shape=(n, len(pairs)))
            self._parts.append(_Part(module.interaction, states, counts, amplitude))

    @torch.inference_mode()
    def covariance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Covariances between perturbations, by their positions `a` and `b`: (n_a, n_b)."""
        return sum((part.covariance(a, b) for part in self._parts), np.zeros((len(a), len(b))))

    def variance(self, a: np.ndarray) -> np.ndarray:
        """Variances of perturbations, by their positions: (n_a,)."""
        blocks = [a[i : i + BLOCK] for i in range(0, len(a), BLOCK)]
        return np.concatenate([self.covariance(block, block).diagonal() for block in blocks])


def error_factors(module: APPModule, *, combined: bool) -> Tensor:
    """How errors of genes go together, for combinations or for single genes; see :class:`Calibration`."""
    with_interaction = combined and len(module.interaction) > 0
    return (module.interaction_calibration if with_interaction else module.main_calibration).factors


def _states(
    module: APPModule, members: nn.ModuleList, features: Tensor, perturbations: Sequence[Genes]
) -> list[Tensor]:
    """States of the perturbations, one tensor a member."""
    nodes = sorted({gene for genes in perturbations for gene in genes})
    column, units = {gene: k for k, gene in enumerate(nodes)}, module.gene_units(nodes)
    embeddings = [member.embed(features, module.graphs) for member in members]
    found: list[list[Tensor]] = [[] for _ in members]
    for start in range(0, len(perturbations), CHUNK):
        bags = Bags.of(perturbations[start : start + CHUNK], column, features.device)
        seen = units.combined(bags).seen()
        for member, h, states in zip(members, embeddings, found, strict=True):
            states.append(member.pooling.states(h, *seen))
    return [torch.cat(states) for states in found]


def _amplitude(members: nn.ModuleList, calibration: Calibration) -> tuple[float, float]:
    """The amplitude of the processes and the variance of the noise, in squared log-fold-changes."""
    # A left-out residual has the variance a * (distance + penalty); its typical size and distance stand in the calibration.
    penalty = float(torch.stack([member.decoder.log_penalty.exp() for member in members]).mean())
    size, distance = calibration.noise.square().mean() * (2 * calibration.level).exp(), calibration.center[1].exp()
    amplitude = float(size / (distance + penalty))
    return amplitude, amplitude * penalty
