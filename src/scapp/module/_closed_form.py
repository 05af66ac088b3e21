"""What the decoders that are solved in closed form share: their scalars, and states brought to the scale of the fit."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Secant(NamedTuple):
    """Linear function of the state: `value` + sum of `slope` * (state - `origin`), all but `value` (n_blocks, block_size)."""

    slope: Tensor
    origin: Tensor
    value: Tensor


class ClosedFormDecoder(nn.Module):
    """Scale of each head, of the constant and of the penalty, which training learns, and the solution.

    Parameters
    ----------
    n_blocks
        Number of blocks (heads) of the state.
    block_size
        Width of each.
    coefficients
        Shape of the solution, whose columns are the genes to predict.
    penalty
        Ridge penalty that training starts from.
    constant
        Scale of the constant that training starts from: large leaves the intercept free, small shrinks it to zero.
    leave_one_out
        Whether training minimises leave-one-out residuals; otherwise those of the fit, as an ablation.
    """

    coefficients: Tensor
    posterior: Tensor
    center: Tensor
    size: Tensor

    def __init__(
        self,
        n_blocks: int,
        block_size: int,
        coefficients: tuple[int, int],
        *,
        penalty: float,
        constant: float,
        leave_one_out: bool,
    ):
        super().__init__()
        self.leave_one_out = leave_one_out
        self.log_scale = nn.Parameter(torch.zeros(n_blocks))
        self.log_constant = nn.Parameter(torch.tensor(constant).log(), requires_grad=leave_one_out)
        self.log_penalty = nn.Parameter(torch.tensor(penalty).log(), requires_grad=leave_one_out)
        self.register_buffer("coefficients", torch.zeros(coefficients))
        self.register_buffer("posterior", torch.zeros(coefficients[0], coefficients[0]))
        self.register_buffer("center", torch.zeros(n_blocks, block_size))
        self.register_buffer("size", torch.ones(n_blocks))

    @property
    def n_solved(self) -> int:
        """Number of coefficients that are solved for, not trained by gradient."""
        return self.coefficients.numel()

    @property
    def _unit(self) -> Tensor:
        """Learned scale of each head over its size, of shape (n_blocks,)."""
        return self.log_scale.exp() / len(self.size) ** 0.5 / self.size

    def _scaled(self, states: Tensor, center: Tensor, size: Tensor) -> Tensor:
        return ((states - center) / size[:, None] * (self.log_scale.exp() / len(size) ** 0.5)[:, None]).flatten(1)


def standardisation(states: Tensor) -> tuple[Tensor, Tensor]:
    """Center of each block of the states, and its size: the root mean square distance from the center."""
    center = states.mean(0)
    size = (states - center).detach().square().sum(2).mean(0).sqrt()
    return center, size.clamp_min(1e-12)
