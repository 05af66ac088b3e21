"""A gene without measurements finds room in every slot, and invents no number in any."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scapp._genes import check_gene_names, check_no_view, measured_mask
from scapp.pp import add_unmeasured_genes


def cells() -> ad.AnnData:
    """Something in every slot, in every type that an h5ad file holds."""
    genes = ["B", "A", "C"]
    rng = np.random.default_rng(0)
    adata = ad.AnnData(
        rng.poisson(3.0, size=(4, 3)).astype(np.float32),
        obs=pd.DataFrame({"perturbation": ["control", "Z+A", "ctrl+Y", "Z"]}, index=list("1234")),
        var=pd.DataFrame(
            {
                "highly_variable": [True, False, True],
                "rank": [1, 2, 3],
                "mean": [0.1, 0.2, 0.3],
                "symbol": ["b", "a", "c"],
                "type": pd.Categorical(["x", "y", "x"]),
                "maybe": pd.array([True, None, False], dtype="boolean"),
            },
            index=pd.Index(genes, name="gene"),
        ),
        layers={
            "sparse": sparse.random(4, 3, 0.5, format="csr", dtype=np.float32, random_state=1),
            "columns": sparse.random(4, 3, 0.5, format="csc", dtype=np.float32, random_state=1),
            "counts": rng.poisson(3.0, size=(4, 3)),
        },
        obsm={"X_pca": rng.normal(size=(4, 2))},
        obsp={"distances": sparse.eye(4, format="csr")},
        varm={
            "features": rng.normal(size=(3, 2)).astype(np.float32),
            "table": pd.DataFrame({"q": [1, 2, 3]}, index=genes),
        },
        varp={
            "network": sparse.random(3, 3, 0.5, format="csr", dtype=np.float32, random_state=2),
            "dense": np.ones((3, 3)),
        },
        uns={"scapp": {"networks": {"network": {"n_edges": 4}}}, "colors": ["red"]},
    )
    adata.raw = adata.copy()
    return adata


def test_every_slot_is_extended_and_nothing_is_invented():
    adata = cells()
    result = add_unmeasured_genes(adata, ["D", "A"])
    assert result.var_names.tolist() == ["B", "A", "C", "D", "Y", "Z"]
    assert result.var_names.name == "gene"
    new = result[:, ["D", "Y", "Z"]]
    assert result.var["measured"].tolist() == [True] * 3 + [False] * 3
    assert result.var["measured"].dtype == bool
    assert np.isnan(new.X).all()
    assert np.isnan(new.layers["counts"]).all()
    assert new.layers["sparse"].nnz == new.layers["columns"].nnz == 0
    assert np.isnan(new.varm["features"]).all()
    assert new.varm["table"]["q"].isna().all()
    assert result.varp["network"].nnz == adata.varp["network"].nnz
    assert result.varp["dense"].sum() == 9
    assert new.var["highly_variable"].tolist() == [False] * 3
    assert result.var["highly_variable"].dtype == bool
    assert new.var["symbol"].tolist() == [""] * 3
    assert new.var[["rank", "mean", "type", "maybe"]].isna().all(axis=None)
    assert result.raw.n_vars == 3


def test_what_was_there_stays_as_it_was(assert_same):
    adata = cells()
    before = adata.copy()
    result = add_unmeasured_genes(adata, ["D"])
    assert_same(adata, before)
    old = result[:, adata.var_names].copy()
    for slot in ("X", "obs", "obsm", "obsp", "varp", "uns"):
        assert_same(getattr(old, slot), getattr(adata, slot))
    for key in adata.layers:
        np.testing.assert_array_equal(old.to_df(key), adata.to_df(key))
        assert getattr(result.layers[key], "format", "") == getattr(adata.layers[key], "format", "")
    result.uns["scapp"]["networks"]["network"]["n_edges"] = 0
    result.obsm["X_pca"][:] = 0
    assert_same(adata, before)


@settings(max_examples=30)
@given(st.lists(st.text("ABCXYZ-.", min_size=1, max_size=4), max_size=6))
def test_calling_again_changes_nothing(names):
    once = add_unmeasured_genes(cells(), names)
    again = add_unmeasured_genes(once, names)
    assert once.var_names.equals(again.var_names)
    pd.testing.assert_frame_equal(once.var, again.var)
    np.testing.assert_array_equal(once.X, again.X)
    assert once.var_names[3:].is_monotonic_increasing
    assert set(once.var_names) == {"A", "B", "C", "Y", "Z", *names}


def test_a_second_call_keeps_what_the_first_one_marked():
    result = add_unmeasured_genes(add_unmeasured_genes(cells()), ["D"])
    assert result.var_names[~measured_mask(result)].tolist() == ["Y", "Z", "D"]


def test_the_user_is_told_which_genes(caplog):
    with caplog.at_level(logging.INFO):
        add_unmeasured_genes(cells(), ["D"])
    assert "3 genes added that were not measured (2 of the 3 perturbed genes): D, Y, Z" in caplog.text


def test_the_result_can_be_written(tmp_path, assert_same):
    result = add_unmeasured_genes(cells(), ["D"])
    result.write_h5ad(tmp_path / "cells.h5ad")
    assert_same(ad.read_h5ad(tmp_path / "cells.h5ad").varp, result.varp)
    assert_same(measured_mask(ad.read_h5ad(tmp_path / "cells.h5ad")), measured_mask(result))


def test_views_and_backed_files_are_read(tmp_path, assert_same):
    adata = cells()
    del adata.raw
    expected = add_unmeasured_genes(adata[1:, [0, 2]].copy(), control=None)
    assert_same(add_unmeasured_genes(adata[1:, [0, 2]], control=None), expected)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    result = add_unmeasured_genes(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"))
    assert not result.isbacked
    np.testing.assert_array_equal(result.X, add_unmeasured_genes(adata).X)


def test_cells_need_their_control_lest_it_be_taken_for_a_gene():
    adata = cells()
    adata.obs["perturbation"] = ["scrambled", "scrambled", "Y", "Z"]
    with pytest.raises(ValueError, match="No observation is labelled 'control'"):
        add_unmeasured_genes(adata)
    assert "scrambled" not in add_unmeasured_genes(adata, control="scrambled").var_names


@pytest.mark.parametrize(
    ("genes", "error", "message"),
    [
        ("KLF1", TypeError, r"genes=\['KLF1'\]"),
        ([1], TypeError, "an? int"),
        ([""], ValueError, "empty"),
        (["KLF1 "], ValueError, "blanks"),
    ],
)
def test_bad_names_are_refused(genes, error, message):
    with pytest.raises(error, match=message):
        add_unmeasured_genes(cells(), genes)


def test_genes_of_the_same_name_are_refused_with_the_mend():
    adata = cells()
    adata.var_names = ["A", "A", "B"]
    with pytest.raises(ValueError, match=r"1 gene name\(s\).*: A\..*adata\.var_names_make_unique\(\)"):
        add_unmeasured_genes(adata)
    adata.var_names = ["A", " ", "B"]
    with pytest.raises(ValueError, match="1 of the 3 adata.var_names are empty"):
        check_gene_names(adata)


@pytest.mark.parametrize("column", [[True, None, False], ["True", "False", "True"], [1.0, 0.0, np.nan], [1, 0, 1]])
def test_measured_says_true_or_false_and_nothing_else(column):
    adata = cells()
    adata.var["measured"] = column
    with pytest.raises(ValueError, match="True or False"):
        measured_mask(adata)


def test_measured_may_be_a_nullable_boolean_without_missing_values():
    adata = cells()
    adata.var["measured"] = pd.array([True, False, True], dtype="boolean")
    mask = measured_mask(adata)
    assert mask.dtype == bool
    assert mask.tolist() == [True, False, True]


def test_a_view_is_refused_where_it_would_be_written_into():
    check_no_view(cells(), "scapp.pp.add_network")
    with pytest.raises(ValueError, match=r"scapp\.pp\.add_network.*adata\.copy\(\)"):
        check_no_view(cells()[:2], "scapp.pp.add_network")


@pytest.mark.parametrize("control", ["control", None])
def test_norman_effects(shared_data, control):
    adata = ad.read_h5ad(shared_data / "norman_2019_effects.h5ad")
    result = add_unmeasured_genes(adata, control=control)
    # 47 of the 104 targets of singles, and ZBTB10, which occurs in doubles only.
    assert result.shape == (234, 2048)
    assert (~result.var["measured"]).sum() == 48
    assert np.isnan(result.layers["lfc"][:, 2000:]).all()
    np.testing.assert_array_equal(result.layers["lfc"][:, :2000], adata.layers["lfc"])
    perturbed = {gene for label in adata.obs["perturbation"] for gene in label.split("+")}
    assert len(perturbed) == 105
    assert perturbed <= set(result.var_names)
