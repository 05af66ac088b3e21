"""Kernel ridge regression in closed form, with the residuals of leaving out each row, robust to rows of large error."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

# Points of the quadrature along a way between two states.
N_QUADRATURE = 64


def gaussian_kernel(a: Tensor, b: Tensor) -> Tensor:
    r"""Similarities :math:`\exp(-\lVert a_i - b_j \rVert^2 / 2)`, of shape (n_a, n_b)."""
    square = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return torch.exp(-square.clamp_min(0) / 2)


def gaussian_path(way: Tensor, support: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Similarities on the straight way from zero to a state: at its start, their mean, and their mean times the way gone.

    With :math:`k_Q(t) = \exp(-\lVert t d - s_Q \rVert^2 / 2)` these are :math:`k_Q(0)`, :math:`\int_0^1 k_Q(t)\, dt` and
    :math:`\int_0^1 t\, k_Q(t)\, dt`, by Gauss-Legendre quadrature, which is exact to rounding for so smooth a function.

    Parameters
    ----------
    way
        :math:`d`, of shape (n_columns,).
    support
        :math:`s_Q`, of shape (n_rows, n_columns).

    Returns
    -------
    Three tensors of shape (n_rows,).
    """
    nodes, weights = np.polynomial.legendre.leggauss(N_QUADRATURE)
    t = (torch.as_tensor(nodes).to(way) + 1) / 2
    similar = gaussian_kernel(t[:, None] * way, support)
    weighted = torch.as_tensor(weights).to(way)[:, None] / 2 * similar
    return gaussian_kernel(torch.zeros_like(way)[None], support)[0], weighted.sum(0), (t[:, None] * weighted).sum(0)


class _SymmetricInverse(torch.autograd.Function):
    """Inverse of a positive definite matrix, whose gradient takes two products in place of those of two factorisations."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        return -(inverse @ gradient @ inverse)


def kernel_inverse(gram: Tensor, penalty: Tensor, weight: Tensor) -> Tensor:
    r""":math:`(K + \lambda \operatorname{diag}(1/w))^{-1}`.

    Parameters
    ----------
    gram
        :math:`K`, similarities of the rows, of shape (n_rows, n_rows).
    penalty
        :math:`\lambda > 0`, a scalar.
    weight
        :math:`w > 0`, how much each row counts, of shape (n_rows,).
    """
    return _SymmetricInverse.apply(gram + torch.diag(penalty / weight))


def kernel_leave_one_out(inverse: Tensor, targets: Tensor) -> Tensor:
    r"""Residuals of each row when the regression is fitted without it.

    With :math:`A = K + \lambda \operatorname{diag}(1/w)` they are :math:`(A^{-1} Y)_i / (A^{-1})_{ii}`
    :cite:p:`Allen1974`; the row's own weight does not matter to them.

    Parameters
    ----------
    inverse
        :math:`A^{-1}`.
    targets
        :math:`Y`, of shape (n_rows, n_targets).
    """
    return (inverse @ targets) / inverse.diagonal()[:, None]


def robust_weights(residuals: Tensor) -> Tensor:
    r"""Weights :math:`1 / \lVert r_i \rVert`, with mean one: with them least squares minimises the sum of lengths.

    One step of iteratively reweighted least squares. The score is a mean of lengths, and so a few perturbations with large
    effects that nothing predicts should not decide the fit.
    """
    length = residuals.detach().norm(dim=1)
    # No row counts more than ten typical ones, however well it is predicted.
    weight = 1 / length.clamp_min(0.1 * length.median().clamp_min(1e-12))
    return weight / weight.mean()
