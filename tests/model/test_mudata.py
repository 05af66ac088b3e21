"""The model on a MuData gives what it gives on the modality alone; traps 10 and 11 of scvi-tools' wrappers."""

from __future__ import annotations

import mudata
import numpy as np
import pytest
import scvi

import scapp
from scapp.model import APP

IN_RNA = {"layer": "rna", "perturbation_key": "rna", "batch_key": "rna"}
SIZE: dict = {}


@pytest.fixture(autouse=True)
def _options():
    # The default of mudata 0.3 warns that it will change.
    with mudata.set_options(pull_on_update=False):
        yield


@pytest.fixture(scope="module")
def screen():
    """Cells with their guides, and names of perturbations that are not among them."""
    with mudata.set_options(pull_on_update=False):
        mdata, truth = scapp.datasets.simulated_perturb_seq(
            n_genes=120,
            n_regulators=24,
            n_singles=20,
            n_doubles=24,
            n_cells_per_perturbation=12,
            n_control_cells=100,
            return_mudata=True,
        )
    scapp.pp.add_network(mdata["rna"], truth.network, directed=True)
    unseen = truth.effects.obs_names[~truth.effects.obs["in_screen"]][:3]
    return mdata, list(unseen)


def train(data, modalities=None, **setup) -> APP:
    scvi.settings.seed = 0
    if modalities is None:
        APP.setup_anndata(data, **setup)
    else:
        APP.setup_mudata(data, modalities=modalities, **setup)
    model = APP(data, **SIZE)
    model.train(max_epochs=2, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def trained(screen):
    with mudata.set_options(pull_on_update=False):
        mdata = screen[0].copy()
        return mdata, train(mdata, IN_RNA, batch_key="batch")


def lfc(model, names):
    return model.predict(names).layers["predicted_lfc"]


def test_a_mudata_gives_the_numbers_of_its_modality(screen, trained):
    alone = train(screen[0]["rna"].copy(), batch_key="batch")
    np.testing.assert_array_equal(lfc(trained[1], screen[1]), lfc(alone, screen[1]))


def test_predictions_are_written_into_the_expression_modality_only(trained):
    mdata, model = trained
    model.predict(per_cell=True)
    rna = mdata["rna"]
    assert {"predicted_lfc", "predicted_lfc_std", "attention"} <= set(rna.layers)
    assert "attention_genes" in rna.uns
    assert not set(mdata["gdo"].layers) - {None} and set(mdata.uns) == {"_scvi_uuid", "_scvi_manager_uuid"}
    label = rna.obs["perturbation"].iloc[-1]
    np.testing.assert_allclose(rna.layers["predicted_lfc"][-1], lfc(model, [label])[0], atol=1e-5)
    assert (rna.layers["predicted_lfc"][(rna.obs["perturbation"] == "control").to_numpy()] == 0).all()


@pytest.mark.parametrize("where", ["gdo", "top"])
def test_11_labels_may_stand_in_another_modality_or_at_the_top(screen, trained, where):
    mdata = screen[0].copy()
    labels = mdata["rna"].obs.pop("perturbation")
    # Another order of cells: labels are matched by name, not by place.
    gdo = mdata["gdo"][::-1].copy()
    mdata = mudata.MuData({"rna": mdata["rna"], "gdo": gdo})
    obs = mdata["gdo"].obs if where == "gdo" else mdata.obs
    obs["perturbation"] = labels.reindex(obs.index)
    modalities = {"layer": "rna", "batch_key": "rna", **({"perturbation_key": "gdo"} if where == "gdo" else {})}
    model = train(mdata, modalities, batch_key="batch")
    np.testing.assert_array_equal(lfc(model, screen[1]), lfc(trained[1], screen[1]))
    model.predict(per_cell=True)
    label = labels[mdata["rna"].obs_names[-1]]
    np.testing.assert_allclose(mdata["rna"].layers["predicted_lfc"][-1], lfc(model, [label])[0], atol=1e-5)


def test_none_in_modalities_means_the_top_as_in_scvi_tools(screen):
    mdata = screen[0].copy()
    mdata.obs["perturbation"] = mdata["rna"].obs.pop("perturbation")
    APP.setup_mudata(mdata, modalities={"layer": "rna", "perturbation_key": None})
    assert len(APP(mdata, **SIZE)._registered.perturbations) > 20


def test_cells_without_a_label_are_not_predicted_as_a_gene_of_that_name(screen, trained):
    mdata = screen[0].copy()
    mdata["rna"].obs["perturbation"] = mdata["rna"].obs["perturbation"].where(np.arange(mdata.n_obs) > 2)
    with pytest.raises(ValueError, match="3 of the .* cells of the expression have no value in 'perturbation'"):
        trained[1].predict(adata=mdata)
    assert not set(mdata["rna"].layers) - {None}  # anndata 0.13 counts X


def test_a_model_without_its_data_is_saved_again(screen, trained, tmp_path):
    trained[1].save(str(tmp_path / "first"))
    APP.load(str(tmp_path / "first"), adata=False).save(str(tmp_path / "second"))
    again = APP.load(str(tmp_path / "second"), adata=False)
    np.testing.assert_allclose(lfc(again, screen[1]), lfc(trained[1], screen[1]), atol=1e-6)
    APP.load(str(tmp_path / "second"), adata=screen[0].copy())


def test_effects_in_a_modality_are_taken_as_they_are(screen):
    mdata, unseen = screen
    effects = scapp.pp.pseudobulk(mdata["rna"])
    both = mudata.MuData({"effects": effects.copy(), "other": effects[:, :3].copy()})
    options = {"control": None, "layer": "lfc"}
    model = train(both, {"layer": "effects", "perturbation_key": "effects"}, **options)
    np.testing.assert_array_equal(lfc(model, unseen), lfc(train(effects, **options), unseen))
    model.predict(per_cell=True)
    assert both["effects"].layers["predicted_lfc"].shape == effects.shape


def test_10_and_11_a_saved_model_is_loaded_with_its_data_with_other_data_and_without(screen, trained, tmp_path):
    mdata, model = trained
    expected = lfc(model, screen[1])
    model.save(tmp_path / "model", save_anndata=True)
    loaded = APP.load(tmp_path / "model")
    assert isinstance(loaded.adata, mudata.MuData)
    loaded.predict(per_cell=True)
    assert "predicted_lfc" in loaded.adata["rna"].layers
    other = screen[0][200:].copy()
    del other["rna"].varp["network"]  # new data need no network
    for again in (loaded, APP.load(tmp_path / "model", adata=other), APP.load(tmp_path / "model", adata=False)):
        np.testing.assert_allclose(lfc(again, screen[1]), expected, atol=1e-6)
    again.predict(adata=other, per_cell=True)
    assert np.isfinite(other["rna"].layers["predicted_lfc"]).all()
    again.predict(adata=(rna := other["rna"].copy()), per_cell=True)
    np.testing.assert_allclose(rna.layers["predicted_lfc"], other["rna"].layers["predicted_lfc"])


def test_the_setup_can_be_looked_at(trained, capsys):
    trained[1].view_anndata_setup()
    assert "adata.mod['rna'].varp['network']" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": None}, "Name the modality of the expression.*'rna', 'gdo'"),
        ({"modalities": {"layer": "RNA"}}, "no modality 'RNA'; it has 'rna', 'gdo'"),
        ({"modalities": {"layer": "rna"}}, "mdata.obs has no column 'perturbation'; 'rna' has one"),
        ({"modalities": {"layer": "rna", "perturbation_key": "gdo"}}, "'gdo'.*has no column 'perturbation'; 'rna' has"),
        ({"modalities": {**IN_RNA, "network_key": "gdo"}}, "network_key must name a slot of the expression modality"),
        ({"modalities": {**IN_RNA, "protein": "gdo"}}, "Extraneous modality"),
        ({"modalities": IN_RNA, "network_key": "string"}, "no network 'string'"),
        ({"modalities": IN_RNA, "network_key": []}, "needs at least one network"),
    ],
)
def test_bad_modalities_say_what_mends_them_and_leave_no_trace(screen, options, message):
    mdata = screen[0].copy()
    with pytest.raises(ValueError, match=message):
        APP.setup_mudata(mdata, **options)
    assert not mdata.uns and set(mdata["rna"].uns) == {"scapp"}


def test_modalities_of_different_cells_and_other_objects_are_refused(screen, trained):
    mdata = screen[0]
    unpaired = mudata.MuData({"rna": mdata["rna"].copy(), "gdo": mdata["gdo"][:50].copy()})
    with pytest.raises(ValueError, match="intersect_obs"):
        APP.setup_mudata(unpaired, modalities=IN_RNA)
    with pytest.raises(TypeError, match="Expected a MuData, found AnnData"):
        APP.setup_mudata(mdata["rna"], modalities=IN_RNA)
    with pytest.raises(TypeError, match="found MuData; for a MuData there is setup_mudata"):
        APP.setup_anndata(mdata)
    with pytest.raises(ValueError, match="view"):
        APP.setup_mudata(mdata[:100], modalities=IN_RNA)
    without = mudata.MuData({"gdo": mdata["gdo"].copy()})
    with pytest.raises(ValueError, match="no modality 'rna', which holds the expression"):
        trained[1].predict(adata=without)


def test_guides_in_model_out(screen):
    mdata, unseen = screen[0].copy(), screen[1]
    scapp.pp.guides_to_perturbations(mdata, targets="target_gene", max_genes=2)
    mdata = mdata[mdata["rna"].obs["perturbation"].notna().to_numpy()].copy()
    counts = mdata["rna"].obs["perturbation"].value_counts()
    enough = mdata["rna"].obs["perturbation"].astype(str).isin(counts.index[counts >= 4]).to_numpy()
    mdata = mdata[enough].copy()
    model = train(mdata, {"layer": "rna", "perturbation_key": "rna"})
    assert np.isfinite(lfc(model, unseen)).all()
