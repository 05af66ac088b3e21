"""Discovery of regulators at a budget, and of changed genes by their probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from scapp import metrics

rng = np.random.default_rng(0)
EFFECTS = rng.normal(scale=1.5, size=(40, 12))
SCORES = rng.normal(size=(40, 12))
small = arrays(float, (7, 3), elements=st.integers(-4, 4).map(float))


def test_recall_by_hand():
    effects = np.array([[2.0, 0.0], [0.0, 5.0], [-3.0, 5.0], [0.0, 5.0], [1.9, 0.0]])
    scores = np.array([[5.0, 9.0], [4.0, 8.0], [3.0, 7.0], [2.0, 1.0], [1.0, 2.0]])
    # Two of five are tested. Gene 1: hits are the first and third, the first is found. Gene 2: one of three.
    np.testing.assert_allclose(metrics.hit_discovery_recall(scores, effects, budget=0.4), [1 / 2, 1 / 3])
    # At a threshold of 3, the first gene has one hit, in third place.
    np.testing.assert_allclose(metrics.hit_discovery_recall(scores, effects, threshold=3, budget=0.4), [0, 1 / 3])
    np.testing.assert_allclose(metrics.hit_discovery_recall(scores, effects, threshold=3, budget=0.6), [1, 2 / 3])
    # A small budget tests one perturbation, the whole budget finds all.
    np.testing.assert_allclose(metrics.hit_discovery_recall(scores, effects, budget=0.01), [1 / 2, 0])
    np.testing.assert_allclose(metrics.hit_discovery_recall(scores, effects, budget=1), [1, 1])


def test_recall_is_that_of_sorted_lists_without_ties():
    recall = metrics.hit_discovery_recall(SCORES, EFFECTS, threshold=1, budget=0.2)
    for gene in range(12):
        hits = set(np.flatnonzero(np.abs(EFFECTS[:, gene]) >= 1))
        assert recall[gene] == pytest.approx(len(hits & set(np.argsort(-SCORES[:, gene])[:8])) / len(hits))


def test_ties_count_by_their_chance_of_a_place():
    effects = np.array([[3.0], [3.0], [0.0], [0.0], [3.0]])
    # One sure place for a hit, one place among three perturbations of which one is a hit.
    recall = metrics.hit_discovery_recall([[9.0], [5.0], [5.0], [5.0], [0.0]], effects, budget=0.4)
    np.testing.assert_allclose(recall, (1 + 1 / 3) / 3)


def test_genes_without_a_hit_are_nan_and_do_not_count_in_the_mean():
    effects = np.array([[3.0, 0.0], [0.0, 1.0]])
    recall = metrics.hit_discovery_recall(np.array([[1.0, 1.0], [0.0, 0.0]]), effects, budget=0.5)
    assert recall[0] == 1 and np.isnan(recall[1]) and np.nanmean(recall) == 1


@given(small, st.floats(0.05, 1))
def test_the_truth_finds_as_many_as_there_are_places_and_a_constant_its_budget(effects, budget):
    n_tested = max(1, int(np.floor(budget * 7 + 0.5)))
    n_hits = (np.abs(effects) >= 2).sum(axis=0)
    best = metrics.hit_discovery_recall(np.abs(effects), effects, budget=budget)
    constant = metrics.hit_discovery_recall(np.zeros((7, 3)), effects, budget=budget)
    some = n_hits > 0
    np.testing.assert_allclose(best[some], np.minimum(n_tested / n_hits[some], 1))
    np.testing.assert_allclose(constant[some], n_tested / 7)
    assert np.isnan(best[~some]).all() and np.isnan(constant[~some]).all()


@given(small, small, st.floats(0.05, 1), st.permutations(range(7)))
def test_recall_depends_on_ranks_alone_and_not_on_the_order_of_perturbations(scores, effects, budget, order):
    recall = metrics.hit_discovery_recall(scores, effects, budget=budget)
    again = metrics.hit_discovery_recall(np.exp(scores[order]), -effects[order], budget=budget)
    np.testing.assert_allclose(again, recall)
    more = metrics.hit_discovery_recall(scores, effects, budget=1)
    assert np.all(np.isnan(recall) | (recall >= 0) & (recall <= more + 1e-12))


def test_changed_genes_are_found_as_scikit_learn_says():
    changed = np.abs(EFFECTS) > 1
    changed[3] = False
    areas = np.asarray(metrics.changed_genes_auprc(SCORES, changed))
    for row in range(40):
        if row == 3:
            assert np.isnan(areas[row])
        else:
            assert areas[row] == pytest.approx(average_precision_score(changed[row], SCORES[row]))
    alone = metrics.changed_genes_auprc(SCORES[0], changed[0].astype(int))
    assert isinstance(alone, float) and alone == pytest.approx(areas[0])
    # Precision 1 at the first hit, 2/3 at the second, each worth half the recall.
    assert metrics.changed_genes_auprc([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)


@given(arrays(float, 9, elements=st.floats(0, 1)), arrays(bool, 9))
def test_a_certain_prediction_is_perfect_and_a_constant_one_finds_the_share_that_changed(probabilities, changed):
    if not changed.any():
        assert np.isnan(metrics.changed_genes_auprc(probabilities, changed))
        return
    assert metrics.changed_genes_auprc(changed.astype(float), changed) == pytest.approx(1)
    assert metrics.changed_genes_auprc(np.full(9, 0.3), changed) == pytest.approx(changed.mean())
    assert 0 < metrics.changed_genes_auprc(probabilities, changed) <= 1 + 1e-12


def test_precision_and_recall_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    probabilities, changed = rng.random((6, 50)), rng.random((6, 50)) < 0.3
    precision, recall = metrics.changed_genes_precision_recall(probabilities, changed, threshold=0.7)
    for row in range(6):
        called = probabilities[row] >= 0.7
        assert precision[row] == pytest.approx(sklearn.metrics.precision_score(changed[row], called))
        assert recall[row] == pytest.approx(sklearn.metrics.recall_score(changed[row], called))


def test_where_nothing_is_called_or_changed_there_is_no_precision_or_recall():
    precision, recall = metrics.changed_genes_precision_recall([[0, 0], [1, 0]], [[1, 0], [0, 0]])
    assert np.isnan(precision[0]) and precision[1] == 0
    assert recall[0] == 0 and np.isnan(recall[1])
    with pytest.raises(ValueError, match=r"expected probabilities.*np\.abs"):
        metrics.changed_genes_precision_recall([2.0, -1.0], [1, 0])
    with pytest.raises(ValueError, match="threshold must be"):
        metrics.changed_genes_precision_recall([1, 0], [1, 0], threshold=0)


def test_genes_are_chosen():
    genes = [4, 0, 7]
    spoiled = np.where(np.isin(np.arange(12), genes), SCORES, np.nan)
    expected = metrics.hit_discovery_recall(SCORES[:, genes], EFFECTS[:, genes], threshold=1)
    np.testing.assert_array_equal(metrics.hit_discovery_recall(spoiled, EFFECTS, threshold=1, genes=genes), expected)
    changed = np.abs(EFFECTS) > 1
    areas = metrics.changed_genes_auprc(SCORES[:, genes], changed[:, genes])
    np.testing.assert_array_equal(metrics.changed_genes_auprc(spoiled, changed, genes=genes), areas)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.hit_discovery_recall(SCORES, EFFECTS, threshold=0), "threshold must be more than 0"),
        (lambda: metrics.hit_discovery_recall(SCORES, EFFECTS, budget=0), "budget must be more than 0 and at most 1"),
        (lambda: metrics.hit_discovery_recall(SCORES, EFFECTS, budget=10), "at most 1, found 10"),
        (
            lambda: metrics.hit_discovery_recall(SCORES[:3], EFFECTS),
            r"scores has shape \(3, 12\) and effects \(40, 12\)",
        ),
        (lambda: metrics.hit_discovery_recall(SCORES[0], EFFECTS[0]), r"\(n_perturbations, n_genes\), found \(12,\)"),
        (lambda: metrics.hit_discovery_recall(SCORES * np.nan, EFFECTS), "values of scores are NaN"),
        (lambda: metrics.changed_genes_auprc(SCORES, EFFECTS), "480 values of changed are neither 0 nor 1"),
        (lambda: metrics.changed_genes_auprc(SCORES[0], np.ones(3)), r"and changed \(3,\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
