"""The tasks hold out what ../shared/data/README.md says."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def doubles(tasks, shared_data):
    return tasks.doubles_task(shared_data)


@pytest.fixture(scope="module")
def singles(tasks, shared_data):
    return tasks.singles_task(shared_data)


def test_benchmark_doubles_are_the_120_with_both_singles_of_the_123_published_that_match(tasks, shared_data):
    effects = tasks.norman_effects(shared_data)
    published = {"+".join(sorted(label.split("+"))) for label in tasks._held_out(shared_data)["perturbation"]}
    published |= set(tasks.NEVER_HELD_OUT)
    assert len(published) == 124
    assert len(published & set(effects.obs_names)) == 123
    doubles = tasks.benchmark_doubles(shared_data, effects)
    assert len(doubles) == 120
    assert effects.obs.loc[doubles, "both_singles_measured"].all()


def test_doubles_splits_train_on_all_singles_and_hold_out_58_to_60(doubles):
    assert [split.seed for split in doubles] == [1, 2, 3, 4, 5]
    for split in doubles:
        assert 58 <= split.test.n_obs <= 60
        assert (split.test.obs["n_perturbed_genes"] == 2).all()
        assert (split.train.obs["n_perturbed_genes"] == 1).sum() == 104
        assert split.train.n_obs + split.test.n_obs == 104 + 120
        assert not set(split.train.obs_names) & set(split.test.obs_names)


def test_doubles_are_scored_on_the_1000_genes_highest_in_k562(doubles):
    split = doubles[0]
    tpm = split.train.var["k562_tpm"].fillna(0).to_numpy()
    assert len(set(split.scored)) == 1000
    assert tpm[split.scored].min() >= np.delete(tpm, split.scored).max()


def test_singles_are_790_knockdowns_by_2000_genes_with_158_held_out(singles):
    assert [split.seed for split in singles] == [0, 1, 2, 3, 4]
    for split in singles:
        assert (split.train.n_obs, split.test.n_obs) == (632, 158)
        assert split.train.n_vars == len(split.scored) == 2000
        assert not set(split.train.obs_names) & set(split.test.obs_names)
        assert np.abs(split.train.layers["lfc"]).max() <= 3
    everything = sorted({*singles[0].train.obs_names, *singles[0].test.obs_names})
    order = np.random.default_rng(0).permutation(790)[:158]
    assert singles[0].test.obs_names.tolist() == [everything[i] for i in order]


def test_no_knockdown_is_scored_on_its_own_target(singles):
    split = singles[0]
    own = [(gene, gene) for gene in split.train.obs_names if gene in split.train.var_names]
    assert len(own) > 100
    values = split.train.to_df("lfc")
    assert all(values.loc[pair] == 0 for pair in own)
