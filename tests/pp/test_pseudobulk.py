"""Effects from cells: the same numbers however the cells are stored, and none from data that cannot give them."""

from __future__ import annotations

import copy
import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scapp.pp import add_unmeasured_genes, pseudobulk

LABELS = ["control", "G1", "G2+G3", "G3+G2", "ctrl+G4"]
CANONICAL = {"G1": "G1", "G2+G3": "G2+G3", "G3+G2": "G2+G3", "ctrl+G4": "G4"}


def screen(n_cells=120, n_genes=30, seed=0) -> ad.AnnData:
    """Raw counts of a few perturbations in two batches, with everything that an AnnData of cells may carry."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(1.0, 2.0, size=n_genes), size=(n_cells, n_genes)).astype(np.float32)
    genes = [f"G{i}" for i in range(n_genes)]
    labels = np.array(LABELS)[np.arange(n_cells) % len(LABELS)]
    adata = ad.AnnData(
        counts,
        obs=pd.DataFrame(
            {"perturbation": labels, "batch": np.array(["a", "b"])[rng.permutation(n_cells) % 2], "study": "one"},
            index=[f"cell{i}" for i in range(n_cells)],
        ),
        var=pd.DataFrame({"symbol": genes}, index=genes),
        layers={"counts": counts.copy()},
        varm={"features": rng.normal(size=(n_genes, 3)).astype(np.float32)},
        varp={"network": sparse.random(n_genes, n_genes, 0.1, format="csr", dtype=np.float32, random_state=seed)},
        uns={"scapp": {"networks": {"network": {"n_edges": 90}}}},
    )
    return adata


NATURAL_LOG = {"log1p": {"base": None}}  # as scanpy notes it, of values that do not show it


def logged(adata: ad.AnnData) -> ad.AnnData:
    adata = adata.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def closed_form(adata: ad.AnnData) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Mean, log-fold-change and standard error of each perturbation, as one would write them down."""
    x = logged(adata).X.astype(np.float64)
    label = adata.obs["perturbation"].map(CANONICAL).fillna("").to_numpy()
    c = x[label == ""]
    return {
        name: (
            p.mean(0),
            p.mean(0) - c.mean(0),
            np.sqrt(p.var(0, ddof=1) / len(p) + c.var(0, ddof=1) / len(c)),
        )
        for name in sorted(set(CANONICAL.values()))
        for p in [x[label == name]]
    }


def assert_is(effects: ad.AnnData, expected, atol=1e-5) -> None:
    assert list(effects.obs_names) == list(expected)
    for i, (mean, lfc, se) in enumerate(expected.values()):
        np.testing.assert_allclose(effects.X[i], mean, atol=atol)
        np.testing.assert_allclose(effects.layers["lfc"][i], lfc, atol=atol)
        np.testing.assert_allclose(effects.layers["lfc_se"][i], se, atol=atol)


def test_numbers_are_those_of_the_definition():
    adata = screen()
    effects = pseudobulk(adata)
    assert_is(effects, closed_form(adata))
    controls = logged(adata)[adata.obs["perturbation"] == "control"].X
    np.testing.assert_allclose(effects.var["control_mean"], controls.mean(0), atol=1e-5)
    np.testing.assert_allclose(effects.var["control_var"], controls.var(0, ddof=1), atol=1e-5)
    assert effects.uns["n_control_cells"] == 24
    assert effects.obs["n_cells"].to_dict() == {"G1": 24, "G2+G3": 48, "G4": 24}
    assert effects.obs["n_perturbed_genes"].to_dict() == {"G1": 1, "G2+G3": 2, "G4": 1}
    assert effects.obs["perturbation"].tolist() == ["G1", "G2+G3", "G4"]
    assert {effects.X.dtype, effects.layers["lfc"].dtype, effects.layers["lfc_se"].dtype} == {np.dtype("float32")}


def test_means_and_variances_are_those_of_scanpy():
    adata = logged(screen())
    adata.obs["perturbation"] = adata.obs["perturbation"].replace({"G3+G2": "G2+G3", "ctrl+G4": "G4"})
    effects = pseudobulk(adata)
    expected = sc.get.aggregate(adata, by="perturbation", func=["mean", "var", "count_nonzero"])
    n = adata.obs["perturbation"].value_counts()
    var_c = expected["control"].layers["var"][0] / n["control"]
    for name in effects.obs_names:
        np.testing.assert_allclose(effects[name].X[0], expected[name].layers["mean"][0], rtol=1e-5)
        se = np.sqrt(expected[name].layers["var"][0] / n[name] + var_c)
        np.testing.assert_allclose(effects[name].layers["lfc_se"][0], se, rtol=1e-4)
        np.testing.assert_array_equal(effects[name].X[0] > 0, expected[name].layers["count_nonzero"][0] > 0)


@pytest.mark.parametrize("batch_key", [None, "batch"])
@pytest.mark.parametrize(
    "store", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.coo_array]
)
@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_numbers_do_not_depend_on_how_the_matrix_is_stored(store, chunk_size, batch_key):
    adata = screen()
    expected = pseudobulk(adata, batch_key=batch_key)
    matrix = store(adata.X)
    if sparse.issparse(matrix) and matrix.format == "coo":  # not allowed as X
        matrix = matrix.tocsc()
    adata.X = matrix
    effects = pseudobulk(adata, batch_key=batch_key, chunk_size=chunk_size)
    for key in ("lfc", "lfc_se"):
        np.testing.assert_allclose(effects.layers[key], expected.layers[key], atol=1e-5)
    np.testing.assert_allclose(effects.X, expected.X, atol=1e-5)


@pytest.mark.parametrize("layer", [None, "counts"])
@pytest.mark.parametrize("store", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_backed_cells_give_the_same_numbers(tmp_path, store, layer):
    adata = screen()
    expected = closed_form(adata)
    adata.X, adata.layers["counts"] = store(adata.X), store(adata.layers["counts"])
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert_is(pseudobulk(backed, layer=layer, chunk_size=7), expected)
    part = backed[np.arange(backed.n_obs) >= 10]
    assert_is(pseudobulk(part, chunk_size=7), closed_form(screen()[10:].copy()))


def test_a_view_gives_the_numbers_of_its_copy(assert_same):
    adata = screen()
    view = adata[adata.obs["batch"] == "a", 5:]
    effects, expected = pseudobulk(view), pseudobulk(view.copy())
    assert_same(effects, expected)
    assert view.is_view


def test_integers_are_read_as_counts():
    adata = screen()
    expected = closed_form(adata)
    adata.X = adata.X.astype(np.int32)
    assert_is(pseudobulk(adata), expected)


def test_a_value_stored_in_two_parts_is_logged_as_a_whole():
    adata = screen()
    expected = closed_form(adata)
    x = sparse.csr_matrix(adata.X)
    parts = np.repeat(x.data, 2)
    parts[::2] -= 1
    parts[1::2] = 1
    adata.X = sparse.csr_matrix((parts, np.repeat(x.indices, 2), 2 * x.indptr), shape=x.shape)
    assert_is(pseudobulk(adata), expected)
    assert adata.X.nnz == 2 * x.nnz


def test_counts_are_recognised_and_the_user_is_told(caplog):
    with caplog.at_level(logging.INFO):
        effects = pseudobulk(screen())
    assert "raw counts" in caplog.text
    assert effects.uns["scapp"]["pseudobulk"]["input"] == "raw counts"


def test_logs_are_taken_as_they_are_and_it_is_said_what_they_are(caplog):
    adata = screen()
    with caplog.at_level(logging.INFO), warnings.catch_warnings():
        warnings.simplefilter("error")
        effects = pseudobulk(logged(adata))
    assert_is(effects, closed_form(adata))
    assert "holds the natural log of counts per 10,000 plus one" in caplog.text


def test_logs_on_another_scale_are_pointed_out():
    adata = screen()
    sc.pp.normalize_total(adata, target_sum=1e6)
    sc.pp.log1p(adata)
    with pytest.warns(UserWarning, match="counts per 1,000,000 and not per 10,000.*another scale"):
        pseudobulk(adata)


def test_total_counts_of_all_genes_normalise_a_part_of_the_genes():
    adata = screen()
    adata.obs["total"] = adata.X.sum(1)
    expected = closed_form(adata)
    part = adata[:, :10].copy()
    assert_is(
        pseudobulk(part, total_counts_key="total"), {name: tuple(v[:10] for v in e) for name, e in expected.items()}
    )
    assert np.abs(pseudobulk(part).X - expected["G1"][0][:10]).max() > 0.1


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=40), st.integers(1, 50), st.randoms())
def test_sums_by_group_hold_for_any_assignment_and_chunk(codes, chunk_size, random):
    codes = [0, 0, 1, 1, *codes]
    random.shuffle(codes)
    counts = np.random.default_rng(len(codes)).poisson(2.0, size=(len(codes), 4)) + 1.0
    labels = ["control", "A", "B", "C"]
    adata = ad.AnnData(
        counts, obs=pd.DataFrame({"perturbation": [labels[c] for c in codes]}, index=map(str, range(len(codes))))
    )
    few = [label for i, label in enumerate(labels) if codes.count(i) == 1]
    with pytest.warns(UserWarning) if few else warnings.catch_warnings():
        effects = pseudobulk(adata, on_few_cells="drop", chunk_size=chunk_size)
    x = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    for name in effects.obs_names:
        mean = x[np.array(codes) == labels.index(name)].mean(0)
        np.testing.assert_allclose(effects[name].X[0], mean, rtol=1e-5)


def batch_screen() -> tuple[ad.AnnData, np.ndarray]:
    """Log-normalised cells with a planted effect and a batch shift five times as large, unevenly perturbed."""
    rng = np.random.default_rng(3)
    n = {("control", "a"): 300, ("control", "b"): 60, ("G1", "a"): 50, ("G1", "b"): 150, ("G2", "b"): 100}
    effect = {"control": np.zeros(20), "G1": rng.normal(0, 0.3, 20), "G2": rng.normal(0, 0.3, 20)}
    shift = {"a": np.zeros(20), "b": np.full(20, 1.5)}
    obs = pd.DataFrame([key for key, times in n.items() for _ in range(times)], columns=["perturbation", "batch"])
    obs.index = obs.index.map("cell{}".format)
    x = np.stack([3 + effect[p] + shift[b] for p, b in zip(obs["perturbation"], obs["batch"], strict=True)])
    x += rng.normal(0, 0.05, x.shape)
    var = pd.DataFrame(index=[f"G{i}" for i in range(20)])
    adata = ad.AnnData(x.astype(np.float32), obs=obs, var=var, uns=NATURAL_LOG)
    return adata[rng.permutation(adata.n_obs)].copy(), np.stack([effect["G1"], effect["G2"]])


@pytest.mark.parametrize("store", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_matched_controls_take_a_batch_shift_out(store):
    adata, truth = batch_screen()
    adata.X = store(adata.X)
    np.testing.assert_allclose(pseudobulk(adata, batch_key="batch").layers["lfc"], truth, atol=0.03)
    assert np.abs(pseudobulk(adata).layers["lfc"] - truth).min() > 0.5


def test_matched_numbers_are_those_of_the_definition():
    adata, _ = batch_screen()
    effects = pseudobulk(adata, batch_key="batch")
    x, label, batch = adata.X.astype(np.float64), adata.obs["perturbation"].to_numpy(), adata.obs["batch"].to_numpy()
    c = {b: x[(label == "control") & (batch == b)] for b in "ab"}
    for i, name in enumerate(["G1", "G2"]):
        own = label == name
        w = {b: (batch[own] == b).mean() for b in "ab"}
        lfc = sum(w[b] * (x[own & (batch == b)].mean(0) - c[b].mean(0)) for b in "ab" if w[b])
        d = x[own] - np.stack([c[b].mean(0) for b in batch[own]])
        error = d.var(0, ddof=1) / own.sum() + sum(w[b] ** 2 * c[b].var(0, ddof=1) / len(c[b]) for b in "ab")
        np.testing.assert_allclose(effects.layers["lfc"][i], lfc, atol=1e-5)
        np.testing.assert_allclose(effects.layers["lfc_se"][i], np.sqrt(error), atol=1e-5)
        np.testing.assert_allclose(effects.X[i], x[own].mean(0), atol=1e-5)
    np.testing.assert_allclose(effects.var["control_mean"], x[label == "control"].mean(0), atol=1e-5)


def test_one_batch_is_no_batch():
    adata = screen()
    adata.obs["batch"] = "a"
    for key in ("lfc", "lfc_se"):
        np.testing.assert_allclose(
            pseudobulk(adata, batch_key="batch").layers[key], pseudobulk(adata).layers[key], atol=1e-6
        )


def test_standard_error_is_the_spread_over_repeated_screens():
    lfc, se = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        x = 2 + rng.uniform(0, 1, size=(60, 1)).astype(np.float32)
        obs = pd.DataFrame({"perturbation": ["control"] * 40 + ["A"] * 20}, index=[str(i) for i in range(60)])
        effects = pseudobulk(ad.AnnData(x, obs=obs, uns=NATURAL_LOG))
        lfc.append(effects.layers["lfc"].item())
        se.append(effects.layers["lfc_se"].item())
    assert np.std(lfc) == pytest.approx(np.mean(se), rel=0.2)


def test_gene_annotation_networks_and_features_survive(tmp_path, assert_same):
    adata = screen()
    effects = pseudobulk(adata, batch_key="batch")
    assert list(effects.obs) == ["perturbation", "study", "n_cells", "n_perturbed_genes"]
    assert (effects.var["symbol"] == adata.var["symbol"]).all()
    np.testing.assert_array_equal(effects.varm["features"], adata.varm["features"])
    assert (effects.varp["network"] != adata.varp["network"]).nnz == 0
    assert effects.uns["scapp"]["networks"] == adata.uns["scapp"]["networks"]
    effects.write_h5ad(tmp_path / "effects.h5ad")
    written = ad.read_h5ad(tmp_path / "effects.h5ad")
    effects.strings_to_categoricals()
    assert_same(written, effects)


def test_unmeasured_genes_have_no_numbers_and_change_no_others():
    adata = screen()
    adata.obs["perturbation"] = adata.obs["perturbation"].replace("G1", "NEW")
    expected = pseudobulk(adata)
    for store in (np.asarray, sparse.csr_matrix, sparse.csc_matrix):
        adata.X = store(np.asarray(adata.layers["counts"]))
        effects = pseudobulk(add_unmeasured_genes(adata), chunk_size=7)
        assert effects.var_names[~effects.var["measured"]].tolist() == ["NEW"]
        for key in ("lfc", "lfc_se"):
            assert np.isnan(effects[:, "NEW"].layers[key]).all()
            np.testing.assert_allclose(effects.layers[key][:, :-1], expected.layers[key], atol=1e-5)
        assert np.isnan(effects[:, "NEW"].X).all()
        assert effects.var["control_mean"].isna().tolist() == [False] * adata.n_vars + [True]


def test_another_separator_is_understood_and_the_result_has_the_usual_one():
    adata = screen()
    expected = pseudobulk(adata)
    adata.obs["perturbation"] = adata.obs["perturbation"].str.replace("+", "_").astype("category")
    effects = pseudobulk(adata, sep="_")
    assert_is(effects, closed_form(screen()))
    assert list(effects.obs_names) == list(expected.obs_names)


def test_few_cells_are_an_error_that_says_how_to_mend_it():
    with pytest.raises(ValueError, match=r"G1 \(24\), G4 \(24\).*on_few_cells='drop'.*lower min_cells"):
        pseudobulk(screen(), min_cells=30)


def test_few_cells_are_dropped_only_when_asked_and_never_silently(tmp_path):
    with pytest.warns(UserWarning, match=r"G1 \(24\), G4 \(24\)") as caught:
        effects = pseudobulk(screen(), min_cells=30, on_few_cells="drop")
    assert caught[0].filename == __file__
    assert list(effects.obs_names) == ["G2+G3"]
    effects.write_h5ad(tmp_path / "effects.h5ad")
    dropped = ad.read_h5ad(tmp_path / "effects.h5ad").uns["scapp"]["pseudobulk"]["dropped"]
    assert dropped["perturbation"].tolist() == ["G1", "G4"]
    assert dropped["n_cells"].tolist() == [24, 24]


def spoil(adata: ad.AnnData, how: str) -> None:
    label = adata.obs["perturbation"]
    match how:
        case "no control":
            adata.obs["perturbation"] = label.replace("control", "G9")
        case "alias":
            adata.obs["perturbation"] = label.replace("control", "non-targeting")
        case "one control":
            adata.obs["perturbation"] = ["control", *label[1:].replace("control", "G1")]
        case "one cell":
            adata.obs["perturbation"] = [*label[:-1], "G7"]
        case "missing label":
            adata.obs["perturbation"] = [None, np.nan, *label[2:]]
        case "empty part":
            adata.obs["perturbation"] = label.replace("G1", "G1+")
        case "gene twice":
            adata.obs["perturbation"] = label.replace("G1", "G1+G1")
        case "nan":
            adata.X[3:5, [2, 4]] = np.nan
        case "infinite":
            adata.X[-1, 4] = np.inf
        case "negative":
            adata.X[-1, 4] = -0.5
        case "not logged":
            sc.pp.normalize_total(adata, target_sum=1e4)
        case "empty cell":
            adata.X[[7, 9]] = 0
        case "cells twice":
            adata.obs_names = ["cell0", "cell0", "cell0", *adata.obs_names[3:]]
        case "genes twice":
            adata.var_names = ["G0", "G0", *adata.var_names[2:]]
        case "no X":
            adata.X = None
        case "measured":
            adata.var["measured"] = [np.nan] + [True] * (adata.n_vars - 1)
        case "batch":
            adata.obs["lane"] = np.where(label == "control", "x", "y")
        case "missing batch":
            adata.obs["lane"] = [np.nan] + ["x"] * (adata.n_obs - 1)
        case "logged with total":
            sc.pp.normalize_total(adata, target_sum=1e4)
            sc.pp.log1p(adata)
        case "key":
            adata.obs = adata.obs.drop(columns="perturbation")


@pytest.mark.parametrize("sparse_x", [False, True])
@pytest.mark.parametrize(
    ("how", "options", "message"),
    [
        ("no control", {}, "No observation is labelled 'control'"),
        ("alias", {}, "control='non-targeting'"),
        ("one control", {}, "1 control cell"),
        ("one cell", {}, r"G7 \(1\)"),
        ("missing label", {}, r"2 of the 120 observations.*notna"),
        ("empty part", {}, "empty part"),
        ("gene twice", {}, "G1 more than once"),
        ("nan", {}, r"4 NaN or infinite values, in 2 gene\(s\): G2, G4"),
        ("infinite", {}, r"1 NaN or infinite values, in 1 gene\(s\): G4"),
        ("negative", {}, "1 negative values.*log-fold-changes.*control=None"),
        ("not logged", {}, r"sc\.pp\.log1p"),
        ("empty cell", {}, r"2 of the 120 cells.*filter_cells\(adata, min_counts=1\)"),
        ("cells twice", {}, r"2 of the 120 cells have the name of a cell before them: cell0\..*obs_names_make_unique"),
        ("genes twice", {}, r"var_names_make_unique"),
        ("no X", {}, "layer=…"),
        ("measured", {}, "True or False"),
        ("batch", {"batch_key": "lane"}, r"y \(0\)"),
        ("missing batch", {"batch_key": "lane"}, "1 of the 120"),
        ("key", {}, "no column 'perturbation'.*'batch'"),
        ("", {"layer": "count"}, "no layer 'count'.*'counts'"),
        ("", {"batch_key": "lane"}, "no column 'lane'"),
        ("", {"total_counts_key": "batch"}, "must hold total counts"),
        ("logged with total", {"total_counts_key": "n"}, "already"),
        ("", {"total_counts_key": "n"}, "less than the sum"),
        ("", {"min_cells": 1}, "at least 2"),
        ("", {"on_few_cells": "ignore"}, "'error' or 'drop'"),
        ("", {"chunk_size": 0}, "at least 1"),
    ],
)
def test_bad_input_is_an_error_that_says_how_to_mend_it(how, options, message, sparse_x, assert_same):
    adata = screen()
    adata.obs["n"] = 3.0
    spoil(adata, how)
    if sparse_x and adata.X is not None:
        adata.X = sparse.csr_matrix(adata.X)
    before = copy.deepcopy(adata)
    with pytest.raises(ValueError, match=message):
        pseudobulk(adata, **options)
    assert_same(adata, before)


def test_something_else_than_anndata_is_a_type_error():
    with pytest.raises(TypeError, match="AnnData"):
        pseudobulk(screen().to_df())


def test_the_cells_are_left_as_they_were(assert_same):
    adata = screen()
    before = adata.copy()
    effects = pseudobulk(adata, batch_key="batch")
    effects.varm["features"][:] = 0
    effects.varp["network"].data[:] = 0
    effects.uns["scapp"]["networks"]["network"]["n_edges"] = 0
    assert_same(adata, before)


@pytest.mark.parametrize("batch_key", [None, "bio_rep"])
def test_papalexi_counts(shared_data, batch_key):
    adata = ad.read_h5ad(shared_data / "papalexi_2021_counts.h5ad")
    effects = pseudobulk(adata, perturbation_key="grna_target", control="non-targeting", batch_key=batch_key)
    assert effects.shape == (25, 299)
    assert effects.uns["n_control_cells"] == 2386
    assert effects.obs["n_cells"].sum() == 20729 - 2386
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    means = sc.get.aggregate(adata, by="grna_target", func="mean").to_df("mean")
    np.testing.assert_allclose(effects.X, means.loc[effects.obs_names], atol=1e-5)
    expected = means.loc[effects.obs_names] - means.loc["non-targeting"]
    lfc = effects.to_df("lfc")
    np.testing.assert_allclose(lfc, expected, atol=1e-5 if batch_key is None else 0.25)
    # What is known of this screen: without interferon's receptor, its kinase or STAT1, its targets are not expressed.
    z = lfc / effects.to_df("lfc_se")
    assert (z.loc[["IFNGR1", "IFNGR2", "JAK2", "STAT1"], ["PSMB9", "UBE2L6", "STAT1"]] < -15).all(axis=None)


def test_norman_cells(shared_data):
    path = shared_data / "norman_2019_cells_subset.h5ad"
    adata = ad.read_h5ad(path)
    effects = pseudobulk(adata)
    assert effects.shape == (33, 500)
    assert effects.uns["scapp"]["pseudobulk"]["input"] == "log-normalised"
    assert "PTPN12+SAMD1" in effects.obs_names  # SAMD1+PTPN12 in the file
    assert (effects.obs["n_perturbed_genes"] == 2).sum() == 15
    x = adata[adata.obs["perturbation"] == "KLF1"].X.toarray() - adata[adata.obs["perturbation"] == "control"].X.mean(0)
    np.testing.assert_allclose(effects["KLF1"].layers["lfc"], np.asarray(x).mean(0, keepdims=True), atol=1e-5)
    backed = pseudobulk(ad.read_h5ad(path, backed="r"), chunk_size=100)
    np.testing.assert_allclose(backed.layers["lfc"], effects.layers["lfc"], atol=1e-5)
    np.testing.assert_allclose(backed.layers["lfc_se"], effects.layers["lfc_se"], atol=1e-5)


def test_log_fold_changes_are_not_taken_for_cells(shared_data):
    adata = ad.read_h5ad(shared_data / "norman_2019_effects.h5ad")
    with pytest.raises(ValueError, match="control=None"):
        pseudobulk(adata)
    adata.obs["perturbation"] = ["control", "control", *adata.obs["perturbation"][2:]]
    with pytest.raises(ValueError, match="look.* like log-fold-changes"):
        pseudobulk(ad.concat([adata, adata], index_unique="-"))


def test_guides_and_antibodies_among_the_genes_are_said():
    adata = screen()
    adata.var["feature_types"] = pd.Categorical(["Gene Expression"] * 28 + ["CRISPR Guide Capture", "Antibody Capture"])
    with pytest.warns(
        UserWarning, match=r"2 of 30 features are not genes.*CRISPR Guide Capture.*Gene Expression"
    ) as caught:
        pseudobulk(adata)
    assert [w.filename for w in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # anndata 0.13 sets options that pandas 3 deprecates
        pseudobulk(adata[:, :28].copy())


def labelled(labels: list[str], genes=("KLF1", "GATA1", "HBB"), **obs) -> ad.AnnData:
    counts = np.random.default_rng(0).poisson(20, size=(len(labels), len(genes))).astype(np.float32)
    frame = pd.DataFrame({"perturbation": labels, **obs}, index=[f"c{i}" for i in range(len(labels))])
    return ad.AnnData(counts, obs=frame, var=pd.DataFrame(index=list(genes)))


@pytest.mark.parametrize("text", ["nan", "NaN", "<NA>", "None", "NA", ""])
@pytest.mark.parametrize("option", ["batch_key", "context_key"])
def test_a_missing_value_as_text_is_no_batch_and_no_context(text, option):
    adata = labelled(["control"] * 4 + ["KLF1"] * 4, b=["1", "1", text, text] * 2)
    with pytest.raises(ValueError, match=rf"4 of the 8 observations have a missing value as text.*{option}.*isin"):
        pseudobulk(adata, **{option: "b"})
    assert pseudobulk(labelled(["control"] * 4 + ["KLF1"] * 4, b=["0", "0", "none", "none"] * 2), **{option: "b"}).n_obs


def test_each_context_may_have_its_own_control():
    adata = labelled(["NTC", "NTC", "DMSO", "DMSO"] + ["KLF1"] * 4, c=["a", "a", "b", "b"] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effects = pseudobulk(adata, control=["NTC", "DMSO"], context_key="c")
    assert list(effects.obs_names) == ["KLF1 (a)", "KLF1 (b)"]
    with pytest.warns(UserWarning, match="labelled 'safe', which control=… names as well"):
        pseudobulk(adata, control=["NTC", "DMSO", "safe"], context_key="c")


@pytest.mark.parametrize(
    ("label", "genes", "message"),
    [
        ("KLF1", ("ENSG00000105610", "ENSG00000102145"), "symbols as of human such as 'KLF1'.*Ensembl.*ensembl=table"),
        ("ENSG00000105610", ("KLF1", "GATA1"), "Ensembl ids such as 'ENSG00000105610'.*ensembl=table"),
        ("10661", ("KLF1", "GATA1"), "Entrez ids such as '10661'.*aliases=table"),
        ("2-Sep", ("KLF1", "GATA1"), "dates or numbers.*'2-Sep'.*harmonize_genes"),
        ("KLF1", ("KLF1", "1-Mar"), "dates or numbers.*'1-Mar'.*harmonize_genes"),
    ],
)
def test_genes_by_another_kind_of_name_are_named(label, genes, message):
    adata = labelled(["control"] * 4 + [label] * 4, (*genes,))
    with pytest.warns(UserWarning, match=message):
        pseudobulk(adata)


@pytest.mark.parametrize("rows", [[7, 0, 3, 1, 5, 2], [0, 2, 3, 4, 5, 6]])
@pytest.mark.parametrize("matrix", [np.asarray, sparse.csr_matrix])
def test_a_backed_view_of_some_cells_in_any_order_is_read(matrix, rows, tmp_path):
    adata = labelled(["control"] * 4 + ["KLF1"] * 4)
    adata.X = matrix(adata.X)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    expected = pseudobulk(adata[rows].copy())
    found = pseudobulk(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")[rows])
    np.testing.assert_allclose(found.layers["lfc"], expected.layers["lfc"], atol=1e-6)


@pytest.mark.parametrize("matrix", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("turned", [np.s_[::-1], np.s_[:, ::-1]])
def test_a_backed_view_in_reverse_order_is_refused_with_the_mend(matrix, turned, tmp_path):
    adata = labelled(["control"] * 4 + ["KLF1"] * 4)
    adata.X = matrix(adata.X)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with pytest.raises(ValueError, match="adata.X is a view of a file in an order.*to_memory"):
        pseudobulk(backed[turned])
    assert pseudobulk(backed.to_memory()[turned]).n_obs == 1
