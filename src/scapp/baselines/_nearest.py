"""Perturbations predicted as the most similar one that was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import format_label, perturbed_genes
from scapp._training_effects import TrainingEffects
from scapp._warn import warn_user
from scapp.baselines._sources import SimilarityBaseline, check_some_known, membership, summed_similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._labels import Perturbation

# Cosines that differ by less are equal: random walks are computed in single precision.
TOLERANCE = 1e-5


class NearestPerturbation(SimilarityBaseline):
    r"""Predicts the effect of the training perturbation whose genes are most similar, by networks or gene features.

    .. math:: \hat y_p = y_{q^*}, \qquad q^* = \arg\max_q \frac{K(p, q)}{\sqrt{K(p, p)\, K(q, q)}}, \qquad
        K(p, q) = \sum_{g \in p} \sum_{h \in q} k(g, h)

    with :math:`k` the sum of the similarities that are named, as :class:`KernelRidge` describes them. Singles are compared
    with training singles, and combinations with training combinations; where training has none of these, with all
    training perturbations, and a warning says so. Where several are equally similar, their mean is predicted. A training
    perturbation is predicted as it was measured.

    A perturbation that is similar to none, as nothing is known about its genes, is predicted as the mean of those that it
    is compared with, and a warning names it.

    Parameters
    ----------
    networks_key, features_key, similarity_key, similarities, restart
        As in :class:`KernelRidge`.

    See Also
    --------
    KernelRidge, PartnerMean

    Examples
    --------
    >>> NearestPerturbation(features_key="go").fit(effects).predict(["KLF1"])
    """

    @checked
    def __init__(
        self,
        *,
        networks_key: str | Sequence[str] | None = Key.varp.NETWORK,
        features_key: str | Sequence[str] | None = None,
        similarity_key: str | Sequence[str] | None = None,
        similarities: pd.DataFrame | Iterable[pd.DataFrame] | None = None,
        restart: float = 0.5,
    ) -> None:
        super().__init__(
            networks_key=networks_key,
            features_key=features_key,
            similarity_key=similarity_key,
            similarities=similarities,
            restart=restart,
        )

    def _fit(self, training: TrainingEffects) -> None:
        sources = self._read_sources(training)
        check_some_known(sources, perturbed_genes(training.perturbations))
        self._sources, self._perturbations, self._lfc = sources, training.perturbations, training.lfc

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
        self._warn(unknown, without_kind)
        return predicted

    def _cosines(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        """Return the similarities of perturbations with those of training; 0 where nothing is known."""
        genes, others = perturbed_genes(perturbations), perturbed_genes(self._perturbations)
        asked, trained = membership(perturbations, genes), membership(self._perturbations, others)
        between = asked @ summed_similarity(self._sources, genes, others) @ trained.T
        lengths = np.outer(self._length(asked, genes), self._length(trained, others))
        return np.divide(between, lengths, out=np.zeros_like(between), where=lengths > 0)

    def _length(self, member: NDArray[np.float64], genes: list[str]) -> NDArray[np.float64]:
        squares = np.sum((member @ summed_similarity(self._sources, genes, genes)) * member, axis=1)
        return np.sqrt(np.maximum(squares, 0))

    @staticmethod
    def _warn(unknown: list[Perturbation], without_kind: list[Perturbation]) -> None:
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
