"""Pooling of gene embeddings into the cell state: one signature, chosen by name.

``forward(h, membership, reaches)`` returns the state (n_perturbations, n_heads, n_hidden) and the attention
(n_perturbations, n_heads, n_nodes), whose rows sum to one; `states` returns the state alone, for less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag

from scapp.module._additive_scores import additive_scores, reached_scores

# Genes that a head with a prior looks at: those that the prior gives most. The walk leaves little to the others, and
# the cost of a head no longer grows with the number of genes.
N_REACHED = 128
NOTHING = 1e-30  # a logarithm of zero would make the gradient of the prior's weight undefined


class Reach(NamedTuple):
    """The genes that a prior reaches from each perturbation.

    `index` and `log_prior` have the shape (n_perturbations, n_reached); where fewer genes are reached, the rest have a prior
    that is as good as zero.
    """

    index: Tensor
    log_prior: Tensor


def reach(prior: Tensor, n_reached: int = N_REACHED) -> Reach:
    """The genes with the largest prior, which has the shape (n_perturbations, n_nodes)."""
    n_reached = min(n_reached, int((prior > 0).sum(1).max())) if len(prior) else 0
    values, index = prior.topk(n_reached, dim=1)
    return Reach(index, values.clamp_min(NOTHING).log())


class AdditiveAttention(nn.Module):
    r"""Equations 3 to 6, with several heads and, beyond the paper, a prior for each head.

    .. math::
        c_P = \operatorname{mean}_{p \in P} h_p, \quad
        e_i = v^\top \tanh(W_c c_P + W_h h_i + b_e) + w \log \pi_P(i), \quad
        \alpha = \operatorname{softmax}(e), \quad s = \sum_i \alpha_i h_i

    The prior :math:`\pi_P` says which genes a perturbation can reach: the perturbed genes themselves, or their random
    walk with restart over a network, of which the 128 most visited genes count. The learned score reweighs it; w is
    learned from one. A head without a prior is the paper's, over all genes.

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

    def forward(self, h: Tensor, membership: Tensor, reaches: Sequence[Reach]) -> tuple[Tensor, Tensor]:
        context = membership @ h  # equation 3
        n_prior = len(self.prior_weight)
        nothing = torch.zeros(len(context), len(h), dtype=h.dtype, device=h.device)
        heads = [
            nothing.scatter(1, reaches[k].index, self._attend_reached(k, h, context, reaches[k]))
            for k in range(n_prior)
        ]
        heads += [self._attend_all(k, h, context) for k in range(n_prior, self.n_heads)]
        attention = torch.stack(heads, dim=1)
        return attention @ h, attention

    def prior(self, membership: Tensor, reaches: Sequence[Reach]) -> Tensor:
        """The attention without the score of equation 4, of the same shape: what it would be had no gene told it anything."""
        found = membership.new_full((len(membership), self.n_heads, membership.shape[1]), 1 / membership.shape[1])
        for k, weight in enumerate(self.prior_weight):
            index, log_prior = reaches[k]
            found[:, k] = torch.zeros_like(membership).scatter(1, index, torch.softmax(weight * log_prior, dim=1))
        return found

    def states(self, h: Tensor, membership: Tensor, reaches: Sequence[Reach]) -> Tensor:
        """The state of `forward`; heads with a prior sum over the genes that they reach, not over all."""
        context = membership @ h
        n_prior = len(self.prior_weight)
        heads = [
            embedding_bag(
                reaches[k].index, h, per_sample_weights=self._attend_reached(k, h, context, reaches[k]), mode="sum"
            )
            for k in range(n_prior)
        ]
        heads += [self._attend_all(k, h, context) @ h for k in range(n_prior, self.n_heads)]
        return torch.stack(heads, dim=1)

    def _attend_reached(self, head: int, h: Tensor, context: Tensor, reached: Reach) -> Tensor:
        key = embedding(reached.index, h @ self.W_h[head])
        query = context @ self.W_c[head] + self.b_e[head]
        scores = reached_scores(query, key, self.v[head])
        return torch.softmax(scores + self.prior_weight[head] * reached.log_prior, dim=1)

    def _attend_all(self, head: int, h: Tensor, context: Tensor) -> Tensor:
        query = context @ self.W_c[head] + self.b_e[head]
        return torch.softmax(additive_scores(query, h @ self.W_h[head], self.v[head]), dim=1)  # equation 5


class MeanPooling(nn.Module):
    """The mean embedding of the perturbed genes, without attention to others: an ablation."""

    n_heads = 1

    def forward(self, h: Tensor, membership: Tensor, reaches: Sequence[Reach]) -> tuple[Tensor, Tensor]:
        attention = membership[:, None]
        return attention @ h, attention

    def prior(self, membership: Tensor, reaches: Sequence[Reach]) -> Tensor:
        """The same: nothing is learned."""
        return membership[:, None]

    def states(self, h: Tensor, membership: Tensor, reaches: Sequence[Reach]) -> Tensor:
        """The state of `forward`."""
        return membership[:, None] @ h
