"""Perturbations as the module sees them: genes, alone or in combinations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from scapp.module._attention import Reach, reach

Genes = tuple[int, ...]


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

    def combined(self, bags: Bags) -> Units:
        """Units of combinations of these: all is linear in the membership, so walks are averaged, not walked again."""
        return Units(bags.mean(self.membership), [bags.mean(walk) for walk in self.walks])


class Bags(NamedTuple):
    """Combinations of genes as bags: rows `index` of a table of genes, each combination from its `offsets` (n,) on.

    Sums over bags read two or three rows of the table for each combination; a product with a matrix of combinations by
    genes would read all of it.
    """

    index: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, perturbations: Sequence[Genes], column: dict[int, int], device: torch.device) -> Bags:
        """Bags of some perturbations, whose genes stand in the rows `column` of the tables."""
        sizes = torch.tensor([0, *(len(genes) for genes in perturbations[:-1])], dtype=torch.long)
        index = torch.tensor([column[gene] for gene in chain.from_iterable(perturbations)], dtype=torch.long)
        return cls(index.to(device), sizes.cumsum(0).to(device))

    def sum(self, table: Tensor) -> Tensor:
        """Sum of the rows of `table`, of shape (n_genes, n_columns), over each combination: (n, n_columns)."""
        return embedding_bag(self.index, table, self.offsets, mode="sum")

    def mean(self, table: Tensor) -> Tensor:
        """Mean of the rows of `table` over each combination."""
        return embedding_bag(self.index, table, self.offsets, mode="mean")
