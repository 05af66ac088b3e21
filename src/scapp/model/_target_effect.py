"""Predict the unmeasured effect of a perturbation on its own target from those of other perturbations on theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from scapp._effects import DIRECTION, perturbation_type
from scapp.model._effects import measured_targets
from scapp.model._inputs import ModelInputs

# Minimum number of measured targets of a kind for an estimate.
MIN_TARGETS = 5


@dataclass(frozen=True)
class _Line:
    """Own log-fold-change = intercept + slope * control mean, with the root mean square of its leave-one-out residuals."""

    intercept: float
    slope: float
    error: float


@dataclass(frozen=True)
class TargetEffect:
    """Predict the change of targets themselves, by kind of perturbation.

    Neither network nor features say that the guide acts directly on the perturbed gene, so the model alone predicts the
    change of the target like that of any other gene. The changes of other targets under perturbations of the same kind
    predict it much better: by their mean, or by a line in the expression of the target in control cells if that is
    known and predicts left-out targets better.

    Parameters
    ----------
    lines
        The estimate for each kind with enough measured targets.
    column
        Position of each measured node among the measured genes.
    control_mean
        Mean expression of control cells over the nodes; None if unknown.
    singles
        Nodes that were perturbed alone; their own effects are measured.
    """

    lines: dict[str, _Line]
    column: dict[int, int]
    control_mean: np.ndarray | None
    singles: frozenset[int]

    @classmethod
    def fit(cls, registered: ModelInputs, targets: np.ndarray) -> TargetEffect:
        """Estimate from the training effects, shape (n_perturbations, n_measured)."""
        column = {node: place for place, node in enumerate(np.flatnonzero(registered.measured).tolist())}
        found: dict[str, list[tuple[float, float]]] = {}
        kinds = registered.kinds or [""] * len(registered.perturbations)
        for kind, row, node in measured_targets(registered.perturbations, kinds, column):
            level = 0.0 if registered.control_mean is None else float(registered.control_mean[node])
            found.setdefault(kind, []).append((level, float(targets[row, column[node]])))
        lines = {kind: _fit(np.array(pairs)) for kind, pairs in found.items() if len(pairs) >= MIN_TARGETS}
        singles = frozenset(genes[0] for genes in registered.perturbations if len(genes) == 1)
        return cls(lines, column, registered.control_mean, singles)

    def kind_for(self, kind: str | None) -> str | None:
        """Return the kind to assume for perturbations of unknown kind: the given one, or the only one of the screen.

        Raises
        ------
        ValueError
            If the screen has no estimate for the given kind.
        """
        if kind is None:
            return next(iter(self.lines)) if len(self.lines) == 1 else None
        known = perturbation_type(kind)
        if known not in self.lines:
            there = ", ".join(map(repr, self.lines)) or "none"
            raise ValueError(
                f"kind={kind!r}: the training screen has at least {MIN_TARGETS} measured targets of these kinds: {there}. "
                "Name the kind of its perturbations at set-up with kind=…."
            )
        return known

    def write(
        self,
        kind: str | None,
        perturbations: Sequence[tuple[int, ...]],
        lfc: np.ndarray,
        std: np.ndarray | None = None,
        change: np.ndarray | None = None,
        threshold: float | None = None,
    ) -> None:
        """Write the estimates into predictions, shape (n_perturbations, n_measured), in place."""
        if (kind := self.kind_for(kind)) is None:
            return
        line, direction = self.lines[kind], DIRECTION[kind]
        for row, genes in enumerate(perturbations):
            for gene in genes:
                place = self.column.get(gene)
                if place is None or gene in self.singles:
                    continue
                level = 0.0 if self.control_mean is None else float(self.control_mean[gene])
                own = line.intercept + line.slope * level
                own = max(own, 0.0) if direction > 0 else min(own, 0.0)
                if self.control_mean is not None:
                    own = max(own, -level)  # log1p expression cannot be negative
                lfc[row, place] = own
                if std is not None:
                    std[row, place] = line.error
                if change is not None and threshold is not None:
                    error = max(line.error, 1e-9)
                    change[row, place] = norm.sf((threshold - own) / error) + norm.cdf((-threshold - own) / error)


def _fit(pairs: np.ndarray) -> _Line:
    level, own = pairs[:, 0], pairs[:, 1]
    n = len(own)
    mean = own.mean()
    best = _Line(float(mean), 0.0, float(np.sqrt(np.mean(((own - mean) * n / (n - 1)) ** 2))))
    spread = level - level.mean()
    if not (total := float(spread @ spread)) > 0:
        return best
    slope = float(spread @ own) / total
    intercept = float(mean - slope * level.mean())
    leverage = 1 / n + spread**2 / total
    error = float(np.sqrt(np.mean(((own - intercept - slope * level) / np.maximum(1 - leverage, 1e-9)) ** 2)))
    return _Line(intercept, slope, error) if error < best.error else best
