"""The anchor of combinations, and the random walk that the attention starts from."""

from __future__ import annotations

import numpy as np
import torch

from scapp import network
from scapp.module import Anchor
from scapp.module._anchor import ADDITIVE_PRIOR, _gene_scales, composition_of
from scapp.module._diffusion import diffuse
from scapp.module._encoder import Graph


def planted(scale: torch.Tensor, noise: float, n: int = 30) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    truth = torch.randn(8, 3) @ torch.randn(3, 50) * 3
    pairs = [(i % 8, (i + 1 + i // 8) % 8) for i in range(n)]
    composition = composition_of(pairs, {i: i for i in range(8)})
    targets = scale * (composition @ truth) + 0.1 * torch.randn(n, 50)
    return truth + noise * torch.randn_like(truth), composition, targets


def test_a_planted_common_scale_is_found():
    singles, composition, targets = planted(torch.tensor(0.6), noise=0.0)
    anchor = Anchor(8, 50)
    anchor.fit(singles, composition, torch.zeros(30, 50), targets)
    torch.testing.assert_close(anchor.scale, torch.full((50,), 0.6), atol=0.03, rtol=0)


def test_scales_of_genes_depart_from_the_common_one_where_the_data_say_so():
    planted_scale = torch.where(torch.arange(50) < 25, 0.9, 0.3)
    singles, composition, targets = planted(planted_scale, noise=0.0)
    anchor = Anchor(8, 50)
    anchor.fit(singles, composition, torch.zeros(30, 50), targets)
    assert anchor.scale[:25].mean() > 0.75
    assert anchor.scale[25:].mean() < 0.45


def test_noisy_singles_are_denoised_towards_the_truth():
    singles, composition, targets = planted(torch.tensor(0.8), noise=2.0)
    truth, _, _ = planted(torch.tensor(0.8), noise=0.0)
    anchor = Anchor(8, 50)
    anchor.fit(singles, composition, torch.zeros(30, 50), targets)
    assert anchor.threshold > 0
    assert (anchor.singles - truth).norm() < 0.95 * (singles - truth).norm()


def test_without_combinations_effects_add():
    anchor = Anchor(8, 50)
    singles, composition, _ = planted(torch.tensor(0.5), noise=1.0)
    anchor.fit(singles, composition[:0], torch.zeros(0, 50), torch.zeros(0, 50))
    torch.testing.assert_close(anchor(composition, torch.zeros(30, 50)), composition @ singles)


def test_leave_one_out_scales_are_those_of_refitting():
    torch.manual_seed(0)
    additive, targets = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    _, left_out = _gene_scales(additive, targets, float("inf"))
    prior = ADDITIVE_PRIOR * additive.square().sum() / 6
    for i in range(6):
        rest = torch.arange(6) != i
        a, t = additive[rest], targets[rest]
        expected = ((a * t).sum() + prior) / (a.square().sum() + prior)
        torch.testing.assert_close(left_out[i, 0], expected)


def test_the_walk_on_the_device_is_that_of_scipy():
    adjacency = network.edges_to_csr([0, 1, 2, 3, 0], [1, 2, 0, 1, 3], [1.0, 2.0, 0.5, 1.0, 3.0], n_nodes=6)
    coo = adjacency.tocoo()
    graph = Graph(torch.tensor(np.array([coo.row, coo.col]), dtype=torch.long), torch.tensor(coo.data))
    found = diffuse(torch.eye(6), graph)
    expected = np.asarray(network.diffusion(adjacency, restart=0.5))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    torch.testing.assert_close(found.sum(1), torch.ones(6))
    torch.testing.assert_close(found[5], torch.eye(6)[5])
