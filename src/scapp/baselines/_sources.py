"""Similarities of genes to the genes of the training perturbations, from what the effects hold or the user brings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._genes import shorten
from scapp._training_effects import TrainingEffects
from scapp.baselines._base import Baseline
from scapp.graph import check_restart, diffusion

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scapp._labels import Perturbation


class SimilaritySource(ABC):
    """A kernel over genes: symmetric, positive semi-definite, about 1 for a gene and itself; 0 where nothing is known."""

    genes: pd.Index

    @abstractmethod
    def knows(self, genes: Sequence[str]) -> NDArray[np.bool_]:
        """Return for which genes it holds anything."""

    @abstractmethod
    def between(self, genes: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
        """Return similarities of shape (n_genes, n_others)."""


class VectorSource(SimilaritySource):
    """Dot products of the genes' vectors, over the longest vector's with itself.

    The rows keep their relative lengths: short ones are of genes of which the features hold little.
    """

    def __init__(self, genes: pd.Index, values: NDArray[np.floating]) -> None:
        self.genes = genes
        filled = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
        longest = np.linalg.norm(filled, axis=1).max(initial=0)
        self._vectors = filled / longest if longest > 0 else filled

    def knows(self, genes: Sequence[str]) -> NDArray[np.bool_]:
        return np.asarray(self._rows(genes).any(axis=1))

    def between(self, genes: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
        return self._rows(genes) @ self._rows(others).T

    def _rows(self, genes: Sequence[str]) -> NDArray[np.float64]:
        index = self.genes.get_indexer(list(genes))
        return np.where((index >= 0)[:, None], self._vectors[index], 0)


class NetworkSource(SimilaritySource):
    """Cosines of the profiles of random walks with restart; 0 for genes without edges.

    Profiles are made when they are first asked for, and kept.
    """

    def __init__(self, genes: pd.Index, network: sparse.spmatrix, restart: float) -> None:
        self.genes = genes
        self._network = sparse.csr_matrix(network)
        self._restart = restart
        self._walks: dict[str, NDArray[np.float32]] = {}
        # An edge in either direction leads somewhere, or is found from somewhere; self-loops do neither.
        off_diagonal = sparse.coo_matrix(self._network)
        off_diagonal.eliminate_zeros()
        apart = off_diagonal.row != off_diagonal.col
        self._has_edge = np.zeros(len(genes), dtype=bool)
        self._has_edge[off_diagonal.row[apart]] = self._has_edge[off_diagonal.col[apart]] = True

    def knows(self, genes: Sequence[str]) -> NDArray[np.bool_]:
        index = self.genes.get_indexer(list(genes))
        return (index >= 0) & self._has_edge[index]

    def between(self, genes: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
        return (self._profiles(genes) @ self._profiles(others).T).astype(np.float64)

    def _profiles(self, genes: Sequence[str]) -> NDArray[np.float32]:
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


class TableSource(SimilaritySource):
    """Similarities as they were given."""

    def __init__(self, genes: pd.Index, values: NDArray[np.float64]) -> None:
        self.genes = genes
        self._values = values
        self._has_any = np.asarray(values.any(axis=1))

    def knows(self, genes: Sequence[str]) -> NDArray[np.bool_]:
        index = self.genes.get_indexer(list(genes))
        return (index >= 0) & self._has_any[index]

    def between(self, genes: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
        rows, columns = self.genes.get_indexer(list(genes)), self.genes.get_indexer(list(others))
        known = (rows >= 0)[:, None] & (columns >= 0)[None, :]
        return np.where(known, self._values[np.ix_(rows, columns)], 0)


class SimilarityBaseline(Baseline):
    """A baseline that reads which genes are similar, from the sources that :class:`scapp.baselines.KernelRidge` describes."""

    def __init__(
        self,
        *,
        networks_key: str | Sequence[str] | None,
        features_key: str | Sequence[str] | None,
        similarity_key: str | Sequence[str] | None,
        similarities: pd.DataFrame | Iterable[pd.DataFrame] | None,
        restart: float,
    ) -> None:
        check_restart(restart)
        self.networks_key = _as_tuple(networks_key)
        self.features_key = _as_tuple(features_key)
        self.similarity_key = _as_tuple(similarity_key)
        tables = [similarities] if isinstance(similarities, pd.DataFrame) else list(similarities or ())
        self.similarities = tuple(check_similarity_table(table) for table in tables)
        if not (self.networks_key or self.features_key or self.similarity_key or self.similarities):
            raise ValueError(
                f"{type(self).__name__} needs to know which genes are similar: name networks_key, features_key or "
                "similarity_key, or pass similarities."
            )
        self.restart = restart

    def _read_sources(self, training: TrainingEffects) -> list[SimilaritySource]:
        return sources_of(
            training.source,
            networks_key=self.networks_key,
            features_key=self.features_key,
            similarity_key=self.similarity_key,
            similarities=self.similarities,
            restart=self.restart,
        )


def known_genes(sources: Sequence[SimilaritySource], genes: Sequence[str]) -> NDArray[np.bool_]:
    """Return of which genes any source holds something."""
    return np.any([source.knows(genes) for source in sources], axis=0)


def check_some_known(sources: Sequence[SimilaritySource], genes: Sequence[str]) -> NDArray[np.bool_]:
    """Return of which of the training genes any source holds something, or raise if it is none."""
    known = known_genes(sources, genes)
    if not known.any():
        raise ValueError(
            f"Nothing is known about any of the {len(genes)} perturbed genes: {shorten(genes)} are not in the "
            f"networks, features or similarities, which hold {shorten(sources[0].genes, 3)}. Add the perturbed genes "
            "with `scapp.pp.add_unmeasured_genes`, or name similarities by the symbols that the labels use."
        )
    return known


def summed_similarity(
    sources: Sequence[SimilaritySource], genes: Sequence[str], others: Sequence[str]
) -> NDArray[np.float64]:
    """Return the sum of all sources' similarities, of shape (n_genes, n_others)."""
    return np.sum([source.between(genes, others) for source in sources], axis=0)


def membership(perturbations: Sequence[Perturbation], genes: Sequence[str]) -> NDArray[np.float64]:
    """Return which genes each perturbation names, of shape (n_perturbations, n_genes)."""
    column = {gene: i for i, gene in enumerate(genes)}
    member = np.zeros((len(perturbations), len(genes)))
    for row, names in enumerate(perturbations):
        member[row, [column[gene] for gene in names]] = 1
    return member


def _as_tuple(keys: str | Sequence[str] | None) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else tuple(keys or ())


def sources_of(
    effects: AnnData,
    *,
    networks_key: Sequence[str],
    features_key: Sequence[str],
    similarity_key: Sequence[str],
    similarities: Sequence[pd.DataFrame],
    restart: float,
) -> list[SimilaritySource]:
    """Read similarities from effects (`varp`, `varm`) and from tables that were given.

    Raises
    ------
    ValueError
        If a key is not there, naming those that are, or an array does not hold what it should.
    """
    genes = effects.var_names
    found: list[SimilaritySource] = []
    for key in networks_key:
        network = _slot(effects, "varp", key, "scapp.pp.add_network(effects, edges)")
        found.append(NetworkSource(genes, _finite(network, f"effects.varp[{key!r}]"), restart))
    for key in features_key:
        call = f"scapp.pp.add_gene_features(effects, features, key_added={key!r})"
        found.append(VectorSource(genes, _features(_slot(effects, "varm", key, call), key)))
    for key in similarity_key:
        call = f"effects.varp[{key!r}] = similarities"
        found.append(TableSource(genes, _symmetric(_slot(effects, "varp", key, call), f"effects.varp[{key!r}]")))
    found += [TableSource(table.index.astype(str), table.to_numpy(dtype=np.float64)) for table in similarities]
    return found


def check_similarity_table(table: Any) -> pd.DataFrame:
    """Return a square, symmetric, finite table of numbers whose index and columns are the same genes, the columns in that order.

    Raises
    ------
    TypeError
        If it is no DataFrame.
    ValueError
        If it is not as described.
    """
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
    _symmetric(table.to_numpy(dtype=np.float64), "a table of similarities")
    return table


def _slot(effects: AnnData, slot: str, key: str, call: str) -> Any:
    held = getattr(effects, slot)
    if key not in held:
        keys = ", ".join(map(repr, held)) or "nothing"
        raise ValueError(f"effects.{slot} has no {key!r}; it holds {keys}. Add it with `{call}`, or name another key.")
    return held[key]


def _features(values: Any, key: str) -> NDArray[np.float64]:
    dense = np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)
    missing = np.isnan(dense)
    bad = (missing & ~missing.all(axis=1, keepdims=True)) | np.isinf(dense)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} values of effects.varm[{key!r}] are missing or infinite; a gene without features has NaN "
            "throughout. Calculate them again with `scapp.pp.add_gene_features`."
        )
    return dense


def _finite(matrix: Any, where: str) -> sparse.csr_matrix:
    network = sparse.csr_matrix(matrix)
    if not np.isfinite(network.data).all():
        raise ValueError(f"{where} holds weights that are NaN or infinite. Add it again with `scapp.pp.add_network`.")
    return network


def _symmetric(matrix: Any, where: str) -> NDArray[np.float64]:
    dense = np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix, dtype=np.float64)
    if not np.isfinite(dense).all():
        raise ValueError(
            f"{int((~np.isfinite(dense)).sum())} similarities of {where} are NaN or infinite. Write 0 for unknown."
        )
    if np.abs(dense - dense.T).max(initial=0) > 1e-5 * np.abs(dense).max(initial=0):
        raise ValueError(
            f"Similarities must be symmetric, and those of {where} are not. A directed network goes into networks_key, "
            "whose random walks make similarities of it."
        )
    return dense
