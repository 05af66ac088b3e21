"""Residual kernels over pairs against their formulas, by loops, and on planted interactions."""

from __future__ import annotations

from itertools import combinations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import check_grad

from scapp import baselines
from scapp.baselines._kernel_ridge import RIDGES, choose_ridge
from scapp.baselines._pairs import WIDTHS, _negative_log_likelihood

BOTH = [baselines.PairKernel, baselines.GaussianProcess]
TARGETS = [f"T{i}" for i in range(12)]


def make(labels, lfc):
    obs = pd.DataFrame({"perturbation": labels}, index=labels)
    genes = [f"g{i}" for i in range(np.shape(lfc)[1])]
    return ad.AnnData(obs=obs, var=pd.DataFrame(index=genes), layers={"lfc": np.asarray(lfc, dtype=float)})


@pytest.fixture(scope="module")
def screen():
    """Singles of three kinds; two genes of one kind add up, two of different kinds give what their kinds do."""
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(3, 40))
    interaction = {pair: rng.normal(size=40) for pair in combinations(range(3), 2)}
    singles = np.array([kinds[i % 3] for i in range(12)]) + 0.2 * rng.normal(size=(12, 40))
    pairs = list(combinations(range(12), 2))
    rng.shuffle(pairs)
    doubles = []
    for i, j in pairs:
        kind = tuple(sorted((i % 3, j % 3)))
        doubles.append(0.8 * (singles[i] + singles[j]) + interaction.get(kind, 0))
    labels = TARGETS + [f"{TARGETS[i]}+{TARGETS[j]}" for i, j in pairs]
    return make(labels, np.vstack([singles, doubles]))


@pytest.fixture(scope="module")
def train(screen):
    return screen[:42].copy()


@pytest.mark.parametrize("baseline", BOTH)
def test_a_planted_interaction_of_similar_genes_is_learned(screen, train, baseline):
    held_out = screen[42:]
    observed = held_out.layers["lfc"]
    got = baseline().fit(train).predict(held_out.obs_names).layers["predicted_lfc"]
    shrunk = baselines.ShrunkAdditive().fit(train).predict(held_out.obs_names).layers["predicted_lfc"]
    error = np.linalg.norm(got - observed, axis=1).mean() / np.linalg.norm(shrunk - observed, axis=1).mean()
    assert error < 0.5


def residuals(train):
    shrunk = baselines.ShrunkAdditive().fit(train)
    doubles = [label for label in train.obs_names if "+" in label]
    sums = np.array([sum(train[gene].layers["lfc"][0] for gene in label.split("+")) for label in doubles])
    return doubles, sums, train[doubles].layers["lfc"] - shrunk.scale * sums, shrunk.scale


def test_pair_kernel_is_the_formula(train):
    model = baselines.PairKernel().fit(train)
    doubles, _, residual, scale = residuals(train)

    def similar(a, b):
        x, y = train[a].layers["lfc"][0], train[b].layers["lfc"][0]
        return np.exp(-(1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)) / model.width)

    def kernel(p, q):
        (a, b), (c, d) = p.split("+"), q.split("+")
        return (similar(a, c) * similar(b, d) + similar(a, d) * similar(b, c)) / 2

    K = np.array([[kernel(p, q) for q in doubles] for p in doubles])
    coefficients = np.linalg.inv(K + model.ridge * np.eye(len(K))) @ residual
    asked = "T1+T8"
    expected = scale * (train["T1"].layers["lfc"][0] + train["T8"].layers["lfc"][0])
    expected = expected + np.array([kernel(asked, q) for q in doubles]) @ coefficients
    np.testing.assert_allclose(model.predict(["T8+T1"]).layers["predicted_lfc"][0], expected, rtol=1e-4, atol=1e-5)


def test_gaussian_process_is_the_formula(train):
    model = baselines.GaussianProcess().fit(train)
    doubles, sums, residual, scale = residuals(train)
    a = model.hyperparameters
    size = np.mean(np.sum(sums**2, axis=1))
    unit = np.median([np.sum((x - y) ** 2) for x, y in combinations(sums, 2)])

    def kernel(p, x, q, y):
        shared = len(set(p.split("+")) & set(q.split("+"))) / 2
        distance = np.sum((x - y) ** 2)
        near = np.exp(-distance / (2 * a["length"] * unit))
        return a["constant"] + a["linear"] * x @ y / size + a["similar sum"] * near + a["shared genes"] * shared

    K = np.array(
        [[kernel(p, x, q, y) for q, y in zip(doubles, sums, strict=True)] for p, x in zip(doubles, sums, strict=True)]
    )
    coefficients = np.linalg.inv(K + a["noise"] * np.eye(len(K))) @ residual
    x = train["T1"].layers["lfc"][0] + train["T8"].layers["lfc"][0]
    row = np.array([kernel("T1+T8", x, q, y) for q, y in zip(doubles, sums, strict=True)])
    expected = scale * x + row @ coefficients
    np.testing.assert_allclose(model.predict(["T1+T8"]).layers["predicted_lfc"][0], expected, rtol=1e-4, atol=1e-5)


def test_likelihood_is_that_of_a_normal_distribution_and_its_gradient_is_right():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(7, 3)), rng.normal(size=(7, 5))
    distance = np.sum((x[:, None] - x) ** 2, axis=-1)
    parts = [np.ones((7, 7)), x @ x.T, distance, np.eye(7)]
    at = np.log([0.3, 0.5, 0.7, 0.2, 0.8, 0.4])
    gram = targets @ targets.T
    value, _ = _negative_log_likelihood(at, parts, gram, 5)
    a = np.exp(at)
    covariance = a[0] + a[1] * parts[1] + a[2] * np.exp(-distance / (2 * a[4])) + (a[3] + a[5]) * np.eye(7)
    expected = -multivariate_normal(cov=covariance).logpdf(targets.T).sum() / 5 - 3.5 * np.log(2 * np.pi)
    assert value == pytest.approx(expected)
    error = check_grad(
        lambda p: _negative_log_likelihood(p, parts, gram, 5)[0],
        lambda p: _negative_log_likelihood(p, parts, gram, 5)[1],
        at,
    )
    assert error < 1e-5


def test_leave_one_out_error_is_that_of_refits():
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(9, 4)), rng.normal(size=(9, 6))
    kernel = x @ x.T
    unit = np.trace(kernel) / 9

    def refits(ridge):
        error = 0.0
        for i in range(9):
            rest = np.arange(9) != i
            weights = np.linalg.solve(kernel[np.ix_(rest, rest)] + ridge * np.eye(8), targets[rest])
            error += np.sum((targets[i] - kernel[i, rest] @ weights) ** 2)
        return error

    ridge, error = choose_ridge(kernel, targets @ targets.T)
    assert error == pytest.approx(refits(ridge))
    assert ridge == min((r * unit for r in RIDGES), key=refits)


def test_hyperparameters_come_from_their_grids_and_are_none_before_the_fit(train):
    for baseline, names in (
        (baselines.PairKernel, ("width", "ridge")),
        (baselines.GaussianProcess, ("hyperparameters",)),
    ):
        assert all(getattr(baseline(), name) is None for name in names)
        assert all(getattr(baseline().fit(train), name) is not None for name in names)
    assert baselines.PairKernel().fit(train).width in WIDTHS


@pytest.mark.parametrize("baseline", BOTH)
def test_singles_are_predicted_as_measured(train, baseline):
    got = baseline().fit(train).predict(["T3"]).layers["predicted_lfc"]
    np.testing.assert_allclose(got, train["T3"].layers["lfc"], rtol=1e-6)


@pytest.mark.parametrize("baseline", BOTH)
def test_an_unseen_gene_is_named_and_far_from_all_pairs_nothing_is_added_but_what_is_common(train, baseline):
    with pytest.warns(UserWarning, match="1 gene.*alone in training: X") as caught:
        got = baseline().fit(train).predict(["T1+X"]).layers["predicted_lfc"]
    assert len(caught) == 1 and caught[0].filename == __file__ and np.isfinite(got).all()


@pytest.mark.parametrize("baseline", BOTH)
@pytest.mark.parametrize("n_doubles", [0, 3])
def test_with_too_few_combinations_it_is_the_shrunk_sum_and_a_warning_says_so(screen, baseline, n_doubles):
    few = screen[: 12 + n_doubles].copy()
    model = baseline()
    with pytest.warns(UserWarning) as caught:
        model.fit(few)
    assert any(f"Only {n_doubles} training combination(s)" in str(each.message) for each in caught)
    assert {each.filename for each in caught} == {__file__}
    expected = [sum(few[gene].layers["lfc"][0] for gene in "T1 T8".split()) * model.scale]
    np.testing.assert_allclose(model.predict(["T1+T8"]).layers["predicted_lfc"], expected, rtol=1e-5)


@pytest.mark.parametrize("baseline", BOTH)
def test_exactly_scaled_sums_leave_nothing_to_learn(screen, baseline):
    exact = screen[:30].copy()
    for row, label in enumerate(exact.obs_names[12:], start=12):
        exact.layers["lfc"][row] = sum(exact[gene].layers["lfc"][0] for gene in label.split("+"))
    got = baseline().fit(exact).predict(["T1+T8"]).layers["predicted_lfc"][0]
    np.testing.assert_allclose(got, exact["T1"].layers["lfc"][0] + exact["T8"].layers["lfc"][0], rtol=1e-4, atol=1e-5)


def test_pair_kernel_names_larger_combinations_and_predicts_their_scaled_sum(train):
    model = baselines.PairKernel().fit(train)
    with pytest.warns(UserWarning, match=r"1 combination.*more than two genes.*T1\+T2\+T8") as caught:
        got = model.predict(["T8+T2+T1"]).layers["predicted_lfc"][0]
    assert len(caught) == 1 and caught[0].filename == __file__
    expected = model.scale * sum(train[gene].layers["lfc"][0] for gene in ("T1", "T2", "T8"))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_gaussian_process_takes_larger_combinations(train):
    got = baselines.GaussianProcess().fit(train).predict(["T8+T2+T1"]).layers["predicted_lfc"][0]
    sum_alone = baselines.ShrunkAdditive().fit(train).predict(["T8+T2+T1"]).layers["predicted_lfc"][0]
    assert np.isfinite(got).all() and not np.allclose(got, sum_alone)


@pytest.mark.parametrize("baseline", BOTH)
def test_a_second_fit_forgets_the_first(screen, train, baseline):
    model = baseline().fit(train)
    with pytest.warns(UserWarning, match="Only 3"):
        model.fit(screen[:15].copy())
    expected = model.scale * sum(screen[gene].layers["lfc"][0] for gene in ("T1", "T8"))
    np.testing.assert_allclose(model.predict(["T1+T8"]).layers["predicted_lfc"][0], expected, rtol=1e-5)
