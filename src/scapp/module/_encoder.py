"""Gene encoders: one signature, ``forward(features, graphs, scale) -> (n_nodes, n_hidden)``, chosen by name.

`scale`, of shape (n_features,) and positive, is the scale of each column of the features.
"""

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
        weight = graph.edge_weight
        if self.aggregation == "mean":
            size = torch.zeros(len(h), dtype=h.dtype, device=h.device).index_add(0, graph.edge_index[1], weight.abs())
            weight = weight / size[graph.edge_index[1]]
        return self.propagate(graph.edge_index, x=h, weight=weight, size=(len(h), len(h)))

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return weight[:, None] * x_j


class GraphEncoder(nn.Module):
    r"""Equations 1 and 2 over one network or several.

    :math:`h' = \sigma(W (h + \sum_k g_k a^{(k)}) + b)`, where :math:`a^{(k)}` aggregates the neighbours in network k
    and :math:`g_k` is learned; with one network and :math:`g = 1` this is the paper's layer.

    Parameters
    ----------
    n_features
        Number of input features of a gene.
    n_hidden
        Width of each layer.
    n_layers
        Number of layers :math:`L`.
    n_networks
        Number of networks; without any, the layers see only the gene itself.
    aggregation
        How neighbours are aggregated.
    activation
        :math:`\sigma`.
    learn_gates
        Whether :math:`g_k` is learned, from one half; otherwise it is one.
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int,
        *,
        n_layers: int = 1,
        n_networks: int = 1,
        aggregation: Aggregation = "mean",
        activation: Activation = "leaky_relu",
        learn_gates: bool = True,
    ):
        super().__init__()
        widths = [n_features] + [n_hidden] * n_layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.aggregate = NeighborAggregation(aggregation)
        self.activation = ACTIVATIONS[activation]
        gates = torch.full((n_layers, n_networks), 0.5 if learn_gates else 1.0)
        self.gates = nn.Parameter(gates, requires_grad=learn_gates)

    def forward(self, features: Tensor, graphs: Sequence[Graph], scale: Tensor) -> Tensor:
        h = features
        for k, (layer, gates) in enumerate(zip(self.layers, self.gates, strict=True)):
            # The scale goes into the narrow weight in place of the long features; a positive one passes through each aggregation.
            weight = layer.weight * scale if k == 0 else layer.weight
            if self.aggregate.aggregation == "max":
                h = (h + self._neighbors(h, graphs, gates)) @ weight.T
            else:  # linear in h, so the narrow embedding can be aggregated in place of the wide features
                narrow = h @ weight.T
                h = narrow + self._neighbors(narrow, graphs, gates)
            h = self.activation(h + layer.bias)
        return h

    def _neighbors(self, h: Tensor, graphs: Sequence[Graph], gates: Tensor) -> Tensor:
        total = torch.zeros_like(h)
        for gate, graph in zip(gates, graphs, strict=True):
            total = total + gate * self.aggregate(h, graph)
        return total

    @torch.no_grad()
    def start_from_components(self, features: Tensor, rotation: Tensor) -> None:
        """Let the first layer begin as the principal components of some genes' features, rotated, the others as identity.

        A random start would blur the similarities that the features hold; this one keeps them, and training refines them.
        """
        first = self.layers[0]
        n_hidden = first.weight.shape[0]
        # On the processor: the signs of the components are those of its algorithm, and other devices have others.
        components = torch.linalg.svd(features.cpu(), full_matrices=False).Vh[:n_hidden]
        start = torch.zeros_like(first.weight)
        start[: len(components)] = components.to(start)
        first.weight.copy_(rotation @ start)
        first.bias.zero_()
        for layer in list(self.layers)[1:]:
            layer.weight.copy_(torch.eye(n_hidden))
            layer.bias.zero_()


class IdentityEncoder(nn.Module):
    """A free embedding for each gene (a linear layer on one-hot features), without a network: an ablation."""

    def __init__(self, n_nodes: int, n_hidden: int):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(n_nodes, n_hidden) / n_hidden**0.5)

    def forward(self, features: Tensor, graphs: Sequence[Graph], scale: Tensor) -> Tensor:
        return self.embedding


class RandomEncoder(nn.Module):
    """A fixed random embedding for each gene, without a network: an ablation."""

    embedding: Tensor

    def __init__(self, n_nodes: int, n_hidden: int):
        super().__init__()
        self.register_buffer("embedding", torch.randn(n_nodes, n_hidden) / n_hidden**0.5)

    def forward(self, features: Tensor, graphs: Sequence[Graph], scale: Tensor) -> Tensor:
        return self.embedding
