"""Ridge regression in closed form, with the residuals of leaving out each row, in the cheaper of its two forms."""

from __future__ import annotations

import torch
from torch import Tensor


def ridge_solve(design: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    r"""Coefficients :math:`(X^\top X + \lambda I)^{-1} X^\top Y`.

    Parameters
    ----------
    design
        :math:`X`, of shape (n_rows, n_columns).
    targets
        :math:`Y`, of shape (n_rows, n_targets).
    penalty
        :math:`\lambda > 0`, a scalar.

    Returns
    -------
    Tensor of shape (n_columns, n_targets).
    """
    n_rows, n_columns = design.shape
    if n_columns <= n_rows:
        return torch.cholesky_solve(design.T @ targets, _cholesky(design.T @ design, penalty))
    return design.T @ torch.cholesky_solve(targets, _cholesky(design @ design.T, penalty))


def ridge_leave_one_out(design: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    r"""Residuals of each row when the ridge regression is fitted without it, from one fit.

    With the hat matrix :math:`H = X (X^\top X + \lambda I)^{-1} X^\top` they are
    :math:`(y_i - \hat y_i) / (1 - H_{ii})` :cite:p:`Allen1974`; no row is ever refitted.

    Returns
    -------
    Tensor of the shape of `targets`.
    """
    n_rows, n_columns = design.shape
    if n_columns <= n_rows:
        factor = _cholesky(design.T @ design, penalty)
        half = torch.linalg.solve_triangular(factor, design.T, upper=False)
        fitted = half.T @ (half @ targets)
        return (targets - fitted) / (1 - half.square().sum(0))[:, None]
    inverse = torch.cholesky_inverse(_cholesky(design @ design.T, penalty))
    return (inverse @ targets) / inverse.diagonal()[:, None]


def ridge_posterior(design: Tensor, penalty: Tensor) -> Tensor:
    r""":math:`\lambda (X^\top X + \lambda I)^{-1}`: the posterior covariance of the coefficients in units of their prior's."""
    return penalty * torch.cholesky_inverse(_cholesky(design.T @ design, penalty))


def _cholesky(gram: Tensor, penalty: Tensor) -> Tensor:
    return torch.linalg.cholesky(gram + penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
