"""Effects in several contexts, and the effects of one screen as gene features of another."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from tests.reports import reported

import scapp
from scapp.pp import add_effects_as_features, pseudobulk, select_context

SIZE = {"n_genes": 120, "n_regulators": 16, "n_doubles": 6, "n_cells_per_perturbation": 16, "n_control_cells": 80}


@pytest.fixture(scope="module")
def lines():
    """Two lines of one network; the second screen has more genes."""
    first, _ = scapp.datasets.simulated_perturb_seq(n_singles=10, **SIZE)
    second, _ = scapp.datasets.simulated_perturb_seq(n_singles=16, line=1, **SIZE)
    return first, second


@pytest.fixture(scope="module")
def cells(lines):
    """Both, one below the other."""
    both = ad.concat({"K562": lines[0], "RPE1": lines[1]}, label="cell_line", index_unique="-")
    both.obs["lab"] = both.obs["cell_line"].map({"K562": "a", "RPE1": "b"})
    both.varm["features"] = np.arange(240.0).reshape(120, 2)
    return both[np.random.default_rng(0).permutation(both.n_obs)].copy()


@pytest.fixture(scope="module")
def effects(cells):
    return pseudobulk(cells, context_key="cell_line", batch_key="batch")


@pytest.mark.parametrize(("line", "name"), [(0, "K562"), (1, "RPE1")])
def test_effects_of_a_context_are_those_of_its_screen_alone(lines, effects, line, name):
    alone = pseudobulk(lines[line], batch_key="batch")
    one = select_context(effects, name)
    assert list(one.obs_names) == list(alone.obs_names) == list(one.obs["perturbation"])
    for layer in ("lfc", "lfc_se"):
        np.testing.assert_allclose(one.layers[layer], alone.layers[layer], atol=1e-6)
    np.testing.assert_allclose(one.X, alone.X, atol=1e-6)
    for key in ("control_mean", "control_var"):
        np.testing.assert_allclose(one.var[key], alone.var[key])
    assert one.uns["n_control_cells"] == alone.uns["n_control_cells"] == 80
    assert one.uns["scapp"]["pseudobulk"]["context"] == name
    assert set(one.varm) == {"features"}


def test_each_perturbation_and_context_has_an_observation(effects):
    assert effects.obs_names.is_unique and "G" in effects.obs_names[0] and effects.obs_names[0].endswith(" (K562)")
    assert dict(effects.obs["cell_line"].value_counts()) == {"RPE1": 22, "K562": 16}
    assert effects.varm["control_mean"].shape == (120, 2) and "control_mean" not in effects.var
    assert list(effects.uns["n_control_cells"]) == [80, 80]
    assert set(effects.obs["lab"]) == {"a", "b"}


def test_effects_in_contexts_survive_a_file_and_a_choice_of_genes(effects, tmp_path, assert_same):
    effects.write_h5ad(tmp_path / "effects.h5ad")
    again = ad.read_h5ad(tmp_path / "effects.h5ad")
    assert_same(again, effects)
    assert_same(select_context(again, "RPE1"), select_context(effects, "RPE1"))
    some = select_context(effects[:, 5:9], "RPE1")
    np.testing.assert_array_equal(some.var["control_mean"], effects.varm["control_mean"][5:9, 1])


def test_a_context_taken_from_a_file_can_be_written_again(effects, tmp_path, assert_same):
    effects.write_h5ad(tmp_path / "effects.h5ad")
    one = select_context(ad.read_h5ad(tmp_path / "effects.h5ad"), "K562")
    backed = ad.read_h5ad(tmp_path / "effects.h5ad", backed="r")
    assert_same(select_context(backed, "K562"), one)
    assert one.obs_names.name is None  # a file would take it for the column of that name, with its categories
    one.write_h5ad(tmp_path / "k562.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "k562.h5ad"), one)


def test_a_context_whose_effects_were_left_out_is_not_empty_but_refused(effects):
    with pytest.raises(ValueError, match="'RPE1' have been left out"):
        select_context(effects[effects.obs["cell_line"] == "K562"], "RPE1")


def test_several_columns_are_refused_where_one_is_named(cells):
    for options in ({"context_key": ["cell_line", "lab"]}, {"batch_key": ("batch", "lab")}):
        with pytest.raises(TypeError, match="names one column of adata.obs, found the .*Join several"):
            pseudobulk(cells, **options)


def test_contexts_that_are_numbers_are_found_by_their_value(cells):
    doses = cells.copy()
    doses.obs["dose"] = (doses.obs["cell_line"] == "RPE1").astype(int) * 10
    effects = pseudobulk(doses, context_key="dose")
    assert select_context(effects, 10).n_obs == select_context(effects, "10").n_obs == 22


def test_a_backed_file_gives_the_same(cells, effects, tmp_path, assert_same):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    found = pseudobulk(backed, context_key="cell_line", batch_key="batch")
    np.testing.assert_allclose(found.layers["lfc"], effects.layers["lfc"], atol=1e-6)


def test_what_a_context_lacks_is_said_with_its_name(cells, effects):
    few = cells[~((cells.obs["perturbation"] == "control") & (cells.obs["cell_line"] == "RPE1")).to_numpy()]
    with pytest.raises(
        ValueError, match="In the context 'RPE1' of adata.obs\\['cell_line'\\]: No observation.*'control'"
    ):
        pseudobulk(few, context_key="cell_line")
    with pytest.raises(ValueError, match="no column 'line'.*context_key"):
        pseudobulk(cells, context_key="line")
    with pytest.raises(ValueError, match="name the same column"):
        pseudobulk(cells, context_key="perturbation")
    with pytest.raises(ValueError, match="no context 'HEK'; there are 'K562', 'RPE1'"):
        select_context(effects, "HEK")
    with pytest.raises(ValueError, match="no effects in several contexts.*context_key="):
        select_context(pseudobulk(cells), "K562")


# Another screen as features


def other_effects() -> ad.AnnData:
    """Effects of rank two, and a single whose own gene is huge."""
    rng = np.random.default_rng(0)
    labels = [f"g{i}" for i in range(12)] + ["g0+g1"]
    lfc = rng.normal(size=(13, 2)) @ rng.normal(size=(2, 30))
    lfc[np.arange(12), np.arange(12)] = 100
    return ad.AnnData(
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame(index=[f"g{i}" for i in range(30)]),
        layers={"lfc": lfc},
    )


def screen(genes: list[str]) -> ad.AnnData:
    labels = ["control", *genes]
    return ad.AnnData(
        np.zeros((len(labels), len(genes)), dtype=np.float32),
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame(index=genes),
    )


def test_features_are_the_other_effects_reduced_without_the_target_itself():
    adata, other = screen(["g3", "elsewhere", "g1", "g20"]), other_effects()
    report = reported(add_effects_as_features, adata, other, key_added="rpe1", n_components=29)
    values = adata.varm["rpe1"]
    assert report.n_genes_with_features == 2 and values.dtype == np.float32
    assert np.isnan(values[[1, 3]]).all() and np.isfinite(values[[0, 2]]).all()
    # All components: distances between genes are those of their effects, the targets' own changes put to the mean.
    lfc = other.layers["lfc"][:12].copy()
    for i in range(12):
        lfc[i, i] = np.delete(lfc[:, i], i).mean()
    expected = np.linalg.norm(lfc[3] - lfc[1])
    assert np.linalg.norm(values[0] - values[2]) == pytest.approx(expected, rel=1e-5)
    assert np.abs(other.layers["lfc"][0, 0]) == 100  # not changed


def test_components_are_shortened_by_the_first_one_left_out():
    adata, other = screen([f"g{i}" for i in range(12)]), other_effects()
    add_effects_as_features(adata, other, n_components=3, key_added="few")
    add_effects_as_features(adata, other, n_components=12, key_added="all")
    few, full = (np.linalg.norm(adata.varm[key], axis=0) for key in ("few", "all"))
    np.testing.assert_allclose(few, full[:3] - full[3], rtol=1e-4)


def test_effects_of_the_same_screen_are_refused(effects):
    k562, rpe1 = (select_context(effects, name) for name in ("K562", "RPE1"))
    same = k562[::-1][:, ::-1].copy()
    for given in (same, same[:5].copy(), k562):
        with pytest.raises(ValueError, match="this is the same screen"):
            add_effects_as_features(k562, given, control=None)
    sparse_layer = k562.copy()
    sparse_layer.layers["lfc"] = sparse.csr_matrix(k562.layers["lfc"])
    with pytest.raises(ValueError, match="this is the same screen"):
        add_effects_as_features(sparse_layer, sparse_layer.copy(), control=None)
    assert set(k562.varm) == {"features"}
    report = reported(add_effects_as_features, k562, rpe1, control=None)
    assert report.n_genes_with_features == 16 and not report.perturbed_genes_without_features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[:3].copy(), r"3 perturbation\(s\) of a single gene, expected at least 4"),
        (lambda e: ad.concat([e, e]), "these look like cells"),
        (lambda e: ad.AnnData(e.layers["lfc"], obs=e.obs, var=e.var), "no layer 'lfc'"),
    ],
)
def test_another_screen_that_cannot_be_used_says_why(change, message):
    adata = screen(["g1", "g2"])
    with pytest.raises(ValueError, match=message):
        add_effects_as_features(adata, change(other_effects()))
    assert not len(adata.varm)


def test_values_that_are_missing_or_all_the_same_are_refused():
    adata, other = screen(["g1", "g2"]), other_effects()
    other.layers["lfc"][2, 25] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite in 1 genes: g25"):
        add_effects_as_features(adata, other)
    other.var["measured"] = [gene != "g25" for gene in other.var_names]
    add_effects_as_features(adata, other)  # said to be unmeasured, it is left out
    other.layers["lfc"][:] = 1
    with pytest.raises(ValueError, match="tell no genes apart"):
        add_effects_as_features(adata, other)
    with pytest.raises(ValueError, match="n_components must be at least 1"):
        add_effects_as_features(adata, other, n_components=0)
