"""Estimate the errors of predictions from the leave-one-out residuals of the training perturbations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor, nn

# Share of a normal distribution within +-1.2816 standard deviations; the interval with this coverage is calibrated.
LEVEL, HALF_WIDTH = 0.8, 1.2815515655446004
# Entries are grouped by the size of their prediction over its typical error: the smaller half in equal parts, then
# the next quarter, the next eighth and so on, while a group has at least this many entries.
MIN_ENTRIES, MAX_GROUPS, N_SMALL = 500, 15, 4
QUANTILES = torch.cat(
    [torch.tensor([0.001, 0.0025, 0.005]), torch.linspace(0.01, 0.99, 99), torch.tensor([0.995, 0.9975, 0.999])]
).double()
GROWTH = 0.95  # maximum growth of a standard deviation with the size of the prediction
N_FOLDS = 10
# Errors of different genes are correlated along a few directions, for which this many rows are enough.
N_FACTORS, MAX_ROWS = 16, 1000


class Calibration(nn.Module):
    r"""Distribution of the error of each predicted value.

    The closed form gives each value a typical error :math:`t_{Pj} = \tau_j \sqrt{v_{Pj}}` from its posterior variance v.
    For left-out training perturbations, the quantiles of the errors of values with similar :math:`|\hat y| / t` are
    stored, in units of t and in the direction of the prediction. This is conformal prediction within groups
    :cite:p:`Lei2018,Vovk2005`. The quantiles give the standard deviation (the 80 % interval contains 80 % of the
    errors) and the probability of any change.

    Parameters
    ----------
    n_genes
        Number of genes.
    """

    def __init__(self, n_genes: int):
        super().__init__()
        self.register_buffer("scale", torch.ones(n_genes, dtype=torch.float64))
        self.register_buffer("knots", torch.arange(MAX_GROUPS, dtype=torch.float64))
        self.register_buffer("widths", torch.ones(MAX_GROUPS, dtype=torch.float64))
        self.register_buffer("errors", torch.zeros(MAX_GROUPS, len(QUANTILES), dtype=torch.float64))
        self.register_buffer("factors", torch.zeros(N_FACTORS, n_genes, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, residuals: Tensor, predicted: Tensor, variance: Tensor) -> None:
        """Learn from left-out perturbations; all arguments have the shape (n_perturbations, n_genes)."""
        # Use a fixed order, so that neither the rows nor their folds depend on the order of the perturbations.
        rows = residuals.square().sum(1).argsort(stable=True)[:: -(-len(residuals) // MAX_ROWS)]
        residuals, predicted, root = residuals[rows], predicted[rows], variance[rows].sqrt()
        square = (residuals / root).square()
        n, common = len(square), square.mean()
        # Few rows cannot determine the scale of a gene, so it is shrunk to the common one, the more the rows disagree.
        reliability = _reliability(square)
        self.scale = torch.lerp(common, square.mean(0), reliability).sqrt().clamp_min(1e-9)
        # The scale by which the error of a row is judged must not depend on that row.
        others = (square.sum(0) - square) / max(n - 1, 1)
        without = torch.lerp(common, others, reliability).sqrt().clamp_min(1e-9)
        typical = root * without
        error = (residuals * torch.where(predicted < 0, -1.0, 1.0) / typical).flatten()
        size = _log_size(predicted, typical).flatten()
        fold = (torch.arange(len(residuals)) % N_FOLDS)[:, None].expand_as(residuals).flatten()
        order = size.argsort()
        error, size, fold = error[order], size[order], fold[order]
        n = len(size)
        n_groups = min(MAX_GROUPS, N_SMALL + (n // 2 // MIN_ENTRIES).bit_length())
        small = [k * n // (2 * N_SMALL) for k in range(N_SMALL)]
        ends = [*small, *(n - (n // 2 >> k) for k in range(n_groups - N_SMALL)), n]
        groups = [slice(a, b) for a, b in itertools.pairwise(ends)]
        knots = torch.stack([size[(group.start + group.stop) // 2] for group in groups])
        # The interval must contain enough of the n similar rows that it contains a new one with the required
        # probability.
        wanted = min(LEVEL * (1 + 1 / len(residuals)), 1.0)
        half = torch.stack([_half_interval(error[group].abs(), fold[group], wanted) for group in groups]).clamp_min(
            1e-6
        )
        widths = _ordered(half / HALF_WIDTH, knots, [group.stop - group.start for group in groups])
        beyond = torch.arange(1, MAX_GROUPS - n_groups + 1).to(knots)
        self.knots = torch.cat([knots, knots[-1] + beyond])
        self.widths = torch.cat([widths, widths[-1].expand(len(beyond))])
        # In units of the standard deviations, which come from the 80 % interval, so tails beyond it are shared by all
        # errors.
        self.factors = _factors(residuals / self.std(predicted, variance[rows]))
        errors = torch.stack([torch.quantile(_thinned(error[group]), QUANTILES) for group in groups])
        self.errors = torch.cat([errors, errors[-1].expand(len(beyond), -1)])

    @torch.no_grad()
    def std(self, predicted: Tensor, variance: Tensor) -> Tensor:
        """Return the standard deviations of new predictions, in the shape of `predicted`."""
        typical = variance.sqrt() * self.scale
        left, step = _place(_log_size(predicted, typical), self.knots)
        return typical * self._width(left, step)

    @torch.no_grad()
    def change(self, predicted: Tensor, std: Tensor, threshold: float) -> Tensor:
        """Return the probability that a measured change exceeds `threshold`, up or down, given standard deviations."""
        # The size over the standard deviation grows with the size over the typical error, so it determines the group too.
        left, step = _place(_log_size(predicted, std), self.knots - self.widths.log())
        typical = std / self._width(left, step)
        size, bound = (predicted.abs() / typical).flatten().numpy(), (threshold / typical).flatten().numpy()
        # Process group by group; after sorting the values by group, each is a slice.
        group, share = left.flatten().numpy().astype(np.uint8), step.flatten().numpy()
        order = group.argsort(kind="stable")
        size, bound, share = size[order], bound[order], share[order]
        sorted_found = np.empty_like(size)
        ends = np.searchsorted(group[order], np.arange(MAX_GROUPS))
        for k, (start, end) in enumerate(itertools.pairwise(ends)):
            at = slice(start, end)
            below, above = (self._beyond(j, bound[at], size[at]) for j in (k, k + 1))
            sorted_found[at] = (1 - share[at]) * below + share[at] * above
        found = np.empty_like(sorted_found)
        found[order] = sorted_found
        return torch.as_tensor(found.clip(0, 1)).reshape(predicted.shape)

    def _width(self, left: Tensor, step: Tensor) -> Tensor:
        """Interpolate widths between knots on a log scale, on which they never grow faster than the size."""
        log_widths = self.widths.log()
        return torch.lerp(log_widths[left], log_widths[left + 1], step).exp_()

    def _beyond(self, group: int, bound: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability that a value with the errors of a group lies beyond a bound, by interpolation of quantiles."""
        errors, level = self.errors[group].numpy(), QUANTILES.numpy()
        tail = 0.5 * level[0]
        over, under = (np.interp(x, errors, level, left=tail, right=1 - tail) for x in (bound - size, -bound - size))
        return 1 - over + under


def _reliability(square: Tensor) -> Tensor:
    """Return the reliability of column means: one minus the residual mean square over the mean square of columns.

    This is Hoyt's estimate from the analysis of variance :cite:p:`Hoyt1941`.
    """
    n, means = len(square), square.mean(0) - square.mean()
    if n < 2:
        return square.new_zeros(())
    left = square - square.mean(1, keepdim=True) - means
    return (1 - left.square().sum() / (n * (n - 1)) / means.square().sum().clamp_min(1e-30)).clamp(0, 1)


def _factors(standardised: Tensor) -> Tensor:
    """Return the leading principal components of standardised residuals; their squares sum to at most one."""
    values, vectors = torch.linalg.eigh(standardised @ standardised.T)
    kept = vectors[:, -N_FACTORS:] * (values[-N_FACTORS:] > 1e-6 * values[-1])
    found = kept.T @ standardised / len(standardised) ** 0.5
    found = found / found.square().sum(0).sqrt().clamp_min(1)
    return torch.cat([found, found.new_zeros(N_FACTORS - len(found), found.shape[1])])


def _half_interval(error: Tensor, fold: Tensor, wanted: float) -> Tensor:
    """Return half the width of the interval for the errors of rows that were not used to choose it."""
    levels = torch.arange(LEVEL, 1, 0.005).to(error)
    inside = torch.zeros(len(levels), dtype=torch.float64)
    ordered, order = error.sort()
    fold = fold[order]
    for k in fold.unique():
        asked, others = ordered[fold == k], ordered[fold != k]
        if len(others):
            inside += torch.searchsorted(asked, _quantiles(others, levels), right=True)
    enough = (inside >= wanted * len(error)).nonzero()
    return _quantiles(ordered, levels)[enough[0, 0] if len(enough) else -1]


def _ordered(widths: Tensor, knots: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the nearest widths for which a larger prediction is never less certain than a smaller one."""
    size = GROWTH * knots.numpy()
    rising = isotonic_regression(widths.log().numpy(), weights=counts).x
    relative = isotonic_regression(rising - size, weights=counts, increasing=False).x
    return torch.as_tensor(relative + size).exp()


def _place(size: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the knot to the left of each size, and the fractional distance to the next knot."""
    left = torch.searchsorted(knots, size.contiguous()).clamp(1, len(knots) - 1) - 1
    step = ((size - knots[left]) / (knots[left + 1] - knots[left]).clamp_min(1e-12)).clamp(0, 1)
    return left, step


def _log_size(predicted: Tensor, typical: Tensor) -> Tensor:
    return (predicted.abs() / typical).clamp_min(1e-6).log()


def _quantiles(ordered: Tensor, levels: Tensor) -> Tensor:
    return ordered[
        (levels * len(ordered)).long().clamp_max(len(ordered) - 1)
    ]  # torch.quantile refuses 16 million values


def _thinned(values: Tensor, n: int = 1_000_000) -> Tensor:
    return values.sort().values[:: max(1, -(-len(values) // n))]
