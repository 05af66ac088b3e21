"""Gene features reach the right rows, and genes without any are marked."""

from __future__ import annotations

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

from scapp import graph
from scapp.pp import _features, add_gene_features, add_unmeasured_genes

GENES = ["C", "A", "X", "B"]
TABLE = pd.DataFrame({"f1": [1.0, 2.0, 3.0, 9.0], "f2": [-1.0, 0.5, 0.0, 9.0]}, index=["A", "B", "C", "elsewhere"])
EXPECTED = np.array([[3.0, 0.0], [1.0, -1.0], [np.nan, np.nan], [2.0, 0.5]], dtype=np.float32)
SETS = {"t1": ["A", "B"], "t2": ["A", "B", "C"], "t3": ["C", "D"], "t4": ["D", "E"], "t5": ["E", "F", "G"]}
EDGES = pd.DataFrame({"source": list("ABCDE"), "target": list("BCDEA"), "weight": [1.0, 2.0, 1.0, -3.0, 1.0]})


def data(genes: list[str] | None = None) -> ad.AnnData:
    genes = GENES if genes is None else genes
    return ad.AnnData(
        np.zeros((2, len(genes)), dtype=np.float32),
        obs=pd.DataFrame({"perturbation": ["control", "A+X"]}, index=["0", "1"]),
        var=pd.DataFrame(index=genes),
    )


def cosine(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / length) @ (rows / length).T


# Tables


@pytest.mark.parametrize("form", ["frame", "first column", "csv", "tsv.gz", "parquet", "npz"])
def test_rows_go_to_their_genes_and_the_others_are_nan(tmp_path: Path, form):
    features: Any = TABLE
    path = tmp_path / f"features.{form}"
    if form == "first column":
        features = TABLE.rename_axis("gene").reset_index()
    elif form == "npz":
        has_summary = np.ones(4, dtype=bool)
        np.savez(path, symbol=TABLE.index.to_numpy(str), embedding=TABLE.to_numpy(np.float16), has_summary=has_summary)
        features = path
    elif form == "parquet":
        TABLE.to_parquet(path)
        features = path
    elif form != "frame":
        TABLE.to_csv(path, sep="," if form == "csv" else "\t")
        features = str(path)
    adata = data()
    report = reported(add_gene_features, adata, features, key_added="f")
    np.testing.assert_array_equal(adata.varm["f"], EXPECTED)
    assert isinstance(adata.varm["f"], np.ndarray)
    assert adata.varm["f"].dtype == np.float32
    assert report.kind == "table"
    assert (report.n_features, report.n_genes_with_features, report.n_genes_in_source) == (2, 3, 4)
    assert report.perturbed_genes_without_features == ("X",)
    assert "X" in repr(report)
    assert report.to_frame().loc["n_genes", "value"] == 4


def test_a_row_of_nan_in_the_table_marks_a_gene_without_features():
    adata = data()
    report = reported(add_gene_features, adata, pd.concat([TABLE, TABLE[:1].set_axis(["X"]) * np.nan]), key_added="f")
    np.testing.assert_array_equal(adata.varm["f"], EXPECTED)
    assert report.n_genes_in_source == 4


def test_a_table_is_reduced_to_its_principal_components():
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(60)]
    table = pd.DataFrame(rng.normal(size=(60, 30)) * np.linspace(3, 0.1, 30) + 5, index=genes)
    adata = data(genes)
    add_gene_features(adata, table, key_added="f", n_components=4)
    centred = table.to_numpy() - table.to_numpy().mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    expected = u[:, :4] * s[:4]
    np.testing.assert_allclose(adata.varm["f"] @ adata.varm["f"].T, expected @ expected.T, atol=1e-2)


def test_aliases_find_features_and_ambiguous_ones_do_not():
    adata = data(["old", "two", "A"])
    aliases = pd.DataFrame({"alias_symbol": ["old", "two", "two"], "symbol": ["B", "A", "C"]})
    report = reported(add_gene_features, adata, TABLE, key_added="f", aliases=aliases)
    np.testing.assert_array_equal(adata.varm["f"][0], TABLE.loc["B"].to_numpy(np.float32))
    assert np.isnan(adata.varm["f"][1]).all()
    assert report.n_genes_by_alias == 1


def test_two_aliases_of_one_gene_in_the_table_decide_nothing():
    adata = data(["NEW", "A"])
    aliases = {"B": "NEW", "C": "NEW"}
    report = reported(add_gene_features, adata, TABLE, key_added="f", aliases=aliases)
    assert np.isnan(adata.varm["f"][0]).all()
    assert report.ambiguous_names == ("NEW",)
    own = pd.concat([TABLE, TABLE[:1].set_axis(["NEW"]) * 7])
    add_gene_features(adata, own, key_added="f", aliases=aliases)
    np.testing.assert_array_equal(adata.varm["f"][0], [7, -7])


# Annotations


def dense_tf_idf(sets: dict[str, list[str]]) -> pd.DataFrame:
    genes = sorted({gene for members in sets.values() for gene in members})
    weights = [[np.log(len(genes) / len(m)) * (gene in m) for m in sets.values()] for gene in genes]
    return pd.DataFrame(weights, index=genes)


def test_all_components_of_annotations_give_the_cosine_similarities_exactly():
    adata = data(list("ABCDE"))
    report = reported(add_gene_features, adata, SETS, key_added="f", min_genes=1)
    expected = cosine(dense_tf_idf(SETS).loc[list("ABCDE")].to_numpy())
    np.testing.assert_allclose(adata.varm["f"] @ adata.varm["f"].T, expected, atol=1e-5)
    assert report.kind == "annotations"
    assert report.n_features == 5


def test_features_of_a_gene_do_not_depend_on_the_other_genes_of_adata():
    small, large = data(["A", "B"]), data(list("ABCDEFG"))
    for features in (SETS, EDGES):
        for adata in (small, large):
            add_gene_features(adata, features, key_added="f", n_components=3)
        np.testing.assert_array_equal(small.varm["f"], large.varm["f"][:2])


def test_parents_and_sizes_reach_the_annotations():
    adata = data(["A", "B", "C"])
    sets = {"t1": ["A"], "t2": ["B"], "t3": ["C", "D"]}
    add_gene_features(
        adata, sets, key_added="f", parents=pd.DataFrame({"child": ["t1", "t2"], "parent": ["mid", "mid"]})
    )
    assert adata.varm["f"][0] @ adata.varm["f"][1] == pytest.approx(1)
    assert adata.varm["f"][0] @ adata.varm["f"][2] == pytest.approx(0, abs=1e-6)


def test_a_gene_whose_terms_say_nothing_has_no_features():
    adata = data(["A", "B", "C"])
    add_gene_features(adata, {"all": ["A", "B", "C", "D"], "t": ["A", "B"]}, key_added="f")
    assert np.isnan(adata.varm["f"][2]).all()
    assert np.isfinite(adata.varm["f"][:2]).all()


# Networks


@pytest.mark.parametrize("form", ["frame", "file", "graph", "matrix"])
def test_all_components_of_a_network_give_the_products_of_the_diffusion_profiles_exactly(tmp_path: Path, form):
    edges: Any = EDGES
    genes = list("ABCDE")
    if form == "file":
        edges = tmp_path / "edges.csv"
        EDGES.to_csv(edges, index=False)
    elif form == "graph":
        edges = nx.Graph()
        edges.add_weighted_edges_from(EDGES.itertuples(index=False, name=None))
    elif form == "matrix":
        edges = graph.edges_to_csr(range(5), [1, 2, 3, 4, 0], EDGES["weight"], n_nodes=5)
    present = genes if form == "matrix" else ["E", "A", "X"]
    adata = data(present)
    report = reported(add_gene_features, adata, edges, key_added="f", restart=0.3)
    adjacency = graph.edges_to_csr(range(5), [1, 2, 3, 4, 0], EDGES["weight"], n_nodes=5, directed=False)
    profiles = np.asarray(graph.diffusion(adjacency, restart=0.3, normalization="sym"))
    expected = pd.DataFrame(profiles @ profiles.T, index=genes, columns=genes)
    found = [gene for gene in present if gene in genes]
    rows = adata.varm["f"][adata.var_names.get_indexer(found)]
    np.testing.assert_allclose(rows @ rows.T, expected.loc[found, found], atol=1e-5)
    assert report.kind == "network"
    if form != "matrix":
        assert np.isnan(adata.varm["f"][2]).all()


def test_paths_through_genes_that_adata_does_not_hold_count():
    adata = data(["A", "C", "D"])
    edges = pd.DataFrame({"source": ["A", "hub", "D"], "target": ["hub", "C", "other"]})
    add_gene_features(adata, edges, key_added="f")
    a, c, d = adata.varm["f"]
    assert cosine(np.array([a, c]))[0, 1] > 0.2
    assert a @ d == pytest.approx(0, abs=1e-6)


def test_small_separate_parts_of_a_network_do_not_use_up_the_components(caplog):
    ring = pd.DataFrame({"source": [f"r{i}" for i in range(100)], "target": [f"r{(i + 1) % 100}" for i in range(100)]})
    pairs = pd.DataFrame({"source": [f"a{i}" for i in range(20)], "target": [f"b{i}" for i in range(20)]})
    adata = data([*(f"r{i}" for i in range(100)), "a0", "b0"])
    add_gene_features(adata, pd.concat([pairs, ring]), key_added="f", n_components=10)
    ring_features = adata.varm["f"][:100]
    assert np.isfinite(ring_features).all()
    similarity = ring_features @ ring_features.T
    assert similarity[0, 1] > similarity[0, 25]
    assert np.isnan(adata.varm["f"][100:]).all()
    assert "40 of the 140 genes" in caplog.text


# Any kind


@pytest.mark.parametrize(
    ("features", "kind"),
    [
        (SETS, "annotations"),
        (pd.DataFrame({"gene": ["A", "A", "B"], "term": ["t", "u", "t"], "evidence": ["x", "y", "z"]}), "annotations"),
        (EDGES, "network"),
        (TABLE, "table"),
    ],
)
def test_kinds_are_told_apart_and_reported(features, kind):
    adata = data()
    assert reported(add_gene_features, adata, features, key_added="f", min_genes=1).kind == kind


def test_the_kind_can_be_said():
    adata = data(list("ABCDE"))
    pairs = EDGES.rename(columns={"source": "gene", "target": "term"})[["gene", "term"]]
    assert reported(add_gene_features, adata, pairs, key_added="f", min_genes=1).kind == "annotations"
    ends = EDGES[["source", "target"]]
    assert (
        reported(add_gene_features, adata, ends, key_added="f", kind="annotations", min_genes=1).kind == "annotations"
    )


def test_features_and_reports_survive_the_file(tmp_path: Path):
    adata = data()
    add_gene_features(adata, TABLE, key_added="f")
    add_gene_features(adata, SETS, key_added="g", n_components=2)
    adata.write_h5ad(tmp_path / "a.h5ad")
    found = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(found.varm["f"], EXPECTED)
    entries = found.uns["scapp"]["gene_features"]
    assert list(entries["f"]["report"]["perturbed_genes_without_features"]) == ["X"]
    assert entries["g"]["params"]["n_components"] == 2


def edge_table_with_nan() -> pd.DataFrame:
    return EDGES.assign(weight=np.nan)


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "single nan": (lambda: TABLE.replace(0.5, np.nan), {}, "1 values of the feature table are missing.*B"),
    "infinite": (lambda: TABLE.replace(0.5, np.inf), {}, "1 values"),
    "all nan": (lambda: TABLE * np.nan, {}, "no features"),
    "duplicate genes": (
        lambda: pd.concat([TABLE, TABLE[:1]]),
        {},
        "1 genes occur more than once in the feature table: A",
    ),
    "no gene names": (lambda: TABLE.reset_index(drop=True), {}, "indexed by gene"),
    "text": (lambda: TABLE.assign(f2="x"), {"kind": "table"}, "'f2' do not"),
    "other genes": (lambda: TABLE.set_axis(["P", "Q", "R", "S"]), {}, "Only 0 of the 4 genes"),
    "unclear": (lambda: pd.DataFrame({"n": [1, 2], "g": ["A", "B"]}), {}, "Cannot tell.*kind='table'"),
    "nan weights": (edge_table_with_nan, {}, "5 of 5 edges"),
    "parents of a table": (lambda: TABLE, {"parents": TABLE}, "parents"),
    "no components": (lambda: SETS, {"n_components": 0}, "n_components"),
    "restart": (lambda: EDGES, {"restart": 0.0}, "restart"),
    "kind": (lambda: TABLE, {"kind": "tabel"}, "kind must be"),
    "key": (lambda: TABLE, {"key_added": "a/b"}, "'/'"),
    "no distinguishing term": (lambda: {"t": ["A", "B"]}, {}, "empty"),
    "wrong shape": (lambda: sparse.eye(3, format="csr"), {}, r"shape \(4, 4\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_features_are_explained_and_nothing_is_written(case, assert_same):
    make, kwargs, message = REFUSED[case]
    adata = data()
    before = adata.copy()
    with pytest.raises(ValueError, match="(?s)" + message):
        add_gene_features(adata, make(), **{"key_added": "f", **kwargs})
    assert_same(adata, before)


@pytest.mark.parametrize(
    "features",
    [
        {"T1": ["P", "Q"], "T2": ["Q", "R"], "T3": ["P", "R", "S"]},
        pd.DataFrame({"source": ["P", "Q"], "target": ["Q", "R"]}),
    ],
    ids=["annotations", "network"],
)
def test_genes_of_another_species_are_seen_before_the_long_work(features, monkeypatch):
    def long_work(*args, **kwargs):
        raise AssertionError("The decomposition was begun.")

    for name in ("truncated_svd", "diffusion_embedding"):
        monkeypatch.setattr(_features, name, long_work)
    with pytest.raises(ValueError, match="Only 0 of the"):
        add_gene_features(data(), features, key_added="f")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04"])
def test_npz_files_that_break_off_are_named(content, tmp_path: Path):
    np.savez(tmp_path / "f.npz", names=np.array(["A", "B"]), x=np.random.default_rng(0).random((2, 500)))
    whole = (tmp_path / "f.npz").read_bytes()
    (tmp_path / "f.npz").write_bytes(content or whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="f.npz' cannot be read as plain arrays"):
        add_gene_features(data(), tmp_path / "f.npz", key_added="f")


def test_arrays_without_names_are_a_type_error():
    with pytest.raises(TypeError, match="gene names"):
        add_gene_features(data(), np.zeros((4, 2)), key_added="f")


@pytest.mark.parametrize("arrays", [{"m": np.zeros((4, 2))}, {"n": np.array(["A"]), "m": np.zeros((2, 2))}])
def test_npz_files_without_names_for_their_rows_are_explained(tmp_path: Path, arrays):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(ValueError, match="one array of gene names"):
        add_gene_features(data(), tmp_path / "f.npz", key_added="f")


def test_pickled_objects_are_not_loaded(tmp_path: Path):
    np.savez(tmp_path / "f.npz", names=np.array(["A"], dtype=object), m=np.zeros((1, 2)))
    with pytest.raises(ValueError, match="not as objects"):
        add_gene_features(data(), tmp_path / "f.npz", key_added="f")


def test_views_are_refused():
    with pytest.raises(ValueError, match=r"\.copy\(\)"):
        add_gene_features(data()[:, :2], TABLE, key_added="f")


# Real files


@pytest.fixture(scope="module")
def real(shared_data: Path) -> ad.AnnData:
    adata = add_unmeasured_genes(ad.read_h5ad(shared_data / "norman_2019_effects.h5ad"))
    files = shared_data / "networks"
    options: dict[str, Any] = {"aliases": files / "gene_aliases.tsv.gz"}
    add_gene_features(adata, files / "gene_summary_minilm_l6_v2.npz", key_added="text", **options)
    add_gene_features(
        adata,
        files / "gene2go_human_2022-09.tsv.gz",
        key_added="go",
        parents=files / "go_dag_parents.tsv.gz",
        n_components=64,
        **options,
    )
    add_gene_features(adata, files / "string_v12_no_textmining.tsv.gz", key_added="string", n_components=64, **options)
    return adata


def test_real_features_find_old_symbols_and_say_who_is_missing(real):
    missing = {
        key: set(real.uns["scapp"]["gene_features"][key]["report"]["perturbed_genes_without_features"])
        for key in ("text", "go", "string")
    }
    assert missing["text"] == {"KIAA1804"}  # the alias table does not know it
    assert missing["go"] == {"IER5L", "KIAA1804"}
    assert len(missing["string"]) < 10


def test_text_embeddings_are_copied_bit_by_bit(real, shared_data):
    with np.load(shared_data / "networks" / "gene_summary_minilm_l6_v2.npz") as file:
        names, values = list(file["symbol"]), file["embedding"]
    for gene, name in (("KLF1", "KLF1"), ("C19orf26", "CBARP"), ("ELMSAN1", "MIDEAS"), ("C3orf72", "FOXL2NB")):
        np.testing.assert_array_equal(
            real.varm["text"][real.var_names.get_loc(gene)], values[names.index(name)].astype(np.float32)
        )


@pytest.mark.parametrize("key", ["go", "string"])
def test_real_features_put_relatives_together(real, key):
    features = real.varm[key]
    have = np.isfinite(features).all(axis=1)
    assert (np.isnan(features).all(axis=1) == ~have).all()
    assert have.sum() > 1500
    assert np.linalg.norm(features[have], axis=1).max() < 1.1
    similarity = cosine(features[have])
    genes = real.var_names[have]
    for gene, relative in (("CDKN1A", "CDKN1B"), ("CEBPA", "CEBPB")):
        i, j = genes.get_indexer([gene, relative])
        assert (similarity[i] > similarity[i, j]).mean() < 0.1, (gene, relative)


@pytest.mark.parametrize("sep", [",", "\t", " "])
@pytest.mark.parametrize("header", [None, "gene|0|1", "|0|1", "gene|a|b"])
def test_the_first_gene_of_a_file_without_a_header_is_not_lost(tmp_path: Path, sep, header):
    if sep == " " and header == "|0|1":
        return  # word2vec's "2 2" is read elsewhere
    rows = ["KLF1|1.5|0", "GATA1|2.5|1"]
    text = "\n".join(row.replace("|", sep) for row in ([header] if header else []) + rows) + "\n"
    (tmp_path / "vectors.txt").write_text(text)
    adata = data(["KLF1", "GATA1", "MYC"])
    add_gene_features(adata, tmp_path / "vectors.txt", key_added="f")
    np.testing.assert_array_equal(adata.varm["f"][:2], [[1.5, 0], [2.5, 1]])


def test_a_header_that_pandas_made_of_the_first_gene_is_named():
    table = pd.DataFrame({"KLF1": ["GATA1"], "0.25": [0.5], "-1.5": [1.0]})
    with pytest.raises(ValueError, match="first gene was probably taken for a header.*header=None"):
        add_gene_features(data(["KLF1", "GATA1"]), table, key_added="f")


def test_a_mapping_from_genes_to_vectors_is_named():
    with pytest.raises(TypeError, match="genes to numbers.*from_dict.*orient='index'"):
        add_gene_features(data(["KLF1", "GATA1"]), {"KLF1": [1.0, 2.0], "GATA1": np.ones(2)}, key_added="f")
