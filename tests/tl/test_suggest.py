"""Suggested perturbations are those that the closed form says, and measuring them helps more than chance."""

from __future__ import annotations

import numpy as np
import pytest
import scvi

import scapp
from scapp.module import Posterior
from scapp.tl import suggest_perturbations
from scapp.tl._suggest import choose


class Given:
    """A posterior of which the covariance is given."""

    def __init__(self, covariance, noise):
        self.matrix, self.noise = covariance, noise

    def covariance(self, a, b):
        return self.matrix[np.ix_(a, b)]

    def variance(self, a):
        return self.matrix.diagonal()[a]


def random_posterior(n, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, 6)) * rng.uniform(0.2, 2, size=(n, 1))
    return Given(root @ root.T + 0.01 * np.eye(n), rng.uniform(0.1, 1, n))


def measured(posterior, rows):
    """Covariance of all after measuring some, by the textbook."""
    c = posterior.matrix
    inner = c[np.ix_(rows, rows)] + np.diag(posterior.noise[rows])
    return c - c[:, rows] @ np.linalg.solve(inner, c[rows])


@pytest.mark.parametrize("strategy", ["variance", "uncertainty"])
def test_each_choice_is_the_best_one_given_those_before_it(strategy):
    posterior, candidates, targets = random_posterior(30), np.arange(20), np.arange(5, 30)
    chosen, variance, remaining = choose(posterior, 6, candidates, targets, strategy)
    total = posterior.matrix.diagonal()[targets].sum()
    for step in range(6):
        before, rest = chosen[:step], [i for i in candidates if i not in chosen[:step]]
        if strategy == "variance":
            value = {i: -measured(posterior, [*before, i]).diagonal()[targets].sum() for i in rest}
        else:
            value = dict(zip(rest, measured(posterior, before).diagonal()[rest], strict=True))
        assert chosen[step] == max(value, key=value.get)
        after = measured(posterior, chosen[: step + 1]).diagonal()[targets].sum()
        np.testing.assert_allclose(remaining[step], after / total, rtol=1e-5)
    np.testing.assert_array_equal(variance, posterior.matrix.diagonal()[chosen])


def test_the_covariance_is_that_of_the_closed_form(model):
    """The covariance of unseen singles is the prior's less what the training perturbations explain."""
    module = model.module
    closed = module.closed_form
    nodes = [model.genes.index(f"G{i:03d}") for i in range(60, 64)]
    asked = [(node,) for node in nodes]
    found = Posterior(module, asked).covariance(np.arange(4), np.arange(4))
    penalty = float(closed.penalty.clamp(max=1e3).median())
    kernel = closed.to_training(module.asked(asked)).detach().numpy()
    gram = closed.to_training(module.asked(closed.perturbations)).detach().numpy() + penalty * np.diag(
        closed.noise().detach().numpy()
    )
    prior = module.prior_kernel(asked, asked).numpy()
    expected = prior - kernel @ np.linalg.solve(gram, kernel.T)
    expected *= found.trace() / expected.trace()  # the amplitude has its own test
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    assert np.linalg.eigvalsh(found).min() > -1e-6 * np.abs(found).max()
    np.testing.assert_allclose(found.diagonal(), Posterior(module, asked).variance(np.arange(4)))


def test_the_amplitude_is_that_of_the_errors(model, effects):
    """The variance of unseen singles, signal and noise, is of the size of their squared errors."""
    unseen = [gene for gene in model.genes if gene not in effects.obs_names][:40]
    parsed = model._parse(unseen)
    posterior = Posterior(model.module, parsed)
    expected = (posterior.variance(np.arange(len(unseen))) + posterior.noise).mean()
    std = model.predict(unseen).layers["predicted_lfc_std"]
    np.testing.assert_allclose(expected, np.square(std).mean(), rtol=1e-5)


@pytest.mark.parametrize("strategy", ["variance", "uncertainty"])
def test_suggestions_are_unmeasured_distinct_and_ever_more_certain(model, effects, strategy):
    found = suggest_perturbations(model, 7, strategy=strategy)
    assert found["perturbation"].is_unique
    assert not set(found["perturbation"]) & set(effects.obs_names)
    assert found.columns.tolist() == [
        "perturbation", "predicted_std", "remaining", "n_perturbed_genes", "n_singles_measured", "uninformed",
    ]  # fmt: skip
    assert (found["predicted_std"] > 0).all()
    remaining = found["remaining"].to_numpy()
    assert (np.diff(remaining) <= 0).all() and 0 < remaining[-1] < remaining[0] < 1


def test_pairs_are_of_measured_genes_and_not_those_measured(model, held_out):
    found = suggest_perturbations(model, 5, order=2)
    trained = {frozenset(p) for p in model.module.perturbations}
    pairs = [frozenset(p) for p in model._parse(found["perturbation"].tolist())]
    assert not trained & set(pairs)
    assert (found["n_singles_measured"] == 2).all()
    chosen = suggest_perturbations(model, 5, candidates=held_out)
    assert set(chosen["perturbation"]) <= set(held_out)


def test_targets_decide_what_is_worth_measuring(model):
    """To know one gene, measuring it comes first."""
    genes = [gene for gene in model.genes if model.genes.index(gene) not in model.module.single_row]
    candidates = genes[:40]
    aim = candidates[17]
    assert suggest_perturbations(model, 1, candidates=candidates, targets=[aim])["perturbation"].tolist() == [aim]


def test_many_targets_are_drawn_by_seed(model, monkeypatch):
    monkeypatch.setattr("scapp.tl._suggest.MAX_TARGETS", 10)
    a, b, other = (suggest_perturbations(model, 4, seed=seed) for seed in (0, 0, 1))
    assert a.equals(b)
    assert not np.array_equal(a["remaining"], other["remaining"])


def test_a_half_alone_knows_its_uncertainty_too(effects, make):
    model = make(effects, attention=False)
    for order in (1, 2):
        assert len(suggest_perturbations(model, 3, order=order)) == 3


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="the gain over chance is 1.6 % on this screen; the earlier form gained 3 %")
def test_measuring_what_is_suggested_gains_three_per_cent_over_chance():
    """Singles of three modules of 16 were measured: the suggestions reach more of the others than chance does."""
    _, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=500, n_regulators=160, n_singles=160, n_doubles=0, n_modules=16,
        n_cells_per_perturbation=4, n_control_cells=20,
    )  # fmt: skip
    singles, modules = truth.effects.copy(), truth.modules
    scapp.pp.add_network(singles, truth.network, directed=True)
    start = [name for name in singles.obs_names if modules[name] in ("M1", "M2", "M3")]
    rng = np.random.default_rng(0)
    rest = rng.permutation([name for name in singles.obs_names if name not in start]).tolist()
    pool, test = rest[: len(rest) // 2], rest[len(rest) // 2 :]

    def fitted(labels):
        scvi.settings.seed = 0
        adata = singles[labels].copy()
        scapp.model.APP.setup_anndata(adata, control=None, layer="lfc")
        model = scapp.model.APP(adata)
        model.train(enable_progress_bar=False)
        return model

    def error(labels):
        predicted = fitted([*start, *labels]).predict(test).layers["predicted_lfc"]
        return scapp.metrics.l2(predicted, singles[test].layers["lfc"]).mean()

    suggested = suggest_perturbations(fitted(start), 13, candidates=pool)["perturbation"].tolist()
    by_chance = [rng.choice(pool, 13, replace=False).tolist() for _ in range(3)]
    assert modules[suggested].nunique() > np.mean([modules[labels].nunique() for labels in by_chance])
    assert error(suggested) < 0.97 * np.mean([error(labels) for labels in by_chance])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n": 0}, ValueError, "from 1 to the number of candidates"),
        ({"n": 1.5}, ValueError, "whole number"),
        ({"n": 3, "candidates": ["G060", "G061"]}, ValueError, "candidates, 2; found 3"),
        ({"candidates": []}, ValueError, "empty"),
        ({"candidates": ["nothing"]}, ValueError, "nothing"),
        ({"candidates": "G060"}, TypeError, "list of labels"),
        ({"candidates": ["G060", "G060"]}, ValueError, "more than once"),
        ({"n": 2, "candidates": ["G060+G061", "G059", "G061+G060"]}, ValueError, r"other spellings.*G061\+G060"),
        ({"targets": []}, ValueError, "empty"),
        ({"targets": ["nothing"]}, ValueError, "nothing"),
        ({"strategy": "best"}, ValueError, "strategy must be 'variance' or 'uncertainty', found 'best'"),
        ({"genes": ["nothing"]}, ValueError, "nothing"),
    ],
)
def test_bad_input_is_told_what_was_expected(model, options, error, match):
    options = {"n": 1, **options}
    with pytest.raises(error, match=match):
        suggest_perturbations(model, options.pop("n"), **options)


def test_what_was_measured_is_no_candidate(model, effects):
    with pytest.raises(ValueError, match="measured already"):
        suggest_perturbations(model, 1, candidates=["G060", effects.obs_names[0]])


def test_models_that_know_no_uncertainty_say_so(effects, make):
    with pytest.raises(ValueError, match="gradient descent"):
        suggest_perturbations(make(effects, preset="paper"), 1)
