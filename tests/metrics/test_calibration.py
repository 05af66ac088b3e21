"""Predicted spreads against errors drawn from them, and probabilities against outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.calibration import calibration_curve

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


def test_reliability_by_hand():
    table = metrics.reliability([[0.1, 0.9, 0.3], [0.7, 0.5, 0.8]], [[0, 1, 1], [1, 0, 0]], n_bins=2)
    np.testing.assert_allclose(table["predicted"], [0.3, 0.8])
    np.testing.assert_allclose(table["observed"], [1 / 3, 2 / 3])
    assert table["n"].tolist() == [3, 3]
    error = metrics.expected_calibration_error([0.1, 0.3, 0.5, 0.7, 0.8, 0.9], [0, 1, 0, 1, 0, 1], n_bins=2)
    assert error == pytest.approx((1 / 30 + 2 / 15) / 2)


def test_outcomes_drawn_from_the_probabilities_are_calibrated_and_others_are_not():
    probability = rng.beta(0.3, 2, size=(200, 100))
    outcome = rng.uniform(size=probability.shape) < probability
    table = metrics.reliability(probability, outcome)
    assert table["n"].tolist() == [2000] * 10
    assert (table["predicted"] - table["observed"]).abs().max() < 0.04
    assert metrics.expected_calibration_error(probability, outcome) < 0.02
    assert metrics.expected_calibration_error(probability, 1 - outcome) > 0.5


some_probabilities = arrays(float, st.integers(1, 30), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]))


@given(some_probabilities, st.integers(1, 12), st.integers(0, 2**16))
def test_reliability_counts_every_prediction_once_and_keeps_equal_probabilities_together(probability, n_bins, seed):
    outcome = np.random.default_rng(seed).integers(0, 2, len(probability))
    table = metrics.reliability(probability, outcome, n_bins=n_bins)
    assert table["n"].sum() == len(probability) and (table["n"] > 0).all() and len(table) <= n_bins
    assert table["predicted"].is_monotonic_increasing
    assert np.average(table["observed"], weights=table["n"]) == pytest.approx(outcome.mean())
    assert np.average(table["predicted"], weights=table["n"]) == pytest.approx(probability.mean())
    assert 0 <= metrics.expected_calibration_error(probability, outcome, n_bins=n_bins) <= 1
    assert len(metrics.reliability(np.full_like(probability, 0.1), outcome, n_bins=n_bins)) == 1


@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 2**16))
def test_reliability_is_scikit_learns_curve_where_no_probabilities_are_equal(n_each, n_bins, seed):
    drawn = np.random.default_rng(seed)
    probability, outcome = drawn.uniform(size=n_each * n_bins), drawn.integers(0, 2, n_each * n_bins)
    table = metrics.reliability(probability, outcome, n_bins=n_bins)
    assert table["n"].tolist() == [n_each] * n_bins
    if 0 < outcome.mean() < 1:
        observed, predicted = calibration_curve(outcome, probability, n_bins=n_bins, strategy="quantile")
        np.testing.assert_allclose(table["observed"], observed)
        np.testing.assert_allclose(table["predicted"], predicted)


@given(arrays(bool, st.integers(1, 30)))
def test_certain_probabilities_that_come_true_have_no_calibration_error(outcome):
    assert metrics.expected_calibration_error(outcome.astype(float), outcome) == 0
    assert metrics.expected_calibration_error(1.0 - outcome, outcome) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.reliability([0.5, 1.2], [0, 1]),
            "1 values of probabilities are below 0 or above 1, the first 1.2",
        ),
        (lambda: metrics.reliability([0.5, 0.2], [0, 3]), "1 values of outcomes are neither 0 nor 1, the first 3"),
        (lambda: metrics.reliability([0.5, 0.2], [0, 1], n_bins=0), "n_bins must be a whole number of at least 1"),
        (lambda: metrics.reliability([0.5, np.nan], [0, 1]), "values of probabilities are NaN"),
        (lambda: metrics.expected_calibration_error([0.5], [0, 1]), r"and outcomes \(2,\)"),
    ],
)
def test_reliability_refuses_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_reliability_scores_the_chosen_genes():
    table = metrics.reliability([[0.1, np.nan], [0.9, np.nan]], [[0, 1], [1, 0]], n_bins=2, genes=[0])
    assert table["predicted"].tolist() == [0.1, 0.9] and table["observed"].tolist() == [0, 1]
