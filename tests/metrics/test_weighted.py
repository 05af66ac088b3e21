"""Weighted errors against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_squared_error, r2_score

from scapp import metrics

rng = np.random.default_rng(0)
OBSERVED, PREDICTED = rng.normal(size=(5, 9)), rng.normal(size=(5, 9))
WEIGHTS = rng.uniform(size=(5, 9))
REFERENCE = rng.normal(size=9)
BOTH = [metrics.weighted_mse, metrics.weighted_r2]


def test_weighted_errors_are_sklearns():
    mse = metrics.weighted_mse(PREDICTED, OBSERVED, WEIGHTS)
    r2 = metrics.weighted_r2(PREDICTED, OBSERVED, WEIGHTS)
    specific = metrics.weighted_r2(PREDICTED, OBSERVED, WEIGHTS, reference=REFERENCE)
    for i in range(5):
        one = {"y_true": OBSERVED[i], "y_pred": PREDICTED[i], "sample_weight": WEIGHTS[i]}
        assert mse[i] == pytest.approx(mean_squared_error(**one))
        assert r2[i] == pytest.approx(r2_score(**one))
        expected = r2_score(OBSERVED[i] - REFERENCE, PREDICTED[i] - REFERENCE, sample_weight=WEIGHTS[i])
        assert specific[i] == pytest.approx(expected)
        assert isinstance(metrics.weighted_mse(PREDICTED[i], OBSERVED[i], WEIGHTS[i]), float)


@pytest.mark.parametrize("metric", BOTH)
def test_weights_may_be_shared_and_genes_chosen(metric):
    shared = metric(PREDICTED, OBSERVED, WEIGHTS[0])
    np.testing.assert_allclose(shared, metric(PREDICTED, OBSERVED, np.tile(WEIGHTS[0], (5, 1))))
    genes = [7, 2, 3]
    expected = metric(PREDICTED[:, genes], OBSERVED[:, genes], WEIGHTS[:, genes])
    spoiled = np.where(np.isin(np.arange(9), genes), WEIGHTS, np.nan)
    np.testing.assert_allclose(metric(PREDICTED, OBSERVED, spoiled, genes=genes), expected)


@given(arrays(float, (2, 6), elements=st.floats(-100, 100)), st.floats(1e-3, 1e3))
def test_only_the_ratio_of_weights_counts(profiles, factor):
    weights = np.array([0, 1, 2, 0.5, 3, 1])
    for metric in BOTH:
        value = metric(*profiles, weights)
        np.testing.assert_allclose(metric(*profiles, factor * weights), value, rtol=1e-6, atol=1e-9)
    assert metrics.weighted_mse(*profiles, np.ones(6)) == pytest.approx(metrics.rmse(*profiles) ** 2)


def test_undefined_values_are_nan_and_spread_to_no_other_row():
    weights = WEIGHTS.copy()
    weights[1] = 0
    assert np.isnan(metrics.weighted_mse(PREDICTED, OBSERVED, weights)).tolist() == [False, True] + 3 * [False]
    observed = OBSERVED.copy()
    observed[2] = 0.1
    assert np.isnan(metrics.weighted_r2(PREDICTED, observed, WEIGHTS)).tolist() == [False, False, True, False, False]


def test_effect_weights_by_hand():
    effects = np.array([[0.0, 2.0, -4.0], [1.0, 1.0, 1.0]])
    # Differences from the other row: -1, 1, -5 and 1, -1, 5.
    np.testing.assert_allclose(metrics.effect_weights(effects), [[0, 0, 1], [0, 0, 1]])
    np.testing.assert_allclose(metrics.effect_weights(effects, reference=np.zeros(3)), [[0, 0.25, 1], [0, 0, 0]])
    np.testing.assert_allclose(metrics.effect_weights(effects[0], reference=np.zeros(3)), [0, 0.25, 1])
    # With standard errors the largest change is not the surest.
    errors = np.array([[1.0, 0.5, 4.0], [1.0, 1.0, 1.0]])
    np.testing.assert_allclose(metrics.effect_weights(effects, errors, reference=np.zeros(3))[0], [0, 1, (1 / 4) ** 2])


def test_effect_weights_take_the_error_of_the_others_in():
    effects, errors = rng.normal(size=(4, 6)), rng.uniform(0.1, 1, size=(4, 6))
    weights = metrics.effect_weights(effects, errors)
    for i in range(4):
        others = np.arange(4) != i
        t = effects[i] - effects[others].mean(axis=0)
        t = np.abs(t) / np.sqrt(errors[i] ** 2 + (errors[others] ** 2).sum(axis=0) / 9)
        np.testing.assert_allclose(weights[i], ((t - t.min()) / (t.max() - t.min())) ** 2)


def test_effect_weights_of_chosen_genes_are_zero_elsewhere():
    genes = np.array([8, 1, 4])
    weights = metrics.effect_weights(np.where(np.isin(np.arange(9), genes), OBSERVED, np.nan), genes=genes)
    np.testing.assert_allclose(weights[:, genes], metrics.effect_weights(OBSERVED[:, genes]))
    assert (np.delete(weights, genes, axis=1) == 0).all()
    np.testing.assert_allclose(
        metrics.weighted_mse(PREDICTED, OBSERVED, weights),
        metrics.weighted_mse(PREDICTED, OBSERVED, weights, genes=genes),
    )


def test_weights_expose_a_mean_that_plain_error_rewards():
    # Each perturbation changes its own five genes of 500; the mean of all predicts next to nothing of that.
    local = np.random.default_rng(1)
    effects = np.zeros((40, 500))
    for row in effects:
        row[local.choice(500, 5, replace=False)] = local.choice([-2, 2], 5)
    observed = effects + 0.3 * local.normal(size=effects.shape)
    mean = np.tile(observed.mean(axis=0), (40, 1))
    guess = effects + 0.5 * local.normal(size=effects.shape)  # knows the effect, and is noisy everywhere
    assert np.mean(metrics.rmse(mean, observed)) < np.mean(metrics.rmse(guess, observed))
    weights = metrics.effect_weights(observed)
    assert np.mean(metrics.weighted_mse(mean, observed, weights)) > 2 * np.mean(
        metrics.weighted_mse(guess, observed, weights)
    )
    assert np.mean(metrics.weighted_r2(mean, observed, weights)) < 0.1
    assert np.mean(metrics.weighted_r2(guess, observed, weights)) > 0.5


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (WEIGHTS[:2], r"shape \(2, 9\); expected that of observed, \(5, 9\), or \(9,\)"),
        (-WEIGHTS, "45 weights are negative"),
        (np.where(WEIGHTS > 0.5, np.nan, 1), "values of weights are NaN"),
    ],
)
def test_bad_weights_are_refused(metric, weights, message):
    with pytest.raises(ValueError, match=message):
        metric(PREDICTED, OBSERVED, weights)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.effect_weights(OBSERVED[0]), "pass a reference"),
        (lambda: metrics.effect_weights(OBSERVED[:1]), "no others to be compared with"),
        (lambda: metrics.effect_weights(OBSERVED, np.zeros((5, 9))), "45 standard errors are 0 or less"),
        (lambda: metrics.effect_weights(OBSERVED, WEIGHTS[0]), r"standard_errors \(9,\)"),
        (lambda: metrics.effect_weights(OBSERVED, np.full((5, 9), np.nan)), "values of standard_errors are NaN"),
        (lambda: metrics.effect_weights(np.full((5, 9), np.inf)), "values of effects are NaN or infinite"),
        (lambda: metrics.effect_weights(OBSERVED[None]), r"found \(1, 5, 9\)"),
        (lambda: metrics.effect_weights(OBSERVED, reference=REFERENCE[:2]), "one value for each of 9"),
        (
            lambda: metrics.weighted_r2(PREDICTED, OBSERVED, WEIGHTS, reference=REFERENCE[:2]),
            r"reference has shape \(2,\)",
        ),
    ],
)
def test_bad_effects_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
