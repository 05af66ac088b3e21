"""How wrong a prediction may be, learned from the residuals of leaving out each training perturbation."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

# Of a normal distribution within +-1.2816 standard deviations: the interval whose coverage is set.
LEVEL, HALF_WIDTH = 0.8, 1.2815515655446004
# Fewer residuals than this say nothing about which perturbations are hard to predict.
MIN_ROWS = 10
# Strength of the belief that errors do not depend on size and distance, in rows.
SHRINKAGE = 5.0
# Of the entries, the half that is predicted to change most is divided by size, half of the rest into the next part: as long
# as a part has this many entries, and into so many parts at most. Smaller entries stay together, as effects that were set
# to zero below a threshold have residuals there which are the predictions themselves.
N_TAIL, MIN_ENTRIES, MAX_PARTS = 2, 1000, 12
# Errors of different genes go together along a few directions; more rows than these cost much and tell little about them.
N_FACTORS, MAX_ROWS = 16, 1000


class Calibration(nn.Module):
    r"""Standard deviations :math:`\sigma_{Pg} = w(\lvert \hat y_{Pg} \rvert / t_{Pg})\, t_{Pg}` of predictions.

    The typical error is :math:`t_{Pg} = \tau\, n_g \exp(a + b \log \lVert \hat y_P \rVert + c \log v_P)`.

    Large effects are predicted with larger errors, and so are perturbations far from all training perturbations: b and c
    are the regression of the logarithm of each residual's length on the size of the prediction and on the decoder's
    posterior variance; :math:`n_g` is the share of gene g in the residuals; :math:`\tau` makes the 80 % interval hold
    80 % of the leave-one-out residuals, as split-conformal prediction does :cite:p:`Lei2018`.

    The genes that are predicted to change most are the ones that people look at, and their errors are larger than those of
    the many that hardly change. So w, a non-decreasing function, makes the interval hold 80 % of the residuals among
    entries of similar predicted size (Mondrian conformal prediction :cite:p:`Vovk2005`): the smaller half of the entries, the next
    quarter, the next eighth and so on to the largest.

    Errors of different genes go together: their correlation is that of the residuals, described by its leading factors F
    (`factors`, of shape (n_factors, n_genes)) and what they leave to each gene alone. An error is
    :math:`\sigma_{Pg} (\sum_k z_k F_{kg} + u_g \sqrt{1 - \sum_k F_{kg}^2})` with standard normal z and u.

    Parameters
    ----------
    n_genes
        Number of genes.
    """

    noise: Tensor
    slopes: Tensor
    center: Tensor
    level: Tensor
    sizes: Tensor
    widths: Tensor
    factors: Tensor

    def __init__(self, n_genes: int):
        super().__init__()
        self.register_buffer("noise", torch.zeros(n_genes))
        self.register_buffer("slopes", torch.zeros(2))
        self.register_buffer("center", torch.zeros(2))
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("sizes", torch.arange(MAX_PARTS, dtype=torch.float32))
        self.register_buffer("widths", torch.zeros(MAX_PARTS))
        self.register_buffer("factors", torch.zeros(N_FACTORS, n_genes))

    @torch.no_grad()
    def fit(self, residuals: Tensor, predicted: Tensor, distance: Tensor) -> None:
        """Learn from left-out perturbations.

        Parameters
        ----------
        residuals, predicted
            Of shape (n_perturbations, n_genes).
        distance
            Posterior variance of each, of shape (n_perturbations,).
        """
        length = residuals.square().mean(1).sqrt().clamp_min(1e-12)
        covariates = _covariates(predicted, distance)
        self.center.copy_(covariates.mean(0))
        self.slopes.zero_()
        if len(length) >= MIN_ROWS:
            x, y = covariates - self.center, length.log() - length.log().mean()
            spread = x.square().mean(0).sqrt().clamp_min(1e-6)
            x = x / spread
            gram = x.T @ x + SHRINKAGE * torch.eye(2, device=x.device)
            # An error that shrinks with size or distance is chance.
            self.slopes.copy_((torch.linalg.solve(gram, x.T @ y) / spread).clamp_min(0))
        self.level.copy_(length.log().mean())
        scale = self._scale(covariates)
        self.noise.copy_((residuals / scale[:, None]).square().mean(0).sqrt().clamp_min(1e-12))
        self.factors.copy_(_factors(residuals / (scale[:, None] * self.noise)))
        some = slice(None, None, -(-len(residuals) // MAX_ROWS))
        typical = scale[some, None] * self.noise
        self.level += _half_width(residuals[some].abs() / typical).log()
        typical = typical * (self.level - length.log().mean()).exp()
        self._fit_widths(residuals[some].abs() / typical, _log_size(predicted[some], typical))

    def forward(self, predicted: Tensor, distance: Tensor) -> Tensor:
        """Standard deviations of new predictions, of the shape of `predicted`."""
        typical = self._scale(_covariates(predicted, distance))[:, None] * self.noise
        return typical * _interpolate(_log_size(predicted, typical), self.sizes, self.widths).exp()

    def _fit_widths(self, ratio: Tensor, size: Tensor) -> None:
        """The logarithm of w: one value up to the first knot, and one at the median size of each further part."""
        order = size.flatten().argsort()
        ratio, size = ratio.flatten()[order], size.flatten()[order]
        n_tail = len(size) // N_TAIL
        n_parts = min(MAX_PARTS, 1 + (n_tail // MIN_ENTRIES).bit_length())
        ends = [0, *(len(size) - (n_tail >> k) for k in range(n_parts - 1)), len(size)]
        parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
        widths = torch.stack([_half_width(ratio[part]).log() for part in parts])
        widths = widths.cummax(0).values
        knots = torch.stack([size[ends[1] - 1], *(size[(part.start + part.stop) // 2] for part in parts[1:])])
        beyond = torch.arange(1, MAX_PARTS - n_parts + 1).to(knots)
        self.sizes.copy_(torch.cat([knots, knots[-1] + beyond]))
        self.widths.copy_(torch.cat([widths, widths[-1].expand(len(beyond))]))

    def _scale(self, covariates: Tensor) -> Tensor:
        return torch.exp(self.level + (covariates - self.center) @ self.slopes)


def _factors(standardised: Tensor) -> Tensor:
    """Leading principal components of residuals, scaled so that their squares sum to at most one in each gene."""
    rows = standardised[:: -(-len(standardised) // MAX_ROWS)]
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    kept = vectors[:, -N_FACTORS:] * (values[-N_FACTORS:] > 1e-6 * values[-1])
    found = kept.T @ rows / len(rows) ** 0.5
    # Every gene has the mean square one over all rows, and not quite over some of them.
    found = found / found.square().sum(0).sqrt().clamp_min(1)
    return torch.cat([found, found.new_zeros(N_FACTORS - len(found), found.shape[1])])


def _covariates(predicted: Tensor, distance: Tensor) -> Tensor:
    size = predicted.square().mean(1).sqrt()
    return torch.stack([size.clamp_min(1e-6).log(), distance.clamp_min(1e-4).log()], dim=1)


def _log_size(predicted: Tensor, typical: Tensor) -> Tensor:
    return (predicted.abs() / typical).clamp_min(1e-6).log()


def _half_width(ratio: Tensor) -> Tensor:
    """Factor of standard deviations with which the interval holds its share of the ratios of errors to them."""
    ordered = ratio.flatten().sort().values  # torch.quantile refuses more than 16 million values
    return (ordered[min(int(LEVEL * len(ordered)), len(ordered) - 1)] / HALF_WIDTH).clamp_min(1e-6)


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear, constant beyond the first and the last knot."""
    right = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    step = ((x - knots[right - 1]) / (knots[right] - knots[right - 1]).clamp_min(1e-12)).clamp(0, 1)
    return torch.lerp(values[right - 1], values[right], step)
