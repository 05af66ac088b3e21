"""Pooling of gene embeddings into the cell state: one signature, chosen by name.

``forward(h, membership, priors)`` returns the state (n_perturbations, n_heads, n_hidden) and the attention
(n_perturbations, n_heads, n_nodes), whose rows sum to one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Attention that a prior gives to a gene which it does not reach: small, so that learned scores can still raise it.
FLOOR = 1e-6


class AdditiveAttention(nn.Module):
    r"""Equations 3 to 6, with several heads and, beyond the paper, a prior for each head.

    .. math::
        c_P = \operatorname{mean}_{p \in P} h_p, \quad
        e_i = v^\top \tanh(W_c c_P + W_h h_i + b_e) + w \log(\pi_P(i) + \varepsilon), \quad
        \alpha = \operatorname{softmax}(e), \quad s = \sum_i \alpha_i h_i

    The prior :math:`\pi_P` says which genes a perturbation can reach: the perturbed genes themselves, or their random
    walk with restart over a network. The learned score reweighs it; w is learned from one. A head without a prior is
    the paper's.

    Parameters
    ----------
    n_hidden
        Width of a gene's embedding.
    n_attention
        Width of the tanh layer of each head.
    n_prior_heads
        Heads with a prior, one for each prior passed to `forward`.
    n_free_heads
        Heads without a prior.
    """

    def __init__(self, n_hidden: int, *, n_attention: int = 8, n_prior_heads: int = 0, n_free_heads: int = 1):
        super().__init__()
        n_heads = n_prior_heads + n_free_heads
        scale = n_hidden**-0.5
        self.W_c = nn.Parameter(torch.randn(n_heads, n_hidden, n_attention) * scale)
        self.W_h = nn.Parameter(torch.randn(n_heads, n_hidden, n_attention) * scale)
        self.b_e = nn.Parameter(torch.zeros(n_heads, n_attention))
        self.v = nn.Parameter(torch.randn(n_heads, n_attention) * n_attention**-0.5)
        self.prior_weight = nn.Parameter(torch.ones(n_prior_heads))

    @property
    def n_heads(self) -> int:
        return len(self.v)

    def forward(self, h: Tensor, membership: Tensor, priors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        context = membership @ h  # equation 3
        heads = [self._attend(k, h, context, priors) for k in range(self.n_heads)]
        attention = torch.stack(heads, dim=1)
        return attention @ h, attention

    def _attend(self, head: int, h: Tensor, context: Tensor, priors: Sequence[Tensor]) -> Tensor:
        query = context @ self.W_c[head] + self.b_e[head]
        key = h @ self.W_h[head]
        scores = (query[:, None] + key).tanh_() @ self.v[head]  # equation 4
        if head < len(self.prior_weight):
            scores = scores + self.prior_weight[head] * torch.log(priors[head] + FLOOR)
        return torch.softmax(scores, dim=1)  # equation 5


class MeanPooling(nn.Module):
    """The mean embedding of the perturbed genes, without attention to others: an ablation."""

    n_heads = 1

    def forward(self, h: Tensor, membership: Tensor, priors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        attention = membership[:, None]
        return attention @ h, attention
