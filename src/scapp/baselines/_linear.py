"""The linear model of the published benchmark, with embeddings from the effects or from elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np

from scapp._checked import checked
from scapp._feature_tables import read_feature_table
from scapp._genes import shorten
from scapp._labels import Perturbation, perturbed_genes
from scapp._training_effects import TrainingEffects
from scapp._warn import warn_user
from scapp.baselines._base import Baseline
from scapp.baselines._kernel_ridge import solve_ridge
from scapp.graph import truncated_svd

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Side = Literal["perturbation", "gene", "both"]


class BilinearModel(Baseline):
    """Ridge regression from embeddings of perturbations to the embedding of genes.

    A subclass defines the embeddings (`_embeddings`), and what lacks them (`_missing`, `_none_embedded`).
    """

    ridge: float

    def _fit(self, training: TrainingEffects) -> None:
        columns, targets, scores = self._embeddings(training)
        used = [i for i, genes in enumerate(training.perturbations) if all(gene in columns for gene in genes)]
        if not used:
            raise ValueError(
                f"None of the {len(training.perturbations)} training perturbations is {self._none_embedded(training)}"
            )
        effects = training.lfc[used]
        # The control is one more column of Y and P: 0 in both, it counts in the mean and nowhere else.
        mean_used = effects.sum(axis=0) / (len(used) + 1)
        embedded = scores.any(axis=1)
        left = _ridge(scores[embedded], (effects - mean_used)[:, embedded].T, self.ridge)
        self._columns, self._targets, self._scores = columns, targets, scores
        self._weights = _ridge(self._embed([training.perturbations[i] for i in used]), left.T, self.ridge)
        self._mean_used, self._mean_all = mean_used, training.lfc.mean(axis=0)

    def _embed(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        return np.array([self._targets[[self._columns[gene] for gene in genes]].sum(axis=0) for genes in perturbations])

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        unknown = [gene for gene in perturbed_genes(perturbations) if gene not in self._columns]
        if unknown:
            warn_user(
                f"{len(unknown)} perturbed gene(s) {self._missing}: {shorten(unknown, 10)}. "
                "Perturbations of them are predicted as the mean of the training perturbations."
            )
        known = [i for i, genes in enumerate(perturbations) if all(gene in self._columns for gene in genes)]
        predicted = np.tile(self._mean_all, (len(perturbations), 1))
        if known:
            embedding = self._embed([perturbations[i] for i in known])
            predicted[known] = embedding @ self._weights @ self._scores.T + self._mean_used
        return predicted

    @abstractmethod
    def _embeddings(self, training: TrainingEffects) -> tuple[dict[str, int], NDArray[np.float64], NDArray[np.float64]]:
        """Return rows of the targets by name, their embeddings, and those of the measured genes (0 for a gene without one)."""

    # Why a gene has no embedding.
    _missing = "were not measured and have no embedding"

    def _none_embedded(self, training: TrainingEffects) -> str:
        """Return the end of the sentence that no training perturbation is of genes with an embedding."""
        return (
            f"of measured genes, so none has an embedding: {shorten(perturbed_genes(training.perturbations))} are not "
            f"among the {len(training.genes)} measured genes. Keep the perturbed genes with `scapp.pp.select_genes`."
        )


class LinearModel(BilinearModel):
    r"""The bilinear model of :cite:p:`AhlmannEltze2025`: genes and perturbations embedded by the same PCA.

    Let :math:`X` hold the training profiles (genes x perturbations and the control), :math:`G` the scores of the genes
    on the first :math:`K` principal components of :math:`X` (genes are the rows, columns are centred, not scaled),
    :math:`Y` the log-fold-changes (0 for the control), :math:`b` their mean over the perturbations and the control, and
    :math:`P` the row of :math:`G` of each perturbation's target (0 for the control). Then

    .. math:: W = (G^\top G + \lambda I)^{-1} G^\top (Y - b) P^\top (P P^\top + \lambda I)^{-1}, \qquad
        \hat y_p = G W p + b .

    Profiles are mean expression (control mean plus log-fold-change) if ``var["control_mean"]`` is known, and otherwise
    log-fold-changes.

    As in the authors' code, perturbations whose target was not measured have no embedding: they are used in the PCA,
    but left out of :math:`W` and :math:`b`. Two points that the authors leave open are settled as follows:

    - A perturbation whose target was not measured is predicted as the mean over all training perturbations, with a
      warning that names the genes.
    - The embedding of a combination is the sum of its genes' (the published model is for single genes).

    Parameters
    ----------
    n_components
        :math:`K`, the number of principal components.
    ridge
        :math:`\lambda`, the penalty on both sides.

    Examples
    --------
    >>> LinearModel().fit(effects).predict(["KLF1"])
    """

    @checked
    def __init__(self, *, n_components: int = 10, ridge: float = 0.1) -> None:
        _check_options(n_components, ridge)
        self.n_components = n_components
        self.ridge = ridge

    def _embeddings(self, training: TrainingEffects) -> tuple[dict[str, int], NDArray[np.float64], NDArray[np.float64]]:
        scores = _gene_scores(training, self.n_components)
        return _positions(training.genes), scores, scores


class EmbeddingLinear(BilinearModel):
    r"""The bilinear model of :cite:p:`AhlmannEltze2025` on embeddings of genes that were learned elsewhere.

    .. math:: W = (G^\top G + \lambda I)^{-1} G^\top (Y - b) P^\top (P P^\top + \lambda I)^{-1}, \qquad
        \hat y_p = G W p + b

    This is :class:`LinearModel`, except that the embeddings replace :math:`P` (by the rows of the perturbed genes),
    :math:`G` (by the rows of the measured genes), or both. It gives the rows "pretrained embedding" of the published
    comparison, and tests how informative the gene embeddings of a foundation model are. A side that is not replaced is
    embedded by PCA of the training profiles.

    - Perturbation side: training perturbations of a gene that the table lacks are left out of :math:`W` and
      :math:`b`. They are predicted as the mean over all training perturbations, with a warning that names the genes.
    - Gene side: measured genes that the table lacks are left out of :math:`W`. They are predicted as their mean
      :math:`b`, and a warning at the fit counts them.
    - The embedding of a combination is the sum of its genes'.

    The penalty is in units of the embeddings, which are not rescaled, as in the authors' code.

    Parameters
    ----------
    embeddings
        Table of embeddings with genes as index, from :func:`scapp.resources.read_embedding`. A row of NaN is a gene
        without an embedding.
    side
        ``"perturbation"``, ``"gene"`` or ``"both"``.
    n_components
        Number of principal components of the training profiles, for the side without embeddings.
    embedding_components
        Number of principal components, over all rows of the table, to which wider embeddings are reduced; None for no
        reduction.
    ridge
        :math:`\lambda`, the penalty on both sides.

    Raises
    ------
    ValueError
        If an option is out of range, or the table has values that are not numbers or are infinite, or a gene twice.

    Examples
    --------
    >>> table = scapp.resources.read_embedding("genept.csv")
    >>> EmbeddingLinear(table).fit(effects).predict(["KLF1"])
    """

    @checked
    def __init__(
        self,
        embeddings: pd.DataFrame,
        *,
        side: Side = "perturbation",
        n_components: int = 10,
        embedding_components: int | None = None,
        ridge: float = 0.1,
    ) -> None:
        _check_options(n_components, ridge)
        self.side, self.n_components, self.ridge = side, n_components, ridge
        if embedding_components is not None and embedding_components < 1:
            raise ValueError(
                f"embedding_components must be a positive whole number or None, found {embedding_components!r}."
            )
        genes, values = read_feature_table(embeddings)
        if embedding_components is not None and values.shape[1] > embedding_components:
            values = truncated_svd(values - values.mean(axis=0), embedding_components, seed=0).astype(np.float64)
        self._genes, self._table = _positions(genes), values
        if side != "gene":
            self._missing = "have no embedding in the table"

    def _embeddings(self, training: TrainingEffects) -> tuple[dict[str, int], NDArray[np.float64], NDArray[np.float64]]:
        learned = _gene_scores(training, self.n_components) if self.side != "both" else None
        if self.side == "perturbation":
            assert learned is not None
            return self._genes, self._table, learned
        rows = np.array([self._genes.get(gene, -1) for gene in training.genes])
        if (rows < 0).all():
            raise ValueError(
                f"None of the {len(training.genes)} measured genes has an embedding: {shorten(training.genes)} are not "
                f"in the table, which holds {shorten(self._genes)}. Name the rows of the table by the names of "
                "effects.var_names."
            )
        if (rows < 0).any():
            absent = [gene for gene, row in zip(training.genes, rows, strict=True) if row < 0]
            warn_user(
                f"{len(absent)} of the {len(rows)} measured genes have no embedding: {shorten(absent)}. Of each, the mean "
                "over the training perturbations is predicted."
            )
        scores = np.where((rows >= 0)[:, None], self._table[rows], 0)
        if self.side == "both":
            return self._genes, self._table, scores
        assert learned is not None
        return _positions(training.genes), learned, scores

    def _none_embedded(self, training: TrainingEffects) -> str:
        if self.side == "gene":
            return super()._none_embedded(training)
        return (
            f"of genes with an embedding: {shorten(perturbed_genes(training.perturbations))} are not in the table, which "
            f"holds {shorten(self._genes)}. Name the rows of the table by the symbols that the labels use."
        )


def _gene_scores(training: TrainingEffects, n_components: int) -> NDArray[np.float64]:
    """Return scores of the genes on the principal components of the profiles; shape (n_measured, n_components)."""
    control = np.zeros(len(training.genes)) if training.control_mean is None else training.control_mean
    profiles = np.vstack([training.lfc + control, control]).T
    if n_components > min(profiles.shape):
        raise ValueError(
            f"n_components={n_components} is more than {len(training.genes)} measured genes and "
            f"{len(training.perturbations)} training perturbations have. Lower it to {min(profiles.shape)} or less."
        )
    left, size, _ = np.linalg.svd(profiles - profiles.mean(axis=0), full_matrices=False)
    return left[:, :n_components] * size[:n_components]


def _ridge(design: NDArray[np.float64], targets: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Return the coefficients of ridge regression, by the smaller of the two systems of equations."""
    n_rows, n_columns = design.shape
    if n_columns <= n_rows:
        return solve_ridge(design.T @ design, design.T @ targets, penalty)
    return design.T @ solve_ridge(design @ design.T, targets, penalty)


def _positions(genes: list[str]) -> dict[str, int]:
    return {gene: i for i, gene in enumerate(genes)}


def _check_options(n_components: int, ridge: float) -> None:
    if n_components < 1:
        raise ValueError(f"n_components must be at least 1, found {n_components}.")
    if not ridge > 0:
        raise ValueError(f"ridge must be greater than 0, found {ridge}.")
