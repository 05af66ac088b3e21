"""Equations 1 to 7 of the paper as written, trained end to end, for comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scvi.module.base import LossOutput
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from scapp.module._base import Contribution, EffectModule, Inputs, Prediction, Wanted
from scapp.module._calibration import Calibration
from scapp.module._evidence import Genes, membership

Aggregation = Literal["mean", "sum", "max"]
Activation = Literal["leaky_relu", "relu"]
ACTIVATIONS = {"leaky_relu": nn.LeakyReLU(0.2), "relu": nn.ReLU()}


# Number of features for the position of genes in a network, if there are no gene features.
N_NETWORK_FEATURES = 128


@dataclass(frozen=True)
class PaperOptions:
    """The options of the paper's form; see :class:`scapp.model.APP`."""

    n_hidden: int = 64
    n_layers: int = 2
    n_attention: int = 32
    aggregation: Aggregation = "mean"
    activation: Activation = "relu"
    encoder: Literal["gnn", "identity", "random"] = "gnn"
    pooling: Literal["attention", "mean"] = "attention"
    decoder: Literal["linear", "mlp"] = "linear"

    def __post_init__(self) -> None:
        for name in ("n_hidden", "n_layers", "n_attention"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, found {value!r}.")


class Graph(NamedTuple):
    """Edges from source to target: `edge_index`, shape (2, n_edges), and `edge_weight`, shape (n_edges,)."""

    edge_index: Tensor
    edge_weight: Tensor


class NeighborAggregation(MessagePassing):
    """Equation 1: aggregate the embeddings of a gene's regulators, weighted by their edges; zero without regulators.

    For ``"mean"``, weights are divided by the sum of their magnitudes over the neighbours, so equal weights give the
    plain mean.
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
        """Weight the embedding of each neighbour by its edge."""
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
    aggregation
        Aggregation over neighbours.
    activation
        :math:`\sigma`.
    """

    def __init__(
        self, n_features: int, n_hidden: int, *, n_layers: int, aggregation: Aggregation, activation: Activation
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
            else:  # linear in h, so aggregate the narrow embedding instead of the wide features
                narrow = h @ layer.weight.T
                h = narrow + self._neighbors(narrow, graphs)
            h = self.activation(h + layer.bias)
        return h

    def _neighbors(self, h: Tensor, graphs: Sequence[Graph]) -> Tensor:
        return sum((self.aggregate(h, graph) for graph in graphs), torch.zeros_like(h))


class FreeEncoder(nn.Module):
    """An embedding for each gene without a network, learned or random, as an ablation."""

    embedding: Tensor

    def __init__(self, n_nodes: int, n_hidden: int, *, learned: bool):
        super().__init__()
        start = torch.randn(n_nodes, n_hidden) / n_hidden**0.5
        if learned:
            self.embedding = nn.Parameter(start)
        else:
            self.register_buffer("embedding", start)

    def forward(self, features: Tensor, graphs: Sequence[Graph]) -> Tensor:
        """Return the embedding."""
        return self.embedding


class AdditiveAttention(nn.Module):
    r"""Equations 3 to 6.

    .. math::
        c_P = \operatorname{mean}_{p \in P} h_p, \quad e_i = v^\top \tanh(W_c c_P + W_h h_i + b_e), \quad
        \alpha = \operatorname{softmax}(e), \quad s = \sum_i \alpha_i h_i

    Parameters
    ----------
    n_hidden
        Width of a gene's embedding.
    n_attention
        Width of the tanh layer.
    """

    def __init__(self, n_hidden: int, n_attention: int):
        super().__init__()
        self.W_c = nn.Parameter(torch.randn(n_hidden, n_attention) * n_hidden**-0.5)
        self.W_h = nn.Parameter(torch.randn(n_hidden, n_attention) * n_hidden**-0.5)
        self.b_e = nn.Parameter(torch.zeros(n_attention))
        self.v = nn.Parameter(torch.randn(n_attention) * n_attention**-0.5)

    def forward(self, h: Tensor, mean: Tensor) -> Tensor:
        """Return the attention of perturbations, (n, n_nodes); the rows of `mean` hold the shares of their genes."""
        query, key = (mean @ h) @ self.W_c + self.b_e, h @ self.W_h
        return torch.softmax(torch.stack([torch.tanh(q + key) @ self.v for q in query]), dim=1)


class PaperModule(EffectModule):
    """Graph encoder, additive attention over all genes and decoder, trained by gradient descent.

    Parameters
    ----------
    inputs
        Perturbations, networks and features.
    options
        Widths and ablations.
    """

    features: Tensor

    def __init__(self, inputs: Inputs, options: PaperOptions):
        super().__init__(inputs)
        self.options = options
        for k, network in enumerate(inputs.networks):
            edges = network.tocoo()
            self.register_buffer(
                f"edge_index_{k}", torch.as_tensor(np.vstack([edges.row, edges.col])).long(), persistent=False
            )
            self.register_buffer(f"edge_weight_{k}", torch.as_tensor(edges.data).float(), persistent=False)
        features = _features(inputs)
        self.register_buffer("features", features, persistent=False)
        n_hidden = options.n_hidden
        self.encoder: GraphEncoder | FreeEncoder
        if options.encoder == "gnn":
            self.encoder = GraphEncoder(
                features.shape[1],
                n_hidden,
                n_layers=options.n_layers,
                aggregation=options.aggregation,
                activation=options.activation,
            )
        else:
            self.encoder = FreeEncoder(inputs.n_nodes, n_hidden, learned=options.encoder == "identity")
        self.pooling = AdditiveAttention(n_hidden, options.n_attention) if options.pooling == "attention" else None
        self.decoder: nn.Module = nn.Linear(n_hidden, inputs.n_measured)
        if options.decoder == "mlp":
            self.decoder = nn.Sequential(nn.Linear(n_hidden, n_hidden), nn.ReLU(), self.decoder)
        self.calibration = Calibration(inputs.n_measured)

    @property
    def graphs(self) -> list[Graph]:
        """The networks."""
        numbers = range(len(self.inputs.networks))
        return [Graph(getattr(self, f"edge_index_{k}"), getattr(self, f"edge_weight_{k}")) for k in numbers]

    def set_effects(self, lfc: NDArray[np.floating], **unused: Any) -> None:
        """Store the training effects; the paper's form does not use their noise."""
        self.targets.copy_(torch.as_tensor(np.asarray(lfc)))

    def embed(self) -> Tensor:
        """Return the embeddings of all genes, (n_nodes, n_hidden)."""
        return self.encoder(self.features, self.graphs)

    def attend(self, h: Tensor, perturbations: Sequence[Genes]) -> Tensor:
        """Return the attention to all genes, (n, n_nodes)."""
        sums = torch.as_tensor(membership(perturbations, range(self.inputs.n_nodes)).toarray()).to(h)
        mean = sums / sums.sum(1, keepdim=True)
        return mean if self.pooling is None else self.pooling(h, mean)

    def error_factors(self, *, combined: bool) -> Tensor:
        """Return factors of the error covariance between genes, shape (n_factors, n_measured)."""
        return self.calibration.factors

    @property
    def attends(self) -> bool:
        """Return whether there is an attention that can look beyond the perturbed genes."""
        return self.pooling is not None

    @torch.no_grad()
    def attended(self, perturbations: Sequence[Genes]) -> tuple[Tensor, Tensor]:
        """Return the attention to genes, and the uniform attention, both (n, n_nodes)."""
        found = self.attend(self.embed(), perturbations).double()
        return found, torch.full_like(found, 1 / found.shape[1])

    @torch.no_grad()
    def gene_embeddings(self) -> Tensor:
        """Return the embeddings of all genes, (n_nodes, n_hidden)."""
        return self.embed()

    @torch.no_grad()
    def states(self, perturbations: Sequence[Genes]) -> Tensor:
        """Return the cell states of perturbations, (n, n_hidden)."""
        h = self.embed()
        return self.attend(h, perturbations) @ h

    # ------------------------------------------------------------------ training

    def loss(self, tensors: dict[str, Tensor], inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Return the mean length of the residuals, relative to that of the effects."""
        rows = tensors["rows"].tolist()
        h = self.embed()
        predicted = self.decoder(self.attend(h, [self.perturbations[i] for i in rows]) @ h)
        target = self.targets[rows]
        scale = target.norm(dim=1).mean().clamp_min(1e-12)
        return LossOutput(loss=(target - predicted).norm(dim=1).mean() / scale, n_obs_minibatch=len(rows))

    @torch.no_grad()
    def finish(self) -> None:
        """Learn the errors from the residuals of the fit, because this form has no left-out residuals."""
        predicted = self.predict(self.perturbations, Wanted(std=False, attention=False)).lfc
        residual = self.targets.double() - predicted
        self.calibration.fit(residual, predicted, torch.ones_like(residual))
        self.threshold.copy_(2 * self.calibration.scale.median())

    # ------------------------------------------------------------------ prediction

    @torch.no_grad()
    def predict_batches(self, batches: Sequence[Sequence[Genes]], wanted: Wanted) -> Iterator[Prediction]:
        """Predict batch by batch."""
        h = self.embed()
        for batch in batches:
            attention = self.attend(h, batch)
            lfc = self.decoder(attention @ h).double()
            std = self.calibration.std(lfc, torch.ones_like(lfc))
            change = None if wanted.change is None else self.calibration.change(lfc, std, wanted.change)
            yield Prediction(lfc, std if wanted.std else None, change, attention.double() if wanted.attention else None)

    @torch.no_grad()
    def explain(self, perturbation: Genes, gene: int) -> list[Contribution]:
        """Return the contribution of each gene to one predicted value; the rows are nodes.

        Raises
        ------
        ValueError
            If the decoder has a hidden layer, whose output is not a sum over genes.
        """
        if not isinstance(self.decoder, nn.Linear):
            raise ValueError(
                "A decoder with a hidden layer (decoder='mlp') is not a sum of contributions of genes. "
                "Make the model with decoder='linear' to explain it."
            )
        h = self.embed()
        attention = self.attend(h, [perturbation])[0].double()
        value = (h @ self.decoder.weight[gene]).double()
        intercept = self.decoder.bias[gene].double()[None]
        return [
            Contribution("attention", list(range(len(h))), attention, value),
            Contribution("intercept", [], torch.ones(1, dtype=torch.float64), intercept),
        ]


def _features(inputs: Inputs) -> Tensor:
    """Return the input features of the genes, given or from their position in each network, standardised by block."""
    from scapp.graph import hellinger_embedding, symmetrize

    blocks = list(inputs.features) or [
        hellinger_embedding(symmetrize(abs(x)), N_NETWORK_FEATURES) for x in inputs.networks
    ]
    standard = []
    for block in blocks:
        known = ~np.isnan(block).any(axis=1)
        centred = np.nan_to_num(block - block[known].mean(axis=0), nan=0.0)
        size = np.sqrt(np.square(centred[known]).sum(axis=1).mean())
        standard.append(centred / (size if size > 0 else 1.0))
    return torch.as_tensor(np.hstack(standard).astype(np.float32))
