"""Equations 1 to 7, as the paper writes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scapp.module import PaperModule, Wanted
from scapp.module._paper import Graph, NeighborAggregation, PaperOptions


@pytest.fixture
def module(screen):
    torch.manual_seed(0)
    module = PaperModule(screen.inputs, PaperOptions(n_hidden=6, n_attention=5))
    module.set_effects(screen.lfc)
    return module


def test_the_forward_pass_is_that_of_the_equations(module):
    h, weight = module.features, module.inputs.networks[0].toarray()
    for layer in module.encoder.layers:
        mean = torch.as_tensor(weight.T / np.maximum(weight.sum(0)[:, None], 1e-12)).float()
        h = torch.relu((h + mean @ h) @ layer.weight.T + layer.bias)  # equations 1 and 2
    torch.testing.assert_close(module.embed(), h)
    pooling, context = module.pooling, h[[3, 9]].mean(0)  # equation 3
    scores = torch.tanh(context @ pooling.W_c + h @ pooling.W_h + pooling.b_e) @ pooling.v  # equation 4
    attention = torch.softmax(scores, 0)  # equation 5
    state = attention @ h  # equation 6
    expected = module.decoder.weight @ state + module.decoder.bias  # equation 7
    found = module.predict([(3, 9)], Wanted(std=False))
    torch.testing.assert_close(found.lfc[0].float(), expected)
    torch.testing.assert_close(found.to_genes[0].float(), attention)


@pytest.mark.parametrize("aggregation", ["mean", "sum", "max"])
def test_neighbours_are_aggregated_by_their_edges(aggregation):
    graph = Graph(torch.tensor([[0, 1], [2, 2]]), torch.tensor([1.0, 3.0]))
    h = torch.tensor([[1.0], [2.0], [5.0]])
    expected = {"mean": (1 + 6) / 4, "sum": 7.0, "max": 6.0}[aggregation]
    found = NeighborAggregation(aggregation)(h, graph)
    torch.testing.assert_close(found, torch.tensor([[0.0], [0.0], [expected]]))


def test_genes_explain_a_prediction_exactly(module):
    expected = module.predict([(3, 9)], Wanted(std=False)).lfc[0, 4]
    total = sum(float((part.weight * part.value).sum()) for part in module.explain((3, 9), 4))
    assert total == pytest.approx(float(expected), abs=1e-5)


def test_a_hidden_layer_is_not_explained(screen):
    module = PaperModule(screen.inputs, PaperOptions(decoder="mlp"))
    with pytest.raises(ValueError, match="decoder='linear'"):
        module.explain((3,), 0)
