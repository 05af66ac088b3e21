"""Perturbations predicted from those of similar genes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import perturbed_genes
from scapp._training_effects import TrainingEffects
from scapp._warn import warn_user
from scapp.baselines._kernel import choose_ridge, solve_ridge
from scapp.baselines._sources import (
    SimilarityBaseline,
    check_some_known,
    known_genes,
    membership,
    summed_similarity,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._labels import Perturbation


class KernelRidge(SimilarityBaseline):
    r"""Kernel ridge regression of the effects on what is known about the perturbed genes.

    With a kernel :math:`k` over genes, the sum of the similarities that are named, and :math:`\mu` the mean of the
    training perturbations,

    .. math:: \hat y_p = \mu + \sum_{g \in p} \sum_{q} \sum_{h \in q} k(g, h)\, \alpha_q, \qquad
        \alpha = (Z k Z^\top + \lambda I)^{-1} (Y - \mu),

    where :math:`q` runs over the training perturbations, singles and combinations, and :math:`Z` says which genes each
    perturbs: a combination is embedded as the sum of its genes'. On 790 knock-downs of :cite:p:`Replogle2022`, a penalty
    of 1 on the whole of the Gene Ontology and of STRING leaves 0.929 of the mean's L2 distance (0.933 if genes are matched
    without aliases), and 256 components of each, beside the network, leave 0.938.

    Similarities of two genes are

    - for a network in `varp`: the cosine of the profiles of random walks with restart :cite:p:`Kohler2008` from each
      over the genes of the effects (signs ignored, direction followed; 0 for a gene without edges);
    - for features in `varm`: the dot product of their rows over the largest of a row with itself. For annotations that
      :func:`scapp.pp.add_gene_features` reduced, that approximates the tf-idf cosine, the better the more components;
    - for precomputed similarities: as given. :func:`annotation_similarity` and :func:`diffusion_similarity` make those
      of whole annotations and whole networks, without a decomposition.

    A gene of which nothing is known contributes nothing, so that a perturbation of it alone is predicted as the mean, and
    a warning names it.

    Parameters
    ----------
    networks_key
        Key or keys of ``effects.varp`` with networks; None for none.
    features_key
        Key or keys of ``effects.varm`` with gene features. Genes without features have NaN there.
    similarity_key
        Key or keys of ``effects.varp`` with similarities.
    similarities
        Table or tables of similarities, genes as index and columns; they may hold other genes as well.
    ridge
        :math:`\lambda`; None to choose it by the squared leave-one-out error on the training perturbations (in closed
        form :cite:p:`Allen1974`, with the mean as it is) from powers of two times the mean diagonal of the kernel.
    restart
        Probability of the walk to go back to its start at each step.

    Examples
    --------
    >>> KernelRidge(features_key="go").fit(effects).predict(["KLF1"])
    """

    @checked
    def __init__(
        self,
        *,
        networks_key: str | Sequence[str] | None = Key.varp.NETWORK,
        features_key: str | Sequence[str] | None = None,
        similarity_key: str | Sequence[str] | None = None,
        similarities: pd.DataFrame | Iterable[pd.DataFrame] | None = None,
        ridge: float | None = None,
        restart: float = 0.5,
    ) -> None:
        if ridge is not None and not ridge > 0:
            raise ValueError(f"ridge must be greater than 0, or None to choose it, found {ridge}.")
        super().__init__(
            networks_key=networks_key,
            features_key=features_key,
            similarity_key=similarity_key,
            similarities=similarities,
            restart=restart,
        )
        self._asked = ridge
        self._ridge: float | None = ridge

    @property
    def ridge(self) -> float | None:
        r"""The penalty :math:`\lambda`; None before it is chosen."""
        return self._ridge

    def _fit(self, training: TrainingEffects) -> None:
        sources = self._read_sources(training)
        genes = perturbed_genes(training.perturbations)
        known = check_some_known(sources, genes)
        kernel = _positive(summed_similarity(sources, genes, genes))
        member = membership(training.perturbations, genes)
        between = member @ kernel @ member.T
        mean = training.lfc.mean(axis=0)
        deviations = training.lfc - mean
        ridge = self._asked if self._asked is not None else choose_ridge(between, deviations @ deviations.T)[0]

        unknown = [gene for gene, found in zip(genes, known, strict=True) if not found]
        if unknown:
            warn_user(
                f"Nothing is known about {len(unknown)} of the {len(genes)} perturbed genes: {shorten(unknown, 10)}. Their "
                "perturbations count in the mean only."
            )
        self._sources, self._genes, self._ridge, self._mean = sources, genes, ridge, mean
        self._weights = member.T @ solve_ridge(between, deviations, ridge)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        genes = perturbed_genes(perturbations)
        unknown = [gene for gene, found in zip(genes, known_genes(self._sources, genes), strict=True) if not found]
        if unknown:
            warn_user(
                f"Nothing is known about {len(unknown)} perturbed gene(s): {shorten(unknown, 10)}. They contribute nothing: "
                "a perturbation of them alone is predicted as the mean of the training perturbations."
            )
        deviation = summed_similarity(self._sources, genes, self._genes) @ self._weights
        return self._mean + membership(perturbations, genes) @ deviation


def _positive(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.linalg.eigvalsh(kernel)
    if values[0] < -1e-4 * values[-1]:
        raise ValueError(
            "The similarities are no kernel: the matrix of the training genes has the negative eigenvalue "
            f"{values[0]:.3g} (the largest is {values[-1]:.3g}). Pass a network of nearest neighbours as networks_key, whose "
            "random walks make a kernel of it, or all similarities of a positive semi-definite measure such as a cosine."
        )
    return kernel
