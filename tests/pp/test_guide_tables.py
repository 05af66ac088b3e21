"""Guide calls in long tables and guide libraries go in as they are, and controls among them are found."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from tests.reports import reported

from scapp.pp import guides_to_perturbations

GENES = ["KLF1", "GATA1", "HBB", "ALAS2", "CTRL"]


def rna(names: list[str]) -> ad.AnnData:
    x = np.ones((len(names), len(GENES)), dtype=np.float32)
    return ad.AnnData(x, obs=pd.DataFrame(index=names), var=pd.DataFrame(index=GENES))


def gdo(guides: list[str]) -> ad.AnnData:
    """One cell for each guide."""
    names = [f"c{i}" for i in range(len(guides))]
    return ad.AnnData(
        9 * np.eye(len(guides), dtype=np.float32), obs=pd.DataFrame(index=names), var=pd.DataFrame(index=guides)
    )


def labels_of(guides: list[str], **options) -> list[str]:
    counts = gdo(guides)
    adata = rna(list(counts.obs_names))
    guides_to_perturbations(adata, guides=counts, method="threshold", **options)
    return adata.obs["perturbation"].tolist()


@pytest.mark.parametrize("given", ["path", "table"])
def test_a_library_with_types_tells_controls(shared_cases, caplog, given):
    path = shared_cases / "igvf_guide_metadata.tsv"
    table = pd.read_csv(path, sep="\t")
    with caplog.at_level(logging.INFO, logger="scapp"):
        found = labels_of(table["guide_id"].tolist(), targets=str(path) if given == "path" else table)
    assert found == ["KLF1", "KLF1", "control", "control", "control"]
    assert "'non-targeting' (2), 'safe-targeting' (1)" in caplog.text
    assert "control guides, with their cells: 3" in caplog.text


def test_a_library_whose_controls_have_no_name_of_controls_is_read_by_its_type(tmp_path):
    table = pd.DataFrame(
        {"id": ["a", "b", "c"], "target_gene_name": ["KLF1", "OR5M9", "HBB"], "targeting": [True, False, True]}
    )
    table.to_csv(tmp_path / "guides.csv", index=False)
    assert labels_of(["a", "b", "c"], targets=tmp_path / "guides.csv") == ["KLF1", "control", "HBB"]
    reference = pd.DataFrame({"id": ["a", "b"], "name": ["a", "b"], "target_gene_id": ["ENSG1", "Non-Targeting"]})
    reference["target_gene_name"] = ["KLF1", "Non-Targeting"]
    assert labels_of(["a", "b"], targets=reference) == ["KLF1", "control"]
    with pytest.raises(ValueError, match="no column of target genes"):
        labels_of(["a", "b"], targets=reference[["id", "name"]])
    with pytest.raises(ValueError, match="No guide is in targets=….*the table has 'a', 'b'"):
        labels_of(["x", "y"], targets=reference)


def test_calls_in_long_form_are_accepted(shared_cases):
    adata = rna(["AAAC-1", "AAAG-1", "AAAT-1", "AACC-1", "TTTT-1"])
    path = shared_cases / "cell_identities.csv"
    report = reported(guides_to_perturbations, adata, guides=path, targets=r"sg(.+)_MP\w")
    assert adata.obs["guide_status"].tolist() == ["perturbed", "control", "control", "many", "none"]
    assert adata.obs["perturbation"].tolist()[:3] == ["KLF1", "control", "control"]
    assert (report.n_control, report.n_not_counted, report.method) == (2, 1, "calls")
    guides_to_perturbations(adata, guides=path, targets=r"sg(.+)_MP\w", max_genes=2)
    assert adata.obs["perturbation"].tolist()[3] == "GATA1+KLF1"


def test_calls_of_other_programs(tmp_path):
    adata = rna(["a", "b", "c"])
    ranger = pd.DataFrame(
        {"cell_barcode": ["a", "b"], "num_features": [1, 2], "feature_call": ["KLF1_1", "KLF1_1|NTC_1"]}
    )
    ranger["num_umis"] = ["12", "9|3"]
    expected = ["KLF1", "KLF1", "control"]
    options = {"targets": r"(.+)_\d+", "min_counts": 1}
    mageck = (
        "cell\tbarcode\tsgrna\tgene\tread_count\tumi_count\na\tACGT\tKLF1_1\tKLF1\t9\t9\nb\tACGT\tKLF1_2\tKLF1\t9\t9\n"
    )
    (tmp_path / "barcode_rec.txt").write_text(mageck + "c\tACGT\tNTC_1\tNTC\t9\t9\n")
    pairs = {"KLF1_1": ["a", "b"], "NTC_1": ["c"]}
    more = pd.DataFrame({"cell_barcode": ["c"], "num_features": [1], "feature_call": ["NTC_1"], "num_umis": ["4"]})
    for guides in (pd.concat([ranger, more]), tmp_path / "barcode_rec.txt", pairs):
        guides_to_perturbations(adata, guides=guides, **options)
        assert adata.obs["perturbation"].tolist() == expected
    with pytest.raises(ValueError, match="No cell is in both"):
        guides_to_perturbations(adata, guides={"KLF1_1": ["x"]}, **options)
    with pytest.raises(ValueError, match="Cannot tell which columns of the calls"):
        guides_to_perturbations(adata, guides=pd.DataFrame({"x": [1], "y": [2]}), **options)


def test_numbered_controls_are_known_by_guide_and_by_target():
    guides = ["KLF1_1", "sgNegCtrl2", "non-targeting_00084", "NTC_3", "safe_harbor_1", "GATA1_1"]
    targets = {"KLF1_1": "KLF1", "GATA1_1": "GATA1", "NTC_3": "NTC"}
    assert labels_of(guides, targets=targets) == ["KLF1", *["control"] * 4, "GATA1"]
    assert (
        labels_of(["KLF1_1", "a", "b"], targets={"KLF1_1": "KLF1", "a": "INTERGENIC12", "b": "CTRL00698"})[1:]
        == ["control"] * 2
    )


def test_no_control_is_warned_of():
    with pytest.warns(UserWarning, match="No cell is a control"):
        labels_of(["KLF1_1"], targets=r"(.+)_\d")


def test_a_gene_that_is_called_like_a_control_is_asked_for_or_named():
    guides, targets = ["CTRL_1", "NTC_1"], {"CTRL_1": "CTRL", "NTC_1": "NTC"}
    with pytest.raises(
        ValueError, match=r"'CTRL', the target of 1 of the 2 guides.*controls=\['CTRL'\].*genes=\['CTRL'\]"
    ):
        labels_of(guides, targets=targets)
    assert labels_of(guides, targets=targets, genes=["CTRL"]) == ["CTRL", "control"]
    assert labels_of(guides, targets=targets, controls=["CTRL"]) == ["control", "control"]
    with pytest.warns(UserWarning, match="although they look like controls: 'CTRL'"):
        assert labels_of(guides, targets=targets, controls=["NTC"]) == ["CTRL", "control"]
    assert labels_of(["NTC_1", "x"], targets={"NTC_1": "NTC", "x": "non-targeting"}, genes="NTC") == ["NTC", "control"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("method", ["threshold", "maximum", "mixture"])
def test_the_guide_matrix_is_left_as_it_is(dtype, form, method):
    counts = gdo(["KLF1_1", "NTC_1", "GATA1_1"])
    x = form(np.array([[9, 0, 7], [0, 8, 1], [6, 0, 0]], dtype=dtype))
    for i in range(3):
        part = slice(*x.indptr[i : i + 2])
        x.indices[part], x.data[part] = x.indices[part][::-1].copy(), x.data[part][::-1].copy()
    x.has_sorted_indices = False
    counts.X = x
    before = [counts.X.data.copy(), counts.X.indices.copy(), counts.X.indptr.copy()]
    guides_to_perturbations(rna(["c0", "c1", "c2"]), guides=counts, targets=r"(.+)_\d", method=method, max_genes=2)
    for old, new in zip(before, (counts.X.data, counts.X.indices, counts.X.indptr), strict=True):
        np.testing.assert_array_equal(old, new)


CALLS = {"c0": ["KLF1_1"], "c1": ["GATA1_1"], "c2": ["NTC_1"], "c3": ["KLF1_1", "GATA1_1"], "c4": []}
LABELS = ["KLF1", "GATA1", "control", "GATA1+KLF1", None]


def of_calls(**options) -> list[str | None]:
    adata = rna(list(CALLS))
    if "calls" in options:
        adata.obs["guide"] = options.pop("calls")
        options["calls_key"] = "guide"
    guides_to_perturbations(adata, targets=r"(.+)_\d", max_genes=2, max_guides=2, min_counts=3, **options)
    return adata.obs["perturbation"].astype(object).where(adata.obs["perturbation"].notna(), None).tolist()


@pytest.mark.parametrize("join", ["|", ";", ",", " / "])
def test_guides_of_a_cell_may_be_joined_otherwise(join):
    joined = [join.join(guides) or "unassigned" for guides in CALLS.values()]
    assert of_calls(calls=joined) == LABELS
    assert of_calls(guides=pd.DataFrame({"cell": list(CALLS), "guide": joined})) == LABELS


@pytest.mark.parametrize(
    "names", [("bc_wells", "guide", "tscp_count"), ("cell_id", "feature_id", "umis"), ("CB", "protospacer", "UMI")]
)
def test_calls_of_other_programs_are_read(names, tmp_path):
    table = pd.DataFrame([(cell, guide, 30) for cell, guides in CALLS.items() for guide in guides], columns=list(names))
    table.to_csv(tmp_path / "calls.csv", index=False)
    assert of_calls(guides=table) == of_calls(guides=tmp_path / "calls.csv") == LABELS


@pytest.mark.parametrize("turned", [False, True])
def test_a_table_of_counts_is_read_whichever_way_it_lies(turned, tmp_path):
    guides = ["KLF1_1", "GATA1_1", "NTC_1"]
    counts = pd.DataFrame([[9 * (guide in held) for guide in guides] for held in CALLS.values()], list(CALLS), guides)
    counts = counts.T if turned else counts
    counts.to_csv(tmp_path / "counts.csv")
    for given in (counts, tmp_path / "counts.csv"):
        assert of_calls(guides=given, method="threshold") == LABELS


def test_a_mapping_may_go_from_cells_to_guides():
    single = {cell: guides[0] for cell, guides in CALLS.items() if guides}
    assert of_calls(guides=single) == ["KLF1", "GATA1", "control", "KLF1", None]


@pytest.mark.parametrize("join", [";", ",", "|", "&", "/", "+", " ", "; "])
def test_joined_guides_are_split_where_none_of_them_occurs_alone(join):
    adata = rna(["c0", "c1", "c2"])
    adata.obs["guides_of"] = [f"KLF1_1{join}GATA1_2", "HBB_1|ALAS2_1", "NTC_1"]
    guides_to_perturbations(adata, calls_key="guides_of", targets=r"(.+)_\d+", max_genes=2)
    assert adata.obs["perturbation"].tolist() == ["GATA1+KLF1", "ALAS2+HBB", "control"]


def test_commas_within_the_name_of_a_guide_join_nothing():
    adata = rna(["c0", "c1", "c2"])
    adata.obs["call"] = ["KLF1_ENST00000373125.4,ENST00000373131.1", "HBB_chr11:5,226,268", "NTC_1"]
    guides_to_perturbations(adata, calls_key="call", targets=r"([^_]+)_.+")
    assert adata.obs["perturbation"].tolist() == ["KLF1", "HBB", "control"]


def test_lists_of_guides_are_read_and_as_text_refused():
    table = pd.DataFrame({"cell": ["c0", "c1"], "guide": [["KLF1_1", "GATA1_2"], ["NTC_1"]], "count": [[20, 30], [9]]})
    adata = rna(["c0", "c1"])
    guides_to_perturbations(adata, guides=table, targets=r"(.+)_\d+", max_genes=2)
    assert adata.obs["perturbation"].tolist() == ["GATA1+KLF1", "control"]
    table["guide"] = table["guide"].astype(str)
    with pytest.raises(ValueError, match="lists written as text.*str.findall"):
        guides_to_perturbations(adata, guides=table, targets=r"(.+)_\d+")


@pytest.mark.parametrize(
    "target", ["KLF1,GATA1", "KLF1;GATA1", "ZAP70|LCK", "KLF1 & GATA1", "KLF1_GATA1", "KLF1/GATA1"]
)
def test_targets_with_another_separator_are_refused(target):
    with pytest.raises(ValueError, match="1 targets are read as one gene each.*Pass sep="):
        labels_of(["KLF1_1", "NTC_1"], targets={"KLF1_1": target, "NTC_1": "NTC"}, max_genes=2)
    joined = {"KLF1_1": ["KLF1", "GATA1"], "NTC_1": "NTC"}
    assert labels_of(["KLF1_1", "NTC_1"], targets=joined, max_genes=2) == ["GATA1+KLF1", "control"]


def test_a_separator_that_cuts_a_target_is_refused():
    with pytest.raises(ValueError, match="cuts 1 targets within the name of a gene: 'HLA-A'"):
        labels_of(["A_1", "NTC_1"], targets={"A_1": "HLA-A", "NTC_1": "NTC"}, sep="-")


@pytest.mark.parametrize(
    "column",
    [
        {"is_control": [False, True]},
        {"isControl": ["no", "yes"]},
        {"ntc": [0.0, 1.0]},
        {"targeting": ["TRUE", "FALSE"]},
        {"negative_control": ["N", "Y"]},
        {"type": ["x", "y"], "control": [0, 1]},
    ],
)
def test_a_column_of_truth_values_tells_controls(column):
    library = pd.DataFrame({"guide": ["KLF1_1", "X_1"], "gene": ["KLF1", "X"], **column})
    assert labels_of(["KLF1_1", "X_1"], targets=library) == ["KLF1", "control"]


def test_other_columns_of_truth_values_tell_nothing():
    library = pd.DataFrame({"guide": ["KLF1_1", "X_1"], "gene": ["KLF1", "X"], "good": [0, 1], "control": ["a", "b"]})
    with pytest.warns(UserWarning, match="No cell is a control"):
        assert labels_of(["KLF1_1", "X_1"], targets=library) == ["KLF1", "X"]


def test_ids_are_no_decimal_numbers_and_missing_targets_no_genes():
    library = pd.DataFrame({"guide": ["KLF1_1", "NTC_1"], "gene": [10661.0, np.nan]})
    assert labels_of(["KLF1_1", "NTC_1"], targets=library) == ["10661", "control"]
    with pytest.raises(ValueError, match="1 of the 2 guides have no target gene"):
        labels_of(["KLF1_1", "NTC_1"], targets={"KLF1_1": "nan", "NTC_1": "NTC"})


def test_a_column_of_the_calls_names_the_targets(tmp_path):
    table = pd.DataFrame({"cell": ["c0", "c1"], "sgrna": ["k_1", "n_1"], "gene": ["KLF1", "NonTargetingControl"]})
    table.to_csv(tmp_path / "calls.csv", index=False)
    for calls in (table, tmp_path / "calls.csv"):
        adata = rna(["c0", "c1"])
        guides_to_perturbations(adata, guides=calls, targets="gene")
        assert adata.obs["perturbation"].tolist() == ["KLF1", "control"]


@pytest.mark.parametrize("form", [dict, pd.Series])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("lists", [False, True])
def test_mappings_of_cells_and_guides_go_either_way(form, turned, lists):
    pairs = {"c0": "KLF1_1", "c1": "NTC_1"}
    pairs = {guide: cell for cell, guide in pairs.items()} if turned else pairs
    adata = rna(["c0", "c1"])
    given = form({key: [value] if lists else value for key, value in pairs.items()})
    guides_to_perturbations(adata, guides=given, targets=r"(.+)_\d+")
    assert adata.obs["perturbation"].tolist() == ["KLF1", "control"]


def test_a_parquet_of_counts_is_read_with_its_index(tmp_path):
    counts = pd.DataFrame({"KLF1_1": [9, 0], "NTC_1": [0, 9]}, index=["c0", "c1"])
    for table in (counts, counts.T):
        table.to_parquet(tmp_path / "counts.parquet")
        adata = rna(["c0", "c1"])
        guides_to_perturbations(adata, guides=tmp_path / "counts.parquet", targets=r"(.+)_\d+", method="threshold")
        assert adata.obs["perturbation"].tolist() == ["KLF1", "control"]
