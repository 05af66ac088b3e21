"""Names of genes brought to one kind: by which rule, what is not guessed, and that nothing is merged in silence."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reports import reported

import scapp
from scapp.pp import add_network, harmonize_genes

TABLE = pd.DataFrame(
    [
        ("255057", "CBARP", "C19orf26"),
        ("10661", "KLF1", "EKLF"),
        ("4609", "MYC", "SHARED"),
        ("6688", "SPI1", "SHARED"),
        ("7157", "TP53", "p53"),
        ("80007", "C10orf88", "FLJ13490"),
        ("1", "A1BG", "MYC"),
    ],
    columns=["entrez", "symbol", "alias_symbol"],
)
IDS = pd.DataFrame(
    [
        ("KLF1", "ENSG00000105610"),
        ("MYC", "ENSG00000136997"),
        ("SPI1", "ENSG00000066336"),
        ("TP53", "ENSG00000141510"),
        ("TP53", "ENSG00000999999"),
        ("CBARP", "ENSG00000099625"),
    ],
    columns=["symbol", "ensembl_id"],
)
# As HGNC publishes it: all names of a gene in one row.
HGNC = pd.DataFrame(
    [
        ("HGNC:29798", "MAP3K21", "MLK4|dJ862P8.3", "KIAA1804", "84451", "ENSG00000143674"),
        ("HGNC:28617", "CBARP", "BARP|DOS", "C19orf26", "255057", "ENSG00000099625"),
        ("HGNC:1", "NEW1", "TAKEN", "", "", ""),
        ("HGNC:2", "NEW2", "", "TAKEN", "", ""),
    ],
    columns=["hgnc_id", "symbol", "alias_symbol", "prev_symbol", "entrez_id", "ensembl_gene_id"],
)


def data(genes, labels=("control",)):
    obs = pd.DataFrame({"perturbation": list(labels)}, index=[f"cell{i}" for i in range(len(labels))])
    counts = np.arange(len(labels) * len(genes), dtype=np.float32).reshape(len(labels), len(genes))
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(genes)))


def rules(report):
    return dict(zip(report.names["name"], report.names["rule"], strict=True))


@pytest.mark.parametrize(
    ("name", "new", "rule"),
    [
        ("KLF1", "KLF1", "official"),
        ("EKLF", "KLF1", "alias"),
        ("KIAA1804", "MAP3K21", "previous"),
        ("MLK4", "MAP3K21", "alias"),
        ("ENSG00000105610", "KLF1", "ensembl"),
        ("ENSG00000105610.12", "KLF1", "ensembl"),
        ("84451", "MAP3K21", "entrez"),
        ("10661", "KLF1", "entrez"),
        ("GRCh38_EKLF", "KLF1", "prefix"),
        ("hg19-SPI1", "SPI1", "prefix"),
        ("GRCh38____RP11-1A2.3", "RP11-1A2.3", "prefix"),
        ("C10ORF88", "C10orf88", "case"),
        ("klf1", "KLF1", "case"),
        ("P53", "P53", "unknown"),
        ("SHARED", "SHARED", "ambiguous"),
        ("TAKEN", "TAKEN", "ambiguous"),
        ("RP11-54O7.1", "RP11-54O7.1", "unknown"),
        ("MYC", "MYC", "official"),
    ],
)
def test_names_are_found_by_their_rule(name, new, rule):
    adata = data([name, "A1BG"])
    report = reported(harmonize_genes, adata, aliases=[TABLE, HGNC], ensembl=IDS)
    assert adata.var_names[0] == new
    assert rules(report)[name] == rule
    assert adata.var["original_name"].tolist() == [name, "A1BG"]


def test_what_the_user_says_decides_before_any_table():
    adata = data(["SHARED", "EKLF", "SPI1"])
    report = reported(harmonize_genes, adata, aliases=[TABLE, {"SHARED": "MYC", "EKLF": "ELSE"}])
    assert adata.var_names.tolist() == ["MYC", "ELSE", "SPI1"]
    assert rules(report) == {"SHARED": "given", "EKLF": "given", "SPI1": "official"}


@pytest.mark.parametrize("form", [dict, pd.Series])
def test_a_mapping_of_a_few_names_is_enough(form):
    adata = data(["OLD", *[f"G{i}" for i in range(500)]], ["control", "OLD+G1"])
    report = reported(harmonize_genes, adata, aliases=form({"OLD": "NEW"}))
    assert report.renamed["name"].tolist() == ["OLD"]
    assert adata.obs["perturbation"].tolist() == ["control", "G1+NEW"]
    with pytest.raises(ValueError, match="Only 0 of the 501 names are known"):
        harmonize_genes(adata, aliases={"OLDER": "NEWER"})


def test_categories_of_labels_keep_their_order_for_the_colours_that_follow_it():
    adata = data(["CBARP", "KLF1"], ["control", "C19orf26", "KLF1"])
    categories = ["KLF1", "control", "C19orf26", "unused"]
    adata.obs["perturbation"] = pd.Categorical(adata.obs["perturbation"], categories=categories, ordered=True)
    harmonize_genes(adata, aliases=TABLE)
    assert adata.obs["perturbation"].tolist() == ["control", "CBARP", "KLF1"]
    assert adata.obs["perturbation"].cat.categories.tolist() == ["KLF1", "control", "CBARP", "unused"]
    assert adata.obs["perturbation"].cat.ordered


def test_entrez_ids_that_pandas_made_decimal_numbers_are_found():
    edges = pd.DataFrame({"source": [10661, 4609, None], "target": [6688, 10661, 1]}).dropna()
    assert edges["source"].dtype == float
    new, _ = reported(harmonize_genes, edges, aliases=TABLE)
    assert new[["source", "target"]].values.tolist() == [["KLF1", "SPI1"], ["MYC", "KLF1"]]


def test_one_column_can_be_named_as_text_and_a_column_there_twice_is_refused():
    table = pd.DataFrame({"who": ["EKLF"], "note": ["EKLF"]})
    assert reported(harmonize_genes, table, aliases=TABLE, columns="who")[0].values.tolist() == [["KLF1", "EKLF"]]
    with pytest.raises(ValueError, match="several columns called 'who'"):
        harmonize_genes(pd.concat([table, table], axis=1), aliases=TABLE, columns=["who"])


def test_candidates_of_ambiguous_names_are_listed():
    report = reported(harmonize_genes, data(["SHARED", "TAKEN", "KLF1"]), aliases=[TABLE, HGNC])
    assert report.ambiguous["candidates"].tolist() == ["MYC, SPI1", "NEW1, NEW2"]
    assert "SHARED could be MYC, SPI1" in repr(report)


def test_case_is_corrected_only_if_wanted_and_only_where_one_symbol_fits():
    aliases = {"x": "Abc", "y": "ABC", "z": "KLF1"}
    adata = data(["abc", "klf1", "KLF1 "[:4].lower().upper() + "2"])
    report = reported(harmonize_genes, adata, aliases=aliases)
    assert rules(report) == {"abc": "ambiguous", "klf1": "case", "KLF12": "unknown"}
    with pytest.raises(ValueError, match="Only 0 of the 2 names are known"):
        harmonize_genes(data(["abc", "klf1"]), aliases=aliases, ignore_case=False)


def test_labels_of_perturbations_follow_so_that_targets_fit():
    labels = ["control", "EKLF", "SPI1+C19orf26", "ctrl+EKLF", "ZZZ1", "EKLF"]
    adata = data(["KLF1", "CBARP", "SPI1"], labels)
    report = reported(harmonize_genes, adata, aliases=TABLE)
    assert adata.obs["perturbation"].tolist() == ["control", "KLF1", "CBARP+SPI1", "KLF1", "ZZZ1", "KLF1"]
    assert adata.var_names.tolist() == ["KLF1", "CBARP", "SPI1"]
    assert adata.obs_names[0] == "cell0"
    assert report.renamed["perturbed"].all()
    assert report.unknown["name"].tolist() == ["ZZZ1"]
    assert "perturbed genes that are unknown: 1 (ZZZ1)" in repr(report)


def test_names_of_observations_that_are_labels_follow_too():
    adata = data(["KLF1"], ["EKLF", "C19orf26"])
    adata.obs_names = adata.obs["perturbation"].tolist()
    adata.obs["perturbation"] = adata.obs["perturbation"].astype("category")
    harmonize_genes(adata, aliases=TABLE, control=None)
    assert adata.obs_names.tolist() == ["KLF1", "CBARP"]
    assert adata.obs["perturbation"].tolist() == ["KLF1", "CBARP"]
    assert isinstance(adata.obs["perturbation"].dtype, pd.CategoricalDtype)


def test_labels_can_be_left_alone():
    adata = data(["EKLF"], ["control", "EKLF"])
    harmonize_genes(adata, aliases=TABLE, perturbation_key=None)
    assert adata.obs["perturbation"].tolist() == ["control", "EKLF"]
    assert adata.var_names.tolist() == ["KLF1"]


def test_two_genes_of_one_name_are_listed_and_never_merged(assert_same):
    adata = data(["C19orf26", "CBARP", "EKLF"], ["control", "C19orf26", "CBARP"])
    before = adata.copy()
    with pytest.raises(ValueError, match="1 gene.*C19orf26 and CBARP for CBARP.*on_collision='keep'"):
        harmonize_genes(adata, aliases=TABLE, on_collision="error")
    assert_same(adata, before)
    report = reported(harmonize_genes, adata, aliases=TABLE)
    assert adata.var_names.tolist() == ["C19orf26", "CBARP", "KLF1"]
    assert adata.obs["perturbation"].tolist() == ["control", "C19orf26", "CBARP"]
    np.testing.assert_array_equal(adata.X, before.X)
    assert report.collided["name"].tolist() == ["C19orf26", "CBARP"]
    assert set(report.collided["candidates"]) == {"CBARP"}
    assert "several names for one gene: 2" in repr(report)


def test_two_perturbations_of_one_gene_stay_two():
    adata = data(["MYC"], ["control", "C19orf26", "CBARP"])
    report = reported(harmonize_genes, adata, aliases=TABLE)
    assert adata.obs["perturbation"].tolist() == ["control", "C19orf26", "CBARP"]
    assert rules(report)["C19orf26"] == "collision"


def test_to_ensembl_ids_without_versions():
    adata = data(["KLF1", "EKLF2", "ENSG00000136997.7", "TP53", "C19orf26"], ["control", "C19orf26"])
    report = reported(harmonize_genes, adata, aliases=TABLE, ensembl=IDS, target="ensembl")
    assert adata.var_names.tolist() == ["ENSG00000105610", "EKLF2", "ENSG00000136997", "TP53", "ENSG00000099625"]
    assert adata.obs["perturbation"].tolist() == ["control", "ENSG00000099625"]
    assert list(rules(report).values()) == ["symbol", "unknown", "version", "ambiguous", "alias"]
    versions = data(["ENSG00000105610.5"])
    harmonize_genes(versions, target="ensembl")
    assert versions.var_names.tolist() == ["ENSG00000105610"]


def test_a_network_in_ensembl_ids_fits_symbols():
    edges = pd.DataFrame(
        {
            "source": ["ENSG00000105610.1", "ENSG00000136997"],
            "target": ["ENSG00000066336", "ENSG00000141510"],
            "weight": [1.0, 2.0],
        }
    )
    edges.attrs["license"] = "CC BY 4.0"
    adata = data(["KLF1", "MYC", "SPI1", "TP53"])
    with pytest.raises(ValueError, match="Ensembl ids.*scapp.pp.harmonize_genes"):
        add_network(adata, edges)
    renamed, report = reported(harmonize_genes, edges, ensembl=IDS)
    assert renamed["source"].tolist() == ["KLF1", "MYC"]
    assert renamed["target"].tolist() == ["SPI1", "TP53"]
    assert renamed["weight"].tolist() == [1.0, 2.0]
    assert renamed.attrs == edges.attrs
    assert edges["source"][0] == "ENSG00000105610.1"
    assert len(report.renamed) == 4
    assert reported(add_network, adata, renamed).n_edges == 2


def test_names_of_one_gene_in_a_table_are_merged_only_if_asked():
    edges = pd.DataFrame({"source": ["C19orf26", "CBARP"], "target": ["MYC", "MYC"]})
    kept, report = reported(harmonize_genes, edges, aliases=TABLE)
    assert kept["source"].tolist() == ["C19orf26", "CBARP"]
    assert len(report.collided) == 2
    merged, report = reported(harmonize_genes, edges, aliases=TABLE, on_collision="merge")
    assert merged["source"].tolist() == ["CBARP", "CBARP"]
    assert len(merged) == 2
    assert report.collided["name"].tolist() == ["C19orf26", "CBARP"]


def test_annotations_are_renamed_by_their_genes():
    annotations = pd.DataFrame({"gene": ["EKLF", "EKLF", "MYC"], "term": ["EKLF", "t2", "t2"]})
    renamed, _ = reported(harmonize_genes, annotations, aliases=TABLE)
    assert renamed["gene"].tolist() == ["KLF1", "KLF1", "MYC"]
    assert renamed["term"].tolist() == ["EKLF", "t2", "t2"]
    other = annotations.rename(columns={"gene": "who"})
    with pytest.raises(ValueError, match="which columns hold genes; there are 'who', 'term'"):
        harmonize_genes(other, aliases=TABLE)
    assert reported(harmonize_genes, other, aliases=TABLE, columns=["who"])[0]["who"].tolist() == [
        "KLF1",
        "KLF1",
        "MYC",
    ]


MOUSE = [f"Gene{i}" for i in range(40)]
REFUSED = {
    "nothing to look up in": (["A"], {}, "nothing to look the names up in.*scapp.resources.hgnc"),
    "two genomes": (["GRCh38_KLF1", "mm10_Klf1"], {"aliases": TABLE}, "prefixes of 2 genomes, GRCh38, mm10"),
    "another species": (MOUSE, {"aliases": {g.lower() + "x": g.upper() for g in MOUSE}}, "genes of another species"),
    "unknown": (["X1", "X2"], {"aliases": TABLE}, "Only 0 of the 2 names are known.*X1, X2.*A1BG"),
    "no ids": (["KLF1"], {"aliases": TABLE, "target": "ensembl"}, "Pass ensembl="),
    "ids without the columns": (["KLF1"], {"ensembl": TABLE.drop(columns="entrez")}, "'ensembl_id' and 'symbol'"),
    "aliases without the columns": (["KLF1"], {"aliases": pd.DataFrame({"a": [1]})}, "'alias_symbol' and 'symbol'"),
    "merge": (["KLF1"], {"aliases": TABLE, "on_collision": "merge"}, "'merge' is for tables"),
    "columns": (["KLF1"], {"aliases": TABLE, "columns": ["a"]}, "those of a table"),
    "target": (["KLF1"], {"aliases": TABLE, "target": "entrez"}, "'symbol' or 'ensembl', found 'entrez'"),
    "twice": (["KLF1", "KLF1"], {"aliases": TABLE}, "occur more than once"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_explained_and_nothing_is_changed(case, assert_same):
    genes, options, message = REFUSED[case]
    adata = data(genes)
    before = adata.copy()
    with pytest.raises(ValueError, match=f"(?s){message}"):
        harmonize_genes(adata, **options)
    assert_same(adata, before)


def test_views_and_other_types_are_refused():
    with pytest.raises(ValueError, match="harmonize_genes writes into adata, and this is a view"):
        harmonize_genes(data(["KLF1", "MYC"])[:, :1], aliases=TABLE)
    with pytest.raises(TypeError, match="AnnData or a DataFrame, found list"):
        harmonize_genes(["KLF1"], aliases=TABLE)
    with pytest.raises(TypeError, match="aliases must be a mapping"):
        harmonize_genes(data(["KLF1"]), aliases=[3])


def test_the_report_survives_the_file(tmp_path):
    adata = data(["EKLF", "SHARED", "CBARP", "C19orf26", "KLF/2"], ["control", "p53"])
    report = reported(harmonize_genes, adata, aliases=TABLE)
    adata.write_h5ad(tmp_path / "a.h5ad")
    found = ad.read_h5ad(tmp_path / "a.h5ad")
    stored = found.uns["scapp"]["gene_names"]
    assert stored["n_names"] == len(report.names) == 6
    told = report.to_frame().query("rule != 'official'")
    for column in told:
        assert list(stored[column]) == told[column].tolist()
    assert found.var["original_name"].tolist() == ["EKLF", "SHARED", "CBARP", "C19orf26", "KLF/2"]


NAMES = st.sampled_from(
    [*TABLE["symbol"], *TABLE["alias_symbol"], *IDS["ensembl_id"], "GRCh38_EKLF", "GRCh38_p53", "klf1", "X1", "10661"]
)


@settings(max_examples=25)
@given(genes=st.lists(NAMES, unique=True, min_size=1), perturbed=st.lists(NAMES, unique=True))
def test_no_gene_is_lost_and_a_second_time_changes_nothing(genes, perturbed):
    adata = data([*genes, "A1BG2"], ["control", *perturbed])
    aliases = [TABLE, {"A1BG2": "A1BG2"}]
    harmonize_genes(adata, aliases=aliases, ensembl=IDS)
    once = adata.copy()
    assert adata.var_names.is_unique
    assert adata.obs["perturbation"].nunique() == 1 + len(perturbed)
    harmonize_genes(adata, aliases=aliases, ensembl=IDS)
    assert adata.var_names.tolist() == once.var_names.tolist()
    assert adata.obs["perturbation"].tolist() == once.obs["perturbation"].tolist()


# The real tables and screens


@pytest.fixture(scope="module")
def networks(shared_data):
    return shared_data / "networks"


def test_the_renamed_targets_of_norman_are_found(shared_data, networks):
    effects = ad.read_h5ad(shared_data / "norman_2019_effects.h5ad")
    before = effects.copy()
    report = reported(harmonize_genes, effects, aliases=networks / "gene_aliases.tsv.gz")
    targets = report.names[report.names["perturbed"] & (report.names["rule"] != "official")].set_index("name")
    # The table (org.Hs.eg.db) does not say that KIAA1804 was renamed: what it does not know is not guessed, but said.
    assert targets["new_name"].to_dict() == {
        "C19orf26": "CBARP", "ELMSAN1": "MIDEAS", "C3orf72": "FOXL2NB", "KIAA1804": "KIAA1804",
    }  # fmt: skip
    assert report.unknown.query("perturbed")["name"].tolist() == ["KIAA1804"]
    assert {"FOXL2+FOXL2NB", "CBARP", "MIDEAS"} <= {*effects.obs["perturbation"]}
    assert effects.obs_names.tolist() == effects.obs["perturbation"].tolist()
    np.testing.assert_array_equal(effects.X, before.X)

    # The subset of the cells that PerturBench published says what it is called now.
    cells = scapp.datasets.norman_2019_cells_subset(folder=shared_data / "originals")
    raw, now = cells.obs["perturbation_raw"].astype(str), cells.obs["perturbation"].astype(str)
    said = dict(zip(raw, now, strict=True))
    renamed = {old: new for old, new in said.items() if {*old.split("+")} != {*new.split("+")}}
    assert renamed == {"KIAA1804": "MAP3K21"}
    report = reported(harmonize_genes, before, aliases=[networks / "gene_aliases.tsv.gz", renamed])
    told = report.renamed.query("perturbed").set_index("name")["new_name"].to_dict()
    assert told == {"C19orf26": "CBARP", "ELMSAN1": "MIDEAS", "C3orf72": "FOXL2NB", "KIAA1804": "MAP3K21"}
    assert "MAP3K21" in before.obs_names


def test_renamed_targets_are_found_in_a_network_of_present_symbols(shared_data, networks):
    string = networks / "string_v12_no_textmining.tsv.gz"
    before = ad.read_h5ad(shared_data / "norman_2019_effects.h5ad")
    after = before.copy()
    harmonize_genes(after, aliases=[networks / "gene_aliases.tsv.gz", {"KIAA1804": "MAP3K21"}], control=None)
    reports = [
        reported(add_network, scapp.pp.add_unmeasured_genes(e, control=None), string, control=None)
        for e in (before, after)
    ]
    assert reports[1].perturbed_genes_not_in_var == ()
    assert reports[1].n_genes_by_alias == 0
    assert reports[1].n_genes_matched > reports[0].n_genes_matched + 30


def test_string_in_ensembl_ids_comes_back_to_its_symbols(shared_data, networks):
    string = pd.read_csv(networks / "string_v12_no_textmining.tsv.gz", sep="\t", na_filter=False).head(20_000)
    ids = networks / "gene_ensembl_ids.tsv.gz"
    there, _ = reported(
        harmonize_genes, string, ensembl=ids, aliases=networks / "gene_aliases.tsv.gz", target="ensembl"
    )
    back, report = reported(harmonize_genes, there, ensembl=ids)
    assert there["source"].str.startswith("ENSG").mean() > 0.85
    assert (back["source"] == string["source"]).mean() > 0.98
    changed = back["source"] != string["source"]
    # Those that differ are listed: ids of several genes, or symbols that were aliases.
    assert set(there.loc[changed & there["source"].str.startswith("ENSG") & back["source"].str.startswith("ENSG"), "source"]) <= {
        *report.ambiguous["name"], *report.collided["name"], *report.unknown["name"],
    }  # fmt: skip


def test_names_in_capitals_of_replogle_are_corrected(shared_data, networks):
    screen = pd.read_parquet(shared_data / "replogle_2022_k562_zscores.parquet").drop_duplicates("knocked_down_gene")
    _, report = reported(
        harmonize_genes, screen, aliases=networks / "gene_aliases.tsv.gz", columns=["knocked_down_gene"]
    )
    by_case = report.names[report.names["rule"] == "case"]
    assert len(by_case) > 60
    assert (by_case["name"] == by_case["new_name"].str.upper()).all()
    assert "C10orf88" in set(by_case["new_name"])


@pytest.mark.parametrize(
    "names",
    [
        ("Symbol", "Synonyms"),
        ("Gene name", "Gene Synonym"),
        ("Approved symbol", "Alias symbols"),
        ("gene_symbol", "aliases"),
    ],
)
def test_tables_of_ncbi_biomart_and_hgnc_are_read_by_their_columns(names, tmp_path):
    table = pd.DataFrame([["KLF1", "EKLF|HBFQTL6"], ["MYC", "-"]], columns=list(names))
    table.to_csv(tmp_path / "names.tsv", sep="\t", index=False)
    adata = data(["EKLF", "MYC"])
    harmonize_genes(adata, aliases=tmp_path / "names.tsv", perturbation_key=None)
    assert list(adata.var_names) == ["KLF1", "MYC"]
