"""Perturbations predicted from those of similar genes: by kernel ridge regression, or as the nearest one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import Perturbation, format_label, perturbed_genes
from scapp._training_effects import TrainingEffects
from scapp._warn import warn_user
from scapp.baselines._similarities import SimilarityBaseline, membership

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Penalties in units of the kernel's mean diagonal.
RIDGES = tuple((2.0 ** np.arange(-8, 7)).tolist())
# Cosines that differ by less are equal: random walks are computed in single precision.
TOLERANCE = 1e-5


def solve_ridge(kernel: NDArray[np.float64], targets: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    r"""Return the coefficients :math:`(K + \lambda I)^{-1} Y` of shape (n, n_targets), for :math:`\lambda > 0`."""
    return np.asarray(np.linalg.solve(kernel + ridge * np.eye(len(kernel)), targets), dtype=np.float64)


def choose_ridge(kernel: NDArray[np.float64], targets_gram: NDArray[np.float64]) -> tuple[float, float]:
    r"""Return the penalty with the least squared leave-one-out error, and that error, summed over rows and targets.

    With :math:`A = (K + \lambda I)^{-1}`, the residual of a row that is left out is :math:`(A Y)_i / A_{ii}`
    :cite:p:`Allen1974`. Only :math:`Y Y^\top` is needed, so the number of targets does not matter. The kernel is positive
    semi-definite and not all zero.
    """
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0)
    rotated = vectors.T @ targets_gram @ vectors
    unit = float(np.trace(kernel)) / len(kernel)
    found: list[tuple[float, float]] = []
    for ridge in RIDGES:
        inverse = 1 / (values + ridge * unit)
        scaled = vectors * inverse
        squared_residuals = np.einsum("ij,ij->i", scaled @ rotated, scaled)
        diagonal = np.einsum("ij,ij->i", scaled, vectors)
        found.append((float(np.sum(squared_residuals / diagonal**2)), ridge * unit))
    error, best = min(found)
    return best, error


class KernelRidge(SimilarityBaseline):
    r"""Kernel ridge regression of the effects on prior knowledge about the perturbed genes.

    With a kernel :math:`k` over genes, which is the sum of the given similarities, and the mean :math:`\mu` of the
    training perturbations,

    .. math:: \hat y_p = \mu + \sum_{g \in p} \sum_{q} \sum_{h \in q} k(g, h)\, \alpha_q, \qquad
        \alpha = (Z k Z^\top + \lambda I)^{-1} (Y - \mu),

    where :math:`q` runs over the training perturbations, singles and combinations, and :math:`Z` indicates the genes
    that each perturbs, so a combination is embedded as the sum of its genes. On 790 knockdowns of
    :cite:p:`Replogle2022`, a penalty of 1 with the whole Gene Ontology and STRING gives 0.929 times the L2 distance of
    the mean (0.933 if genes are matched without aliases); 256 components of each, together with the network, give
    0.938.

    The similarities of two genes are

    - for a network in `varp`: the cosine of the profiles of random walks with restart :cite:p:`Kohler2008` from each
      over the genes of the effects (signs ignored, direction followed; 0 for a gene without edges);
    - for features in `varm`: the dot product of their rows, divided by the largest dot product of a row with itself.
      For annotations reduced by :func:`scapp.pp.add_gene_features`, this approximates the tf-idf cosine, the better the
      more components there are;
    - for precomputed similarities: as given. :func:`annotation_similarity` and :func:`diffusion_similarity` compute
      them from whole annotations and networks, without a decomposition.

    A gene without any information contributes nothing, so its perturbation is predicted as the mean, and a warning
    names it.

    Parameters
    ----------
    network_key
        Key or keys of ``effects.varp`` with networks; None for none.
    gene_features_key
        Key or keys of ``effects.varm`` with gene features. Genes without features have NaN there.
    similarity_key
        Key or keys of ``effects.varp`` with similarities.
    similarities
        One or more tables of similarities with genes as index and columns; they may contain other genes too.
    ridge
        :math:`\lambda`. If None, it is chosen from powers of two times the mean diagonal of the kernel, by the squared
        leave-one-out error on the training perturbations (in closed form :cite:p:`Allen1974`, with the mean held
        fixed).
    restart
        Probability that the walk returns to its start at each step.

    Examples
    --------
    >>> KernelRidge(gene_features_key="go").fit(effects).predict(["KLF1"])
    """

    @checked
    def __init__(
        self,
        *,
        network_key: str | Sequence[str] | None = Key.varp.NETWORK,
        gene_features_key: str | Sequence[str] | None = None,
        similarity_key: str | Sequence[str] | None = None,
        similarities: pd.DataFrame | Iterable[pd.DataFrame] | None = None,
        ridge: float | None = None,
        restart: float = 0.5,
    ) -> None:
        if ridge is not None and not ridge > 0:
            raise ValueError(f"ridge must be greater than 0, or None to choose it, found {ridge}.")
        super().__init__(network_key, gene_features_key, similarity_key, similarities, restart)
        self._asked = ridge
        self._ridge: float | None = ridge

    @property
    def ridge(self) -> float | None:
        r"""The penalty :math:`\lambda`; None before it is chosen."""
        return self._ridge

    def _fit(self, training: TrainingEffects) -> None:
        genes = perturbed_genes(training.perturbations)
        similarity = self._read_similarity(training, genes)
        kernel = similarity.between(genes, genes)
        values = np.linalg.eigvalsh(kernel)
        if values[0] < -1e-4 * values[-1]:
            raise ValueError(
                "The similarities are not a kernel: the matrix of the training genes has the negative eigenvalue "
                f"{values[0]:.3g} (the largest is {values[-1]:.3g}). Pass a network of nearest neighbours as network_key, whose "
                "random walks make a kernel of it, or all similarities of a positive semi-definite measure such as a cosine."
            )
        member = membership(training.perturbations, genes)
        between = member @ kernel @ member.T
        mean = training.lfc.mean(axis=0)
        deviations = training.lfc - mean
        ridge = self._asked if self._asked is not None else choose_ridge(between, deviations @ deviations.T)[0]

        if unknown := similarity.unknown(genes):
            warn_user(
                f"Nothing is known about {len(unknown)} of the {len(genes)} perturbed genes: {shorten(unknown, 10)}. Their "
                "perturbations count in the mean only."
            )
        self._similarity, self._genes, self._ridge, self._mean = similarity, genes, ridge, mean
        self._weights = member.T @ solve_ridge(between, deviations, ridge)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        genes = perturbed_genes(perturbations)
        if unknown := self._similarity.unknown(genes):
            warn_user(
                f"Nothing is known about {len(unknown)} perturbed gene(s): {shorten(unknown, 10)}. They contribute nothing: "
                "a perturbation of them alone is predicted as the mean of the training perturbations."
            )
        deviation = self._similarity.between(genes, self._genes) @ self._weights
        return self._mean + membership(perturbations, genes) @ deviation


class NearestPerturbation(SimilarityBaseline):
    r"""Predict the effect of the training perturbation whose genes are most similar, by networks or gene features.

    .. math:: \hat y_p = y_{q^*}, \qquad q^* = \arg\max_q \frac{K(p, q)}{\sqrt{K(p, p)\, K(q, q)}}, \qquad
        K(p, q) = \sum_{g \in p} \sum_{h \in q} k(g, h)

    where :math:`k` is the sum of the given similarities; see :class:`KernelRidge`. Singles are compared with training
    singles, and combinations with training combinations; if there are none, they are compared with all training
    perturbations, and a warning says so. If several are equally similar, their mean is predicted. A training
    perturbation is predicted as measured.

    A perturbation that is similar to none, because nothing is known about its genes, is predicted as the mean of those
    with which it is compared, and a warning names it.

    Parameters
    ----------
    network_key, gene_features_key, similarity_key, similarities, restart
        As in :class:`KernelRidge`.

    See Also
    --------
    KernelRidge, PartnerMean

    Examples
    --------
    >>> NearestPerturbation(gene_features_key="go").fit(effects).predict(["KLF1"])
    """

    @checked
    def __init__(
        self,
        *,
        network_key: str | Sequence[str] | None = Key.varp.NETWORK,
        gene_features_key: str | Sequence[str] | None = None,
        similarity_key: str | Sequence[str] | None = None,
        similarities: pd.DataFrame | Iterable[pd.DataFrame] | None = None,
        restart: float = 0.5,
    ) -> None:
        super().__init__(network_key, gene_features_key, similarity_key, similarities, restart)

    def _fit(self, training: TrainingEffects) -> None:
        self._similarity = self._read_similarity(training, perturbed_genes(training.perturbations))
        self._perturbations, self._lfc = training.perturbations, training.lfc

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        similarity = self._cosines(perturbations)
        combined = np.array([len(genes) > 1 for genes in self._perturbations])
        row_of = {genes: row for row, genes in enumerate(self._perturbations)}
        predicted = np.empty((len(perturbations), self._lfc.shape[1]))
        unknown, without_kind = [], []
        for i, genes in enumerate(perturbations):
            if genes in row_of:
                predicted[i] = self._lfc[row_of[genes]]
                continue
            compared = combined == (len(genes) > 1)
            if not compared.any():
                without_kind.append(genes)
                compared = ~compared
            best = similarity[i, compared].max()
            if best <= TOLERANCE:
                unknown.append(genes)
            nearest = similarity[i, compared] >= best - TOLERANCE if best > TOLERANCE else slice(None)
            predicted[i] = self._lfc[compared][nearest].mean(axis=0)
        if without_kind:
            kind = "combinations" if len(without_kind[0]) > 1 else "single perturbations"
            warn_user(
                f"There are no {kind} in training to compare {len(without_kind)} perturbation(s) with: "
                f"{shorten(map(format_label, without_kind), 10)}. They are compared with all training perturbations."
            )
        if unknown:
            warn_user(
                f"{len(unknown)} perturbation(s) are similar to none of training: {shorten(map(format_label, unknown), 10)}. "
                "The mean of those that they are compared with is predicted."
            )
        return predicted

    def _cosines(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        """Return the similarities of perturbations with those of training; 0 where nothing is known."""
        genes, others = perturbed_genes(perturbations), perturbed_genes(self._perturbations)
        asked, trained = membership(perturbations, genes), membership(self._perturbations, others)
        between = asked @ self._similarity.between(genes, others) @ trained.T
        lengths = np.outer(self._length(asked, genes), self._length(trained, others))
        return np.divide(between, lengths, out=np.zeros_like(between), where=lengths > 0)

    def _length(self, member: NDArray[np.float64], genes: list[str]) -> NDArray[np.float64]:
        squares = np.sum((member @ self._similarity.between(genes, genes)) * member, axis=1)
        return np.sqrt(np.maximum(squares, 0))
