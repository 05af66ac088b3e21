"""The life of a model, as a user leads it."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi
from lightning.pytorch.callbacks import Callback
from scipy import sparse

import scapp
from scapp.metrics import l2
from scapp.model import APP

LAYERS = ("predicted_lfc", "predicted_lfc_std", "p_change", "attention")


def test_names_are_predicted_in_the_order_and_spelling_asked(trained):
    names = ["g3+g1", "g20", "g2", "g1+g3+g15"]
    predicted = trained.predict(names)
    assert predicted.obs_names.tolist() == names
    assert predicted.var_names.tolist() == trained.genes
    assert predicted.obs["perturbation"].tolist() == names
    alone = trained.predict(["g1+g3"]).layers["predicted_lfc"][0]
    np.testing.assert_allclose(alone, predicted.layers["predicted_lfc"][0], atol=1e-5)
    assert predicted.obs["n_perturbed_genes"].tolist() == [2, 1, 1, 3]
    assert predicted.obs["in_training"].tolist() == [False, False, True, False]
    assert predicted.obs["n_singles_measured"].tolist() == [2, 0, 1, 3]
    for layer in LAYERS:
        assert np.isfinite(predicted.layers[layer]).all()


def test_the_control_token_of_a_label_is_no_gene(trained):
    a, b = (trained.predict([name]).layers["predicted_lfc"] for name in ("g20+ctrl", "g20"))
    np.testing.assert_array_equal(a, b)


def test_attention_of_every_perturbation_sums_to_one(trained):
    attention = trained.get_attention(["g1", "g20", "g1+g2", "g20+g21"])
    np.testing.assert_allclose(attention.sum(axis=1), 1, rtol=1e-5)
    assert (attention.to_numpy() >= 0).all()
    assert attention.columns.tolist() == trained.genes


def test_predicted_expression_is_control_plus_effect_and_never_negative(effects, make):
    effects.var["control_mean"] = 0.05
    predicted = make(effects).predict(["g1", "g20"])
    expected = np.maximum(0.05 + predicted.layers["predicted_lfc"], 0)
    np.testing.assert_allclose(predicted.X, expected, atol=1e-6)
    assert (predicted.X == 0).any()


def test_noisy_measurements_have_wider_errors_than_exact_ones(effects, make):
    exact = make(effects.copy()).predict(["g1", "g20"]).layers["predicted_lfc_std"]
    rng = np.random.default_rng(3)
    effects.layers["lfc"] += rng.normal(scale=0.5, size=effects.shape).astype(np.float32)
    effects.layers["lfc_se"] = np.full(effects.shape, 0.5, dtype=np.float32)
    noisy = make(effects).predict(["g1", "g20"]).layers["predicted_lfc_std"]
    assert (exact > 0).all()
    assert noisy.mean() > 2 * exact.mean()


def test_planted_effects_are_learned_better_than_by_mean_and_additive(effects, make):
    held_out = ["g12", "g13", "g14", "g15", "g0+g9", "g1+g8", "g2+g7"]
    train = effects[~effects.obs_names.isin(held_out)].copy()
    observed = effects[held_out].layers["lfc"]
    predicted = make(train, max_epochs=20).predict(held_out).layers["predicted_lfc"]
    mean = scapp.baselines.Mean().fit(train).predict(held_out[:4]).layers["predicted_lfc"]
    additive = scapp.baselines.Additive().fit(train).predict(held_out[4:]).layers["predicted_lfc"]
    assert l2(predicted[:4], observed[:4]).mean() < 0.5 * l2(mean, observed[:4]).mean()
    assert l2(predicted[4:], observed[4:]).mean() < 0.5 * l2(additive, observed[4:]).mean()


def test_predicting_in_place_adds_only_what_the_docstring_names(effects, make, assert_same):
    model = make(effects)
    before = effects.copy()
    assert model.predict() is None
    assert set(effects.layers) - set(before.layers) == set(LAYERS)
    assert set(effects.uns) - set(before.uns) == {"attention_genes", "scapp"}
    assert set(effects.obsm) == {"attention_to_perturbations"}
    assert set(effects.obs) - set(before.obs) == {"attention_to_mean"}
    named = model.predict(effects.obs_names)
    for layer in LAYERS:
        np.testing.assert_array_equal(effects.layers[layer], named.layers[layer])
        del effects.layers[layer]
    del effects.uns["attention_genes"], effects.uns["scapp"]
    del effects.obsm["attention_to_perturbations"], effects.obs["attention_to_mean"]
    assert_same(effects, before)


def test_scanpy_plots_the_attention_genes_as_it_plots_any_ranked_genes(effects, make):
    effects.X = effects.layers["lfc"].copy()
    make(effects).predict()
    adata = effects[:6].copy()
    groups = adata.obs_names.tolist()
    options = {"groups": groups, "n_genes": 3, "key": "attention_genes", "show": False}
    sc.pl.rank_genes_groups(effects, **options)
    for plot in (sc.pl.rank_genes_groups_dotplot, sc.pl.rank_genes_groups_heatmap, sc.pl.rank_genes_groups_matrixplot):
        plot(effects, dendrogram=False, **options)
    ranked = sc.get.rank_genes_groups_df(effects, group="g1+g2", key="attention_genes")
    assert ranked["scores"].is_monotonic_decreasing
    assert set(ranked["names"]) == set(effects.var_names)
    attention = pd.Series(effects["g1+g2"].layers["attention"].ravel(), index=effects.var_names)
    np.testing.assert_allclose(ranked["scores"], attention[ranked["names"]])


def test_attention_genes_of_predict_are_those_of_the_tool(effects, make):
    model = make(effects)
    model.predict()
    predicted = model.predict(effects.obs_names)
    scapp.tl.rank_attention_genes(predicted, control=None)
    tables = [sc.get.rank_genes_groups_df(adata, group=None, key="attention_genes") for adata in (effects, predicted)]
    pd.testing.assert_frame_equal(*tables)
    assert predicted.uns["attention_genes"]["params"] == effects.uns["attention_genes"]["params"]
    graph = scapp.tl.attention_subnetwork(predicted, "g2+g1", network=model.network)
    assert {"g1", "g2"} < set(graph)


def test_everything_written_survives_h5ad_whatever_the_labels(effects, make, tmp_path, assert_same):
    effects.var_names = [name.replace("g1", "HLA/1") for name in effects.var_names]
    labels = [name.replace("g1", "HLA/1") for name in effects.obs_names]
    effects.obs_names, effects.obs["perturbation"] = labels, labels
    model = make(effects)
    model.predict()
    predicted = model.predict(["HLA/1+g2", "g20"])
    for adata in (effects, predicted):
        adata.write_h5ad(tmp_path / "a.h5ad")
        again = ad.read_h5ad(tmp_path / "a.h5ad")
        for layer in LAYERS:
            np.testing.assert_array_equal(again.layers[layer], adata.layers[layer])
    names = ad.read_h5ad(tmp_path / "a.h5ad").uns["scapp"]["prediction"]
    assert names["model"] == "APP"
    effects.write_h5ad(tmp_path / "b.h5ad")
    ranked = ad.read_h5ad(tmp_path / "b.h5ad").uns["attention_genes"]
    assert list(ranked["names"].dtype.names) == labels


@pytest.mark.parametrize("how", ["saved data", "other data", "no data"])
def test_a_loaded_model_predicts_the_same_numbers(effects, make, tmp_path, how):
    model = make(effects)
    names = ["g1", "g20", "g1+g2", "g1+g20", "g20+g21"]
    expected = model.predict(names)
    model.save(tmp_path / "m", save_anndata=how == "saved data")
    other = ad.AnnData(
        np.zeros((2, effects.n_vars), dtype=np.float32),
        obs=pd.DataFrame({"perturbation": ["g30", "g31"]}, index=["a", "b"]),
        var=pd.DataFrame(index=effects.var_names),
        layers={"lfc": np.zeros((2, effects.n_vars), dtype=np.float32)},
    )
    data = {"saved data": None, "other data": other, "no data": False}[how]
    loaded = APP.load(tmp_path / "m", adata=data)
    found = loaded.predict(names)
    for layer in LAYERS:
        np.testing.assert_allclose(found.layers[layer], expected.layers[layer], atol=1e-6)
    np.testing.assert_allclose(found.X, expected.X, atol=1e-6)
    loaded.save(tmp_path / "again")  # also where it has no data, which scvi-tools' own models need for it
    again = APP.load(tmp_path / "again", adata=False).predict(names)
    np.testing.assert_array_equal(again.layers["predicted_lfc"], found.layers["predicted_lfc"])
    assert (loaded.network != model.network).nnz == 0
    assert found.obs.equals(expected.obs)
    if how == "other data":
        loaded.predict()
        np.testing.assert_allclose(
            other.layers["predicted_lfc"], model.predict(["g30", "g31"]).layers["predicted_lfc"], atol=1e-6
        )


def test_no_random_number_decides_a_prediction(effects, make):
    first = make(effects.copy()).predict(["g20"])
    scvi.settings.seed = 1
    APP.setup_anndata(effects, control=None, layer="lfc")
    other = APP(effects)
    other.train(max_epochs=3, enable_progress_bar=False)
    for layer in LAYERS:
        np.testing.assert_array_equal(other.predict(["g20"]).layers[layer], first.layers[layer])


@pytest.mark.parametrize("what", ["genes", "perturbations", "edges"])
def test_the_order_of_the_input_does_not_matter(effects, make, what):
    names = ["g1", "g20", "g1+g2", "g20+g21", "g30"]
    expected = make(effects.copy(), max_epochs=12).predict(names)
    rng = np.random.default_rng(0)
    if what == "genes":
        other = effects[:, rng.permutation(effects.n_vars)].copy()
    elif what == "perturbations":
        other = effects[rng.permutation(effects.n_obs)].copy()
    else:
        other = effects.copy()
        edges = other.varp["network"].tocoo()
        order = rng.permutation(edges.nnz)
        other.varp["network"] = sparse.coo_matrix(
            (edges.data[order], (edges.row[order], edges.col[order])), shape=edges.shape
        ).tocsr()
    found = make(other, max_epochs=12).predict(names)[:, expected.var_names]
    for layer in LAYERS:
        np.testing.assert_allclose(found.layers[layer], expected.layers[layer], atol=1e-5)


def test_training_that_is_interrupted_leaves_the_model_as_it_was(effects, make):
    model = make(effects, max_epochs=2)
    before = model.predict(["g20", "g1+g2"])

    class Interrupt(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.train(max_epochs=5, callbacks=[Interrupt()], enable_progress_bar=False)
    after = model.predict(["g20", "g1+g2"])
    for layer in LAYERS:
        np.testing.assert_array_equal(after.layers[layer], before.layers[layer])
    assert len(model.history["train_loss"]) == 2


def test_a_first_training_that_was_interrupted_leaves_no_trace(effects, make):
    expected = make(effects.copy(), max_epochs=3).predict(["g20", "g1+g2"])
    scapp.model.APP.setup_anndata(effects)
    model = scapp.model.APP(effects)

    class Interrupt(Callback):
        def on_train_end(self, trainer, pl_module):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.train(max_epochs=3, callbacks=[Interrupt()], enable_progress_bar=False)
    assert not model.is_trained
    model.train(max_epochs=3, enable_progress_bar=False)
    found = model.predict(["g20", "g1+g2"])
    for layer in LAYERS:
        np.testing.assert_allclose(found.layers[layer], expected.layers[layer], atol=1e-6)


@pytest.mark.parametrize("sparse_lfc", [False, True])
def test_sparse_and_dense_effects_give_the_same_model(effects, make, sparse_lfc):
    effects.layers["lfc_se"] = np.full(effects.shape, 0.1, dtype=np.float32)
    expected = make(effects.copy()).predict(["g20"]).layers["predicted_lfc"]
    effects.layers["lfc_se"] = sparse.csr_matrix(effects.layers["lfc_se"])
    if sparse_lfc:
        effects.layers["lfc"] = sparse.csr_matrix(effects.layers["lfc"])
    np.testing.assert_allclose(make(effects).predict(["g20"]).layers["predicted_lfc"], expected, atol=1e-6)


def test_history_holds_the_leave_one_out_losses(trained):
    losses = {"train_loss", "leave_one_out_closed_form", "leave_one_out_attention"}
    assert losses <= set(trained.history)
    loss = trained.history["leave_one_out_closed_form"].iloc[:, 0]
    assert len(loss) == 3
    assert 0 < loss.iloc[-1] < loss.iloc[0]


def test_the_progress_bar_of_training_that_converged_ends_full(effects, make, capsys):
    model = make(effects, max_epochs=0)
    capsys.readouterr()
    model.train(max_epochs=200, enable_progress_bar=True)
    n = len(model.history["train_loss"])
    assert n < 200
    last = capsys.readouterr().out.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("Converged: 100%")
    assert f"{n}/{n}" in last


def test_training_twice_goes_on_from_where_it_was(effects, make):
    model = make(effects)
    reached = model.history["leave_one_out_closed_form"].iloc[-1, 0]
    model.train(max_epochs=2, enable_progress_bar=False)
    losses = model.history["leave_one_out_closed_form"].iloc[:, 0]
    assert len(losses) == 3 + 2
    assert losses.iloc[3] <= reached + 1e-3
    assert not model.module.training


def test_no_epochs_fit_what_has_a_closed_form(effects, make):
    model = make(effects, max_epochs=0)
    error = l2(model.predict(effects.obs_names).layers["predicted_lfc"], effects.layers["lfc"]).mean()
    assert error < 0.7 * np.linalg.norm(effects.layers["lfc"], axis=1).mean()


def test_a_screen_of_combinations_alone_predicts_their_genes(effects, make):
    pairs = effects[effects.obs_names.str.contains(r"\+")].copy()
    model = make(pairs, max_epochs=5)
    single = model.predict(["g1"]).layers["predicted_lfc"][0]
    assert np.corrcoef(single, effects["g1"].layers["lfc"][0])[0, 1] > 0.6


def test_a_screen_of_singles_alone_predicts_combinations_as_their_shrunk_sum(effects, make):
    singles = effects[~effects.obs_names.str.contains(r"\+")].copy()
    model = make(singles)
    lfc = model.predict(["g1", "g2", "g1+g2"]).layers["predicted_lfc"]
    # Without combinations nothing is learned about how effects add up; the scale stays where it starts.
    scale = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(lfc[2], scale * (lfc[0] + lfc[1]), atol=1e-5)


def test_several_networks_and_features_are_used_together(effects, make):
    effects.varp["other"] = sparse.random(40, 40, 0.1, format="csr", dtype=np.float32, random_state=0)
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    features[30:] = np.nan
    effects.varm["go"] = features
    setup = {"network_key": ["network", "other"], "gene_features_key": ["go"]}
    model = make(effects, setup=setup)
    assert set(model.network) == {"network", "other"}
    assert np.isfinite(model.predict(["g35+g1"]).layers["predicted_lfc"]).all()
    plain = make(effects).predict(["g20"]).layers["predicted_lfc"]
    assert not np.allclose(model.predict(["g20"]).layers["predicted_lfc"], plain)


def test_unmeasured_genes_are_targets_and_nodes_without_a_log_fold_change(effects, make):
    effects = effects[:, :38].copy()
    full = scapp.pp.add_unmeasured_genes(effects, ["NEW"], control=None)
    network = full.varp["network"].tolil()
    network[38, 0] = network[0, 38] = 1
    full.varp["network"] = network.tocsr()
    predicted = make(full).predict(["NEW", "NEW+g1"])
    assert np.isnan(predicted[:, "NEW"].layers["predicted_lfc"]).all()
    assert np.isfinite(predicted[:, "g0"].layers["predicted_lfc"]).all()
    assert predicted[:, "NEW"].layers["attention"].min() >= 0
    assert predicted["NEW", "NEW"].layers["attention"][0, 0] > 0
    assert not predicted.obs["uninformed"].any()


def test_a_gene_without_edges_and_features_warns_and_is_flagged(effects, make):
    full = scapp.pp.add_unmeasured_genes(effects, ["LONELY"], control=None)
    model = make(full)
    with pytest.warns(UserWarning, match="LONELY"):
        predicted = model.predict(["LONELY", "g1"])
    assert predicted.obs["uninformed"].tolist() == [True, False]
    assert np.isfinite(predicted[:, "g0"].layers["predicted_lfc"]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "paper"}, {"preset": "paper", "encoder": "identity"}, {"preset": "paper", "encoder": "random"},
        {"preset": "paper", "pooling": "mean"}, {"preset": "paper", "decoder": "mlp"}, {"closed_form": False},
        {"preset": "paper", "aggregation": "max", "activation": "leaky_relu", "n_layers": 1, "n_attention": 4},
        {"preset": "paper", "aggregation": "sum", "n_hidden": 8},
    ],
    ids=str,
)  # fmt: skip
def test_every_choice_trains_and_predicts_something_of_its_own(effects, make, options, trained):
    lfc = make(effects.copy(), **options).predict(["g20", "g1+g2"]).layers["predicted_lfc"]
    assert np.isfinite(lfc).all()
    assert not np.allclose(lfc, trained.predict(["g20", "g1+g2"]).layers["predicted_lfc"])


def test_cells_and_their_pseudobulk_give_the_same_model(simulated, make):
    cells, _ = simulated
    by_cells = make(cells.copy(), setup={"control": "control", "layer": None, "batch_key": "batch"})
    effects = scapp.pp.pseudobulk(cells, batch_key="batch")
    by_effects = make(effects)
    singles = effects.obs_names[effects.obs["n_perturbed_genes"] == 1]
    names = [*singles[:3], "+".join(singles[:2])]
    for layer in LAYERS:
        np.testing.assert_allclose(
            by_cells.predict(names).layers[layer], by_effects.predict(names).layers[layer], atol=1e-5
        )


def test_cells_get_the_prediction_of_their_perturbation_on_request_and_controls_none(simulated, make):
    cells = simulated[0].copy()
    model = make(cells, setup={"control": "control", "layer": None})
    model.predict(per_cell=True)
    is_control = (cells.obs["perturbation"] == "control").to_numpy()
    assert (cells.layers["predicted_lfc"][is_control] == 0).all()
    assert np.isnan(cells.layers["attention"][is_control]).all()
    label = cells.obs["perturbation"][~is_control].iloc[0]
    rows = (cells.obs["perturbation"] == label).to_numpy()
    expected = model.predict([label]).layers["predicted_lfc"]
    np.testing.assert_allclose(cells.layers["predicted_lfc"][rows], np.repeat(expected, rows.sum(), axis=0), atol=1e-5)


def test_the_model_says_what_it_is(trained, capsys):
    print(repr(trained))
    shown = capsys.readouterr().out
    for part in ("APP", "40 genes", "16 single", "scalars", "Trained"):
        assert part in shown
    trained.view_anndata_setup()
    assert "genes" in capsys.readouterr().out


def test_embeddings_have_a_row_for_each_gene_and_perturbation(trained):
    embeddings = trained.get_gene_embeddings()
    assert embeddings.index.tolist() == trained.genes
    assert np.isfinite(embeddings.to_numpy()).all()
    embeddings = trained.get_perturbation_embeddings(["g1", "g1+g2"])
    assert embeddings.index.tolist() == ["g1", "g1+g2"]
    assert np.isfinite(embeddings.to_numpy()).all()


def test_what_was_measured_is_kept_as_far_as_its_noise_allows(effects, make):
    """A strong effect of small error is predicted as measured, and `explain` says so exactly."""
    strong = effects.copy()
    strong.layers["lfc"][0] *= 8
    strong.layers["lfc_se"] = np.full(effects.shape, 0.02, dtype=np.float32)
    model = make(strong)
    name = strong.obs_names[0]
    predicted = model.predict([name])
    target = strong.var_names.get_loc(name)
    others = np.arange(effects.n_vars) != target
    measured = strong.layers["lfc"][0][others]
    found = predicted[:, strong.var_names].layers["predicted_lfc"][0][others]
    assert np.dot(found, measured) / np.dot(measured, measured) > 0.9
    gene = strong.var_names[others][np.abs(measured).argmax()]
    table = scapp.tl.explain(model, name, gene)
    assert "own measurement" in set(table["term"])
    np.testing.assert_allclose(table["contribution"].sum(), predicted[:, gene].layers["predicted_lfc"][0, 0], atol=1e-6)
    # Without standard errors nobody knows how far a measurement is to be believed.
    del strong.layers["lfc_se"]
    assert "own measurement" not in set(scapp.tl.explain(make(strong), name, gene)["term"])


def test_the_default_form_refuses_an_accelerator(effects):
    APP.setup_anndata(effects, control=None, layer="lfc")
    with pytest.raises(ValueError, match="solved on the processor"):
        APP(effects).train(accelerator="gpu")


def test_predictions_of_cells_are_one_row_a_perturbation_and_leave_the_cells_as_they_were(simulated, make, assert_same):
    cells = simulated[0].copy()
    model = make(cells, setup={"control": "control", "layer": None})
    before = cells.copy()
    predicted = model.predict()
    assert_same(cells, before)
    labels = [label for label in dict.fromkeys(cells.obs["perturbation"].astype(str)) if label != "control"]
    assert predicted.obs_names.tolist() == labels
    expected = model.predict(labels)
    for layer in LAYERS:
        np.testing.assert_array_equal(predicted.layers[layer], expected.layers[layer])
    assert_same(model.predict(adata=cells[cells.obs["perturbation"] != labels[0]].copy()), expected[labels[1:]].copy())
    with pytest.raises(ValueError, match="do not pass labels"):
        model.predict(labels, per_cell=True)


def test_writing_into_many_cells_warns_of_the_size_and_names_the_other_way(simulated, make, monkeypatch):
    cells = simulated[0].copy()
    model = make(cells, setup={"control": "control", "layer": None})
    monkeypatch.setattr("scapp.model._prediction.LARGE", 1e6)
    with pytest.warns(
        UserWarning, match=rf"each of {cells.n_obs:,} cells take .* GB.*distinct rows.\n.*without|Without per_cell"
    ):
        model.predict(per_cell=True)


def test_more_perturbations_than_scanpys_form_holds_are_predicted_and_written(effects, make, tmp_path):
    model = make(effects)
    genes = list(model.genes)
    names = [f"{a}+{b}" for i, a in enumerate(genes) for b in genes[i + 1 :]]
    many = ad.AnnData(
        obs=pd.DataFrame({"perturbation": (names * 2)[:1200]}, index=[f"p{i}" for i in range(1200)]),
        var=pd.DataFrame(index=genes),
    )
    many = many[~many.obs["perturbation"].duplicated()].copy()
    assert many.n_obs > 500
    with pytest.warns(UserWarning, match="attention_genes_complete"):
        assert model.predict(adata=many) is None
    many.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    assert again.uns["attention_genes_complete"]["groups"].tolist() == many.obs["perturbation"].tolist()
    np.testing.assert_array_equal(again.layers["predicted_lfc"], many.layers["predicted_lfc"])
