"""Combinations as the sum of their genes' effects: as measured, scaled, or denoised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp._genes import shorten
from scapp._training_effects import TrainingEffects
from scapp._warn import warn_user
from scapp.baselines._base import Baseline
from scapp.baselines._similarities import membership

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._labels import Perturbation

# Shares of the largest singular value; the leave-one-out error chooses among them.
THRESHOLDS = (0.0, *np.geomspace(0.005, 0.5, 24).tolist())


class Additive(Baseline):
    r"""Predict a combination as the sum of the log-fold-changes of its genes, each measured alone.

    .. math:: \hat y_{AB} = y_A + y_B

    This is the additive model of :cite:p:`AhlmannEltze2025`. A gene that was not perturbed alone in training gets the
    mean effect of the training singles, and a warning names it. The published values cover only combinations whose
    genes were all perturbed alone.

    Examples
    --------
    >>> Additive().fit(effects).predict(["KLF1+CEBPA"])
    """

    _scale: float = 1.0  # of the sum of two genes or more; subclasses learn it

    def _fit(self, training: TrainingEffects) -> None:
        singles = training.singles
        if not singles:
            raise ValueError(
                f"None of the {len(training.perturbations)} training perturbations is of a single gene; an additive "
                "model needs the effects of single genes to sum. Include them in the effects, or use scapp.baselines.Mean."
            )
        self._singles = singles
        self._mean_single = np.array(list(singles.values())).mean(axis=0)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        unknown = sorted({gene for genes in perturbations for gene in genes if gene not in self._singles})
        if unknown:
            warn_user(
                f"{len(unknown)} gene(s) were not perturbed alone in training: {shorten(unknown, 10)}. The mean of the "
                f"{len(self._singles)} training singles stands for each."
            )
        return self._scaled_sum(perturbations)

    def _sum(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        summands = [[self._singles.get(gene, self._mean_single) for gene in genes] for genes in perturbations]
        return np.array([np.sum(rows, axis=0) for rows in summands]).reshape(len(perturbations), len(self._mean_single))

    def _scaled_sum(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        factor = np.array([self._scale if len(genes) > 1 else 1.0 for genes in perturbations])
        return factor[:, None] * self._sum(perturbations)

    def _summable(self, perturbations: list[Perturbation]) -> list[int]:
        """Return a mask of the combinations whose genes were all perturbed alone."""
        return [i for i, genes in enumerate(perturbations) if len(genes) > 1 and self._singles.keys() >= set(genes)]


class ShrunkAdditive(Additive):
    r"""Predict a combination as the sum of its genes' log-fold-changes, times one number learned from combinations.

    .. math:: \hat y_{AB} = c\,(y_A + y_B), \qquad
        c = \frac{\sum_{AB} \langle y_A + y_B,\, y_{AB} \rangle}{\sum_{AB} \lVert y_A + y_B \rVert^2}

    The sums are over the training combinations whose genes were all perturbed alone, so :math:`c` is the least-squares
    fit over all measured genes. To fit it to the scored genes, pass ``effects[:, scored].copy()``. Single perturbations
    are predicted as measured, without the factor. If there is no training combination, :math:`c = 1` and a warning says
    so. :attr:`scale` holds the factor.

    Examples
    --------
    >>> ShrunkAdditive().fit(effects).scale
    """

    @property
    def scale(self) -> float:
        """The factor `c` of the sum."""
        return self._scale

    def _fit(self, training: TrainingEffects) -> None:
        super()._fit(training)
        rows = self._summable(training.perturbations)
        additive = self._sum([training.perturbations[i] for i in rows])
        size = float(np.sum(additive**2))
        if size > 0:
            self._scale = float(np.sum(additive * training.lfc[rows])) / size
            return
        self._scale = 1.0
        warn_user(
            "No training combination has a sum of measured single effects to compare with, so the sum is not shrunk "
            "(scale 1) and predictions are those of scapp.baselines.Additive."
        )


class DenoisedAdditive(Additive):
    r"""Predict a combination as the sum of its genes' denoised log-fold-changes, times one learned number.

    With the singles :math:`S = U \operatorname{diag}(s) V^\top` (perturbations x genes, not centred),

    .. math:: \hat y_{AB} = c\,(\tilde y_A + \tilde y_B), \qquad
        \tilde S = U \operatorname{diag}\bigl(\max(s - \tau s_1, 0)\bigr) V^\top .

    For each threshold :math:`\tau` of a grid that starts at 0, :math:`c` is the least-squares fit over the training
    combinations whose genes were all perturbed alone. The threshold is chosen by the squared leave-one-out error on
    these combinations, in closed form.

    With fewer than two such combinations, nothing can be chosen. Then :math:`c` is 1, a warning says so, and the
    threshold is the edge of the singular values of pure noise, whose level is estimated from their median
    :cite:p:`Gavish2014`.

    Single perturbations are predicted as denoised, without the factor.

    Parameters
    ----------
    threshold
        :math:`\tau`, from 0 (as :class:`ShrunkAdditive`) to below 1, or None to choose it.

    Examples
    --------
    >>> DenoisedAdditive().fit(effects).threshold
    """

    @checked(own=("threshold",))
    def __init__(self, *, threshold: float | None = None) -> None:
        if threshold is not None and not 0 <= threshold < 1:
            raise ValueError(
                f"threshold is a share of the largest singular value, from 0 to below 1, found {threshold}."
            )
        self._asked = threshold
        self._threshold: float | None = threshold

    @property
    def scale(self) -> float:
        """The factor `c` of the sum."""
        return self._scale

    @property
    def threshold(self) -> float | None:
        """The threshold, as a share of the largest singular value; None before it is chosen."""
        return self._threshold

    def _fit(self, training: TrainingEffects) -> None:
        super()._fit(training)
        genes = list(self._singles)
        singles = np.array(list(self._singles.values()))
        left, size, right = np.linalg.svd(singles, full_matrices=False)

        used = self._summable(training.perturbations)
        member = membership([training.perturbations[i] for i in used], genes)
        loadings = member @ left  # the sums, in the basis of the singular vectors
        targets = training.lfc[used]
        in_basis = targets @ right.T
        grid = THRESHOLDS if self._asked is None else (self._asked,)
        fits = [_scale_and_error(loadings * _shrink(size, share), in_basis, targets) for share in grid]
        best = int(np.argmin([error for _, error in fits]))
        if np.isfinite(fits[best][1]):
            self._threshold, self._scale = grid[best], fits[best][0]
        else:
            self._threshold = _noise_edge(singles.shape, size) if self._asked is None else self._asked
            self._scale = 1.0
            cut = f", and singular values are cut by the level of noise ({self._threshold:.3g} of the largest)"
            warn_user(
                f"{len(used)} training combination(s) have a sum of measured single effects to compare with, and at least "
                f"2 are needed: the sum is not scaled (scale 1){cut if self._asked is None else ''}."
            )
        denoised = (left * _shrink(size, self._threshold)) @ right
        self._singles = dict(zip(genes, denoised, strict=True))
        self._mean_single = denoised.mean(axis=0)


def _shrink(size: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    return np.maximum(size - share * size[0], 0)


def _scale_and_error(
    sums: NDArray[np.float64], in_basis: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the scale of `sums`, and the squared leave-one-out error over rows."""
    product = np.einsum("ij,ij->i", sums, in_basis)
    length = np.einsum("ij,ij->i", sums, sums)
    others = length.sum() - length
    if len(sums) < 2 or not (others > 0).all():
        return 1.0, np.inf
    scale = (product.sum() - product) / others
    error = np.sum(targets**2) + float(np.sum(scale**2 * length - 2 * scale * product))
    return float(product.sum() / length.sum()), error


def _noise_edge(shape: tuple[int, ...], size: NDArray[np.float64]) -> float:
    """Return the largest singular value of noise with this median one, relative to the largest of all (below 1)."""
    ratio = min(shape) / max(shape)
    # Gavish and Donoho: the optimal hard threshold in units of the median and of the noise.
    of_median = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    of_noise = np.sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + np.sqrt(ratio**2 + 14 * ratio + 1)))
    edge = np.median(size) * of_median / of_noise * (1 + np.sqrt(ratio))
    return float(min(edge / size[0], 0.9)) if size[0] > 0 else 0.0
