"""The anchor of combinations: the sum of their genes' own effects, denoised and shrunk."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scapp.module._scale import N_TOGETHER
from scapp.module._spectrum import spectrum

# Thresholds on the singular values of the measured singles, in units of their median; and how strongly the scale of each
# gene is drawn to the common one, in units of the information that the training combinations hold on an average gene.
THRESHOLDS = (0.0, 0.2, 0.4, 0.6)
GENE_SHRINKAGE = (0.1, 0.3, 1.0, 3.0, float("inf"))
# One combination's worth of belief that effects add, so that few combinations do not swing the scale.
ADDITIVE_PRIOR = 1.0


class Anchor(nn.Module):
    r"""Shrunk additive model :math:`c_g \sum_{p \in P} \tilde y_{pg}`.

    :math:`\tilde y` are the measured effects of single perturbations after soft-thresholding their singular values, since
    the errors of two singles add up; :math:`c_g` is one scale for all genes, from which each gene departs as far as the
    training combinations support it. The threshold and the strength of that support are chosen by the error of leaving
    out each training combination, in closed form.

    Parameters
    ----------
    n_singles
        Number of measured single perturbations.
    n_genes
        Number of genes.
    """

    singles: Tensor
    scale: Tensor
    threshold: Tensor

    def __init__(self, n_singles: int, n_genes: int):
        super().__init__()
        self.register_buffer("singles", torch.zeros(n_singles, n_genes))
        self.register_buffer("scale", torch.ones(n_genes))
        self.register_buffer("threshold", torch.zeros(()))

    @torch.no_grad()
    def fit(self, singles: Tensor, composition: Tensor, rest: Tensor, targets: Tensor) -> None:
        """Choose the threshold and the scales.

        Parameters
        ----------
        singles
            Measured effects, of shape (n_singles, n_genes).
        composition
            Which measured singles each training combination holds, of shape (n_combinations, n_singles).
        rest
            Sum of the predicted effects of those of its genes that were not measured alone, of shape
            (n_combinations, n_genes).
        targets
            Measured effects of the training combinations, of the same shape.
        """
        if not len(targets):
            self.singles.copy_(singles)
            return
        factors = spectrum(singles) if len(singles) else None
        best = float("inf")
        thresholds = THRESHOLDS if len(singles) and len(targets) > 2 else (0.0,)
        shrinkages = GENE_SHRINKAGE if len(targets) > 2 else (float("inf"),)
        for threshold in thresholds:
            denoised = factors.soft_threshold(threshold) if factors is not None and threshold else singles
            additive = composition @ denoised + rest
            for shrinkage in shrinkages:
                scale, left_out = _gene_scales(additive, targets, shrinkage)
                error = (targets - left_out * additive).norm(dim=1).mean().item()
                if error < best:
                    best = error
                    self.singles.copy_(denoised)
                    self.scale.copy_(scale)
                    self.threshold.fill_(threshold)

    @torch.no_grad()
    def denoising(self, singles: Tensor) -> Tensor:
        """How much each measured single counts in each denoised one: with the basis held fixed, they are linear in them.

        Parameters
        ----------
        singles
            Those of the fit.

        Returns
        -------
        Tensor of shape (n_singles, n_singles), float64; its product with the singles is what the anchor holds.
        """
        if not self.threshold:
            return torch.eye(len(singles), dtype=torch.float64, device=singles.device)
        # The randomised decomposition of large screens depends on the type, so it has to be that of the fit.
        exact = min(singles.shape) <= N_TOGETHER
        return spectrum(singles.double() if exact else singles).shares(float(self.threshold))

    def forward(self, composition: Tensor, rest: Tensor) -> Tensor:
        """Predict combinations; the arguments are those of `fit`."""
        return self.scale * (composition @ self.singles + rest)


def _gene_scales(additive: Tensor, targets: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Scale of each gene, and the same without each row in turn (the common scale keeps all rows)."""
    square, product = additive.square(), additive * targets
    prior = ADDITIVE_PRIOR * square.sum() / len(additive)
    common = (product.sum() + prior) / (square.sum() + prior)
    if shrinkage == float("inf"):
        rows = (product.sum() - product.sum(1) + prior) / (square.sum() - square.sum(1) + prior)
        return common.expand(additive.shape[1]), rows[:, None]
    pull = shrinkage * square.sum(0).mean()
    numerator, denominator = product.sum(0) + pull * common, square.sum(0) + pull
    return numerator / denominator, (numerator - product) / (denominator - square)


def composition_of(perturbations: Sequence[tuple[int, ...]], columns: dict[int, int]) -> Tensor:
    """How often each of some genes occurs in each perturbation, of shape (n_perturbations, n_columns)."""
    matrix = torch.zeros(len(perturbations), len(columns))
    for i, genes in enumerate(perturbations):
        for gene in genes:
            if gene in columns:
                matrix[i, columns[gene]] += 1
    return matrix
