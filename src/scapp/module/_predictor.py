"""One chain of encoder, attention and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from scapp.module._attention import AdditiveAttention, MeanPooling, Reach
from scapp.module._decoder import KernelDecoder
from scapp.module._encoder import Activation, Aggregation, Graph, GraphEncoder, IdentityEncoder, RandomEncoder
from scapp.module._gradient_decoder import LinearDecoder, MLPDecoder
from scapp.module._ridge_decoder import RidgeDecoder


@dataclass(frozen=True)
class Architecture:
    """The choices that define a chain; :class:`scapp.model.APP` documents them."""

    n_hidden: int = 32
    n_layers: int = 1
    n_attention: int = 8
    n_free_heads: int = 0
    aggregation: Aggregation = "mean"
    activation: Activation = "leaky_relu"
    encoder: Literal["gnn", "identity", "random"] = "gnn"
    pooling: Literal["attention", "mean"] = "attention"
    decoder: Literal["kernel", "linear", "mlp"] = "kernel"
    closed_form: bool = True
    leave_one_out: bool = True
    priors: bool = True


class Predictor(nn.Module):
    """Encoder, attention and decoder of one member of the ensemble.

    Parameters
    ----------
    block_sizes
        Widths of the blocks of gene features; each has a learned scale.
    n_nodes
        Number of genes of the network.
    n_networks
        Number of networks.
    n_genes
        Number of genes to predict.
    n_states
        Number of states that the decoder is fitted to, at most.
    architecture
        The choices.
    penalty, constant
        Where training of the closed-form decoder starts.
    """

    column_block: Tensor

    def __init__(
        self,
        block_sizes: Sequence[int],
        *,
        n_nodes: int,
        n_networks: int,
        n_genes: int,
        n_states: int,
        architecture: Architecture,
        penalty: float = 1.0,
        constant: float = 3.0,
    ):
        super().__init__()
        a = architecture
        self.architecture = a
        self.log_feature_scale = nn.Parameter(torch.zeros(len(block_sizes)), requires_grad=a.closed_form)
        self.register_buffer(
            "column_block",
            torch.repeat_interleave(torch.arange(len(block_sizes)), torch.tensor(list(block_sizes))),
            persistent=False,
        )
        self.encoder: GraphEncoder | IdentityEncoder | RandomEncoder
        if a.encoder == "gnn":
            self.encoder = GraphEncoder(
                sum(block_sizes),
                a.n_hidden,
                n_layers=a.n_layers,
                n_networks=n_networks,
                aggregation=a.aggregation,
                activation=a.activation,
                learn_gates=a.closed_form,
            )
        else:
            self.encoder = {"identity": IdentityEncoder, "random": RandomEncoder}[a.encoder](n_nodes, a.n_hidden)
        self.pooling: AdditiveAttention | MeanPooling = MeanPooling()
        if a.pooling == "attention":
            n_prior_heads = 1 + n_networks if a.priors else 0
            n_free_heads = max(a.n_free_heads, 0 if a.priors else 1)
            self.pooling = AdditiveAttention(
                a.n_hidden, n_attention=a.n_attention, n_prior_heads=n_prior_heads, n_free_heads=n_free_heads
            )
        self.decoder: KernelDecoder | RidgeDecoder | LinearDecoder | MLPDecoder
        shape = (self.pooling.n_heads, a.n_hidden, n_genes)
        if a.decoder == "mlp":
            self.decoder = MLPDecoder(*shape)
        elif not a.closed_form:
            self.decoder = LinearDecoder(*shape)
        elif a.decoder == "linear":
            # A linear kernel of two unrelated states is 0, a Gaussian one is not: the same fit needs a larger penalty.
            start = {"penalty": 4 * penalty, "constant": constant}
            self.decoder = RidgeDecoder(*shape, **start, leave_one_out=a.leave_one_out)
        else:
            start = {"penalty": penalty, "constant": constant}
            self.decoder = KernelDecoder(*shape, n_states, **start, leave_one_out=a.leave_one_out)

    def embed(self, features: Tensor, graphs: Sequence[Graph]) -> Tensor:
        """Gene embeddings of shape (n_nodes, n_hidden)."""
        return self.encoder(features, graphs, self.log_feature_scale.exp()[self.column_block])

    def states(
        self, features: Tensor, graphs: Sequence[Graph], membership: Tensor, reaches: Sequence[Reach]
    ) -> tuple[Tensor, Tensor]:
        """Cell states (n, n_heads, n_hidden) and attention (n, n_heads, n_nodes) of some perturbations."""
        return self.pooling(self.embed(features, graphs), membership, reaches)

    def cell_states(
        self, features: Tensor, graphs: Sequence[Graph], membership: Tensor, reaches: Sequence[Reach]
    ) -> Tensor:
        """The cell states of `states`, without spreading the attention over all genes: several times faster."""
        return self.pooling.states(self.embed(features, graphs), membership, reaches)

    @torch.no_grad()
    def start(self, features: Tensor, graphs: Sequence[Graph], nodes: Tensor) -> None:
        """Begin where the closed form is good already: principal components of the perturbed genes' features.

        Parameters
        ----------
        features
            Features of all genes.
        graphs
            The networks.
        nodes
            The perturbed genes.
        """
        if not self.architecture.closed_form:
            return
        n_hidden = self.architecture.n_hidden
        if isinstance(self.encoder, GraphEncoder):
            # A rotation of its own for each member: activation and attention then see the components from another side.
            rotation = torch.linalg.qr(torch.randn(n_hidden, n_hidden)).Q.to(features)
            rows = features[nodes] if len(nodes) >= n_hidden else features
            self.encoder.start_from_components(rows, rotation)
        if isinstance(self.pooling, AdditiveAttention):
            size = self.embed(features, graphs)[nodes].norm(dim=1).mean().clamp_min(1e-6)
            for weight in (self.pooling.W_c, self.pooling.W_h):
                weight.copy_(_draw(weight) / size)
            self.pooling.v.copy_(_draw(self.pooling.v) * 0.1)


def _draw(like: Tensor) -> Tensor:
    """Normal numbers drawn on the processor, so that every device starts from the same."""
    return torch.randn(like.shape).to(like)
