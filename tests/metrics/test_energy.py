"""The energy distance against other formulas, and what it must not do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from scipy import stats

from scapp import metrics

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(40, 6)), rng.normal(1, 2, size=(30, 6))


def test_the_biased_form_is_that_of_cell_eval():
    def mean(a, b):
        return sklearn.metrics.pairwise_distances(a, b).mean()

    assert metrics.energy_distance(X, Y, unbiased=False) == pytest.approx(2 * mean(X, Y) - mean(X, X) - mean(Y, Y))


def test_in_one_dimension_it_is_twice_the_squared_distance_of_scipy():
    one, other = X[:, :1], Y[:, :1]
    expected = stats.energy_distance(one[:, 0], other[:, 0]) ** 2
    assert metrics.energy_distance(one, other, unbiased=False) == pytest.approx(expected)


def test_squares_compare_the_means_only():
    between = np.square(X.mean(axis=0) - Y.mean(axis=0)).sum()
    assert metrics.energy_distance(X, Y, metric="sqeuclidean", unbiased=False) == pytest.approx(2 * between)


def test_populations_of_few_cells_seem_no_farther():
    drawn = np.random.default_rng(1)
    found = [metrics.energy_distance(drawn.normal(size=(5, 4)), drawn.normal(size=(5, 4))) for _ in range(400)]
    biased = [
        metrics.energy_distance(drawn.normal(size=(5, 4)), drawn.normal(size=(5, 4)), unbiased=False)
        for _ in range(400)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20
    assert np.mean(biased) > 10 * abs(np.mean(found))


def test_spreads_count_and_not_only_means():
    wide = np.random.default_rng(2).normal(scale=3, size=(300, 3))
    narrow = np.random.default_rng(3).normal(scale=1, size=(300, 3))
    assert metrics.energy_distance(wide, narrow) > 0.5


def test_tables_are_aligned_by_gene_and_genes_can_be_chosen():
    genes = list("abcdef")
    shuffled = pd.DataFrame(Y, columns=genes)[genes[::-1]]
    assert metrics.energy_distance(pd.DataFrame(X, columns=genes), shuffled) == pytest.approx(
        metrics.energy_distance(X, Y)
    )
    assert metrics.energy_distance(X, Y, genes=[1, 3]) == pytest.approx(
        metrics.energy_distance(X[:, [1, 3]], Y[:, [1, 3]])
    )


def test_what_has_no_distance_is_refused():
    with pytest.raises(ValueError, match="two cells or more"):
        metrics.energy_distance(X[:1], Y)
    with pytest.raises(ValueError, match="6 columns and others 5"):
        metrics.energy_distance(X, Y[:, :5])
    with pytest.raises(ValueError, match="NaN or infinite"):
        metrics.energy_distance(X, np.where(Y > 3, np.nan, Y))
    with pytest.raises(ValueError, match="metric must be 'euclidean' or 'sqeuclidean', found 'l1'"):
        metrics.energy_distance(X, Y, metric="l1")
