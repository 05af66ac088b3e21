"""Damaged networks: the graph functions, what damage reaches, and APP on them; the methods of the page."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
from benchmarks.paper.damage import Damage, DamagedApp, add_random_edges, remove_edges, rewire
from benchmarks.paper.damage import damaged as damaged_of
from benchmarks.paper.methods import DAMAGES, PAPER_ABLATIONS, AttendingApp, page_methods
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from tests.random_networks import build, edge_lists, random_network

from scapp import benchmark, graph
from scapp.benchmark import AppMethod
from scapp.benchmark._methods import choose


@pytest.mark.parametrize(
    "damage",
    [rewire, lambda a: remove_edges(a, 0.5), lambda a: add_random_edges(a, 0.5)],
    ids=["rewire", "remove", "add"],
)
def test_no_function_changes_its_argument(damage):
    adjacency = random_network(directed=False)
    before = adjacency.toarray().copy()
    damage(adjacency)
    np.testing.assert_array_equal(adjacency.toarray(), before)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_removing_takes_the_stated_share_and_changes_no_other_edge(directed, seed):
    adjacency = random_network(directed=directed)
    n_edges = adjacency.nnz if directed else sparse.triu(adjacency).nnz
    dense = adjacency.toarray()
    less = remove_edges(adjacency, 0.25, seed=seed).toarray()
    kept = less != 0
    np.testing.assert_array_equal(less[kept], dense[kept])
    assert graph.is_symmetric(sparse.csr_matrix(less)) is not directed
    left = kept.sum() if directed else np.triu(kept).sum()
    assert left == n_edges - round(0.25 * n_edges)
    further = remove_edges(adjacency, 0.5, seed=seed).toarray() != 0
    assert not (further & ~kept).any()
    assert remove_edges(adjacency, 1).nnz == 0


@pytest.mark.parametrize("n_nodes", [30, 1100])
@pytest.mark.parametrize("directed", [True, False])
def test_adding_joins_the_stated_number_of_pairs_that_were_apart(directed, n_nodes):
    small = random_network(directed=directed)
    adjacency = sparse.csr_matrix(
        (small.data, small.indices, np.r_[small.indptr, np.full(n_nodes - 30, small.nnz)]), shape=(n_nodes, n_nodes)
    )
    n_edges = adjacency.nnz if directed else sparse.triu(adjacency).nnz
    more = add_random_edges(adjacency, 0.5, seed=3)
    added = more - adjacency
    added.eliminate_zeros()
    assert added.diagonal().sum() == 0
    assert adjacency.multiply(added).nnz == 0
    assert (added.nnz if directed else added.nnz / 2) == round(0.5 * n_edges)
    assert graph.is_symmetric(more) is not directed
    assert np.isin(added.data, adjacency.data).all()
    fewer = add_random_edges(adjacency, 0.25, seed=3)
    assert fewer.multiply(more != 0).nnz == fewer.nnz


def test_adding_more_than_there_is_room_for_is_an_error():
    full = graph.edges_to_csr([0, 0], [1, 2], n_nodes=3, directed=False)
    assert add_random_edges(full, 0.5).nnz == 6
    with pytest.raises(ValueError, match="only 1 pairs"):
        add_random_edges(full, 1.0)


@given(edge_lists, st.integers(0, 2**31), st.booleans())
def test_rewiring_keeps_degrees_weights_self_loops_and_symmetry(edges, seed, directed):
    adjacency = build(edges, directed=directed)
    shuffled = rewire(adjacency, seed=seed)
    before, after = adjacency.toarray() != 0, shuffled.toarray() != 0
    np.testing.assert_array_equal(before.sum(axis=0), after.sum(axis=0))
    np.testing.assert_array_equal(before.sum(axis=1), after.sum(axis=1))
    np.testing.assert_array_equal(adjacency.diagonal(), shuffled.diagonal())
    np.testing.assert_array_equal(np.sort(adjacency.data), np.sort(shuffled.data))
    if not directed:
        assert graph.is_symmetric(shuffled)


@pytest.mark.parametrize("directed", [True, False])
def test_rewiring_moves_most_edges_and_its_seed_decides_where(directed):
    adjacency = random_network(60, directed=directed)
    shuffled = rewire(adjacency, seed=1)
    assert adjacency.multiply(shuffled != 0).nnz < 0.5 * adjacency.nnz
    assert (shuffled != rewire(adjacency, seed=1)).nnz == 0
    assert (shuffled != rewire(adjacency, seed=2)).nnz > 0


@pytest.mark.parametrize("function", [remove_edges, add_random_edges])
def test_no_damage_leaves_the_network_as_it_is(function):
    adjacency = random_network(directed=False)
    assert (function(adjacency, 0.0) != adjacency).nnz == 0
    with pytest.raises(ValueError, match="fraction"):
        function(adjacency, -0.1)


@pytest.fixture
def edges():
    rng = np.random.default_rng(0)
    pairs = {tuple(sorted(rng.choice(40, 2, replace=False))) for _ in range(200)}
    return pd.DataFrame(
        {
            "source": [f"G{a}" for a, _ in pairs],
            "target": [f"G{b}" for _, b in pairs],
            "weight": rng.uniform(0.1, 1, len(pairs)),
        }
    )


def ends(table):
    return {frozenset(pair) for pair in zip(table["source"], table["target"], strict=True)}


def degrees(table):
    return pd.concat([table["source"], table["target"]]).value_counts().sort_index()


def test_removed_edges_are_a_share_and_the_rest_keeps_its_weights(edges):
    damaged = Damage("remove", 0.25).apply(edges, directed=False)
    assert len(damaged) == len(edges) - round(0.25 * len(edges))
    assert ends(damaged) < ends(edges)
    weight = {frozenset(row[:2]): row[2] for row in edges.itertuples(index=False)}
    assert all(weight[frozenset(row[:2])] == pytest.approx(row[2]) for row in damaged.itertuples(index=False))


def test_added_edges_are_a_share_and_all_true_ones_stay(edges):
    damaged = Damage("add", 0.1).apply(edges, directed=False)
    assert ends(damaged) > ends(edges)
    assert len(damaged) == len(edges) + round(0.1 * len(edges))


def test_rewired_edges_are_others_and_degrees_stay(edges):
    damaged = Damage("rewire").apply(edges, directed=False)
    assert degrees(damaged).equals(degrees(edges))
    assert len(ends(damaged) & ends(edges)) < 0.5 * len(edges)


def test_directed_edges_keep_their_direction(edges):
    damaged = Damage("remove", 0.5).apply(edges, directed=True)
    kept = set(zip(damaged["source"], damaged["target"], strict=True))
    assert kept < set(zip(edges["source"], edges["target"], strict=True))


def test_unknown_damage_is_refused():
    with pytest.raises(ValueError, match="'remove', 'add' or 'rewire', found 'break'"):
        Damage("break")


def test_damage_reaches_the_network_and_the_features_that_come_from_it_and_no_others(simulated, true_network):
    genes = sorted({*true_network["source"], *true_network["target"]})
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(len(genes), 3)), index=genes)
    features = {"walks": {"features": "network", "n_components": 4}, "given": {"features": table}}
    task = benchmark.unseen_singles(simulated[0], network=true_network, gene_features=features, n_splits=1)
    assert task.gene_features_key == ("walks", "given")
    damaged_task = damaged_of(task, Damage("remove", 0.5))
    whole, damaged = task.inputs(), damaged_task.inputs()
    assert damaged.varp["network"].nnz == pytest.approx(whole.varp["network"].nnz / 2, rel=0.1)
    assert not np.allclose(np.nan_to_num(whole.varm["walks"]), np.nan_to_num(damaged.varm["walks"]))
    np.testing.assert_array_equal(whole.varm["given"], damaged.varm["given"])
    assert damaged_of(task, Damage("remove", 0.5)).inputs() is damaged


def test_a_directed_network_stays_directed_when_damaged(simulated, true_network):
    directed = true_network.rename(columns={"source": "regulator"})
    task = benchmark.unseen_singles(simulated[0], network=directed, n_splits=1)
    for made in (task, damaged_of(task, Damage("remove", 0.1)), damaged_of(task, Damage("rewire"))):
        matrix = made.inputs().varp["network"]
        assert abs(matrix - matrix.T).nnz > 0


def test_an_edge_that_is_removed_is_removed_from_all_channels(simulated, true_network):
    table = true_network.assign(
        seen=true_network["weight"].abs(), told=np.where(np.arange(len(true_network)) % 2, 0.5, 0)
    )
    task = benchmark.unseen_singles(
        simulated[0], sources=benchmark.Sources(table, channels=("seen", "told")), n_splits=1
    )
    whole, damaged = task.inputs(), damaged_of(task, Damage("remove", 0.5)).inputs()
    for channel in ("seen", "told"):
        assert damaged.varp[channel].nnz == pytest.approx(whole.varp[channel].nnz / 2, rel=0.2)
        left = damaged.varp[channel].astype(bool) > damaged.varp["network"].astype(bool)
        assert left.nnz == 0  # nothing in a channel that is not in the whole


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_network_changes_what_app_predicts(unseen):
    split = unseen.splits[0]
    whole = AppMethod("APP", "app")
    damaged = DamagedApp("rewired", "network", damage=DAMAGES["APP, edges rewired"])
    assert not np.allclose(whole.predict(unseen, split).lfc, damaged.predict(unseen, split).lfc, atol=1e-3)


def test_options_of_the_paper_form_are_options_that_app_has():
    from scapp.model import APP

    known = set(inspect.signature(APP).parameters)
    for options in PAPER_ABLATIONS.values():
        assert set(options) <= known


def test_methods_of_the_page_apply_differ_and_can_be_handed_to_another_process(doubles):
    methods = choose(page_methods())
    assert {method.group for method in methods} == {"baseline", "app", "ablation", "paper", "network"}
    assert all(method.applies(doubles) for method in methods)
    assert len({method.fingerprint() for method in methods}) == len(methods)
    for method in methods:
        assert pickle.loads(pickle.dumps(method)).fingerprint() == method.fingerprint()


@pytest.mark.filterwarnings("ignore")
def test_app_leaves_its_attention(doubles, tmp_path):
    singles = [label for label in doubles.split(0).train if "+" not in label]
    failed = benchmark.run(doubles, [AttendingApp("APP", "app")], folder=tmp_path, seeds=[0], progress_bar=False)
    assert failed == []
    with np.load(tmp_path / "predictions/doubles/app/0.npz", allow_pickle=False) as file:
        assert file["attention_genes"].shape == file["attention_scores"].shape == (10, 20)
        assert (np.diff(file["attention_scores"], axis=1) <= 0).all()
        sizes = np.linalg.norm(doubles.effects[list(singles)].layers["lfc"], axis=1)
        assert str(file["single"]) == singles[sizes.argmax()]
        assert file["single_genes"].shape == file["single_scores"].shape == (20,)
        assert str(file["single"]) in file["single_genes"]
