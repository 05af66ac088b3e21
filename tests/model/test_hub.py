"""The scvi-tools hub, on a folder of this machine."""

from __future__ import annotations

import json
import socket

import anndata as ad
import mudata
import numpy as np
import pytest

import scapp
from scapp.model import save_for_hub


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def model(effects):
    scapp.model.APP.setup_anndata(effects, control=None, layer="lfc")
    model = scapp.model.APP(effects)
    model.train(max_epochs=0)
    return model


def test_a_model_comes_back_from_its_folder_with_the_same_predictions(model, tmp_path):
    from scvi.hub import HubModel

    save_for_hub(model, tmp_path / "hub", license_info="cc-by-4.0", description="Planted.")
    found = HubModel(str(tmp_path / "hub"))
    assert found.metadata.model_parent_module == "scapp.model"
    names = ["g0+g1", "g17"]
    expected = model.predict(names).layers["predicted_lfc"]
    np.testing.assert_array_equal(found.model.predict(names).layers["predicted_lfc"], expected)
    np.testing.assert_array_equal(found.adata.layers["lfc"], model.adata.layers["lfc"])


def test_a_model_without_its_data_says_how_to_get_them(model, tmp_path):
    model.save(str(tmp_path / "weights"))
    alone = scapp.model.APP.load(str(tmp_path / "weights"), adata=False)
    with pytest.raises(ValueError, match="adata="):
        save_for_hub(alone, tmp_path / "hub", license_info="mit", description="Planted.")


def test_the_card_says_what_the_hub_and_the_reader_need(model, tmp_path):
    from huggingface_hub import ModelCard

    options = {
        "license_info": "mit",
        "description": "A planted screen.",
        "references": "Nobody, 2026.",
        "tissues": ["K562"],
    }
    save_for_hub(model, tmp_path / "hub", **options, data_url="https://example.org/screen")
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert card.data.license == "mit"
    assert {"model_cls_name:APP", "tissue:K562", "single-cell"} <= set(card.data.tags)
    for text in (
        "A planted screen.",
        "Nobody, 2026.",
        "https://example.org/screen",
        '"preset": "default"',
        '"layer": "lfc"',
    ):
        assert text in card.content
    assert "| single perturbations trained on | 16 |" in card.content
    metadata = json.loads((tmp_path / "hub" / "_scvi_required_metadata.json").read_text())
    assert metadata["model_cls_name"] == "APP"


def test_a_folder_with_a_model_is_replaced_only_when_asked(model, tmp_path):
    options = {"license_info": "mit", "description": "Planted."}
    save_for_hub(model, tmp_path, **options)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_for_hub(model, tmp_path, **options)
    save_for_hub(model, tmp_path, overwrite=True, **options)
    # A card that somebody wrote is no less worth than a model.
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("my own")
    with pytest.raises(FileExistsError, match="holds README.md already.*overwrite=True"):
        save_for_hub(model, tmp_path / "notes", **options)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["README.md"]
    with pytest.raises(FileExistsError, match="is a file"):
        save_for_hub(model, tmp_path / "notes" / "README.md", **options)


def test_what_cannot_be_written_leaves_the_folder_as_it_was(model, tmp_path):
    options = {"license_info": "mit", "description": "Planted.", "overwrite": True}
    model.adata.uns["thing"] = object()  # no file can hold it
    with pytest.raises(Exception, match="object"):
        save_for_hub(model, tmp_path / "hub", **options)
    assert not list(tmp_path.iterdir())
    del model.adata.uns["thing"]
    save_for_hub(model, tmp_path / "hub", **options)
    before = {path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()}
    model.adata.uns["thing"] = object()
    with pytest.raises(Exception, match="object"):
        save_for_hub(model, tmp_path / "hub", **options)
    assert {path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_backed_data_stay_in_their_own_file(effects, backed, tmp_path):
    scapp.model.APP.setup_anndata(backed, control=None, layer="lfc")
    model = scapp.model.APP(backed)
    model.train(max_epochs=0)
    save_for_hub(model, tmp_path / "hub", license_info="mit", description="Planted.")
    assert backed.filename == tmp_path / "mine.h5ad"
    np.testing.assert_array_equal(backed[:2].to_memory().X, effects.X[:2])
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "hub" / "adata.h5ad").X, effects.X)


def test_the_card_of_a_mudata_names_its_file_and_no_other_data_stay(model, effects, tmp_path):
    options = {"license_info": "mit", "description": "Planted.", "overwrite": True, "tissues": "blood"}
    save_for_hub(model, tmp_path / "hub", **options)
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData({"rna": effects.copy()})
    modalities = {"layer": "rna", "perturbation_key": "rna"}
    scapp.model.APP.setup_mudata(mdata, control=None, layer="lfc", modalities=modalities)
    other = scapp.model.APP(mdata)
    other.train(max_epochs=0)
    card = save_for_hub(other, tmp_path / "hub", **options).model_card
    assert "MuData that the model was set up with is in `mdata.h5mu`" in card.content
    assert "Of `setup_mudata`" in card.content and "tissue:blood" in card.data.tags
    expected = {"model.pt", "mdata.h5mu", "README.md", "_scvi_required_metadata.json"}
    assert {path.name for path in (tmp_path / "hub").iterdir()} == expected


def test_an_untrained_model_is_not_saved(effects, tmp_path):
    scapp.model.APP.setup_anndata(effects, control=None, layer="lfc")
    with pytest.raises(RuntimeError, match="has not been trained"):
        save_for_hub(scapp.model.APP(effects), tmp_path / "hub", license_info="mit", description="Planted.")
    assert not (tmp_path / "hub").exists()
