"""Signs and directions of edges are read wherever public files say them, and no network is taken for annotations."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from typing import Any

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from tests.reports import reported

import scapp
from scapp import resources
from scapp._edge_columns import edge_ends, read_signs
from scapp.pp import add_network, similarity_network

GENES = ["KLF1", "GATA1", "HBB", "ALAS2"]
SIGNED = {("KLF1", "HBB"): 1.0, ("GATA1", "KLF1"): -1.0}


def data() -> ad.AnnData:
    obs = pd.DataFrame({"perturbation": ["KLF1"]}, index=["KLF1"])
    return ad.AnnData(np.zeros((1, 4), dtype=np.float32), obs=obs, var=pd.DataFrame(index=GENES))


def edges_of(given, **options) -> tuple[dict[tuple[str, str], float], Any]:
    adata = data()
    report = reported(add_network, adata, given, control=None, scale=False, **options)
    matrix = adata.varp["network"].tocoo()
    found = {
        (GENES[i], GENES[j]): round(float(v), 6) for i, j, v in zip(matrix.row, matrix.col, matrix.data, strict=True)
    }
    return found, report


CASES = {
    "carnival_sif.tsv": (SIGNED, "interaction", ()),
    "tf_action_target.csv": (SIGNED, "action", ()),
    "trrust_gene1_gene2.tsv": (SIGNED, "Mode_of_Regulation", ("PMID",)),
    "trrust_no_header.tsv": (SIGNED, "sign", ("3",)),
    "trn_effect.csv": (SIGNED, "effect", ("gene_id", "evidence", "source")),
    "net.graphml": (SIGNED, "polarity", ()),
    "parent_child_edges.csv": ({("KLF1", "HBB"): 0.5, ("GATA1", "KLF1"): -0.3}, "", ("PIP", "LFSR")),
    "tf_by_gene_matrix.tsv": ({("KLF1", "HBB"): 1.0, ("GATA1", "ALAS2"): 1.0, ("GATA1", "KLF1"): 1.0}, "", ()),
    "regulondb_comments.txt": (SIGNED, "sign", ("3",)),
}


@pytest.mark.parametrize("file", CASES)
def test_files_of_regulation_keep_signs_and_directions(file, shared_cases):
    expected, sign_column, unread = CASES[file]
    found, report = edges_of(shared_cases / file)
    assert found == expected and report.directed
    assert (report.sign_column, report.unread_columns) == (sign_column, unread)
    assert not unread or f"columns left out: {len(unread)}" in repr(report)
    if file == "net.graphml":
        return
    table = resources.from_table(shared_cases / file)
    assert {(a, b): w for a, b, w in table[["source", "target", "weight"]].itertuples(index=False)} == expected
    assert table.attrs["directed"] is True
    assert edges_of(table)[0] == expected


def test_a_file_without_a_header_is_read_by_position_when_asked(shared_cases):
    found, report = edges_of(shared_cases / "regulondb_comments.txt", source=0, target=1)
    assert found == SIGNED and report.directed
    found, _ = edges_of(shared_cases / "regulondb_comments.txt", source=1, target=0)
    assert found == {("HBB", "KLF1"): 1.0, ("KLF1", "GATA1"): -1.0}


def test_edges_of_cytoscape_are_undirected_with_their_scores(shared_cases):
    found, report = edges_of(shared_cases / "cytoscape_edges.csv")
    assert found[("KLF1", "HBB")] == found[("HBB", "KLF1")] == 0.93 and found[("GATA1", "KLF1")] == 0.81
    assert not report.directed and report.weight_column == "stringdb::score"
    table = resources.from_table(shared_cases / "cytoscape_edges.csv")
    assert table["weight"].tolist() == [0.93, 0.81] and "directed" not in table.attrs


def test_gene_sets_effects_and_annotations_are_named_with_their_functions(shared_cases):
    for call in (lambda path: reported(add_network, data(), path), resources.from_table):
        with pytest.raises(ValueError, match="holds gene sets.*scapp.resources.from_gmt"):
            call(shared_cases / "sets.gmt")
        with pytest.raises(ValueError, match="table of effects.*scapp.pp.read_effects"):
            call(shared_cases / "long_de.csv")
    with pytest.raises(ValueError, match="table of numbers.*scapp.pp.read_effects"):
        add_network(data(), shared_cases / "wide_lfc.csv")
    with pytest.raises(ValueError, match="these are annotations.*similarity_network"):
        add_network(data(), shared_cases / "id2gos.txt")


def test_terms_that_are_joined_are_split_and_the_first_row_is_kept(shared_cases):
    table = resources.from_table(shared_cases / "id2gos.txt")
    assert sorted(table.itertuples(index=False, name=None)) == [
        ("GATA1", "GO:0000001"), ("GATA1", "GO:0000003"), ("HBB", "GO:0000002"), ("KLF1", "GO:0000001"), ("KLF1", "GO:0000002"),
    ]  # fmt: skip
    adata = data()
    report = reported(similarity_network, adata, shared_cases / "id2gos.txt", control=None, min_genes=1)
    assert report.n_edges >= 2
    named = pd.DataFrame({"gene": ["KLF1", "HBB"], "term": ["Heme; iron", "binding, of a kind"]})
    assert resources.from_table(named)["term"].tolist() == ["Heme; iron", "binding, of a kind"]


SIGN_WORDS = {
    "numbers": (1, -1, 0),
    "floats": (1.0, -1.0, 0.0),
    "text": ("1", "-1", "0"),
    "plus": ("+", "-", "?"),
    "both": ("+", "-", "+-"),
    "TRRUST": ("Activation", "Repression", "Unknown"),
    "SIGNOR": ("up-regulates quantity by expression", "down-regulates activity", "form complex"),
    "verbs": ("activates", "inhibits", "binding"),
    "arrows": ("->", "-|", ""),
    "words": ("positive", "negative", "dual"),
    "case": ("ACTIVATION", "INHIBITION", "unknown"),
    "up": ("up", "down", "na"),
}


@pytest.mark.parametrize("words", SIGN_WORDS)
@pytest.mark.parametrize(
    "name", ["mor", "sign", "EFFECT", "Mode_of_Regulation", "interaction", "Regulation Type", "polarity", "mode"]
)
def test_signs_of_any_wording_are_read(words, name):
    up, down, unknown = SIGN_WORDS[words]
    table = pd.DataFrame(
        {"source": ["KLF1", "GATA1", "KLF1"], "target": ["HBB", "KLF1", "ALAS2"], name: [up, down, unknown]}
    )
    found, report = edges_of(table)
    expected = dict(SIGNED)
    if name == "mor" and words in ("numbers", "floats", "text"):
        assert report.weight_column == "mor"  # as decoupler: no edge of weight zero
    else:
        expected[("KLF1", "ALAS2")] = 1.0
        assert (report.sign_column, report.n_without_sign) == (name, 1)
        assert "not known for 1, which are positive" in repr(report)
        assert report.directed
    if name != "mor":
        assert found == expected
        graph = nx.from_pandas_edgelist(table, edge_attr=name, create_using=nx.DiGraph)
        assert edges_of(graph)[0] == expected


def test_flags_of_omnipath_are_signs():
    table = pd.DataFrame({"source": ["KLF1", "GATA1", "HBB"], "target": ["HBB", "KLF1", "ALAS2"]})
    for up, down in (
        ([True, False, True], [False, True, True]),
        ([1, 0, 1], [0, 1, 1]),
        (["True", "False", "0"], ["False", "True", "0"]),
    ):
        found, report = edges_of(table.assign(is_directed=1, is_stimulation=up, is_inhibition=down))
        assert found == {**SIGNED, ("HBB", "ALAS2"): 1.0}
        assert report.sign_column == "is_stimulation, is_inhibition" and report.n_without_sign == 1


def test_signs_multiply_weights_without_a_sign_and_leave_signed_ones():
    table = pd.DataFrame(
        {"tf": ["KLF1", "GATA1"], "target": ["HBB", "KLF1"], "weight": [0.5, 0.2], "effect": ["+", "-"]}
    )
    assert edges_of(table)[0] == {("KLF1", "HBB"): 0.5, ("GATA1", "KLF1"): -0.2}
    found, report = edges_of(table.assign(weight=[-0.5, 0.2]))
    assert found == {("KLF1", "HBB"): -0.5, ("GATA1", "KLF1"): 0.2}
    assert report.unread_columns == ("effect",)
    assert edges_of(table, keep_sign=False)[0] == {("KLF1", "HBB"): 0.5, ("GATA1", "KLF1"): 0.2}


def test_words_that_are_no_signs_leave_the_network_as_it_is():
    table = pd.DataFrame(
        {"source": ["KLF1", "GATA1"], "target": ["HBB", "KLF1"], "interaction": ["pp", "pd"], "type": [1, 1]}
    )
    found, report = edges_of(table)
    assert set(found.values()) == {1.0} and not report.directed and report.sign_column == ""
    assert report.unread_columns == ("interaction", "type")
    assert read_signs(pd.Series(["1", "1"])) is None and read_signs(pd.Series(["KLF1", "+"])) is None


def test_edges_with_both_signs_are_counted():
    table = pd.DataFrame({"tf": ["KLF1", "KLF1"], "target": ["HBB", "HBB"], "effect": ["Activation", "Repression"]})
    _, report = edges_of(table)
    assert report.n_contradicting == 1 and "listed with both signs: 1" in repr(report)


@pytest.mark.parametrize(
    ("columns", "directed"),
    [
        (("parent_symbol", "child_symbol"), True),
        (("source_gene", "target_gene"), False),
        (("Regulator", "gene_name"), True),
        (("TF_name", "target_gene"), True),
        (("regulator_symbol", "target_symbol"), True),
        (("gene.1", "gene.2"), False),
        (("Protein A", "Protein B"), False),
        (("from_gene", "to_gene"), False),
        (("ligand", "receptor"), True),
        (("uniprot_a", "uniprot_b"), False),
    ],
)
def test_ends_of_usual_names_are_found(columns, directed):
    table = pd.DataFrame({columns[0]: ["KLF1", "GATA1"], columns[1]: ["HBB", "KLF1"], "similarity": [0.4, 0.2]})
    found, report = edges_of(table)
    assert found[("KLF1", "HBB")] == 0.4 and report.directed == directed
    assert resources.from_table(table)["weight"].tolist() == [0.4, 0.2]


def test_columns_of_features_and_annotations_are_no_ends():
    assert edge_ends(pd.DataFrame({"gene": ["a"], "1": [0.1], "2": [0.2]})) is None
    assert edge_ends(pd.DataFrame({"gene": ["a"], "a": ["x"], "b": ["y"]})) is None
    assert edge_ends(pd.DataFrame({"gene": ["a"], "term": ["x"], "source": ["GO"]})) is None


def test_networks_are_never_taken_for_annotations():
    pairs = pd.DataFrame({"one": ["P04637", "Q00987"], "other": ["Q9Y243", "P31749"]})
    with pytest.raises(
        ValueError, match="both hold|Both hold UniProt accessions.*source='one', target='other'.*gene='one'"
    ):
        resources.from_table(pairs)
    shared = pd.DataFrame({"one": ["KLF1", "GATA1"], "other": ["GATA1", "HBB"]})
    with pytest.raises(ValueError, match="Both hold 'GATA1'"):
        resources.from_table(shared)
    assert len(resources.from_table(shared, source="one", target="other")) == 2
    with pytest.raises(ValueError, match="Cannot tell which columns hold the two ends"):
        resources.from_table(pd.DataFrame({"one": ["KLF1", "GATA1"], "other": ["HBB", "ALAS2"], "beta": [0.1, 0.2]}))


def test_square_tables_are_genes_by_genes(tmp_path):
    table = pd.DataFrame([[0, 0.5], [-0.2, 0]], ["KLF1", "HBB"], ["KLF1", "HBB"])
    expected = {("KLF1", "HBB"): 0.5, ("HBB", "KLF1"): -0.2}
    assert edges_of(table)[0] == expected
    table.to_csv(tmp_path / "square.csv")
    found, report = edges_of(tmp_path / "square.csv")
    assert found == expected and report.directed
    symmetric = pd.DataFrame([[0, 0.5], [0.5, 0]], ["KLF1", "HBB"], ["HBB", "KLF1"][::-1])
    assert not edges_of(symmetric)[1].directed


def test_sif_files_are_read(tmp_path):
    (tmp_path / "net.sif").write_text("KLF1 activates HBB ALAS2\nGATA1\tinhibits\tKLF1\n\n")
    found, report = edges_of(tmp_path / "net.sif")
    assert found == {**SIGNED, ("KLF1", "ALAS2"): 1.0} and report.directed


def zip_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "0")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
        (zip_of("a.npy", "b.npy"), "a zip archive"),
        (b"\x93NUMPY" + bytes(99), "an array of numpy"),
        (b"<?xml version='1.0'?>", "an XML file"),
        (b"<!DOCTYPE html>", "a web page"),
    ],
)
def test_intact_files_of_another_kind_are_named(begin, kind, tmp_path):
    (tmp_path / "net.csv").write_bytes(begin)
    for call in (lambda path: reported(add_network, data(), path), resources.from_table):
        with pytest.raises(ValueError, match=f"net.csv' is {kind}"):
            call(tmp_path / "net.csv")


def test_comments_are_skipped_and_a_header_with_a_hash_is_one(tmp_path):
    path = tmp_path / "net.tsv"
    path.write_text("# one\n# two words here\nsource\ttarget\tweight\nKLF1\tHBB\t0.5\n")
    assert edges_of(path, directed=True)[0] == {("KLF1", "HBB"): 0.5}
    path.write_text("#source\ttarget\tweight\nKLF1\tHBB\t0.5\n")
    assert edges_of(path, directed=True)[0] == {("KLF1", "HBB"): 0.5}
    path.write_text("# made by us\n#protein1\tprotein2\tcombined_score\nKLF1\tHBB\t900\n")
    assert edges_of(path, directed=True)[0] == {("KLF1", "HBB"): 900.0}


def test_a_weight_of_many_digits_in_its_exponent_is_refused(tmp_path):
    (tmp_path / "net.csv").write_text("source,target,weight\nKLF1,HBB,1e4099999999\n")
    with pytest.raises(ValueError, match="1 of 1 edges have a weight that is missing, infinite"):
        add_network(data(), tmp_path / "net.csv")


@pytest.mark.parametrize(
    ("header", "up", "down", "directed"),
    [
        ("source target effect", "activates", "inhibits", True),
        ("TF Target Type", "activator", "repressor", True),
        ("source target sign", "+1", "-1", True),
        ("from to direction", "pos", "neg", True),
        ("source target effect", "↑", "↓", True),
        ("source target arrow", "->", "-|", True),
        ("Regulator Target MoA", "1", "-1", True),
        ("source target coef_mean", "0.5", "-0.5", True),
        ("source target correlation", "0.5", "-0.5", False),
        ("gene1 gene2 weight", "0.5", "-0.5", False),
        ("gene_x gene_y correlation", "0.5", "-0.5", False),
        ("cause effect weight", "0.5", "-0.5", True),
        ("source target weight", "1", "-1", True),
    ],
)
def test_signs_and_weights_in_other_spellings_are_read(header, up, down, directed, tmp_path):
    table = pd.DataFrame([["KLF1", "HBB", up], ["GATA1", "KLF1", down]], columns=header.split())
    table.to_csv(tmp_path / "net.tsv", sep="\t", index=False)
    for edges in (table, tmp_path / "net.tsv"):
        found, report = edges_of(edges)
        assert {pair: np.sign(found[pair]) for pair in SIGNED} == SIGNED
        assert report.directed == directed


@pytest.mark.parametrize(
    ("columns", "weight"),
    [
        ({"GeneA": "1", "GeneB": "2", "SymbolA": 0, "SymbolB": 1, "pInt": "0.5"}, ""),  # BioPlex
        ({"PARTICIPANT_A": 0, "INTERACTION_TYPE": "interacts-with", "PARTICIPANT_B": 1}, ""),  # Pathway Commons
        ({"geneA": 0, "geneB": 1, "confidence": "0.5"}, "confidence"),  # InWeb
        ({"fromNode": 0, "toNode": 1, "weight": "0.5", "direction": "undirected"}, "weight"),  # WGCNA
        ({"#0:PFC": "0.5", "2:Gene1": 0, "3:Gene2": 1}, ""),  # FunCoup
        ({"Var1": 0, "Var2": 1, "value": "0.5"}, "value"),
        ({"gene1": 0, "gene2": 1, "LLS": "0.5"}, "LLS"),  # HumanNet
        ({"Official Symbol Interactor A": 0, "Official Symbol Interactor B": 1, "Score": "-"}, ""),  # BioGRID
        ({"regulator_id": "1", "regulator_symbol": 0, "target_id": "2", "target_symbol": 1}, ""),  # RegNetwork
    ],
)
def test_ends_and_weights_of_other_sources_are_found_or_named(columns, weight):
    ends = [("KLF1", "HBB"), ("GATA1", "KLF1")]
    rows = [[pair[value] if isinstance(value, int) else value for value in columns.values()] for pair in ends]
    found, report = edges_of(pd.DataFrame(rows, columns=list(columns)))
    assert set(ends) <= set(found) and report.weight_column == weight
    read = {name for name, value in columns.items() if isinstance(value, int)} | {weight}
    assert set(report.unread_columns) == set(columns) - read


def test_sets_of_genes_are_named_and_no_edges():
    table = pd.DataFrame(
        {"ComplexID": [1, 2], "ComplexName": ["BAF", "X"], "subunits(Gene name)": ["KLF1;HBB", "GATA1;KLF1"]}
    )
    with pytest.raises(
        ValueError, match=r"lists several genes in a field.*from_table\(table, gene='subunits\(Gene name\)'"
    ):
        edges_of(table)
    pairs = scapp.resources.from_table(table)
    assert pairs.to_numpy().tolist() == [["KLF1", "BAF"], ["HBB", "BAF"], ["GATA1", "X"], ["KLF1", "X"]]


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"!gaf-version: 2.2\n", "from_gaf"),
        (b'{"HALLMARK": {}}', "JSON"),
        (b"\x28\xb5\x2f\xfdabc", "unzstd"),
        (b"\x80\x04\x95abc", "a pickle"),
        (b"ARROW1\0\0", "read_feather"),
        (b"source,target\nKL\0F1,HBB\n", "zero bytes"),
        (b"My network\n\nsource,target\nKLF1,HBB\nGATA1,KLF1\n", "not a header of the lines below"),
    ],
)
@pytest.mark.parametrize("read", [lambda path: edges_of(path), scapp.resources.from_table, scapp.pp.read_effects])
def test_files_that_are_no_tables_are_named(begin, kind, read, tmp_path):
    (tmp_path / "net.csv").write_bytes(begin)
    with pytest.raises(ValueError, match=kind):
        read(tmp_path / "net.csv")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_packed_sif_files_are_read_by_their_name(pack, tmp_path, request):
    path = tmp_path / f"net.sif.{request.node.callspec.id}"
    path.write_bytes(pack(b"KLF1\tactivates\tHBB\nGATA1\tinhibits\tKLF1\n"))
    assert edges_of(path)[0] == SIGNED


def test_numbered_nodes_go_by_their_names(tmp_path):
    graph = nx.DiGraph()
    for number, name in enumerate(["KLF1", "HBB", "GATA1"]):
        graph.add_node(f"n{number}", name=name)
    graph.add_edge("n0", "n1", weight=0.5)
    graph.add_edge("n2", "n0", weight=1.0)
    nx.write_graphml(graph, tmp_path / "igraph.graphml")
    for given in (graph, tmp_path / "igraph.graphml"):
        assert edges_of(given)[0] == {("KLF1", "HBB"): 0.5, ("GATA1", "KLF1"): 1.0}


def test_missing_weights_of_a_graph_are_no_ones():
    graph = nx.DiGraph()
    graph.add_edge("KLF1", "HBB", weight=np.nan)
    with pytest.raises(ValueError, match="1 of 1 edges have a weight that is missing"):
        edges_of(graph)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("KLF1 HBB {'weight': 0.5}\nGATA1 KLF1 {'weight': 1.0}\n", "read_edgelist"),
        ("*vertices 2\n1 KLF1\n", "read_pajek"),
        ("digraph { KLF1 -> HBB; }\n", "DOT"),
    ],
)
def test_files_of_networkx_are_named_with_who_reads_them(text, said, tmp_path):
    (tmp_path / "net.txt").write_text(text)
    with pytest.raises(ValueError, match=said):
        edges_of(tmp_path / "net.txt")


def test_ends_may_be_the_index_and_a_folder_is_no_file(tmp_path):
    ends = pd.MultiIndex.from_tuples([("KLF1", "HBB"), ("GATA1", "KLF1")], names=["TF", "target"])
    assert edges_of(pd.DataFrame({"mor": [1, -1]}, index=ends))[0] == SIGNED
    with pytest.raises(ValueError, match="is a folder, expected a file"):
        edges_of(tmp_path)
    twice = pd.DataFrame([["KLF1", "HBB", 1, 2]], columns=["source", "target", "weight", "weight"])
    with pytest.raises(ValueError, match="several columns called 'weight'"):
        edges_of(twice)
    square = pd.DataFrame([[np.nan, 1.0], [1.0, np.nan]], ["KLF1", "HBB"], ["KLF1", "HBB"]).assign(X=1.0)
    with pytest.raises(ValueError, match=r"table\.fillna\(0\)"):
        edges_of(square)


def table_of(text: str, separator: str = "\t") -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text.replace(" ", separator)), sep=separator, keep_default_na=False)


REGULATIONS = {
    "DoRothEA": "source confidence target weight\nKLF1 A HBB 1\nGATA1 B KLF1 -0.5\n",
    "CellOracle": "source target coef_mean coef_abs p -logp\nKLF1 HBB 0.05 0.05 1e-5 5\nGATA1 KLF1 -0.02 0.02 1e-4 4\n",
    "SCENIC+": "Region TF Gene R2G_importance R2G_rho TF2G_importance TF2G_regulation TF2G_rho\nr KLF1 HBB .1 -.2 5 1 .4\nr GATA1 KLF1 .1 .2 3 -1 -.4\n",
    "SCENIC+ by rho": "TF Gene importance_TF2G rho_TF2G\nKLF1 HBB 5 .4\nGATA1 KLF1 3 -.4\n",
    "SCENIC+ by the product": "TF Gene importance_x_rho\nKLF1 HBB 2\nGATA1 KLF1 -1.2\n",
    "GRNBoost": "TF target importance rho\nKLF1 HBB 5 .4\nGATA1 KLF1 3 -.4\n",
    "KEGG": "entry1 entry2 type subtype\nKLF1 HBB GErel expression\nGATA1 KLF1 PPrel inhibition\n",
    "KEGG with several": "entry1 entry2 subtype\nKLF1 HBB activation,phosphorylation\nGATA1 KLF1 inhibition;indirect-effect\n",
    "arrows of KEGG": "from to relation\nKLF1 HBB -->\nGATA1 KLF1 --|\n",
    "Reactome FI": "Gene1 Gene2 Annotation Direction Score\nKLF1 HBB activate -> 1.00\nGATA1 KLF1 inhibit -| 0.9\n",
    "Reactome FI turned": "Gene1 Gene2 Annotation Direction Score\nHBB KLF1 activated <- 1.00\nKLF1 GATA1 inhibited |- 0.9\n",
    "KEGG's names and arrows": "from to type name value\nKLF1 HBB PPrel activation -->\nGATA1 KLF1 PPrel inhibition --|\n",
    "WikiPathways": "source target interaction\nKLF1 HBB mim-stimulation\nGATA1 KLF1 mim-inhibition\n",
    "graphite": "src_type src dest_type dest direction type\nS KLF1 S HBB directed Process(activation)\nS GATA1 S KLF1 directed Process(inhibition)\n",
    "pySCENIC": "regulon TF gene weight\nKLF1(+) KLF1 HBB 1.5\nGATA1(-) GATA1 KLF1 2.5\n",
    "numbers as effects": "source target effect\nKLF1 HBB 0.5\nGATA1 KLF1 -0.25\n",
    "one letter": "TF Target Mode\nKLF1 HBB A\nGATA1 KLF1 R\n",
    "inhibition as a letter": "TF Target Sign\nKLF1 HBB A\nGATA1 KLF1 I\n",
    "P and N": "TF Target Sign\nKLF1 HBB P\nGATA1 KLF1 N\n",
}


@pytest.mark.parametrize("source", REGULATIONS)
def test_regulations_of_public_sources_keep_directions_and_signs(source, tmp_path):
    table = table_of(REGULATIONS[source])
    (tmp_path / "net.tsv").write_text(REGULATIONS[source].replace(" ", "\t"))
    for edges in (table, tmp_path / "net.tsv", resources.from_table(table)):
        found, report = edges_of(edges)
        assert report.directed and {pair: np.sign(weight) for pair, weight in found.items()} == SIGNED


def test_arrows_at_both_ends_are_two_edges_and_lines_have_no_direction():
    arrows = {"|-|": (-1, -1), "<->": (1, 1), "|->": (1, -1), "<-|": (-1, 1), "-": (1, 1)}
    for arrow, (there, back) in arrows.items():
        table = pd.DataFrame({"Gene1": ["KLF1", "KLF1"], "Gene2": ["HBB", "ALAS2"], "Direction": [arrow, "->"]})
        found, report = edges_of(table)
        assert found == {("KLF1", "HBB"): there, ("HBB", "KLF1"): back, ("KLF1", "ALAS2"): 1} and report.directed
        assert report.n_without_sign == (2 if arrow == "-" else 0)
    assert not edges_of(table.assign(Direction="-"))[1].directed


def test_edges_without_a_direction_go_both_ways_beside_directed_ones():
    table = pd.DataFrame({"source": ["KLF1", "GATA1"], "target": ["HBB", "KLF1"], "is_directed": [1, 0]})
    found, report = edges_of(table)
    assert set(found) == {("KLF1", "HBB"), ("GATA1", "KLF1"), ("KLF1", "GATA1")} and report.directed
    assert table["source"].tolist() == ["KLF1", "GATA1"]


@pytest.mark.parametrize("name", ["pc.sif", "pc.txt"])
def test_relations_of_pathway_commons_keep_their_direction(name, tmp_path):
    (tmp_path / name).write_text(
        "KLF1\tcontrols-expression-of\tHBB\nKLF1\tcontrols-expression-of\tHBB\nGATA1\tin-complex-with\tKLF1\n"
    )
    found, report = edges_of(tmp_path / name)
    assert set(found) == {("KLF1", "HBB"), ("GATA1", "KLF1"), ("KLF1", "GATA1")} and report.directed


@pytest.mark.parametrize(
    ("name", "codes"), [("Sign", [1, 2]), ("mode", [1, 2]), ("sign", [1, 0]), ("Polarity", ["x", "y"])]
)
def test_codes_of_signs_that_cannot_be_told_are_refused(name, codes):
    table = pd.DataFrame({"TF": ["KLF1", "GATA1"], "target": ["HBB", "KLF1"], name: codes})
    for read in (edges_of, resources.from_table):
        with pytest.raises(ValueError, match=rf"column '{name}' seems to hold signs.*\n.*\n.*map"):
            read(table)


def test_ids_behind_the_names_of_a_file_without_header_are_no_ends_and_no_weights(tmp_path):
    (tmp_path / "human.source").write_text("KLF1\t10661\tHBB\t3043\nGATA1\t2623\tKLF1\t10661\n")
    assert set(edges_of(tmp_path / "human.source", directed=True)[0].items()) == {
        (("KLF1", "HBB"), 1),
        (("GATA1", "KLF1"), 1),
    }
    (tmp_path / "hippie.txt").write_text("KLF1\t10661\tHBB\t3043\t0.5\nGATA1\t2623\tKLF1\t10661\t0.25\n")
    assert edges_of(tmp_path / "hippie.txt", directed=True)[0] == {("KLF1", "HBB"): 0.5, ("GATA1", "KLF1"): 0.25}


def test_lists_of_targets_are_not_cut_to_the_first(tmp_path):
    (tmp_path / "targets.txt").write_text("KLF1\tHBB\tALAS2\nGATA1\tKLF1\tHBB\n")
    for read in (edges_of, resources.from_table):
        with pytest.raises(ValueError, match=r"column 2 \(from 0\) holds names"):
            read(tmp_path / "targets.txt")


@pytest.mark.parametrize("text", ["KLF1 -> HBB\nGATA1 -| KLF1\n", "HBB <- KLF1\nKLF1 |- GATA1\n"])
def test_arrows_between_names_are_read(text, tmp_path):
    (tmp_path / "net.txt").write_text(text)
    assert edges_of(tmp_path / "net.txt")[0] == SIGNED
