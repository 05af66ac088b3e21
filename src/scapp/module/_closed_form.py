"""Prediction in closed form: one kernel over single and combined perturbations that accounts for measurement noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from scapp.module._evidence import Genes, eigh, membership

# # The profiles of singles are denoised before they are summed: the singular values of the measured singles are
# soft-thresholded by this share of their median.
DENOISING = 0.4
# Minimum numbers of combinations for a kernel of their own, and of singles for summed profiles.
MIN_COMBINATIONS, MIN_SINGLES = 3, 3
# Minimum number of combinations for using the similarity of the genes' own profiles.
MIN_FOR_PROFILES = 10
# # Multipliers of the penalty to choose from for each gene, and how strongly its choice is shrunk towards that of all
# genes, in units of its own evidence: more with few perturbations, and more if its noise is known.
MULTIPLIERS = np.array([0.03, 0.06, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 64, 1e6])
PULL_PERTURBATIONS, PULL_RANGE, PULL_KNOWN_NOISE = 60.0, (0.3, 3.0), 2.0
# Strength of the prior on the logarithms of the scalars.
SCALAR_PRIOR = 2.5e-5
SMALLEST_LENGTH = 0.1  # relative to the median residual length, so that no row counts more than ten typical ones
# Maximum number of perturbations on which the scalars are learned, chosen evenly by name.
MAX_LEARNED_FROM = 1500
# In larger screens, penalties are chosen by the leave-one-out errors of this many of them.
MAX_FOR_PENALTIES = 500


@dataclass(frozen=True)
class Parts:
    """Hold the components of the kernel between two lists of perturbations, as tensors of shape (n, n_others).

    Parameters
    ----------
    additive
        The product of the numbers of genes, the number of shared genes, and the sums of the similarities of their
        genes, one tensor for each source.
    profiles
        Similarity of the summed profiles; None if they are not used.
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


class _Inverse(torch.autograd.Function):
    """Inverse of a positive definite matrix, whose gradient needs two products instead of two factorisations."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        inverse = torch.cholesky_inverse(_cholesky(matrix))
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        return -(inverse @ gradient @ inverse)


def _cholesky(matrix: Tensor) -> Tensor:
    """Return the Cholesky factor; if the matrix is indefinite, that of a matrix dominated by noise.

    Similarities by annotations have their negative values set to zero, so their matrix need not be positive definite. This
    matters when a long step of the line search leaves almost no noise. The replacement predicts almost nothing, so the line
    search rejects the step.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        bound = matrix.abs().sum(1).max()  # no eigenvalue is larger
        if not torch.isfinite(bound):
            raise FloatingPointError("The kernel of the closed form is not finite.")
        factor = torch.linalg.cholesky(matrix + 10 * bound * torch.eye(len(matrix), dtype=matrix.dtype))
    return factor


class ClosedForm(nn.Module):
    r"""Gaussian process over perturbations whose scalars are learned on leave-one-out errors.

    For sets of genes P and Q,

    .. math::
        K(P, Q) = u_P u_Q \sum_{p \in P, q \in Q} \Bigl[a_0 + a_1 (p = q) + \sum_m a_m k_m(p, q) + a_x \langle x_p, x_q \rangle\Bigr]
        + (P, Q \text{ combinations}) \Bigl[b_0 + b_1 \tfrac{|P \cap Q|}{\sqrt{|P| |Q|}} + b_2 \langle x_P, x_Q \rangle
        + b_3 e^{-\lVert x_P - x_Q \rVert^2 / 2 \ell}\Bigr],

    where :math:`k_m` is the similarity of two genes by source m, :math:`x_P` is the sum of the denoised effects of the
    genes in P, and u is 1 for single perturbations and one learned number for combinations. Gene j is predicted as
    :math:`K_P (K + \lambda_j D)^{-1} y_j`, where D is the noise of each perturbation and :math:`\lambda_j` the penalty of
    the gene, from its known noise or its leave-one-out error :cite:p:`Rasmussen2006,Allen1974`.

    The mean, the shrunk additive model, kernel ridge regression and the partner mean are special cases.

    Parameters
    ----------
    n_sources
        Number of similarities of genes.
    """

    weight: Tensor
    row_noise: Tensor
    penalty: Tensor
    values: Tensor
    vectors: Tensor
    projected: Tensor
    profiles: Tensor
    profile_weights: Tensor
    profile_mean: Tensor
    units: Tensor
    knows_noise: Tensor
    guess_error: Tensor
    _similarities: NDArray[np.floating]

    def __init__(self, n_sources: int, perturbations: Sequence[Genes], n_measured: int):
        super().__init__()
        self.n_sources, self.n_measured = n_sources, n_measured
        self.perturbations = list(perturbations)
        self.genes = sorted({gene for genes in self.perturbations for gene in genes})
        self._place = {gene: k for k, gene in enumerate(self.genes)}
        self._sets = membership(self.perturbations, self._place)
        self.is_combination = np.array([len(p) > 1 for p in self.perturbations])
        self.single_row = {p[0]: i for i, p in enumerate(self.perturbations) if len(p) == 1}
        self.has_combinations = int(self.is_combination.sum()) >= MIN_COMBINATIONS
        self.uses_profiles = int(self.is_combination.sum()) >= MIN_FOR_PROFILES
        additive = torch.full((2 + n_sources,), -2.0)
        additive[0] = 0.0
        self.log_additive = _scalar(additive)
        self.log_profiles = _scalar(-2.0)
        self.log_combined = _scalar(torch.full((4,), -2.0))
        self.log_factor = _scalar(-0.3)
        self.log_length = _scalar(0.0)
        self.log_noise = _scalar([-1.0, -1.0])  # for singles, for combinations
        self.known_noise = _scalar(0.0)  # logit of the share of the noise that is proportional to the known noise
        self._starts = [p.detach().clone() for p in self.parameters()]
        n, n_singles = len(self.perturbations), len(self.single_row) if self.has_combinations else 0
        for name, shape in {
            "weight": (n,), "row_noise": (n,), "penalty": (n_measured,), "values": (n,), "vectors": (n, n),
            "projected": (n, n_measured), "profiles": (n_singles, n_measured), "profile_weights": (n_singles, n_measured),
            "profile_mean": (n_measured,), "units": (3,),
        }.items():  # fmt: skip
            # Unwritten zeros take no memory; only lengths and factors must start as ones.
            start = torch.zeros if len(shape) > 1 else torch.ones
            self.register_buffer(name, start(shape, dtype=torch.float64))
        self.register_buffer("guess_error", torch.zeros((), dtype=torch.float64))
        self.register_buffer("knows_noise", torch.zeros((), dtype=torch.bool))
        self._gene_noise: Tensor | None = None
        self._coefficients: Tensor | None = None

    # ------------------------------------------------------------------ the training perturbations

    @torch.no_grad()
    def set_effects(
        self, lfc: Tensor, similarities: NDArray[np.floating], *, row_noise: Tensor | None, gene_noise: Tensor | None
    ) -> None:
        """Store the training effects, and precompute everything that stays constant while the scalars are learned.

        Parameters
        ----------
        lfc
            Training effects, shape (n, n_measured).
        similarities
            Similarities of the perturbed genes, shape (n_sources, n_genes, n_genes).
        row_noise, gene_noise
            Noise of each perturbation, with median one, and of each gene; their product is the variance of a value. None
            if unknown.
        """
        self.lfc, self._gene_noise = lfc.double(), gene_noise
        self.knows_noise.fill_(row_noise is not None)
        self.row_noise = torch.ones(len(lfc), dtype=torch.float64) if row_noise is None else row_noise.double()
        self._similarities = similarities
        if self.has_combinations:
            self._fit_profiles(similarities)

    def _fit_profiles(self, similarities: NDArray[np.float64]) -> None:
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
        columns = [self._place[gene] for gene in self.single_row]
        near = self._mean_similarity(similarities, columns, columns)
        self.profile_weights = torch.linalg.solve(near + torch.eye(len(rows)), singles - self.profile_mean)
        self.guess_error.copy_((self.profiles - self._guessed_profiles(singles, near)).square().sum(1).mean())
        x = self.summed_profiles(self.perturbations, self.genes, similarities)
        combined = x[torch.as_tensor(self.is_combination)]
        distance = _squared_distances(combined, combined)
        apart = distance[
            ~torch.eye(len(distance), dtype=torch.bool)
        ]  # rounding decides whether distances of zero are positive
        self.units = torch.stack(
            [
                _positive(self.profiles.square().sum(1).mean() * len(rows) / len(self.genes)),
                _positive(combined.square().sum(1).mean()),
                _positive(apart.median() if len(apart) else x.new_ones(())),
            ]
        )

    def _mean_similarity(
        self, similarities: NDArray[np.floating], rows: Sequence[int], columns: Sequence[int]
    ) -> Tensor:
        if not self.n_sources:
            return torch.zeros(len(rows), len(columns), dtype=torch.float64)
        return torch.as_tensor(similarities[:, list(rows)][:, :, list(columns)].mean(0, dtype=np.float64))

    def summed_profiles(
        self, perturbations: Sequence[Genes], genes: Sequence[int], similarities: NDArray[np.floating]
    ) -> Tensor:
        """Return the summed profiles of each perturbation, given the similarities of `genes` to the perturbed genes."""
        measured = {gene: k for k, gene in enumerate(self.single_row)}
        profile = torch.zeros(len(genes), self.n_measured, dtype=torch.float64)
        if len(measured) >= MIN_SINGLES:
            rest = [k for k, gene in enumerate(genes) if gene not in measured]
            there = [k for k, gene in enumerate(genes) if gene in measured]
            profile[there] = self.profiles[[measured[genes[k]] for k in there]]
            if rest:
                near = self._mean_similarity(similarities, rest, [self._place[gene] for gene in measured])
                profile[rest] = self.profile_mean + near @ self.profile_weights
        return torch.as_tensor(membership(perturbations, {g: k for k, g in enumerate(genes)}) @ profile.numpy())

    # ------------------------------------------------------------------ the kernel

    def parts(
        self,
        perturbations: Sequence[Genes],
        genes: Sequence[int],
        similarities: NDArray[np.floating],
        rows: Sequence[int] | None = None,
    ) -> Parts:
        """Return the components of the kernel between some perturbations and the training perturbations.

        Parameters
        ----------
        perturbations
            Nodes of each perturbation.
        genes
            The nodes that occur in them.
        similarities
            Similarities of these genes to the training genes, shape (n_sources, n_genes, n_training_genes).
        rows
            Rows of the training perturbations; all if None.
        """
        known = self.perturbations if rows is None else [self.perturbations[i] for i in rows]
        narrow = membership(perturbations, {gene: k for k, gene in enumerate(genes)})
        sets = self._sets if rows is None else self._sets[list(rows)]
        x_a = x_b = None
        if self.has_combinations:
            x_a = self.summed_profiles(perturbations, genes, similarities)
            x_b = self.summed_profiles(known, self.genes, self._similarities)
        place = {gene: k for k, gene in enumerate(sorted({*genes, *self.genes}))}
        a, b = membership(perturbations, place), membership(known, place)
        return self._parts_of(a, b, [summed(narrow, source, sets) for source in similarities], x_a, x_b)

    def _parts_of(
        self,
        a: sparse.csr_matrix,
        b: sparse.csr_matrix,
        sources: list[NDArray[np.float64]],
        x_a: Tensor | None,
        x_b: Tensor | None,
    ) -> Parts:
        n_a, n_b = np.asarray(a.sum(axis=1)).ravel(), np.asarray(b.sum(axis=1)).ravel()
        shared = np.asarray((a @ b.T).toarray())
        is_a, is_b = torch.as_tensor((n_a > 1).astype(float)), torch.as_tensor((n_b > 1).astype(float))
        additive = [torch.as_tensor(x) for x in (np.outer(n_a, n_b), shared, *sources)]
        if x_a is None or x_b is None:
            return Parts(additive, None, [], None, is_a, is_b)
        both, inner = is_a[:, None] * is_b, x_a @ x_b.T
        profiles = inner / self.units[0] if self.uses_profiles else None
        alike = torch.as_tensor(shared / np.sqrt(np.outer(n_a, n_b)))
        combined = [both, both * alike, both * inner / self.units[1]]
        return Parts(additive, profiles, combined, _squared_distances(x_a, x_b) / self.units[2], is_a, is_b)

    def kernel_between(
        self,
        perturbations: Sequence[Genes],
        genes: Sequence[int],
        similarities: NDArray[np.floating],
        others: Sequence[Genes],
        other_genes: Sequence[int],
        other_similarities: NDArray[np.floating],
        between: NDArray[np.floating],
    ) -> Tensor:
        """Return the kernel between two arbitrary lists of perturbations.

        Parameters
        ----------
        perturbations, genes, similarities
            As in :meth:`parts`.
        others, other_genes, other_similarities
            The same for the other list.
        between
            Similarities between the genes of the two lists, shape (n_sources, n_genes, n_other_genes).
        """
        place = {gene: k for k, gene in enumerate(sorted({*genes, *other_genes}))}
        a, b = membership(perturbations, place), membership(others, place)
        narrow_a = membership(perturbations, {gene: k for k, gene in enumerate(genes)})
        narrow_b = membership(others, {gene: k for k, gene in enumerate(other_genes)})
        x_a = x_b = None
        if self.has_combinations:
            x_a = self.summed_profiles(perturbations, genes, similarities)
            x_b = self.summed_profiles(others, other_genes, other_similarities)
        sources = [summed(narrow_a, source, narrow_b) for source in between]
        return self.kernel(self._parts_of(a, b, sources, x_a, x_b))

    def kernel(self, parts: Parts) -> Tensor:
        """Return the kernel, shape (n, n_others)."""
        weights = self.log_additive.exp()
        total = sum(weight * part for weight, part in zip(weights, parts.additive, strict=True))
        if parts.profiles is not None:
            total = total + self.log_profiles.exp() * parts.profiles
        factor = self.log_factor.exp()
        total = total * torch.where(parts.is_combination > 0, factor, 1.0)[:, None]
        total = total * torch.where(parts.other_is_combination > 0, factor, 1.0)
        if parts.combined:
            b = self.log_combined.exp()
            total = total + sum(weight * part for weight, part in zip(b, parts.combined, strict=False))
            total = total + b[3] * parts.combined[0] * torch.exp(-parts.distance / (2 * self.log_length.exp()))
        return total

    @torch.no_grad()
    def variance(self, sizes: Tensor, within: Tensor, profiles: Tensor | None, *, guessed: Tensor) -> Tensor:
        """Return the prior variance K(P, P) of each perturbation.

        Parameters
        ----------
        sizes
            Number of genes of each perturbation, shape (n,).
        within
            Sums of the similarities among the genes of each perturbation, by source, shape (n_sources, n).
        profiles
            Summed profiles, shape (n, n_measured); None if there are too few combinations.
        guessed
            Mask of single genes that were not perturbed alone, shape (n,). Their profiles are guesses, whose mean squared
            error adds to the variance.
        """
        a, b = self.log_additive.exp(), self.log_combined.exp()
        combined = (sizes > 1).double()
        total = a[0] * sizes**2 + a[1] * sizes + a[2:] @ within
        length = guessed * self.guess_error
        if profiles is not None:
            length = length + profiles.square().sum(1)
        if self.uses_profiles:
            total = total + self.log_profiles.exp() * length / self.units[0]
        total = total * torch.where(combined > 0, self.log_factor.exp() ** 2, 1.0)
        if self.has_combinations:
            total = total + combined * (b[0] + b[1] + b[2] * length / self.units[1] + b[3])
        return total

    def noise(self, rows: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        """Return the noise of the training perturbations, shape (n,)."""
        rows = torch.arange(len(self.row_noise)) if rows is None else rows
        share = torch.sigmoid(self.known_noise) * self.knows_noise
        combined = torch.as_tensor(self.is_combination)[rows]
        level = torch.where(combined, self.log_noise[1].exp(), self.log_noise[0].exp())
        return level * ((1 - share) + share * self.row_noise[rows]) / (self.weight if weight is None else weight)[rows]

    def new_noise(self, perturbations: Sequence[Genes]) -> Tensor:
        """Return the expected noise of a measurement of each perturbation: the average for singles or combinations."""
        found, noise = self.log_noise.exp(), self.noise()
        for kind in (0, 1):
            rows = torch.as_tensor(self.is_combination) == bool(kind)
            if rows.any():
                found = torch.where(torch.arange(2) == kind, noise[rows].log().mean().exp(), found)
        return found[torch.as_tensor([int(len(p) > 1) for p in perturbations])]

    # ------------------------------------------------------------------ learning the scalars

    def prepare(self, learned_from: Sequence[int], order: Sequence[int]) -> None:
        """Precompute the inputs of every training step.

        Parameters
        ----------
        learned_from
            Training perturbations to learn from.
        order
            An order of the training perturbations that does not depend on their order in the data. The perturbations whose
            leave-one-out errors choose the penalties are evenly spread in it.
        """
        self._rows = torch.as_tensor(list(learned_from), dtype=torch.long)
        rows = [self.perturbations[i] for i in learned_from]
        self._parts = self.parts(rows, self.genes, self._similarities, rows=list(learned_from))
        effects = self.lfc[self._rows]
        self._scale = float(effects.norm(dim=1).mean()) or 1.0
        if effects.shape[1] > len(
            effects
        ):  # a rotation keeps the lengths of residuals, and this one leaves fewer columns
            values, vectors = eigh(effects @ effects.T)
            effects = vectors * values.clamp_min(0).sqrt()
        self._effects = effects
        counted = torch.as_tensor(self.is_combination)[self._rows]
        # A single's own values are in its profile, so if profiles are used, only combinations are truly left out.
        self._counted = counted if self.uses_profiles else torch.ones_like(counted)
        judged = [i for i in order if self.is_combination[i] or not self.uses_profiles]
        if len(order) > MAX_LEARNED_FROM:
            judged = judged[:: -(-len(judged) // MAX_FOR_PENALTIES)]
        self._judged = torch.as_tensor(sorted(judged))

    def left_out(self) -> Tensor:
        r"""Return the leave-one-out residuals, :math:`(A^{-1} Y)_i / (A^{-1})_{ii}`."""
        inverse = _Inverse.apply(self.kernel(self._parts) + torch.diag(self.noise(self._rows)))
        return (inverse @ self._effects) / inverse.diagonal()[:, None]

    def loss(self) -> Tensor:
        """Return the mean length of leave-one-out residuals, relative to the effects, plus the prior on the scalars."""
        length = self.left_out()[self._counted].norm(dim=1).mean() / self._scale
        departure = sum(((p - start) ** 2).sum() for p, start in zip(self.parameters(), self._starts, strict=True))
        return length + SCALAR_PRIOR * departure

    @torch.no_grad()
    def reweigh(self) -> None:
        r"""Weight perturbations by the inverse lengths of their residuals, so that the sum of lengths is minimised.

        This is one step of iteratively reweighted least squares. It keeps a few perturbations with large, unpredictable
        effects from dominating the fit, and turns the constant of the kernel into a geometric median.
        """
        length = self.left_out().norm(dim=1)
        weight = 1 / length.clamp_min(SMALLEST_LENGTH * length.median().clamp_min(1e-12))
        weight = weight / weight.mean()
        self.weight = torch.ones_like(self.row_noise).index_copy(0, self._rows, weight)

    # ------------------------------------------------------------------ the solution

    @torch.no_grad()
    def solve(self) -> None:
        """Solve for all training perturbations, with a penalty for each gene."""
        root = self.noise().sqrt()
        values, vectors = eigh(self._own_kernel().div_(root[:, None]).div_(root))
        self.values, self.vectors = values.clamp_min(0), vectors.div_(root[:, None])
        self.projected = self.vectors.T @ self.lfc
        self.penalty = self._choose_penalties(self._judged)
        self._coefficients = None

    def _own_kernel(self) -> Tensor:
        """Return the kernel between all training perturbations, computed in blocks of rows to limit memory."""
        if len(self._rows) == len(self.perturbations):
            return self.kernel(self._parts)
        found = torch.empty(len(self.perturbations), len(self.perturbations), dtype=torch.float64)
        for start in range(0, len(found), MAX_LEARNED_FROM):
            asked = self.perturbations[start : start + MAX_LEARNED_FROM]
            genes = sorted({gene for names in asked for gene in names})
            similarities = self._similarities[:, [self._place[gene] for gene in genes]]
            found[start : start + len(asked)] = self.kernel(self.parts(asked, genes, similarities))
        return found

    def left_out_with(self, penalty: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return leave-one-out residuals for given penalties of the genes, for all training perturbations or `rows`."""
        shrunk = 1 / (self.values[:, None] + penalty)
        vectors = self.vectors if rows is None else self.vectors[rows]
        return (vectors @ (self.projected * shrunk)) / (vectors.square() @ shrunk)

    def _choose_penalties(self, rows: Tensor) -> Tensor:
        """Choose each gene's penalty by its leave-one-out error in some rows, shrunk to that of all genes and its known noise."""
        pull = float(np.clip(PULL_PERTURBATIONS / len(self.values), *PULL_RANGE))
        shapes = [torch.ones(1, dtype=torch.float64)]
        if self._gene_noise is not None:
            pull = max(pull, PULL_KNOWN_NOISE)
            square = self.lfc.square().mean(0)
            signal = torch.maximum(square - self._gene_noise * self.row_noise.mean(), 0.05 * square).clamp_min(1e-12)
            ratio = self._gene_noise / signal
            shapes.append((ratio / ratio.median().clamp_min(1e-12)).clamp(1e-3, 1e3))
        weight = self.weight[rows][:, None]
        best, chosen = float("inf"), shapes[0]
        for shape in shapes:
            squares, lengths = [], []
            for multiplier in MULTIPLIERS:
                residual = self.left_out_with(multiplier * shape, rows)
                squares.append((residual.square() * weight).sum(0))
                lengths.append(float(residual.norm(dim=1).mean()))
            error = torch.stack(squares)
            relative = error / error[int(np.flatnonzero(MULTIPLIERS == 1)[0])].clamp_min(1e-30)
            choice = (relative + pull * relative.mean(1, keepdim=True)).argmin(0)
            if min(lengths) < best:
                best = min(lengths)
                chosen = shape * torch.as_tensor(MULTIPLIERS)[choice]
        return chosen

    @torch.no_grad()
    def predict(self, kernel: Tensor) -> Tensor:
        """Predict from the kernel between perturbations and the training perturbations, shape (n, n_measured)."""
        if self._coefficients is None:
            self._coefficients = self.vectors @ (self.projected / (self.values[:, None] + self.penalty))
        return kernel @ self._coefficients

    @torch.no_grad()
    def posterior_variance(self, kernel: Tensor, prior: Tensor, noise: Tensor) -> Tensor:
        """Return the variance of measured values in units of the gene's signal, shape (n, n_measured)."""
        explained = (kernel @ self.vectors).square() @ (1 / (self.values[:, None] + self.penalty))
        return (prior[:, None] - explained).clamp_min(1e-9) + noise[:, None] * self.penalty

    @torch.no_grad()
    def left_out_variance(self, rows: Tensor) -> Tensor:
        """Return this variance for training perturbations, each left out, shape (n, n_measured)."""
        return 1 / (self.vectors[rows].square() @ (1 / (self.values[:, None] + self.penalty)))

    @torch.no_grad()
    def leverage(self) -> Tensor:
        """Return how much each training prediction depends on its own measurement, shape (n,), from 0 to 1."""
        noise = self.noise()
        diagonal = (self.vectors.square() / (self.values + self.penalty.median())).sum(1)
        return (1 - noise * self.penalty.median() * diagonal).clamp(0, 1)

    @torch.no_grad()
    def influence(self, kernel: Tensor, gene: int) -> Tensor:
        """Return the weight of each training effect in the prediction of one gene, shape (n, n_training)."""
        return (kernel @ self.vectors / (self.values + self.penalty[gene])) @ self.vectors.T

    @torch.no_grad()
    def singles_left_out(self, among: Tensor) -> tuple[list[int], Tensor, Tensor]:
        """Predict singles among training perturbations as if their genes had not been perturbed alone, if profiles are used.

        The profile of each single is guessed from similar genes, and its row is left out of the solution.

        Returns
        -------
        The positions of the singles in `among`, their residuals, and the variances of these as in
        :meth:`posterior_variance`, both of shape (n_singles, n_measured). Empty if profiles are not used, because `solve`
        then truly leaves singles out.
        """
        if not self.uses_profiles or len(self.single_row) < MIN_SINGLES:
            return [], self.lfc[:0], self.lfc[:0]
        everything = list(self.single_row.values())
        columns = [self._place[gene] for gene in self.single_row]
        near = self._mean_similarity(self._similarities, columns, columns)
        position = {row: k for k, row in enumerate(among.tolist())}
        kept = [k for k, row in enumerate(everything) if row in position]
        guessed = self._guessed_profiles(self.lfc[everything], near)[kept]
        rows, columns = [everything[k] for k in kept], [columns[k] for k in kept]
        parts = self.parts([self.perturbations[i] for i in rows], self.genes, self._similarities)
        x = self.summed_profiles(self.perturbations, self.genes, self._similarities)
        # Combinations with this gene use its profile, so in them the guess replaces it too.
        holds = torch.as_tensor(np.asarray(self._sets[:, columns].toarray())).T
        inner = guessed @ x.T + holds * ((guessed - self.profiles[kept]) * guessed).sum(1)[:, None]
        kernel = self.kernel(replace(parts, profiles=inner / self.units[0]))
        kernel[torch.arange(len(rows)), rows] = 0
        shrunk = 1 / (self.values[:, None] + self.penalty)
        through, own = kernel @ self.vectors, self.vectors[rows]
        diagonal = own.square() @ shrunk
        cross = (through * own) @ shrunk
        solution = self.vectors @ (self.projected * shrunk)
        residual = self.lfc[rows] - kernel @ solution + cross * solution[rows] / diagonal
        explained = through.square() @ shrunk - cross.square() / diagonal
        one = torch.ones(len(rows), dtype=torch.float64)
        within = torch.as_tensor(
            np.stack([source.diagonal()[columns] for source in self._similarities]).astype(np.float64)
        )
        prior = self.variance(one, within, guessed, guessed=one > 0)
        variance = (prior[:, None] - explained).clamp_min(1e-9) + self.noise()[rows, None] * self.penalty
        return [position[row] for row in rows], residual, variance

    def _guessed_profiles(self, singles: Tensor, near: Tensor) -> Tensor:
        """Return the profile of each single as guessed from the other singles, in the shape of `singles`."""
        inverse = torch.linalg.inv(near + torch.eye(len(singles)))
        return singles - self.profile_weights / inverse.diagonal()[:, None]


def even_choice(labels: Sequence[str], n: int) -> list[int]:
    """Return the positions of at most `n` perturbations, chosen evenly and independently of their order."""
    order = order_of(labels)
    return list(range(len(labels))) if len(labels) <= n else sorted(order[k * len(order) // n] for k in range(n))


def order_of(labels: Sequence[str]) -> list[int]:
    """Return the positions that sort labels into an order independent of the given one."""
    return sorted(range(len(labels)), key=lambda i: labels[i])


def summed(a: sparse.csr_matrix, similarity: NDArray[np.floating], b: sparse.csr_matrix) -> NDArray[np.float64]:
    """Return the summed similarities between the genes of two memberships `a` and `b`."""
    return np.ascontiguousarray(np.asarray(b @ np.asarray(a @ similarity).T).T)


def _scalar(start: Any) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(start, dtype=torch.float64).clone())


def _positive(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, torch.ones_like(value))


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
