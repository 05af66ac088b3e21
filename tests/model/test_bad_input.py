"""Bad input gets a clear error, and the AnnData stays as it was."""

from __future__ import annotations

import re
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp
from scapp.model import APP


@pytest.fixture
def cells(simulated) -> ad.AnnData:
    return simulated[0].copy()


def relabel(adata: ad.AnnData, old: str, new: str, n: int | None = None) -> None:
    labels = adata.obs["perturbation"].astype(str)
    rows = labels.index[labels == old][:n]
    labels[rows] = new
    adata.obs["perturbation"] = labels


def first(adata: ad.AnnData) -> str:
    return next(label for label in adata.obs["perturbation"] if label != "control" and "+" not in label)


def with_value(adata: ad.AnnData, value: float) -> None:
    X = adata.X.astype(np.float32)
    X.data[3] = value
    adata.X = X


def with_network(adata: ad.AnnData, value: float) -> None:
    network = adata.varp["network"].copy()
    network.data[0] = value
    adata.varp["network"] = network


def only_two_perturbations(adata: ad.AnnData) -> None:
    kept = [label for label in adata.obs["perturbation"].unique() if label != "control"][:2]
    for label in set(adata.obs["perturbation"]) - {"control", *kept}:
        relabel(adata, label, "control")


def duplicate_names(adata: ad.AnnData) -> None:
    adata.var_names = [adata.var_names[0], *adata.var_names[:1], *adata.var_names[2:]]


CELLS = {
    "no control cells": (lambda a: relabel(a, "control", first(a)), {}, "No observation is labelled 'control'"),
    "control by an alias": (lambda a: relabel(a, "control", "NT"), {}, "control='NT'"),
    "control misspelt": (lambda a: None, {"control": "contrl"}, "labelled 'contrl'.*'control'"),
    "NaN": (lambda a: with_value(a, np.nan), {}, "NaN"),
    "negative": (lambda a: with_value(a, -1.0), {}, "negative"),
    "infinite": (lambda a: with_value(a, np.inf), {}, "infinite"),
    "counts given as effects": (lambda a: None, {"control": None}, "controls|more than one observation"),
    "duplicate genes": (duplicate_names, {}, "more than once.*var_names_make_unique"),
    "NaN weights": (lambda a: with_network(a, np.nan), {}, "NaN or infinite"),
    "infinite weights": (lambda a: with_network(a, np.inf), {}, "NaN or infinite"),
    "no edges": (
        lambda a: a.varp.update({"network": sparse.csr_matrix((a.n_vars,) * 2, dtype=np.float32)}), {}, "no edges",
    ),
    "no such network": (lambda a: None, {"network_key": "netwrok"}, "no network 'netwrok'.*'network'.*add_network"),
    "no such features": (lambda a: None, {"gene_features_key": "go"}, "no gene features 'go'.*add_gene_features"),
    "no such column": (lambda a: None, {"perturbation_key": "guide"}, "no column 'guide'"),
    "no such layer": (lambda a: None, {"layer": "counts"}, "counts"),
    "one cell": (None, {}, "1 cell|fewer than|on_few_cells"),
    "empty part": (lambda a: relabel(a, first(a), first(a) + "+"), {}, "empty part"),
    "a gene twice": (lambda a: relabel(a, first(a), f"{first(a)}+{first(a)}"), {}, "more than once"),
    "two perturbations": (only_two_perturbations, {}, "Found 2 perturbation"),
    "a target that is no gene": (lambda a: relabel(a, first(a), first(a).lower()), {}, "did you mean.*add_unmeasured_genes"),
}  # fmt: skip


@pytest.mark.parametrize("case", CELLS)
def test_cells_that_cannot_be_used_are_refused_and_left_alone(cells, case, assert_same):
    spoil, setup, message = CELLS[case]
    if case == "one cell":
        label = first(cells)
        rows = np.flatnonzero(cells.obs["perturbation"] == label)
        cells = cells[np.setdiff1d(np.arange(cells.n_obs), rows[1:])].copy()
    else:
        spoil(cells)
    before = cells.copy()
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        APP.setup_anndata(cells, **setup)
    assert_same(cells, before)


EFFECTS = {
    "NaN": (lambda x: np.where(x == x[0, 20], np.nan, x), "NaN"),
    "nothing but zeros": (lambda x: np.zeros_like(x), "is 0, so there is nothing to learn"),
    "counts": (lambda x: np.round(np.abs(x) * 10), "looks like counts"),
    "fold-changes that are no logarithms": (lambda x: x * 1000, "far below"),
}


@pytest.mark.parametrize("case", EFFECTS)
def test_effects_that_cannot_be_used_are_refused_and_left_alone(effects, case, assert_same):
    spoil, message = EFFECTS[case]
    effects.layers["lfc"] = spoil(effects.layers["lfc"])
    before = effects.copy()
    with pytest.raises(ValueError, match=message):
        APP.setup_anndata(effects, control=None, layer="lfc")
    assert_same(effects, before)


def test_log_fold_changes_given_as_cells_are_refused(effects):
    relabel(effects, "g15", "control")
    twice = ad.AnnData(
        np.tile(effects.layers["lfc"], (2, 1)),
        obs=pd.DataFrame(
            {"perturbation": [*effects.obs["perturbation"]] * 2}, index=[f"c{i}" for i in range(2 * effects.n_obs)]
        ),
        var=effects.var,
        varp={"network": effects.varp["network"]},
    )
    with pytest.raises(ValueError, match="control=None"):
        APP.setup_anndata(twice)


def test_a_network_of_another_shape_is_refused(effects, assert_same):
    before = effects.copy()
    with pytest.raises(ValueError, match="shape"):
        scapp.pp.add_network(effects, sparse.eye(39, format="csr"), key_added="other")
    assert_same(effects, before)


def test_a_view_is_refused(effects):
    with pytest.raises(ValueError, match=r"view.*copy\(\)"):
        APP.setup_anndata(effects[:20], control=None, layer="lfc")


def test_genes_in_another_order_than_at_training_are_refused(trained, effects, tmp_path, make):
    turned = effects[:, ::-1].copy()
    with pytest.raises(ValueError, match=r"a different order.*model\.genes"):
        trained.predict(adata=turned)
    trained.save(tmp_path / "m")
    with pytest.raises(ValueError, match="a different order"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scvi-tools only warns
        APP.load(tmp_path / "m", adata=turned)
    assert "predicted_lfc" not in turned.layers


def test_other_genes_than_at_training_are_named(trained, effects):
    effects.var_names = ["other", *effects.var_names[1:]]
    with pytest.raises(ValueError, match=r"missing here \(g0\).*additional \(other\)"):
        trained.predict(adata=effects)


def test_observations_without_a_label_are_not_predicted_as_a_gene_of_that_name(trained, effects):
    effects.obs["perturbation"] = effects.obs["perturbation"].where(np.arange(effects.n_obs) > 1)
    with pytest.raises(ValueError, match=r"2 of the .* have no value in adata.obs\['perturbation'\].*notna"):
        trained.predict(adata=effects)
    assert "predicted_lfc" not in effects.layers


def test_an_untrained_model_does_not_predict(effects):
    APP.setup_anndata(effects, control=None, layer="lfc")
    model = APP(effects)
    for ask in (
        model.predict,
        lambda: model.predict(["g1"]),
        lambda: model.get_attention(["g1"]),
        model.get_gene_embeddings,
    ):
        with pytest.raises(RuntimeError, match=r"model\.train\(\)"):
            ask()
    assert "predicted_lfc" not in effects.layers


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["G1"], ValueError, "'G1'.*did you mean 'g1'.*add_unmeasured_genes"),
        (["g1", "control"], ValueError, "control"),
        (["g1", "g1"], ValueError, "more than once"),
        (["g1+g1"], ValueError, "more than once"),
        (["g1+"], ValueError, "empty part"),
        ([], ValueError, "empty"),
        ("g1", TypeError, r"\['g1'\]"),
        ([3], ValueError, "string"),
        ([["g1", "g2"]], TypeError, r"found the list \['g1', 'g2'\].*join"),
        (["g1", ("g1", "g2")], TypeError, "found the tuple"),
    ],
)
def test_names_that_cannot_be_predicted_are_refused(trained, names, error, message):
    with pytest.raises(error, match=message):
        trained.predict(names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "papr"}, "preset must be 'default' or 'paper', found 'papr'"), ({"encoder": "gcn"}, "encoder must be 'gnn', 'identity' or 'random', found 'gcn'"),
        ({"n_models": 3}, "ensemble"), ({"anchor": False}, "one kernel"), ({"colour": 1}, "no option 'colour'"),
        ({"n_hidden": 8}, "preset='paper'"), ({"preset": "paper", "n_hidden": 0}, "n_hidden"),
        ({"closed_form": False, "attention": False}, "cannot both be False"), ({"attention": "no"}, "True or False"),
    ],
)  # fmt: skip
def test_options_that_do_not_exist_are_named(effects, options, message):
    APP.setup_anndata(effects, control=None, layer="lfc")
    with pytest.raises((ValueError, TypeError), match=message):
        APP(effects, **options)


def test_features_that_are_partly_missing_are_refused(effects):
    effects.varm["go"] = np.ones((40, 3), dtype=np.float32)
    effects.varm["go"][4, 1] = np.nan
    with pytest.raises(ValueError, match="partly NaN.*g4"):
        APP.setup_anndata(effects, control=None, layer="lfc", gene_features_key="go")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"validation_size": 0.1}, TypeError, "no validation_size.*left out in turn"),
        ({"batch_size": 32}, TypeError, "no mini-batches"),
        ({"max_epochs": -1}, ValueError, "max_epochs"),
        ({"max_epochs": True}, ValueError, "max_epochs"),
    ],
)
def test_options_of_training_without_a_meaning_are_refused(effects, options, error, message):
    APP.setup_anndata(effects, control=None, layer="lfc")
    with pytest.raises(error, match=message):
        APP(effects).train(**options)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_standard_errors_that_are_none_are_refused(effects, value):
    effects.layers["lfc_se"] = np.full(effects.shape, 0.1, dtype=np.float32)
    effects.layers["lfc_se"][2, 3] = value
    with pytest.raises(ValueError, match=r"1 standard errors.*negative, NaN or infinite.*g3"):
        APP.setup_anndata(effects, control=None, layer="lfc")


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_control_means_that_are_none_are_refused(effects, value):
    effects.var["control_mean"] = effects.var["control_mean"].astype(float)
    effects.var.loc["g3", "control_mean"] = value
    with pytest.raises(ValueError, match=r"control_mean.*negative, NaN or infinite.*g3"):
        APP.setup_anndata(effects, control=None, layer="lfc")


def test_numbers_of_cells_that_are_none_are_refused(effects):
    effects.obs["n_cells"] = 10.0
    effects.obs.loc["g1", "n_cells"] = 0
    with pytest.raises(ValueError, match=r"n_cells.*above 0"):
        APP.setup_anndata(effects, control=None, layer="lfc")


@pytest.mark.parametrize("threshold", [0, -1, np.inf, "0.5", True])
def test_thresholds_of_a_change_are_checked(trained, threshold):
    with pytest.raises(ValueError, match="change_threshold"):
        trained.predict(["g1"], change_threshold=threshold)


def test_perturbations_listed_twice_are_no_effects(effects):
    twice = ad.concat([effects, effects["g1"]])
    twice.var, twice.varp["network"] = effects.var, effects.varp["network"]
    twice.obs_names = pd.Index([f"r{i}" for i in range(twice.n_obs)])
    with pytest.raises(ValueError, match="more than one observation"):
        APP.setup_anndata(twice, control=None, layer="lfc")
