"""Combinations as the sum of their genes' denoised effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp._training_effects import TrainingEffects
from scapp._warn import warn_user
from scapp.baselines._additive import Additive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._labels import Perturbation

# Shares of the largest singular value, of which leave-one-out error chooses.
THRESHOLDS = (0.0, *np.geomspace(0.005, 0.5, 24).tolist())


class DenoisedAdditive(Additive):
    r"""Predicts a combination as the sum of its genes' denoised log-fold-changes, times one learned number.

    With the singles :math:`S = U \operatorname{diag}(s) V^\top` (perturbations x genes, not centred),

    .. math:: \hat y_{AB} = c\,(\tilde y_A + \tilde y_B), \qquad
        \tilde S = U \operatorname{diag}\bigl(\max(s - \tau s_1, 0)\bigr) V^\top .

    For each threshold :math:`\tau` of a grid, which begins with none, :math:`c` is the least-squares fit over the
    training combinations whose genes were all perturbed alone; the threshold has the least squared error when each of
    these is predicted with the :math:`c` of the others, in closed form.

    Without two such combinations there is nothing to choose by. :math:`c` is then 1, a warning says so, and the
    threshold is the edge of the singular values of pure noise, whose level is read from their median
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
        self._scale = 1.0

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
        column = {gene: i for i, gene in enumerate(genes)}
        singles = np.array(list(self._singles.values()))
        left, size, right = np.linalg.svd(singles, full_matrices=False)

        used = [i for i, p in enumerate(training.perturbations) if len(p) > 1 and all(gene in column for gene in p)]
        member = np.zeros((len(used), len(genes)))
        for row, i in enumerate(used):
            member[row, [column[gene] for gene in training.perturbations[i]]] = 1
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
            warn_user(
                f"{len(used)} training combination(s) have a sum of measured single effects to compare with, and at least "
                "2 are needed: the sum is not scaled (scale 1), and singular values are cut by the level of noise "
                f"({self._threshold:.3g} of the largest)."
                if self._asked is None
                else f"{len(used)} training combination(s) have a sum of measured single effects to compare with, and at "
                "least 2 are needed: the sum is not scaled (scale 1)."
            )
        denoised = (left * _shrink(size, self._threshold)) @ right
        self._singles = dict(zip(genes, denoised, strict=True))
        self._mean_single = denoised.mean(axis=0)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        factor = np.array([self._scale if len(genes) > 1 else 1.0 for genes in perturbations])
        return factor[:, None] * super()._predict(perturbations)


def _shrink(size: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    return np.maximum(size - share * size[0], 0)


def _scale_and_error(
    sums: NDArray[np.float64], in_basis: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the scale of `sums`, and the squared error if each row is predicted with the scale of the others."""
    product = np.einsum("ij,ij->i", sums, in_basis)
    length = np.einsum("ij,ij->i", sums, sums)
    others = length.sum() - length
    if len(sums) < 2 or not (others > 0).all():
        return 1.0, np.inf
    scale = (product.sum() - product) / others
    error = np.sum(targets**2) + float(np.sum(scale**2 * length - 2 * scale * product))
    return float(product.sum() / length.sum()), error


def _noise_edge(shape: tuple[int, ...], size: NDArray[np.float64]) -> float:
    """Return the largest singular value of the noise that has this median one, as a share of the largest of all (below 1)."""
    ratio = min(shape) / max(shape)
    # Gavish and Donoho: the optimal hard threshold in units of the median and of the noise.
    of_median = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    of_noise = np.sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + np.sqrt(ratio**2 + 14 * ratio + 1)))
    edge = np.median(size) * of_median / of_noise * (1 + np.sqrt(ratio))
    return float(min(edge / size[0], 0.9)) if size[0] > 0 else 0.0
