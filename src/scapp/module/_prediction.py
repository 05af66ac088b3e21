"""Predicting perturbations with a trained ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from scapp.module._anchor import Anchor, composition_of
from scapp.module._calibration import Calibration
from scapp.module._diffusion import diffuse
from scapp.module._units import Bags, Genes, Units

if TYPE_CHECKING:
    from scapp.module._encoder import Graph

# Combinations looked at together: their tanh layers over all genes should stay in the cache of a processor.
CHUNK = 128


class Average(NamedTuple):
    """Mean over members: log-fold-changes (n, n_genes), distance from training (n,), attention (n, n_nodes).

    Distance and attention are None where they were not asked.
    """

    lfc: Tensor
    distance: Tensor | None
    attention: Tensor | None


class Prediction(NamedTuple):
    """Log-fold-changes and their standard deviations (n, n_genes), attention (n, n_nodes).

    Standard deviations and attention are None where they were not asked.
    """

    lfc: Tensor
    std: Tensor | None
    attention: Tensor | None


class Wanted(NamedTuple):
    """What to predict beside the log-fold-changes: leaving out the rest saves more than half of the time."""

    std: bool = True
    attention: bool = True


class Known(NamedTuple):
    """What is the same for all perturbations of some genes, computed once and not for each of them.

    `column` is the row of each node in the tables of genes, `genes` their units, `own` what each does alone,
    `unmeasured_variance` the variance of that where it was not measured (zero elsewhere; None if all were); `main` and
    `interaction` are the gene embeddings of the members.
    """

    column: dict[int, int]
    genes: Units
    main: list[Tensor]
    interaction: list[Tensor]
    own: Prediction | None
    unmeasured_variance: Tensor | None


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

    def combined_units(self, perturbations: Sequence[Genes]) -> Units:
        """Units of combinations of genes."""
        column = _columns(perturbations)
        return self.gene_units(list(column)).combined(Bags.of(perturbations, column, self.features.device))

    def predict(self, perturbations: Sequence[Genes]) -> Prediction:
        """Effects of some perturbations, each a tuple of nodes.

        A single perturbation that was measured is predicted as measured, denoised; see :class:`APPModule` for the others.
        """
        return next(self.predict_batches([perturbations], nodes=_columns(perturbations)))

    @torch.inference_mode()
    def predict_batches(
        self, batches: Iterable[Sequence[Genes]], *, nodes: Iterable[int], wanted: Wanted = Wanted()
    ) -> Iterator[Prediction]:
        """Effects of any number of perturbations, batch by batch, in memory that does not grow with their number.

        Parameters
        ----------
        batches
            Perturbations, each a tuple of nodes.
        nodes
            The genes that occur in them.
        wanted
            What to predict beside the log-fold-changes.
        """
        known = self._look_up(sorted(nodes), wanted)
        for batch in batches:
            parts = [batch[i : i + CHUNK] for i in range(0, len(batch), CHUNK)]
            yield _join([self._predict_chunk(part, known, wanted) for part in parts])

    @torch.inference_mode()
    def gene_embeddings(self) -> Tensor:
        """Embeddings of all genes, those of the members side by side: (n_nodes, n_models * n_hidden)."""
        return torch.cat(self._embeddings(self.main, self.features), dim=1)

    @torch.inference_mode()
    def perturbation_embeddings(self, perturbations: Sequence[Genes]) -> Tensor:
        """Cell states of the main effects, those of heads and members side by side."""
        seen = self.combined_units(perturbations).seen()
        states = [member.states(self.features, self.graphs, *seen)[0].flatten(1) for member in self.main]
        return torch.cat(states, dim=1)

    def _embeddings(self, members: nn.ModuleList, features: Tensor) -> list[Tensor]:
        return [member.embed(features, self.graphs) for member in members]

    def _look_up(self, nodes: list[int], wanted: Wanted) -> Known:
        genes = self.gene_units(nodes)
        main = self._embeddings(self.main, self.features)
        column = {node: k for k, node in enumerate(nodes)}
        if not self.anchored:
            return Known(column, genes, main, [], None, None)
        own = self._own_effects(nodes, genes, main, wanted)
        unmeasured = torch.tensor([node not in self.single_column for node in nodes]).to(self.features)
        rest = None if own.std is None or not unmeasured.any() else own.std.square() * unmeasured[:, None]
        return Known(column, genes, main, self._embeddings(self.interaction, self.interaction_features), own, rest)

    def _predict_chunk(self, perturbations: Sequence[Genes], known: Known, wanted: Wanted) -> Prediction:
        if known.own is None:
            bags = Bags.of(perturbations, known.column, self.features.device)
            return self._main_effects(known.genes.combined(bags), known.main, wanted)
        combined = [i for i, genes in enumerate(perturbations) if len(genes) > 1]
        if len(combined) == len(perturbations):
            return self._predict_combinations(perturbations, known, wanted)
        # What each gene does alone is known; where there are combinations, their rows are then replaced.
        first = torch.tensor([known.column[genes[0]] for genes in perturbations], device=self.features.device)
        found = Prediction(*(None if table is None else table[first] for table in known.own))
        if combined:
            of_combinations = self._predict_combinations([perturbations[i] for i in combined], known, wanted)
            for table, values in zip(found, of_combinations, strict=True):
                if table is not None:
                    table[combined] = values
        return found

    def _main_effects(self, units: Units, embeddings: list[Tensor], wanted: Wanted) -> Prediction:
        found = self._average(self.main, embeddings, units, wanted)
        std = None if found.distance is None else self.main_calibration(found.lfc, found.distance)
        return Prediction(found.lfc, std, found.attention)

    def _own_effects(self, nodes: list[int], genes: Units, embeddings: list[Tensor], wanted: Wanted) -> Prediction:
        """Effect of each gene alone: measured and denoised where there is a measurement, predicted elsewhere."""
        assert self.anchor is not None
        parts = [genes.rows(slice(i, i + CHUNK)) for i in range(0, len(nodes), CHUNK)]
        lfc, std, attention = _join([self._main_effects(part, embeddings, wanted) for part in parts])
        measured = [k for k, node in enumerate(nodes) if node in self.single_column]
        rows = [self.single_column[nodes[k]] for k in measured]
        lfc[measured] = self.anchor.singles[rows]
        if std is not None:
            # Effects that came without standard errors are not certain: the error of predicting them bounds theirs.
            certain = [k for k, row in zip(measured, rows, strict=True) if self.singles_error[row].any()]
            std[certain] = self.singles_error[[self.single_column[nodes[k]] for k in certain]]
        return Prediction(lfc, std, attention)

    def _predict_combinations(self, perturbations: Sequence[Genes], known: Known, wanted: Wanted) -> Prediction:
        assert self.anchor is not None and known.own is not None
        bags, own = Bags.of(perturbations, known.column, self.features.device), known.own
        lfc = bags.sum(own.lfc) * self.anchor.scale
        if not len(self.interaction):
            std = None if own.std is None else (bags.sum(own.std.square()).sqrt() * self.anchor.scale.abs())
            return Prediction(lfc, std, None if own.attention is None else bags.mean(own.attention))
        units = known.genes.combined(bags)
        added = self._average(self.interaction, known.interaction, units, wanted)
        lfc += added.lfc
        if added.distance is None:
            return Prediction(lfc, None, added.attention)
        std = self.interaction_calibration(lfc, added.distance)
        if known.unmeasured_variance is not None:
            # The noise of the interaction term is that of whole combinations, that of measured singles included.
            rest = bags.sum(known.unmeasured_variance) * self.anchor.scale.square()
            std = (rest + std.square()).sqrt()
        return Prediction(lfc, std, added.attention)

    def _anchor_of(self, combinations: Sequence[Genes]) -> Tensor:
        assert self.anchor is not None
        composition = composition_of(combinations, self.single_column).to(self.features)
        return self.anchor(composition, self._rest(combinations))

    def _rest(self, combinations: Sequence[Genes]) -> Tensor:
        """Sum of the predicted effects of those genes of each combination that were not measured alone."""
        nodes = sorted({gene for genes in combinations for gene in genes} - set(self.single_column))
        if not nodes:
            return self.targets.new_zeros(len(combinations), self.targets.shape[1])
        embeddings = self._embeddings(self.main, self.features)
        effects = self._average(self.main, embeddings, self.gene_units(nodes), Wanted(std=False, attention=False)).lfc
        return composition_of(combinations, {gene: k for k, gene in enumerate(nodes)}).to(effects) @ effects

    def _average(self, members: nn.ModuleList, embeddings: Sequence[Tensor], units: Units, wanted: Wanted) -> Average:
        seen = units.seen()
        lfc, distance, attention = [], [], []
        for member, h in zip(members, embeddings, strict=True):
            if wanted.attention:
                states, weights = member.pooling(h, *seen)
                attention.append(weights.mean(1))
            else:
                states = member.pooling.states(h, *seen)
            lfc.append(member.decoder(states, None))
            if wanted.std:
                distance.append(member.decoder.distance(states, None))
        return Average(mean_of(lfc), mean_of(distance) if distance else None, mean_of(attention) if attention else None)


def mean_of(tensors: list[Tensor]) -> Tensor:
    """Mean of a handful of tensors, faster than stacking them."""
    return sum(tensors[1:], tensors[0]) / len(tensors)


def _columns(perturbations: Iterable[Genes]) -> dict[int, int]:
    """Row of each gene that occurs, in the order of the nodes."""
    return {gene: k for k, gene in enumerate(sorted({gene for genes in perturbations for gene in genes}))}


def _join(parts: list[Prediction]) -> Prediction:
    if len(parts) == 1:
        return parts[0]
    return Prediction(*(None if tensors[0] is None else torch.cat(tensors) for tensors in zip(*parts, strict=True)))
