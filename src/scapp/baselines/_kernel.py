"""Kernel ridge regression in closed form, with the penalty chosen by leave-one-out error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Penalties in units of the kernel's mean diagonal.
RIDGES = tuple((2.0 ** np.arange(-8, 7)).tolist())


def solve_ridge(kernel: NDArray[np.float64], targets: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    r"""Return the coefficients :math:`(K + \lambda I)^{-1} Y` of shape (n, n_targets), for :math:`\lambda > 0`."""
    return np.asarray(np.linalg.solve(kernel + ridge * np.eye(len(kernel)), targets), dtype=np.float64)


def choose_ridge(
    kernel: NDArray[np.float64], targets_gram: NDArray[np.float64], ridges: Sequence[float] = RIDGES
) -> tuple[float, float]:
    r"""Return the penalty with the least squared leave-one-out error, and that error, summed over rows and targets.

    With :math:`A = (K + \lambda I)^{-1}`, the residual of a row that is left out is :math:`(A Y)_i / A_{ii}`
    :cite:p:`Allen1974`. Only :math:`Y Y^\top` is needed, so the number of targets does not matter.

    Parameters
    ----------
    kernel
        Positive semi-definite, of shape (n, n), not all zero.
    targets_gram
        :math:`Y Y^\top`, of shape (n, n).
    ridges
        The penalties to try, in units of the mean diagonal of the kernel.
    """
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0)
    rotated = vectors.T @ targets_gram @ vectors
    unit = float(np.trace(kernel)) / len(kernel)
    found: list[tuple[float, float]] = []
    for ridge in ridges:
        inverse = 1 / (values + ridge * unit)
        scaled = vectors * inverse
        squared_residuals = np.einsum("ij,ij->i", scaled @ rotated, scaled)
        diagonal = np.einsum("ij,ij->i", scaled, vectors)
        found.append((float(np.sum(squared_residuals / diagonal**2)), ridge * unit))
    error, best = min(found)
    return best, error
