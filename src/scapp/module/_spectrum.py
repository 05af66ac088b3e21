"""Singular values of many profiles: exact, or the leading ones where that would take minutes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scapp.module._scale import N_TOGETHER

# One in so many of the singular values that the exact decomposition may have at most is calculated.
LEADING_SHARE = 4
N_ITERATIONS = 4


class Spectrum(NamedTuple):
    """Singular vectors and values of a matrix, and what the leading ones leave.

    `rest` is None where all of them are known. Otherwise it is the matrix without its leading part, whose singular values are
    noise of about one size; `median` is then their root mean square.
    """

    U: Tensor
    S: Tensor
    Vh: Tensor
    median: Tensor
    rest: Tensor | None

    def soft_threshold(self, share: float) -> Tensor:
        """The matrix with its singular values lowered by a share of their median, none below zero."""
        shrunk = (self.U * (self.S - share * self.median).clamp_min(0)) @ self.Vh
        return shrunk if self.rest is None else shrunk + max(1 - share, 0) * self.rest

    def shares(self, share: float) -> Tensor:
        """How much each row counts in each row of `soft_threshold`, which is this (n_rows, n_rows), float64, times the matrix."""
        U, S = self.U.double(), self.S.double()
        kept = (S - share * self.median.double()).clamp_min(0) / S.clamp_min(torch.finfo(S.dtype).tiny)
        if self.rest is None:
            return U * kept @ U.T
        return U * (kept - max(1 - share, 0)) @ U.T + max(1 - share, 0) * torch.eye(
            len(U), dtype=U.dtype, device=U.device
        )


def spectrum(matrix: Tensor) -> Spectrum:
    """Singular value decomposition, randomised :cite:p:`Halko2011` where both sides are longer than `N_TOGETHER`."""
    if min(matrix.shape) <= N_TOGETHER:
        # On the processor, whose signs of the vectors another device need not share.
        U, S, Vh = (t.to(matrix) for t in torch.linalg.svd(matrix.cpu(), full_matrices=False))
        return Spectrum(U, S, Vh, S.median(), None)
    n_leading = N_TOGETHER // LEADING_SHARE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        U, S, V = (t.to(matrix) for t in torch.svd_lowrank(matrix.cpu(), q=n_leading, niter=N_ITERATIONS))
    rest = matrix - (U * S) @ V.T
    median = (rest.square().sum() / (min(matrix.shape) - n_leading)).sqrt()
    return Spectrum(U, S, V.T, median, rest)
