"""The attention over measured perturbations: masked in training, and on the true neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.module.conftest import N_NODES, fit, make_screen

from scapp.module import APPModule, Evidence, Wanted
from scapp.module._attention import _Attended


def test_a_perturbation_never_sees_itself_in_training(screen):
    """Its own effect cannot leak: with programs and centre held, changing it does not move its left-out prediction."""
    module = APPModule(screen.inputs)
    module.set_effects(screen.lfc)
    module.prepare()
    attention = module.attention
    before = attention._masked_states(attention.queries).detach().clone()
    for values in attention._known:
        values[5, :-1] += 100.0
    after = attention._masked_states(attention.queries).detach()
    torch.testing.assert_close(after[5], before[5])
    assert not torch.allclose(after[9], before[9])  # of the same module


def test_a_single_never_sees_the_combinations_of_its_gene_in_training(pairs):
    module = APPModule(pairs.inputs)
    module.set_effects(pairs.lfc)
    module.prepare()
    attention = module.attention
    holds = np.array([5 in genes for genes in pairs.inputs.perturbations])
    assert holds.sum() > 1
    assert attention.queries.hidden[5].numpy().tolist() == holds.tolist()


def test_attention_lies_on_true_neighbours(singles_module):
    asked = [(g,) for g in range(32, 48)]
    found = singles_module.predict(asked, Wanted(std=False))
    same = np.array([[g % 4 == i % 4 for i in range(32)] for (g,) in asked])
    inside = (found.to_perturbations.numpy() * same).sum(1)
    assert (inside > 0.8 * found.to_perturbations.numpy().sum(1)).all()
    np.testing.assert_allclose(found.to_perturbations.sum(1) + found.to_mean, 1, atol=1e-9)


def test_a_measured_gene_attends_to_itself_first(singles_module):
    found = singles_module.predict([(3,), (10,)], Wanted(std=False)).to_perturbations
    assert found[0].argmax() == 3
    assert found[1].argmax() == 10


def test_attention_to_genes_sums_to_one_and_holds_the_perturbed_genes(singles_module):
    found = singles_module.predict([(3,), (40,), (3, 41)], Wanted(std=False)).to_genes.numpy()
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found >= 0).all()
    assert found[0, 3] > 1 / N_NODES
    same = np.arange(N_NODES) % 4 == 40 % 4
    assert found[1, same].sum() > 0.9


def test_attention_alone_predicts_unseen_genes(screen):
    module = fit(screen, closed_form=False)
    lfc = module.predict([(g,) for g in range(32, 48)], Wanted(std=False, attention=False)).lfc.numpy()
    truth = screen.response[np.arange(32, 48) % 4]
    assert np.linalg.norm(lfc - truth, axis=1).mean() < 0.3 * np.linalg.norm(truth, axis=1).mean()


def test_the_share_of_the_attention_is_none_on_noise():
    module = fit(make_screen(noise=1.0, signal=0.0, seed=5))
    assert float(module.share) == 0


@pytest.mark.parametrize("n_singles", [4, 5])
def test_few_perturbations_are_enough(n_singles):
    screen = make_screen(n_singles=n_singles)
    found = fit(screen, epochs=2).predict([(40,), (0, 1)], Wanted(change=0.1))
    for values in found:
        assert torch.isfinite(values).all()


def test_similarity_is_the_overlap_of_random_walks(screen):
    network = screen.inputs.networks[0]
    evidence = Evidence([network], n_nodes=N_NODES)
    weight = network.toarray()
    transition = weight / weight.sum(1, keepdims=True)
    walks = 0.5 * np.linalg.inv(np.eye(N_NODES) - 0.5 * transition)
    expected = np.sqrt(walks) @ np.sqrt(walks).T
    found = evidence.similarities(range(N_NODES), range(N_NODES))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    shared = evidence.through_genes([3, 3], [7, 11], np.eye(2), np.ones(1))
    np.testing.assert_allclose(shared.sum(1), found[3, [7, 11]], atol=1e-6)


def test_a_gene_that_no_source_knows_is_similar_to_none():
    network = np.zeros((4, 4))
    network[0, 1] = network[1, 0] = 1
    features = np.array([[1.0, 0], [0, 1], [1, 1], [np.nan, np.nan]])
    evidence = Evidence([network], [features], n_nodes=4)
    found = evidence.similarities([0, 2, 3], [0, 1, 2, 3])
    assert (found[0][1:] == 0).all()
    assert (found[1][2] == 0).all()
    np.testing.assert_allclose(found[1][0], [1, 0, np.sqrt(0.5), 0])


def test_large_networks_are_walked_step_by_step_with_the_same_result(screen, monkeypatch):
    from scapp.module import _evidence

    dense = Evidence(screen.inputs.networks, n_nodes=N_NODES).similarities([1, 2], range(N_NODES))
    monkeypatch.setattr(_evidence, "LARGEST_DENSE", 0)
    stepped = Evidence(screen.inputs.networks, n_nodes=N_NODES).similarities([1, 2], range(N_NODES))
    np.testing.assert_allclose(stepped, dense, atol=1e-6)


def test_the_gradient_of_the_attention_is_that_of_its_steps():
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    features, hidden = normal(4, 5, 6), torch.eye(5, 6).bool()
    values = [normal(6, rank) for rank in (2, 3)]
    inputs = normal(2, 4).requires_grad_(), normal(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda w, s: _Attended.apply(w, s, features, hidden, values), inputs)
    by_hand = torch.softmax(
        torch.cat([inputs[0][0] @ features[:, 1], (inputs[1][0] + np.log(6))[None]]).masked_fill(
            torch.arange(7) == 1, -torch.inf
        ),
        dim=0,
    )[:-1]
    found = _Attended.apply(*inputs, features, hidden, values)[1, :2]
    torch.testing.assert_close(found, by_hand @ values[0])
