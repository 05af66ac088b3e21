"""Predicted spreads against errors drawn from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scapp import metrics

rng = np.random.default_rng(0)
SPREAD = rng.uniform(0.5, 2, size=(30, 1)) * rng.uniform(0.5, 2, size=(30, 400))
PREDICTED = rng.normal(size=SPREAD.shape)
OBSERVED = PREDICTED + SPREAD * rng.normal(size=SPREAD.shape)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_intervals_cover_what_they_say_for_normal_errors_and_not_for_wrong_spreads(level):
    coverage = metrics.interval_coverage(PREDICTED, SPREAD, OBSERVED, level=level)
    assert coverage.shape == (30,)
    assert coverage.mean() == pytest.approx(level, abs=0.015)
    assert metrics.interval_coverage(PREDICTED, SPREAD / 2, OBSERVED, level=level).mean() < level - 0.15
    assert metrics.interval_coverage(PREDICTED, SPREAD * 3, OBSERVED, level=level).mean() > level + 0.04


def test_coverage_by_hand():
    # 95 % is 1.96 standard deviations; a certain prediction covers the truth.
    assert metrics.interval_coverage([0, 0, 0, 3], [1, 1, 2, 0], [1.95, 1.97, -3.9, 3], level=0.95) == 0.75
    assert isinstance(metrics.interval_coverage(PREDICTED[0], SPREAD[0], OBSERVED[0]), float)


def test_spread_error_spearman_is_scipys_over_perturbations():
    value = metrics.spread_error_spearman(SPREAD, PREDICTED, OBSERVED)
    error = np.linalg.norm(PREDICTED - OBSERVED, axis=1)
    assert value == pytest.approx(stats.spearmanr(SPREAD.mean(axis=1), error)[0])
    assert value > 0.9
    assert metrics.spread_error_spearman(1 / SPREAD, PREDICTED, OBSERVED) < -0.8


def test_a_constant_spread_has_no_correlation():
    assert np.isnan(metrics.spread_error_spearman(np.ones_like(SPREAD), PREDICTED, OBSERVED))
    assert np.isnan(metrics.spread_error_spearman(SPREAD, PREDICTED, PREDICTED))


def test_genes_are_chosen():
    genes = [5, 2, 100, 7]
    spoiled = np.where(np.isin(np.arange(400), genes), SPREAD, np.nan)
    chosen = [array[:, genes] for array in (PREDICTED, SPREAD, OBSERVED)]
    expected = metrics.interval_coverage(*chosen)
    np.testing.assert_array_equal(metrics.interval_coverage(PREDICTED, spoiled, OBSERVED, genes=genes), expected)
    correlation = metrics.spread_error_spearman(chosen[1], chosen[0], chosen[2])
    assert metrics.spread_error_spearman(spoiled, PREDICTED, OBSERVED, genes=genes) == correlation


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.interval_coverage(PREDICTED, -SPREAD, OBSERVED), "12000 values of std are negative"),
        (lambda: metrics.interval_coverage(PREDICTED, SPREAD[0], OBSERVED), r"and std \(400,\)"),
        (lambda: metrics.interval_coverage(PREDICTED, SPREAD, OBSERVED, level=80), "between 0 and 1, found 80"),
        (lambda: metrics.interval_coverage(PREDICTED, SPREAD * np.nan, OBSERVED), "values of std are NaN"),
        (lambda: metrics.spread_error_spearman(-SPREAD, PREDICTED, OBSERVED), "values of std are negative"),
        (
            lambda: metrics.spread_error_spearman(SPREAD[:2], PREDICTED[:2], OBSERVED[:2]),
            r"three or more, found shape \(2, 400\)",
        ),
        (lambda: metrics.spread_error_spearman(SPREAD[0], PREDICTED[0], OBSERVED[0]), r"found shape \(400,\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_coverage_among_the_genes_that_are_predicted_to_change_most():
    arrays = [0.1, -3.0, 2.0, 0.2], [1.0] * 4, [0.1, 0.0, 2.0, 0.2]
    assert metrics.interval_coverage(*arrays) == 0.75
    assert metrics.interval_coverage(*arrays, n_largest=2) == 0.5
    assert metrics.interval_coverage(*arrays, n_largest=1) == 0
    assert metrics.interval_coverage(*arrays, genes=[0, 2, 3], n_largest=2) == 1
    assert metrics.interval_coverage(PREDICTED, SPREAD, OBSERVED, n_largest=50).shape == (30,)
    for n_largest in (0, 5):
        with pytest.raises(ValueError, match="from 1 to the 4 scored genes"):
            metrics.interval_coverage(*arrays, n_largest=n_largest)
