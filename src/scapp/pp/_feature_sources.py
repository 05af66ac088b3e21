"""Gene features of every accepted kind into names and a matrix."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from scapp._annotations import read_annotations
from scapp._edges import looks_like_edges, read_edges
from scapp._feature_tables import load_features, read_feature_table
from scapp._genes import shorten
from scapp._tables import is_path
from scapp.graph import diffusion_embedding, edges_to_csr, tf_idf, truncated_svd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scapp._annotations import Annotations
    from scapp._edges import Edges
    from scapp._tables import PathLike

    Features: TypeAlias = pd.DataFrame | PathLike | Annotations | Edges

Kind = Literal["table", "annotations", "network"]
N_COMPONENTS = 128
# Below this length, what the decomposition holds of a gene is rounding.
SMALLEST_LENGTH = 1e-4
# Every connected component of a network has an eigenvector of eigenvalue one, before all that say something about the
# others, so that many small ones would leave nothing for the large.
SMALLEST_COMPONENT = 0.05

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureSource:
    """Features of genes: unique names, finite float32 values of shape (n_genes, n_features), how they came about."""

    kind: Kind
    genes: list[str]
    values: NDArray[np.float32]
    params: dict[str, Any] = field(default_factory=dict)


def read_features(
    features: Features,
    *,
    kind: Kind | Literal["auto"],
    var_names: Sequence[str],
    n_components: int | None,
    parents: pd.DataFrame | PathLike | None,
    min_genes: int,
    max_genes: int | None,
    restart: float,
    seed: int,
    check_genes: Callable[[Sequence[str]], None] = lambda genes: None,
) -> FeatureSource:
    """Read features, and reduce annotations and networks to vectors; see :func:`scapp.pp.add_gene_features`.

    `check_genes` is called with the genes of the source before the long work begins, and raises if they are others than those
    of the data.
    """
    if n_components is not None and (not isinstance(n_components, int | np.integer) or n_components < 1):
        raise ValueError(f"n_components must be a positive whole number or None, found {n_components!r}.")
    if kind not in ("auto", *get_args(Kind)):
        raise ValueError(f"kind must be 'auto', 'table', 'annotations' or 'network', found {kind!r}.")
    if is_path(features):
        features = load_features(features)
    kind = recognise_features(features) if kind == "auto" else kind
    if parents is not None and kind != "annotations":
        raise ValueError(f"parents=… passes annotations on to broader terms, but the features are of kind {kind!r}.")
    if kind == "table":
        genes, table = read_feature_table(features)
        check_genes(genes)
        if n_components is None:
            return FeatureSource("table", genes, table.astype(np.float32))
        values = truncated_svd(table - table.mean(axis=0), n_components, seed=seed)
        return FeatureSource("table", genes, values, {"n_components": n_components, "seed": seed})
    n_components = n_components or N_COMPONENTS
    if kind == "network":
        return _from_network(features, var_names, n_components, restart, seed, check_genes)
    annotations = read_annotations(features, parents=parents)
    check_genes(annotations.genes)
    weights = tf_idf(annotations.with_term_sizes(min_genes, max_genes).membership)
    params = {
        "n_components": n_components,
        "propagated": parents is not None,
        "min_genes": min_genes,
        "max_genes": max_genes,
        "seed": seed,
    }
    values = truncated_svd(weights, n_components, seed=seed)
    return _known_rows("annotations", annotations.genes, values, params)


def recognise_features(features: Any) -> Kind:
    """Return what features are, by their form; see :func:`scapp.pp.add_gene_features`."""
    if isinstance(features, pd.DataFrame):
        if looks_like_edges(features):
            return "network"
        numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in features.dtypes]
        if all(numeric) or (not numeric[0] and all(numeric[1:]) and len(numeric) > 1):
            return "table"
        if len(numeric) >= 2 and not numeric[0] and not numeric[1]:
            return "annotations"
        raise ValueError(
            f"Cannot tell what these features are, from the columns {shorten(map(repr, features.columns), 8)}. Pass "
            "kind='table' (genes as index or first column, numbers else), 'annotations' (gene, term) or 'network' "
            "(source, target, weight)."
        )
    if isinstance(features, Mapping) or is_path(features):
        return "annotations"
    if sparse.issparse(features) or hasattr(features, "is_directed"):
        return "network"
    raise TypeError(
        "features must be a DataFrame, a path, a mapping from term to genes, a sparse matrix or a networkx graph, found "
        f"{type(features).__name__}. Give an array its gene names: `pd.DataFrame(array, index=genes)`."
    )


def _from_network(
    edges: Any,
    var_names: Sequence[str],
    n_components: int,
    restart: float,
    seed: int,
    check_genes: Callable[[Sequence[str]], None],
) -> FeatureSource:
    table = read_edges(edges, var_names=var_names)
    n_edges = len(table.edges)
    ends, names = pd.factorize(pd.concat([table.edges["source"], table.edges["target"]]), sort=True)
    check_genes(list(names))
    adjacency = edges_to_csr(
        ends[:n_edges], ends[n_edges:], table.edges["weight"], n_nodes=len(names), directed=False, duplicates="max"
    )
    held = _large_components(adjacency)
    if not held.all():
        logger.warning(
            "%d of the %d genes of the network lie in parts that are joined to no other and hold less than %g %% of the "
            "genes. They get no features, as each such part would take one of the %d components.",
            (~held).sum(),
            len(names),
            100 * SMALLEST_COMPONENT,
            n_components,
        )
        adjacency, names = adjacency[held][:, held], names[held]
    values = diffusion_embedding(adjacency, n_components, restart=restart, seed=seed)
    params = {
        "n_components": n_components,
        "restart": restart,
        "seed": seed,
        "weight_column": table.weight_column,
    }
    return _known_rows("network", list(names), values, params)


def _large_components(adjacency: sparse.csr_matrix) -> NDArray[np.bool_]:
    """Return which nodes lie in a connected component that holds no negligible share of all."""
    _, component = connected_components(adjacency, directed=False)
    return (np.bincount(component) >= SMALLEST_COMPONENT * len(component))[component]


def _known_rows(kind: Kind, genes: list[str], values: NDArray, params: dict[str, Any]) -> FeatureSource:
    """Leave out the genes of which the decomposition holds nothing.

    The rows keep their lengths: stretching all to one would blow up the genes of which it holds little, which made
    predictions of unseen genes slightly worse (docs/model_log.md).
    """
    keep = np.linalg.norm(values, axis=1) > SMALLEST_LENGTH
    if not keep.any():
        raise ValueError("The decomposition is empty: no term or edge distinguishes one gene from another.")
    kept = [gene for gene, held in zip(genes, keep, strict=True) if held]
    return FeatureSource(kind, kept, values[keep].astype(np.float32), params)
