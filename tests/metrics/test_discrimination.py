"""Discrimination and rank: whose prediction is it?"""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from scapp import metrics

METRICS = ["l1", "l2", "cosine"]
BOTH = [metrics.perturbation_discrimination, metrics.rank]
rng = np.random.default_rng(0)
OBSERVED = rng.normal(size=(12, 30))
PREDICTED = OBSERVED + 2 * rng.normal(size=OBSERVED.shape)
EXCLUDE = np.zeros(OBSERVED.shape, bool)
EXCLUDE[np.arange(12), np.arange(12)] = True
EXCLUDE[3, :20] = True


def by_hand(rows, columns, metric, exclude, i):
    """Which columns are closer to row i than column i, one distance at a time."""
    kept = slice(None) if exclude is None else ~exclude[i]
    name = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}[metric]
    distance = cdist(rows[i, kept][None], columns[:, kept], name)[0]
    return np.sum(distance < distance[i])


@pytest.mark.parametrize("exclude", [None, EXCLUDE])
@pytest.mark.parametrize("metric", METRICS)
def test_both_count_what_is_closer_with_the_targets_left_out(metric, exclude):
    pds = metrics.perturbation_discrimination(PREDICTED, OBSERVED, metric=metric, exclude=exclude)
    rank = metrics.rank(PREDICTED, OBSERVED, metric=metric, exclude=exclude)
    for i in range(12):
        assert pds[i] == pytest.approx(1 - by_hand(PREDICTED, OBSERVED, metric, exclude, i) / 12)
        assert rank[i] == pytest.approx(by_hand(OBSERVED, PREDICTED, metric, exclude, i) / 11)


@pytest.mark.parametrize("metric", METRICS)
def test_the_truth_is_best_and_its_opposite_worst(metric):
    assert metrics.perturbation_discrimination(OBSERVED, OBSERVED, metric=metric).tolist() == [1] * 12
    assert metrics.rank(OBSERVED, OBSERVED, metric=metric).tolist() == [0] * 12
    # The cosine alone knows that the negative of a change is the farthest from it.
    pds = metrics.perturbation_discrimination(-OBSERVED, OBSERVED, metric="cosine")
    assert pds.tolist() == pytest.approx([1 / 12] * 12)
    assert metrics.rank(-OBSERVED, OBSERVED, metric="cosine").tolist() == [1] * 12


@pytest.mark.parametrize("metric", METRICS)
@given(arrays(float, 6, elements=st.floats(-1e3, 1e3)), st.integers(0, 1000))
def test_the_same_prediction_for_all_is_at_chance(metric, profile, seed):
    predicted = np.tile(profile, (4, 1))
    observed = np.random.default_rng(seed).normal(size=(4, 6))
    assert metrics.rank(predicted, observed, metric=metric).tolist() == [0.5] * 4
    # Over four candidates the ranks are 0 to 3, so that chance is (4 + 1) / 8.
    assert np.mean(metrics.perturbation_discrimination(predicted, observed, metric=metric)) == pytest.approx(5 / 8)


def test_ties_count_half_whatever_the_order():
    nothing = np.zeros_like(OBSERVED)
    # Under the cosine, no change is as far from everything.
    chance = (12 + 1) / 24
    pds = metrics.perturbation_discrimination(nothing, OBSERVED, metric="cosine")
    assert pds.tolist() == pytest.approx([chance] * 12)
    assert metrics.rank(nothing, OBSERVED, metric="cosine").tolist() == [0.5] * 12
    twins = np.repeat(OBSERVED[:2], 2, axis=0)
    for metric in METRICS:
        assert metrics.perturbation_discrimination(twins, twins, metric=metric).tolist() == [1 - 0.5 / 4] * 4
        np.testing.assert_allclose(metrics.rank(twins, twins, metric=metric), 0.5 / 3)


def test_only_leaving_all_targets_out_shows_that_a_shared_shift_is_no_skill():
    # The prediction knows which gene was targeted and what all perturbations do, and nothing else.
    shift = 5 * rng.normal(size=30)
    observed = OBSERVED + shift
    observed[np.arange(12), np.arange(12)] = shift[:12] - 40
    predicted = np.tile(shift, (12, 1))
    predicted[np.arange(12), np.arange(12)] -= 20
    assert metrics.perturbation_discrimination(predicted, observed).mean() == 1
    # The other candidates keep their own targets, and are far for that.
    assert metrics.perturbation_discrimination(predicted, observed, exclude=np.eye(12, 30, dtype=bool)).mean() == 1
    fair = metrics.perturbation_discrimination(predicted, observed, genes=np.arange(12, 30))
    assert fair.mean() == pytest.approx(13 / 24)


def test_candidates_compete_and_are_not_scored():
    plain = metrics.perturbation_discrimination(PREDICTED, OBSERVED)
    far = metrics.perturbation_discrimination(PREDICTED, OBSERVED, candidates=OBSERVED[:6] + 1000)
    np.testing.assert_allclose(1 - far, (1 - plain) * 12 / 18)
    one = metrics.perturbation_discrimination(PREDICTED[:1], OBSERVED[:1], candidates=OBSERVED[1:])
    np.testing.assert_allclose(one, plain[:1])


@pytest.mark.parametrize("metric", BOTH)
def test_genes_are_chosen_before_comparing(metric):
    genes = [4, 20, 7, 3, 25, 28]
    expected = metric(PREDICTED[:, genes], OBSERVED[:, genes], exclude=EXCLUDE[:, genes])
    np.testing.assert_allclose(metric(PREDICTED, OBSERVED, exclude=EXCLUDE, genes=genes), expected)


def test_a_thousand_perturbations_take_seconds():
    observed = rng.normal(size=(1000, 2000))
    exclude = np.eye(1000, 2000, dtype=bool)
    start = time.process_time()
    scores = metrics.perturbation_discrimination(observed + 1, observed, exclude=exclude)
    assert time.process_time() - start < 10
    assert scores.mean() > 0.9


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"predicted": PREDICTED[:3]}, ValueError, r"shape \(3, 30\) and observed \(12, 30\)"),
        ({"predicted": PREDICTED[0], "observed": OBSERVED[0]}, ValueError, "one profile has no rank"),
        ({"predicted": PREDICTED[:1], "observed": OBSERVED[:1]}, ValueError, "two perturbations or more"),
        ({"metric": "l3"}, ValueError, "metric must be 'l1', 'l2' or 'cosine', found 'l3'"),
        ({"exclude": EXCLUDE[:, :3]}, ValueError, r"shape \(12, 3\); expected that of observed"),
        ({"exclude": np.ones_like(EXCLUDE)}, ValueError, r"no gene to compare for 12 perturbation"),
        ({"exclude": EXCLUDE, "genes": [3]}, ValueError, r"no gene to compare for 1 perturbation"),
        ({"exclude": EXCLUDE.astype(int)}, TypeError, "mask of True and False"),
    ],
)
def test_bad_input_is_refused(metric, change, error, message):
    arguments = {"predicted": PREDICTED, "observed": OBSERVED, **change}
    with pytest.raises(error, match=message):
        metric(arguments.pop("predicted"), arguments.pop("observed"), **arguments)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (OBSERVED[:, :5], r"shape \(12, 5\); expected \(n, 30\)"),
        (OBSERVED[0], r"expected \(n, 30\)"),
        (np.full((2, 30), np.nan), "values of candidates are NaN"),
    ],
)
def test_bad_candidates_are_refused(candidates, message):
    with pytest.raises(ValueError, match=message):
        metrics.perturbation_discrimination(PREDICTED, OBSERVED, candidates=candidates)


def test_kept_spread_by_hand():
    observed = np.array([[1.0, 0.0], [3.0, 4.0]])  # deviations of 1 and 2 for either perturbation
    assert metrics.kept_spread(observed, observed) == 1
    assert metrics.kept_spread(observed / 4 + 7, observed) == pytest.approx(1 / 4)
    assert metrics.kept_spread([[1.0, 5.0], [3.0, 5.0]], observed) == pytest.approx(np.sqrt(2 / 10))
    assert metrics.kept_spread([[1.0, 5.0], [3.0, 5.0]], observed, genes=[0]) == pytest.approx(1)


def test_predicting_the_same_for_all_keeps_no_spread_and_equal_observations_have_none():
    observed = np.random.default_rng(0).normal(size=(5, 4))
    assert metrics.kept_spread(np.tile(observed.mean(axis=0), (5, 1)), observed) == pytest.approx(0, abs=1e-12)
    assert np.isnan(metrics.kept_spread(observed, np.full((5, 4), 0.1)))


@given(
    arrays(float, (4, 3), elements=st.integers(-5, 5).map(float)),
    arrays(float, (4, 3), elements=st.integers(-5, 5).map(float)),
    st.floats(-3, 3),
    st.permutations(range(4)),
)
def test_kept_spread_scales_with_the_predictions_and_not_with_their_mean(predicted, observed, factor, order):
    kept = metrics.kept_spread(predicted, observed)
    if np.isnan(kept):
        assert (observed == observed[0]).all()
        return
    assert metrics.kept_spread(factor * predicted + 2, observed) == pytest.approx(abs(factor) * kept, abs=1e-9)
    assert metrics.kept_spread(predicted[order], observed[list(reversed(order))]) == pytest.approx(kept)


@pytest.mark.parametrize("shape", [(4,), (1, 4)])
def test_kept_spread_needs_perturbations_to_differ(shape):
    with pytest.raises(ValueError, match="two or more of them"):
        metrics.kept_spread(np.zeros(shape), np.zeros(shape))
