"""The linear model of the published benchmark."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from scapp._genes import shorten
from scapp._perturbations import perturbed_genes
from scapp.baselines._base import Baseline, TrainingEffects

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._perturbations import Perturbation


class LinearModel(Baseline):
    r"""The bilinear model of :cite:p:`AhlmannEltze2025`: genes and perturbations embedded by the same PCA.

    Let :math:`X` hold the training profiles (genes x perturbations and the control), :math:`G` the scores of the genes
    on the first :math:`K` principal components of :math:`X` (genes are the rows, columns are centred, not scaled),
    :math:`Y` the log-fold-changes (0 for the control), :math:`b` their mean over the perturbations and the control, and
    :math:`P` the row of :math:`G` of each perturbation's target (0 for the control). Then

    .. math:: W = (G^\top G + \lambda I)^{-1} G^\top (Y - b) P^\top (P P^\top + \lambda I)^{-1}, \qquad
        \hat y_p = G W p + b .

    Profiles are mean expression where ``var["control_mean"]`` is known (control mean plus log-fold-change), and the
    log-fold-changes elsewhere.

    As in the authors' code, perturbations whose target was not measured have no embedding: they take part in the PCA,
    and are left out of :math:`W` and :math:`b`. What the authors leave open is decided thus:

    - A perturbation with a target that was not measured is predicted as the mean over all training perturbations, with
      a warning that names the genes.
    - The embedding of a combination is the sum of its genes' (the published model is for single genes).

    Parameters
    ----------
    n_components
        :math:`K`, the number of principal components.
    ridge
        :math:`\lambda`, the penalty on both sides.

    Examples
    --------
    >>> LinearModel().fit(effects).predict(["KLF1"])  # doctest: +SKIP
    """

    def __init__(self, *, n_components: int = 10, ridge: float = 0.1) -> None:
        if n_components < 1:
            raise ValueError(f"n_components must be at least 1, found {n_components}.")
        if not ridge > 0:
            raise ValueError(f"ridge must be greater than 0, found {ridge}.")
        self.n_components = n_components
        self.ridge = ridge

    def _fit(self, training: TrainingEffects) -> None:
        columns = {gene: i for i, gene in enumerate(training.genes)}
        used = [i for i, genes in enumerate(training.perturbations) if all(gene in columns for gene in genes)]
        if not used:
            raise ValueError(
                f"None of the {len(training.perturbations)} training perturbations is of measured genes, so none has an "
                f"embedding: {shorten(perturbed_genes(training.perturbations))} are not among the "
                f"{len(training.genes)} measured genes. Keep the perturbed genes with `scapp.pp.select_genes`."
            )
        scores = self._gene_scores(training)
        self._columns, self._scores = columns, scores
        embedding = self._embed([training.perturbations[i] for i in used])
        effects = training.lfc[used]
        # The control is one more column of Y and P: 0 in both, it counts in the mean and nowhere else.
        self._mean_used = effects.sum(axis=0) / (len(used) + 1)
        self._mean_all = training.lfc.mean(axis=0)

        penalty = self.ridge * np.eye(self.n_components)
        left = np.linalg.solve(scores.T @ scores + penalty, scores.T @ (effects - self._mean_used).T)
        # (P Pᵀ + λI)⁻¹ is symmetric: solving from the left with the transpose is multiplying from the right.
        self._weights = np.linalg.solve(embedding.T @ embedding + penalty, embedding.T @ left.T).T

    def _gene_scores(self, training: TrainingEffects) -> NDArray[np.float64]:
        """Scores of the genes on the principal components of the profiles; shape (n_measured, n_components)."""
        control = np.zeros(len(training.genes)) if training.control_mean is None else training.control_mean
        profiles = np.vstack([training.lfc + control, control]).T
        if self.n_components > min(profiles.shape):
            raise ValueError(
                f"n_components={self.n_components} is more than {len(training.genes)} measured genes and "
                f"{len(training.perturbations)} training perturbations have. Lower it to {min(profiles.shape)} or less."
            )
        left, size, _ = np.linalg.svd(profiles - profiles.mean(axis=0), full_matrices=False)
        return left[:, : self.n_components] * size[: self.n_components]

    def _embed(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        return np.array([self._scores[[self._columns[gene] for gene in genes]].sum(axis=0) for genes in perturbations])

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        unknown = [gene for gene in perturbed_genes(perturbations) if gene not in self._columns]
        if unknown:
            warnings.warn(
                f"{len(unknown)} perturbed gene(s) were not measured and have no embedding: {shorten(unknown, 10)}. "
                "Perturbations of them are predicted as the mean of the training perturbations.",
                UserWarning,
                stacklevel=3,
            )
        known = [i for i, genes in enumerate(perturbations) if all(gene in self._columns for gene in genes)]
        predicted = np.tile(self._mean_all, (len(perturbations), 1))
        if known:
            embedding = self._embed([perturbations[i] for i in known])
            predicted[known] = embedding @ self._weights.T @ self._scores.T + self._mean_used
        return predicted
