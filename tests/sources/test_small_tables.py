"""Small tables in the folder of data: read where the large file is not, and only where they can stand for it."""

from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scapp import datasets, resources

STRING = pd.DataFrame(
    {
        "source": ["A", "B", "C"],
        "target": ["B", "C", "D"],
        "combined_score": [900, 500, 400],
        "coexpression": [0, 500, 400],
        "experiments": [900, 0, 0],
        "database": [0, 0, 0],
    }
)
GO = pd.DataFrame(
    {
        "symbol": ["A", "A", "B", "B"],
        "go_id": ["GO:0000003", "GO:0000001", "GO:0000001", "GO:0000003"],
        "evidence": ["IDA", "ND", "IDA", "IEA"],
        "ontology": "BP",
    }
)
PARENTS = pd.DataFrame(
    {"child": ["GO:0000003"], "parent": ["GO:0000002"], "relationship_type": ["isa"]},
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of `SCAPP_DATA_DIR`, its networks in a folder inside; nothing can be downloaded."""
    networks = tmp_path / "networks"
    networks.mkdir()
    STRING.to_csv(networks / "string_v12_no_textmining.tsv.gz", sep="\t", index=False)
    GO.to_csv(networks / "gene2go_human_2022-09.tsv.gz", sep="\t", index=False)
    PARENTS.to_csv(networks / "go_dag_parents.tsv.gz", sep="\t", index=False)
    aliases = pd.DataFrame({"entrez": [1], "symbol": ["A"], "alias_symbol": ["OLDA"]})
    aliases.to_csv(networks / "gene_aliases.tsv.gz", sep="\t", index=False)
    pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [-1]}).to_csv(
        networks / "collectri_2025-09.csv.gz", index=False
    )
    monkeypatch.setenv("SCAPP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SCAPP_DATA_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("scapp._download.RETRIES", 0)
    return tmp_path


def test_string_is_read_from_the_small_table_under_the_names_of_the_download(folder, caplog):
    edges = resources.string(min_score=450)
    assert edges.columns.tolist() == ["source", "target", "weight", "coexpression", "experimental", "database"]
    assert edges["weight"].tolist() == [900, 500]
    assert edges.attrs["source"] == "STRING" and edges.attrs["file"] == "string_v12_no_textmining.tsv.gz"
    assert str(folder) not in caplog.text


@pytest.mark.parametrize(
    "options", [{"organism": "mouse"}, {"version": "11.5"}, {"channels": ["textmining"]}, {"channels": ["database"]}]
)
def test_another_string_than_that_of_the_table_is_downloaded(folder, options):
    with pytest.raises(ConnectionError, match=r"protein.links.detailed"):
        resources.string(progress_bar=False, **options)


def test_a_score_above_all_edges_of_the_small_table_is_refused(folder):
    with pytest.raises(ValueError, match="No pair of .* has a score of min_score=950 or more"):
        resources.string(min_score=950)
    with pytest.raises(ConnectionError):  # the small table has no weaker edges
        resources.string(min_score=150, progress_bar=False)


def test_go_is_passed_on_and_annotations_without_data_are_left_out(folder):
    table = resources.gene_ontology()
    assert set(zip(table["gene"], table["term"], strict=True)) == {
        ("A", "GO:0000003"),
        ("A", "GO:0000002"),
        ("B", "GO:0000001"),
        ("B", "GO:0000003"),
        ("B", "GO:0000002"),
    }
    direct = resources.gene_ontology(propagate=False, evidence=["IDA"])
    assert list(zip(direct["gene"], direct["term"], strict=True)) == [("A", "GO:0000003"), ("B", "GO:0000001")]
    with pytest.raises(ValueError, match="No annotation of .* is left"):
        resources.gene_ontology(evidence=["IMP"])
    with pytest.raises(ConnectionError, match="goa_human"):
        resources.gene_ontology(aspects=["BP"], progress_bar=False)


def test_names_and_regulons_are_read_from_small_tables(folder):
    names = resources.hgnc()
    assert names.to_dict("list") == {"symbol": ["A"], "alias_symbol": ["OLDA"]}
    edges = resources.collectri()
    assert edges["weight"].tolist() == [-1]
    assert edges.attrs["version"] == ""


def test_the_large_file_is_read_where_it_is(folder):
    (folder / "hgnc_complete_set.txt").write_text(
        "hgnc_id\tsymbol\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\nHGNC:1\tB\t\t\t2\tENSG2\n"
    )
    assert resources.hgnc()["symbol"].tolist() == ["B"]


def test_a_folder_that_nobody_named_is_not_searched(folder, monkeypatch, tmp_path):
    import scanpy

    monkeypatch.delenv("SCAPP_DATA_DIR")
    before = scanpy.settings.datasetdir
    scanpy.settings.datasetdir = tmp_path
    try:
        with pytest.raises(ConnectionError):
            resources.hgnc(progress_bar=False)
    finally:
        scanpy.settings.datasetdir = before
    assert resources.hgnc(folder=folder)["symbol"].tolist() == ["A"]


def test_another_table_under_the_name_of_a_small_one_is_refused(folder):
    STRING.drop(columns="combined_score").to_csv(
        folder / "networks" / "string_v12_no_textmining.tsv.gz", sep="\t", index=False
    )
    with pytest.raises(ValueError, match="is not the small table of STRING: it has no column 'combined_score'"):
        resources.string()


def test_guides_of_papalexi_are_the_same_from_both_files(folder):
    obs = pd.DataFrame(
        {"gene_target": ["NT", "IRF1", "STAT1", "IRF1"], "replicate": ["rep1", "rep2", "rep1", "rep1"]},
        index=["cell0", "cell1", "cell2", "cell3"],
    )
    rna = AnnData(sparse.csr_matrix(np.eye(4, 2, dtype=np.float32)), obs=obs, var=pd.DataFrame(index=["IRF1", "CD86"]))
    guides = AnnData(
        sparse.csr_matrix(np.array([[9, 1, 0], [0, 5, 3], [0, 0, 2], [0, 0, 0]], dtype=np.float32)),
        obs=obs[[]].copy(),
        var=pd.DataFrame(index=["NTg1", "IRF1g2", "STAT1g1"]),
    )
    mudata.MuData({"rna": rna, "gdo": guides}).write(folder / "papalexi_2021.h5mu")
    cells = datasets.papalexi_2021_guides()
    assert cells.obs["grna_id"].tolist() == ["NTg1", "IRF1g2", "STAT1g1", "unassigned"]
    assert cells.obs["grna_target"].tolist() == ["non-targeting", "IRF1", "STAT1", "IRF1"]
    assert cells.obs["grna_umi"].tolist() == [9, 5, 2, 0]
    assert cells.obs["grna_umi_total"].tolist() == [10, 8, 2, 0]
    assert cells.obs["bio_rep"].tolist() == ["rep1", "rep2", "rep1", "rep1"]
    assert "perturbation" not in cells.obs

    (folder / "papalexi_2021.h5mu").unlink()
    cells.write_h5ad(folder / "papalexi_2021_counts.h5ad")
    small = datasets.papalexi_2021_guides()
    pd.testing.assert_frame_equal(small.obs.astype(str), cells.obs.astype(str))
    cells.obs = cells.obs.drop(columns="grna_umi")
    cells.write_h5ad(folder / "papalexi_2021_counts.h5ad")
    with pytest.raises(ValueError, match="no obs column 'grna_umi'"):
        datasets.papalexi_2021_guides()


def test_files_of_mudata_are_read_without_news_of_its_next_version(folder, recwarn):
    rna = AnnData(np.ones((2, 2), np.float32), obs=pd.DataFrame({"gene_target": ["NT", "A"]}, index=["c0", "c1"]))
    guides = AnnData(np.ones((2, 1), np.float32), obs=rna.obs[[]].copy(), var=pd.DataFrame(index=["NTg1"]))
    mudata.MuData({"rna": rna, "gdo": guides}).write(folder / "papalexi_2021.h5mu")
    recwarn.clear()
    datasets.papalexi_2021()
    datasets.simulated_perturb_seq(n_genes=60, n_regulators=8, n_singles=4, n_doubles=0, return_mudata=True)
    assert [str(w.message) for w in recwarn if "update()" in str(w.message)] == []
