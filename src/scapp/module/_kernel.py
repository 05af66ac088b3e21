"""The kernel of the closed form: how alike any two perturbations are, singles and combinations together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scapp.module._base import Half
from scapp.module._evidence import Evidence, Genes, eigh, genes_of, membership

# The profiles of singles are denoised before they are summed: the singular values of the measured singles are
# soft-thresholded by this share of their median.
DENOISING = 0.4
# Minimum numbers of combinations for a kernel of their own, and of singles for summed profiles.
MIN_COMBINATIONS, MIN_SINGLES = 3, 3


class Asked(NamedTuple):
    """Perturbations, the `genes` in them, and the similarities of these to the perturbed genes of the training.

    `similarities` has the shape (n_sources, n_genes, n_training_genes).
    """

    perturbations: Sequence[Genes]
    genes: Sequence[int]
    similarities: NDArray[np.floating]


@dataclass(frozen=True)
class Parts:
    """Hold the components of the kernel between two lists of perturbations, as tensors of shape (n, n_others).

    Parameters
    ----------
    additive
        The product of the numbers of genes, the number of shared genes, and the sums of the similarities of their
        genes, one tensor for each source.
    profiles
        Similarity of the summed profiles; None if there are too few combinations.
    combined
        For pairs of combinations (zero elsewhere): ones, the share of common genes, and the similarity of the summed
        profiles; empty if there are too few combinations.
    distance
        Squared distances between the summed profiles, in units of their median.
    is_combination, other_is_combination
        Masks of combinations, shapes (n,) and (n_others,).
    """

    additive: list[Tensor]
    profiles: Tensor | None
    combined: list[Tensor]
    distance: Tensor | None
    is_combination: Tensor
    other_is_combination: Tensor


class PerturbationKernel(Half):
    """Base of :class:`scapp.module.ClosedForm`, which has the formula and the parameters: the scalars, the profiles and the kernel."""

    lfc: Tensor
    profiles: Tensor
    profile_weights: Tensor
    profile_mean: Tensor
    units: Tensor

    def __init__(self, evidence: Evidence, perturbations: Sequence[Genes], n_measured: int):
        super().__init__(evidence.n_sources, perturbations, n_measured)
        self._evidence = evidence
        self.has_combinations = int(self.is_combination.sum()) >= MIN_COMBINATIONS
        self.log_additive = scalar([0.0] + [-2.0] * (1 + self.n_sources))
        self.log_profiles = scalar(-2.0)
        self.log_combined = scalar([-2.0] * 4)
        self.factor_logit = scalar(1.0)
        self.log_length = scalar(0.0)
        n_singles = len(self.single_row) if self.has_combinations else 0
        for name in ("profiles", "profile_weights"):
            self.register_buffer(name, torch.zeros(n_singles, n_measured, dtype=torch.float64))
        self.register_buffer("profile_mean", torch.ones(n_measured, dtype=torch.float64))
        self.register_buffer("units", torch.ones(3, dtype=torch.float64))

    @property
    def factor(self) -> Tensor:
        """Effect of a combination relative to the sum of its genes' effects, below one."""
        return torch.sigmoid(self.factor_logit)

    @cached_property
    def similarities(self) -> NDArray[np.floating]:
        """Similarities of the training genes to each other, shape (n_sources, n_genes, n_genes)."""
        return self._evidence.similarities(self.genes, self.genes)

    # ------------------------------------------------------------------ the profiles of genes

    def fit_profiles(self) -> None:
        """Denoise the measured singles, and learn to predict the profiles of other genes from similar ones."""
        rows = list(self.single_row.values())
        self.units.fill_(1.0)
        if len(rows) < MIN_SINGLES:
            return
        singles = self.lfc[rows]
        squares, vectors = eigh(singles @ singles.T)
        size = squares.clamp_min(0).sqrt()
        kept = (1 - DENOISING * size.median() / size.clamp_min(1e-30)).clamp_min(0)
        self.profiles = (vectors * kept) @ (vectors.T @ singles)
        self.profile_mean = singles.mean(0)
        near = self.similarities_of_singles()
        self.profile_weights = torch.linalg.solve(near + torch.eye(len(rows)), singles - self.profile_mean)
        x = self.summed_profiles(Asked(self.perturbations, self.genes, self.similarities))
        combined = x[torch.as_tensor(self.is_combination)]
        distance = _squared_distances(combined, combined)
        # Rounding decides whether the distance of each to itself is positive.
        apart = distance[~torch.eye(len(distance), dtype=torch.bool)]
        self.units = torch.stack(
            [
                _positive(self.profiles.square().sum(1).mean() * len(rows) / len(self.genes)),
                _positive(combined.square().sum(1).mean()),
                _positive(apart.median() if len(apart) else x.new_ones(())),
            ]
        )

    def similarities_of_singles(self, similarities: NDArray[np.floating] | None = None) -> Tensor:
        """Return the mean over sources of similarities to the genes perturbed alone, of those genes to each other if None."""
        columns = np.searchsorted(self.genes, list(self.single_row))
        found = self.similarities[:, columns] if similarities is None else similarities
        if not self.n_sources:
            return torch.zeros(found.shape[1], len(columns), dtype=torch.float64)
        return torch.as_tensor(found[:, :, columns].mean(0, dtype=np.float64))

    def summed_profiles(self, asked: Asked) -> Tensor:
        """Return the summed profiles of each perturbation, shape (n, n_measured)."""
        measured = {gene: k for k, gene in enumerate(self.single_row)}
        profile = torch.zeros(len(asked.genes), self.n_measured, dtype=torch.float64)
        if len(measured) >= MIN_SINGLES:
            rest = [k for k, gene in enumerate(asked.genes) if gene not in measured]
            there = [k for k, gene in enumerate(asked.genes) if gene in measured]
            profile[there] = self.profiles[[measured[asked.genes[k]] for k in there]]
            if rest:
                near = self.similarities_of_singles(asked.similarities[:, rest])
                profile[rest] = self.profile_mean + near @ self.profile_weights
        return torch.as_tensor(membership(asked.perturbations, asked.genes) @ profile.numpy())

    # ------------------------------------------------------------------ the kernel

    def parts(self, asked: Asked, rows: Sequence[int] | None = None) -> Parts:
        """Return the components of the kernel between some perturbations and the training perturbations, or `rows` of these."""
        known = self.perturbations if rows is None else [self.perturbations[i] for i in rows]
        # The similarities of the training genes are read for the profiles of combinations only.
        own = self.similarities if self.has_combinations else asked.similarities[:, :0]
        return self.parts_between(asked, Asked(known, self.genes, own), asked.similarities)

    def parts_between(self, a: Asked, b: Asked, similarities: NDArray[np.floating]) -> Parts:
        """Return the components of the kernel between two lists, given the similarities of the genes of one to those of the other."""
        holds_a, holds_b = membership(a.perturbations, a.genes), membership(b.perturbations, b.genes)
        genes = sorted({*a.genes, *b.genes})
        n_a, n_b = (np.asarray(holds.sum(axis=1)).ravel() for holds in (holds_a, holds_b))
        shared = (membership(a.perturbations, genes) @ membership(b.perturbations, genes).T).toarray()
        summed = [np.ascontiguousarray((holds_b @ (holds_a @ source).T).T) for source in similarities]
        is_a, is_b = torch.as_tensor((n_a > 1).astype(float)), torch.as_tensor((n_b > 1).astype(float))
        additive = [torch.as_tensor(x) for x in (np.outer(n_a, n_b), shared, *summed)]
        if not self.has_combinations:
            return Parts(additive, None, [], None, is_a, is_b)
        x_a, x_b = self.summed_profiles(a), self.summed_profiles(b)
        both, inner = is_a[:, None] * is_b, x_a @ x_b.T
        alike = torch.as_tensor(shared / np.sqrt(np.outer(n_a, n_b)))
        combined = [both, both * alike, both * inner / self.units[1]]
        return Parts(
            additive, inner / self.units[0], combined, _squared_distances(x_a, x_b) / self.units[2], is_a, is_b
        )

    def kernel(self, parts: Parts) -> Tensor:
        """Return the kernel, shape (n, n_others)."""
        weights = self.log_additive.exp()
        total = sum(weight * part for weight, part in zip(weights, parts.additive, strict=True))
        if parts.profiles is not None:
            total = total + self.log_profiles.exp() * parts.profiles
        factor = self.factor
        total = total * torch.where(parts.is_combination > 0, factor, 1.0)[:, None]
        total = total * torch.where(parts.other_is_combination > 0, factor, 1.0)
        if parts.combined:
            b = self.log_combined.exp()
            total = total + sum(weight * part for weight, part in zip(b, parts.combined, strict=False))
            total = total + b[3] * parts.combined[0] * torch.exp(-parts.distance / (2 * self.log_length.exp()))
        return total

    def to_training(self, asked: Asked) -> Tensor:
        """Return the kernel between some perturbations and the training perturbations, shape (n, n_training)."""
        return self.kernel(self.parts(asked))

    def own_kernel(self, n_rows: int) -> Tensor:
        """Return the kernel between all training perturbations, computed in blocks of `n_rows` to limit memory."""
        found = torch.empty(len(self.perturbations), len(self.perturbations), dtype=torch.float64)
        for start in range(0, len(found), n_rows):
            asked = self.perturbations[start : start + n_rows]
            genes = genes_of(asked)
            similarities = self.similarities[:, np.searchsorted(self.genes, genes)]
            found[start : start + len(asked)] = self.to_training(Asked(asked, genes, similarities))
        return found

    @torch.no_grad()
    def variance(self, sizes: Tensor, within: Tensor, profiles: Tensor | None) -> Tensor:
        """Return the prior variance K(P, P) of each perturbation.

        Parameters
        ----------
        sizes
            Number of genes of each perturbation, shape (n,).
        within
            Sums of the similarities among the genes of each perturbation, by source, shape (n_sources, n).
        profiles
            Summed profiles, shape (n, n_measured); None if there are too few combinations.
        """
        a, b = self.log_additive.exp(), self.log_combined.exp()
        combined = (sizes > 1).double()
        total = a[0] * sizes**2 + a[1] * sizes + a[2:] @ within
        length = torch.zeros(()) if profiles is None else profiles.square().sum(1)
        if self.has_combinations:
            total = total + self.log_profiles.exp() * length / self.units[0]
        total = total * torch.where(combined > 0, self.factor**2, 1.0)
        if self.has_combinations:
            total = total + combined * (b[0] + b[1] + b[2] * length / self.units[1] + b[3])
        return total


def scalar(start: Any) -> nn.Parameter:
    """Return a parameter in double precision that begins at some value or values."""
    return nn.Parameter(torch.as_tensor(start, dtype=torch.float64).clone())


def _positive(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, torch.ones_like(value))


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
