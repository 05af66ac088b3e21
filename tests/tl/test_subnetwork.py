"""Paths in the network from perturbed genes to those attended to and changed."""

from __future__ import annotations

import itertools

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import scapp
from scapp.tl._subnetwork import join_networks, path_costs, shortest_paths, trace


@pytest.fixture
def adata(predicted) -> ad.AnnData:
    """HLA/A -> T1 -> T2 -> T3 with strong edges, HLA/A -> T3 with a weak one; KLF1 -> HUB; T4 is not reached."""
    edges = pd.DataFrame(
        [("HLA/A", "T1", 1.0), ("T1", "T2", 0.9), ("T2", "T3", 0.9), ("HLA/A", "T3", 0.1), ("KLF1", "HUB", -0.5)],
        columns=["source", "target", "weight"],
    )
    scapp.pp.add_network(predicted, edges, directed=True, perturbation_key=None)
    return predicted


def options(**others: object) -> dict:
    return {"n_attended": 8, "n_changed": 0, **others}


def test_path_is_the_largest_product_of_weights_or_the_fewest_edges(adata):
    by_weight = scapp.tl.attention_subnetwork(adata, "HLA/A", **options())
    assert nx.shortest_path(by_weight, "HLA/A", "T3") == ["HLA/A", "T1", "T2", "T3"]
    paths = adata.uns["attention_subnetwork"]["paths"]
    to_t3 = paths[paths["gene"] == "T3"]
    assert to_t3["source"].tolist() == ["HLA/A", "T1", "T2"]
    assert to_t3["step"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(to_t3["path_strength"], 0.81, rtol=1e-6)
    by_hops = scapp.tl.attention_subnetwork(adata, "HLA/A", **options(by="hops"))
    assert nx.shortest_path(by_hops, "HLA/A", "T3") == ["HLA/A", "T3"]


def test_a_limit_of_edges_takes_the_best_path_within_it(adata):
    graph = scapp.tl.attention_subnetwork(adata, "HLA/A", **options(max_length=2))
    assert nx.shortest_path(graph, "HLA/A", "T3") == ["HLA/A", "T3"]  # Dijkstra's path of three would be cheaper


def test_genes_without_a_path_are_reported_and_kept(adata, caplog):
    graph = scapp.tl.attention_subnetwork(adata, "HLA/A", **options())
    assert graph.nodes["T4"]["step"] == -1
    assert graph.degree("T4") == 0
    row = adata.uns["attention_subnetwork"]["paths"].query("gene == 'T4'")
    assert row[["reached", "step", "source"]].values.tolist() == [[False, 0, ""]]
    assert "no path of at most 3 edges" in caplog.text
    assert "T4" in caplog.text


def test_nodes_say_why_they_are_there(adata):
    graph = scapp.tl.attention_subnetwork(adata, "KLF1+HLA/A", n_attended=1, n_changed=2)
    assert graph.graph["perturbation"] == "HLA/A+KLF1"
    row = adata.obs_names.get_loc("HLA/A+KLF1")
    attention = pd.Series(adata.layers["attention"][row], index=adata.var_names)
    lfc = pd.Series(adata.layers["predicted_lfc"][row], index=adata.var_names)
    others = adata.var_names.drop(["HLA/A", "KLF1"])
    changed = set(lfc[others].abs().nlargest(2).index)
    for gene, node in graph.nodes(data=True):
        np.testing.assert_allclose(node["attention"], attention[gene])
        np.testing.assert_allclose(node["predicted_lfc"], lfc[gene])
        assert node["perturbed"] == (gene in ("HLA/A", "KLF1"))
        assert ("changed" in node["role"]) == (gene in changed)
        assert ("attended" in node["role"]) == (gene == "HUB")
    edge = graph.edges["KLF1", "HUB"]
    assert (edge["weight"], edge["strength"], edge["network"]) == (-0.5, 0.5, "network")
    assert graph.nodes["HUB"]["step"] == 1


def test_several_networks_take_the_relatively_strongest_edge(adata):
    other = sparse.lil_matrix(adata.varp["network"].shape)
    i = adata.var_names.get_indexer(["HLA/A", "T3", "KLF1", "T4"])
    other[i[0], i[1]], other[i[2], i[3]] = 100, 50
    adata.varp["second"] = other.tocsr()
    graph = scapp.tl.attention_subnetwork(
        adata, "HLA/A+KLF1", network_key=["network", "second"], **options(max_length=1)
    )
    assert graph.edges["HLA/A", "T3"]["network"] == "second"
    assert graph.edges["HLA/A", "T3"]["strength"] == 1
    assert graph.edges["KLF1", "T4"]["strength"] == 0.5
    assert graph.edges["HLA/A", "T1"]["network"] == "network"
    networks = {"network": adata.varp["network"], "second": adata.varp["second"]}
    del adata.varp["network"], adata.varp["second"]
    given_by_name = scapp.tl.attention_subnetwork(adata, "HLA/A+KLF1", network=networks, **options(max_length=1))
    assert dict(graph.edges) == dict(given_by_name.edges)
    assert list(graph) == list(given_by_name)


def test_cells_and_predictions_say_the_same(adata, cells):
    graph = scapp.tl.attention_subnetwork(adata, "HLA/A", **options())
    from_cells = scapp.tl.attention_subnetwork(cells, "HLA/A", network=adata.varp["network"], **options())
    assert set(graph.edges) == set(from_cells.edges)
    np.testing.assert_allclose(
        [graph.nodes[g]["attention"] for g in graph], [from_cells.nodes[g]["attention"] for g in graph]
    )


def test_tables_survive_h5ad_and_keep_other_perturbations(adata, tmp_path, assert_same):
    for label in ("HLA/A", "HLA/A+KLF1", "HLA/A"):
        graph = scapp.tl.attention_subnetwork(adata, label, **options())
    tables = adata.uns["attention_subnetwork"]
    assert tables["paths"]["perturbation"].unique().tolist() == ["HLA/A+KLF1", "HLA/A"]
    assert not tables["genes"][["perturbation", "gene"]].duplicated().any()
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad").uns["attention_subnetwork"]
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again[name], table, check_dtype=False, check_categorical=False)
    assert len(again["genes"].query("perturbation == 'HLA/A'")) == graph.number_of_nodes()


def test_nothing_is_written_without_key_or_after_an_error(adata, assert_same):
    before = adata.copy()
    scapp.tl.attention_subnetwork(adata, "KLF1", key_added=None, **options())
    with pytest.raises(ValueError, match="'KLF2'.*Did you mean 'KLF1'.*model.predict"):
        scapp.tl.attention_subnetwork(adata, "KLF2")
    with pytest.raises(ValueError, match="no network 'string'; it has 'network'.*network=model.network"):
        scapp.tl.attention_subnetwork(adata, "KLF1", network_key="string")
    with pytest.raises(ValueError, match=r"shape \(3, 3\), expected \(9, 9\)"):
        scapp.tl.attention_subnetwork(adata, "KLF1", network=sparse.eye(3, format="csr"))
    with pytest.raises(ValueError, match="found the control"):
        scapp.tl.attention_subnetwork(adata, "control")
    with pytest.raises(ValueError, match="max_length"):
        scapp.tl.attention_subnetwork(adata, "KLF1", max_length=0)
    with pytest.raises(ValueError, match="not both 0"):
        scapp.tl.attention_subnetwork(adata, "KLF1", n_attended=0, n_changed=0)
    with pytest.raises(ValueError, match="'weight' or 'hops'"):
        scapp.tl.attention_subnetwork(adata, "KLF1", by="length")
    assert_same(adata, before)
    del adata.layers["attention"]
    with pytest.raises(ValueError, match="no layer 'attention'.*APP.predict"):
        scapp.tl.attention_subnetwork(adata, "KLF1")


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from(["weight", "hops"]))
def test_costs_are_those_of_all_short_paths(seed, max_length, by):
    rng = np.random.default_rng(seed)
    matrix = np.where(rng.random((6, 6)) < 0.35, rng.integers(1, 5, (6, 6)) / 4, 0)
    np.fill_diagonal(matrix, 0)
    edges = join_networks({"a": sparse.csr_matrix(matrix)})
    cost = path_costs(edges, by)
    found, last = shortest_paths(edges, cost, np.array([0]), 6, max_length)
    of = {(s, t): c for s, t, c in zip(edges.source, edges.target, cost, strict=True)}
    for node in range(1, 6):
        others = [k for k in range(1, 6) if k != node]
        walks = [(0, *between, node) for n in range(max_length) for between in itertools.permutations(others, n)]
        steps = [list(itertools.pairwise(walk)) for walk in walks]
        lengths = [sum(of[step] for step in walk) for walk in steps if all(step in of for step in walk)]
        np.testing.assert_allclose(found[node], min(lengths, default=np.inf), atol=1e-12)
        if lengths:
            path = trace(node, last, edges.source)
            assert len(path) <= max_length
            assert edges.source[path[0]] == 0
            assert edges.target[path[-1]] == node
            np.testing.assert_allclose(cost[path].sum(), found[node], atol=1e-12)


def test_a_mapping_without_networks_is_named(adata):
    with pytest.raises(ValueError, match="network={} names no network.*model.network"):
        scapp.tl.attention_subnetwork(adata, adata.obs_names[0], network={})
