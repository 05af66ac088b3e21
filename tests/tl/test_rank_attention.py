"""Attention in the form of scanpy's ranked genes."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import scapp

PLOTS = ["", "_violin", "_dotplot", "_matrixplot", "_heatmap", "_tracksplot", "_stacked_violin"]
SCORES = ["attention", "relative", "z_score"]
LABELS = ["HLA/A", "KLF1", "HLA/A+KLF1", "GATA1"]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(params=["predicted", "cells"])
def adata(request) -> ad.AnnData:
    return request.getfixturevalue(request.param)


def table(adata: ad.AnnData, group: str, column: str = "scores") -> pd.Series:
    return sc.get.rank_genes_groups_df(adata, group=group, key="attention_genes").set_index("names")[column]


def attention_of(predicted: ad.AnnData) -> pd.DataFrame:
    return predicted.to_df("attention").astype(float)


@pytest.mark.parametrize("plot", PLOTS)
def test_every_plot_of_scanpy_takes_the_result(adata, plot):
    scapp.tl.rank_attention_genes(adata, score="relative")
    if plot == "_violin":
        adata = adata[:, :8].copy()  # seaborn draws no density of a gene without data
        scapp.tl.rank_attention_genes(adata, score="relative")
    groups = ["HLA/A+KLF1", "KLF1"] if plot != "_violin" else ["KLF1"]
    getattr(sc.pl, f"rank_genes_groups{plot}")(adata, groups=groups, n_genes=3, key="attention_genes", show=False)
    drawn = plt.gcf()
    drawn.canvas.draw()
    texts = {text.get_text() for ax in drawn.axes for text in ax.findobj(plt.Text)}
    best = table(adata, groups[0]).index[0]
    assert best in texts
    assert not any("control" in text and "vs." in text for text in texts)


@pytest.mark.parametrize("plot", [plot for plot in PLOTS if plot != "_violin"])
def test_every_plot_works_with_the_defaults_of_scanpy(adata, plot):
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(object)
    scapp.tl.rank_attention_genes(adata)
    categories = adata.obs["perturbation"].cat.categories.tolist()
    assert set(LABELS) <= set(categories) and len(set(categories)) == len(categories)
    getattr(sc.pl, f"rank_genes_groups{plot}")(adata, key="attention_genes", show=False)
    plt.gcf().canvas.draw()


def test_more_perturbations_than_scanpys_form_holds_are_written_and_read_back(tmp_path):
    n, genes = 1200, [f"G{i}" for i in range(1200)]
    attention = np.random.default_rng(0).dirichlet(np.ones(n), size=n).astype(np.float32)
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": genes}, index=genes),
        var=pd.DataFrame(index=genes),
        layers={"attention": attention, "predicted_lfc": attention},
    )
    with pytest.warns(UserWarning, match=r"1200 perturbations.*attention_genes_complete.*\n.*groups=\['G0'"):
        scapp.tl.rank_attention_genes(adata)
    assert "attention_genes" not in adata.uns
    adata.write_h5ad(tmp_path / "a.h5ad")
    ranked = ad.read_h5ad(tmp_path / "a.h5ad").uns["attention_genes_complete"]
    assert ranked["groups"].tolist() == genes
    assert ranked["order"].shape == ranked["scores"].shape == (n, n)
    np.testing.assert_array_equal(ranked["order"], np.argsort(-attention, axis=1, kind="stable"))
    np.testing.assert_array_equal(ranked["scores"], np.sort(attention, axis=1)[:, ::-1])
    drawn = scapp.pl.attention(adata, "G7", key="attention_genes", show=False, n_genes=3)
    names = [text.get_text() for text in drawn.get_yticklabels()]
    assert names == [genes[i] for i in ranked["order"][7][:3]][::-1]
    # Those that are to be drawn, in scanpy's form.
    scapp.tl.rank_attention_genes(adata, groups=["G7", "G3"])
    assert adata.uns["attention_genes"]["names"].dtype.names == ("G7", "G3")
    assert "attention_genes_complete" not in adata.uns
    sc.pl.rank_genes_groups(adata, key="attention_genes", show=False)


@pytest.mark.parametrize("length", [4, 60, 200])
def test_as_many_groups_as_are_said_to_fit_do_fit_into_a_file(tmp_path, length):
    from scapp._ranking import fits_scanpy, rank_genes

    groups = [f"P{i:03d}".ljust(length, "x") for i in range(600)]
    n = max(k for k in range(1, 601) if fits_scanpy(groups[:k]))
    assert n >= (500 if length == 4 else 200)
    values = np.ones((n, 2))
    uns = {"r": rank_genes(values, values, groups[:n], ["A", "B"], groupby="p", layer="lfc")}
    ad.AnnData(uns=uns, obs=pd.DataFrame(index=["a"])).write_h5ad(tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").uns["r"]["names"].dtype.names == tuple(groups[:n])


@pytest.mark.parametrize("plot", ["_dotplot", "_matrixplot"])
@pytest.mark.parametrize("values", ["scores", "logfoldchanges"])
def test_scores_and_changes_can_be_plotted(cells, plot, values):
    # scanpy's own results fail in a dotplot of scores if a category, as the control, is no group: so without it.
    treated = cells[cells.obs["perturbation"] != "control"].copy()
    treated.obs["perturbation"] = treated.obs["perturbation"].cat.remove_unused_categories()
    scapp.tl.rank_attention_genes(treated)
    options = {"values_to_plot": values, "dendrogram": False, "key": "attention_genes", "show": False}
    getattr(sc.pl, f"rank_genes_groups{plot}")(treated, n_genes=2, **options)
    plt.gcf().canvas.draw()


def test_scores_are_what_they_are_said_to_be(adata, predicted):
    alpha, n = attention_of(predicted), predicted.n_vars
    expected = {
        "attention": alpha,
        "relative": np.log((alpha + 1 / n) / (alpha.mean() + 1 / n)),
        "z_score": (alpha - alpha.mean()) / alpha.std(ddof=0),
    }
    for score, values in expected.items():
        scapp.tl.rank_attention_genes(adata, score=score)
        for label in LABELS:
            found = table(adata, label)
            assert found.is_monotonic_decreasing
            np.testing.assert_allclose(found, values.loc[label, found.index], rtol=1e-5, atol=1e-5)
            change = table(adata, label, "logfoldchanges")
            np.testing.assert_allclose(change, predicted.to_df("predicted_lfc").loc[label, change.index], rtol=1e-6)
        method = "attention" if score == "attention" else f"attention_{score}"
        assert adata.uns["attention_genes"]["params"]["method"] == method


def test_what_is_specific_is_first_only_in_relative_scores(adata):
    specific = dict(zip(LABELS, ["T1", "T2", "T3", "T4"], strict=True))
    scapp.tl.rank_attention_genes(adata)
    assert {table(adata, label).index[0] for label in LABELS} == {"HUB"}
    for score in ("relative", "z_score"):
        scapp.tl.rank_attention_genes(adata, score=score)
        assert {label: table(adata, label).index[0] for label in LABELS} == specific


@pytest.mark.parametrize("score", SCORES)
def test_controls_without_attention_change_nothing(cells, score):
    treated = cells[cells.obs["perturbation"] != "control"].copy()
    scapp.tl.rank_attention_genes(cells, score=score)
    scapp.tl.rank_attention_genes(treated, score=score)
    assert cells.uns["attention_genes"]["names"].dtype.names == tuple(LABELS)
    for label in LABELS:
        for column in ("scores", "logfoldchanges"):
            pd.testing.assert_series_equal(table(cells, label, column), table(treated, label, column))
    assert np.isfinite([list(row) for row in cells.uns["attention_genes"]["scores"]]).all()


def test_each_perturbation_counts_once_however_many_cells_it_has(cells, predicted):
    scapp.tl.rank_attention_genes(cells, score="relative")
    scapp.tl.rank_attention_genes(predicted, score="relative")
    for label in LABELS:
        pd.testing.assert_series_equal(table(cells, label), table(predicted, label))


def test_result_survives_h5ad_with_slash_and_plus(adata, tmp_path, assert_same):
    scapp.tl.rank_attention_genes(adata, groups=["HLA/A+KLF1", "HLA/A"], n_genes=4)
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    assert again.uns["attention_genes"]["names"].dtype.names == ("HLA/A+KLF1", "HLA/A")
    assert len(again.uns["attention_genes"]["names"]) == 4
    assert set(again.uns["attention_genes"]["params"]) == {
        "groupby", "reference", "method", "use_raw", "layer", "corr_method",
    }  # fmt: skip
    for label in ("HLA/A+KLF1", "HLA/A"):
        pd.testing.assert_series_equal(table(again, label), table(adata, label))


def test_copy_leaves_adata_as_it_was(adata, assert_same):
    before = adata.copy()
    changed = scapp.tl.rank_attention_genes(adata, key_added="mine", copy=True)
    assert set(changed.uns) - set(before.uns) == {"mine"}
    assert_same(adata, before)
    assert scapp.tl.rank_attention_genes(adata) is None
    del adata.uns["attention_genes"]
    assert_same(adata, before)


def test_background_is_all_perturbations_also_for_few_groups(predicted):
    scapp.tl.rank_attention_genes(predicted, score="z_score")
    whole = table(predicted, "GATA1")
    scapp.tl.rank_attention_genes(predicted, groups=["GATA1"], score="z_score")
    pd.testing.assert_series_equal(table(predicted, "GATA1"), whole)


def test_bad_input_is_told_what_to_do(cells, predicted, assert_same):
    before = cells.copy()
    with pytest.raises(ValueError, match="KLF2.*did you mean 'KLF1'.*APP.predict"):
        scapp.tl.rank_attention_genes(cells, groups=["KLF2"])
    with pytest.raises(ValueError, match="Controls have no attention"):
        scapp.tl.rank_attention_genes(cells, groups=["control"])
    with pytest.raises(TypeError, match=r"Pass groups=\['KLF1'\]"):
        scapp.tl.rank_attention_genes(cells, groups="KLF1")
    with pytest.raises(ValueError, match="no column 'guide'.*perturbation_key="):
        scapp.tl.rank_attention_genes(cells, perturbation_key="guide")
    with pytest.raises(ValueError, match="score must be 'attention', 'relative' or 'z_score', found 'raw'"):
        scapp.tl.rank_attention_genes(cells, score="raw")
    with pytest.raises(ValueError, match="n_genes must be at least 1"):
        scapp.tl.rank_attention_genes(cells, n_genes=0)
    with pytest.raises(ValueError, match="compares perturbations"):
        scapp.tl.rank_attention_genes(predicted[:1].copy(), score="relative")
    with pytest.raises(ValueError, match=r"view.*adata\.copy\(\)"):
        scapp.tl.rank_attention_genes(cells[:5])
    cells.layers["attention"][cells.obs["perturbation"] == "KLF1", 0] = np.nan
    with pytest.raises(ValueError, match=r"no attention \(NaN\).*KLF1"):
        scapp.tl.rank_attention_genes(cells, groups=["GATA1", "KLF1"])
    cells.layers["attention"] = before.layers["attention"]
    assert_same(cells, before)
    del cells.layers["attention"]
    with pytest.raises(ValueError, match="no layer 'attention'.*filled by `APP.predict`"):
        scapp.tl.rank_attention_genes(cells)


def test_attention_to_perturbations_is_ranked_by_their_labels(adata, predicted):
    attended = ["KLF1", "GATA1", "CEBPA+KLF1"]
    values = np.random.default_rng(0).dirichlet(np.ones(4), size=4)[:, :3]
    row = {label: i for i, label in enumerate(LABELS)}
    adata.obsm["attention_to_perturbations"] = np.array(
        [values[row[label]] if label in row else np.full(3, np.nan) for label in adata.obs["perturbation"].astype(str)]
    )
    adata.uns["scapp"] = {"prediction": {"attended_perturbations": np.array(attended, dtype=object)}}
    scapp.tl.rank_attention_genes(adata, of="perturbations")
    for label in LABELS:
        found = table(adata, label)
        assert found.is_monotonic_decreasing
        np.testing.assert_allclose(found[attended], values[row[label]], rtol=1e-6)
        assert table(adata, label, "logfoldchanges").isna().all()
    scapp.tl.rank_attention_genes(adata, of="perturbations", score="relative", key_added="mine")
    expected = np.log((values + 1 / 3) / (values.mean(axis=0) + 1 / 3))
    mine = sc.get.rank_genes_groups_df(adata, group="GATA1", key="mine").set_index("names")["scores"]
    np.testing.assert_allclose(mine[attended], expected[row["GATA1"]], rtol=1e-4, atol=1e-5)
    adata.obsm["attention_to_perturbations"][(adata.obs["perturbation"] == "KLF1").to_numpy()] = np.nan
    with pytest.raises(ValueError, match=r"no attention \(NaN\) in adata\.obsm.*KLF1"):
        scapp.tl.rank_attention_genes(adata, of="perturbations", groups=["KLF1"])
    del adata.obsm["attention_to_perturbations"]
    with pytest.raises(ValueError, match="obsm has no 'attention_to_perturbations'"):
        scapp.tl.rank_attention_genes(adata, of="perturbations")
    with pytest.raises(ValueError, match="of must be 'genes' or 'perturbations', found 'cells'"):
        scapp.tl.rank_attention_genes(adata, of="cells")


@pytest.mark.parametrize("plot", [plot for plot in PLOTS if plot != "_violin"])
def test_few_perturbations_of_many_genes_are_drawn_with_the_defaults_of_scanpy(plot, tmp_path):
    n, genes = 4, [f"G{i}" for i in range(80)]
    rng = np.random.default_rng(0)
    adata = ad.AnnData(
        rng.gamma(1.0, size=(n, 80)).astype(np.float32),
        obs=pd.DataFrame({"perturbation": genes[:n]}, index=genes[:n]),
        var=pd.DataFrame(index=genes),
        layers={"attention": rng.dirichlet(np.ones(80), size=n), "predicted_lfc": rng.normal(size=(n, 80))},
    )
    scapp.tl.rank_attention_genes(adata)
    adata.write_h5ad(tmp_path / "a.h5ad")
    for drawn in (adata, ad.read_h5ad(tmp_path / "a.h5ad")):
        getattr(sc.pl, f"rank_genes_groups{plot}")(drawn, key="attention_genes", show=False)
