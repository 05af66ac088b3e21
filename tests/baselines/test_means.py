"""The geometric median, the matching mean and the partner mean against closed forms."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scapp import baselines
from scapp.baselines._mean import geometric_median


def total(points, at):
    return np.linalg.norm(points - at, axis=1).sum()


def test_the_median_of_a_triangle_sees_each_side_under_120_degrees():
    triangle = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]])
    rays = triangle - geometric_median(triangle)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    np.testing.assert_allclose((rays @ rays.T)[np.triu_indices(3, 1)], -0.5, atol=1e-6)


def test_the_median_is_a_data_point_where_no_other_pulls_it_away():
    # An angle of more than 120 degrees at the first point; and the mean, where the search begins, is a data point.
    obtuse = np.array([[0.0, 0.0], [10.0, 0.5], [-10.0, 0.5]])
    np.testing.assert_array_equal(geometric_median(obtuse), obtuse[0])
    cross = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    np.testing.assert_array_equal(geometric_median(cross), [0, 0])


def test_the_search_leaves_a_data_point_at_which_it_begins_but_which_is_not_the_median():
    # The mean is the first point exactly; the median lies near the three others that are close together.
    points = np.array([[0.0, 0.0], [-1.0, 0.0], [-1.0, 0.1], [-1.0, -0.1], [3.0, 0.0]])
    assert not points.mean(axis=0).any()
    median = geometric_median(points)
    assert median[0] < -0.9 and total(points, median) < total(points, points[0]) - 0.5


def test_equal_points_and_majorities_have_themselves_as_median():
    np.testing.assert_array_equal(geometric_median(np.ones((4, 3))), np.ones(3))
    majority = np.array([[2.0, 5.0]] * 3 + [[100.0, -7.0], [0.0, 0.0]])
    np.testing.assert_array_equal(geometric_median(majority), [2, 5])


@given(arrays(float, st.tuples(st.integers(1, 7), st.integers(1, 4)), elements=st.integers(-5, 5).map(float)))
@settings(max_examples=60)
def test_no_point_nearby_and_no_data_point_is_better(points):
    median = geometric_median(points)
    best = total(points, median)
    others = np.vstack([points, points.mean(axis=0), median + 0.01 * np.eye(points.shape[1])])
    assert all(best <= total(points, other) + 1e-6 for other in others)


def make(labels, lfc):
    obs = pd.DataFrame({"perturbation": labels}, index=labels)
    # Whole numbers of which none is negative are refused as counts: the third gene has another.
    lfc = np.column_stack([np.array(lfc, float), np.full(len(labels), -0.5)])
    return ad.AnnData(obs=obs, var=pd.DataFrame(index=["g1", "g2", "g3"]), layers={"lfc": lfc})


def test_the_median_of_all_training_perturbations_is_predicted_for_each():
    effects = make(["A", "B", "A+B"], [[0, 0], [10, 0.5], [-10, 0.5]])
    predicted = baselines.GeometricMedian().fit(effects).predict(["C", "A"]).layers["predicted_lfc"][:, :2]
    np.testing.assert_array_equal(predicted, np.zeros((2, 2)))


def test_matching_mean_averages_singles_and_takes_the_mean_of_all_for_a_gene_without_one():
    effects = make(["A", "B", "B+C"], [[2, 0], [0, 4], [4, 8]])
    model = baselines.MatchingMean().fit(effects)
    predicted = model.predict(["B+A", "A"]).layers["predicted_lfc"][:, :2]
    np.testing.assert_allclose(predicted, [[1, 2], [2, 0]])
    # C occurs in a combination, but was not perturbed alone.
    with pytest.warns(UserWarning, match="2 gene.*alone in training: C, D") as caught:
        predicted = model.predict(["A+C", "D"]).layers["predicted_lfc"][:, :2]
    assert caught[0].filename == __file__
    np.testing.assert_allclose(predicted, [[2, 2], [2, 4]])


def test_partner_mean_weighs_training_combinations_by_the_share_of_their_genes_that_are_shared():
    labels = ["A", "B", "A+C", "B+C", "A+B+D", "E+F"]
    effects = make(labels, [[1, 0], [3, 2], [6, 0], [0, 6], [9, 9], [-1, -1]])
    model = baselines.PartnerMean().fit(effects)
    predicted = model.predict(["A+B", "D+X", "C+A", "X", "A"]).layers["predicted_lfc"][:, :2]
    by_hand = [
        (np.array([6, 0]) / 2 + np.array([0, 6]) / 2 + np.array([9, 9]) * 2 / 3) / (1 / 2 + 1 / 2 + 2 / 3),
        np.array([9, 9]),
        # A training combination is among its own partners.
        (np.array([6, 0]) + np.array([0, 6]) / 2 + np.array([9, 9]) / 3) / (1 + 1 / 2 + 1 / 3),
        np.array([2, 1]),
        np.array([2, 1]),
    ]
    np.testing.assert_allclose(predicted, by_hand, rtol=1e-6)


def test_partner_mean_says_of_which_labels_the_mean_of_the_combinations_stands():
    model = baselines.PartnerMean().fit(make(["A", "A+B", "A+C"], [[9, 9], [1, 2], [3, 4]]))
    with pytest.warns(
        UserWarning, match=r"2 combination\(s\) share no gene.*D\+E, E\+F. The mean of the training comb"
    ):
        predicted = model.predict(["A+E", "E+D", "F+E"]).layers["predicted_lfc"][:, :2]
    np.testing.assert_array_equal(predicted, [[2, 3]] * 3)


def test_partner_mean_falls_back_on_all_perturbations_where_a_kind_is_missing():
    singles = baselines.PartnerMean().fit(make(["A", "B"], [[1, 2], [3, 4]]))
    with pytest.warns(UserWarning, match="training perturbations, of which none is a combination"):
        np.testing.assert_array_equal(singles.predict(["A+B"]).layers["predicted_lfc"][:, :2], [[2, 3]])
    combinations = baselines.PartnerMean().fit(make(["A+B", "B+C"], [[1, 2], [3, 4]]))
    with pytest.warns(UserWarning, match=r"No single perturbation is in training to predict 1 from: A\."):
        np.testing.assert_array_equal(combinations.predict(["A"]).layers["predicted_lfc"][:, :2], [[2, 3]])


@given(st.permutations(range(6)))
@settings(max_examples=20)
def test_partner_mean_does_not_depend_on_the_order_of_perturbations(order):
    effects = make(["A", "B", "A+C", "B+C", "A+B+D", "E+F"], np.random.default_rng(0).normal(size=(6, 2)))
    asked = ["A+B", "C+E", "D+A", "F"]
    expected = baselines.PartnerMean().fit(effects).predict(asked).layers["predicted_lfc"][:, :2]
    got = baselines.PartnerMean().fit(effects[order].copy()).predict(asked).layers["predicted_lfc"][:, :2]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
