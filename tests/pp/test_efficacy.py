"""Whether perturbations did to their own targets what they should."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.reports import reported

import scapp
from scapp.pp import check_efficacy

LABELS = ["A", "B", "C", "D", "A+B", "A+D", "D+E"]


def effects() -> ad.AnnData:
    """A is down for sure, B down within its error, C up; D was not measured and E is no gene at all."""
    lfc, se = np.zeros((7, 4)), np.full((7, 4), 0.1)
    lfc[0, 0], lfc[1, 1], lfc[2, 2] = -1.0, -0.15, 0.5
    lfc[4, :2], lfc[5, 0] = (-0.9, -0.3), -0.8
    lfc[:, 3] = se[:, 3] = np.nan
    return ad.AnnData(
        np.zeros((7, 4)),
        obs=pd.DataFrame({"perturbation": LABELS}, index=LABELS),
        var=pd.DataFrame(
            {"measured": [True, True, True, False], "control_mean": [2.0, 0.5, 0.0, np.nan]}, index=list("ABCD")
        ),
        layers={"lfc": lfc, "lfc_se": se},
    )


def test_each_perturbation_is_judged_by_its_weakest_measured_target():
    adata = effects()
    report = reported(check_efficacy, adata)
    np.testing.assert_allclose(adata.obs["efficacy"], [-1.0, -0.15, 0.5, np.nan, -0.3, -0.8, np.nan])
    np.testing.assert_allclose(adata.obs["efficacy_se"], [0.1, 0.1, 0.1, np.nan, 0.1, 0.1, np.nan])
    expected = ["worked", "unclear", "opposite", "not measured", "worked", "worked", "not measured"]
    assert list(adata.obs["efficacy_status"]) == expected
    assert (report.n_worked, report.n_unclear, report.n_opposite, report.n_not_measured) == (3, 1, 1, 2)
    assert report.failed == ("B", "C")
    # The share of the control expression, with its error; none where controls do not express the gene.
    table = report.targets.set_index(["perturbation", "gene"])
    np.testing.assert_allclose(table.loc[("A", "A"), ["share", "share_se"]].astype(float), [-0.5, 0.05])
    np.testing.assert_allclose(table.loc[("A+B", "B"), ["share", "share_se"]].astype(float), [-0.6, 0.2])
    assert np.isnan(table.loc[("C", "C"), "share"]) and np.isnan(table.loc[("D+E", "E"), "lfc"])


@pytest.mark.parametrize("kind", ["activation", "CRISPRa", "over-expression", "ORF"])
def test_activation_turns_the_direction_round(kind):
    adata = effects()
    check_efficacy(adata, kind=kind)
    assert list(adata.obs["efficacy_status"])[:3] == ["opposite", "unclear", "worked"]


@pytest.mark.parametrize(
    "kind", ["knockout", "CRISPR-KO", "CRISPR-Cas9", "knock-down", "CRISPRi", "CRISPRoff", "siRNA"]
)
def test_names_of_the_field_are_understood(kind):
    adata = effects()
    check_efficacy(adata, kind=kind)
    assert list(adata.obs["efficacy_status"])[:3] == ["worked", "unclear", "opposite"]


def test_the_tool_alone_is_no_kind():
    with pytest.raises(ValueError, match="kind='CRISPR' is neither"):
        check_efficacy(effects(), kind="CRISPR")


def test_a_target_without_a_standard_error_is_unclear_unless_a_change_is_asked():
    adata = effects()
    adata.layers["lfc_se"][0, 0] = np.nan
    check_efficacy(adata)
    assert list(adata.obs["efficacy_status"])[:3] == ["unclear", "unclear", "opposite"]
    check_efficacy(adata, min_change=0.2)
    assert list(adata.obs["efficacy_status"])[:3] == ["worked", "unclear", "opposite"]


def test_a_mixed_screen_is_judged_gene_by_gene():
    adata = effects()
    adata.obs["kind"] = ["CRISPRi", "CRISPRi", "CRISPRa", "CRISPRi", "CRISPRi", "mixed", "CRISPRi"]
    adata = adata[["A", "B", "C", "D", "A+B", "A+D", "D+E"]].copy()
    adata.layers["lfc"][5, 0] = 0.8  # of A, which interference should lower
    report = reported(check_efficacy, adata, kind="kind")
    status = ["worked", "unclear", "worked", "not measured", "worked", "opposite", "not measured"]
    assert list(adata.obs["efficacy_status"]) == status
    assert report.targets.set_index(["perturbation", "gene"]).loc[("C", "C"), "kind"] == "activation"
    adata.obs.loc["D", "kind"] = "mystery"
    with pytest.raises(ValueError, match=r"kind of 2 perturbation\(s\): D \(mystery\), A\+D \(mixed\)"):
        check_efficacy(adata, kind="kind")


def test_min_change_decides_where_there_are_no_errors():
    adata = effects()
    del adata.layers["lfc_se"]
    with pytest.raises(ValueError, match="min_change=…"):
        check_efficacy(adata)
    assert "efficacy" not in adata.obs
    check_efficacy(adata, min_change=0.4)
    assert list(adata.obs["efficacy_status"])[:5] == ["worked", "unclear", "opposite", "not measured", "unclear"]
    assert adata.obs["efficacy_se"].isna().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "magic"}, "neither 'knockout', 'interference' nor 'activation', nor a column"),
        ({"layer": "logs"}, "no layer 'logs'; its layers are 'lfc', 'lfc_se'"),
        ({"perturbation_key": "guide"}, "no column 'guide'"),
    ],
)
def test_bad_options_say_what_there_is(options, message):
    with pytest.raises(ValueError, match=message):
        check_efficacy(effects(), **options)


def test_cells_and_views_are_refused():
    cells = effects()[["A", "B", "C"]].copy()
    cells.obs["perturbation"] = ["A", "A", "control"]
    with pytest.raises(ValueError, match="these look like cells.*pseudobulk"):
        check_efficacy(cells)
    with pytest.raises(ValueError, match="view"):
        check_efficacy(effects()[:3])


def test_what_is_written_survives_a_file(tmp_path, assert_same):
    adata = effects()
    report = reported(check_efficacy, adata)
    adata.write_h5ad(tmp_path / "effects.h5ad")
    again = ad.read_h5ad(tmp_path / "effects.h5ad")
    assert_same(again, adata)
    pd.testing.assert_frame_equal(again.uns["scapp"]["efficacy"]["report"]["targets"], report.targets)
    assert report.to_frame().loc["failed", "value"] == "B, C"
    assert "2 have no measured target" in repr(report) and "median of interference: -0.55" in repr(report)


def test_the_simulated_mixed_screen_works_and_the_truth_says_how_well():
    cells, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=120, n_regulators=16, n_singles=12, n_doubles=20, n_cells_per_perturbation=40
    )
    adata = scapp.pp.pseudobulk(cells, batch_key="batch")
    report = reported(check_efficacy, adata, kind="perturbation_type")
    assert set(report.targets["kind"]) == {"interference", "activation"}
    assert report.n_worked > 0.9 * adata.n_obs and report.n_opposite == 0
    true = [truth.effects[p, g].layers["lfc"][0, 0] for p, g in report.targets[["perturbation", "gene"]].to_numpy()]
    z = (report.targets["lfc"] - true) / report.targets["se"]
    assert np.abs(z).median() < 1.2
    # Told the wrong direction, all of them fail.
    assert (
        reported(check_efficacy, adata[adata.obs["perturbation_type"] == "knockdown"].copy(), kind="CRISPRa").n_worked
        == 0
    )


def test_norman_targets_go_up_and_papalexi_targets_go_down(shared_data):
    norman = ad.read_h5ad(shared_data / "norman_2019_effects.h5ad")
    report = reported(check_efficacy, norman, kind="CRISPRa", min_change=0.2)
    assert report.n_worked == report.n_perturbations - report.n_not_measured > 150
    papalexi = ad.read_h5ad(shared_data / "papalexi_2021_counts.h5ad")
    papalexi.obs["perturbation"] = papalexi.obs["grna_target"]
    adata = scapp.pp.pseudobulk(papalexi, control="non-targeting", batch_key="bio_rep")
    report = reported(check_efficacy, adata, kind="knockout")
    assert report.n_worked == report.n_perturbations - report.n_not_measured == 9
