"""Columns of genes and terms are found in tables as public sources write them, or the table is refused."""

from __future__ import annotations

import io
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scapp import resources
from scapp._annotations import read_annotations
from scapp.pp import add_gene_features

A, B = "GO:0000001", "GO:0000002"
K, H = "ENSG00000105610", "ENSG00000244734"
PAIRS = {("KLF1", A), ("HBB", A), ("HBB", B)}
ROWS = [("KLF1", K, "10661", A), ("HBB", H, "3043", A), ("HBB", H, "3043", B)]


def rows(header: str, form: str, separator: str = "\t") -> str:
    """Return a table whose rows are filled in: symbol, Ensembl id, Entrez id and term."""
    lines = [header, *(form.format(symbol=s, ens=e, entrez=n, term=t) for s, e, n, t in ROWS)]
    return "".join(line.replace("|", separator) + "\n" for line in lines if line)


TABLES = {
    "BioMart": rows("Gene stable ID|Gene name|GO term accession|GO term name", "{ens}|{symbol}|{term}|of a kind"),
    "BioMart in another order": rows("GO term name|GO term accession|Gene stable ID|Gene name", "of a kind|{term}|{ens}|{symbol}"),
    "biomaRt": rows("ensembl_gene_id|external_gene_name|go_id|namespace_1003", "{ens}|{symbol}|{term}|process"),
    "without header": rows("", "{symbol}|{term}"),
    "terms first, without header": rows("", "{term}|{symbol}"),
    "with evidence, without header": rows("", "{symbol}|{term}|IDA"),
    "ids and symbols, without header": rows("", "{ens}|{symbol}|{term}"),
    "CellMarker": rows("species|tissue_type|cell_type|cell_name|marker|Symbol|GeneID", "Human|Blood|Normal cell|{term}|{symbol}|{symbol}|{entrez}"),
    "CellMarker in short": rows("cell_name|marker", "{term}|{symbol}"),
    "PanglaoDB": rows("species|official gene symbol|cell type|nicknames|gene type|organ", "Mm Hs|{symbol}|{term}|X|protein-coding gene|Blood"),
    "CORUM": f"ComplexID\tComplexName\tsubunits(UniProt IDs)\tsubunits(Gene name)\n1\t{A}\tQ13351;P68871\tKLF1;HBB\n2\t{B}\tP68871\tHBB\n",
    "Enrichr's results": f"Gene_set\tTerm\tOverlap\tGenes\nGO\t{A}\t2/9\tKLF1;HBB\nGO\t{B}\t1/9\tHBB\n",
    "clusterProfiler's results": f"ID\tDescription\tgeneID\tCount\n{A}\ta\tKLF1/HBB\t2\n{B}\tb\tHBB\t1\n",
    "HPO": rows("ncbi_gene_id|gene_symbol|hpo_id|hpo_name", "{entrez}|{symbol}|{term}|of a kind"),
    "DisGeNET": rows("geneId|geneSymbol|diseaseId|diseaseName|diseaseType", "{entrez}|{symbol}|{term}|anemia|disease"),
    "UniProt": f"Entry\tGene Names (primary)\tGene Names\tGene Ontology IDs\nQ13351\tKLF1\tKLF1 EKLF\t{A}\nP68871\tHBB\tHBB\t{A}; {B}\n",
    "msigdbr": rows("gs_cat|gs_name|gene_symbol|entrez_gene|ensembl_gene", "H|{term}|{symbol}|{entrez}|{ens}"),
    "gene2go": rows("#tax_id|GeneID|Symbol|GO_ID|Qualifier", "9606|{entrez}|{symbol}|{term}|involved_in") + f"9606\t1\tKLF1\t{B}\tNOT involved_in\n",
    "genes without terms": rows("Gene name|GO term accession", "{symbol}|{term}") + "GATA1\t\n",
}  # fmt: skip


@pytest.mark.parametrize("source", TABLES)
def test_genes_and_terms_of_public_tables_are_found(source, tmp_path, caplog):
    path = tmp_path / "table.tsv"
    path.write_text(TABLES[source])
    with caplog.at_level(logging.INFO, logger="scapp"):
        assert set(resources.from_table(path).itertuples(index=False, name=None)) == PAIRS
    assert "Read as annotations" in caplog.text
    assert set(read_annotations(path).pairs().itertuples(index=False, name=None)) == PAIRS
    if "without header" not in source:
        table = pd.read_csv(io.StringIO(TABLES[source]), sep="\t", keep_default_na=False)
        assert set(read_annotations(table).pairs().itertuples(index=False, name=None)) == PAIRS


@pytest.mark.parametrize("text", ["Heme\t\tKLF1\tHBB\nIron\t\tHBB\n", "Heme\t\tKLF1,1.0\tHBB,0.5\nIron\t\tHBB,1.0\n"])
def test_libraries_of_enrichr_are_gene_sets_under_any_name(text, tmp_path):
    (tmp_path / "library.txt").write_text(text)
    expected = {("KLF1", "Heme"), ("HBB", "Heme"), ("HBB", "Iron")}
    assert set(read_annotations(tmp_path / "library.txt").pairs().itertuples(index=False, name=None)) == expected
    with pytest.raises(ValueError, match="holds gene sets.*from_gmt"):
        resources.from_table(tmp_path / "library.txt")


GAF = "UniProtKB\tQ13351\tKLF1\tinvolved_in\tGO:0000001\tPMID:1\tIDA\t\tP\tx\tEKLF\tprotein\ttaxon:9606\t20200101\tUniProt\t\t\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GAF + GAF.replace("KLF1", "HBB"), "from_gaf"),
        (
            "KLF1\tHeme synthesis\nHBB\tOxygen transport\n",
            "Is the first line of the file, 'KLF1', 'Heme synthesis', a header",
        ),
        ("one\ttwo\tthree\nKLF1\ta b\tx\nHBB\tc d\ty\n", "Which columns hold genes and terms cannot be told"),
        (
            "entrez\tsymbol\talias_symbol\n1\tKLF1\tEKLF\n2\tHBB\tHBD\n",
            "Which columns hold genes and terms cannot be told",
        ),
        (
            "Gene stable ID\tGene name\tlength\nENSG00000105610\tKLF1\t5.5\nENSG00000244734\tHBB\t2.5\n",
            "cannot be told",
        ),
    ],
)
def test_tables_whose_genes_and_terms_cannot_be_told_are_refused(text, said, tmp_path):
    (tmp_path / "table.tsv").write_text(text)
    for read in (resources.from_table, read_annotations):
        with pytest.raises(ValueError, match=said):
            read(tmp_path / "table.tsv")


def test_gene_sets_in_columns_and_nested_sets_are_named(tmp_path):
    (tmp_path / "sets.gmx").write_text("H_A\tH_B\nna\tna\nKLF1\tHBB\n")
    with pytest.raises(ValueError, match="gene sets in columns"):
        read_annotations(tmp_path / "sets.gmx")
    with pytest.raises(TypeError, match="found the dict"):
        read_annotations({"H_A": {"geneSymbols": ["KLF1"]}})


# The features of genes

GENES = ["KLF1", "GATA1", "HBB"]


def features_of(given) -> np.ndarray:
    adata = ad.AnnData(np.zeros((1, 3), dtype=np.float32), var=pd.DataFrame(index=GENES))
    add_gene_features(adata, given, key_added="f", perturbation_key=None)
    return np.asarray(adata.varm["f"])


@pytest.mark.parametrize(
    "name",
    [
        "entrez",
        "entrez_id",
        "GeneID",
        "ncbi gene id",
        "length",
        "start",
        "Chromosome",
        "strand",
        "Unnamed: 1",
        "level_0",
        "Chromosome/scaffold name",
        "txStart",
        "pubmed_id",
        "gene_length",
        "tss",
    ],
)
def test_ids_and_positions_are_no_features(name, tmp_path):
    table = pd.DataFrame({"gene": GENES, name: [10661, 2623, 3043], "d0": [1.0, 2.0, 3.0]})
    table.to_csv(tmp_path / "f.csv", index=False)
    for given in (table, tmp_path / "f.csv"):
        with pytest.warns(UserWarning, match="ids or positions.*left out"):
            assert features_of(given).tolist() == [[1.0], [2.0], [3.0]]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("NA", "1 values of the feature table are missing or infinite, in the genes KLF1"),
        ("", "1 values of the feature table are missing or infinite, in the genes KLF1"),
        ("1e4099999999", "1 values of the feature table are missing or infinite, in the genes KLF1"),
        ("high", "1 values of the feature table are not numbers, the first: 'high' of KLF1 in 'd0'"),
    ],
)
def test_a_value_that_is_no_number_does_not_make_annotations_of_features(value, said, tmp_path):
    (tmp_path / "f.csv").write_text(f"gene,d0,d1\nKLF1,{value},2\nGATA1,3,4\nHBB,5,6\n")
    with pytest.raises(ValueError, match=said):
        features_of(tmp_path / "f.csv")
    (tmp_path / "f.csv").write_text("gene,d0,d1\nKLF1,NA,NA\nGATA1,3,4\nHBB,5,6\n")
    np.testing.assert_array_equal(features_of(tmp_path / "f.csv"), [[np.nan, np.nan], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    ("begin", "said"),
    [(b"\x80\x04\x95abc", "a pickle"), (b"\x93NUMPY\x01", "numpy.load"), (b"ARROW1\0\0", "read_feather")],
)
def test_formats_that_are_not_read_are_named_and_not_called_damaged(begin, said, tmp_path):
    (tmp_path / "f.bin").write_bytes(begin + bytes(99))
    with pytest.raises(ValueError, match=f"{said}.*Expected a table: csv, tsv"):
        features_of(tmp_path / "f.bin")


def test_the_first_gene_of_counted_numbers_is_no_header(tmp_path):
    (tmp_path / "f.csv").write_text("KLF1,1,2\nGATA1,3,4\nHBB,5,6\n")
    assert features_of(tmp_path / "f.csv").tolist() == [[1, 2], [3, 4], [5, 6]]
