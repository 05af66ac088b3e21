"""Similarities of genes: from the effects, from the user, and from whole annotations and networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._annotations import Annotations, read_annotations
from scapp._checked import checked
from scapp._edges import read_edges
from scapp._gene_names import Aliases, GeneMatcher
from scapp._genes import shorten
from scapp._labels import refuse_text
from scapp._training_effects import TrainingEffects
from scapp.baselines._base import Baseline
from scapp.graph import check_restart, diffusion, edges_to_csr, tf_idf

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scapp._edges import Edges
    from scapp._labels import Perturbation
    from scapp._tables import PathLike


class Similarity:
    """A kernel over genes: symmetric, positive semi-definite, about 1 for a gene and itself; 0 where nothing is known.

    It is the dot product of the genes' vectors, over the longest vector's with itself. The rows keep their relative
    lengths: short ones are of genes of which the features hold little. Subclasses have other vectors, or none.
    """

    _has_any: NDArray[np.bool_]

    def __init__(self, genes: pd.Index, values: NDArray[np.floating]) -> None:
        self.genes = genes
        filled = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
        longest = np.linalg.norm(filled, axis=1).max(initial=0)
        self._vectors = filled / longest if longest > 0 else filled
        self._has_any = np.asarray(self._vectors.any(axis=1))

    def knows(self, genes: Sequence[str]) -> NDArray[np.bool_]:
        """Return for which genes it holds anything."""
        index = self.genes.get_indexer(list(genes))
        return (index >= 0) & self._has_any[index]

    def unknown(self, genes: Sequence[str]) -> list[str]:
        """Return the genes for which it holds nothing."""
        return [gene for gene, known in zip(genes, self.knows(genes), strict=True) if not known]

    def between(self, genes: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
        """Return similarities of shape (n_genes, n_others)."""
        return np.asarray(self._rows(genes) @ self._rows(others).T, dtype=np.float64)

    def _rows(self, genes: Sequence[str]) -> NDArray[np.floating]:
        index = self.genes.get_indexer(list(genes))
        return np.where((index >= 0)[:, None], self._vectors[index], 0)


class NetworkSimilarity(Similarity):
    """Cosines of the profiles of random walks with restart; 0 for genes without edges.

    Profiles are made when they are first asked for, and kept.
    """

    def __init__(self, genes: pd.Index, network: sparse.csr_matrix, restart: float) -> None:
        self.genes, self._network, self._restart = genes, network, restart
        self._walks: dict[str, NDArray[np.float32]] = {}
        # An edge in either direction leads somewhere, or is found from somewhere; self-loops do neither.
        edges = sparse.coo_matrix(network)
        edges.eliminate_zeros()
        apart = edges.row != edges.col
        self._has_any = np.zeros(len(genes), dtype=bool)
        self._has_any[edges.row[apart]] = self._has_any[edges.col[apart]] = True

    def _rows(self, genes: Sequence[str]) -> NDArray[np.float32]:
        known = self.knows(genes)
        names = [gene for gene, found in zip(genes, known, strict=True) if found]
        new = list(dict.fromkeys(gene for gene in names if gene not in self._walks))
        if new:
            walks = np.asarray(diffusion(self._network, self.genes.get_indexer(new), restart=self._restart))
            walks /= np.linalg.norm(walks, axis=1, keepdims=True)
            self._walks.update(zip(new, walks, strict=True))
        profiles = np.zeros((len(genes), len(self.genes)), dtype=np.float32)
        if names:
            profiles[known] = [self._walks[gene] for gene in names]
        return profiles


class GivenSimilarity(Similarity):
    """Similarities as they were given."""

    def __init__(self, genes: pd.Index, values: NDArray[np.float64]) -> None:
        self.genes, self._values, self._has_any = genes, values, np.asarray(values.any(axis=1))

    def between(self, genes: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
        rows, columns = self.genes.get_indexer(list(genes)), self.genes.get_indexer(list(others))
        known = (rows >= 0)[:, None] & (columns >= 0)[None, :]
        return np.where(known, self._values[np.ix_(rows, columns)], 0)


class SummedSimilarity(Similarity):
    """The sum of several similarities; it knows of a gene what any of them does."""

    def __init__(self, parts: Sequence[Similarity]) -> None:
        self.parts = parts

    def knows(self, genes: Sequence[str]) -> NDArray[np.bool_]:
        return np.any([part.knows(genes) for part in self.parts], axis=0)

    def between(self, genes: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
        return np.sum([part.between(genes, others) for part in self.parts], axis=0)


class SimilarityBaseline(Baseline):
    """A baseline that reads which genes are similar, from the sources that :class:`scapp.baselines.KernelRidge` describes."""

    def __init__(
        self,
        network_key: str | Sequence[str] | None,
        gene_features_key: str | Sequence[str] | None,
        similarity_key: str | Sequence[str] | None,
        similarities: pd.DataFrame | Iterable[pd.DataFrame] | None,
        restart: float,
    ) -> None:
        check_restart(restart)
        self.network_key, self.gene_features_key, self.similarity_key = (
            (keys,) if isinstance(keys, str) else tuple(keys or ())
            for keys in (network_key, gene_features_key, similarity_key)
        )
        tables = [similarities] if isinstance(similarities, pd.DataFrame) else list(similarities or ())
        self.similarities = tuple(_check_table(table) for table in tables)
        if not (self.network_key or self.gene_features_key or self.similarity_key or self.similarities):
            raise ValueError(
                f"{type(self).__name__} needs to know which genes are similar: name network_key, gene_features_key or "
                "similarity_key, or pass similarities."
            )
        self.restart = restart

    def _read_similarity(self, training: TrainingEffects, genes: Sequence[str]) -> SummedSimilarity:
        """Read similarities from effects (`varp`, `varm`) and tables; refuse them if they know none of the (training) `genes`."""
        effects = training.source
        names = effects.var_names
        parts: list[Similarity] = []
        for key in self.network_key:
            network = sparse.csr_matrix(_slot(effects, "varp", key, "scapp.pp.add_network(effects, edges)"))
            if not np.isfinite(network.data).all():
                raise ValueError(
                    f"effects.varp[{key!r}] holds weights that are NaN or infinite. Add it again with `scapp.pp.add_network`."
                )
            parts.append(NetworkSimilarity(names, network, self.restart))
        for key in self.gene_features_key:
            call = f"scapp.pp.add_gene_features(effects, features, key_added={key!r})"
            values = _dense(_slot(effects, "varm", key, call))
            missing = np.isnan(values)
            bad = (missing & ~missing.all(axis=1, keepdims=True)) | np.isinf(values)
            if bad.any():
                raise ValueError(
                    f"{int(bad.sum())} values of effects.varm[{key!r}] are missing or infinite; a gene without features "
                    "has NaN throughout. Calculate them again with `scapp.pp.add_gene_features`."
                )
            parts.append(Similarity(names, values))
        for key in self.similarity_key:
            values = _dense(_slot(effects, "varp", key, f"effects.varp[{key!r}] = similarities"))
            _check_symmetric(values, f"effects.varp[{key!r}]")
            parts.append(GivenSimilarity(names, values))
        parts += [GivenSimilarity(table.index.astype(str), _dense(table)) for table in self.similarities]
        similarity = SummedSimilarity(parts)
        if not similarity.knows(genes).any():
            raise ValueError(
                f"Nothing is known about any of the {len(genes)} perturbed genes: {shorten(genes)} are not in the "
                f"networks, features or similarities, which hold {shorten(parts[0].genes, 3)}. Add the perturbed genes "
                "with `scapp.pp.add_unmeasured_genes`, or name similarities by the symbols that the labels use."
            )
        return similarity


def membership(perturbations: Sequence[Perturbation], genes: Sequence[str]) -> NDArray[np.float64]:
    """Return a matrix of the genes in each perturbation, shape (n_perturbations, n_genes)."""
    column = {gene: i for i, gene in enumerate(genes)}
    member = np.zeros((len(perturbations), len(genes)))
    for row, names in enumerate(perturbations):
        member[row, [column[gene] for gene in names]] = 1
    return member


def _check_table(table: Any) -> pd.DataFrame:
    """Return a table of the same genes as index and columns, these in the order of the index; refuse one that is no similarity."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"similarities must be DataFrames with genes as index and columns, found {type(table).__name__}. Pass "
            "`pd.DataFrame(array, index=genes, columns=genes)`, or store the array in effects.varp and name similarity_key."
        )
    if not table.index.is_unique or not table.columns.is_unique or set(table.index) != set(table.columns):
        raise ValueError(
            "A table of similarities must have the same genes as index and columns, each once; found "
            f"{len(table.index)} rows ({shorten(table.index, 3)}) and {len(table.columns)} columns "
            f"({shorten(table.columns, 3)})."
        )
    table = table.loc[:, table.index]
    text = [column for column, dtype in table.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
    if text:
        raise ValueError(f"A table of similarities must hold numbers, but {shorten(text)} do not.")
    _check_symmetric(_dense(table), "a table of similarities")
    return table


def _slot(effects: AnnData, slot: str, key: str, call: str) -> Any:
    held = getattr(effects, slot)
    if key not in held:
        keys = ", ".join(map(repr, held)) or "nothing"
        raise ValueError(f"effects.{slot} has no {key!r}; it holds {keys}. Add it with `{call}`, or name another key.")
    return held[key]


def _dense(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)


def _check_symmetric(dense: NDArray[np.float64], where: str) -> None:
    if not np.isfinite(dense).all():
        raise ValueError(
            f"{int((~np.isfinite(dense)).sum())} similarities of {where} are NaN or infinite. Write 0 for unknown."
        )
    if np.abs(dense - dense.T).max(initial=0) > 1e-5 * np.abs(dense).max(initial=0):
        raise ValueError(
            f"Similarities must be symmetric, and those of {where} are not. A directed network goes into network_key, "
            "whose random walks make similarities of it."
        )


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
    """Return the cosine similarities of gene annotations weighted by tf-idf.

    These are the exact similarities that :func:`scapp.pp.add_gene_features` approximates by some components.

    Parameters
    ----------
    annotations, parents, min_genes, max_genes
        As in :func:`scapp.pp.similarity_network`. Rarity is judged among all annotated genes.
    genes
        Genes to compare: those perturbed in training and those to predict.
    aliases
        Gene aliases, as in :func:`scapp.pp.add_network`.

    Returns
    -------
    Square table of similarities from 0 to 1, with genes as index and columns, for ``KernelRidge(similarities=…)``. Rows
    and columns of genes without annotation are 0.

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
    """Return the cosine similarities of random walks with restart over a whole network.

    The walks :cite:p:`Kohler2008` pass through all genes of the network, whether in the effects or not.

    Parameters
    ----------
    edges
        As in :func:`scapp.pp.add_network`; a matrix or graph is over `genes`. Direction and signs are ignored, and the
        strongest of repeated edges counts.
    genes
        Genes to compare: those perturbed in training and those to predict.
    restart
        Probability that the walk returns to its start at each step.
    aliases
        Gene aliases, as in :func:`scapp.pp.add_network`.

    Returns
    -------
    Square table of similarities from 0 to 1, with genes as index and columns, for ``KernelRidge(similarities=…)``. Rows
    and columns of genes that are not in the network are 0.

    Raises
    ------
    ValueError
        If the edges cannot be read, hardly any gene matches, or restart is not a probability.

    Examples
    --------
    >>> go = annotation_similarity("gene2go.tsv", genes)
    >>> string = diffusion_similarity("string.tsv", genes)
    >>> KernelRidge(network_key=None, similarities=[go, string], ridge=1).fit(effects)
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
    refuse_text(genes, "genes")
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
