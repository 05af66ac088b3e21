"""Combinations as a scaled sum of their genes' effects, and what similar combinations leave over."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from scapp._genes import shorten
from scapp._labels import Perturbation, format_label
from scapp._training_effects import TrainingEffects
from scapp._warn import warn_user
from scapp.baselines._additive import ShrunkAdditive
from scapp.baselines._kernel_ridge import choose_ridge, solve_ridge

if TYPE_CHECKING:
    from numpy.typing import NDArray

# With fewer combinations, the residuals say nothing about other combinations.
MIN_COMBINATIONS = 4
WIDTHS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0)


class ResidualKernel(ShrunkAdditive):
    """The shrunk additive model, plus kernel ridge regression on its residuals for the training combinations.

    A subclass says what its kernel is made of (`_choose`), and calculates it (`_between`).
    """

    def _fit(self, training: TrainingEffects) -> None:
        super()._fit(training)
        rows = [i for i in self._summable(training.perturbations) if self._takes(training.perturbations[i])]
        self._combinations = [training.perturbations[i] for i in rows]
        self._coefficients: NDArray[np.float64] | None = None
        residual = training.lfc[rows] - self._scaled_sum(self._combinations)
        if len(rows) < MIN_COMBINATIONS:
            warn_user(
                f"Only {len(rows)} training combination(s) can be compared with the sum of their genes' measured effects; "
                f"{type(self).__name__} needs {MIN_COMBINATIONS} to learn from the residuals of the sum. Predictions are those "
                "of scapp.baselines.ShrunkAdditive."
            )
        elif residual.any():
            kernel, ridge = self._choose(self._combinations, residual)
            self._coefficients = solve_ridge(kernel, residual, ridge)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        predicted = super()._predict(perturbations)
        rows = [i for i, genes in enumerate(perturbations) if len(genes) > 1 and self._takes(genes)]
        if self._coefficients is not None and rows:
            asked = [perturbations[i] for i in rows]
            predicted[rows] += self._between(asked, self._combinations) @ self._coefficients
        return predicted

    def _takes(self, genes: Perturbation) -> bool:
        """Return whether the kernel is defined for a combination."""
        return True

    @abstractmethod
    def _choose(
        self, combinations: list[Perturbation], residual: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        """Choose hyper-parameters by the training combinations; the kernel between them, and the penalty."""

    @abstractmethod
    def _between(self, asked: list[Perturbation], others: list[Perturbation]) -> NDArray[np.float64]:
        """Return the kernel, of shape (n_asked, n_others)."""


class PairKernel(ResidualKernel):
    r"""Predict a pair as the shrunk sum of its genes' effects, plus the residuals of similar pairs.

    .. math:: \hat y_{AB} = c\,(y_A + y_B) + \sum_{CD} k(AB, CD)\, \alpha_{CD}, \qquad
        \alpha = (K + \lambda I)^{-1} R,

    with the scale :math:`c` and the residuals :math:`R = y_{CD} - c\,(y_C + y_D)` of :class:`ShrunkAdditive`, and

    .. math:: k(AB, CD) = \tfrac{1}{2} \bigl[ g(A, C)\, g(B, D) + g(A, D)\, g(B, C) \bigr], \qquad
        g(A, C) = \exp \bigl( -(1 - \cos(y_A, y_C)) / \gamma \bigr),

    the symmetric product kernel over pairs :cite:p:`BenHur2005`, from the similarities of their genes' measured
    effects. :math:`\gamma` and :math:`\lambda` minimise the squared leave-one-out error on the training pairs, in
    closed form :cite:p:`Allen1974`.

    A gene that was not perturbed alone in training gets the mean effect of single perturbations, and a
    warning names it. Single perturbations are predicted as measured. Combinations of more than two genes are predicted as
    by :class:`ShrunkAdditive`, with a warning, and are not part of :math:`K`. :attr:`width` and :attr:`ridge` hold the
    hyper-parameters.

    Examples
    --------
    >>> PairKernel().fit(effects).predict(["KLF1+CEBPA"])
    """

    _width: float | None = None
    _ridge: float | None = None

    @property
    def width(self) -> float | None:
        r"""The width :math:`\gamma` of the similarity of genes; None before it is chosen."""
        return self._width

    @property
    def ridge(self) -> float | None:
        r"""The penalty :math:`\lambda`; None before it is chosen."""
        return self._ridge

    def _takes(self, genes: Perturbation) -> bool:
        return len(genes) == 2

    def _choose(
        self, combinations: list[Perturbation], residual: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        gram = residual @ residual.T
        cosines = self._cosines(combinations, combinations)
        found = []
        for width in WIDTHS:
            ridge, error = choose_ridge(_pair_kernel(cosines, width), gram)
            found.append((error, width, ridge))
        _, self._width, self._ridge = min(found)
        return _pair_kernel(cosines, self._width), self._ridge

    def _between(self, asked: list[Perturbation], others: list[Perturbation]) -> NDArray[np.float64]:
        assert self._width is not None
        return _pair_kernel(self._cosines(asked, others), self._width)

    def _predict(self, perturbations: list[Perturbation]) -> NDArray[np.float64]:
        larger = [format_label(genes) for genes in perturbations if len(genes) > 2]
        if larger:
            warn_user(
                f"{len(larger)} combination(s) are of more than two genes, and are predicted as the scaled sum alone: "
                f"{shorten(larger)}."
            )
        return super()._predict(perturbations)

    def _cosines(self, asked: list[Perturbation], others: list[Perturbation]) -> NDArray[np.float64]:
        """Return cosines of the first and second gene of each pair with those of others: (2, 2, n_asked, n_others)."""
        left, right = self._directions(asked), self._directions(others)
        return np.einsum("ipg,jqg->ijpq", left, right, optimize=True)

    def _directions(self, pairs: list[Perturbation]) -> NDArray[np.float64]:
        profiles = np.array([[self._singles.get(pair[i], self._mean_single) for pair in pairs] for i in range(2)])
        length = np.linalg.norm(profiles, axis=-1, keepdims=True)
        return np.divide(profiles, length, out=np.zeros_like(profiles), where=length > 0)


class GaussianProcess(ResidualKernel):
    r"""Predict a combination as the shrunk sum of its genes' effects, plus a Gaussian process on the residuals.

    .. math:: \hat y_p = c\, x_p + \sum_q k(p, q)\, \alpha_q, \qquad \alpha = (K + \lambda I)^{-1} R, \qquad
        x_p = \sum_{g \in p} y_g,

    with the scale :math:`c` and the residuals :math:`R = y_q - c\, x_q` of :class:`ShrunkAdditive`, and the kernel

    .. math:: k(p, q) = a_0 + a_1 \frac{\langle x_p, x_q \rangle}{\langle x, x \rangle}
        + a_2 \exp \Bigl( - \frac{\lVert x_p - x_q \rVert^2}{2\, \ell\, m} \Bigr)
        + a_3 \frac{\lvert p \cap q \rvert}{\sqrt{\lvert p \rvert \lvert q \rvert}},

    where the denominators are the mean squared length of the training sums and :math:`m` the median of their squared
    distances. The genes share the kernel. The variances :math:`a_i`, the length :math:`\ell` and the noise
    :math:`\lambda` maximise the marginal likelihood of the residuals of the training combinations
    :cite:p:`Rasmussen2006`; the prediction is the mean of the posterior.

    A gene that was not perturbed alone in training gets the mean effect of single perturbations, and a
    warning names it. Single perturbations are predicted as measured. :attr:`hyperparameters` holds the
    hyper-parameters.

    Examples
    --------
    >>> GaussianProcess().fit(effects).predict(["KLF1+CEBPA"])
    """

    _log_parameters: NDArray[np.float64] | None = None
    _NAMES = ("constant", "linear", "similar sum", "shared genes", "length", "noise")

    @property
    def hyperparameters(self) -> dict[str, float] | None:
        """Variances of the four parts of the kernel, length and noise, by name; None before they are chosen."""
        if self._log_parameters is None:
            return None
        return dict(zip(self._NAMES, np.exp(self._log_parameters).tolist(), strict=True))

    def _choose(
        self, combinations: list[Perturbation], residual: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        sums = self._sum(combinations)
        self._size = float(np.mean(np.sum(sums**2, axis=1)))
        distances = _squared_distances(sums, sums)
        between = distances[np.triu_indices(len(sums), 1)]
        # Equal sums have no distances to take a unit from.
        self._unit = float(np.median(between)) or self._size
        parts = self._parts(combinations, combinations)
        gram = residual @ residual.T
        variance = float(np.mean(residual**2))
        # Equal shares of the variance for the five parts.
        start = np.log([variance / 4] * 4 + [0.5, variance / 4])
        bounds = [(value - 12, value + 6) for value in start[:4]] + [(-4.0, 4.0), (start[5] - 8, start[5] + 6)]
        best = minimize(_negative_log_likelihood, start, args=(parts, gram, residual.shape[1]), jac=True, bounds=bounds)
        self._log_parameters = best.x
        return _weighted(parts, best.x), float(np.exp(best.x[5]))

    def _between(self, asked: list[Perturbation], others: list[Perturbation]) -> NDArray[np.float64]:
        assert self._log_parameters is not None
        return _weighted(self._parts(asked, others), self._log_parameters)

    def _parts(self, asked: list[Perturbation], others: list[Perturbation]) -> list[NDArray[np.float64]]:
        """Return the constant, the linear kernel, distances in their unit, and shared genes; each (n_asked, n_others)."""
        left, right = self._sum(asked), self._sum(others)
        shared = [[len(set(p) & set(q)) / np.sqrt(len(p) * len(q)) for q in others] for p in asked]
        return [
            np.ones((len(asked), len(others))),
            left @ right.T / self._size,
            _squared_distances(left, right) / self._unit,
            np.array(shared),
        ]


def _pair_kernel(cosines: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    similar = np.exp(-(1 - cosines) / width)
    return (similar[0, 0] * similar[1, 1] + similar[0, 1] * similar[1, 0]) / 2


def _squared_distances(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = np.sum(left**2, axis=1)[:, None] + np.sum(right**2, axis=1)
    return np.maximum(squares - 2 * left @ right.T, 0)


def _terms(parts: list[NDArray[np.float64]], log_parameters: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    variance, length = np.exp(log_parameters[:4]), np.exp(log_parameters[4])
    constant, linear, distance, shared = parts
    shapes = [constant, linear, np.exp(-distance / (2 * length)), shared]
    return [a * shape for a, shape in zip(variance, shapes, strict=True)]


def _weighted(parts: list[NDArray[np.float64]], log_parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sum(_terms(parts, log_parameters), axis=0)


def _negative_log_likelihood(
    log_parameters: NDArray[np.float64], parts: list[NDArray[np.float64]], gram: NDArray[np.float64], n_targets: int
) -> tuple[float, NDArray[np.float64]]:
    """Return the negative log likelihood per target, without its constant, for the Gram matrix `gram`, and its gradient."""
    noise = float(np.exp(log_parameters[5]))
    terms = _terms(parts, log_parameters)
    identity = np.eye(len(gram))
    factor = np.linalg.cholesky(np.sum(terms, axis=0) + noise * identity)
    half = np.linalg.solve(factor, identity)
    inverse = half.T @ half
    scaled = gram / n_targets
    value = float(np.sum(inverse * scaled)) / 2 + float(np.log(np.diag(factor)).sum())
    slope = (inverse - inverse @ scaled @ inverse) / 2
    by_length = terms[2] * parts[2] / (2 * np.exp(log_parameters[4]))
    gradient = [float(np.sum(slope * term)) for term in (*terms, by_length)]
    return value, np.array([*gradient, noise * float(np.trace(slope))])
