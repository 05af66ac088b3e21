"""Gene features of every accepted kind into names and a matrix."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from scapp._genes import shorten
from scapp._tables import LARGEST_RATIO, LARGEST_SMALL, existing_file, is_gmt, is_path, read_table
from scapp.graph import diffusion_embedding, edges_to_csr, tf_idf, truncated_svd
from scapp.pp._annotations import read_annotations
from scapp.pp._edges import looks_like_edges, read_edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scapp._tables import PathLike
    from scapp.pp._annotations import Annotations
    from scapp.pp._edges import Edges

    Features: TypeAlias = pd.DataFrame | PathLike | Annotations | Edges

Kind = Literal["table", "annotations", "network"]
N_COMPONENTS = 128
# Below this length, what the decomposition holds of a gene is rounding.
SMALLEST_LENGTH = 1e-4
# Every connected component of a network has an eigenvector of eigenvalue one, before all that say something about the
# others, so that many small ones would leave nothing for the large.
SMALLEST_COMPONENT = 0.05
# Features are kept in single precision, and their squares are summed.
LARGEST_FEATURE = 1e15

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
        return _from_table(features, n_components, seed, check_genes)
    n_components = n_components or N_COMPONENTS
    if kind == "network":
        return _from_network(features, var_names, n_components, restart, seed, check_genes)
    table = read_annotations(features, parents=parents)
    check_genes(table.genes)
    weights = tf_idf(table.with_term_sizes(min_genes, max_genes).membership)
    params = {
        "n_components": n_components,
        "propagated": parents is not None,
        "min_genes": min_genes,
        "max_genes": max_genes,
        "seed": seed,
    }
    values = truncated_svd(weights, n_components, seed=seed)
    return _known_rows("annotations", table.genes, values, params)


def load_features(path: PathLike) -> Any:
    """Return what a file holds: npz files as a table indexed by gene, GMT files as their path."""
    if is_gmt(path):
        return existing_file(path)
    if str(path).lower().endswith(".npz"):
        return _read_npz(path)
    return read_table(path)


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


def _from_table(
    table: Any, n_components: int | None, seed: int, check_genes: Callable[[Sequence[str]], None]
) -> FeatureSource:
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"A feature table must be a DataFrame indexed by gene, or a path, found {type(table).__name__}."
        )
    if table.shape[1] and not pd.api.types.is_numeric_dtype(table.dtypes.iloc[0]):
        table = table.set_index(table.columns[0])
    text = [column for column, dtype in table.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
    if text or not table.shape[1]:
        raise ValueError(
            f"A feature table must hold numbers, but {shorten(map(repr, text)) or 'there are no columns'}"
            f"{' do not' if text else ''}. Leave these columns out, or pass kind='annotations' or 'network'."
        )
    if pd.api.types.is_numeric_dtype(table.index.dtype):
        raise ValueError(
            f"A feature table must be indexed by gene, but its index holds numbers ({shorten(table.index, 3)}). "
            "Set it with `table.set_index('gene')`."
        )
    genes = table.index.astype(str)
    if not genes.is_unique:
        twice = genes[genes.duplicated()].unique()
        raise ValueError(
            f"{len(twice)} genes occur more than once in the feature table: {shorten(twice)}. Keep one row of each, for "
            "example with `table.groupby(level=0).mean()`."
        )
    values = table.to_numpy(dtype=np.float64)
    missing = np.isnan(values)
    empty = missing.all(axis=1)  # a row of NaN is how a gene without features is marked
    bad = (missing & ~empty[:, None]) | np.isinf(values)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} values of the feature table are missing or infinite, in the genes "
            f"{shorten(genes[bad.any(axis=1)])}. Fill them in, or leave these genes or columns out."
        )
    large = np.abs(np.where(missing, 0, values)) > LARGEST_FEATURE
    if large.any():
        raise ValueError(
            f"{int(large.sum())} values of the feature table are beyond {LARGEST_FEATURE:g}, in the genes "
            f"{shorten(genes[large.any(axis=1)])}.\nExpected numbers whose squares single precision can add up.\n"
            "Rescale the columns, for example with `(table - table.mean()) / table.std()`, or correct these values."
        )
    if empty.all():
        raise ValueError("There are no features in what was given: the table has no rows, or all are NaN.")
    values, genes = values[~empty], genes[~empty]
    check_genes(list(genes))
    if n_components is None:
        return FeatureSource("table", list(genes), values.astype(np.float32))
    reduced = truncated_svd(values - values.mean(axis=0), n_components, seed=seed)
    return FeatureSource("table", list(genes), reduced, {"n_components": n_components, "seed": seed})


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


def _read_npz(path: PathLike) -> pd.DataFrame:
    """Return an npz file as a table: its array of text names the rows of its array of two dimensions.

    Raises
    ------
    ValueError
        If it does not hold exactly one of each, of the same length. Pickled objects are not loaded.
    """
    path = existing_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > max(LARGEST_SMALL, LARGEST_RATIO * path.stat().st_size):
            raise ValueError(f"it unpacks to {size:,} bytes, over {LARGEST_RATIO} times its size")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as plain arrays ({error}). Save the names as text, not as objects: "
            "`np.savez(path, symbol=np.array(names, dtype=str), embedding=matrix)`."
        ) from error
    names = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "US"]
    matrices = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiu"]
    if len(names) != 1 or len(matrices) != 1 or len(arrays[names[0]]) != len(arrays[matrices[0]]):
        found = ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in arrays.items())
        raise ValueError(
            f"{str(path)!r} must hold one array of gene names and one matrix with as many rows, found {found}. "
            "Pass `pd.DataFrame(matrix, index=names)`."
        )
    index = arrays[names[0]]
    return pd.DataFrame(arrays[matrices[0]].astype(np.float32), index=index.astype(str))
