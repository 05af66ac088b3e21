"""Graph functions against closed forms, dense calculations and invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from scipy import sparse
from tests.random_networks import N_NODES, build, edge_lists, random_network

from scapp import graph


def is_canonical(matrix: sparse.csr_matrix) -> bool:
    return matrix.has_sorted_indices and matrix.has_canonical_format and (matrix.data != 0).all()


# Building


def test_source_is_the_row_and_target_the_column():
    adjacency = graph.edges_to_csr([0], [2], [0.5], n_nodes=3)
    assert adjacency.dtype == np.float32
    np.testing.assert_array_equal(adjacency.toarray(), [[0, 0, 0.5], [0, 0, 0], [0, 0, 0]])


def test_edges_without_weights_weigh_one():
    assert graph.edges_to_csr([0], [1], n_nodes=2)[0, 1] == 1


@given(edge_lists)
def test_duplicates_agree_with_a_dictionary_whatever_their_order(edges):
    listed: dict[tuple[int, int], list[float]] = {}
    for source, target, weight in edges:
        listed.setdefault((source, target), []).append(weight)
    merge = {
        "sum": sum,
        "mean": lambda w: sum(w) / len(w),
        "max": lambda w: max(w, key=lambda x: (abs(x), x)),
    }
    for how, function in merge.items():
        expected = np.zeros((N_NODES, N_NODES), dtype=np.float32)
        for place, found in listed.items():
            expected[place] = function(found)
        for order in (edges, edges[::-1]):
            adjacency = build(order, duplicates=how)
            np.testing.assert_allclose(adjacency.toarray(), expected, atol=1e-6)
            assert is_canonical(adjacency)


@given(edge_lists)
def test_an_undirected_network_is_symmetric_and_the_same_if_each_edge_is_listed_both_ways(edges):
    adjacency = build(edges, directed=False)
    assert (adjacency != adjacency.T).nnz == 0
    assert graph.is_symmetric(adjacency)
    both = edges + [(target, source, weight) for source, target, weight in edges]
    np.testing.assert_array_equal(adjacency.toarray(), build(both, directed=False).toarray())


def test_repeated_edges_are_an_error_if_asked_for():
    with pytest.raises(ValueError, match=r"1 edges are listed more than once.*\(0, 1\)"):
        graph.edges_to_csr([0, 0, 1], [1, 1, 0], n_nodes=2, duplicates="error")
    assert graph.edges_to_csr([0, 1], [1, 0], n_nodes=2, duplicates="error", directed=False).nnz == 2


@pytest.mark.parametrize(
    ("source", "target", "weight", "message"),
    [
        ([0], [1, 2], None, "one source, target and weight each"),
        ([0], [3], None, "0 to 2"),
        ([-1], [1], None, "0 to 2"),
        ([0], [1], [np.nan], "NaN or infinite"),
        ([0], [1], [np.inf], "NaN or infinite"),
    ],
)
def test_impossible_edges_are_refused(source, target, weight, message):
    with pytest.raises(ValueError, match=message):
        graph.edges_to_csr(source, target, weight, n_nodes=3)


@given(edge_lists)
def test_the_edge_index_holds_the_whole_network(edges):
    adjacency = build(edges)
    index, values = graph.csr_to_edge_index(adjacency)
    assert index.shape == (2, adjacency.nnz)
    assert index.dtype == np.int64
    np.testing.assert_array_equal(
        graph.edges_to_csr(index[0], index[1], values, n_nodes=N_NODES).toarray(), adjacency.toarray()
    )


def test_symmetrize_keeps_the_larger_magnitude_with_its_sign():
    adjacency = sparse.csr_matrix(np.array([[2, -3, 0], [1, 0, 0], [0, 5, 0]], dtype=np.float32))
    np.testing.assert_array_equal(graph.symmetrize(adjacency).toarray(), [[2, -3, 0], [-3, 0, 5], [0, 5, 0]])


def test_no_function_changes_its_argument():
    adjacency = random_network(directed=False)
    before = adjacency.toarray().copy()
    for function in (
        graph.symmetrize,
        graph.scale_weights,
        graph.normalize,
        graph.diffusion,
        lambda a: graph.top_k(a, 2),
    ):
        function(adjacency)
        np.testing.assert_array_equal(adjacency.toarray(), before)


def test_scaled_weights_reach_one_and_keep_their_sign():
    adjacency = sparse.csr_matrix(np.array([[0, -4], [2, 0]]))
    np.testing.assert_allclose(graph.scale_weights(adjacency).toarray(), np.array([[0, -1], [0.5, 0]]))


# Pruning and normalising


@pytest.mark.parametrize(("by", "axis"), [("source", 1), ("target", 0)])
def test_top_k_keeps_the_strongest_of_each_node(by, axis):
    dense = random_network(directed=True).toarray()
    magnitude = np.abs(dense)
    kth = -np.sort(-magnitude, axis=axis).take([2], axis=axis)
    expected = np.where((magnitude >= kth) & (magnitude > 0), dense, 0)
    np.testing.assert_array_equal(graph.top_k(sparse.csr_matrix(dense), 3, by=by).toarray(), expected)


def test_top_k_of_either_end_stays_symmetric_and_leaves_no_node_without_its_best():
    adjacency = random_network(directed=False)
    adjacency.setdiag(0)
    adjacency.eliminate_zeros()
    pruned = graph.top_k(adjacency, 1)
    assert (pruned != pruned.T).nnz == 0
    assert pruned.nnz < adjacency.nnz
    best = np.abs(adjacency.toarray()).max(axis=1)
    np.testing.assert_array_equal(np.abs(pruned.toarray()).max(axis=1), best)


def test_top_k_breaks_ties_by_order():
    star = graph.edges_to_csr([0, 0, 0], [3, 1, 2], n_nodes=4)
    np.testing.assert_array_equal(graph.top_k(star, 2, by="source").toarray()[0], [0, 1, 1, 0])


@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_top_k_refuses_what_is_no_number_of_edges(k):
    with pytest.raises(ValueError, match="positive whole number"):
        graph.top_k(random_network(directed=True), k)


def test_normalised_magnitudes_sum_to_one_and_signs_stay():
    adjacency = random_network(directed=True)
    dense = adjacency.toarray()
    for normalised, axis in (
        (graph.normalize(adjacency, "row").toarray(), 1),
        (graph.normalize(adjacency, "column").toarray(), 0),
    ):
        sums = np.abs(normalised).sum(axis=axis)
        np.testing.assert_allclose(sums, (np.abs(dense).sum(axis=axis) > 0).astype(float), rtol=1e-5)
        np.testing.assert_array_equal(np.sign(normalised), np.sign(dense))


def test_symmetric_normalisation_agrees_with_the_dense_formula_and_leaves_isolated_nodes_empty():
    adjacency = random_network(directed=False).toarray()
    adjacency[3], adjacency[:, 3] = 0, 0
    degree = np.abs(adjacency).sum(axis=1)
    degree[degree == 0] = 1
    expected = adjacency / np.sqrt(np.outer(degree, degree))
    found = graph.normalize(sparse.csr_matrix(adjacency), "sym").toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.isfinite(found).all()


# Diffusion


def dense_diffusion(adjacency: sparse.csr_matrix, restart: float, normalization: str) -> np.ndarray:
    a = np.abs(adjacency.toarray()).astype(np.float64)
    a[np.diag_indices_from(a)] += a.sum(axis=1) == 0
    out, into = a.sum(axis=1), a.sum(axis=0)
    w = a / out[:, None] if normalization == "row" else a / np.sqrt(np.outer(out, np.where(into > 0, into, 1)))
    return restart * np.linalg.inv(np.eye(len(a)) - (1 - restart) * w)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("normalization", ["row", "sym"])
@pytest.mark.parametrize("restart", [0.2, 0.5, 1.0])
def test_diffusion_agrees_with_the_inverse(directed, normalization, restart):
    adjacency = random_network(directed=directed)
    expected = dense_diffusion(adjacency, restart, normalization)
    found = graph.diffusion(adjacency, restart=restart, normalization=normalization, chunk_size=7)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(
        graph.diffusion(adjacency, [4, 2], restart=restart, normalization=normalization), expected[[4, 2]], atol=1e-6
    )


def test_diffusion_on_two_joined_nodes_has_its_closed_form():
    pair = graph.edges_to_csr([0], [1], n_nodes=2, directed=False)
    # r sum (1 - r)^2k to stay, r sum (1 - r)^(2k + 1) to cross
    np.testing.assert_allclose(graph.diffusion(pair, restart=0.5), [[2 / 3, 1 / 3], [1 / 3, 2 / 3]], atol=1e-6)


def test_a_walk_never_loses_mass_not_even_at_dead_ends_or_isolated_nodes():
    chain = graph.edges_to_csr([0, 1], [1, 2], n_nodes=4)
    found = graph.diffusion(chain, restart=0.5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[0], [0.5, 0.25, 0.25, 0], atol=1e-6)
    np.testing.assert_allclose(found[3], [0, 0, 0, 1], atol=1e-6)


def test_sparse_diffusion_is_the_dense_one_without_its_small_entries():
    adjacency = random_network(directed=True)
    dense = graph.diffusion(adjacency)
    found = graph.diffusion(adjacency, min_value=0.01)
    assert isinstance(found, sparse.csr_matrix)
    assert found.nnz < adjacency.shape[0] ** 2
    np.testing.assert_array_equal(found.toarray(), np.where(dense >= 0.01, dense, 0))


@pytest.mark.parametrize("restart", [0, -0.1, 1.1])
def test_restart_must_be_a_probability(restart):
    with pytest.raises(ValueError, match="restart"):
        graph.diffusion(random_network(directed=True), restart=restart)


@pytest.mark.parametrize("n_components", [3, 30])
def test_the_diffusion_embedding_is_the_truncated_svd_of_the_dense_profiles(n_components):
    adjacency = random_network(directed=False, density=0.4)  # connected: the leading eigenvector is unique
    profiles = dense_diffusion(adjacency, 0.3, "sym")
    vectors, values, transposed = np.linalg.svd(profiles)
    best = (vectors[:, :n_components] * values[:n_components] ** 2) @ vectors[:, :n_components].T
    found = graph.diffusion_embedding(adjacency, n_components, restart=0.3)
    assert found.shape == (30, n_components)
    np.testing.assert_allclose(found @ found.T, best, atol=1e-5)
    np.testing.assert_array_equal(found, graph.diffusion_embedding(adjacency, n_components, restart=0.3))


def test_the_diffusion_embedding_refuses_a_directed_network():
    with pytest.raises(ValueError, match="symmetric"):
        graph.diffusion_embedding(random_network(directed=True))


def test_tf_idf_agrees_with_the_formula_by_hand():
    membership = sparse.csr_matrix([[1, 1, 0, 1], [1, 0, 5, 1], [1, 0, 0, 0]])  # all have term 0, two have term 3
    rare, common = np.log(3), np.log(3 / 2)
    length = np.hypot(rare, common)
    expected = np.array([[0, rare, 0, common], [0, 0, rare, common], [0, 0, 0, 0]]) / length
    np.testing.assert_allclose(graph.tf_idf(membership).toarray(), expected)


@pytest.mark.parametrize("n_components", [4, 20])
def test_truncated_svd_agrees_with_the_dense_one_on_both_sides_of_its_switch(n_components):
    matrix = sparse.random(40, 25, density=0.3, random_state=0, format="csr")
    vectors, values, _ = np.linalg.svd(matrix.toarray(), full_matrices=False)
    expected = vectors[:, :n_components] * values[:n_components]
    found = graph.truncated_svd(matrix, n_components)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    assert (found[np.abs(found).argmax(axis=0), range(n_components)] > 0).all()


# Nearest neighbours


@pytest.mark.parametrize("chunk_size", [3, 100])
def test_nearest_neighbors_are_those_of_the_whole_table(chunk_size):
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(20, 20))
    similarity += similarity.T
    expected = np.zeros((20, 20))
    for i in range(20):
        row = np.abs(similarity[i]) * (np.arange(20) != i)
        chosen = np.argsort(-row)[:4]
        chosen = chosen[row[chosen] >= 1.0]
        expected[i, chosen] = similarity[i, chosen]
        expected[chosen, i] = similarity[i, chosen]
    found = graph.nearest_neighbors(
        lambda part: similarity[part], 20, n_neighbors=4, min_similarity=1.0, chunk_size=chunk_size
    )
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6)


def test_of_equally_near_neighbors_the_first_are_chosen_and_a_lonely_node_has_none():
    similarity = np.ones((5, 5))
    found = graph.nearest_neighbors(lambda part: similarity[part], 5, n_neighbors=1)
    np.testing.assert_array_equal(found.toarray()[0], [0, 1, 1, 1, 1])
    assert found.nnz == 8
    assert graph.nearest_neighbors(lambda part: similarity[part, :1], 1, n_neighbors=1).nnz == 0


def test_a_matrix_that_is_not_square_is_no_network():
    with pytest.raises(ValueError, match="square"):
        graph.symmetrize(sparse.csr_matrix((2, 3)))


def test_the_hellinger_embedding_holds_the_bhattacharyya_coefficients_of_the_walks():
    adjacency = random_network(directed=False)
    found = graph.hellinger_embedding(adjacency, adjacency.shape[0], restart=0.4)
    roots = np.sqrt(graph.diffusion(adjacency, restart=0.4))
    np.testing.assert_allclose(found @ found.T, roots @ roots.T, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(found, graph.hellinger_embedding(adjacency, adjacency.shape[0], restart=0.4))
