"""A screen in one line helps in another: its effects as features, and predictions over another control profile."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scvi
from scipy import sparse

import scapp
from scapp.model import APP

SIZE = {"n_genes": 180, "n_regulators": 60, "n_doubles": 0, "n_cells_per_perturbation": 40, "n_control_cells": 300}


@pytest.fixture(scope="module")
def lines():
    """Effects of 44 genes in one line and of all 60 in the other, with the truth of the first."""
    first, truth = scapp.datasets.simulated_perturb_seq(n_singles=44, n_modules=5, **SIZE)
    second, _ = scapp.datasets.simulated_perturb_seq(n_singles=60, n_modules=5, line=1, **SIZE)
    effects, other = (scapp.pp.pseudobulk(cells, batch_key="batch") for cells in (first, second))
    # A network that knows nothing of either.
    rng = np.random.default_rng(0)
    network = sparse.random(180, 180, density=0.03, random_state=rng, format="csr", dtype=np.float32)
    network.setdiag(0)
    effects.varp["network"] = sparse.csr_matrix(network)
    scapp.pp.add_effects_as_features(effects, other, key_added="other", control=None)
    return effects, other, truth.effects[~truth.effects.obs["in_screen"]].copy()


def train(effects, features) -> APP:
    scvi.settings.seed = 0
    APP.setup_anndata(effects, control=None, layer="lfc", gene_features_key=features)
    model = APP(effects)
    model.train(max_epochs=10, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def trained(lines):
    return train(lines[0].copy(), "other")


def mean_l2(model: APP, truth) -> float:
    found = model.predict(list(truth.obs_names)).layers["predicted_lfc"]
    return float(np.linalg.norm(found - truth.layers["lfc"], axis=1).mean())


def test_effects_in_another_line_tell_what_unseen_genes_do(lines, trained):
    effects, _, unseen = lines
    assert unseen.n_obs == 16
    none = mean_l2(train(effects.copy(), []), unseen)
    mean = scapp.baselines.Mean().fit(effects)
    constant = np.linalg.norm(
        mean.predict(list(unseen.obs_names)).layers["predicted_lfc"] - unseen.layers["lfc"], axis=1
    )
    assert mean_l2(trained, unseen) < 0.85 * min(none, constant.mean())


def test_features_of_shuffled_genes_do_not(lines):
    # So it is what the features say of each gene, and not that there are more of them.
    effects, _, unseen = lines
    shuffled = effects.copy()
    known = np.flatnonzero(~np.isnan(shuffled.varm["other"]).any(axis=1))
    shuffled.varm["other"][known] = shuffled.varm["other"][np.random.default_rng(0).permutation(known)]
    assert mean_l2(train(shuffled, "other"), unseen) > 0.95 * mean_l2(train(effects.copy(), []), unseen)


def test_predictions_in_another_line_add_the_same_changes_to_its_profile(lines, trained):
    _, other, unseen = lines
    names = list(unseen.obs_names)
    here = trained.predict(names)
    for control_mean in (other, other.var["control_mean"][::-1], other.var["control_mean"].to_numpy()):
        there = trained.predict(names, control_mean=control_mean)
        np.testing.assert_array_equal(there.layers["predicted_lfc"], here.layers["predicted_lfc"])
        expected = np.maximum(other.var["control_mean"].to_numpy() + here.layers["predicted_lfc"], 0)
        np.testing.assert_allclose(there.X, expected, rtol=1e-5)
        np.testing.assert_allclose(there.var["control_mean"], other.var["control_mean"], rtol=1e-6)
    # Nearer to what cells of that line show than the unperturbed profile, and than the profile of the first line.
    error = {
        name: np.linalg.norm(values - other[names].X, axis=1).mean()
        for name, values in {"there": there.X, "control": other.var["control_mean"].to_numpy(), "here": here.X}.items()
    }
    assert error["there"] < 0.9 * error["control"]


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (lambda other: other.var["control_mean"].iloc[:-2], "no value for 2 of the 180 measured genes: G179, G180"),
        (lambda other: np.ones(3), r"shape \(3,\), expected one value for each of the 180"),
        (lambda other: -other.var["control_mean"] - 1, "negative values"),
        (lambda other: np.expm1(other.var["control_mean"]) + 10, r"more than log1p\(10,000\) = 9.21"),
        (lambda other: other.var["control_mean"] + np.inf, "reaches inf"),
        (lambda other: pd.concat([other.var["control_mean"]] * 2), "more than once: G001"),
        (lambda other: other[:, :5].copy()[:, []].copy(), "no value for 180"),
    ],
)
def test_profiles_that_do_not_fit_are_refused(lines, trained, profile, message):
    with pytest.raises(ValueError, match=message):
        trained.predict(["G001"], control_mean=profile(lines[1]))


def test_a_profile_without_names_or_effects_is_refused(lines, trained):
    with pytest.raises(ValueError, match="works only with labels"):
        trained.predict(control_mean=np.ones(180))
    bare = lines[1].copy()
    del bare.var["control_mean"]
    with pytest.raises(ValueError, match="no var\\['control_mean'\\]"):
        trained.predict(["G001"], control_mean=bare)
    bare.varm["control_mean"] = np.ones((180, 2))  # as effects in contexts have it
    with pytest.raises(ValueError, match="several contexts.*select_context"):
        trained.predict(["G001"], control_mean=bare)
    for nothing in ({"G001": 1.0}, pd.Series("high", index=trained.genes)):
        with pytest.raises(TypeError, match="must be effects.*a Series of numbers"):
            trained.predict(["G001"], control_mean=nothing)


def test_genes_that_were_not_measured_need_no_control_mean():
    from scapp.model._results import profile_of

    profile = profile_of(pd.Series([1.0, 2.0], index=["b", "a"]), ["a", "b", "c"], np.array([True, True, False]))
    np.testing.assert_array_equal(profile, [2, 1, np.nan])
