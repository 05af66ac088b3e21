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


@pytest.mark.filterwarnings("ignore:.*not measured")
def test_held_out_genes_of_replogle_beat_the_mean_and_the_linear_model(shared_data, tasks):
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
    model = fit(full, split.train.obs_names, gene_features_key="go")
    names = split.test.obs_names
    error = {
        "APP": model.predict(names)[:, split.test.var_names],
        "mean": scapp.baselines.Mean().fit(split.train).predict(names),
        "linear": scapp.baselines.LinearModel().fit(split.train).predict(names),
    }
    error = {k: l2(v.layers["predicted_lfc"], split.test.layers["lfc"]).mean() for k, v in error.items()}
    assert error["APP"] <= 0.93 * error["mean"]
    assert error["APP"] < error["linear"]


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
    model.predict()
    cells.write_h5ad(tmp_path / "predictions.h5ad")
    again = ad.read_h5ad(tmp_path / "predictions.h5ad")
    perturbed = (again.obs[key] != control).to_numpy()
    measured = again.var["measured"].to_numpy()
    assert np.isfinite(again.layers["predicted_lfc"][perturbed][:, measured]).all()
    np.testing.assert_allclose(again.layers["attention"][perturbed].sum(axis=1), 1, rtol=1e-4)
    assert set(again.uns["attention_genes"]["names"].dtype.names) == set(again.obs[key]) - {control}
    # What a screen measured well is predicted as measured; weak effects are drawn to those of similar genes.
    effects = scapp.pp.pseudobulk(cells, perturbation_key=key, control=control)
    names = effects.obs_names[effects.obs["n_perturbed_genes"] == 1]
    predicted = model.predict(names).layers["predicted_lfc"][:, measured]
    correlation = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(predicted, effects[names].layers["lfc"][:, measured], strict=True)
    ]
    assert np.quantile(correlation, 0.75) > 0.8


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
