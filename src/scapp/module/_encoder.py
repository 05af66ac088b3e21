"""Gene encoders of the paper's form: one signature, ``forward(features, graphs) -> (n_nodes, n_hidden)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

Aggregation = Literal["mean", "sum", "max"]
Activation = Literal["leaky_relu", "relu"]
ACTIVATIONS = {"leaky_relu": nn.LeakyReLU(0.2), "relu": nn.ReLU()}


class Graph(NamedTuple):
    """Edges from source to target: `edge_index` of shape (2, n_edges), `edge_weight` of shape (n_edges,)."""

    edge_index: Tensor
    edge_weight: Tensor


class NeighborAggregation(MessagePassing):
    """Equation 1: aggregate the embeddings of a gene's regulators, weighted by their edges; zero where there are none.

    The weights of ``"mean"`` are divided by the sum of their sizes over the neighbours, so that with equal weights
    it is the plain mean.
    """

    def __init__(self, aggregation: Aggregation):
        super().__init__(aggr="max" if aggregation == "max" else "sum")
        self.aggregation = aggregation

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        """Return the aggregate of each gene's neighbours."""
        weight = graph.edge_weight
        if self.aggregation == "mean":
            size = torch.zeros(len(h), dtype=h.dtype, device=h.device).index_add(0, graph.edge_index[1], weight.abs())
            weight = weight / size[graph.edge_index[1]]
        return self.propagate(graph.edge_index, x=h, weight=weight, size=(len(h), len(h)))

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """Weigh the embedding of each neighbour by its edge."""
        return weight[:, None] * x_j


class GraphEncoder(nn.Module):
    r"""Equations 1 and 2: :math:`h' = \sigma(W (h + \sum_k a^{(k)}) + b)`, where :math:`a^{(k)}` aggregates over network k.

    Parameters
    ----------
    n_features
        Number of input features of a gene.
    n_hidden
        Width of each layer.
    n_layers
        Number of layers :math:`L`.
    n_networks
        Number of networks.
    aggregation
        Aggregation over neighbours.
    activation
        :math:`\sigma`.
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int,
        *,
        n_layers: int,
        n_networks: int,
        aggregation: Aggregation,
        activation: Activation,
    ):
        super().__init__()
        widths = [n_features] + [n_hidden] * n_layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.aggregate = NeighborAggregation(aggregation)
        self.activation = ACTIVATIONS[activation]

    def forward(self, features: Tensor, graphs: Sequence[Graph]) -> Tensor:
        """Return the embeddings of all genes."""
        h = features
        for layer in self.layers:
            if self.aggregate.aggregation == "max":
                h = (h + self._neighbors(h, graphs)) @ layer.weight.T
            else:  # linear in h, so the narrow embedding can be aggregated in place of the wide features
                narrow = h @ layer.weight.T
                h = narrow + self._neighbors(narrow, graphs)
            h = self.activation(h + layer.bias)
        return h

    def _neighbors(self, h: Tensor, graphs: Sequence[Graph]) -> Tensor:
        return sum((self.aggregate(h, graph) for graph in graphs), torch.zeros_like(h))


class IdentityEncoder(nn.Module):
    """A free embedding for each gene (a linear layer on one-hot features), without a network: an ablation."""

    def __init__(self, n_nodes: int, n_hidden: int):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(n_nodes, n_hidden) / n_hidden**0.5)

    def forward(self, features: Tensor, graphs: Sequence[Graph]) -> Tensor:
        """Return the embedding."""
        return self.embedding


class RandomEncoder(nn.Module):
    """A fixed random embedding for each gene, without a network: an ablation."""

    embedding: Tensor

    def __init__(self, n_nodes: int, n_hidden: int):
        super().__init__()
        self.register_buffer("embedding", torch.randn(n_nodes, n_hidden) / n_hidden**0.5)

    def forward(self, features: Tensor, graphs: Sequence[Graph]) -> Tensor:
        """Return the embedding."""
        return self.embedding
