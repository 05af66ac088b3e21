"""Genetic interactions, planted and real."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from scapp import metrics
from scapp._labels import parse_label
from scapp.benchmark._measured import benchmark_doubles

rng = np.random.default_rng(0)
FIRST, SECOND = rng.normal(size=(2, 8, 100))
ADDITIVE = FIRST + SECOND
# 5 % of all interact, among the largest sums: 12 go twice as far, 16 nowhere, 12 to the other side.
PLANTED = rng.choice(np.argsort(-np.abs(ADDITIVE), axis=None)[:120], 40, replace=False)
OBSERVED = ADDITIVE.copy()
OBSERVED.ravel()[PLANTED] *= np.repeat([2, 0.2, -0.5], [12, 16, 12])
NOISY = OBSERVED + 0.1 * rng.normal(size=OBSERVED.shape)
NO_CHANGE = np.zeros_like(OBSERVED)
SCORES = [metrics.interaction_auprc, metrics.interaction_tpr_at_fdp, metrics.interaction_sign_match]


def test_planted_interactions_are_found_and_additivity_finds_none():
    for score in SCORES:
        assert score(OBSERVED, NOISY, ADDITIVE) == 1
    assert metrics.interaction_auprc(ADDITIVE, NOISY, ADDITIVE) == pytest.approx(0.05)
    assert metrics.interaction_tpr_at_fdp(ADDITIVE, NOISY, ADDITIVE) == 0
    assert np.isnan(metrics.interaction_sign_match(ADDITIVE, NOISY, ADDITIVE))
    mirrored = 2 * ADDITIVE - OBSERVED
    assert metrics.interaction_auprc(mirrored, NOISY, ADDITIVE) == 1
    assert metrics.interaction_sign_match(mirrored, NOISY, ADDITIVE) == 0


def test_auprc_is_the_average_precision_of_the_difference_from_additivity():
    predicted = rng.normal(size=OBSERVED.shape)
    truth = np.zeros(800, bool)
    truth[PLANTED] = True
    expected = average_precision_score(truth, np.abs(predicted - ADDITIVE).ravel())
    assert metrics.interaction_auprc(predicted, NOISY, ADDITIVE) == pytest.approx(expected)
    genes = np.arange(0, 100, 3)
    chosen = [array[:, genes] for array in (predicted, NOISY, ADDITIVE)]
    for score in SCORES:
        np.testing.assert_equal(score(predicted, NOISY, ADDITIVE, genes=genes), score(*chosen))


def test_every_multiple_of_additive_orders_as_no_change():
    for score in (metrics.interaction_auprc, metrics.interaction_tpr_at_fdp):
        value = score(NO_CHANGE, NOISY, ADDITIVE)
        assert score(0.7 * ADDITIVE, NOISY, ADDITIVE) == pytest.approx(value)


def test_tpr_at_fdp_by_hand():
    additive = np.zeros(10)
    observed = np.array([5.0, 5, 5, 5, 0, 0, 0, 0, 0, 0])
    predicted = np.array([9.0, 8, 4, 0, 7, 6, 5, 0, 0, 0])  # right, right, wrong, wrong, wrong, right, then ties
    tpr = [metrics.interaction_tpr_at_fdp(predicted, observed, additive, fdp=f, share=0.4) for f in (0, 0.4, 0.5, 0.6)]
    assert tpr == [0.5, 0.5, 0.75, 1]
    # A wrong one at the top leaves nothing at a strict limit.
    assert metrics.interaction_tpr_at_fdp(predicted[::-1], observed, additive, fdp=0.1, share=0.4) == 0


def test_classes_by_hand():
    additive = np.array([2.0, 2, 2, 2, -2, -2, -2, 2, 0])
    observed = np.array([5.0, 1, -1, 2, -5, 0, 1, 2.001, 3])
    words = ["synergy", "buffering", "opposite", "additive", "synergy", "buffering", "opposite", "additive", "synergy"]
    assert metrics.interaction_classes(observed, additive, share=7 / 9).tolist() == words
    # Singles that go different ways: the words do not apply.
    first = np.array([1.0, 3, 1, 1, -1, -1, 0, 1, 0])
    words = ["synergy", "other", "opposite", "additive", "synergy", "buffering", "other", "additive", "other"]
    found = metrics.interaction_classes(observed, additive, singles=(first, additive - first), share=7 / 9)
    assert found.tolist() == words


def test_the_share_counts_over_all_doubles_with_ties_and_never_without_difference():
    assert (metrics.interaction_classes(NOISY, ADDITIVE, share=0.1) != "additive").sum() == 80
    assert (metrics.interaction_classes([1, 1, 1, 0], np.zeros(4), share=0.25) != "additive").sum() == 3
    assert (metrics.interaction_classes([1, 0, 0, 0], np.zeros(4), share=0.75) != "additive").sum() == 1
    for score in SCORES:
        assert np.isnan(score(NOISY, ADDITIVE, ADDITIVE))


@pytest.mark.parametrize("kind", ["synergy", "buffering", "opposite"])
@pytest.mark.parametrize("singles", [None, (FIRST, SECOND)])
def test_a_class_is_found_by_predicting_that_class_only(kind, singles):
    classes = metrics.interaction_classes(NOISY, ADDITIVE, singles=singles)
    share = np.mean(classes == kind)
    assert 0 < share < 0.05
    assert metrics.interaction_auprc(OBSERVED, NOISY, ADDITIVE, kind=kind, singles=singles) > 0.9
    # As large a difference, of another class.
    other = {"synergy": 0.5, "buffering": 3, "opposite": 3}[kind] * ADDITIVE
    assert metrics.interaction_auprc(other, NOISY, ADDITIVE, kind=kind, singles=singles) == pytest.approx(share)


def test_no_change_calls_buffering_only():
    value = {kind: metrics.interaction_auprc(NO_CHANGE, NOISY, ADDITIVE, kind=kind) for kind in ("synergy", "opposite")}
    classes = metrics.interaction_classes(NOISY, ADDITIVE)
    assert value == {kind: pytest.approx(np.mean(classes == kind)) for kind in value}


def test_no_change_is_far_above_guessing_on_norman(shared_data, tasks):
    effects = tasks.norman_effects(shared_data)
    doubles = benchmark_doubles(shared_data, effects)
    table = effects.to_df("lfc").astype(float)
    single = [table.loc[[parse_label(label)[i] for label in doubles]].to_numpy() for i in (0, 1)]
    observed, additive = table.loc[doubles].to_numpy(), single[0] + single[1]
    genes = metrics.top_expressed_genes(effects.var["k562_tpm"])
    nothing = np.zeros_like(observed)
    assert metrics.interaction_auprc(nothing, observed, additive, genes=genes) == pytest.approx(0.171, abs=0.002)
    assert metrics.interaction_sign_match(nothing, observed, additive, genes=genes) > 0.9
    classes = metrics.interaction_classes(observed, additive, singles=(single[0], single[1]), genes=genes)
    # The published analysis finds 3.8 times as many buffering as synergistic ones, on other preprocessing.
    assert 2 < np.sum(classes == "buffering") / np.sum(classes == "synergy") < 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted": NO_CHANGE[:3]}, r"predicted has shape \(3, 100\) and observed \(8, 100\)"),
        ({"additive": ADDITIVE[:3]}, r"predicted has shape \(8, 100\) and additive \(3, 100\)"),
        ({"additive": np.full_like(ADDITIVE, np.nan)}, "values of additive are NaN"),
        ({"share": 0}, "share must be between 0 and 1, found 0"),
        ({"share": 1}, "share must be between 0 and 1, found 1"),
        ({"genes": [100]}, "indices from 100"),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_bad_input_is_refused(score, change, message):
    with pytest.raises(ValueError, match=message):
        score(**{"predicted": NO_CHANGE, "observed": NOISY, "additive": ADDITIVE, **change})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.interaction_auprc(NOISY, NOISY, ADDITIVE, kind="cryptic"), "found 'cryptic'"),
        (lambda: metrics.interaction_tpr_at_fdp(NOISY, NOISY, ADDITIVE, fdp=1), "less than 1, found 1"),
        (lambda: metrics.interaction_tpr_at_fdp(NOISY, NOISY, ADDITIVE, fdp=-0.1), "found -0.1"),
        (lambda: metrics.interaction_classes(NOISY, ADDITIVE, share=2), "found 2"),
        (lambda: metrics.interaction_classes(NOISY, ADDITIVE, singles=(FIRST, FIRST[0])), r"singles\[1\] \(100,\)"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
