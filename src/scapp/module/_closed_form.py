"""Prediction in closed form: one kernel over single and combined perturbations that accounts for measurement noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scapp.module._evidence import Evidence, Genes, eigh
from scapp.module._kernel import Asked, PerturbationKernel, scalar

# Multipliers of the penalty to choose from for each gene, and how strongly its choice is shrunk towards that of all
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


class ClosedForm(PerturbationKernel):
    r"""Gaussian process over perturbations whose scalars are learned on leave-one-out errors.

    For sets of genes P and Q,

    .. math::
        K(P, Q) = u_P u_Q \sum_{p \in P, q \in Q} \Bigl[a_0 + a_1 (p = q) + \sum_m a_m k_m(p, q) + a_x \langle x_p, x_q \rangle\Bigr]
        + (P, Q \text{ combinations}) \Bigl[b_0 + b_1 \tfrac{|P \cap Q|}{\sqrt{|P| |Q|}} + b_2 \langle x_P, x_Q \rangle
        + b_3 e^{-\lVert x_P - x_Q \rVert^2 / 2 \ell}\Bigr],

    where :math:`k_m` is the similarity of two genes by source m, :math:`x_P` is the sum of the denoised effects of the
    genes in P, and u is 1 for single perturbations and one learned number below 1 for combinations. Gene j is predicted as
    :math:`K_P (K + \lambda_j D)^{-1} y_j`, where D is the noise of each perturbation and :math:`\lambda_j` the penalty of
    the gene, from its known noise or its leave-one-out error :cite:p:`Rasmussen2006,Allen1974`.

    The mean, the shrunk additive model, kernel ridge regression and the partner mean are special cases.

    Parameters
    ----------
    evidence
        Similarities of genes.
    perturbations
        Nodes of each training perturbation.
    n_measured
        Number of measured genes.
    """

    weight: Tensor
    row_noise: Tensor
    penalty: Tensor
    values: Tensor
    vectors: Tensor
    projected: Tensor
    knows_noise: Tensor

    def __init__(self, evidence: Evidence, perturbations: Sequence[Genes], n_measured: int):
        super().__init__(evidence, perturbations, n_measured)
        self.log_noise = scalar([-1.0, -1.0])  # for singles, for combinations
        self.known_noise = scalar(0.0)  # logit of the share of the noise that is proportional to the known noise
        self._starts = [p.detach().clone() for p in self.parameters()]
        n = len(self.perturbations)
        for name, length in {"weight": n, "row_noise": n, "penalty": n_measured, "values": n}.items():
            self.register_buffer(name, torch.ones(length, dtype=torch.float64))
        # Unwritten zeros take no memory.
        self.register_buffer("vectors", torch.zeros(n, n, dtype=torch.float64))
        self.register_buffer("projected", torch.zeros(n, n_measured, dtype=torch.float64))
        self.register_buffer("knows_noise", torch.zeros((), dtype=torch.bool))
        self._gene_noise: Tensor | None = None
        self._coefficients: Tensor | None = None

    # ------------------------------------------------------------------ the training perturbations

    @torch.no_grad()
    def set_effects(self, lfc: Tensor, *, row_noise: Tensor | None, gene_noise: Tensor | None) -> None:
        """Store the training effects, and precompute everything that stays constant while the scalars are learned.

        Parameters
        ----------
        lfc
            Training effects, shape (n, n_measured).
        row_noise, gene_noise
            Noise of each perturbation, with median one, and of each gene; their product is the variance of a value. None
            if unknown.
        """
        self.lfc, self._gene_noise = lfc.double(), gene_noise
        self.knows_noise.fill_(row_noise is not None)
        self.row_noise = torch.ones(len(lfc), dtype=torch.float64) if row_noise is None else row_noise.double()
        if self.has_combinations:
            self.fit_profiles()

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
        self._parts = self.parts(Asked(rows, self.genes, self.similarities), rows=learned_from)
        effects = self.lfc[self._rows]
        self._scale = float(effects.norm(dim=1).mean()) or 1.0
        if effects.shape[1] > len(
            effects
        ):  # a rotation keeps the lengths of residuals, and this one leaves fewer columns
            values, vectors = eigh(effects @ effects.T)
            effects = vectors * values.clamp_min(0).sqrt()
        self._effects = effects
        counted = torch.as_tensor(self.is_combination)[self._rows]
        # A single's own values are in its profile, so where profiles are used, only combinations are truly left out.
        self._counted = counted if self.has_combinations else torch.ones_like(counted)
        judged = [i for i in order if self.is_combination[i] or not self.has_combinations]
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
        whole = len(self._rows) == len(self.perturbations)
        kernel = self.kernel(self._parts) if whole else self.own_kernel(MAX_LEARNED_FROM)
        values, vectors = eigh(kernel.div_(root[:, None]).div_(root))
        self.values, self.vectors = values.clamp_min(0), vectors.div_(root[:, None])
        self.projected = self.vectors.T @ self.lfc
        self.penalty = self._choose_penalties(self._judged)
        self._coefficients = None

    def left_out_with(self, penalty: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return leave-one-out residuals for given penalties of the genes, for all training perturbations or `rows`."""
        shrunk = 1 / (self.values[:, None] + penalty)
        vectors = self.vectors if rows is None else self.vectors[rows]
        return (vectors @ (self.projected * shrunk)) / (vectors.square() @ shrunk)

    def _choose_penalties(self, rows: Tensor) -> Tensor:
        """Choose each gene's penalty by its leave-one-out error in some rows, shrunk to that of all genes and its known noise."""
        pull = float(np.clip(PULL_PERTURBATIONS / max(len(rows), 1), *PULL_RANGE))
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


def even_choice(labels: Sequence[str], n: int) -> list[int]:
    """Return the positions of at most `n` perturbations, chosen evenly and independently of their order."""
    order = order_of(labels)
    return list(range(len(labels))) if len(labels) <= n else sorted(order[k * len(order) // n] for k in range(n))


def order_of(labels: Sequence[str]) -> list[int]:
    """Return the positions that sort labels into an order independent of the given one."""
    return sorted(range(len(labels)), key=lambda i: labels[i])
