"""Decoders from the cell state to log-fold-changes: one signature, chosen by name.

`residuals` is what training minimises, `held_out` predicts rows that the decoder is not fitted to, `finish` fits it once
and for all, `forward` predicts, and `uncertainty` gives a standard deviation. A row may be a sum of several states:
`counts`, of shape (n_rows, n_states), says how often each state counts in it; None if each row is a state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scapp.module._ridge import ridge_leave_one_out, ridge_posterior, ridge_solve


class RidgeDecoder(nn.Module):
    r"""Equation 7 solved in closed form, with a learned scale for each block (head) of the state.

    The state of each head is centred and scaled to unit size over the rows it is fitted to, multiplied by its learned
    scale, and joined by a constant for :math:`b_D`; :math:`W_D` is the ridge solution. What training minimises is the
    residual of each row when it is left out, which is known without refitting, so encoder and attention are trained to
    predict perturbations that the decoder has not seen.

    Parameters
    ----------
    n_blocks
        Number of blocks (heads) of the state.
    block_size
        Width of each.
    n_genes
        Number of genes to predict.
    penalty
        Ridge penalty that training starts from.
    constant
        Scale of the constant that training starts from: large leaves the intercept free, small shrinks it to zero.
    """

    coefficients: Tensor
    center: Tensor
    size: Tensor
    posterior: Tensor
    noise: Tensor

    def __init__(self, n_blocks: int, block_size: int, n_genes: int, *, penalty: float, constant: float):
        super().__init__()
        n_columns = n_blocks * block_size + 1
        self.log_scale = nn.Parameter(torch.zeros(n_blocks))
        self.log_constant = nn.Parameter(torch.tensor(constant).log())
        self.log_penalty = nn.Parameter(torch.tensor(penalty).log())
        self.register_buffer("coefficients", torch.zeros(n_columns, n_genes))
        self.register_buffer("center", torch.zeros(n_blocks, block_size))
        self.register_buffer("size", torch.ones(n_blocks))
        self.register_buffer("posterior", torch.zeros(n_columns, n_columns))
        self.register_buffer("noise", torch.zeros(n_genes))

    def residuals(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> Tensor:
        design = self._design(states, counts, *self._standard(states))
        return ridge_leave_one_out(design, targets, self.log_penalty.exp())

    def held_out(
        self, states: Tensor, counts: Tensor | None, targets: Tensor, new: Tensor, new_counts: Tensor | None
    ) -> Tensor:
        standard = self._standard(states)
        solution = ridge_solve(self._design(states, counts, *standard), targets, self.log_penalty.exp())
        return self._design(new, new_counts, *standard) @ solution

    @torch.no_grad()
    def finish(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> None:
        center, size = self._standard(states)
        self.center.copy_(center)
        self.size.copy_(size)
        design, penalty = self._design(states, counts, center, size), self.log_penalty.exp()
        self.coefficients.copy_(ridge_solve(design, targets, penalty))
        self.posterior.copy_(ridge_posterior(design, penalty))
        self.noise.copy_(ridge_leave_one_out(design, targets, penalty).square().mean(0).sqrt())

    def forward(self, states: Tensor, counts: Tensor | None) -> Tensor:
        return self._design(states, counts, self.center, self.size) @ self.coefficients

    def uncertainty(self, states: Tensor, counts: Tensor | None) -> Tensor:
        r"""Standard deviation :math:`\sigma_g \sqrt{1 + x^\top (X^\top X + \lambda I)^{-1} x}` of each gene.

        :math:`\sigma_g` is the root mean square of the gene's leave-one-out residuals; the second term grows with the
        distance from the perturbations that the decoder was fitted to.
        """
        design = self._design(states, counts, self.center, self.size)
        distance = ((design @ self.posterior) * design).sum(1) / self.log_penalty.exp()
        return (1 + distance).sqrt()[:, None] * self.noise

    @property
    def n_solved(self) -> int:
        """Number of coefficients that are solved for, not trained by gradient."""
        return self.coefficients.numel()

    def _standard(self, states: Tensor) -> tuple[Tensor, Tensor]:
        center = states.mean(0)
        size = (states - center).detach().square().sum(2).mean(0).sqrt()
        return center, size.clamp_min(1e-12)

    def _design(self, states: Tensor, counts: Tensor | None, center: Tensor, size: Tensor) -> Tensor:
        n_blocks = len(size)
        blocks = (states - center) / size[:, None] * (self.log_scale.exp() / n_blocks**0.5)[:, None]
        constant = self.log_constant.exp().expand(len(states), 1)
        design = torch.cat([blocks.flatten(1), constant], dim=1)
        return design if counts is None else counts @ design


class _GradientDecoder(nn.Module):
    """A decoder trained by gradient descent, together with the encoder and the attention."""

    network: nn.Module
    noise: Tensor
    n_solved = 0

    def residuals(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> Tensor:
        return targets - self(states, counts)

    def held_out(
        self, states: Tensor, counts: Tensor | None, targets: Tensor, new: Tensor, new_counts: Tensor | None
    ) -> Tensor:
        return self(new, new_counts)

    @torch.no_grad()
    def finish(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> None:
        self.noise.copy_(self.residuals(states, counts, targets).square().mean(0).sqrt())

    def forward(self, states: Tensor, counts: Tensor | None) -> Tensor:
        predicted = self.network(states.flatten(1))
        return predicted if counts is None else counts @ predicted

    def uncertainty(self, states: Tensor, counts: Tensor | None) -> Tensor:
        """Root mean square of each gene's training residuals: too small, as the decoder has seen these rows."""
        return self.noise.expand(len(states if counts is None else counts), -1)


class LinearDecoder(_GradientDecoder):
    """Equation 7, trained by gradient descent, as the paper has it."""

    def __init__(self, n_blocks: int, block_size: int, n_genes: int):
        super().__init__()
        self.network = nn.Linear(n_blocks * block_size, n_genes)
        self.register_buffer("noise", torch.zeros(n_genes))


class MLPDecoder(_GradientDecoder):
    """One hidden layer in place of equation 7: an ablation."""

    def __init__(self, n_blocks: int, block_size: int, n_genes: int):
        super().__init__()
        n_states = n_blocks * block_size
        self.network = nn.Sequential(nn.Linear(n_states, n_states), nn.ReLU(), nn.Linear(n_states, n_genes))
        self.register_buffer("noise", torch.zeros(n_genes))
