"""Base class of all baselines, which reads the training effects and writes predictions as `APP` does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._checked import checked
from scapp._effects import label_column
from scapp._genes import measured_mask, over_all_genes, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, list_labels, parse_labels
from scapp._training_effects import TrainingEffects, read_effects

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Baseline(ABC):
    """A prediction that needs no training worth the name.

    A subclass says how it is fitted to :class:`TrainingEffects` (`_fit`), and how it predicts the measured genes
    (`_predict`).
    """

    _shape: tuple[int, int] | None = None

    @checked
    def fit(
        self,
        effects: AnnData,
        *,
        layer: str | None = Key.layers.LFC,
        perturbation_key: str = Key.obs.PERTURBATION,
        sep: str = SEPARATOR,
    ) -> Self:
        """Fit to the effects of the training perturbations.

        Parameters
        ----------
        effects
            One observation per perturbation, no controls, as :func:`scapp.pp.pseudobulk` returns. Not changed.
        layer
            Layer that holds the log-fold-changes; `X` if None.
        perturbation_key
            Column of ``effects.obs`` with the labels.
        sep
            Separator between the genes of a combination.

        Returns
        -------
        The fitted baseline itself.

        Raises
        ------
        ValueError
            If the layer or the labels are missing, an observation is a control, two observations are the same
            perturbation, no gene was measured, or the values are no log-fold-changes; as :class:`scapp.model.APP` does.
        TypeError
            If `effects` is no AnnData.
        """
        perturbation_key = label_column(effects, perturbation_key)
        training = read_effects(effects, layer=layer, perturbation_key=perturbation_key, sep=sep)
        self._fit(training)
        self._shape, self._control_mean = training.lfc.shape, training.control_mean
        self._perturbation_key, self._sep = perturbation_key, sep
        self._var, self._measured = effects.var.copy(), measured_mask(effects)
        return self

    @checked
    def predict(self, perturbations: Iterable[str]) -> AnnData:
        """Predict the effects of perturbations of one gene or more.

        Parameters
        ----------
        perturbations
            Labels such as ``"KLF1"`` or ``"KLF1+CEBPA"``, the genes in any order.

        Returns
        -------
        A new AnnData with one observation per label, in the order and the spelling asked, and the genes of the effects:
        ``layers["predicted_lfc"]`` of shape (n_labels, n_vars), float32, and in `X` the predicted mean expression
        where the mean of the controls is known. Both are NaN for genes that were not measured.

        Raises
        ------
        RuntimeError
            If the baseline has not been fitted.
        ValueError
            If a label cannot be read, is a control, or is asked twice.
        TypeError
            If `perturbations` is one text and not a list of them.
        """
        if self._shape is None:
            raise RuntimeError(f"This {type(self).__name__} has not been fitted: call .fit(effects) first.")
        names = list_labels(perturbations)
        parsed = parse_labels(names, control=None, sep=self._sep, genes=self._var.index)
        controls = [name for name, genes in zip(names, parsed, strict=True) if not genes]
        if controls:
            raise ValueError(f"Expected perturbations, found the control: {shorten(controls)}. Its effect is 0.")
        predicted = self._predict(parsed)

        obs = pd.DataFrame(
            {
                self._perturbation_key: np.array(names, dtype=object),
                Key.obs.N_PERTURBED_GENES: [len(genes) for genes in parsed],
            },
            index=pd.Index(names, dtype=object),
        )
        lfc = over_all_genes(predicted, self._measured)
        X = None if self._control_mean is None else over_all_genes(predicted + self._control_mean, self._measured)
        return AnnData(X=X, obs=obs, var=self._var.copy(), layers={Key.layers.PREDICTED_LFC: lfc})

    @abstractmethod
    def _fit(self, training: TrainingEffects) -> None:
        """Learn what `_predict` needs; called before anything of an earlier fit is replaced."""

    @abstractmethod
    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        """Return log-fold-changes of shape (n_perturbations, n_measured)."""

    def __repr__(self) -> str:
        if self._shape is None:
            return f"{type(self).__name__}, not fitted"
        n, n_genes = self._shape
        return f"{type(self).__name__}, fitted to {n} perturbations x {n_genes} measured genes"
