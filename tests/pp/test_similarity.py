"""Networks that are computed from control cells and from annotation."""

from __future__ import annotations

import gzip
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from tests.reports import reported

from scapp.pp import add_unmeasured_genes, coexpression_network, similarity_network

# As scanpy notes it, of values that do not show it.
NATURAL_LOG = {"log1p": {"base": None}}

# Co-expression


def cells(n_control: int = 200, n_perturbed: int = 50, *, seed: int = 0) -> ad.AnnData:
    """B follows A, C runs against A, D is alone, E is constant; in perturbed cells D follows A."""
    rng = np.random.default_rng(seed)
    n_cells = n_control + n_perturbed
    control = np.arange(n_cells) < n_control
    a = rng.normal(size=n_cells)
    d = np.where(control, rng.normal(size=n_cells), a)
    noise = 0.2 * rng.normal(size=(2, n_cells))
    values = np.column_stack(
        [3 + a * 0.5, 3 + (a + noise[0]) * 0.5, 3 - (a + noise[1]) * 0.5, 3 + d * 0.5, np.ones(n_cells)]
    )
    obs = pd.DataFrame({"perturbation": np.where(control, "control", "A+E")}, index=[f"c{i}" for i in range(n_cells)])
    return ad.AnnData(
        np.abs(values).astype(np.float32), obs=obs, var=pd.DataFrame(index=list("ABCDE")), uns=NATURAL_LOG
    )


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_weights_are_the_correlations_of_control_cells_with_their_sign(method, convert):
    adata = cells()
    control = adata.X[:200].astype(np.float64)
    expected = np.zeros((5, 5))
    expected[:4, :4] = (
        np.corrcoef(control[:, :4].T) if method == "pearson" else stats.spearmanr(control[:, :4]).statistic
    )
    np.fill_diagonal(expected, 0)
    expected[np.abs(expected) < 0.3] = 0
    adata.X = convert(adata.X)
    report = reported(coexpression_network, adata, method=method, min_correlation=0.3)
    np.testing.assert_allclose(adata.varp["coexpression"].toarray(), expected, atol=1e-5)
    assert adata.varp["coexpression"].dtype == np.float32
    assert report.n_edges == 3
    assert report.constant_genes == ("E",)
    assert report.isolated_perturbed_genes == ("E",)


def test_each_gene_chooses_its_nearest_and_is_chosen():
    adata = cells()
    with pytest.warns(UserWarning, match="by chance"):
        coexpression_network(adata, n_neighbors=1, min_correlation=0.0)
    network = adata.varp["coexpression"].toarray()
    assert ((network != 0).sum(axis=1)[:4] >= 1).all()
    np.testing.assert_array_equal(network, network.T)
    assert network[1, 2] == 0  # both choose A
    assert np.diag(network).sum() == 0


def test_raw_counts_are_normalised_first():
    rng = np.random.default_rng(0)
    depth = rng.lognormal(0, 1.0, size=(400, 1))
    counts = rng.poisson(depth * rng.uniform(5, 50, size=30)).astype(np.float32)
    counts[:, 0] += 1
    obs = pd.DataFrame({"perturbation": ["control"] * 400}, index=[f"c{i}" for i in range(400)])
    adata = ad.AnnData(np.zeros_like(counts), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(30)]))
    adata.layers["counts"] = sparse.csr_matrix(counts)
    # Depth alone makes every two genes correlate, if it is left in.
    coexpression_network(adata, layer="counts", min_correlation=0.2)
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    expected = np.corrcoef(logged.T)
    np.fill_diagonal(expected, 0)
    found = adata.varp["coexpression"].tocoo()
    np.testing.assert_allclose(found.data, expected[found.row, found.col], atol=1e-4)
    assert found.nnz < 30 * 29 / 4


def test_genes_that_were_not_measured_stay_alone():
    adata = add_unmeasured_genes(cells(), genes=["Z"])
    report = reported(coexpression_network, adata)
    i = adata.var_names.get_loc("Z")
    assert adata.varp["coexpression"][i].nnz == 0
    assert report.n_genes_matched == 5


def test_few_control_cells_are_refused_or_warned_of(assert_same):
    adata = cells(n_control=9)
    before = adata.copy()
    with pytest.raises(ValueError, match="Only 9 cells are labelled 'control'"):
        coexpression_network(adata)
    assert_same(adata, before)
    with pytest.warns(UserWarning, match="With 30 control cells, correlations of 0.2 occur by chance"):
        coexpression_network(cells(n_control=30))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"control": "ctl"}, "pass|Pass control='control'"),
        ({"perturbation_key": "guide"}, "no column 'guide'"),
        ({"method": "kendall"}, "'pearson' or 'spearman'"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"min_correlation": 1.0}, "No two genes correlate"),
        ({"key_added": "a/b"}, "'/'"),
        ({"layer": "none"}, "no layer 'none'"),
    ],
)
def test_bad_arguments_of_coexpression_are_explained_and_nothing_is_written(kwargs, message, assert_same):
    adata = cells()
    before = adata.copy()
    with pytest.raises(ValueError, match=message):
        coexpression_network(adata, **kwargs)
    assert_same(adata, before)


def test_views_are_refused():
    with pytest.raises(ValueError, match=r"\.copy\(\)"):
        coexpression_network(cells()[:, :3])
    with pytest.raises(ValueError, match=r"\.copy\(\)"):
        similarity_network(genes_only()[:, :3], SETS)


def test_papalexi_joins_genes_of_one_programme(shared_data, tmp_path):
    adata = ad.read_h5ad(shared_data / "papalexi_2021_counts.h5ad")
    report = reported(
        coexpression_network,
        adata,
        perturbation_key="grna_target",
        control="non-targeting",
        total_counts_key="n_umi_in_299_genes",
        n_neighbors=5,
    )
    assert report.n_edges > 10
    assert "NT" not in report.perturbed_genes_not_in_var
    adata[:10].copy().write_h5ad(tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").varp["coexpression"].nnz == 2 * report.n_edges


# Similarity of annotation


SETS = {"t1": ["A", "B"], "t2": ["A", "B", "C"], "t3": ["C", "D"], "all": ["A", "B", "C", "D", "E", "outside"]}


def genes_only(genes: str = "ABCDEF") -> ad.AnnData:
    return ad.AnnData(
        np.zeros((1, len(genes)), dtype=np.float32),
        obs=pd.DataFrame({"perturbation": ["A+F"]}, index=["0"]),
        var=pd.DataFrame(index=list(genes)),
    )


def cosine_by_hand(sets: dict[str, list[str]], genes: str) -> np.ndarray:
    everyone = {gene for members in sets.values() for gene in members}
    vectors = np.array(
        [[np.log(len(everyone) / len(members)) * (gene in members) for members in sets.values()] for gene in genes]
    )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(length > 0, length, 1)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, 0)
    return cosine


def as_table(sets: dict[str, list[str]]) -> pd.DataFrame:
    rows = [(gene, term, "IEA") for term, genes in sets.items() for gene in genes]
    return pd.DataFrame([*rows, rows[0]], columns=["symbol", "go_id", "evidence"])


@pytest.mark.parametrize("form", ["mapping", "table", "tsv", "gmt", "gmt.gz"])
def test_weights_are_the_tfidf_cosines_over_all_annotated_genes(tmp_path: Path, form):
    annotations: object = SETS
    path = tmp_path / f"sets.{form}"
    lines = "".join("\t".join([term, "a description", *genes, ""]) + "\n" for term, genes in SETS.items())
    if form == "table":
        annotations = as_table(SETS)
    elif form == "tsv":
        as_table(SETS).to_csv(path, sep="\t", index=False)
        annotations = path
    elif form == "gmt":
        path.write_text(lines)
        annotations = path
    elif form == "gmt.gz":
        with gzip.open(path, "wt") as file:
            file.write(lines)
        annotations = str(path)
    adata = genes_only()
    report = reported(similarity_network, adata, annotations)
    np.testing.assert_allclose(adata.varp["similarity"].toarray(), cosine_by_hand(SETS, "ABCDEF"), atol=1e-6)
    assert (report.n_genes_matched, report.n_names) == (5, 6)
    assert report.isolated_perturbed_genes == ("F",)


def test_neighbours_and_thresholds_prune():
    adata = genes_only()
    similarity_network(adata, SETS, n_neighbors=1)
    # A and B choose each other, C chooses D or A, D chooses C
    assert adata.varp["similarity"][0, 1] == pytest.approx(1)
    assert adata.varp["similarity"][2, 3] > 0
    similarity_network(adata, SETS, min_similarity=0.99)
    assert adata.varp["similarity"].nnz == 2


def test_terms_are_chosen_by_size():
    adata = genes_only()
    similarity_network(adata, SETS, min_genes=3, max_genes=3)
    np.testing.assert_array_equal(adata.varp["similarity"].toarray()[:3, :3], 1 - np.eye(3))
    assert adata.varp["similarity"].nnz == 6


def test_annotation_passes_to_ancestors_by_kinship_only():
    direct = {"t1": ["A"], "t2": ["B"], "t3": ["C"], "t4": ["D", "E"]}
    parents = pd.DataFrame(
        {
            "child": ["t1", "t2", "mid", "t3", "top"],
            "parent": ["mid", "mid", "top", "mid", "mid"],  # the last makes a circle
            "relationship_type": ["isa", "part of", "isa", "regulates", "isa"],
        }
    )
    adata = genes_only()
    similarity_network(adata, direct, parents=parents)
    network = adata.varp["similarity"].toarray()
    assert network[0, 1] == pytest.approx(1)  # both in mid and top
    assert network[0, 2] == network[1, 2] == 0  # t3 only regulates mid
    followed = parents.drop(columns="relationship_type")
    similarity_network(adata, direct, parents=followed)
    assert adata.varp["similarity"][0, 2] == pytest.approx(1)


def test_aliases_find_annotation():
    adata = genes_only("XBCDE")
    report = reported(similarity_network, adata, SETS, aliases={"X": "A"})
    np.testing.assert_allclose(adata.varp["similarity"].toarray(), cosine_by_hand(SETS, "ABCDE"), atol=1e-6)
    assert report.n_genes_by_alias == 1


@pytest.mark.parametrize(
    ("annotations", "kwargs", "message"),
    [
        ({}, {}, "no annotations"),
        (pd.DataFrame({"gene": ["A"]}), {}, "gene and term"),
        (pd.DataFrame({"gene": ["A", None], "term": ["t", "t"]}), {}, "1 of 2 rows have no name in column 'gene'"),
        (pd.DataFrame({"gene": ["A"], "score": [0.5]}), {}, "'score' holds numbers"),
        (SETS, {"min_genes": 50}, "min_genes=50"),
        (SETS, {"parents": pd.DataFrame({"child": ["x"], "parent": ["y"]})}, "No annotated term has a parent"),
        (SETS, {"min_similarity": 1.5}, "No two of the 5 annotated genes"),
        ({"t": ["a", "b"]}, {}, "upper and lower case"),
        ({"t": ["X1", "X2"]}, {}, "Only 0 of the 6 genes"),
        ("absent.gmt", {}, "no file"),
    ],
)
def test_bad_annotations_are_explained_and_nothing_is_written(annotations, kwargs, message, assert_same):
    adata = genes_only()
    before = adata.copy()
    with pytest.raises(ValueError, match=message):
        similarity_network(adata, annotations, **kwargs)
    assert_same(adata, before)


def test_text_instead_of_a_list_of_genes_is_a_type_error():
    with pytest.raises(TypeError, match="list of genes"):
        similarity_network(genes_only(), {"t": "ABC"})
    with pytest.raises(TypeError, match="found list"):
        similarity_network(genes_only(), ["t"])


@pytest.mark.parametrize(("text", "message"), [("t\td\tA\nt\td\tB\n", "occurs twice"), ("t\td\tA\nalone\n", "Line 2")])
def test_a_broken_gmt_file_is_explained(tmp_path: Path, text, message):
    (tmp_path / "sets.gmt").write_text(text)
    with pytest.raises(ValueError, match=message):
        similarity_network(genes_only(), tmp_path / "sets.gmt")


def test_weights_of_enrichr_are_no_part_of_the_gene(tmp_path: Path):
    (tmp_path / "sets.gmt").write_text("t1\t\tA,1.0\tB,0.5\nt2\t\tC,1.0\tD,1.0\n")
    adata = genes_only()
    similarity_network(adata, tmp_path / "sets.gmt")
    assert adata.varp["similarity"].nnz == 4


def test_gene_ontology_joins_genes_known_to_be_alike(shared_data):
    networks = shared_data / "networks"
    adata = add_unmeasured_genes(ad.read_h5ad(shared_data / "norman_2019_effects.h5ad"))
    report = reported(
        similarity_network,
        adata,
        networks / "gene2go_human_2022-09.tsv.gz",
        parents=networks / "go_dag_parents.tsv.gz",
        aliases=networks / "gene_aliases.tsv.gz",
    )
    assert report.n_names == 20_728
    assert set(report.isolated_perturbed_genes) <= {"C19orf26", "IER5L", "KIAA1804", "RHOXF2"}
    network = adata.varp["similarity"]
    assert (network != network.T).nnz == 0
    # members of one family, far from each other in the genome or not
    for gene, sibling in (("CDKN1A", "CDKN1B"), ("CEBPA", "CEBPB"), ("HOXB9", "HOXB6"), ("MAP2K6", "MAP2K3")):
        i, j = adata.var_names.get_indexer([gene, sibling])
        assert network[i, j] > np.median(network.data), (gene, sibling)


def test_reactome_is_read(shared_data):
    adata = add_unmeasured_genes(ad.read_h5ad(shared_data / "norman_2019_effects.h5ad"))
    report = reported(
        similarity_network, adata, shared_data / "networks" / "reactome_2024-04.gmt.gz", key_added="reactome"
    )
    assert report.n_genes_matched > 900
    assert adata.varp["reactome"].nnz > 10_000
