"""The perturbations that a function looks at: labels that a user gives, or all combinations of some genes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scapp._labels import check_known, format_label, refuse_text

if TYPE_CHECKING:
    from scipy import sparse

    from scapp.model import APP

Genes = tuple[int, ...]


@dataclass(frozen=True)
class Candidates:
    """Perturbations as tuples of nodes: those of `labels`, or all combinations of `order` of the `nodes`."""

    model: APP
    nodes: list[int]
    order: int
    labels: list[str] | None = None
    parsed: list[Genes] | None = None

    @classmethod
    def read(
        cls,
        model: APP,
        perturbations: Iterable[str] | str,
        *,
        genes: Iterable[str] | None,
        order: int,
        informed: bool = False,
    ) -> Candidates:
        """Read what the user asks for, before anything is computed: labels, or ``"all"`` combinations of `order` genes.

        By default these are the genes that were measured alone or, if there are none, those of the training perturbations;
        with `informed`, for order 1 all genes about which the model knows something.
        """
        check_model(model)
        if isinstance(perturbations, str) and perturbations == "all":
            if genes is None and order == 1 and informed:
                genes = model.informed_genes
            return cls(model, _nodes(model, genes, order), order)
        if genes is not None:
            raise ValueError("Pass either labels of perturbations, or genes=… of which all combinations are meant.")
        labels, parsed = model.read_perturbations(perturbations)
        return cls(model, sorted({g for p in parsed for g in p}), max(map(len, parsed)), labels, parsed)

    def __len__(self) -> int:
        return math.comb(len(self.nodes), self.order) if self.parsed is None else len(self.parsed)

    def batches(self, size: int) -> Iterator[list[Genes]]:
        """Yield all of them, `size` at a time."""
        everything = itertools.combinations(self.nodes, self.order) if self.parsed is None else iter(self.parsed)
        while batch := list(itertools.islice(everything, size)):
            yield batch

    def names(self, positions: Iterable[int], genes: Iterable[Genes]) -> list[str]:
        """Return the labels at some positions, as spelled by the user or made from their genes."""
        if self.labels is not None:
            return [self.labels[i] for i in positions]
        sep, names = self.model.registry["setup_args"]["sep"], self.model.genes
        return [format_label((names[g] for g in p), sep=sep) for p in genes]


def networks_of(model: APP) -> dict[str, sparse.csr_matrix]:
    """Return the networks of a model by their keys; a single one is called ``"network"``."""
    return model.network if isinstance(model.network, dict) else {"network": model.network}


def check_model(model: APP) -> None:
    """Raise unless this is a trained :class:`scapp.model.APP`."""
    from scapp.model import APP

    if not isinstance(model, APP):
        raise TypeError(f"Expected a scapp.model.APP, found {type(model).__name__}.")
    model.check_trained()


def _nodes(model: APP, genes: Iterable[str] | None, order: int) -> list[int]:
    if order < 1:
        raise ValueError(f"order must be at least 1, found {order}.")
    if genes is None:
        module = model.module
        nodes = sorted(module.single_row) or sorted({g for p in module.perturbations for g in p})
    else:
        refuse_text(genes, "genes")
        asked = list(dict.fromkeys(genes))
        check_known([(gene,) for gene in asked], model.genes)
        node = {gene: i for i, gene in enumerate(model.genes)}
        nodes = sorted(node[gene] for gene in asked)
    if len(nodes) < order:
        raise ValueError(
            f"{len(nodes)} gene(s) cannot be combined to {order}: pass more with genes=…, or a smaller order."
        )
    return nodes
