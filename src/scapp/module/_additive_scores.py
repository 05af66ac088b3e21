r"""Scores of additive attention, for less time and memory.

The hyperbolic tangent is taken as :math:`\tanh x = 2 \sigma(2 x) - 1`: processors calculate the logistic function three times faster.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Numbers of the logistic layer that are worked on at a time: as many as a core keeps near.
N_AT_A_TIME = 2**18


class _AdditiveScores(torch.autograd.Function):
    """The logistic layer is made a few perturbations at a time, and made again for the gradient.

    It has n_queries * n_keys * n_attention numbers, gigabytes for a screen of usual size, which take longer to write and to
    read than to calculate.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, v)
        return torch.cat([(part[:, None] + key).sigmoid_() @ v for part in query.split(_n_rows(key))])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, v = ctx.saved_tensors
        to_query, to_key, to_v = [], torch.zeros_like(key), torch.zeros_like(v)
        n_rows = _n_rows(key)
        for part, above in zip(query.split(n_rows), gradient.split(n_rows), strict=True):
            layer = (part[:, None] + key).sigmoid_()
            weighted = layer * above[..., None]
            to_v += weighted.sum((0, 1))
            slope = layer.neg_().add_(1).mul_(weighted)  # of the scores, but for v
            to_query.append(slope.sum(1))
            to_key += slope.sum(0)
        return torch.cat(to_query) * v, to_key * v, to_v


def additive_scores(query: Tensor, key: Tensor, v: Tensor) -> Tensor:
    r"""Equation 4, :math:`v^\top \tanh(q_P + k_i)`, for all perturbations P and genes i.

    Parameters
    ----------
    query
        Of the perturbations, of shape (n_perturbations, n_attention).
    key
        Of the genes, of shape (n_genes, n_attention).
    v
        Of shape (n_attention,).

    Returns
    -------
    Tensor of shape (n_perturbations, n_genes).
    """
    return _AdditiveScores.apply(2 * query, 2 * key, 2 * v) - v.sum()


def reached_scores(query: Tensor, key: Tensor, v: Tensor) -> Tensor:
    """Equation 4 for the genes that each perturbation reaches: `key` has the shape (n_perturbations, n_reached, n_attention)."""
    return torch.sigmoid(2 * query[:, None] + 2 * key) @ (2 * v) - v.sum()


def _n_rows(key: Tensor) -> int:
    return max(1, N_AT_A_TIME // max(1, key.numel()))
