"""Decoders trained by gradient descent, together with encoder and attention; the signature is that of `_decoder`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from scapp.module._closed_form import Secant


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

    def influence(self, new: Tensor, states: Callable[[], Tensor], counts: Tensor | None, targets: Tensor) -> Tensor:
        """There is none: what descended a gradient is no weighted sum of the training effects."""
        raise ValueError(
            "A decoder that was trained by gradient descent has no closed form, so a prediction is no weighted sum of "
            "training effects. Ask for the contributions of genes, or train a model with the decoder 'kernel' or 'linear'."
        )


class LinearDecoder(_GradientDecoder):
    """Equation 7, trained by gradient descent, as the paper has it."""

    def __init__(self, n_blocks: int, block_size: int, n_genes: int):
        super().__init__()
        self.shape = (n_blocks, block_size)
        self.network = nn.Linear(n_blocks * block_size, n_genes)

    def secant(self, state: Tensor, gene: int) -> Secant:
        """The decoder itself."""
        slope = self.network.weight[gene].double().view(self.shape)
        return Secant(slope, torch.zeros_like(slope), self.network.bias[gene].double())


class MLPDecoder(_GradientDecoder):
    """One hidden layer in place of equation 7: an ablation."""

    def __init__(self, n_blocks: int, block_size: int, n_genes: int):
        super().__init__()
        n_states = n_blocks * block_size
        self.network = nn.Sequential(nn.Linear(n_states, n_states), nn.ReLU(), nn.Linear(n_states, n_genes))

    def secant(self, state: Tensor, gene: int) -> Secant:
        """There is none that is exact: the hidden layer bends."""
        raise ValueError(
            "A decoder with a hidden layer (decoder='mlp') adds no contributions of genes up to its prediction. Train a "
            "model with the decoder 'kernel' or 'linear' to explain it."
        )
