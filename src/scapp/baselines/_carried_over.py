"""What another screen measured, carried over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, format_label
from scapp._training_effects import TrainingEffects, read_effects
from scapp._warn import warn_user
from scapp.baselines._base import Baseline

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scapp._labels import Perturbation


class CarriedOver(Baseline):
    r"""Predicts what another screen, of another cell line or condition, measured for the same perturbation.

    .. math:: \hat y_{pg} = a\, x_{pg}, \qquad a = \frac{\sum_{q, g} y_{qg}\, x_{qg}}{\sum_{q, g} x_{qg}^2}

    with the effects x of the other screen, y of this one, and the sums over perturbations q that both measured. Where lines
    respond alike it is hard to beat; where they do not, the scale a is small. A model that reads the other screen as
    features (:func:`scapp.pp.add_effects_as_features`) should be held against it.

    A gene that the other screen did not measure is predicted by the mean of the training perturbations, and so is a
    perturbation that it lacks; warnings name them.

    Parameters
    ----------
    other
        Effects of the other screen: one observation per perturbation, no controls. Not changed.
    layer, perturbation_key, sep
        Where its log-fold-changes and labels stand, as in `fit`.

    Attributes
    ----------
    scale
        The scale a, after `fit`.

    Raises
    ------
    ValueError
        If the effects cannot be read, as by `fit`; on `fit`, if the two screens share no measured gene or no perturbation, so
        that there is nothing to learn the scale from.

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
