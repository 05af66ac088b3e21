"""The decoder of equation 7 in closed form; the signature is that of `_decoder`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scapp.module._closed_form import ClosedFormDecoder, Secant, standardisation
from scapp.module._ridge import ridge_leave_one_out, ridge_posterior, ridge_solve


class RidgeDecoder(ClosedFormDecoder):
    r"""Equation 7 solved in closed form, with a learned scale for each block (head) of the state.

    The state of each head is centred and scaled to unit size over the rows it is fitted to, multiplied by its learned
    scale, and joined by a constant for :math:`b_D`; :math:`W_D` is the ridge solution. What training minimises is the
    residual of each row when it is left out, which is known without refitting, so encoder and attention are trained to
    predict perturbations that the decoder has not seen.

    Parameters
    ----------
    n_genes
        Number of genes to predict.
    n_blocks, block_size, leave_one_out, **start
        As in :class:`ClosedFormDecoder`.
    """

    def __init__(self, n_blocks: int, block_size: int, n_genes: int, *, leave_one_out: bool = True, **start: float):
        n_columns = n_blocks * block_size + 1
        super().__init__(n_blocks, block_size, (n_columns, n_genes), leave_one_out=leave_one_out, **start)

    def residuals(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> Tensor:
        design, penalty = self._design(states, counts, *standardisation(states)), self.log_penalty.exp()
        if self.leave_one_out:
            return ridge_leave_one_out(design, targets, penalty)
        return targets - design @ ridge_solve(design, targets, penalty)

    def held_out(
        self, states: Tensor, counts: Tensor | None, targets: Tensor, new: Tensor, new_counts: Tensor | None
    ) -> Tensor:
        standard = standardisation(states)
        solution = ridge_solve(self._design(states, counts, *standard), targets, self.log_penalty.exp())
        return self._design(new, new_counts, *standard) @ solution

    @torch.no_grad()
    def finish(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
        center, size = standardisation(states)
        self.center.copy_(center)
        self.size.copy_(size)
        design, penalty = self._design(states, counts, center, size), self.log_penalty.exp()
        self.coefficients.copy_(ridge_solve(design, targets, penalty))
        self.posterior.copy_(ridge_posterior(design, penalty))
        # Posterior variance p of a row within the fit becomes p / (1 - p / penalty) when the row is left out.
        inside = ((design @ self.posterior) * design).sum(1)
        return ridge_leave_one_out(design, targets, penalty), inside / (1 - inside / penalty)

    def forward(self, states: Tensor, counts: Tensor | None) -> Tensor:
        return self._design(states, counts, self.center, self.size) @ self.coefficients

    def distance(self, states: Tensor, counts: Tensor | None) -> Tensor:
        r"""Posterior variance :math:`\lambda x^\top (X^\top X + \lambda I)^{-1} x` of each row."""
        design = self._design(states, counts, self.center, self.size)
        return ((design @ self.posterior) * design).sum(1)

    def influence(self, new: Tensor, states: Callable[[], Tensor], counts: Tensor | None, targets: Tensor) -> Tensor:
        """As in :class:`KernelDecoder`."""
        design = self._design(states(), counts, self.center, self.size).double()
        rows = torch.eye(len(design), dtype=design.dtype, device=design.device)
        solution = ridge_solve(design, rows, self.log_penalty.exp().double())
        return self._design(new, None, self.center, self.size).double() @ solution

    def secant(self, state: Tensor, gene: int) -> Secant:
        """The decoder itself, from the mean training state."""
        coefficients = self.coefficients[:, gene].double()
        slope = coefficients[:-1].view_as(self.center) * self._unit[:, None]
        return Secant(slope, self.center, coefficients[-1] * self.log_constant.exp())

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        r"""Posterior covariance :math:`\lambda x^\top (X^\top X + \lambda I)^{-1} x'` of two sets of states, (n_a, n_b)."""
        a, b = (self._design(states.double(), None, self.center, self.size) for states in (a, b))
        return a @ self.posterior.double() @ b.T

    def _design(self, states: Tensor, counts: Tensor | None, center: Tensor, size: Tensor) -> Tensor:
        constant = self.log_constant.exp().expand(len(states), 1)
        design = torch.cat([self._scaled(states, center, size), constant], dim=1)
        return design if counts is None else counts @ design
