"""Metrics against hand calculations and independent libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics.pairwise import cosine_similarity

from scapp import metrics

DISTANCES = [metrics.l2, metrics.rmse, metrics.mae]
ALL = [*DISTANCES, metrics.pearson_delta, metrics.cosine]
rng = np.random.default_rng(0)
PREDICTED, OBSERVED = rng.normal(size=(4, 7)), rng.normal(size=(4, 7))


def test_distances_by_hand():
    assert metrics.l2([0, 3, 1], [0, 0, 5]) == 5
    assert metrics.mae([0, 3, 1, 0], [0, 0, 5, 1]) == 2
    assert metrics.rmse([0, 3, 1, 1], [0, 0, 5, 1]) == 2.5
    np.testing.assert_allclose(metrics.l2([[3, 4], [0, 0]], [[0, 0], [0, 1]]), [5, 1])


@pytest.mark.parametrize("metric", ALL)
def test_one_number_a_perturbation_and_a_float_for_one(metric):
    values = metric(PREDICTED, OBSERVED)
    assert values.shape == (4,)
    one = metric(PREDICTED[2], OBSERVED[2])
    assert isinstance(one, float)
    assert one == pytest.approx(values[2])
    np.testing.assert_array_equal(metric(pd.DataFrame(PREDICTED), pd.DataFrame(OBSERVED)), values)


@pytest.mark.parametrize("metric", ALL)
def test_mask_and_indices_choose_the_same_genes_and_nan_elsewhere_is_not_read(metric):
    mask = np.array([True, False, True, True, False, True, False])
    expected = metric(PREDICTED[:, mask], OBSERVED[:, mask])
    spoiled = np.where(mask, PREDICTED, np.nan)
    np.testing.assert_array_equal(metric(spoiled, OBSERVED, genes=mask), expected)
    np.testing.assert_allclose(metric(spoiled, OBSERVED, genes=np.flatnonzero(mask)[::-1]), expected)


@given(arrays(float, (2, 5), elements=st.floats(-1e6, 1e6)), st.floats(-100, 100))
def test_distances_are_zero_for_the_truth_and_blind_to_a_common_shift(profiles, shift):
    for distance in DISTANCES:
        assert distance(profiles[0], profiles[0]) == 0
        moved = distance(profiles[0] + shift, profiles[1] + shift)
        assert moved == pytest.approx(distance(*profiles), rel=1e-6, abs=1e-6)
    assert metrics.mae(*profiles) <= metrics.rmse(*profiles) * (1 + 1e-12) + 1e-100
    assert metrics.rmse(*profiles) == pytest.approx(metrics.l2(*profiles) / np.sqrt(5))


def test_pearson_delta_is_scipys_correlation_of_changes():
    reference = np.random.default_rng(1).normal(size=7)
    plain = np.asarray(metrics.pearson_delta(PREDICTED, OBSERVED))
    specific = np.asarray(metrics.pearson_delta(PREDICTED, OBSERVED, reference=reference))
    for i in range(4):
        assert plain[i] == pytest.approx(stats.pearsonr(PREDICTED[i], OBSERVED[i])[0])
        expected = stats.pearsonr(PREDICTED[i] - reference, OBSERVED[i] - reference)[0]
        assert specific[i] == pytest.approx(expected)
    genes = [5, 1, 3]
    chosen = metrics.pearson_delta(PREDICTED, OBSERVED, reference=reference, genes=genes)
    expected = metrics.pearson_delta(PREDICTED[:, genes], OBSERVED[:, genes], reference=reference[genes])
    np.testing.assert_allclose(chosen, expected)


def test_weighted_pearson_delta():
    """A weight is as good as so many copies of the gene, and none as leaving it out."""
    weights = np.array([0, 3, 1, 2, 1, 1, 0])
    copies = np.repeat(np.arange(7), weights)
    found = metrics.pearson_delta(PREDICTED, OBSERVED, weights=weights)
    np.testing.assert_allclose(found, metrics.pearson_delta(PREDICTED[:, copies], OBSERVED[:, copies]))
    each = metrics.pearson_delta(PREDICTED, OBSERVED, weights=np.tile(weights, (4, 1)))
    np.testing.assert_array_equal(each, found)
    assert np.isnan(metrics.pearson_delta(PREDICTED, OBSERVED, weights=np.eye(7)[0])).all()
    assert np.isnan(metrics.pearson_delta(PREDICTED, OBSERVED, weights=np.zeros(7))).all()
    with pytest.raises(ValueError, match="weights are negative"):
        metrics.pearson_delta(PREDICTED, OBSERVED, weights=-weights)


def test_a_shift_that_all_share_inflates_the_correlation_against_control_only():
    shift = 10 * np.random.default_rng(2).normal(size=7)
    observed = OBSERVED + shift
    predicted = PREDICTED + shift
    assert np.min(metrics.pearson_delta(predicted, observed)) > 0.9
    specific = metrics.pearson_delta(predicted, observed, reference=shift)
    np.testing.assert_allclose(specific, metrics.pearson_delta(PREDICTED, OBSERVED))


@given(arrays(float, 6, elements=st.floats(-1e3, 1e3)), arrays(float, 6, elements=st.floats(-1e3, 1e3)))
def test_pearson_delta_is_symmetric_and_within_one_or_undefined(x, y):
    value = metrics.pearson_delta(x, y)
    assert np.isnan(value) or -1 <= value <= 1
    np.testing.assert_equal(metrics.pearson_delta(y, x), value)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 / 3])
def test_pearson_delta_of_a_constant_is_nan_and_spreads_to_no_other_row(constant):
    predicted = PREDICTED.copy()
    predicted[1] = constant
    values = metrics.pearson_delta(predicted, OBSERVED)
    assert np.isnan(values).tolist() == [False, True, False, False]
    mean = OBSERVED.mean(axis=0)
    assert np.isnan(metrics.pearson_delta(mean, OBSERVED[0], reference=mean))


def test_cosine_is_sklearns_and_blind_to_the_size_of_the_change():
    expected = np.diag(cosine_similarity(PREDICTED, OBSERVED))
    np.testing.assert_allclose(metrics.cosine(PREDICTED, OBSERVED), expected)
    np.testing.assert_allclose(metrics.cosine(1e-200 * PREDICTED, 1e200 * OBSERVED), expected)
    assert metrics.cosine([1, 0], [0, 2]) == 0
    assert metrics.cosine([1, 1], [-3, -3]) == pytest.approx(-1)


def test_cosine_of_no_change_is_nan_and_spreads_to_no_other_row():
    predicted = PREDICTED.copy()
    predicted[1] = 0
    assert np.isnan(metrics.cosine(predicted, OBSERVED)).tolist() == [False, True, False, False]
    assert np.isnan(metrics.cosine(OBSERVED[0], np.zeros(7)))


def test_top_expressed_genes_breaks_ties_by_order_and_counts_nan_as_zero():
    assert metrics.top_expressed_genes([1, 5, np.nan, 5, 0, 2], n=3).tolist() == [1, 3, 5]
    assert metrics.top_expressed_genes([1, 5, np.nan, 5, 0, 2], n=6).tolist() == [1, 3, 5, 0, 2, 4]
    assert metrics.top_expressed_genes([1, 5]).tolist() == [1, 0]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observed": OBSERVED[:3]}, r"shape \(4, 7\) and observed \(3, 7\)"),
        ({"observed": OBSERVED[0]}, r"observed \(7,\)"),
        ({"predicted": np.where(PREDICTED > 0, np.nan, 0)}, "values of predicted are NaN"),
        ({"observed": np.where(PREDICTED > 0, np.inf, 0)}, "values of observed are NaN or infinite"),
        ({"predicted": PREDICTED[None], "observed": OBSERVED[None]}, r"found \(1, 4, 7\)"),
        ({"predicted": PREDICTED[:, :0], "observed": OBSERVED[:, :0]}, "no genes"),
        ({"genes": np.ones(6, bool)}, "6 genes, and the arrays have 7"),
        ({"genes": np.zeros(7, bool)}, "chooses no gene"),
        ({"genes": [7]}, "indices from 7 to 7"),
        ({"genes": [-1]}, "indices from -1"),
        ({"genes": ["KLF1"]}, "get_indexer"),
        ({"genes": []}, "at least one gene"),
    ],
)
def test_bad_arrays_are_refused(metric, change, message):
    arguments = {"predicted": PREDICTED, "observed": OBSERVED, **change}
    with pytest.raises(ValueError, match=message):
        metric(arguments.pop("predicted"), arguments.pop("observed"), **arguments)


@pytest.mark.parametrize("metric", ALL)
def test_what_is_no_array_of_numbers_is_refused(metric):
    from scipy import sparse

    with pytest.raises(TypeError, match="toarray"):
        metric(sparse.csr_matrix(PREDICTED), OBSERVED)
    with pytest.raises(TypeError, match="numbers"):
        metric(["a"], ["b"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.pearson_delta(PREDICTED, OBSERVED, reference=OBSERVED[0, :3]), "one value for each of 7"),
        (lambda: metrics.pearson_delta(PREDICTED, OBSERVED, reference=np.full(7, np.nan)), "values of reference"),
        (lambda: metrics.pearson_delta(PREDICTED, OBSERVED, genes=[2]), "two genes"),
        (lambda: metrics.top_expressed_genes(OBSERVED), "one value per gene"),
        (lambda: metrics.top_expressed_genes([1, np.inf]), "infinite"),
        (lambda: metrics.top_expressed_genes([1, 2], n=0), "at least 1"),
    ],
)
def test_bad_references_and_choices_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
