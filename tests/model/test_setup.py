"""Effects of scapp know what they are: setting up needs no options for them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.reports import reported

import scapp
from scapp.model import APP


@pytest.fixture(scope="module")
def screen():
    """Cells under other names than the usual ones, and the network."""
    cells, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=120, n_regulators=24, n_singles=20, n_doubles=8, n_cells_per_perturbation=12, n_control_cells=100
    )
    cells.obs["target"] = cells.obs["perturbation"].astype(str).replace("control", "NT").str.replace("+", "|")
    cells.obs["perturbation"] = "CRISPRi"  # says how, not whom, and is constant within each perturbation
    return cells, truth


@pytest.fixture
def effects(screen):
    return scapp.pp.pseudobulk(screen[0], perturbation_key="target", control="NT", sep="|")


def fitted(adata, **setup):
    APP.setup_anndata(adata, **setup)
    model = APP(adata)
    model.train(max_epochs=2, enable_progress_bar=False)
    return model


def test_effects_of_pseudobulk_are_set_up_without_options(screen, effects, tmp_path):
    scapp.pp.add_network(effects, screen[1].network)
    by_hand = effects.copy()
    del by_hand.uns["scapp"]
    names = ["R1+R2"] if "R1" in effects.var_names else [effects.obs_names[0]]
    expected = fitted(by_hand, perturbation_key="target", control=None, layer="lfc").predict(names)
    effects.write_h5ad(tmp_path / "effects.h5ad")
    for each in (effects, ad.read_h5ad(tmp_path / "effects.h5ad")):
        model = fitted(each)
        args = model.registry["setup_args"]
        assert (args["perturbation_key"], args["control"], args["layer"]) == ("target", None, "lfc")
        np.testing.assert_allclose(
            model.predict(names).layers["predicted_lfc"], expected.layers["predicted_lfc"], atol=1e-6
        )


def test_the_mean_profiles_of_effects_are_never_trained_on(screen, effects):
    scapp.pp.add_network(effects, screen[1].network)
    del effects.uns["scapp"]
    model = fitted(effects, perturbation_key="target", control=None)
    assert model.registry["setup_args"]["layer"] == "lfc"


def test_unreached_genes_are_reported_under_any_column_of_labels(effects):
    gene = effects.obs["target"].iloc[0].split("+")[0]
    others = [name for name in effects.var_names if name != gene][:3]
    report = reported(scapp.pp.add_network, effects, pd.DataFrame({"source": others[:2], "target": others[1:]}))
    assert gene in report.isolated_perturbed_genes


def test_all_evidence_that_was_added_is_used_unless_it_is_named(screen, effects):
    scapp.pp.add_network(effects, screen[1].network, key_added="one")
    scapp.pp.add_network(effects, screen[1].network.iloc[::2], key_added="two")
    genes = effects.var_names[:60]
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), index=genes)
    scapp.pp.add_gene_features(effects, table, key_added="annotation")
    APP.setup_anndata(effects)
    args = APP(effects).registry["setup_args"]
    assert (args["network_key"], args["gene_features_key"]) == (["one", "two"], ["annotation"])
    APP.setup_anndata(effects, network_key="two", gene_features_key=[])
    args = APP(effects).registry["setup_args"]
    assert (args["network_key"], args["gene_features_key"]) == (["two"], [])


def test_effects_read_from_a_table_are_set_up_without_options(screen):
    cells, truth = screen
    wide = scapp.pp.pseudobulk(cells, perturbation_key="target", control="NT", sep="|").to_df("lfc")
    effects = scapp.pp.read_effects(wide, perturbation_key="condition", base="e")
    scapp.pp.add_network(effects, truth.network)
    model = fitted(effects)
    assert model.registry["setup_args"]["perturbation_key"] == "condition"
    scapp.baselines.Mean().fit(effects)
    model.predict()
    assert scapp.tl.rank_attention_genes(effects) is None


def test_effects_of_another_tool_are_known_by_their_form(screen, effects):
    scapp.pp.add_network(effects, screen[1].network)
    other = ad.AnnData(obs=effects.obs[["target"]], var=effects.var[[]], layers={"lfc": effects.layers["lfc"]})
    other.varp["network"] = effects.varp["network"]
    assert fitted(other, perturbation_key="target").registry["setup_args"]["control"] is None
    # A row of controls means that these are cells, or that the row does not belong there.
    with_control = other.copy()
    with_control.obs["target"] = ["control", *with_control.obs["target"][1:]]
    with_control.X = with_control.layers["lfc"]
    with pytest.raises(ValueError, match="1 control cell"):
        APP.setup_anndata(with_control, perturbation_key="target")


def test_what_was_registered_is_shown_also_without_the_data(screen, effects, tmp_path, capsys):
    report = reported(scapp.pp.add_network, effects, screen[1].network)
    model = fitted(effects)
    model.save(tmp_path / "model")
    for each in (model, APP.load(tmp_path / "model")):
        capsys.readouterr()
        each.view_anndata_setup()
        shown = capsys.readouterr().out
        assert "varp['network']" in shown and f"{report.n_edges:,} edges" in shown and "obs['target']" in shown


def test_what_makes_no_sense_here_is_not_offered_and_says_what_does(screen, effects):
    scapp.pp.add_network(effects, screen[1].network)
    model = fitted(effects)
    assert not {"get_normalized_expression", "differential_abundance"} & set(dir(model))
    assert {"predict", "history", "get_attention"} <= set(dir(model))
    with pytest.raises(TypeError, match=r"model.predict\(adata=effects\)"):
        model.predict(effects)
    for option in ({"batch_size": 8}, {"train_size": 0.9}, {"precision": "16-mixed"}):
        with pytest.raises(TypeError, match="Leave it out"):
            model.train(**option)


def test_effects_masked_at_their_own_targets_tell_nothing_there_and_everything_elsewhere(screen, effects, tmp_path):
    scapp.pp.add_network(effects, screen[1].network)
    masked, before = effects.copy(), effects.copy()
    own = np.zeros(effects.shape, dtype=bool)
    for row, label in enumerate(effects.obs["target"]):
        own[row, effects.var_names.get_indexer(label.split("+"))] = True
    for layer in ("lfc", "lfc_se"):
        masked.layers[layer][own] = np.nan
    kept = masked.copy()
    name = effects.obs_names[0]
    found = fitted(masked).predict([name]).layers["predicted_lfc"][0]
    np.testing.assert_array_equal(masked.layers["lfc"], kept.layers["lfc"])  # the input stays as it was
    whole = fitted(before).predict([name]).layers["predicted_lfc"][0]
    assert np.isfinite(found).all()
    assert np.corrcoef(found[~own[0]], whole[~own[0]])[0, 1] > 0.98
    assert (np.abs(found[own[0]]) < 0.5 * np.abs(whole[own[0]])).all()
    for baseline in (scapp.baselines.Mean(), scapp.baselines.ShrunkAdditive()):
        assert np.isfinite(baseline.fit(masked).predict([name]).layers["predicted_lfc"]).all()
    masked.layers["lfc"][0, np.flatnonzero(~own[0])[0]] = np.nan
    for fit in (APP.setup_anndata, scapp.baselines.Mean().fit):
        with pytest.raises(ValueError, match="1 .*NaN"):
            fit(masked)
