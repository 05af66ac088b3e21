"""Equations 1 to 7 of the paper as written, trained end to end: a form to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scvi.module.base import LossOutput
from torch import Tensor, nn

from scapp.module._base import Contribution, EffectModule, Inputs, Prediction, Wanted
from scapp.module._calibration import Calibration
from scapp.module._encoder import Activation, Aggregation, Graph, GraphEncoder, IdentityEncoder, RandomEncoder
from scapp.module._evidence import Genes, membership

# Features that stand for the genes' place in a network where there are no gene features.
N_NETWORK_FEATURES = 128


@dataclass(frozen=True)
class PaperOptions:
    """The choices of the paper's form; :class:`scapp.model.APP` documents them."""

    n_hidden: int = 64
    n_layers: int = 2
    n_attention: int = 32
    aggregation: Aggregation = "mean"
    activation: Activation = "relu"
    encoder: Literal["gnn", "identity", "random"] = "gnn"
    pooling: Literal["attention", "mean"] = "attention"
    decoder: Literal["linear", "mlp"] = "linear"

    def __post_init__(self) -> None:
        for name, choices in {
            "aggregation": ("mean", "sum", "max"),
            "activation": ("relu", "leaky_relu"),
            "encoder": ("gnn", "identity", "random"),
            "pooling": ("attention", "mean"),
            "decoder": ("linear", "mlp"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is not among {', '.join(map(repr, choices))}.")
        for name in ("n_hidden", "n_layers", "n_attention"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, found {value!r}.")


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
        """Return the attention of perturbations, each row of `mean` holding its genes' shares: (n, n_nodes)."""
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

    targets: Tensor
    features: Tensor

    def __init__(self, inputs: Inputs, options: PaperOptions):
        super().__init__()
        self.inputs, self.options = inputs, options
        self.perturbations = list(inputs.perturbations)
        for k, network in enumerate(inputs.networks):
            edges = network.tocoo()
            self.register_buffer(
                f"edge_index_{k}", torch.as_tensor(np.vstack([edges.row, edges.col])).long(), persistent=False
            )
            self.register_buffer(f"edge_weight_{k}", torch.as_tensor(edges.data).float(), persistent=False)
        features = _features(inputs)
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("targets", torch.zeros(len(self.perturbations), inputs.n_measured))
        n_hidden = options.n_hidden
        self.encoder: GraphEncoder | IdentityEncoder | RandomEncoder
        if options.encoder == "gnn":
            self.encoder = GraphEncoder(
                features.shape[1],
                n_hidden,
                n_layers=options.n_layers,
                n_networks=len(inputs.networks),
                aggregation=options.aggregation,
                activation=options.activation,
            )
        else:
            make = {"identity": IdentityEncoder, "random": RandomEncoder}[options.encoder]
            self.encoder = make(inputs.n_nodes, n_hidden)
        self.pooling = AdditiveAttention(n_hidden, options.n_attention) if options.pooling == "attention" else None
        self.decoder: nn.Module = nn.Linear(n_hidden, inputs.n_measured)
        if options.decoder == "mlp":
            self.decoder = nn.Sequential(nn.Linear(n_hidden, n_hidden), nn.ReLU(), self.decoder)
        self.calibration = Calibration(inputs.n_measured)
        self.register_buffer("threshold", torch.ones((), dtype=torch.float64))

    @property
    def single_row(self) -> dict[int, int]:
        """The training row of each gene that was perturbed alone."""
        return {p[0]: i for i, p in enumerate(self.perturbations) if len(p) == 1}

    @property
    def graphs(self) -> list[Graph]:
        """The networks."""
        n = range(len(self.inputs.networks))
        return [Graph(getattr(self, f"edge_index_{k}"), getattr(self, f"edge_weight_{k}")) for k in n]

    def set_effects(self, lfc: NDArray[np.floating], **unused: Any) -> None:
        """Take the training effects; the paper's form does not read their noise."""
        self.targets.copy_(torch.as_tensor(np.asarray(lfc)))

    def embed(self) -> Tensor:
        """Return the embeddings of all genes, (n_nodes, n_hidden)."""
        return self.encoder(self.features, self.graphs)

    def attend(self, h: Tensor, perturbations: Sequence[Genes]) -> Tensor:
        """Return the attention to all genes, (n, n_nodes)."""
        place = {node: node for node in range(self.inputs.n_nodes)}
        sums = torch.as_tensor(membership(perturbations, place).toarray()).to(h)
        mean = sums / sums.sum(1, keepdim=True)
        return mean if self.pooling is None else self.pooling(h, mean)

    def error_factors(self, *, combined: bool) -> Tensor:
        """Return how errors of genes go together: (n_factors, n_measured)."""
        return self.calibration.factors

    @property
    def attends(self) -> bool:
        """Tell whether there is an attention that could look beyond the perturbed genes."""
        return self.pooling is not None

    @torch.no_grad()
    def attended(self, perturbations: Sequence[Genes]) -> tuple[Tensor, Tensor]:
        """Return the attention to genes, and that of no preference, both (n, n_nodes)."""
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
        """Return the mean length of the residuals over that of the effects."""
        rows = tensors["rows"].tolist()
        h = self.embed()
        predicted = self.decoder(self.attend(h, [self.perturbations[i] for i in rows]) @ h)
        target = self.targets[rows]
        scale = target.norm(dim=1).mean().clamp_min(1e-12)
        return LossOutput(loss=(target - predicted).norm(dim=1).mean() / scale, n_obs_minibatch=len(rows))

    @torch.no_grad()
    def finish(self) -> None:
        """Learn the errors from the residuals of the fit, the only ones that this form has."""
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
        """Return what each gene adds to one predicted value; the rows are nodes.

        Raises
        ------
        ValueError
            If the decoder has a hidden layer, whose output is no sum over genes.
        """
        if not isinstance(self.decoder, nn.Linear):
            raise ValueError(
                "A decoder with a hidden layer (decoder='mlp') does not add up contributions of genes. "
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
    """Return the input features of the genes: those given, or their place in each network; standardised by block."""
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
