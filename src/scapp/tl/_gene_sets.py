"""Genes related to a perturbation by prior knowledge: neighbours, targets, members of its pathways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._annotations import read_annotations
from scapp._edges import read_edges
from scapp._gene_names import GeneMatcher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._annotations import Annotations
    from scapp._edges import Edges
    from scapp._gene_names import Aliases

# Larger pathways, such as "Metabolism", hold genes that have little to do with each other.
MAX_PATHWAY_SIZE = 200


@dataclass(frozen=True)
class GeneSets:
    """Genes that belong together by one source: `related` is a boolean matrix of genes by genes, row = perturbed gene."""

    source: str
    related: sparse.csr_matrix
    by_construction: bool

    def of(self, perturbed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the genes related to those of each perturbation, which are left out; shape (n, n_genes)."""
        found = sparse.csr_matrix(perturbed.astype(np.float32)) @ self.related
        return (found.toarray() > 0) & ~perturbed


def gene_sets(
    genes: Sequence[str],
    own: Mapping[str, sparse.csr_matrix],
    *,
    networks: Mapping[str, Edges] | None,
    regulons: Edges | None,
    pathways: Annotations | None,
    known: Sequence[str],
    aliases: Aliases | None,
) -> list[GeneSets]:
    """Read all sources; see :func:`scapp.tl.attention_checks`.

    Raises
    ------
    ValueError
        If a source is about other genes, or `known` names none of the sources.
    """
    matcher = GeneMatcher(genes, aliases)
    found = [GeneSets(f"neighbours, {key}", _either_way(adjacency), True) for key, adjacency in own.items()]
    names = {
        *(networks or {}),
        *(["regulons"] if regulons is not None else []),
        *(["pathways"] if pathways is not None else []),
    }
    if unknown := [name for name in known if name not in names]:
        raise ValueError(
            f"known={list(known)!r} names {unknown[0]!r}, which is not given; the sources are {sorted(names) or 'none'}."
        )
    for name, edges in (networks or {}).items():
        related = _either_way(_edges(edges, genes, matcher, f"networks[{name!r}]"))
        found.append(GeneSets(f"neighbours, {name}", related, name in known))
    if regulons is not None:
        related = _edges(regulons, genes, matcher, "regulons")
        found.append(GeneSets("targets, regulons", related, "regulons" in known))
    if pathways is not None:
        found.append(GeneSets("same pathway", _together(pathways, genes, matcher), "pathways" in known))
    return found


def _edges(edges: Edges, genes: Sequence[str], matcher: GeneMatcher, argument: str) -> sparse.csr_matrix:
    table = read_edges(edges, var_names=genes).edges
    names, codes = np.unique(pd.concat([table["source"], table["target"]]).to_numpy(str), return_inverse=True)
    position = _positions(names.tolist(), genes, matcher)
    source, target = position[codes[: len(table)]], position[codes[len(table) :]]
    inside = (source >= 0) & (target >= 0) & (source != target)
    if not inside.any():
        raise ValueError(
            f"None of the {len(table)} edges of {argument} joins two of the model's {len(genes)} genes, which are named "
            f"like {genes[0]!r}, and the edges like {names[0]!r}. Pass aliases=… if they go by other names."
        )
    return _boolean(source[inside], target[inside], len(genes))


def _together(pathways: Annotations, genes: Sequence[str], matcher: GeneMatcher) -> sparse.csr_matrix:
    """Return pairs of genes that share a pathway of moderate size."""
    table = read_annotations(pathways).with_term_sizes(2, MAX_PATHWAY_SIZE)
    position = _positions(table.genes, genes, matcher)
    rows, terms = table.membership.nonzero()
    inside = position[rows] >= 0
    if not inside.any():
        raise ValueError(
            f"None of the {len(table.genes)} genes of pathways is among the model's {len(genes)}, which are named like "
            f"{genes[0]!r}. Pass aliases=… if they go by other names."
        )
    ones = np.ones(int(inside.sum()), dtype=np.float32)
    membership = sparse.csr_matrix((ones, (position[rows[inside]], terms[inside])), (len(genes), len(table.terms)))
    source, target = (membership @ membership.T).nonzero()
    return _boolean(source[source != target], target[source != target], len(genes))


def _positions(names: list[str], genes: Sequence[str], matcher: GeneMatcher) -> NDArray[np.intp]:
    """Return the number of the gene that each name means, -1 for none."""
    best, _ = matcher.match(names).best_names(len(genes))
    position = np.full(len(names), -1, dtype=np.intp)
    position[best[best >= 0]] = np.flatnonzero(best >= 0)
    return position


def _either_way(adjacency: sparse.csr_matrix) -> sparse.csr_matrix:
    source, target = adjacency.nonzero()
    other = source != target
    source, target = source[other], target[other]
    return _boolean(np.r_[source, target], np.r_[target, source], adjacency.shape[0])


def _boolean(source: NDArray[np.intp], target: NDArray[np.intp], n: int) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(source), dtype=np.float32), (source, target)), shape=(n, n))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
