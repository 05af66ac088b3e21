"""Overlap and direction of the most changed genes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scapp import metrics

rng = np.random.default_rng(0)
OBSERVED, PREDICTED = rng.normal(size=(6, 50)), rng.normal(size=(6, 50))
changes = arrays(float, (3, 8), elements=st.integers(-3, 3).map(float))


@pytest.mark.parametrize("k", [1, 7, 50, 500])
def test_overlap_is_that_of_the_sorted_lists(k):
    overlap = metrics.top_k_overlap(PREDICTED, OBSERVED, k)
    for i in range(6):
        best = [set(np.argsort(-np.abs(array[i]))[:k]) for array in (PREDICTED, OBSERVED)]
        assert overlap[i] == pytest.approx(len(best[0] & best[1]) / min(k, 50))
        assert metrics.top_k_overlap(PREDICTED[i], OBSERVED[i], k) == pytest.approx(overlap[i])


@given(changes, st.integers(1, 10))
def test_the_truth_overlaps_fully_with_itself_whatever_ties(observed, k):
    changed = observed.any(axis=1)
    for factor in (1, -0.5):
        overlap = metrics.top_k_overlap(factor * observed, observed, k)
        np.testing.assert_allclose(overlap[changed], 1)
        assert np.isnan(overlap[~changed]).all()


@given(changes, changes, st.integers(1, 10), st.permutations(range(8)))
def test_nothing_depends_on_the_order_of_genes(predicted, observed, k, order):
    overlap = metrics.top_k_overlap(predicted, observed, k)
    np.testing.assert_allclose(metrics.top_k_overlap(predicted[:, order], observed[:, order], k), overlap)
    assert np.all(np.isnan(overlap) | (overlap >= 0) & (overlap <= 1 + 1e-12))
    match = metrics.direction_match(predicted, observed, k=k)
    np.testing.assert_array_equal(metrics.direction_match(predicted[:, order], observed[:, order], k=k), match)


def test_ties_of_the_prediction_count_by_their_chance():
    observed = np.array([4.0, 3, 2, 1, 0.5, 0.1])
    # One sure place for a right gene, one place for three genes of which one is right.
    assert metrics.top_k_overlap([9, 5, 0, 5, 5, 0], observed, 2) == pytest.approx((1 + 1 / 3) / 2)
    assert metrics.top_k_overlap([1, 1, 1, 1, 1, 1], observed, 2) == pytest.approx(2 / 6)


def test_no_change_finds_nothing_and_few_changes_shorten_the_list():
    assert metrics.top_k_overlap(np.zeros(5), [1, 2, 3, 4, 5], 3) == 0
    assert metrics.direction_match(np.zeros(5), [1, -2, 3, 4, 5], k=3) == 0
    # Two genes change; the prediction names one of them among its first two, and the sign of both wrong.
    assert metrics.top_k_overlap([0, -3, 9, 0, -1], [0, 5, 0, 0, 5], 20) == 0.5
    assert metrics.direction_match([0, -3, 9, 0, -1], [0, 5, 0, 0, 5], k=20) == 0


def test_direction_counts_the_most_changed_or_those_above_a_threshold():
    predicted, observed = [1, -1, 1, 0, -1], [5, 4, 3, 2, -1]
    assert metrics.direction_match(predicted, observed, k=2) == 0.5
    assert metrics.direction_match(predicted, observed, k=3) == pytest.approx(2 / 3)
    assert metrics.direction_match(predicted, observed, k=5) == pytest.approx(3 / 5)
    assert metrics.direction_match(predicted, observed, threshold=2) == 0.5
    assert np.isnan(metrics.direction_match(predicted, observed, threshold=6))
    np.testing.assert_allclose(metrics.direction_match(PREDICTED, OBSERVED, k=50).mean(), 0.5, atol=0.1)


def test_genes_are_chosen_first():
    genes = np.arange(50) % 3 == 0
    expected = metrics.top_k_overlap(PREDICTED[:, genes], OBSERVED[:, genes], 5)
    np.testing.assert_array_equal(metrics.top_k_overlap(PREDICTED, OBSERVED, 5, genes=genes), expected)
    expected = metrics.direction_match(PREDICTED[:, genes], OBSERVED[:, genes], k=5)
    np.testing.assert_array_equal(metrics.direction_match(PREDICTED, OBSERVED, k=5, genes=genes), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.top_k_overlap(PREDICTED, OBSERVED, 0), "at least 1, found 0"),
        (lambda: metrics.top_k_overlap(PREDICTED, OBSERVED, 2.5), "whole number"),
        (lambda: metrics.top_k_overlap(PREDICTED[:1], OBSERVED, 2), r"\(1, 50\) and observed \(6, 50\)"),
        (lambda: metrics.direction_match(PREDICTED, OBSERVED), "found k=None and threshold=None"),
        (lambda: metrics.direction_match(PREDICTED, OBSERVED, k=2, threshold=1), "either k or threshold, found k=2"),
        (lambda: metrics.direction_match(PREDICTED, OBSERVED, k=0), "k must be a whole number of at least 1, found 0"),
        (lambda: metrics.direction_match(PREDICTED, OBSERVED, threshold=0), "more than 0, found 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
