"""The noise ceiling against simulated cells, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from scapp import metrics


@pytest.mark.parametrize("n_cells", [20, 100])
def test_the_ceiling_is_the_error_of_the_truth(n_cells):
    rng = np.random.default_rng(n_cells)
    truth = rng.normal(size=(300, 40))
    noise = rng.uniform(0.2, 3, size=40)  # genes differ in noise; counts are skewed, as gamma is
    cells = truth[:, None] + noise * (rng.gamma(1, size=(300, n_cells, 40)) - 1)
    halves = cells[:, ::2].mean(axis=1), cells[:, 1::2].mean(axis=1)
    whole = cells.mean(axis=1)
    ceiling, error = metrics.noise_ceiling(*halves), metrics.l2(truth, whole)
    assert ceiling.mean() == pytest.approx(error.mean(), rel=0.02)
    assert np.mean(ceiling**2) == pytest.approx(np.mean(error**2), rel=0.04)
    # Neither the distance of the halves nor that of a half from the whole's truth is the ceiling.
    assert metrics.l2(*halves).mean() > 1.9 * error.mean()
    assert metrics.l2(truth, halves[0]).mean() > 1.35 * error.mean()


def test_the_truth_closes_the_gap_and_no_change_none_of_it():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 50))
    halves = [truth + rng.normal(size=truth.shape) for _ in range(2)]
    whole = (halves[0] + halves[1]) / 2
    no_change = metrics.l2(np.zeros_like(truth), whole).mean()
    ceiling = metrics.noise_ceiling(*halves).mean()
    assert metrics.explained_gap(metrics.l2(truth, whole).mean(), no_change, ceiling) == pytest.approx(1, abs=0.02)
    assert metrics.explained_gap(no_change, no_change, ceiling) == 0
    half = metrics.explained_gap(metrics.l2(truth / 2, whole).mean(), no_change, ceiling)
    assert 0.3 < half < 0.8
    assert metrics.explained_gap(metrics.l2(-truth, whole).mean(), no_change, ceiling) < 0


def test_by_hand():
    assert metrics.noise_ceiling([3, 0, 1], [0, 4, 1]) == 2.5
    np.testing.assert_allclose(metrics.noise_ceiling([[3, 0, 9]], [[0, 4, 1]], genes=[0, 1]), [2.5])
    assert metrics.explained_gap(4, 5, 3) == 0.5
    assert isinstance(metrics.explained_gap(4, 5, 3), float)
    gaps = metrics.explained_gap([4, 2, 6], 5, [3, 1, 1])
    np.testing.assert_allclose(gaps, [0.5, 0.75, -0.25])


def test_without_a_gap_there_is_no_share_of_it():
    assert np.isnan(metrics.explained_gap(4, 3, 3))
    assert np.isnan(metrics.explained_gap([4, 4], [3, 5], [5, np.nan])).all()


def test_errors_and_correlations_come_to_one_scale():
    assert metrics.calibrated_score(3, 4, 0) == 0.25  # an error
    assert metrics.calibrated_score(0.6, 0.2, 1) == pytest.approx(0.5)  # a correlation
    np.testing.assert_allclose(metrics.calibrated_score([0.5, 1, 0.25], 0.5, 1), [0, 1, -0.5])
    assert isinstance(metrics.calibrated_score(3, 4, 0), float)
    # What the scaled scores of cell-eval and the dynamic range fraction of scPertEval say.
    user, base = 0.3, 0.4
    assert metrics.calibrated_score(user, base, 0) == pytest.approx(1 - user / base)
    assert metrics.calibrated_score(user, 0.2, 1) == pytest.approx((user - 0.2) / (1 - 0.2))
    positive, negative = 1.5, 6.0
    assert metrics.calibrated_score(positive, negative, 0) == pytest.approx((negative - positive) / negative)


def test_without_a_range_nothing_is_calibrated():
    assert np.isnan(metrics.calibrated_score(3, 4, 4))
    # A ceiling that noise put beyond the null of one perturbation.
    found = metrics.calibrated_score([3.0, 3.0, 3.0], [4.0, 4.0, 4.0], [1.0, 2.0, 5.0])
    np.testing.assert_allclose(found, [1 / 3, 0.5, np.nan])
    assert np.isnan(metrics.calibrated_score([np.nan, 1], 0, 1)).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.noise_ceiling([1, 2], [1, 2, 3]), ValueError, r"half_1 has shape \(2,\) and half_2 \(3,\)"),
        (lambda: metrics.noise_ceiling([1, np.nan], [1, 2]), ValueError, "values of half_1 are NaN"),
        (lambda: metrics.explained_gap(-1, 2, 1), ValueError, "values of l2 are negative"),
        (lambda: metrics.explained_gap([1, 2], [1, 2, 3], 1), ValueError, r"l2 \(2,\), l2_no_change \(3,\)"),
        (lambda: metrics.explained_gap("a", 2, 1), TypeError, "numbers"),
        (lambda: metrics.calibrated_score([1, 2], [1, 2, 3], 0), ValueError, r"score \(2,\), null \(3,\), best \(\)"),
        (lambda: metrics.calibrated_score("a", 2, 1), TypeError, "score must be an array of numbers"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
