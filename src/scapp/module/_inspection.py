"""What a trained ensemble attended to, and what it would predict without some genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from scapp.module._prediction import CHUNK, PredictionMixin
from scapp.module._units import Genes, Units

if TYPE_CHECKING:
    from scapp.module._predictor import Predictor


class Attended(NamedTuple):
    """Attention of each member and its prior, both (n_models, n, n_nodes); mean over heads, rows sum to one."""

    attention: Tensor
    prior: Tensor


class Without(NamedTuple):
    """The attended part of predictions (n, n_genes), and the same without sets of genes (n, n_sets, n_genes)."""

    whole: Tensor
    without: Tensor


class Term(NamedTuple):
    """Perturbations that the same members attend for: the effects of the units of one `owner` add up."""

    members: nn.ModuleList
    features: Tensor
    units: Units
    owner: Tensor


class InspectionMixin(PredictionMixin):
    """How :class:`APPModule` is asked about its attention.

    Only a part of a prediction passes through the attention: for one gene equations 1 to 7, whether or not its effect was
    measured; for a combination the interaction term or, where there is none, the sum of equations 1 to 7 over its genes.
    This is the part that is looked at here, and whose attention `predict` reports.
    """

    @property
    def attends(self) -> bool:
        """Whether there is an attention that could look beyond the perturbed genes."""
        return self.main[0].architecture.pooling == "attention"

    @torch.inference_mode()
    def attended(self, perturbations: Sequence[Genes]) -> Attended:
        """Attention of each member to each gene, and what it would be without the score of equation 4."""
        attention, prior = self.features.new_zeros(2, len(self.main), len(perturbations), len(self.features))
        for term in self._terms(perturbations):
            seen = term.units.seen()
            for k, member in enumerate(term.members):
                _, found = member.states(term.features, self.graphs, *seen)
                attention[k].index_add_(0, term.owner, found.mean(1))
                prior[k].index_add_(0, term.owner, member.pooling.prior(*seen).mean(1))
        n_units = prior[0].sum(1, keepdim=True)  # each unit's prior sums to one
        return Attended(attention / n_units, prior / n_units)

    @torch.inference_mode()
    def predict_without(self, perturbations: Sequence[Genes], removed: Tensor | np.ndarray) -> Without:
        """Predict with the embeddings of some genes set to the mean over all genes, in the cell state.

        The attention stays what it was: the weights still sum to one and no other gene gains, so that the change is due to
        the removed genes alone. (With their weights set to zero and the others stretched to sum to one, removing what holds
        nearly all attention would blow up what is left.)

        Parameters
        ----------
        perturbations
            Each a tuple of nodes.
        removed
            Nodes, of shape (n, n_sets, n_removed), integer; no node twice in a set.
        """
        removed = torch.as_tensor(removed, dtype=torch.long, device=self.features.device)
        n, n_sets, _ = removed.shape
        n_genes = self.targets.shape[1]
        whole, without = self.targets.new_zeros(n, n_genes), self.targets.new_zeros(n, n_sets, n_genes)
        for term in self._terms(perturbations):
            seen = term.units.seen()
            for member in term.members:
                kept, changed = self._without(member, term.features, seen, removed[term.owner])
                whole.index_add_(0, term.owner, kept / len(term.members))
                without.index_add_(0, term.owner, changed / len(term.members))
        return Without(whole, without)

    def _without(self, member: Predictor, features: Tensor, seen: tuple, removed: Tensor) -> tuple[Tensor, Tensor]:
        states, attention = member.states(features, self.graphs, *seen)
        h = member.embed(features, self.graphs)
        n_heads = attention.shape[1]
        weight = attention.gather(2, removed.flatten(1)[:, None].expand(-1, n_heads, -1))
        weight = weight.unflatten(2, removed.shape[1:])
        shift = torch.einsum("uhsk,uskd->ushd", weight, (h.mean(0) - h)[removed])
        changed = member.decoder((states[:, None] + shift).flatten(0, 1), None)
        return member.decoder(states, None), changed.unflatten(0, removed.shape[:2])

    def _terms(self, perturbations: Sequence[Genes]) -> list[Term]:
        def at(rows: Sequence[int]) -> Tensor:
            return torch.as_tensor(rows, dtype=torch.long, device=self.features.device)

        terms = []
        together = [i for i, genes in enumerate(perturbations) if len(genes) > 1 and self._attends_together]
        apart = [(i, gene) for i, genes in enumerate(perturbations) if i not in set(together) for gene in genes]
        members, features = (
            (self.interaction, self.interaction_features) if self.anchored else (self.main, self.features)
        )
        for start in range(0, len(together), CHUNK):
            rows = together[start : start + CHUNK]
            terms.append(Term(members, features, self.combined_units([perturbations[i] for i in rows]), at(rows)))
        for start in range(0, len(apart), CHUNK):
            rows, nodes = zip(*apart[start : start + CHUNK], strict=True)
            terms.append(Term(self.main, self.features, self.gene_units(nodes), at(rows)))
        return terms

    @property
    def _attends_together(self) -> bool:
        """Whether the genes of a combination are attended for as one."""
        return not self.anchored or len(self.interaction) > 0
