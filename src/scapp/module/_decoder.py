"""Decoders from the cell state to log-fold-changes: one signature, chosen by name.

`residuals` is what training minimises, `held_out` predicts rows that the decoder is not fitted to, `finish` fits it once
and for all and returns the residuals and distances of left-out rows (of the fit, where there is no closed form); `forward`
predicts, and `distance` is how far rows are from those of the fit; closed forms also know the `covariance` of the errors
of two sets of states. A row may be a sum of several states: `counts`, of shape (n_rows, n_states), says how often each
state counts in it; None if each row is a state.

Two more methods say what a prediction is made of. `influence` is how much the target of each row of the fit weighs in the
prediction of each new state; `secant` is the linear function that equals the decoder at one state and at its origin.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scapp.module._closed_form import ClosedFormDecoder, Secant, standardisation
from scapp.module._kernel import gaussian_kernel, gaussian_path, kernel_inverse, kernel_leave_one_out, robust_weights
from scapp.module._scale import goes_by_parts, parts_of, sketch

# How often the weights of the rows are renewed in the last fit; in training they are renewed at each step.
N_REWEIGHT = 5


class KernelDecoder(ClosedFormDecoder):
    r"""Equation 7 over similarities of cell states, solved in closed form.

    .. math:: \Delta y_P = \sum_Q k(s_P, s_Q)\, w_Q + b_D, \qquad k(s, s') = \exp(-\lVert s - s' \rVert^2 / 2)

    with one column :math:`w_Q` for each training perturbation Q: the prediction is linear in how similar the cell state is
    to those of the training perturbations, in place of the state itself. The state of each head is centred and scaled to
    unit size over the rows the decoder is fitted to, and multiplied by its learned scale.

    The solution minimises the sum of the residuals' lengths, by weights that are renewed with the residuals. What training
    minimises is the residual of each row when it is left out, so encoder and attention are trained to predict
    perturbations that the decoder has not seen.

    Parameters
    ----------
    n_genes
        Number of genes to predict.
    n_states
        Number of states that the decoder is fitted to, at most.
    n_blocks, block_size, leave_one_out, **start
        As in :class:`ClosedFormDecoder`.
    """

    support: Tensor

    def __init__(
        self, n_blocks: int, block_size: int, n_genes: int, n_states: int, *, leave_one_out: bool = True, **start: float
    ):
        super().__init__(n_blocks, block_size, (n_states, n_genes), leave_one_out=leave_one_out, **start)
        self.register_buffer("support", torch.zeros(n_states, n_blocks * block_size))
        self.weight: Tensor | None = None

    def residuals(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> Tensor:
        gram = self._gram(states, counts)
        inverse = kernel_inverse(gram, self.log_penalty.exp(), self._weights(targets))
        left_out = kernel_leave_one_out(inverse, targets)
        self.weight = robust_weights(left_out)
        return left_out if self.leave_one_out else targets - gram @ (inverse @ targets)

    def held_out(
        self, states: Tensor, counts: Tensor | None, targets: Tensor, new: Tensor, new_counts: Tensor | None
    ) -> Tensor:
        standard = standardisation(states)
        old, scaled = self._scaled(states, *standard), self._scaled(new, *standard)
        inverse = kernel_inverse(
            self._similar(old, old, counts, counts), self.log_penalty.exp(), self._weights(targets)
        )
        return self._similar(scaled, old, new_counts, counts) @ (inverse @ targets)

    @torch.no_grad()
    def finish(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
        center, size = standardisation(states)
        self.center.copy_(center)
        self.size.copy_(size)
        inverse, left_out, weight = self._solve(self._gram(states, counts), targets)
        distance = 1 / inverse.diagonal() - self.log_penalty.exp() / weight
        solution = inverse @ targets
        if counts is not None:
            solution, inverse = counts.T @ solution, counts.T @ inverse @ counts
        n = len(states)
        for buffer in (self.support, self.coefficients, self.posterior):
            buffer.zero_()
        self.support[:n] = self._scaled(states, center, size)
        self.coefficients[:n] = solution
        self.posterior[:n, :n] = inverse
        self.weight = None
        return left_out, distance.clamp_min(0)

    def forward(self, states: Tensor, counts: Tensor | None) -> Tensor:
        return self._to_support(states, counts) @ self.coefficients

    def distance(self, states: Tensor, counts: Tensor | None) -> Tensor:
        r"""Posterior variance :math:`k(s, s) - k_s^\top A^{-1} k_s` of each row: 0 at a training state, larger far away."""
        scaled = self._scaled(states, self.center, self.size)
        own = torch.full((len(states),), 1.0, device=states.device) + self.log_constant.exp().square()
        if counts is not None:
            own = self._similar(scaled, scaled, counts, counts).diagonal()
        similar = self._to_support(states, counts)
        return (own - ((similar @ self.posterior) * similar).sum(1)).clamp_min(0)

    def influence(self, new: Tensor, states: Callable[[], Tensor], counts: Tensor | None, targets: Tensor) -> Tensor:
        """Weights of shape (n_new, n_rows), of the fit that `finish` left; the weights of the rows are held fixed."""
        solution = self.posterior
        if counts is not None:  # rows are sums of states, of which the posterior knows only the states
            solution = counts.T @ self._solve(self._similar(self.support, self.support, counts, counts), targets)[0]
        return self._to_support(new, None).double() @ solution.double()

    def secant(self, state: Tensor, gene: int) -> Secant:
        """Along the average gradient on the straight way from the mean training state to this one :cite:p:`Sundararajan2017`."""
        support, w = self.support.double(), self.coefficients[:, gene].double()
        way = self._scaled(state[None].double(), self.center, self.size)[0]
        start, average, moment = gaussian_path(way, support)
        slope = (w * average) @ support - (w @ moment) * way
        value = w @ start + (2 * self.log_constant).exp() * w.sum()
        return Secant(slope.view_as(self.center) * self._unit[:, None], self.center, value)

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        r"""Posterior covariance :math:`k(s, s') - k_s^\top A^{-1} k_{s'}` of two sets of states, of shape (n_a, n_b)."""
        a, b = (self._scaled(states.double(), self.center, self.size) for states in (a, b))
        support = self.support.double()
        to_a, to_b = (self._similar(scaled, support, None, None) for scaled in (a, b))
        return self._similar(a, b, None, None) - to_a @ self.posterior.double() @ to_b.T

    def _solve(self, gram: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inverse, leave-one-out residuals and weights of the rows, after these were renewed."""
        by_parts = goes_by_parts(len(targets))
        next_weight = self._weights_by_parts(gram, targets) if by_parts else targets.new_ones(len(targets))
        for _ in range(1 if by_parts else N_REWEIGHT):
            weight = next_weight
            inverse = kernel_inverse(gram, self.log_penalty.exp(), weight)
            left_out = kernel_leave_one_out(inverse, targets)
            next_weight = robust_weights(left_out)
        return inverse, left_out, weight

    def _weights_by_parts(self, gram: Tensor, targets: Tensor) -> Tensor:
        """Weights of many rows, from the residuals of leaving each out of its part, so that all are solved together once."""
        seen = sketch(targets)
        left_out = torch.zeros_like(seen)
        for part in parts_of(len(targets)):
            rows = part.to(targets.device)
            own, weight = gram[rows][:, rows], targets.new_ones(len(rows))
            for _ in range(N_REWEIGHT):
                inverse = kernel_inverse(own, self.log_penalty.exp(), weight)
                left_out[rows] = kernel_leave_one_out(inverse, seen[rows])
                weight = robust_weights(left_out[rows])
        return robust_weights(left_out)

    def _weights(self, targets: Tensor) -> Tensor:
        if self.weight is None or len(self.weight) != len(targets):
            return targets.new_ones(len(targets))
        return self.weight

    def _gram(self, states: Tensor, counts: Tensor | None) -> Tensor:
        scaled = self._scaled(states, *standardisation(states))
        return self._similar(scaled, scaled, counts, counts)

    def _similar(self, a: Tensor, b: Tensor, counts_a: Tensor | None, counts_b: Tensor | None) -> Tensor:
        similar = gaussian_kernel(a, b) + (2 * self.log_constant).exp()
        similar = similar if counts_a is None else counts_a @ similar
        return similar if counts_b is None else similar @ counts_b.T

    def _to_support(self, states: Tensor, counts: Tensor | None) -> Tensor:
        scaled = self._scaled(states, self.center, self.size)
        return self._similar(scaled, self.support, counts, None)
