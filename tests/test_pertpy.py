"""What pertpy writes goes into scapp, and predictions go into pertpy; `.ci/smoke` runs this with the newest set, which has pertpy."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import mudata
import numpy as np
import pertpy as pt
import pytest
import scanpy as sc
from tests.test_howto import DOCS, blocks

import scapp

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cells():
    cells, _ = scapp.datasets.simulated_perturb_seq(n_genes=120, n_regulators=30, n_singles=24, n_doubles=4)
    cells.layers["counts"] = cells.X
    counts = cells.X.toarray()  # scanpy's normalisation is compiled for seconds
    cells.layers["normalized"] = counts / counts.sum(axis=1, keepdims=True) * 10_000
    cells.X = np.log1p(cells.layers["normalized"])
    return cells


@pytest.fixture(scope="module")
def effects(cells):
    return scapp.pp.pseudobulk(cells)


@pytest.fixture(scope="module")
def space():
    return pt.tl.PseudobulkSpace()


@pytest.fixture(scope="module")
def profiles(cells, space):
    return space.compute(cells, target_col="perturbation", mode="mean")


def test_the_howto_runs_as_it_stands(tmp_path, monkeypatch):
    pytest.importorskip("torch")  # its model needs it; without, `.ci/smoke` says that no model was run
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks(DOCS / "howto" / "use_with_pertpy.md"):
        exec(compile(block, "use_with_pertpy", "exec"), names)
    assert {"G007", "G002+G006"} <= set(names["everything"].obs_names)
    assert np.isfinite(names["predicted"].layers["predicted_lfc"]).all()
    plt.close("all")


def test_a_pseudobulk_space_gives_effects(space, profiles, effects):
    differences = space.compute_control_diff(profiles, target_col="perturbation", reference_key="control")
    found = scapp.pp.read_effects(differences, base="e")
    assert found.obs_names.tolist() == effects.obs_names.tolist()
    np.testing.assert_allclose(found.layers["lfc"], effects[:, found.var_names].layers["lfc"], atol=1e-6)
    with pytest.raises(ValueError, match="None of .* effects is negative"):
        scapp.pp.read_effects(profiles, base="e")


def test_counts_added_up_by_sample_are_read_as_cells(cells, space, effects):
    samples = space.compute(cells, target_col="perturbation", groups_col="batch", layer_key="counts", mode="sum")
    found = scapp.pp.pseudobulk(samples)
    assert found.shape == effects.shape and (found.obs["n_cells"] == cells.obs["batch"].nunique()).all()
    difference = found.layers["lfc"] - effects[found.obs_names, found.var_names].layers["lfc"]
    assert np.abs(difference).mean() < 0.1


@pytest.mark.parametrize("test", ["WilcoxonTest", "TTest"])
def test_a_table_of_a_test_between_cells_is_read(cells, effects, test):
    names = ["G002", "G006", "G011"]
    table = getattr(pt.tl, test).compare_groups(
        cells, column="perturbation", baseline="control", groups_to_compare=names, layer="normalized"
    )
    found = scapp.pp.read_effects(table, base=2)
    expected = effects[names, found.var_names]
    assert found.obs_names.tolist() == names
    assert np.corrcoef(found.layers["lfc"].ravel(), expected.layers["lfc"].ravel())[0, 1] > 0.97
    # A sum of ranks is no z: the errors have the size of those between cells.
    assert 0.7 < np.nanmedian(found.layers["lfc_se"]) / np.median(expected.layers["lfc_se"]) < 2


def test_cells_that_mixscape_classified_are_averaged_without_the_others(cells, effects):
    classified = cells.copy()
    mixscape = pt.tl.Mixscape()
    mixscape.perturbation_signature(
        classified, pert_key="perturbation", control="control", ref_selection_mode="split_by", split_by="batch"
    )
    mixscape.mixscape(
        classified, pert_key="perturbation", control="control", perturbation_type="KD", test_method="t-test"
    )
    responds = (classified.obs["mixscape_class_global"] == "KD").groupby(classified.obs["perturbation"]).mean()
    found = scapp.pp.pseudobulk(classified, responders_key="mixscape_class_global", on_few_cells="drop")
    np.testing.assert_allclose(found.obs["share_responding"], responds[found.obs_names])
    assert len(found) == (responds > 0).sum()


def test_a_modality_of_mudata_is_read(cells, effects):
    mdata = mudata.MuData({"rna": cells.copy()})
    mdata.obs["gene_target"] = cells.obs["perturbation"].astype(str).replace("control", "NT")
    rna = mdata["rna"]
    rna.obs["gene_target"] = mdata.obs.loc[rna.obs_names, "gene_target"]
    found = scapp.pp.pseudobulk(rna, perturbation_key="gene_target", control="NT")
    np.testing.assert_array_equal(found.layers["lfc"], effects.layers["lfc"])


def test_predictions_stand_in_a_perturbation_space(space, profiles, effects):
    held_out = effects.obs_names[0]
    predicted = scapp.baselines.Mean().fit(effects[1:].copy()).predict([held_out])
    expected = predicted[:, profiles.var_names].copy()
    expected.X = expected.layers["predicted_lfc"] + profiles["control"].X
    expected.obs_names = expected.obs["perturbation"] = ["as predicted"]
    everything = ad.concat({"measured": profiles, "predicted": expected}, label="source")
    distances = space.nearest_perturbations(everything, "as predicted", n_neighbors=len(everything))["distance"]
    found = (
        effects.to_df("lfc").sub(predicted.to_df("predicted_lfc").iloc[0], axis=1).loc[distances.index.drop("control")]
    )
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), distances.drop("control"), rtol=1e-5)


def test_distances_are_those_of_the_metrics(cells):
    sc.pp.pca(cells, n_comps=10)
    first, second = (
        cells.obsm["X_pca"][(cells.obs["perturbation"] == name).to_numpy()] for name in ("G002", "control")
    )

    def theirs(metric):
        return pt.tl.Distance(metric, obsm_key="X_pca")(first, second)

    means = first.mean(axis=0), second.mean(axis=0)
    ours = {
        "edistance": scapp.metrics.energy_distance(first, second, unbiased=False),
        "euclidean": scapp.metrics.l2(*means),
        "mse": scapp.metrics.rmse(*means) ** 2,
        "mean_absolute_error": scapp.metrics.mae(*means),
        "cosine_distance": 1 - scapp.metrics.cosine(*means),
        "pearson_distance": 1 - scapp.metrics.pearson_delta(*means),
    }
    for metric, value in ours.items():
        assert theirs(metric) == pytest.approx(value, rel=1e-5), metric
