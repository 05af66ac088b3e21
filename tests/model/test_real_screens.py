"""What has to hold on real screens, and on a simulated one whose truth is known."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi

import scapp
from scapp.metrics import l2
from scapp.model import APP


def networks(adata: ad.AnnData, folder, **go: object) -> ad.AnnData:
    full = scapp.pp.add_unmeasured_genes(adata, control=None)
    scapp.pp.add_network(full, folder / "string_v12_no_textmining.tsv.gz", aliases=folder / "gene_aliases.tsv.gz")
    return full


def fit(full: ad.AnnData, names, **options) -> APP:
    scvi.settings.seed = 0
    train = full[names].copy()
    APP.setup_anndata(train, control=None, layer="lfc", gene_features_key=options.pop("gene_features_key", None))
    model = APP(train, **options)
    model.train(enable_progress_bar=False)
    return model


@pytest.mark.filterwarnings("ignore:.*measured single")
def test_held_out_doubles_of_norman_beat_additive_and_shrunk_additive(shared_data, tasks):
    split = tasks.doubles_task(shared_data)[0]
    full = networks(tasks.norman_effects(shared_data), shared_data / "networks")
    model = fit(full, split.train.obs_names)
    names = split.test.obs_names
    error = {
        "APP": model.predict(names)[:, split.test.var_names],
        "additive": scapp.baselines.Additive().fit(split.train).predict(names),
        "shrunk": scapp.baselines.ShrunkAdditive().fit(split.train).predict(names),
    }
    error = {
        k: l2(v.layers["predicted_lfc"], split.test.layers["lfc"], genes=split.scored).mean() for k, v in error.items()
    }
    assert error["APP"] <= 0.82 * error["additive"]
    assert error["APP"] < 0.94 * error["shrunk"]
    assert model.n_parameters < 150


@pytest.fixture(scope="module")
def k562(shared_data, tasks):
    """A fifth of the knockdowns of K562 held out, and a model of the others with STRING and the Gene Ontology."""
    split = tasks.singles_task(shared_data)[0]
    folder = shared_data / "networks"
    full = networks(tasks.replogle_effects(shared_data), folder)
    scapp.pp.add_gene_features(
        full,
        folder / "gene2go_human_2022-09.tsv.gz",
        key_added="go",
        parents=folder / "go_dag_parents.tsv.gz",
        max_genes=1000,
    )
    return split, fit(full, split.train.obs_names, gene_features_key="go")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not measured")
def test_held_out_genes_of_replogle_beat_the_mean_and_the_linear_model(k562):
    split, model = k562
    names = split.test.obs_names
    error = {
        "APP": model.predict(names)[:, split.test.var_names],
        "mean": scapp.baselines.Mean().fit(split.train).predict(names),
        "linear": scapp.baselines.LinearModel().fit(split.train).predict(names),
    }
    error = {k: l2(v.layers["predicted_lfc"], split.test.layers["lfc"]).mean() for k, v in error.items()}
    assert error["APP"] <= 0.93 * error["mean"]
    assert error["APP"] < error["linear"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not measured")
def test_intervals_of_a_noisy_real_screen_hold_for_the_genes_predicted_to_change_most(k562):
    split, model = k562
    predicted = model.predict(split.test.obs_names)[:, split.test.var_names]
    lfc, std = predicted.layers["predicted_lfc"], predicted.layers["predicted_lfc_std"]
    truth = split.test.layers["lfc"]
    inside = np.abs(truth - lfc) < 1.2816 * std
    top = np.argsort(-np.abs(lfc), axis=1)[:, :20]
    assert 0.73 < np.take_along_axis(inside, top, axis=1).mean() < 0.87
    # Nine tenths of the table are exact zeros: an interval that holds 0 holds nearly all of them.
    assert 0.8 < inside.mean() < 0.95
    recall = {
        name: np.nanmean(scapp.metrics.hit_discovery_recall(score, truth, threshold=2.0))
        for name, score in (("size", np.abs(lfc)), ("certainty", np.abs(lfc) / std))
    }
    assert recall["certainty"] > recall["size"] - 0.02


@pytest.mark.parametrize(
    ("file", "key", "control"),
    [
        ("norman_2019_cells_subset.h5ad", "perturbation", "control"),
        ("papalexi_2021_counts.h5ad", "grna_target", "non-targeting"),
    ],
)
def test_from_the_cells_of_a_real_screen_to_a_file_with_predictions(shared_data, tmp_path, file, key, control):
    cells = ad.read_h5ad(shared_data / file)
    cells = scapp.pp.add_unmeasured_genes(cells, perturbation_key=key, control=control)
    folder = shared_data / "networks"
    scapp.pp.add_network(
        cells, folder / "string_v12_no_textmining.tsv.gz", aliases=folder / "gene_aliases.tsv.gz",
        perturbation_key=key, control=control,
    )  # fmt: skip
    APP.setup_anndata(cells, perturbation_key=key, control=control)
    model = APP(cells)
    model.train(max_epochs=3, enable_progress_bar=False)
    model.predict(per_cell=True)
    cells.write_h5ad(tmp_path / "predictions.h5ad")
    again = ad.read_h5ad(tmp_path / "predictions.h5ad")
    perturbed = (again.obs[key] != control).to_numpy()
    measured = again.var["measured"].to_numpy()
    assert np.isfinite(again.layers["predicted_lfc"][perturbed][:, measured]).all()
    np.testing.assert_allclose(again.layers["attention"][perturbed].sum(axis=1), 1, rtol=1e-4)
    assert set(again.uns["attention_genes"]["names"].dtype.names) == set(again.obs[key]) - {control}
    # What a screen measured itself is predicted as measured, but for denoising.
    effects = scapp.pp.pseudobulk(cells, perturbation_key=key, control=control)
    names = effects.obs_names[effects.obs["n_perturbed_genes"] == 1]
    predicted = model.predict(names).layers["predicted_lfc"][:, measured]
    correlation = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(predicted, effects[names].layers["lfc"][:, measured], strict=True)
    ]
    assert np.median(correlation) > 0.8


@pytest.fixture(scope="module")
def planted():
    """A simulated screen, half of its doubles held out, and a model trained on the rest."""
    cells, truth = scapp.datasets.simulated_perturb_seq(seed=0)
    effects = scapp.pp.pseudobulk(cells, batch_key="batch")
    scapp.pp.add_network(effects, truth.network, directed=True)
    doubles = effects.obs_names[effects.obs["n_perturbed_genes"] == 2]
    held_out = doubles[::4]
    return truth, effects, held_out, fit(effects, effects.obs_names.difference(held_out, sort=False))


def test_planted_interactions_are_found(planted):
    truth, effects, held_out, model = planted
    train = effects[~effects.obs_names.isin(held_out)].copy()
    interacts = truth.interactions.set_index("perturbation")["interacts"]
    pairs = [name for name in held_out if interacts[name]]
    assert len(pairs) >= 5
    observed = truth.effects[pairs].layers["lfc"]
    app = l2(model.predict(pairs).layers["predicted_lfc"], observed)
    additive = l2(scapp.baselines.Additive().fit(train).predict(pairs).layers["predicted_lfc"], observed)
    assert app.mean() < 0.85 * additive.mean()


def test_attention_is_higher_on_planted_downstream_genes(planted):
    truth, effects, _, model = planted
    singles = effects.obs_names[effects.obs["n_perturbed_genes"] == 1]
    attention = model.get_attention(singles)
    ratio = {}
    for gene in singles:
        below = set(truth.downstream.loc[truth.downstream["gene"] == gene, "downstream"]) - {gene}
        row = attention.loc[gene].drop(gene)
        inside = row.index.isin(list(below))
        ratio[gene] = row[inside].mean() / row[~inside].mean()
    assert (pd.Series(ratio) > 1).mean() > 0.95
    assert pd.Series(ratio).median() > 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*measured single", "ignore:.*not measured")
def test_intervals_hold_for_genes_without_a_measured_single(shared_data, tasks):
    """Norman's screen with a fifth of the genes taken out of all perturbations."""
    full = networks(tasks.norman_effects(shared_data), shared_data / "networks")
    genes = sorted({gene for name in full.obs_names for gene in name.split("+")})
    inside: dict[int, list[float]] = {1: [], 2: []}
    for seed in range(2):
        unseen = set(np.random.default_rng(seed).choice(genes, len(genes) // 5, replace=False))
        held_out = [bool(unseen & set(name.split("+"))) for name in full.obs_names]
        model = fit(full, full.obs_names[~np.asarray(held_out)])
        test = full[held_out]
        predicted = model.predict(test.obs_names)[:, test.var_names[test.var["measured"]]]
        error = np.abs(predicted.layers["predicted_lfc"] - test[:, predicted.var_names].layers["lfc"])
        for name, row in zip(test.obs_names, error < 1.2816 * predicted.layers["predicted_lfc_std"], strict=True):
            inside[1 + name.count("+")].append(row.mean())
    assert 0.72 < np.mean(inside[1]) < 0.88
    assert 0.72 < np.mean(inside[2]) < 0.88
