"""Guides become the labels of perturbations, and what cannot be labelled is set aside and counted."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import mudata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tests.reports import reported

import scapp
from scapp.pp import guides_to_perturbations

GUIDES = ["A_1", "A_2", "B_1", "B_2", "NTC_1", "NTC_2", "safe_1"]
PATTERN = r"(.+)_\d+"
CONTROLS = ["NTC", "safe"]


def gdo(rows: list[dict[str, int]], guides: list[str] = GUIDES) -> ad.AnnData:
    counts = pd.DataFrame(rows, columns=guides).fillna(0).to_numpy(dtype=np.float32)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(len(rows))])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=guides))


def rna(n: int) -> ad.AnnData:
    return ad.AnnData(np.ones((n, 2), dtype=np.float32), obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]))


def labels(adata: ad.AnnData, key: str = "perturbation") -> list:
    return [None if pd.isna(label) else label for label in adata.obs[key]]


CELLS = [
    {"A_1": 50},
    {"A_1": 30, "A_2": 20},
    {"A_2": 30, "B_1": 20},
    {"B_2": 40, "NTC_1": 20},
    {"NTC_1": 40, "NTC_2": 9},
    {"safe_1": 6},
    {"A_1": 4},
    {},
]


@pytest.mark.parametrize(
    ("max_genes", "third"),
    [(1, (None, "many")), (2, ("A+B", "perturbed"))],
)
def test_guides_of_one_gene_are_one_perturbation_and_controls_are_dropped(max_genes, third):
    adata = rna(len(CELLS))
    report = reported(
        guides_to_perturbations,
        adata,
        guides=gdo(CELLS),
        targets=PATTERN,
        controls=CONTROLS,
        method="threshold",
        max_genes=max_genes,
    )
    assert labels(adata) == ["A", "A", third[0], "B", "control", "control", None, None]
    status = ["perturbed", "perturbed", third[1], "perturbed", "control", "control", "none", "none"]
    assert list(adata.obs["guide_status"]) == status
    assert list(adata.obs["n_guides"]) == [1, 2, 2, 2, 2, 1, 0, 0]
    assert list(adata.obs["guides"])[1:3] == ["A_1|A_2", "A_2|B_1"]
    assert (report.n_perturbed, report.n_control, report.n_none, report.n_many) == (
        status.count("perturbed"),
        2,
        2,
        status.count("many"),
    )
    assert report.n_combined == (max_genes == 2)
    assert report.guides.loc["A_1", "n_cells"] == 2 and report.guides.loc["NTC_1", "target"] == ""


def test_the_maximum_takes_the_strongest_guide_and_sets_ties_apart():
    adata = rna(4)
    cells = gdo([{"A_1": 30, "B_1": 29}, {"A_1": 30, "B_1": 30}, {"B_2": 4}, {"B_2": 5, "A_1": 1}])
    guides_to_perturbations(adata, guides=cells, targets=PATTERN, controls=CONTROLS, method="maximum")
    assert labels(adata) == ["A", None, None, "B"]
    assert list(adata.obs["guide_status"]) == ["perturbed", "many", "none", "perturbed"]


def test_a_guide_that_does_not_dominate_its_cell_is_one_too_many():
    adata = rna(2)
    cells = gdo([{"A_1": 60, "B_1": 40}, {"A_1": 90, "B_1": 10}])
    for method in ("maximum", "threshold"):
        report = reported(
            guides_to_perturbations,
            adata,
            guides=cells,
            targets=PATTERN,
            controls=CONTROLS,
            method=method,
            min_counts=20,
            min_share=0.8,
        )
        expected = [None, "A"]
        assert labels(adata) == expected and report.n_many == 1


def test_max_guides_counts_guides_whatever_they_target():
    adata = rna(2)
    cells = gdo([{"A_1": 9, "NTC_1": 9, "NTC_2": 9}, {"A_1": 9, "A_2": 9}])
    guides_to_perturbations(adata, guides=cells, targets=PATTERN, controls=CONTROLS, method="threshold", max_guides=2)
    assert labels(adata) == [None, "A"]


def test_without_a_limit_cells_of_any_number_of_genes_are_labelled():
    adata = rna(2)
    cells = [{"A_1": 9, "B_1": 9, "C_1": 9, "D_1": 9}, {"A_1": 9}]
    guides = gdo(cells, ["A_1", "B_1", "C_1", "D_1"])
    guides_to_perturbations(adata, guides=guides, targets=PATTERN, method="threshold", max_genes=None)
    assert labels(adata) == ["A+B+C+D", "A"]


def test_rare_perturbations_are_set_apart():
    adata = rna(6)
    cells = gdo([{"A_1": 9}, {"A_2": 9}, {"A_1": 9, "B_1": 9}, {"B_1": 9}, {"B_2": 9}, {"NTC_1": 9}])
    report = reported(
        guides_to_perturbations,
        adata,
        guides=cells,
        targets=PATTERN,
        controls=CONTROLS,
        method="threshold",
        max_genes=2,
        min_cells=2,
    )
    assert labels(adata) == ["A", "A", None, "B", "B", "control"]
    assert list(adata.obs["perturbation"].cat.categories) == ["A", "B", "control"]
    assert (report.n_rare, report.n_perturbed, report.n_control) == (1, 4, 1)
    assert adata.obs["guide_status"].iloc[2] == "rare" and "of rare perturbations 1" in repr(report)


def mixed_counts(rng: np.random.Generator, n: int = 600) -> tuple[ad.AnnData, np.ndarray]:
    """Ambient counts everywhere, and in a fifth of the cells the guide itself, shallow for one and deep for the other."""
    present = rng.random((n, 2)) < 0.2
    counts = rng.poisson(0.4, (n, 2)) + np.where(present, rng.poisson([12, 300], (n, 2)), 0)
    # The deep guide leaks more.
    counts[:, 1] += rng.poisson(8, n)
    data = ad.AnnData(
        sparse.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=["A_1", "B_1"]),
    )
    return data, present


def test_the_mixture_finds_a_threshold_of_its_own_for_each_guide():
    guides, present = mixed_counts(np.random.default_rng(0))
    adata = rna(guides.n_obs)
    report = reported(guides_to_perturbations, adata, guides=guides, targets=PATTERN, max_genes=2, min_counts=2)
    expected = [{(0, 0): None, (1, 0): "A", (0, 1): "B", (1, 1): "A+B"}[tuple(map(int, row))] for row in present]
    assert np.mean([found == wanted for found, wanted in zip(labels(adata), expected, strict=True)]) > 0.99
    shallow, deep = report.guides["threshold"]
    assert 2 < shallow < 12 and 20 < deep < 250 and report.not_fitted == ()
    # One threshold for both cannot do that.
    guides_to_perturbations(adata, guides=guides, targets=PATTERN, max_genes=2, method="threshold", key_added="one")
    assert np.mean([found == wanted for found, wanted in zip(labels(adata, "one"), expected, strict=True)]) < 0.9


def test_guides_without_two_humps_are_assigned_by_min_counts_and_reported(caplog):
    rng = np.random.default_rng(0)
    counts = np.column_stack([rng.poisson(40, 300), np.r_[9, np.zeros(299)], np.zeros(300)])
    guides = ad.AnnData(
        sparse.csr_matrix(counts),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(300)]),
        var=pd.DataFrame(index=["A_1", "B_1", "C_1"]),
    )
    adata = rna(300)
    report = reported(guides_to_perturbations, adata, guides=guides, targets=PATTERN, max_genes=2)
    assert report.not_fitted == ("A_1", "B_1", "C_1") and report.unused == ("C_1",)
    assert (report.guides["threshold"] == 5).all()
    assert labels(adata)[:2] == ["A+B", "A"]
    assert "by min_counts alone: 3" in caplog.text and "guides in no cell: 1 (C_1)" in caplog.text


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 20), min_size=7, max_size=7), min_size=1, max_size=12), st.integers(1, 3))
def test_every_cell_is_in_one_group_and_labels_follow_the_guides(counts, max_genes):
    guides = gdo([dict(zip(GUIDES, row, strict=True)) for row in counts])
    adata = rna(len(counts))
    options = {"targets": PATTERN, "controls": CONTROLS, "method": "threshold", "max_genes": max_genes}
    genes = [{"AABB"[i] for i in range(4) if row[i] >= 5} for row in counts]
    controls = [any(n >= 5 for n in row[4:]) for row in counts]
    expected = [
        "+".join(sorted(found)) if 0 < len(found) <= max_genes else "control" if not found and held else None
        for found, held in zip(genes, controls, strict=True)
    ]
    if not any(expected):
        with pytest.raises(ValueError, match="No cell gets a label"):
            guides_to_perturbations(adata, guides=guides, **options)
        assert list(adata.obs) == []
        return
    report = reported(guides_to_perturbations, adata, guides=guides, **options)
    assert labels(adata) == expected
    assert report.n_perturbed + report.n_control + report.n_none + report.n_many == len(counts)


def test_cells_are_matched_by_name_and_absent_ones_have_no_guide():
    adata = rna(4)
    guides = gdo([{"A_1": 9}, {"B_1": 9}, {"NTC_1": 9}, {}])[["c2", "c0", "c1"]].copy()
    report = reported(
        guides_to_perturbations, adata, guides=guides, targets=PATTERN, controls=CONTROLS, method="threshold"
    )
    assert labels(adata) == ["A", "B", "control", None]
    assert report.n_not_counted == 1


# Targets


@pytest.mark.parametrize("form", ["column", "mapping", "series", "pattern"])
def test_targets_are_read_from_every_form(form):
    guides = gdo([{"A_1": 9}, {"B_2": 9}, {"NTC_2": 9}])
    genes = pd.Series(["A", "A", "B", "B", "non-targeting", "non-targeting", "Safe-Targeting"], index=GUIDES)
    guides.var["gene"] = genes
    targets = {"column": "gene", "mapping": genes.to_dict(), "series": genes, "pattern": PATTERN}[form]
    adata = rna(3)
    controls = CONTROLS if form == "pattern" else ()
    guides_to_perturbations(adata, guides=guides, targets=targets, controls=controls, method="threshold")
    assert labels(adata) == ["A", "B", "control"]


def test_one_guide_may_target_two_genes_or_a_gene_and_a_control():
    guides = gdo([{"v1": 9}, {"v2": 9}, {"v3": 9}], ["v1", "v2", "v3"])
    adata = rna(3)
    targets = {"v1": "B+A", "v2": "A+NegCtrl0", "v3": "NegCtrl1"}
    guides_to_perturbations(
        adata, guides=guides, targets=targets, controls="NegCtrl.*", max_genes=2, method="threshold"
    )
    assert labels(adata) == ["A+B", "A", "control"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": {"A_1": "A"}}, "3 of the 7 guides have no target.*A_2.*controls="),
        ({"targets": "gene"}, "no column of the guides' var.*no regular expression with a group"),
        ({"targets": "(A"}, r"targets='\(A' cannot be read as a regular expression"),
        ({"controls": "*"}, "controls='\\*' cannot be read"),
        ({"method": "best"}, "method must be 'mixture', 'threshold' or 'maximum'"),
        ({"min_share": 1.5}, "min_share must be from 0 to 1"),
        ({"max_genes": 0}, "max_genes must be at least 1"),
        ({"calls_key": "x"}, "either counts of guides .* or the calls"),
        ({"guides": None}, "either counts of guides .* or the calls"),
        ({"layer": "counts"}, "no layer 'counts'"),
        ({"key_added": "guides"}, "name of another column"),
        ({"sep": ""}, "sep must not be empty"),
        ({"targets": pd.Series("A", index=["A_1", "A_1"])}, "targets names these guides more than once: A_1"),
        ({"min_counts": 1000}, "No cell gets a label: 8 of 8 have no guide, 0 too many and 0 .*min_counts"),
    ],
)
def test_bad_input_says_what_mends_it_and_changes_nothing(options, message):
    adata = rna(len(CELLS))
    given = {"guides": gdo(CELLS), "targets": PATTERN, "controls": CONTROLS, "method": "threshold", **options}
    with pytest.raises(ValueError, match=message):
        guides_to_perturbations(adata, **given)
    assert list(adata.obs) == [] and not adata.uns


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_guides_of_one_name_are_refused():
    guides = gdo(CELLS)
    guides.var["gene"] = "A"
    guides.var_names = [*GUIDES[:6], "A_1"]
    for targets in (PATTERN, "gene"):
        with pytest.raises(ValueError, match="guides occur more than once: A_1.*var_names_make_unique"):
            guides_to_perturbations(rna(8), guides=guides, targets=targets, controls=CONTROLS)


def test_values_that_are_no_counts_and_cells_that_do_not_match_are_refused():
    guides = gdo(CELLS)
    logged = guides.copy()
    logged.X = np.log1p(logged.X.toarray())
    with pytest.raises(ValueError, match=r"guides.X must hold counts.*layer="):
        guides_to_perturbations(rna(8), guides=logged, targets=PATTERN, controls=CONTROLS)
    guides.obs_names = [f"{name}-1" for name in guides.obs_names]
    with pytest.raises(ValueError, match="No cell is in both.*c0, c1, c2 .*c0-1"):
        guides_to_perturbations(rna(8), guides=guides, targets=PATTERN, controls=CONTROLS)
    guides.obs_names = ["c0"] * 8
    with pytest.raises(ValueError, match="1 cells of the guide counts occur more than once"):
        guides_to_perturbations(rna(8), guides=guides, targets=PATTERN, controls=CONTROLS)
    with pytest.raises(ValueError, match="is a view"):
        guides_to_perturbations(rna(8)[:4], guides=gdo(CELLS), targets=PATTERN, controls=CONTROLS)
    with pytest.raises(TypeError, match="Expected an AnnData or a MuData, found DataFrame"):
        guides_to_perturbations(pd.DataFrame(), targets=PATTERN)


# Calls


def test_calls_are_taken_from_obs_with_their_counts():
    adata = rna(7)
    adata.obs["call"] = ["A_1", "A_1|B_1", "NTC_1", np.nan, "negative", "multiple", "B_2"]
    adata.obs["umis"] = ["30", "12|30", "9", "0", "1", "70", "3"]
    adata.obs["total"] = [40, 50, 9, 1, 8, 70, 3]
    options = {"calls_key": "call", "targets": PATTERN, "controls": CONTROLS}
    report = reported(guides_to_perturbations, adata, max_genes=2, **options)
    assert labels(adata) == ["A", "A+B", "control", None, None, None, "B"]
    assert (report.method, report.n_none, report.n_many) == ("calls", 2, 1)
    report = reported(
        guides_to_perturbations,
        adata,
        max_genes=2,
        counts_key="umis",
        total_counts_key="total",
        min_share=0.8,
        **options,
    )
    assert labels(adata) == [None, "A+B", "control", None, None, None, None]
    assert list(adata.obs["guide_status"]) == ["many", "perturbed", "control", "none", "none", "many", "none"]
    adata.obs["umis"] = [30, 42, 10, 0, 1, 70, 3]
    with pytest.raises(ValueError, match="In 1 cells .*total.* is less than .*'c2'"):
        guides_to_perturbations(adata, counts_key="umis", total_counts_key="total", **options)
    with pytest.raises(ValueError, match="no column 'calls'"):
        guides_to_perturbations(adata, calls_key="calls", targets=PATTERN)
    adata.obs["call"] = None
    with pytest.raises(ValueError, match="names no guide"):
        guides_to_perturbations(adata, calls_key="call", targets=PATTERN)
    adata.obs["call"] = [["A_g1", "B_g1"]] * adata.n_obs
    with pytest.raises(TypeError, match=r"holds lists of guides(.|\n)*\.str\.join\('\|'\)"):
        guides_to_perturbations(adata, calls_key="call", targets=PATTERN)


def test_cells_without_a_call_need_no_counts():
    adata = rna(4)
    adata.obs["call"] = pd.Categorical(["A_1", "NTC_1", None, "unassigned"])
    adata.obs["umis"] = [9, 8, np.nan, np.nan]
    adata.obs["total"] = pd.Categorical(["9", "9", None, "3"])
    options = {"calls_key": "call", "targets": PATTERN, "controls": CONTROLS, "min_share": 0.8}
    report = reported(guides_to_perturbations, adata, counts_key="umis", total_counts_key="total", **options)
    assert labels(adata) == ["A", "control", None, None] and report.n_none == 2
    adata.obs.loc["c0", "umis"] = np.nan
    with pytest.raises(ValueError, match=r"1 of the 2 cells with a called guide have no counts in adata.obs\['umis'\]"):
        guides_to_perturbations(adata, counts_key="umis", total_counts_key="total", **options)
    # Without both counts a share cannot be judged, and no cell passes for one that was.
    with pytest.raises(ValueError, match="min_share=0.8 needs the counts.*total_counts_key"):
        guides_to_perturbations(adata, counts_key="total", **options)


def test_calls_are_never_written_over():
    calls = ["A_1", "A_1|B_1", "multiple", None]
    adata = rna(4)
    adata.obs["guides"] = calls
    before = adata.obs["guides"].copy()  # pandas 3 holds a missing string as NaN
    for _ in range(2):  # the second time reads the same calls
        report = reported(guides_to_perturbations, adata, calls_key="guides", targets=PATTERN, max_genes=2)
        pd.testing.assert_series_equal(adata.obs["guides"], before)
        assert (report.n_perturbed, report.n_many, report.n_none) == (2, 1, 1)
    adata.obs["perturbation"] = calls
    with pytest.raises(ValueError, match="written over the calls.*key_added"):
        guides_to_perturbations(adata, calls_key="perturbation", targets=PATTERN)
    with pytest.raises(ValueError, match="calls_sep must not be empty"):
        guides_to_perturbations(adata, calls_key="guides", targets=PATTERN, calls_sep="")
    pd.testing.assert_series_equal(adata.obs["guides"], before)
    pd.testing.assert_series_equal(adata.obs["perturbation"], before, check_names=False)


# MuData and files


@pytest.fixture(scope="module")
def simulated():
    with mudata_options():
        return scapp.datasets.simulated_perturb_seq(
            n_genes=120, n_regulators=16, n_singles=12, n_doubles=20, n_cells_per_perturbation=20, return_mudata=True
        )[0]


def mudata_options():
    return mudata.set_options(pull_on_update=False)


@pytest.mark.parametrize("method", ["mixture", "threshold"])
def test_labels_of_the_simulated_mudata_are_those_that_were_planted(simulated, method):
    with mudata_options():
        mdata = simulated.copy()
    planted = mdata["rna"].obs["perturbation"].astype(str).copy()
    capture = mdata["gdo"].obs["capture"]
    guides_to_perturbations(mdata, targets="target_gene", max_genes=2, method=method)
    found = mdata["rna"].obs["perturbation"]
    assert (found.astype(str) == planted)[capture == "intact"].mean() > 0.98
    assert found[capture == "lost"].isna().all()
    assert (found.astype(str) == planted)[capture == "doublet"].mean() < 0.5
    assert "perturbation" not in mdata["gdo"].obs


def test_a_mudata_without_the_modality_says_which_it_has(simulated):
    with pytest.raises(ValueError, match="no modality 'crispr'; it has 'rna', 'gdo'"):
        guides_to_perturbations(simulated, targets="target_gene", guide_modality="crispr")


def test_counts_of_any_form_give_the_same_labels(simulated):
    rna, guides = simulated["rna"].copy(), simulated["gdo"].copy()
    guides_to_perturbations(rna, guides=guides, targets="target_gene", max_genes=2)
    expected, dense = labels(rna), guides.X.toarray().astype(int)
    blocks = da.from_array(dense, chunks=(100, -1))
    for counts in (dense, sparse.csc_array(dense), blocks, blocks.map_blocks(sparse.csr_matrix)):
        guides.X = counts
        guides_to_perturbations(rna, guides=guides, targets="target_gene", max_genes=2)
        assert labels(rna) == expected


def test_what_is_written_survives_a_file_and_leads_to_effects(simulated, tmp_path, assert_same):
    with mudata_options():
        cells = simulated["rna"].copy()
    report = reported(guides_to_perturbations, cells, guides=simulated["gdo"], targets="target_gene", max_genes=2)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert_same(again, cells)
    pd.testing.assert_frame_equal(again.uns["scapp"]["guides"]["perturbation"]["report"]["guides"], report.guides)
    with pytest.raises(ValueError, match="notna"):
        scapp.pp.pseudobulk(again)
    effects = scapp.pp.pseudobulk(again[again.obs["perturbation"].notna()].copy(), on_few_cells="drop", min_cells=5)
    assert effects.n_obs == 32
    assert len(report.to_frame()) == 13 and "set aside: without a guide" in repr(report)


def test_the_papalexi_labels_agree_with_the_targets_that_were_published(shared_data):
    adata = ad.read_h5ad(shared_data / "papalexi_2021_counts.h5ad")
    published = adata.obs["grna_target"].astype(str)
    options = {"targets": r"(.+)g\d+", "control": "non-targeting"}
    # Calls: all cells of one strong guide have the published label, and nobody else has one.
    report = reported(
        guides_to_perturbations,
        adata,
        calls_key="grna_id",
        counts_key="grna_umi",
        total_counts_key="grna_umi_total",
        min_share=0.8,
        **options,
    )
    strong = (adata.obs["grna_umi"] / adata.obs["grna_umi_total"] >= 0.8).to_numpy()
    assert (adata.obs["perturbation"].notna().to_numpy() == strong).all()
    assert (adata.obs["perturbation"].astype(str) == published)[strong].all()
    assert report.n_many == (~strong).sum() and round(strong.mean(), 2) == 0.78
    assert report.perturbations == 25 and len(report.guides) == adata.obs["grna_id"].nunique()
    # Counts of the strongest guide of each cell: with all assigned, every label is the published one.
    codes = adata.obs["grna_id"].cat.codes.to_numpy()
    counts = sparse.csr_matrix((adata.obs["grna_umi"].to_numpy(), (np.arange(adata.n_obs), codes)))
    var = pd.DataFrame(index=adata.obs["grna_id"].cat.categories.astype(str))
    guides = ad.AnnData(counts, obs=pd.DataFrame(index=adata.obs_names), var=var)
    for method in ("maximum", "threshold"):
        guides_to_perturbations(adata, guides=guides, method=method, **options)
        assert (adata.obs["perturbation"].astype(str) == published).all()
    # The mixture sets apart cells of few counts; they are those whose strongest guide is less dominant.
    report = reported(guides_to_perturbations, adata, guides=guides, **options)
    labelled = adata.obs["perturbation"].notna().to_numpy()
    assert (adata.obs["perturbation"].astype(str) == published)[labelled].all()
    assert 0.8 < labelled.mean() < 0.95
    assert strong[~labelled].mean() < 0.6 < 0.8 < strong[labelled].mean()
