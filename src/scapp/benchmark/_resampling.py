"""Arithmetic of the statistics: means of what is there, bootstrap intervals, signed ranks and Holm's correction."""

from __future__ import annotations

import functools

import numpy as np
from scipy import stats

LEVEL = 0.95


def mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Mean of what is there; NaN where nothing is, without numpy's warning."""
    there = np.isfinite(values)
    total = np.where(there, values, 0).sum(axis=axis)
    return np.divide(total, there.sum(axis=axis), out=np.full(np.shape(total), np.nan), where=there.any(axis=axis))


def means(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean over splits of the weighted mean over perturbations; of shape (draws, methods)."""
    n, n_seeds, n_perturbations = values.shape
    weights = np.ones((1, n_perturbations)) if weights is None else weights
    flat = values.reshape(n * n_seeds, n_perturbations)
    there = np.isfinite(flat)
    total, weight = weights @ np.where(there, flat, 0).T, weights @ there.T.astype(float)
    means = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return mean(means.reshape(len(weights), n, n_seeds), axis=2)


@functools.lru_cache(maxsize=8)
def bootstrap(n: int, n_draws: int, seed: int) -> np.ndarray:
    """How often each of n perturbations is in each draw; of shape (draws, n)."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_draws).astype(float)
    drawn.flags.writeable = False  # every caller gets the same array
    return drawn


def interval(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of each column."""
    low, high = np.full(drawn.shape[1], np.nan), np.full(drawn.shape[1], np.nan)
    known = np.isfinite(drawn).any(axis=0)
    if known.any():
        low[known], high[known] = np.nanquantile(drawn[:, known], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def signed_rank(differences: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; 1 if nothing differs."""
    moved = differences[differences != 0]
    return float(stats.wilcoxon(moved).pvalue) if len(moved) else 1.0


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction for the number of tests."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected
