"""Kernel ridge regression in closed form, with the residuals of leaving out each row, robust to rows of large error."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_kernel(a: Tensor, b: Tensor) -> Tensor:
    r"""Similarities :math:`\exp(-\lVert a_i - b_j \rVert^2 / 2)`, of shape (n_a, n_b)."""
    square = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return torch.exp(-square.clamp_min(0) / 2)


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
    return torch.cholesky_inverse(torch.linalg.cholesky(gram + torch.diag(penalty / weight)))


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
