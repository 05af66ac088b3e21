"""Edges of every kind end up at the right genes, and what is lost on the way is said."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from tests.reports import reported

from scapp.pp import add_network, add_unmeasured_genes

GENES = ["KLF1", "CEBPA", "SPI1", "MYC", "TP53"]
EDGES = pd.DataFrame(
    {"source": ["KLF1", "SPI1", "MYC"], "target": ["CEBPA", "CEBPA", "KLF1"], "weight": [4.0, -2.0, 1.0]}
)

PAIRS = EDGES.set_axis(["gene1", "gene2", "weight"], axis=1)  # names that say no direction


def data(genes: list[str] | None = None, labels: tuple[str, ...] = ("control", "KLF1+TP53", "ctrl+SPI1")) -> ad.AnnData:
    genes = GENES if genes is None else genes
    obs = pd.DataFrame({"perturbation": list(labels)}, index=[f"cell{i}" for i in range(len(labels))])
    return ad.AnnData(np.zeros((len(labels), len(genes)), dtype=np.float32), obs=obs, var=pd.DataFrame(index=genes))


def weights_of(adata: ad.AnnData, key: str = "network") -> dict[tuple[str, str], float]:
    coo = adata.varp[key].tocoo()
    return {
        (adata.var_names[i], adata.var_names[j]): float(w) for i, j, w in zip(coo.row, coo.col, coo.data, strict=True)
    }


DIRECTED = {("KLF1", "CEBPA"): 1.0, ("SPI1", "CEBPA"): -0.5, ("MYC", "KLF1"): 0.25}
UNDIRECTED = DIRECTED | {(target, source): weight for (source, target), weight in DIRECTED.items()}


# Forms of input


def test_rows_are_sources_and_columns_targets():
    adata = data()
    report = reported(add_network, adata, EDGES, directed=True)
    assert weights_of(adata) == DIRECTED
    assert isinstance(adata.varp["network"], sparse.csr_matrix)
    assert adata.varp["network"].dtype == np.float32
    assert report.directed
    assert report.n_edges == 3


def test_an_undirected_network_is_symmetric_and_its_pairs_count_once():
    adata = data()
    report = reported(add_network, adata, PAIRS)
    assert weights_of(adata) == UNDIRECTED
    assert report.n_edges == 3


@pytest.mark.parametrize(
    "columns",
    [
        ("source", "target", "weight"),
        ("SOURCE", "Target", "Weight"),
        ("source", "target", "mor"),
        ("source", "target", "importance"),
        ("protein1", "protein2", "combined_score"),
        ("preferredName_A", "preferredName_B", "score"),
        ("gene1", "gene2", "weight"),
        ("from", "to", "weight"),
        ("#node1", "node2", "combined_score"),
        ("regulator", "target", "weight"),
        ("TF", "target", "importance"),
    ],
)
def test_column_names_of_the_field_are_known(columns):
    adata = data()
    table = EDGES.set_axis(list(columns), axis=1).assign(comment="x", textmining=7)
    report = reported(add_network, adata, table)
    assert weights_of(adata) == (DIRECTED if columns[0].lower() in ("regulator", "tf", "source") else UNDIRECTED)
    assert report.weight_column == columns[2]


def test_symbols_go_before_uniprot_ids_in_omnipath():
    adata = data()
    table = EDGES.assign(source_genesymbol=EDGES["source"], target_genesymbol=EDGES["target"], source="P1", target="P2")
    add_network(adata, table)
    assert weights_of(adata) == DIRECTED


def test_columns_can_be_named():
    adata = data()
    add_network(adata, EDGES.set_axis(["A", "B", "w"], axis=1), source="A", target="B", weight="w", directed=True)
    assert weights_of(adata) == DIRECTED


def test_another_weight_than_the_usual_one_can_be_chosen():
    adata = data()
    add_network(adata, EDGES.assign(experiments=[1.0, 2.0, 2.0]), weight="experiments", directed=True)
    assert weights_of(adata) == {("KLF1", "CEBPA"): 0.5, ("SPI1", "CEBPA"): 1.0, ("MYC", "KLF1"): 1.0}


def test_without_a_weight_all_edges_weigh_one_and_the_report_says_so():
    adata = data()
    report = reported(add_network, adata, EDGES[["source", "target"]])
    assert set(weights_of(adata).values()) == {1.0}
    assert report.weight_column == ""
    assert "weights: none, all one" in repr(report)


@pytest.mark.parametrize(
    ("name", "sep"), [("e.csv", ","), ("e.tsv", "\t"), ("e.txt", " "), ("e.csv.gz", ","), ("e.tsv", ";")]
)
@pytest.mark.parametrize("as_text", [True, False])
def test_the_separator_of_a_file_is_found(tmp_path: Path, name, sep, as_text):
    path = tmp_path / name
    EDGES.to_csv(path, sep=sep, index=False)
    adata = data()
    add_network(adata, str(path) if as_text else path, directed=True)
    assert weights_of(adata) == DIRECTED


def test_parquet_is_read(tmp_path: Path):
    EDGES.to_parquet(tmp_path / "e.parquet")
    adata = data()
    add_network(adata, tmp_path / "e.parquet", directed=True)
    assert weights_of(adata) == DIRECTED


def broken_files(folder: Path) -> dict[str, bytes]:
    text = "source,target,weight\n" + "".join(f"KLF1,G{i % 977},{i}\n" for i in range(20_000))
    packed = gzip.compress(text.encode())
    table = folder / "whole.parquet"
    EDGES.to_parquet(table)
    return {
        "truncated.csv.gz": packed[: len(packed) // 2],
        "damaged.csv.gz": packed[:200] + bytes(40) + packed[240:],
        "utf16.csv": text.encode("utf-16")[2:],
        "latin.csv": text.replace("G7,", "Zür,").encode("latin-1"),
        "ragged.csv": (text + "KLF1,MYC,1,2,3\n").encode(),
        "truncated.parquet": table.read_bytes()[:-100],
    }


def test_broken_files_are_named_and_nothing_is_written(tmp_path: Path, assert_same):
    for name, content in broken_files(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        adata = data()
        with pytest.raises(
            ValueError, match=f"(?s){name}' cannot be read .*(truncated, damaged or of another kind).*again"
        ):
            add_network(adata, tmp_path / name)
        assert_same(adata, data())
        with pytest.raises(ValueError, match=f"{name}' cannot be read"):
            add_network(adata, EDGES, aliases=tmp_path / name)
        assert_same(adata, data())


def test_whether_a_file_is_gzipped_is_seen_by_its_beginning_and_home_is_known(tmp_path: Path, monkeypatch):
    text = EDGES.to_csv(index=False).encode()
    (tmp_path / "unpacked.csv.gz").write_bytes(text)
    (tmp_path / "packed.csv").write_bytes(gzip.compress(text))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("unpacked.csv.gz", "packed.csv"):
        adata = data()
        add_network(adata, f"~/{name}", directed=True)
        assert weights_of(adata) == DIRECTED


def test_a_gene_called_nan_is_a_gene(tmp_path: Path):
    path = tmp_path / "edges.tsv.gz"
    with gzip.open(path, "wt") as file:
        file.write("source\ttarget\tweight\nNAN\tNA\t2\nKLF1\tNA\t1\n")
    adata = data(["NAN", "NA", "KLF1"])
    add_network(adata, path, directed=True)
    assert weights_of(adata) == {("NAN", "NA"): 1.0, ("KLF1", "NA"): 0.5}


@pytest.mark.parametrize("convert", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_array, np.asarray])
def test_matrices_follow_var_names_and_are_directed_if_asymmetric(convert):
    adata = data()
    matrix = np.zeros((5, 5))
    for (source, target), weight in DIRECTED.items():
        matrix[GENES.index(source), GENES.index(target)] = weight * 4
    report = reported(add_network, adata, convert(matrix))
    assert report.directed
    assert weights_of(adata) == DIRECTED
    report = reported(add_network, adata, convert(matrix + matrix.T), key_added="both")
    assert not report.directed
    assert weights_of(adata, "both") == UNDIRECTED


def test_graphs_keep_their_direction_and_weights():
    adata = data()
    for graph, expected in ((nx.DiGraph(), DIRECTED), (nx.Graph(), UNDIRECTED), (nx.MultiGraph(), UNDIRECTED)):
        graph.add_weighted_edges_from(EDGES.itertuples(index=False, name=None))
        graph.add_node("alone")
        add_network(adata, graph)
        assert weights_of(adata) == expected
    plain = nx.Graph([("KLF1", "MYC")])
    add_network(adata, plain)
    assert weights_of(adata) == {("KLF1", "MYC"): 1.0, ("MYC", "KLF1"): 1.0}


# Options


def test_sign_and_scale_can_be_left():
    adata = data()
    add_network(adata, EDGES, directed=True, keep_sign=False, scale=False)
    assert weights_of(adata) == {("KLF1", "CEBPA"): 4.0, ("SPI1", "CEBPA"): 2.0, ("MYC", "KLF1"): 1.0}


def test_self_loops_are_removed_and_counted_unless_asked_for():
    table = pd.concat([EDGES, pd.DataFrame({"source": ["TP53"], "target": ["TP53"], "weight": [4.0]})])
    adata = data()
    report = reported(add_network, adata, table, directed=True)
    assert (report.n_self_loops, weights_of(adata)) == (1, DIRECTED)
    report = reported(add_network, adata, table, directed=True, self_loops=True)
    assert weights_of(adata) == DIRECTED | {("TP53", "TP53"): 1.0}
    assert report.n_edges == 4


def test_weak_edges_are_cut_on_the_scale_of_the_input_and_counted():
    adata = data()
    zero = pd.DataFrame({"source": ["TP53"], "target": ["MYC"], "weight": [0.0]})
    report = reported(add_network, adata, pd.concat([EDGES, zero]), directed=True, min_weight=2)
    assert weights_of(adata) == {("KLF1", "CEBPA"): 1.0, ("SPI1", "CEBPA"): -0.5}
    assert report.n_weak == 2


@pytest.mark.parametrize(("how", "expected"), [("max", -6.0), ("mean", -1.0), ("sum", -2.0)])
def test_duplicates_are_merged_as_asked_and_counted(how, expected):
    adata = data()
    table = pd.DataFrame({"source": ["KLF1"] * 2, "target": ["MYC"] * 2, "weight": [4.0, -6.0]})
    report = reported(add_network, adata, table, duplicates=how, directed=True, scale=False)
    assert weights_of(adata) == {("KLF1", "MYC"): expected}
    assert report.n_duplicates == 1


def test_duplicates_can_be_an_error_that_names_them():
    adata = data()
    with pytest.raises(ValueError, match="KLF1 -> CEBPA"):
        add_network(adata, pd.concat([EDGES, EDGES]), duplicates="error")
    assert not adata.varp


def test_an_edge_listed_both_ways_is_one_edge():
    adata, mirrored = data(), data()
    add_network(adata, PAIRS, duplicates="sum")
    both = pd.concat([PAIRS, PAIRS.rename(columns={"gene1": "gene2", "gene2": "gene1"})])
    report = reported(add_network, mirrored, both, duplicates="sum")
    assert weights_of(adata) == weights_of(mirrored)
    assert (report.n_edges, report.n_duplicates) == (3, 3)


def test_top_k_of_a_directed_network_keeps_what_a_gene_hears_most():
    adata = data()
    report = reported(add_network, adata, EDGES, directed=True, top_k=1)
    assert weights_of(adata) == {("KLF1", "CEBPA"): 1.0, ("MYC", "KLF1"): 0.25}
    assert report.n_pruned == 1


def test_several_networks_live_side_by_side():
    adata = data()
    add_network(adata, PAIRS, key_added="one")
    add_network(adata, PAIRS[:1], key_added="two")
    assert adata.varp["one"].nnz == 6
    assert adata.varp["two"].nnz == 2
    assert set(adata.uns["scapp"]["networks"]) == {"one", "two"}


# Names


ALIASES = pd.DataFrame(
    {
        "alias_symbol": ["C19orf26", "CBARP", "EKLF", "KLF1", "SHARED", "SHARED", "p53", "MIDEAS", "ELMSAN1"],
        "symbol": ["CBARP", "CBARP", "KLF1", "KLF1", "MYC", "SPI1", "TP53", "MIDEAS", "MIDEAS"],
    }
)


def edges_of(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["source", "target"])


@pytest.mark.parametrize("form", ["table", "path", "mapping"])
def test_aliases_are_understood_on_either_side(tmp_path: Path, form):
    aliases: Any = ALIASES
    if form == "path":
        aliases = tmp_path / "aliases.tsv.gz"
        ALIASES.to_csv(aliases, sep="\t", index=False)
    elif form == "mapping":
        aliases = {"C19orf26": "CBARP", "EKLF": "KLF1"}
    adata = data(["C19orf26", "KLF1", "MYC"])
    report = reported(add_network, adata, edges_of(("CBARP", "EKLF"), ("KLF1", "MYC")), directed=True, aliases=aliases)
    assert set(weights_of(adata)) == {("C19orf26", "KLF1"), ("KLF1", "MYC")}
    assert report.n_genes_by_alias == 1
    assert report.n_genes_matched == 3


def test_a_gene_under_two_names_has_its_edges_under_both():
    adata = data(["C19orf26", "CBARP", "MYC", "KLF1"])
    add_network(adata, edges_of(("CBARP", "MYC"), ("KLF1", "KLF1"), ("CBARP", "CBARP")), directed=True, aliases=ALIASES)
    assert set(weights_of(adata)) == {("CBARP", "MYC"), ("C19orf26", "MYC")}


def test_a_symbol_goes_before_an_alias():
    adata = data(["EKLF", "KLF1", "MYC"])
    add_network(adata, edges_of(("EKLF", "MYC"), ("KLF1", "EKLF")), directed=True, aliases=ALIASES)
    assert set(weights_of(adata)) == {("EKLF", "MYC"), ("KLF1", "EKLF")}


def test_an_alias_of_two_symbols_is_never_guessed():
    adata = data()
    report = reported(
        add_network, adata, edges_of(("SHARED", "KLF1"), ("KLF1", "CEBPA")), directed=True, aliases=ALIASES
    )
    assert set(weights_of(adata)) == {("KLF1", "CEBPA")}
    assert report.ambiguous_names == ("SHARED",)
    assert report.n_outside == 1


def test_aliases_without_the_columns_are_refused():
    with pytest.raises(ValueError, match="'alias_symbol' and 'symbol', found 'a', 'b'"):
        add_network(data(), EDGES, aliases=pd.DataFrame({"a": ["x"], "b": ["y"]}))


# Report


def test_the_report_accounts_for_every_row_and_names_isolated_perturbed_genes(caplog):
    adata = data(labels=("control", "KLF1+TP53", "ctrl+SPI1", "ZEB1"))
    table = pd.concat([EDGES, edges_of(("KLF1", "GATA1"), ("KLF1", "KLF1"), ("KLF1", "CEBPA")).assign(weight=1.0)])
    with caplog.at_level(logging.INFO, "scapp"):
        report = reported(add_network, adata, table, directed=True, top_k=1)
    assert report.n_listed == 6
    lost = report.n_outside + report.n_self_loops + report.n_weak + report.n_duplicates + report.n_pruned
    assert report.n_edges == report.n_listed - lost
    assert report.isolated_perturbed_genes == ("SPI1", "TP53")
    assert report.perturbed_genes_not_in_var == ("ZEB1",)
    assert report.n_isolated == 2
    assert "TP53" in caplog.text
    assert "ZEB1" in repr(report)
    assert report.to_frame().loc["isolated_perturbed_genes", "value"] == "SPI1, TP53"


def test_without_a_column_of_perturbations_the_network_is_added_all_the_same():
    adata = data()
    del adata.obs["perturbation"]
    assert reported(add_network, adata, EDGES).isolated_perturbed_genes == ()


def test_genes_that_were_not_measured_are_nodes():
    adata = data(["KLF1", "SPI1"], labels=("control", "KLF1", "CEBPA"))
    adata = add_unmeasured_genes(adata)
    report = reported(add_network, adata, PAIRS)
    assert ("CEBPA", "KLF1") in weights_of(adata)
    assert report.isolated_perturbed_genes == ()


def test_networks_and_reports_survive_the_file(tmp_path: Path):
    adata = data()
    add_network(adata, EDGES, min_weight=1.0, top_k=5)
    adata.write_h5ad(tmp_path / "a.h5ad")
    found = ad.read_h5ad(tmp_path / "a.h5ad")
    assert weights_of(found) == weights_of(adata)
    entry = found.uns["scapp"]["networks"]["network"]
    assert list(entry["report"]["isolated_perturbed_genes"]) == ["TP53"]
    assert len(entry["report"]["ambiguous_names"]) == 0
    assert entry["params"]["min_weight"] == 1.0
    assert entry["params"]["top_k"] == 5


# Refusals


def mouse() -> pd.DataFrame:
    return EDGES.assign(source=EDGES["source"].str.capitalize(), target=EDGES["target"].str.capitalize())


def ensembl() -> pd.DataFrame:
    return EDGES.assign(source="ENSG00000105610", target=["ENSG00000245848", "ENSG00000066336", "ENSG00000136997"])


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "nan weight": (lambda: EDGES.assign(weight=[1.0, np.nan, 1.0]), {}, r"1 of 3 edges.*SPI1 -> CEBPA: nan"),
    "infinite weight": (lambda: EDGES.assign(weight=[np.inf, 1.0, 1.0]), {}, r"KLF1 -> CEBPA: inf"),
    "text weight": (lambda: EDGES.assign(weight=["1", "high", "2"]), {}, r"1 of 3 edges.*not a number.*CEBPA: high"),
    "empty weight": (lambda: EDGES.assign(weight=["1", "", "2"]), {}, r"1 of 3 edges.*CEBPA: nothing\. Give"),
    "missing weight": (lambda: EDGES.assign(weight=pd.array([1, None, 2], dtype="Int64")), {}, "1 of 3 edges.*<NA>"),
    "decimal commas": (lambda: EDGES.assign(weight=["1", "0,5", "2"]), {}, r"CEBPA: 0,5.*decimal=','"),
    "column twice": (
        lambda: pd.concat([EDGES, EDGES["source"]], axis=1),
        {},
        "several columns called 'source', .* are 'source', 'target', 'weight', 'source'",
    ),
    "nan in matrix": (lambda: np.full((5, 5), np.nan), {}, "25 of 25 edges"),
    "no rows": (lambda: EDGES[:0], {}, "no edges"),
    "empty matrix": (lambda: sparse.csr_matrix((5, 5)), {}, "no edges"),
    "empty graph": (nx.Graph, {}, "no edges"),
    "missing name": (
        lambda: EDGES.assign(target=["CEBPA", None, "KLF1"]),
        {},
        "1 of 3 rows have no name in column 'target'",
    ),
    "wrong shape": (lambda: np.ones((4, 4)), {}, r"must have shape \(5, 5\).*found \(4, 4\)"),
    "unknown columns": (
        lambda: EDGES.set_axis(["A", "B", "w"], axis=1),
        {},
        "The columns are 'A', 'B', 'w'; known pairs.*source='…'",
    ),
    "absent column": (lambda: EDGES, {"source": "x", "target": "target"}, "source='x' is not a column"),
    "one end named": (lambda: EDGES, {"source": "source"}, "both source"),
    "absent weight": (lambda: EDGES, {"weight": "score"}, "weight='score' is not a column"),
    "columns of a matrix": (lambda: np.eye(5), {"source": "a", "target": "b"}, "name columns of a table"),
    "absent attribute": (lambda: nx.Graph([("KLF1", "MYC")]), {"weight": "score"}, "No edge of the graph has"),
    "absent file": (lambda: "nowhere.csv", {}, "no file 'nowhere.csv'"),
    "another species": (mouse, {}, "Only 0 of the 5 genes.*another species.*organism='human'"),
    "Ensembl": (
        ensembl,
        {},
        r"the network has Ensembl ids. Bring .*scapp.pp.harmonize_genes\(network, ensembl=table\)",
    ),
    "Entrez": (
        lambda: edges_of((10661, 1050), (6688, 4609)),
        {},
        r"Entrez ids. Bring .*harmonize_genes\(network, aliases=",
    ),
    "STRING's proteins": (
        lambda: edges_of(("9606.ENSP00000264834", "9606.ENSP00000427514")),
        {},
        "STRING's protein ids. scapp.resources.string reads",
    ),
    "UniProt": (lambda: edges_of(("Q13351", "P49715")), {}, "UniProt accessions. Bring .*{name: symbol"),
    "other genes": (lambda: edges_of(("A1", "B1")), {}, "Only 0 of the 5 genes.*KLF1.*A1"),
    "all weak": (lambda: EDGES, {"min_weight": 100}, "No edge is left.*3 are of zero weight or below min_weight=100"),
    "all self-loops": (lambda: edges_of(("MYC", "MYC")), {}, "No edge is left.*1 join a gene to itself"),
    "cancelling": (
        lambda: edges_of(("MYC", "KLF1"), ("MYC", "KLF1")).assign(weight=[1, -1]),
        {"duplicates": "sum"},
        "cancel",
    ),
    "slash in the key": (lambda: EDGES, {"key_added": "a/b"}, "'/'"),
    "empty key": (lambda: EDGES, {"key_added": " "}, "empty"),
    "negative bound": (lambda: EDGES, {"min_weight": -1}, "min_weight"),
    "bad duplicates": (lambda: EDGES, {"duplicates": "first"}, "duplicates must be"),
    "bad top_k": (lambda: EDGES, {"top_k": 0}, "top_k"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_explained_and_nothing_is_written(case, assert_same):
    make, kwargs, message = REFUSED[case]
    adata = data()
    before = adata.copy()
    with pytest.raises(ValueError, match="(?s)" + message):
        add_network(adata, make(), **kwargs)
    assert_same(adata, before)


def test_what_is_no_network_at_all_is_a_type_error():
    for value in (3, object(), b"KLF1"):
        with pytest.raises(TypeError, match=f"found {type(value).__name__}"):
            add_network(data(), value)


def test_ensembl_ids_in_adata_point_to_the_column_of_symbols():
    adata = data(["ENSG00000105610", "ENSG00000245848"])
    adata.var["gene_symbols"] = ["KLF1", "CEBPA"]
    with pytest.raises(ValueError, match=r"adata\.var\['gene_symbols'\]"):
        add_network(adata, EDGES)


def test_ensembl_ids_of_two_species_are_recognised():
    adata = data(["ENSG00000105610", "ENSG00000245848"])
    with pytest.raises(ValueError, match="Ensembl ids of two species"):
        add_network(adata, edges_of(("ENSMUSG00000054191", "ENSMUSG00000034957")))


def test_a_network_in_which_few_genes_are_found_is_warned_of(caplog):
    genes = [f"GENE{i}" for i in range(100)]
    other = [(f"OTHER{i}", f"OTHER{i + 1}") for i in range(100)]
    report = reported(add_network, data(genes), edges_of(*other, ("GENE1", "GENE2")))
    assert report.n_edges == 1
    assert "Only 2 of the 100 genes of adata occur" in caplog.text
    caplog.clear()
    add_network(data(genes), edges_of(*[(f"GENE{i}", f"GENE{i + 1}") for i in range(30)]))
    assert "Only" not in caplog.text


def test_views_and_duplicate_genes_are_refused():
    with pytest.raises(ValueError, match=r"\.copy\(\)"):
        add_network(data()[:, :3], EDGES)
    with pytest.warns(UserWarning, match="not unique"):
        twice = data(["KLF1", "KLF1", "CEBPA"])
    with pytest.raises(ValueError, match="var_names_make_unique"):
        add_network(twice, EDGES)


# Real files


@pytest.fixture
def norman(shared_data: Path) -> ad.AnnData:
    return add_unmeasured_genes(ad.read_h5ad(shared_data / "norman_2019_effects.h5ad"))


def test_string_covers_norman_and_old_symbols_are_found(norman, shared_data):
    edges = shared_data / "networks" / "string_v12_no_textmining.tsv.gz"
    without = reported(add_network, norman, edges, key_added="without")
    report = reported(add_network, norman, edges, aliases=shared_data / "networks" / "gene_aliases.tsv.gz")
    assert report.weight_column == "combined_score"
    assert (report.n_listed, report.n_names) == (174_962, 17_288)
    assert without.n_genes_by_alias == 0
    assert report.n_genes_by_alias == report.n_genes_matched - without.n_genes_matched > 50
    # CBARP has one partner here, and its edge a second time as C19orf26, the name under which it was perturbed
    assert report.n_edges == report.n_listed - report.n_outside + 1 == norman.varp["network"].nnz // 2
    assert norman.varp["network"].max() == 1
    # an edge of the file, at its place and on its scale
    table = pd.read_csv(edges, sep="\t", na_filter=False)
    inside = table[table["source"].isin(norman.var_names) & table["target"].isin(norman.var_names)].sort_values(
        "combined_score"
    )
    strongest = inside.iloc[-1]
    i, j = norman.var_names.get_indexer([strongest["source"], strongest["target"]])
    assert norman.varp["network"][i, j] == norman.varp["network"][j, i] == 1


def test_the_old_symbols_of_norman_match_the_gene_summaries_by_alias(norman, shared_data):
    aliases = shared_data / "networks" / "gene_aliases.tsv.gz"
    new_symbols = {"C19orf26": "CBARP", "ELMSAN1": "MIDEAS", "C3orf72": "FOXL2NB"}
    edges = edges_of(*((new, "KLF1") for new in new_symbols.values()))
    report = reported(add_network, norman, edges, aliases=aliases)
    assert not set(new_symbols) & set(report.isolated_perturbed_genes)


def test_collectri_keeps_direction_and_sign(norman, shared_data):
    path = shared_data / "networks" / "collectri_2025-09.csv.gz"
    report = reported(add_network, norman, path, directed=True)
    table = pd.read_csv(path, na_filter=False).drop_duplicates(["source", "target"])
    table = table[table["source"].isin(norman.var_names) & table["target"].isin(norman.var_names)]
    table = table[table["source"] != table["target"]]
    assert weights_of(norman) == {(a, b): w for a, b, w in table.itertuples(index=False, name=None)}
    assert set(norman.varp["network"].data) == {-1.0, 1.0}
    assert report.directed
