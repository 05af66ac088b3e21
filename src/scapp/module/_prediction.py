"""Predicting perturbations with a trained ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from scapp.module._anchor import Anchor, composition_of
from scapp.module._attention import Reach, reach
from scapp.module._calibration import Calibration
from scapp.module._diffusion import diffuse
from scapp.module._scale import N_TOGETHER

if TYPE_CHECKING:
    from scapp.module._encoder import Graph

Genes = tuple[int, ...]
# Combinations looked at together: their tanh layers over all genes should stay in the cache of a processor.
CHUNK = 128


class Units(NamedTuple):
    """Perturbations: `membership` (n, n_nodes), whose rows sum to one, and the walks from it over each network."""

    membership: Tensor
    walks: list[Tensor]

    def rows(self, rows: slice) -> Units:
        """Some of them."""
        return Units(self.membership[rows], [walk[rows] for walk in self.walks])

    def seen(self) -> tuple[Tensor, list[Reach]]:
        """What the attention sees of them: the membership, and which genes each head reaches."""
        return self.membership, [reach(prior) for prior in (self.membership, *self.walks)]


class Average(NamedTuple):
    """Mean over members: log-fold-changes (n, n_genes), distance from training (n,), attention (n, n_nodes)."""

    lfc: Tensor
    distance: Tensor
    attention: Tensor


class Prediction(NamedTuple):
    """Log-fold-changes and their standard deviations (n, n_genes), attention (n, n_nodes)."""

    lfc: Tensor
    std: Tensor
    attention: Tensor


class PredictionMixin:
    """How :class:`APPModule` looks at perturbations, and what it predicts once it is trained."""

    main: nn.ModuleList
    interaction: nn.ModuleList
    main_calibration: Calibration
    interaction_calibration: Calibration
    anchor: Anchor | None
    anchored: bool
    features: Tensor
    targets: Tensor
    singles_error: Tensor
    single_column: dict[int, int]
    interaction_features: Tensor
    graphs: list[Graph]

    def gene_units(self, nodes: Sequence[int]) -> Units:
        """Units of genes perturbed alone."""
        index = torch.as_tensor(list(nodes), dtype=torch.long, device=self.features.device)
        membership = torch.zeros(len(index), len(self.features), device=self.features.device)
        membership[torch.arange(len(index), device=index.device), index] = 1
        return Units(membership, [diffuse(membership, graph) for graph in self.graphs])

    def _combine(self, genes: Units, composition: Tensor) -> Units:
        """Units of combinations of genes: all is linear in the membership, so the walks are averaged, not walked again."""
        share = composition / composition.sum(1, keepdim=True)
        return Units(share @ genes.membership, [share @ walk for walk in genes.walks])

    def _units(self, perturbations: Sequence[Genes]) -> Units:
        nodes = sorted({gene for genes in perturbations for gene in genes})
        composition = composition_of(perturbations, {gene: k for k, gene in enumerate(nodes)}).to(self.features)
        return self._combine(self.gene_units(nodes), composition)

    @torch.inference_mode()
    def predict(self, perturbations: Sequence[Genes]) -> Prediction:
        """Effects of some perturbations, each a tuple of nodes.

        A single perturbation that was measured is predicted as measured, denoised; see :class:`APPModule` for the others.
        """
        nodes = sorted({gene for genes in perturbations for gene in genes})
        composition = composition_of(perturbations, {gene: k for k, gene in enumerate(nodes)}).to(self.features)
        genes = self.gene_units(nodes)
        if not self.anchored:
            parts = [self._main_effects(self._combine(genes, part)) for part in composition.split(CHUNK)]
            return _join(parts)
        own = self._own_effects(nodes, genes)
        parts = [
            self._predict_anchored(list(perturbations[i : i + CHUNK]), composition[i : i + CHUNK], genes, own)
            for i in range(0, len(composition), CHUNK)
        ]
        return _join(parts)

    @torch.inference_mode()
    def gene_embeddings(self) -> Tensor:
        """Embeddings of all genes, those of the members side by side: (n_nodes, n_models * n_hidden)."""
        return torch.cat([member.embed(self.features, self.graphs) for member in self.main], dim=1)

    @torch.inference_mode()
    def perturbation_embeddings(self, perturbations: Sequence[Genes]) -> Tensor:
        """Cell states of the main effects, those of heads and members side by side."""
        seen = self._units(perturbations).seen()
        states = [member.states(self.features, self.graphs, *seen)[0].flatten(1) for member in self.main]
        return torch.cat(states, dim=1)

    def _main_effects(self, units: Units) -> Prediction:
        lfc, distance, attention = self._average(self.main, self.features, units)
        return Prediction(lfc, self.main_calibration(lfc, distance), attention)

    def _own_effects(self, nodes: list[int], genes: Units) -> Prediction:
        """Effect of each gene alone: measured and denoised where there is a measurement, predicted elsewhere."""
        assert self.anchor is not None
        rows = range(0, len(nodes), N_TOGETHER)
        lfc, std, attention = _join([self._main_effects(genes.rows(slice(i, i + N_TOGETHER))) for i in rows])
        measured = [k for k, node in enumerate(nodes) if node in self.single_column]
        rows = [self.single_column[nodes[k]] for k in measured]
        lfc[measured] = self.anchor.singles[rows]
        # Effects that came without standard errors are not certain: the error of predicting them bounds theirs.
        known = [k for k, row in zip(measured, rows, strict=True) if self.singles_error[row].any()]
        std[known] = self.singles_error[[self.single_column[nodes[k]] for k in known]]
        return Prediction(lfc, std, attention)

    def _predict_anchored(
        self, perturbations: list[Genes], composition: Tensor, genes: Units, own: Prediction
    ) -> Prediction:
        assert self.anchor is not None
        alone = torch.tensor([len(p) == 1 for p in perturbations], device=composition.device)
        share = composition / composition.sum(1, keepdim=True)
        lfc, variance = composition @ own.lfc, composition @ own.std.square()
        attention = share @ own.attention
        combined = ~alone
        lfc[combined] *= self.anchor.scale
        variance[combined] *= self.anchor.scale.square()
        if combined.any() and len(self.interaction):
            units = self._combine(genes, composition[combined])
            added = self._average(self.interaction, self.interaction_features, units)
            lfc[combined] += added.lfc
            error = self.interaction_calibration(lfc[combined], added.distance)
            # The noise of the interaction term is that of whole combinations, that of measured singles included.
            unmeasured = torch.tensor([node not in self.single_column for node in self._nodes_of(genes)]).to(
                composition
            )
            variance[combined] = (
                composition[combined] * unmeasured
            ) @ own.std.square() * self.anchor.scale.square() + error.square()
            attention[combined] = added.attention
        return Prediction(lfc, variance.sqrt(), attention)

    def _anchor_of(self, combinations: Sequence[Genes]) -> Tensor:
        assert self.anchor is not None
        composition = composition_of(combinations, self.single_column).to(self.features)
        return self.anchor(composition, self._rest(combinations))

    def _rest(self, combinations: Sequence[Genes]) -> Tensor:
        """Sum of the predicted effects of those genes of each combination that were not measured alone."""
        nodes = sorted({gene for genes in combinations for gene in genes} - set(self.single_column))
        if not nodes:
            return self.targets.new_zeros(len(combinations), self.targets.shape[1])
        effects = self._average(self.main, self.features, self.gene_units(nodes)).lfc
        return composition_of(combinations, {gene: k for k, gene in enumerate(nodes)}).to(effects) @ effects

    def _average(self, members: nn.ModuleList, features: Tensor, units: Units) -> Average:
        found, seen = [], units.seen()
        for member in members:
            states, attention = member.states(features, self.graphs, *seen)
            decoder = member.decoder
            found.append((decoder(states, None), decoder.distance(states, None), attention.mean(1)))
        return Average(*(mean_of(list(tensors)) for tensors in zip(*found, strict=True)))

    def _nodes_of(self, genes: Units) -> list[int]:
        return genes.membership.argmax(1).tolist()


def mean_of(tensors: list[Tensor]) -> Tensor:
    """Mean of a handful of tensors, faster than stacking them."""
    return sum(tensors[1:], tensors[0]) / len(tensors)


def _join(parts: list[Prediction]) -> Prediction:
    return Prediction(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
