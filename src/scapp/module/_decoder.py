"""Decoders from the cell state to log-fold-changes: one signature, chosen by name.

`residuals` is what training minimises, `held_out` predicts rows that the decoder is not fitted to, `finish` fits it once
and for all and returns the residuals and distances of left-out rows (of the fit, where there is no closed form); `forward`
predicts, and `distance` is how far rows are from those of the fit. A row may be a sum of several states: `counts`, of shape (n_rows, n_states), says
how often each state counts in it; None if each row is a state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scapp.module._kernel import gaussian_kernel, kernel_inverse, kernel_leave_one_out, robust_weights
from scapp.module._ridge import ridge_leave_one_out, ridge_posterior, ridge_solve
from scapp.module._scale import goes_by_parts, parts_of, sketch

# How often the weights of the rows are renewed in the last fit; in training they are renewed at each step.
N_REWEIGHT = 5


class KernelDecoder(nn.Module):
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
    n_blocks
        Number of blocks (heads) of the state.
    block_size
        Width of each.
    n_genes
        Number of genes to predict.
    n_states
        Number of states that the decoder is fitted to, at most.
    penalty
        Ridge penalty that training starts from.
    constant
        Scale of the constant that training starts from: large leaves the intercept free, small shrinks it to zero.
    leave_one_out
        Whether training minimises leave-one-out residuals; otherwise those of the fit, as an ablation.
    """

    support: Tensor
    coefficients: Tensor
    center: Tensor
    size: Tensor
    posterior: Tensor

    def __init__(
        self,
        n_blocks: int,
        block_size: int,
        n_genes: int,
        n_states: int,
        *,
        penalty: float,
        constant: float,
        leave_one_out: bool = True,
    ):
        super().__init__()
        self.leave_one_out = leave_one_out
        self.log_scale = nn.Parameter(torch.zeros(n_blocks))
        self.log_constant = nn.Parameter(torch.tensor(constant).log(), requires_grad=leave_one_out)
        self.log_penalty = nn.Parameter(torch.tensor(penalty).log(), requires_grad=leave_one_out)
        self.register_buffer("support", torch.zeros(n_states, n_blocks * block_size))
        self.register_buffer("coefficients", torch.zeros(n_states, n_genes))
        self.register_buffer("center", torch.zeros(n_blocks, block_size))
        self.register_buffer("size", torch.ones(n_blocks))
        self.register_buffer("posterior", torch.zeros(n_states, n_states))
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
        gram = self._gram(states, counts)
        self.weight = self._weights_by_parts(gram, targets) if goes_by_parts(len(targets)) else None
        for _ in range(1 if goes_by_parts(len(targets)) else N_REWEIGHT):
            inverse = kernel_inverse(gram, self.log_penalty.exp(), self._weights(targets))
            left_out = kernel_leave_one_out(inverse, targets)
            distance = 1 / inverse.diagonal() - self.log_penalty.exp() / self._weights(targets)
            self.weight = robust_weights(left_out)
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

    @property
    def n_solved(self) -> int:
        """Number of coefficients that are solved for, not trained by gradient."""
        return self.coefficients.numel()

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

    def _scaled(self, states: Tensor, center: Tensor, size: Tensor) -> Tensor:
        return ((states - center) / size[:, None] * (self.log_scale.exp() / len(size) ** 0.5)[:, None]).flatten(1)

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
    leave_one_out
        As in :class:`KernelDecoder`.
    """

    coefficients: Tensor
    center: Tensor
    size: Tensor
    posterior: Tensor

    def __init__(
        self,
        n_blocks: int,
        block_size: int,
        n_genes: int,
        *,
        penalty: float,
        constant: float,
        leave_one_out: bool = True,
    ):
        super().__init__()
        n_columns = n_blocks * block_size + 1
        self.leave_one_out = leave_one_out
        self.log_scale = nn.Parameter(torch.zeros(n_blocks))
        self.log_constant = nn.Parameter(torch.tensor(constant).log(), requires_grad=leave_one_out)
        self.log_penalty = nn.Parameter(torch.tensor(penalty).log(), requires_grad=leave_one_out)
        self.register_buffer("coefficients", torch.zeros(n_columns, n_genes))
        self.register_buffer("center", torch.zeros(n_blocks, block_size))
        self.register_buffer("size", torch.ones(n_blocks))
        self.register_buffer("posterior", torch.zeros(n_columns, n_columns))

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

    @property
    def n_solved(self) -> int:
        """Number of coefficients that are solved for, not trained by gradient."""
        return self.coefficients.numel()

    def _design(self, states: Tensor, counts: Tensor | None, center: Tensor, size: Tensor) -> Tensor:
        n_blocks = len(size)
        blocks = (states - center) / size[:, None] * (self.log_scale.exp() / n_blocks**0.5)[:, None]
        constant = self.log_constant.exp().expand(len(states), 1)
        design = torch.cat([blocks.flatten(1), constant], dim=1)
        return design if counts is None else counts @ design


class _GradientDecoder(nn.Module):
    """A decoder trained by gradient descent, together with the encoder and the attention."""

    network: nn.Module
    n_solved = 0

    def residuals(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> Tensor:
        return targets - self(states, counts)

    def held_out(
        self, states: Tensor, counts: Tensor | None, targets: Tensor, new: Tensor, new_counts: Tensor | None
    ) -> Tensor:
        return self(new, new_counts)

    @torch.no_grad()
    def finish(self, states: Tensor, counts: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.residuals(states, counts, targets), self.distance(states, counts)

    def forward(self, states: Tensor, counts: Tensor | None) -> Tensor:
        predicted = self.network(states.flatten(1))
        return predicted if counts is None else counts @ predicted

    def distance(self, states: Tensor, counts: Tensor | None) -> Tensor:
        """Not known: the same for all rows."""
        return states.new_ones(len(states if counts is None else counts))


class LinearDecoder(_GradientDecoder):
    """Equation 7, trained by gradient descent, as the paper has it."""

    def __init__(self, n_blocks: int, block_size: int, n_genes: int):
        super().__init__()
        self.network = nn.Linear(n_blocks * block_size, n_genes)


class MLPDecoder(_GradientDecoder):
    """One hidden layer in place of equation 7: an ablation."""

    def __init__(self, n_blocks: int, block_size: int, n_genes: int):
        super().__init__()
        n_states = n_blocks * block_size
        self.network = nn.Sequential(nn.Linear(n_states, n_states), nn.ReLU(), nn.Linear(n_states, n_genes))


def standardisation(states: Tensor) -> tuple[Tensor, Tensor]:
    """Center of each block of the states, and its size: the root mean square distance from the center."""
    center = states.mean(0)
    size = (states - center).detach().square().sum(2).mean(0).sqrt()
    return center, size.clamp_min(1e-12)
