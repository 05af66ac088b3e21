"""The simulator plants what it says it plants."""

from __future__ import annotations

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp
from scapp import baselines, metrics
from scapp.datasets import simulated_perturb_seq
from scapp.datasets._counts import CountModel

SMALL = {"n_genes": 120, "n_regulators": 16, "n_singles": 12, "n_doubles": 20, "n_cells_per_perturbation": 10}


@pytest.fixture(scope="module")
def screen():
    return simulated_perturb_seq()


@pytest.fixture(scope="module")
def effects(screen):
    return scapp.pp.pseudobulk(screen[0], batch_key="batch")


def lfc(adata: ad.AnnData, labels, layer: str = "lfc") -> np.ndarray:
    return adata[list(labels)].layers[layer]


def test_cells_are_as_many_and_labelled_as_asked(screen):
    adata, truth = screen
    assert isinstance(adata.X, sparse.csr_matrix) and adata.X.dtype == np.float32
    assert np.array_equal(adata.X.data, np.round(adata.X.data)) and adata.X.min() >= 0
    n_cells = adata.obs["perturbation"].value_counts()
    assert n_cells.pop("control") == 600
    assert len(n_cells) == 120 and (n_cells == 50).all()
    doubles = [label for label in n_cells.index if "+" in label]
    assert sorted(doubles) == sorted(truth.interactions["perturbation"])
    assert all(label == "+".join(sorted(label.split("+"))) for label in doubles)
    assert set(truth.effects.obs_names[truth.effects.obs["in_screen"]]) == set(n_cells.index)
    assert (pd.crosstab(adata.obs["perturbation"], adata.obs["batch"]).to_numpy() >= 25).all()


def test_each_gene_is_perturbed_in_one_direction_and_follows_it(screen, effects):
    adata, truth = screen
    singles = truth.effects[truth.effects.obs["n_perturbed_genes"] == 1]
    types = singles.obs["perturbation_type"].to_dict()
    assert set(types.values()) == {"knockdown", "activation"}
    for label, found in adata.obs.groupby("perturbation", observed=True)["perturbation_type"].unique().items():
        expected = {types[gene] for gene in label.split("+")} if label != "control" else {"control"}
        assert found.tolist() == [expected.pop() if len(expected) == 1 else "mixed"]
    for gene in effects.obs_names[effects.obs["n_perturbed_genes"] == 1]:
        own = effects[gene, gene].layers["lfc"][0, 0]
        assert own < -0.3 if types[gene] == "knockdown" else own > 0.3


def test_pseudobulk_approaches_the_truth_as_its_standard_errors_say(screen, effects):
    error = effects.layers["lfc"] - lfc(screen[1].effects, effects.obs_names)
    assert np.abs(error.mean()) < 0.005
    assert 0.9 < np.sqrt(np.mean((error / effects.layers["lfc_se"]) ** 2)) < 1.12


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_pseudobulk_of_many_cells_is_the_truth(batch_key):
    adata, truth = simulated_perturb_seq(
        **{**SMALL, "n_singles": 2, "n_doubles": 1, "n_cells_per_perturbation": 8000}, n_control_cells=8000
    )
    effects = scapp.pp.pseudobulk(adata, batch_key=batch_key)
    error = effects.layers["lfc"] - lfc(truth.effects, effects.obs_names)
    # What is left is the error of 8,000 cells.
    assert np.sqrt(np.mean((error / effects.layers["lfc_se"]) ** 2)) < 1.15
    assert np.abs(error).max() < 0.07
    assert np.abs(effects.var["control_mean"] - truth.effects.var["control_mean"]).max() < 0.06


@pytest.mark.parametrize(("dispersion", "dropout", "sd"), [(0.0, 0.0, 0.0), (0.5, 0.3, 0.6)])
def test_expected_expression_is_the_mean_over_drawn_cells(dispersion, dropout, sd):
    rng = np.random.default_rng(0)
    rates = rng.lognormal(0, 1, (1, 200))
    model = CountModel(rng.lognormal(0, 0.2, (2, 200)), 2000, sd, dispersion, dropout)
    batch = np.arange(8000) % 2
    counts = model.draw(rng, rates, np.zeros(8000, int), batch).toarray()
    drawn = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    assert np.abs(drawn - model.expected_log_expression(rates)[0]).max() < 0.1
    assert np.abs(np.mean(drawn - model.expected_log_expression(rates)[0])) < 0.02
    np.testing.assert_allclose(counts.sum(axis=1).mean(), 2000 * np.exp(sd**2 / 2), rtol=0.3 * dropout + 0.02)


def test_single_effects_reach_the_genes_downstream_and_no_others(screen):
    truth = screen[1]
    change = truth.effects.to_df("rate_change")
    for gene, rows in truth.downstream.groupby("gene"):
        changed = set(change.columns[change.loc[gene] != 0])
        assert changed == {gene, *rows["downstream"]}
    by_edges = truth.network.groupby("source")["target"].agg(set)
    assert all(by_edges[gene] <= set(rows["downstream"]) for gene, rows in truth.downstream.groupby("gene"))


def test_effects_follow_the_sign_of_their_edges(screen):
    truth = screen[1]
    change = truth.effects.to_df("rate_change")
    regulators = set(truth.modules.index)
    # Genes with this one path only: not regulated by another gene downstream of the regulator.
    sources = truth.network.groupby("target")["source"].agg(set)
    n = 0
    for gene, rows in truth.downstream.groupby("gene"):
        reached = set(rows["downstream"])
        for edge in truth.network[truth.network["source"] == gene].itertuples():
            if not sources[edge.target] & reached - regulators:
                assert np.sign(change.loc[gene, edge.target]) == np.sign(edge.weight) * np.sign(change.loc[gene, gene])
                n += 1
    assert n > 500


def test_effects_saturate_for_two_genes_of_a_module_without_interaction():
    truth = simulated_perturb_seq(interaction_strength=0)[1]
    same = 0
    change = truth.effects.to_df("rate_change")
    # Genes that only regulators regulate: along longer paths, the parts of an effect may be of different signs.
    by_regulator = truth.network["source"].isin(truth.modules.index).groupby(truth.network["target"]).all()
    first_step = by_regulator.index[by_regulator]
    assert not truth.interactions["interacts"].any()
    for label in truth.interactions["perturbation"]:
        genes = label.split("+")
        if truth.modules[genes[0]] != truth.modules[genes[1]]:
            continue
        alone = change.loc[genes, first_step.difference(genes)]
        direct = (alone.abs() > 0.3).all() & (np.sign(alone.iloc[0]) == np.sign(alone.iloc[1]))
        both = change.loc[label, alone.columns[direct]].abs()
        assert (both < 0.97 * alone.loc[:, direct].abs().sum()).all()
        assert (both > alone.loc[:, direct].abs().max()).all()
        same += 1
    assert same > 5
    assert change.drop(columns=truth.modules.index).abs().to_numpy().max() <= 1.2


def test_interactions_act_where_they_are_said_to_and_nowhere_else(screen):
    truth = screen[1]
    without = simulated_perturb_seq(interaction_strength=0)[1]
    pd.testing.assert_frame_equal(truth.network, without.network)
    downstream = truth.downstream.groupby("gene")["downstream"].agg(set)
    factors = {"none": 1, "synergy": 1.6, "buffering": 0.3, "suppression": -0.7}
    change, additive = truth.effects.to_df("rate_change"), without.effects.to_df("rate_change")
    for row in truth.interactions.itertuples():
        first, second = row.perturbation.split("+")
        shared = change.columns.isin(downstream[first] & downstream[second] - {first, second})
        factor = np.where(shared, factors[row.kind], 1)
        np.testing.assert_allclose(change.loc[row.perturbation], factor * additive.loc[row.perturbation], rtol=1e-5)
        assert row.interacts == (row.kind != "none")
        assert not row.interacts or shared.sum() >= 3


def test_all_kinds_of_interaction_are_there_and_depend_on_the_modules_alone(screen):
    truth = screen[1]
    kinds = truth.interactions.copy()
    assert kinds["interacts"].sum() == 40
    assert set(kinds["kind"]) == {"none", "synergy", "buffering", "suppression"}
    assert kinds.groupby("kind").size().min() >= 8
    kinds["modules"] = ["|".join(sorted(truth.modules[label.split("+")])) for label in kinds["perturbation"]]
    assert (kinds.groupby("modules")["kind"].nunique() == 1).all()


def test_the_additive_model_fails_on_interacting_pairs_only(screen):
    truth = screen[1].effects
    additive = baselines.Additive().fit(truth[truth.obs["n_perturbed_genes"] == 1].copy())
    error = {}
    for interacts, rows in screen[1].interactions.groupby("interacts"):
        predicted = additive.predict(rows["perturbation"]).layers["predicted_lfc"]
        error[interacts] = np.mean(metrics.l2(predicted, lfc(truth, rows["perturbation"])))
    assert error[True] > 3 * error[False]


def test_a_regulator_that_nobody_perturbed_is_predictable_from_shared_targets(screen, effects):
    truth = screen[1]
    edges = truth.network[truth.network["source"].isin(truth.modules.index)]
    targets = edges.pivot(index="source", columns="target", values="weight").notna().astype(float)
    targets = targets.div(np.linalg.norm(targets, axis=1), axis=0)
    seen = [gene for gene in truth.modules.index if gene in effects.obs_names]
    unseen = [gene for gene in truth.modules.index if gene not in effects.obs_names]
    assert len(unseen) == 8
    weight = (targets.loc[unseen] @ targets.loc[seen].T).to_numpy() ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    observed, trained = lfc(truth.effects, unseen), lfc(effects, seen)
    by_network = metrics.l2(weight @ trained, observed)
    by_mean = metrics.l2(np.tile(trained.mean(axis=0), (8, 1)), observed)
    assert np.mean(by_network) < 0.8 * np.mean(by_mean)


def test_effects_are_of_realistic_size(screen):
    singles = screen[1].effects[screen[1].effects.obs["n_perturbed_genes"] == 1]
    size = np.abs(singles.layers["lfc"])
    assert np.median(size) < 0.1
    assert 0.1 < (size > 0.3).mean() < 0.3
    assert 0.7 < np.quantile(size, 0.99) < 1.5


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    (one, truth), (two, again) = simulated_perturb_seq(**SMALL, seed=3), simulated_perturb_seq(**SMALL, seed=3)
    assert (one.X != two.X).nnz == 0
    pd.testing.assert_frame_equal(one.obs, two.obs)
    pd.testing.assert_frame_equal(truth.network, again.network)
    pd.testing.assert_frame_equal(truth.interactions, again.interactions)
    np.testing.assert_array_equal(truth.effects.layers["lfc"], again.effects.layers["lfc"])
    other = simulated_perturb_seq(**SMALL, seed=4)[1]
    assert not truth.network.equals(other.network)


def test_screen_and_truth_survive_h5ad(tmp_path):
    adata, truth = simulated_perturb_seq(**SMALL)
    for name, written in {"cells": adata, "effects": truth.effects}.items():
        written.write_h5ad(tmp_path / f"{name}.h5ad")
        again = ad.read_h5ad(tmp_path / f"{name}.h5ad")
        assert again.obs.astype(str).equals(written.obs.astype(str))
        assert abs(again.X - written.X).max() == 0
        assert set(again.layers) == set(written.layers)


def test_noise_free_and_single_only_screens_can_be_made():
    adata, truth = simulated_perturb_seq(
        **{**SMALL, "n_doubles": 0}, dispersion=0, dropout=0, batch_effect=0, library_size_sd=0, n_batches=1
    )
    assert adata.obs["batch"].unique().tolist() == ["batch1"]
    assert truth.interactions.empty and truth.effects.n_obs == 16
    assert np.isfinite(truth.effects.layers["lfc"]).all()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"n_singles": 17}, "n_singles must be from 1 to n_regulators=16"),
        ({"n_singles": 0}, "n_singles"),
        ({"n_doubles": 67}, "more than the 66 pairs"),
        ({"n_doubles": -1}, "n_doubles"),
        ({"n_genes": 40}, "at least 64 are needed"),
        ({"n_modules": 1}, "n_modules"),
        ({"n_regulators": 3, "n_singles": 3, "n_doubles": 1}, "at least n_modules=4"),
        ({"n_batches": 0}, "n_batches"),
        ({"n_control_cells": 3}, "n_control_cells must be at least 4"),
        ({"n_cells_per_perturbation": 1}, "n_cells_per_perturbation"),
        ({"interacting": 1.5}, "interacting"),
        ({"dropout": 1.1}, "dropout"),
        ({"dispersion": -0.1}, "dispersion"),
        ({"batch_effect": float("nan")}, "batch_effect"),
        ({"median_library_size": 0}, "median_library_size"),
    ],
)
def test_numbers_out_of_range_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        simulated_perturb_seq(**{**SMALL, **argument})


def test_a_mudata_holds_the_same_cells_and_their_guides():
    with mudata.set_options(pull_on_update=False):
        mdata, truth = simulated_perturb_seq(return_mudata=True, **SMALL)
    adata, same = simulated_perturb_seq(**SMALL)
    assert (mdata["rna"].X != adata.X).nnz == 0
    pd.testing.assert_frame_equal(truth.network, same.network)
    guides = mdata["gdo"]
    strong = pd.DataFrame(guides.X.toarray() >= 10, columns=guides.var["target_gene"].to_numpy())
    targets = strong.T.groupby(level=0).any().T
    intact = (guides.obs["capture"] == "intact").to_numpy()
    n_genes = adata.obs["perturbation"].map(lambda label: 1 + label.count("+")).to_numpy(dtype=int)
    assert (targets.sum(axis=1).to_numpy() == n_genes)[intact].mean() > 0.95
    assert not targets[(guides.obs["capture"] == "lost").to_numpy()].to_numpy().any()


def test_lines_share_the_network_and_differ_in_strength_and_expression():
    truth, other = (simulated_perturb_seq(line=line, **SMALL)[1] for line in (0, 1))
    edges = truth.network.merge(other.network, on=["source", "target"])
    assert len(edges) == len(truth.network) == len(other.network)
    ratio = np.log(edges["weight_y"] / edges["weight_x"])
    assert 0.25 < ratio.std() < 0.35
    singles = truth.effects.obs_names[truth.effects.obs["n_perturbed_genes"] == 1]
    r = [np.corrcoef(lfc(truth.effects, [p])[0], lfc(other.effects, [p])[0])[0, 1] for p in singles]
    assert 0.9 < np.mean(r) < 0.99
    assert np.corrcoef(truth.effects.var["control_mean"], other.effects.var["control_mean"])[0, 1] < 0.99
    unchanged = simulated_perturb_seq(line=1, line_effect=0, **SMALL)[1]
    np.testing.assert_allclose(unchanged.effects.layers["lfc"], truth.effects.layers["lfc"], atol=1e-6)
    with pytest.raises(ValueError, match="line must be at least 0"):
        simulated_perturb_seq(line=-1)
