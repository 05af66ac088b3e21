"""Networks that are computed: co-expression in control cells, similarity of annotation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse, stats

from scapp._annotations import Annotations, read_annotations
from scapp._checked import checked
from scapp._gene_names import Aliases, GeneMatcher, perturbed_genes_in
from scapp._genes import writable
from scapp._keys import Key
from scapp._labels import SEPARATOR, perturbed_genes, read_perturbations
from scapp._tables import PathLike
from scapp._warn import warn_user
from scapp.expression import Expression
from scapp.graph import nearest_neighbors, tf_idf
from scapp.pp._network import write_network

MIN_CELLS = 10


@checked
def coexpression_network(
    adata: AnnData,
    *,
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str | Sequence[str] = "control",
    sep: str = SEPARATOR,
    layer: str | None = None,
    total_counts_key: str | None = None,
    n_neighbors: int = 20,
    min_correlation: float = 0.2,
    method: Literal["pearson", "spearman"] = "pearson",
    key_added: str = "coexpression",
    copy: bool = False,
) -> AnnData | None:
    """Connect each gene to the genes with which it correlates most in the control cells.

    Perturbed cells are left out, because their correlations contain the effects to be predicted.

    Parameters
    ----------
    adata
        Cells, changed in place unless `copy`.
    perturbation_key, control, sep
        Column of ``adata.obs`` with the labels, label of the control cells (or a list of several), and separator
        between the genes of a label.
    layer
        Layer of the expression; `X` if None. Raw counts are recognised and converted to the natural log of counts per
        10,000 plus one; log-normalised values are used directly.
    total_counts_key
        Column of ``adata.obs`` with the total counts of each cell, if there are raw counts for only some of the genes.
    n_neighbors
        Number of neighbours that each gene chooses, by the magnitude of the correlation; it has more if other genes
        choose it.
    min_correlation
        Minimum magnitude for an edge. Over n cells, correlations scatter by about 1/sqrt(n) even if there is none.
    method
        Pearson or Spearman (rank) correlation.
    key_added
        Key in `varp` for the network.
    copy
        Return a changed copy and leave `adata` unchanged.

    Returns
    -------
    None, or the copy. The network in ``adata.varp[key_added]`` is a symmetric float32 csr matrix of shape (n_vars, n_vars), whose weights are the
    correlations with their sign. Genes that were not measured, or are constant in the control cells, have no edge. The
    report is logged and stored; ``scapp.pp.report(adata, "network", key_added)`` returns it.

    Raises
    ------
    ValueError
        If adata is a view or has duplicate genes, no or fewer than 10 cells are labelled `control`, the expression
        cannot be used, or no correlation is large enough. Nothing is written then.
    """
    adata = writable(adata, "scapp.pp.coexpression_network", copy=copy, key_added=key_added)
    perturbations = read_perturbations(
        adata, perturbation_key=perturbation_key, control=control, sep=sep, effects_allowed=False
    )
    perturbed = perturbed_genes(perturbations)
    cells = np.array([not genes for genes in perturbations])
    if cells.sum() < MIN_CELLS:
        raise ValueError(
            f"Only {cells.sum()} cells are labelled {control!r}; correlations of fewer than {MIN_CELLS} cells say nothing. "
            "Use scapp.pp.add_network or scapp.pp.similarity_network instead."
        )
    expression = Expression(adata, layer=layer, total_counts_key=total_counts_key)
    expression.warn_of_scale()
    values = _dense(expression, cells)
    if method == "spearman":
        values = stats.rankdata(values, axis=0)
    standardised, varies = _standardise(values)
    measured = np.flatnonzero(expression.measured)
    nodes = measured[varies]
    network = nearest_neighbors(
        lambda part: standardised[:, part].T @ standardised, len(nodes), n_neighbors=n_neighbors,
        min_similarity=min_correlation,
    )  # fmt: skip
    if network.nnz == 0:
        raise ValueError(
            f"No two genes correlate by {min_correlation} or more in the {cells.sum()} control cells. Lower min_correlation."
        )
    if 2 / np.sqrt(cells.sum()) > min_correlation:
        warn_user(
            f"With {cells.sum()} control cells, correlations of {min_correlation} occur by chance (their standard "
            f"deviation is {1 / np.sqrt(cells.sum()):.2g}). Raise min_correlation to {2 / np.sqrt(cells.sum()):.2g} or more."
        )
    params = {"control": control, "layer": layer, "n_neighbors": n_neighbors}
    write_network(
        adata,
        _embed(network, nodes, adata.n_vars),
        key=key_added,
        kind="coexpression",
        perturbed=perturbed,
        n_genes_matched=len(measured),
        n_genes_by_alias=0,
        weight_column=f"{method} correlation",
        constant_genes=tuple(adata.var_names[measured[~varies]]),
        params=params | {"min_correlation": min_correlation, "method": method, "n_control_cells": int(cells.sum())},
    )
    return adata if copy else None


@checked
def similarity_network(
    adata: AnnData,
    annotations: Annotations,
    *,
    parents: pd.DataFrame | PathLike | None = None,
    n_neighbors: int = 20,
    min_similarity: float = 0.0,
    min_genes: int = 2,
    max_genes: int | None = 1000,
    key_added: str = "similarity",
    aliases: Aliases | None = None,
    perturbation_key: str | None = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    copy: bool = False,
) -> AnnData | None:
    """Connect each gene to the genes with the most similar annotations.

    The similarity of two genes is the cosine of their terms weighted by tf-idf: a rare shared term counts a lot, and a
    term that all genes have counts nothing. Rarity is judged among all annotated genes, whether in adata or not.

    Parameters
    ----------
    adata
        Annotated data, changed in place unless `copy`. Its genes, measured or not, are the nodes.
    annotations
        Long table of genes and terms, or its path, whose columns are found as by :func:`scapp.resources.from_table`;
        mapping from term to genes; or the path of a GMT file. Examples are gene sets, pathways, and direct annotations of the Gene Ontology with `parents`.
    parents
        Long table, or its path, whose first two columns are child term and parent term; genes then also get the
        ancestors of their terms. Only the relations "is a" and "part of" are followed.
    n_neighbors
        Number of neighbours that each gene chooses; it has more if other genes choose it.
    min_similarity
        Minimum similarity for an edge, between 0 and 1; a similarity of zero never gives one.
    min_genes, max_genes
        Leave out terms with fewer or more annotated genes; None for no limit. Broad terms are uninformative, and the
        time grows with the square of their size.
    key_added
        Key in `varp` for the network.
    aliases
        Gene aliases, as in :func:`scapp.pp.add_network`.
    perturbation_key, control, sep
        Column with the perturbations, control label and separator, for reporting perturbed genes without edges; optional.
    copy
        Return a changed copy and leave `adata` unchanged.

    Returns
    -------
    None, or the copy. The network in ``adata.varp[key_added]`` is a symmetric float32 csr matrix of shape (n_vars, n_vars), with the similarities as
    weights. The report is logged and stored; ``scapp.pp.report(adata, "network", key_added)`` returns it.

    Raises
    ------
    ValueError
        If adata is a view or has duplicate genes, the annotations cannot be read, hardly any gene matches, or no
        similarity is large enough. Nothing is written then.
    """
    adata = writable(adata, "scapp.pp.similarity_network", copy=copy, key_added=key_added)
    perturbed = perturbed_genes_in(adata, perturbation_key, control, sep)
    table = read_annotations(annotations, parents=parents)
    matcher = GeneMatcher(adata.var_names, aliases)
    match = matcher.match(table.genes)
    matcher.check_some_match(match, "annotations", adata.var.columns)
    row, tied = match.best_names(adata.n_vars)
    nodes = np.flatnonzero(row >= 0)
    weights = tf_idf(table.with_term_sizes(min_genes, max_genes).membership)[row[nodes]].astype(np.float32)
    transposed = weights.T.tocsr()
    network = nearest_neighbors(
        lambda part: (weights[part] @ transposed).toarray(), len(nodes), n_neighbors=n_neighbors,
        min_similarity=min_similarity,
    )  # fmt: skip
    if network.nnz == 0:
        raise ValueError(
            f"No two of the {len(nodes)} annotated genes of adata are similar by min_similarity={min_similarity} or more. "
            f"Lower it, or let broader terms count: max_genes={max_genes}."
        )
    params = {"n_neighbors": n_neighbors, "min_similarity": min_similarity, "min_genes": min_genes}
    write_network(
        adata,
        _embed(network, nodes, adata.n_vars),
        key=key_added,
        kind="similarity",
        perturbed=perturbed,
        n_genes_matched=len(nodes),
        n_genes_by_alias=int((np.array(table.genes, dtype=object)[row[nodes]] != adata.var_names[nodes]).sum()),
        weight_column="tf-idf cosine",
        n_names=len(table.genes),
        ambiguous_names=(*match.ambiguous, *adata.var_names[tied]),
        params=params | {"max_genes": max_genes, "propagated": parents is not None},
    )
    return adata if copy else None


def _dense(expression: Expression, cells: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return log-normalised expression of some cells, of shape (n_cells, n_measured)."""
    values = np.empty((int(cells.sum()), len(expression.genes)), dtype=np.float32)
    position = np.concatenate([[0], np.cumsum(cells)])
    for block in expression.blocks(cells):
        part = block.values[cells[block.rows]]
        rows = slice(position[block.rows.start], position[block.rows.stop])
        values[rows, block.columns] = part.toarray() if sparse.issparse(part) else part
    return values


def _standardise(values: NDArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return columns of mean zero and length one, without the constant ones; and which are not constant."""
    varies = values.max(axis=0) > values.min(axis=0)
    centred = values[:, varies] - values[:, varies].mean(axis=0, dtype=np.float64)
    return (centred / np.linalg.norm(centred, axis=0)).astype(np.float32), varies


def _embed(network: sparse.csr_matrix, nodes: NDArray[np.intp], n_nodes: int) -> sparse.csr_matrix:
    """Expand a network of some nodes to all nodes, the rest of which have no edges."""
    coo = network.tocoo()
    return sparse.csr_matrix((coo.data, (nodes[coo.row], nodes[coo.col])), shape=(n_nodes, n_nodes))
