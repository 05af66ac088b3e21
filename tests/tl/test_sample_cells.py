"""Sampled cells have the predicted mean, the noise of control cells, and as many zeros as a screen has."""

from __future__ import annotations

import anndata as ad
import cell_eval
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import scapp
from scapp.tl import sample_cells
from scapp.tl._sample_cells import ControlCells, clipped_shift


@pytest.fixture(scope="module")
def cells(simulated):
    return simulated[0]


@pytest.fixture(scope="module")
def predicted(model):
    return model.predict(["G002", "G108", "G011+G002"])


def log_normalised(adata):
    found = adata.copy()
    sc.pp.normalize_total(found, target_sum=1e4)
    sc.pp.log1p(found)
    return found


@pytest.fixture(scope="module")
def shallow():
    """A screen of few counts a cell, in which most genes are missing in many cells, and its true effects as predictions."""
    cells, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=120, n_regulators=12, n_singles=12, n_doubles=0, median_library_size=300, dropout=0,
        n_cells_per_perturbation=200, n_control_cells=800,
    )  # fmt: skip
    effects = truth.effects.copy()
    effects.layers["predicted_lfc"] = effects.layers["lfc"]
    return cells, effects


@pytest.fixture(scope="module")
def controls(shallow):
    cells = shallow[0]
    return log_normalised(cells[cells.obs["perturbation"] == "control"])


@pytest.fixture(scope="module")
def sampled(shallow):
    cells, effects = shallow
    return sample_cells(cells, effects, n_cells=1000, include_control=False)


def shown(adata, name=None):
    """Share of cells with each gene."""
    adata = adata if name is None else adata[adata.obs["perturbation"] == name]
    return np.asarray((adata.X > 0).mean(axis=0)).ravel()


def test_the_mean_of_many_cells_is_the_predicted_mean(sampled, controls, shallow):
    mean, z = np.asarray(controls.X.mean(axis=0)).ravel(), []
    for name in shallow[1].obs_names:
        values = sampled[sampled.obs["perturbation"] == name].X.toarray().astype(np.float64)
        expected = np.maximum(mean + shallow[1][name].layers["predicted_lfc"][0], 0)
        error = values.std(axis=0) / np.sqrt(len(values))
        z.append((values.mean(axis=0) - expected) / np.maximum(error, 1e-9))
    # No mean of 1,440 is off by more than chance has it.
    assert np.abs(z).max() < 5
    assert 0.8 < np.square(z).mean() < 1.25


def test_without_an_effect_cells_are_control_cells(shallow, controls):
    cells = shallow[0]
    found = sample_cells(cells, effects_of(cells), n_cells=50, include_control=False)
    source = controls[found.obs["source_cell"].to_numpy()]
    np.testing.assert_allclose(found.X.toarray(), source.X.toarray(), atol=1e-5)


def test_zeros_are_as_frequent_as_in_measured_cells(sampled, controls, shallow):
    """Cells moved by the true effect show genes as often as the measured cells do; a plain shift would not."""
    cells, effects = shallow
    shares = []
    for name in effects.obs_names:
        changed = np.abs(effects[name].layers["lfc"][0]) > 0.3
        shares.append([shown(*of)[changed] for of in ((controls,), (cells, name), (sampled, name))])
    before, measured, found = (np.concatenate(values) for values in zip(*shares, strict=True))
    assert len(measured) > 50 and np.abs(before - measured).mean() > 0.1
    assert np.abs(found - measured).mean() < 0.04
    assert (np.sign(found - before) == np.sign(measured - before)).mean() > 0.95


def test_the_spread_of_a_gene_is_that_of_measured_cells(sampled, shallow):
    cells, effects = shallow
    spread = []
    measured = log_normalised(cells)
    for name in effects.obs_names:
        a, b = (adata[adata.obs["perturbation"] == name].X.toarray().std(axis=0) for adata in (sampled, measured))
        spread.append(a / b)
    assert 0.9 < np.median(spread) < 1.1
    assert np.quantile(spread, 0.05) > 0.7 and np.quantile(spread, 0.95) < 1.4


@given(
    values=st.lists(st.floats(0.01, 9), min_size=1, max_size=30).map(sorted),
    mean=st.floats(0.001, 9),
)
@settings(max_examples=200)
def test_the_clipped_shift_has_the_mean_asked(values, mean):
    values = np.array(values)
    shift = clipped_shift(values, mean)
    np.testing.assert_allclose(np.maximum(values + shift, 0).mean(), mean, rtol=1e-9)


@given(seed=st.integers(0, 1000), lfc=st.floats(-9, 9))
@settings(max_examples=60)
def test_the_expected_mean_is_exact_whatever_the_effect(seed, lfc):
    """Expectation over the draws of detection, gene by gene: genes that no cell and that all cells show among them."""
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(2, 0.6, (40, 5)) * (rng.random((40, 5)) < [0, 0.1, 0.5, 0.9, 1])
    matrix[0, 0] = 0
    control = ControlCells(sparse.csr_matrix(matrix))
    change = control.change(np.full(5, lfc))
    expected = np.maximum(matrix.mean(axis=0) + lfc, 0)
    positive = [column[column > 0] if column.any() else np.array([control.one_count]) for column in matrix.T]
    level = [np.maximum(p + s, 0).mean() for p, s in zip(positive, change.shift, strict=True)]
    np.testing.assert_allclose(change.detected * level, expected, atol=1e-9)
    assert (change.detected >= 0).all() and (change.detected <= 1).all()
    sample = control.sample(rng.integers(40, size=10), change, rng)
    assert (sample >= 0).all() and np.isfinite(sample).all()


def test_cells_look_like_the_input(cells, predicted):
    found = sample_cells(cells, predicted, n_cells={"G002": 3, "G108": 2, "G011+G002": 4})
    assert found.obs["perturbation"].value_counts()[["G002", "G108", "G011+G002"]].tolist() == [3, 2, 4]
    control = found[found.obs["perturbation"] == "control"]
    is_control = cells.obs["perturbation"] == "control"
    assert control.obs_names.tolist() == cells.obs_names[is_control].tolist()
    assert found.obs_names.is_unique
    assert set(found.obs) == {*cells.obs, "source_cell"}
    moved = found[found.obs["perturbation"] != "control"].obs
    source = cells.obs.loc[moved["source_cell"]]
    assert moved["batch"].tolist() == source["batch"].tolist()
    # What describes the perturbation is not that of the control cell; G108 was not in the screen.
    kind = cells.obs.drop_duplicates("perturbation").set_index("perturbation")["perturbation_type"]
    by_label = moved.drop_duplicates("perturbation").set_index("perturbation")["perturbation_type"]
    assert by_label["G002"] == kind["G002"] and by_label["G011+G002"] == kind["G002+G011"]
    assert pd.isna(by_label["G108"])
    assert found.var.equals(cells.var)


def test_cells_survive_h5ad_with_columns_of_any_kind(cells, predicted, tmp_path):
    cells = cells.copy()
    is_control = (cells.obs["perturbation"] == "control").to_numpy()
    cells.obs["targeting"] = ~is_control
    cells.obs["n_genes"] = np.where(is_control, 0, 1 + cells.obs["perturbation"].astype(str).str.count(r"\+"))
    cells.obs["guide"] = np.where(is_control, "none", "guide of " + cells.obs["perturbation"].astype(str))
    cells.obs["guide"] = cells.obs["guide"].astype(object)
    found = sample_cells(cells, predicted, n_cells=2, counts=True)
    found.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    one = again.obs.drop_duplicates("perturbation").set_index("perturbation")
    assert one.loc["G002", "targeting"] and one.loc["G002", "guide"] == "guide of G002"
    assert not one.loc["control", "targeting"] and one.loc["control", "n_genes"] == 0
    assert pd.isna(one.loc["G108", "targeting"]) and pd.isna(one.loc["G108", "n_genes"])
    np.testing.assert_array_equal(again.X.toarray(), found.X.toarray())


def test_counts_amount_to_the_expression(cells, predicted):
    found = sample_cells(cells, predicted, n_cells=300, counts=True)
    counts = found.layers["counts"].toarray()
    assert (counts == np.rint(counts)).all()
    control = (found.obs["perturbation"] == "control").to_numpy()
    names = found.obs_names[control]
    np.testing.assert_array_equal(counts[control], cells[names].X.toarray())
    totals = np.asarray(cells[found.obs["source_cell"].to_numpy()].X.sum(axis=1))
    expected = np.expm1(found.X.toarray()) * totals / 1e4
    assert np.abs(counts - expected).max() < 1 + 1e-3
    np.testing.assert_allclose(counts[~control].mean(axis=0), expected[~control].mean(axis=0), atol=0.1)


def test_log_normalised_cells_give_the_same_cells_as_their_counts(cells, predicted):
    a, b = (sample_cells(adata, predicted, n_cells=5) for adata in (cells, log_normalised(cells)))
    np.testing.assert_allclose(a.X.toarray(), b.X.toarray(), atol=1e-4)
    dense, by_gene = cells.copy(), cells.copy()
    dense.X, by_gene.X = dense.X.toarray(), by_gene.X.tocsc()
    for other in (dense, by_gene):
        np.testing.assert_allclose(sample_cells(other, predicted, n_cells=5).X.toarray(), a.X.toarray(), atol=1e-5)


def test_one_seed_gives_the_same_cells_and_the_input_is_as_it_was(cells, predicted, assert_same):
    before, effects = cells.copy(), predicted.copy()
    a, b, other = (sample_cells(cells, predicted, n_cells=5, seed=seed) for seed in (0, 0, 1))
    assert_same(a, b)
    assert not np.array_equal(a.X.toarray(), other.X.toarray())
    assert_same(cells, before)
    assert_same(predicted, effects)


def test_genes_that_were_not_predicted_or_measured_are_left_out(cells, predicted):
    part = predicted[:, :100].copy()
    part.var["measured"] = np.arange(100) < 90
    part.layers["predicted_lfc"][:, 90:] = np.nan
    found = sample_cells(cells, part, n_cells=3)
    assert found.var_names.tolist() == cells.var_names[:90].tolist()


def test_cell_eval_scores_sampled_cells_from_end_to_end(cells, model, held_out, tmp_path):
    """Cells of held-out pairs agree with the measured cells far more than those of no effect."""
    names = held_out[:8]
    real = log_normalised(cells[cells.obs["perturbation"].isin(["control", *names])])
    predicted = model.predict(names)
    nothing = predicted.copy()
    nothing.layers["predicted_lfc"] = np.zeros_like(nothing.layers["predicted_lfc"])
    means = {}
    for way, effects in (("app", predicted), ("nothing", nothing)):
        found = sample_cells(real, effects, n_cells=30)
        for adata in (found, real):
            adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).astype("category")
        evaluator = cell_eval.MetricsEvaluator(
            adata_pred=found, adata_real=real, control_pert="control", pert_col="perturbation",
            num_threads=1, outdir=str(tmp_path / way),
        )  # fmt: skip
        results, _ = evaluator.compute(profile="minimal", write_csv=False, break_on_error=True)
        assert set(results["perturbation"]) == set(names)
        means[way] = {c: results[c].drop_nans().mean() for c in results.columns if c != "perturbation"}
    app, none = means["app"], means["nothing"]
    assert app["pearson_delta"] > 0.7 and app["pearson_delta"] > none["pearson_delta"] + 0.3
    assert app["mae"] < none["mae"]
    assert app["overlap_at_N"] > 0.5


def effects_of(cells, labels=("G001",), **columns):
    adata = ad.AnnData(
        obs=pd.DataFrame(columns, index=list(labels)),
        var=pd.DataFrame(index=cells.var_names),
        layers={"predicted_lfc": np.zeros((len(labels), cells.n_vars))},
    )
    return adata


def without_layer(adata):
    del adata.layers["predicted_lfc"]
    return adata


def with_nan(adata):
    adata.layers["predicted_lfc"][0, 3] = np.nan
    return adata


def with_two_of_one_name(adata):
    adata.var_names = [adata.var_names[1], *adata.var_names[1:]]
    return adata


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_genes_of_one_name_and_other_objects_are_refused(cells):
    with pytest.raises(ValueError, match="occur more than once.*var_names_make_unique"):
        sample_cells(with_two_of_one_name(cells.copy()), effects_of(cells))
    with pytest.raises(TypeError, match="predictions as an AnnData, found DataFrame"):
        sample_cells(cells, effects_of(cells).to_df("predicted_lfc"))


def test_numbers_of_cells_may_be_counted_and_effects_sparse(cells):
    predictions = effects_of(cells)
    counted = pd.Series(5, index=[*predictions.obs_names, "control"])  # such as value_counts() of real cells
    found = sample_cells(cells, predictions, n_cells=counted, include_control=False)
    asked = dict.fromkeys(predictions.obs_names, 5)
    assert found.obs["perturbation"].value_counts().to_dict() == asked
    predictions.layers["predicted_lfc"] = sparse.csr_matrix(predictions.layers["predicted_lfc"])
    again = sample_cells(cells, predictions, n_cells=asked, include_control=False)
    np.testing.assert_array_equal(again.X.toarray(), found.X.toarray())


def with_another_gene(adata):
    adata.var_names = ["ELSEWHERE", *adata.var_names[1:]]
    return adata


@pytest.mark.parametrize(
    ("spoil", "options", "match"),
    [
        (without_layer, {}, "predicted_lfc"),
        (with_nan, {}, "not finite"),
        (with_another_gene, {}, "ELSEWHERE"),
        (lambda adata: adata[:0].copy(), {}, "no observations"),
        (lambda adata: ad.concat([adata, adata]), {}, "more than one prediction"),
        (lambda adata: adata, {"n_cells": 0}, "at least 1"),
        (lambda adata: adata, {"n_cells": 2.5}, "whole number.*2.5"),
        (lambda adata: adata, {"n_cells": {"G002": 3}}, "says nothing of 1 .*G001"),
        (lambda adata: adata, {"control": "nt"}, "Pass control='control'"),
        (lambda adata: adata, {"perturbation_key": "guide"}, "guide"),
        (lambda adata: adata, {"layer": "counts"}, "no layer 'counts'"),
    ],
)
def test_bad_input_is_told_what_was_expected(cells, spoil, options, match):
    with pytest.raises(ValueError, match=match):
        sample_cells(cells, spoil(effects_of(cells)), **options)


def test_counts_need_counts(controls, cells):
    with pytest.raises(ValueError, match="needs raw counts"):
        sample_cells(controls, effects_of(cells), counts=True)
