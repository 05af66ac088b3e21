"""Similarities of genes from whole annotations and whole networks, for kernel ridge regression."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._annotations import read_annotations
from scapp._checked import checked
from scapp._edges import read_edges
from scapp._gene_names import GeneMatcher
from scapp.graph import diffusion, edges_to_csr, tf_idf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scapp._annotations import Annotations
    from scapp._edges import Edges
    from scapp._gene_names import Aliases
    from scapp._tables import PathLike


@checked
def annotation_similarity(
    annotations: Annotations,
    genes: Iterable[str],
    *,
    parents: pd.DataFrame | PathLike | None = None,
    min_genes: int = 2,
    max_genes: int | None = None,
    aliases: Aliases | None = None,
) -> pd.DataFrame:
    """Return cosines of the annotation of genes, weighted by tf-idf.

    What :func:`scapp.pp.add_gene_features` approximates by some components, without the loss.

    Parameters
    ----------
    annotations, parents, min_genes, max_genes
        As in :func:`scapp.pp.similarity_network`. Rarity is judged among all annotated genes.
    genes
        The genes to compare: the perturbed ones, to be trained on and to be predicted.
    aliases
        Names of genes, as in :func:`scapp.pp.add_network`.

    Returns
    -------
    Square table of similarities from 0 to 1, the genes as index and columns; 0 throughout for genes without
    annotation. For ``KernelRidge(similarities=…)``.

    Raises
    ------
    ValueError
        If the annotations cannot be read, or hardly any gene matches.

    Examples
    --------
    >>> go = annotation_similarity("gene2go.tsv", genes, parents="go_parents.tsv")
    >>> KernelRidge(similarities=go).fit(effects)
    """
    names = _names(genes)
    table = read_annotations(annotations, parents=parents)
    row = _rows_of(names, table.genes, aliases, "annotations")
    vectors = tf_idf(table.with_term_sizes(min_genes, max_genes).membership)[row[row >= 0]]
    return _over(names, row >= 0, (vectors @ vectors.T).toarray())


@checked
def diffusion_similarity(
    edges: Edges, genes: Iterable[str], *, restart: float = 0.5, aliases: Aliases | None = None
) -> pd.DataFrame:
    """Return cosines of the profiles of random walks with restart over a whole network.

    The walks :cite:p:`Kohler2008` lead through all genes of the network, of the effects or not.

    Parameters
    ----------
    edges
        As in :func:`scapp.pp.add_network`; a matrix or graph is over `genes`. Direction and signs are ignored, and of
        repeated edges the strongest counts.
    genes
        The genes to compare: the perturbed ones, to be trained on and to be predicted.
    restart
        Probability of the walk to go back to its start at each step.
    aliases
        Names of genes, as in :func:`scapp.pp.add_network`.

    Returns
    -------
    Square table of similarities from 0 to 1, the genes as index and columns; 0 throughout for genes that are not in
    the network. For ``KernelRidge(similarities=…)``.

    Raises
    ------
    ValueError
        If the edges cannot be read, hardly any gene matches, or restart is not a probability.

    Examples
    --------
    >>> go = annotation_similarity("gene2go.tsv", genes)
    >>> string = diffusion_similarity("string.tsv", genes)
    >>> KernelRidge(networks_key=None, similarities=[go, string], ridge=1).fit(effects)
    """
    names = _names(genes)
    table = read_edges(edges, var_names=names).edges
    ends, nodes = pd.factorize(pd.concat([table["source"], table["target"]]), sort=True)
    network = edges_to_csr(
        ends[: len(table)], ends[len(table) :], table["weight"], n_nodes=len(nodes), directed=False, duplicates="max"
    )
    row = _rows_of(names, list(nodes), aliases, "network")
    # What is left out of a profile changes its cosine with another by less than that.
    profiles = sparse.csr_matrix(diffusion(network, row[row >= 0], restart=restart, min_value=1e-6, tol=1e-6))
    length = np.sqrt(np.asarray(profiles.multiply(profiles).sum(axis=1)).ravel())
    profiles = sparse.csr_matrix(sparse.diags(1 / length) @ profiles)
    return _over(names, row >= 0, (profiles @ profiles.T).toarray())


def _names(genes: Iterable[str]) -> list[str]:
    if isinstance(genes, str):
        raise TypeError(f"Expected a list of genes, found the text {genes!r}. Pass [{genes!r}].")
    return list(dict.fromkeys(genes))


def _rows_of(names: Sequence[str], found: list[str], aliases: Aliases | None, what: str) -> NDArray[np.int64]:
    """Return the row of each gene in a source, -1 where there is none."""
    matcher = GeneMatcher(names, aliases)
    match = matcher.match(found)
    matcher.check_some_match(match, what)
    return match.best_names(len(names))[0]


def _over(names: list[str], known: NDArray[np.bool_], values: NDArray[np.floating]) -> pd.DataFrame:
    full = np.zeros((len(names), len(names)))
    full[np.ix_(known, known)] = values
    return pd.DataFrame(full, index=names, columns=names)
