"""Denoised additive effects against refits and planted noise."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scapp import baselines

GENES = [f"g{i}" for i in range(120)]


def screen(noise: float, n_doubles: int = 25, seed: int = 0):
    """Singles of rank 2 with noise, doubles that are 0.8 times their sum; the truth of every pair."""
    rng = np.random.default_rng(seed)
    targets = [f"T{i}" for i in range(30)]
    clean = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 120))
    pairs = [(i, j) for i in range(30) for j in range(i + 1, 30)]
    order = rng.permutation(len(pairs))
    labels = [f"{targets[pairs[k][0]]}+{targets[pairs[k][1]]}" for k in order]
    truth = np.array([0.8 * (clean[pairs[k][0]] + clean[pairs[k][1]]) for k in order])
    names = targets + labels[:n_doubles]
    lfc = np.vstack([clean, truth[:n_doubles]]) + noise * rng.normal(size=(len(names), 120))
    obs = pd.DataFrame({"perturbation": names}, index=names)
    effects = ad.AnnData(obs=obs, var=pd.DataFrame(index=GENES), layers={"lfc": lfc})
    return effects, labels[n_doubles:], truth[n_doubles:]


def test_planted_noise_is_removed():
    effects, asked, truth = screen(noise=1.0)
    error = {}
    for baseline in (baselines.ShrunkAdditive, baselines.DenoisedAdditive):
        model = baseline().fit(effects)
        error[baseline] = np.linalg.norm(model.predict(asked).layers["predicted_lfc"] - truth, axis=1).mean()
    assert error[baselines.DenoisedAdditive] < 0.5 * error[baselines.ShrunkAdditive]
    assert model.threshold > 0.1 and model.scale == pytest.approx(1, abs=0.15)


def test_without_noise_nothing_is_cut_and_the_planted_scale_is_found():
    effects, asked, truth = screen(noise=0.0)
    model = baselines.DenoisedAdditive().fit(effects)
    assert model.threshold == 0 and model.scale == pytest.approx(0.8)
    np.testing.assert_allclose(model.predict(asked).layers["predicted_lfc"], truth, atol=1e-4)


def test_the_threshold_is_that_of_the_least_error_when_each_combination_is_left_out():
    effects, _, _ = screen(noise=1.0, n_doubles=6)
    model = baselines.DenoisedAdditive().fit(effects)

    def left_out(threshold):
        error = 0.0
        doubles = [label for label in effects.obs_names if "+" in label]
        for label in doubles:
            train = effects[effects.obs_names != label].copy()
            got = baselines.DenoisedAdditive(threshold=threshold).fit(train).predict([label]).layers["predicted_lfc"]
            error += np.sum((got - effects[label].layers["lfc"]) ** 2)
        return error

    chosen = left_out(model.threshold)
    assert all(chosen <= left_out(other) + 1e-6 for other in (0.0, 0.5 * model.threshold, 1.5 * model.threshold))


def test_without_a_threshold_it_is_the_shrunk_additive_model():
    effects, asked, _ = screen(noise=0.5)
    got = baselines.DenoisedAdditive(threshold=0).fit(effects).predict(asked).layers["predicted_lfc"]
    expected = baselines.ShrunkAdditive().fit(effects).predict(asked).layers["predicted_lfc"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_doubles", [0, 1])
def test_without_combinations_the_level_of_noise_cuts_and_a_warning_says_so(n_doubles):
    effects, asked, truth = screen(noise=1.0, n_doubles=n_doubles)
    model = baselines.DenoisedAdditive()
    with pytest.warns(UserWarning, match=f"{n_doubles} training combination.*at least 2.*level of noise") as caught:
        model.fit(effects)
    assert caught[0].filename == __file__ and model.scale == 1
    # Rank 2 and nothing else is left of the singles.
    singles = [f"T{i}" for i in range(30)]
    size = np.linalg.svd(model.predict(singles).layers["predicted_lfc"], compute_uv=False)
    assert size[1] > 1 and size[2] < 0.1 * size[1]


def test_a_gene_never_perturbed_alone_counts_as_the_mean_denoised_single_and_is_named():
    effects, _, _ = screen(noise=0.5)
    model = baselines.DenoisedAdditive().fit(effects)
    singles = model.predict([f"T{i}" for i in range(30)]).layers["predicted_lfc"].astype(float)
    with pytest.warns(UserWarning, match="1 gene.*alone in training: X"):
        got = model.predict(["T3+X"]).layers["predicted_lfc"][0]
    np.testing.assert_allclose(got, model.scale * (singles[3] + singles.mean(axis=0)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, np.nan])
def test_a_threshold_that_is_no_share_is_refused(threshold):
    with pytest.raises(ValueError, match="share of the largest singular value"):
        baselines.DenoisedAdditive(threshold=threshold)
