"""Variable genes are selected as scanpy does, and no gene that was perturbed is lost."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from scapp.pp import add_unmeasured_genes, pseudobulk, select_genes


@pytest.fixture
def cells() -> ad.AnnData:
    """Raw counts of 300 genes: the first ten vary between cells, the perturbed G50 and G51 do not."""
    rng = np.random.default_rng(0)
    mean = np.tile(rng.uniform(1, 10, size=300), (200, 1))
    mean[:, :10] *= rng.gamma(0.3, 1 / 0.3, size=(200, 10))
    labels = np.array(["control", "G50", "G50+G51", "G299"])[np.arange(200) % 4]
    return ad.AnnData(
        rng.poisson(mean).astype(np.float32),
        obs=pd.DataFrame(
            {"perturbation": labels, "batch": np.where(np.arange(200) < 90, "a", "b")}, index=map(str, range(200))
        ),
        var=pd.DataFrame(index=[f"G{i}" for i in range(300)]),
        varp={"network": sparse.eye(300, format="csr", dtype=np.float32)},
    )


def logged(adata: ad.AnnData) -> ad.AnnData:
    adata = adata.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def in_order(adata: ad.AnnData, genes: list[str]) -> list[str]:
    return [gene for gene in adata.var_names if gene in genes]


def variable_by_scanpy(adata: ad.AnnData, **options) -> list[str]:
    ranked = sc.pp.highly_variable_genes(logged(adata), n_top_genes=10, inplace=False, **options)
    return list(adata.var_names[ranked["highly_variable"]])


@pytest.mark.parametrize("batch_key", [None, "batch"])
@pytest.mark.parametrize("store", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_genes_are_those_of_scanpy_and_the_perturbed_ones(cells, store, batch_key, caplog, assert_same):
    variable = variable_by_scanpy(cells, batch_key=batch_key)
    assert sum(gene in variable for gene in cells.var_names[:10]) >= 7
    cells.X = store(cells.X)
    before = cells.copy()
    with caplog.at_level(logging.INFO):
        selected = select_genes(cells, 10, batch_key=batch_key)
    assert_same(cells, before)
    assert selected.var_names[selected.var["highly_variable"]].tolist() == variable
    assert selected.var_names.tolist() == in_order(selected, [*variable, "G50", "G51", "G299"])
    reasons = selected.var["selected_as"]
    assert selected.var_names[reasons == "highly variable"].tolist() == variable
    assert selected.var_names[reasons == "perturbed"].tolist() == ["G50", "G51", "G299"]
    assert (
        f"{len(variable) + 3} of 300 genes: {len(variable)} highly variable, 3 more kept because they were perturbed"
        in caplog.text
    )
    assert_same(selected.X, cells[:, selected.var_names].copy().X)
    assert not selected.is_view
    assert selected.varp["network"].shape == (selected.n_vars, selected.n_vars)


def test_logs_are_ranked_as_they_are(cells):
    assert select_genes(logged(cells), 10).var_names.equals(select_genes(cells, 10).var_names)


def test_counts_in_a_layer_are_ranked(cells):
    cells.layers["counts"] = cells.X.copy()
    variable = variable_by_scanpy(cells)
    sc.pp.scale(cells)
    assert select_genes(cells, 10, layer="counts").var_names.tolist() == in_order(
        cells, [*variable, "G50", "G51", "G299"]
    )
    with pytest.raises(ValueError, match="negative values.*layer=…"):
        select_genes(cells, 10)


def test_seurat_v3_ranks_the_counts(cells):
    expected = sc.pp.highly_variable_genes(cells, n_top_genes=10, flavor="seurat_v3", inplace=False)
    selected = select_genes(cells, 10, flavor="seurat_v3")
    assert selected.var_names[selected.var["highly_variable"]].tolist() == list(
        expected.index[expected["highly_variable"]]
    )
    with pytest.raises(ValueError, match="flavor='seurat'"):
        select_genes(logged(cells), 10, flavor="seurat_v3")


@pytest.mark.parametrize("n_top_genes", [300, 2000])
def test_all_genes_stay_if_there_are_no_more(cells, n_top_genes):
    assert select_genes(cells, n_top_genes).var["highly_variable"].all()
    assert select_genes(cells, n_top_genes).var_names.equals(cells.var_names)


def test_unmeasured_genes_stay_and_are_not_ranked(cells):
    cells.obs["perturbation"] = cells.obs["perturbation"].replace("G299", "NEW")
    variable = variable_by_scanpy(cells)
    selected = select_genes(add_unmeasured_genes(cells), 10)
    assert selected.var_names.tolist() == in_order(selected, [*variable, "G50", "G51", "NEW"])
    assert selected.var["selected_as"].iloc[-1] == "unmeasured"
    assert not selected.var["measured"].iloc[-1]
    assert selected.uns["scapp"]["select_genes"] == {
        "n_top_genes": 10,
        "n_highly_variable": 10,
        "n_perturbed": 2,
        "n_unmeasured": 1,
    }


@pytest.mark.parametrize("control", [None, "control"])
def test_effects_are_ranked_by_their_size(cells, control):
    effects = pseudobulk(cells)
    effects.layers["lfc"][:] = 0.0
    effects.layers["lfc"][0, [40, 7, 20]] = [-3.0, 2.0, 1.0]
    assert select_genes(effects, 2, control=control).var_names.tolist() == ["G7", "G40", "G50", "G51", "G299"]
    effects.layers["lfc"][1, 4] = np.nan
    with pytest.raises(ValueError, match="1 NaN"):
        select_genes(effects, 2, control=control)


def test_backed_cells_give_a_result_in_memory(cells, tmp_path, assert_same):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    selected = select_genes(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"), 10)
    assert not selected.isbacked
    assert selected.var_names.equals(select_genes(cells, 10).var_names)


def test_the_selection_can_be_written(cells, tmp_path, assert_same):
    selected = select_genes(cells, 10)
    selected.write_h5ad(tmp_path / "cells.h5ad")
    written = ad.read_h5ad(tmp_path / "cells.h5ad")
    selected.strings_to_categoricals()
    assert_same(written.var, selected.var)
    assert_same(written.uns, selected.uns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_top_genes": 0}, "at least 1"),
        ({"control": "ctrl"}, "control='control'"),
        ({"perturbation_key": "guide"}, "no column 'guide'"),
        ({"batch_key": "lane"}, "no column 'lane'"),
        ({"layer": "logs"}, "no layer 'logs'"),
    ],
)
def test_bad_options_are_errors(cells, options, message, assert_same):
    before = cells.copy()
    with pytest.raises(ValueError, match=message):
        select_genes(cells, **options)
    assert_same(cells, before)


def test_norman_cells(shared_data):
    adata = ad.read_h5ad(shared_data / "norman_2019_cells_subset.h5ad")
    selected = select_genes(adata, 100)
    perturbed = {gene for label in adata.obs["perturbation"].unique() for gene in label.split("+")}
    assert perturbed.intersection(adata.var_names) <= set(selected.var_names)
    assert selected.var["highly_variable"].sum() == 100
    assert (selected.var["selected_as"] == "perturbed").sum() == selected.n_vars - 100 > 0


def test_norman_effects(shared_data):
    adata = ad.read_h5ad(shared_data / "norman_2019_effects.h5ad")
    selected = select_genes(add_unmeasured_genes(adata), 1000)
    assert (selected.var["selected_as"] == "unmeasured").sum() == 48
    kept = set(selected.var_names[selected.var["highly_variable"]])
    size = adata.to_df("lfc").pow(2).mean()
    assert size[list(kept)].min() >= size.drop(list(kept)).max()
    assert len(kept) == 1000
