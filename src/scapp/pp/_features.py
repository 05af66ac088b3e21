"""Write what is known about genes, from tables, annotations and networks, into ``adata.varm`` as vectors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from scapp import resources
from scapp._annotations import named_columns, read_annotations
from scapp._checked import checked
from scapp._edge_columns import edge_ends
from scapp._edges import read_edges
from scapp._feature_tables import holds_numbers, load_features, read_feature_table
from scapp._gene_names import GeneMatcher, perturbed_genes_in
from scapp._genes import shorten, writable
from scapp._keys import Key
from scapp._labels import SEPARATOR
from scapp._provenance import origin_of
from scapp._tables import is_path
from scapp.graph import diffusion_embedding, edges_to_csr, tf_idf, truncated_svd
from scapp.pp._report import Report, listed

if TYPE_CHECKING:
    from anndata import AnnData

    from scapp._annotations import Annotations
    from scapp._edges import Edges
    from scapp._gene_names import Aliases
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


@dataclass(frozen=True, repr=False)
class GeneFeaturesReport(Report, what="gene_features"):
    """Report of how well a set of gene features covers the genes of adata.

    Parameters
    ----------
    key
        Key of the features in ``adata.varm``.
    kind
        ``"table"``, ``"annotations"`` or ``"network"``.
    n_features
        Length of a gene's vector.
    n_genes, n_genes_with_features, n_genes_by_alias
        Number of genes in adata, of those with features, and of those found by an alias.
    n_genes_in_source
        Number of genes that the source describes.
    perturbed_genes_without_features
        Perturbed genes without features, whether in adata or not.
    ambiguous_names
        Names that could mean several genes and were therefore not used.
    """

    _group = Key.uns.GENE_FEATURES

    key: str
    kind: str
    n_features: int
    n_genes: int
    n_genes_with_features: int
    n_genes_by_alias: int
    n_genes_in_source: int
    perturbed_genes_without_features: tuple[str, ...] = ()
    ambiguous_names: tuple[str, ...] = ()

    def _lines(self) -> Iterable[str]:
        yield (
            f"Gene features {self.key!r} ({self.kind}): {self.n_features} for {self.n_genes_with_features:,} of "
            f"{self.n_genes:,} genes, {self.n_genes_by_alias:,} of them found by alias; "
            f"the source describes {self.n_genes_in_source:,}"
        )
        yield from listed(
            ("perturbed genes without features", self.perturbed_genes_without_features),
            ("ambiguous names, not used", self.ambiguous_names),
        )


@checked
def add_gene_features(
    adata: AnnData,
    features: Features,
    *,
    key_added: str,
    kind: Kind | Literal["auto"] = "auto",
    n_components: int | None = None,
    parents: pd.DataFrame | PathLike | None = None,
    min_genes: int = 2,
    max_genes: int | None = None,
    restart: float = 0.5,
    aliases: Aliases | None = None,
    seed: int = 0,
    perturbation_key: str | None = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    copy: bool = False,
) -> AnnData | None:
    """Write a feature vector for each gene into ``adata.varm[key_added]``.

    Parameters
    ----------
    adata
        Annotated data, changed in place unless `copy`. Its genes, measured or not, get features.
    features
        A *table*: numeric DataFrame indexed by gene; a csv, tsv or parquet file with the genes in the first column
        and numbers in the others; an npz file that holds one array of names and one of numbers, such as the
        embeddings of a language model; or an h5ad file, a folder of PIE, STRING's embeddings (h5) or DepMap's
        ``CRISPRGeneEffect.csv``, as :func:`scapp.resources.read_embedding_table` reads them. Columns that by their names are
        ids or positions of genes (``entrez_id``, ``start``) are left out, with a warning. Or *annotations* in any
        form that :func:`scapp.pp.similarity_network` accepts: a long table of genes and terms, a mapping from term to
        genes, or a GMT file. Or the edges of a *network* in any form that :func:`scapp.pp.add_network` accepts.
    key_added
        Key in `varm` for the features.
    kind
        ``"table"``, ``"annotations"``, ``"network"``, or ``"auto"`` to detect it: npz files and tables of numbers are
        tables; mappings, GMT files and tables that begin with two columns of names are annotations; graphs, square
        sparse matrices and tables with the usual column names of edges are networks.
    n_components
        Number of features to which annotations (tf-idf, weighted as in `similarity_network`) and networks (diffusion
        profiles) are reduced by a truncated singular value decomposition; 128 if None. The decomposition uses all genes
        of the source, whether in adata or not. Dot products of rows approximate the cosine similarities of annotations
        and the dot products of diffusion profiles. A table is reduced to its principal components if a number is given,
        and kept unchanged if None.
    parents
        For annotations: table of child and parent terms, for propagating annotations to the ancestors.
    min_genes, max_genes
        For annotations: leave out terms with fewer or more annotated genes.
    restart
        For networks: restart probability of the random walk. Its profiles (symmetric form, ignoring signs and
        direction) are computed over the whole network, so paths may lead through genes that are not in adata.
    aliases
        Gene aliases, as in :func:`scapp.pp.add_network`.
    seed
        Random seed of the decomposition.
    perturbation_key, control, sep
        Column with the perturbations, control label and separator, for reporting perturbed genes without features; optional.
    copy
        Return a changed copy and leave `adata` unchanged.

    Returns
    -------
    None, or the copy. The features are a dense float32 array of shape (n_vars, n_features); the rows of genes without features are NaN.
    How they cover the genes is logged, and stored with the parameters in ``adata.uns["scapp"]["gene_features"][key_added]``:
    ``scapp.pp.report(adata, "gene_features", key_added)`` returns it.

    Raises
    ------
    ValueError
        If adata is a view or has duplicate genes; if the features cannot be read, are not numbers, hold infinite values
        or rows with some values missing, or name a gene twice; or if hardly any gene matches. Nothing is written then.
    """
    adata = writable(adata, "scapp.pp.add_gene_features", copy=copy, key_added=key_added)
    perturbed = perturbed_genes_in(adata, perturbation_key, control, sep)
    if n_components is not None and (not isinstance(n_components, int | np.integer) or n_components < 1):
        raise ValueError(f"n_components must be a positive whole number or None, found {n_components!r}.")
    matcher = GeneMatcher(adata.var_names, aliases)

    def check_genes(genes: Sequence[str]) -> None:
        """Raise, before long computations, if the genes of the source do not match those of the data."""
        matcher.check_some_match(matcher.match(genes), "features", adata.var.columns)

    given = _load(Path(features)) if is_path(features) else features
    kind = recognise_features(given) if kind == "auto" else kind
    if parents is not None and kind != "annotations":
        raise ValueError(f"parents=… passes annotations on to broader terms, but the features are of kind {kind!r}.")
    params: dict[str, Any] = {"n_components": n_components or N_COMPONENTS, "seed": seed}
    values: NDArray[Any]
    if kind == "table":
        genes, values = read_feature_table(given)
        check_genes(genes)
        if n_components is None:
            params = {}
        else:
            values = truncated_svd(values - values.mean(axis=0), n_components, seed=seed)
    elif kind == "network":
        genes, profiles, weights_from = _diffusion_profiles(given, adata.var_names, restart, check_genes, **params)
        genes, values = _known_rows(genes, profiles)
        params |= {"restart": restart, "weight_column": weights_from}
    else:
        annotations = read_annotations(given, parents=parents)
        check_genes(annotations.genes)
        weights = tf_idf(annotations.with_term_sizes(min_genes, max_genes).membership)
        genes, values = _known_rows(annotations.genes, truncated_svd(weights, **params))
        params |= {"propagated": parents is not None, "min_genes": min_genes, "max_genes": max_genes}

    match = matcher.match(genes)
    row, tied = match.best_names(adata.n_vars)
    found = row >= 0
    vectors = np.full((adata.n_vars, values.shape[1]), np.nan, dtype=np.float32)
    vectors[found] = values[row[found]]
    with_features = set(adata.var_names[found])
    report = GeneFeaturesReport(
        key=key_added,
        kind=kind,
        n_features=values.shape[1],
        n_genes=adata.n_vars,
        n_genes_with_features=int(found.sum()),
        n_genes_by_alias=sum(genes[i] != gene for i, gene in zip(row[found], adata.var_names[found], strict=True)),
        n_genes_in_source=len(genes),
        perturbed_genes_without_features=tuple(gene for gene in perturbed if gene not in with_features),
        ambiguous_names=(*match.ambiguous, *adata.var_names[tied]),
    )
    adata.varm[key_added] = vectors
    report.store(adata, params | {"origin": origin_of(features)})
    return adata if copy else None


def _load(path: Path) -> Any:
    """Return the content of a file or folder; `scapp.resources` reads gene vectors in other formats."""
    path = path.expanduser()
    if path.is_dir() or path.suffix.lower() in (".h5", ".hdf5", ".h5ad"):
        return resources.read_embedding(path)
    if path.suffix.lower() == ".csv" and path.is_file() and resources.is_depmap(path):
        return resources.read_embedding_table(path)
    return load_features(path)


def recognise_features(features: Any) -> Kind:
    """Return the kind of features, inferred from their form; see :func:`scapp.pp.add_gene_features`."""
    if isinstance(features, pd.DataFrame):
        if edge_ends(features) is not None:
            return "network"
        numeric = [pd.api.types.is_numeric_dtype(features.dtypes.iloc[0])] if features.shape[1] else []
        numeric += [holds_numbers(features.iloc[:, k]) for k in range(1, features.shape[1])]
        if all(named_columns(features)) and not all(numeric[1:]):
            return "annotations"
        if all(numeric) or (not numeric[0] and all(numeric[1:]) and len(numeric) > 1):
            return "table"
        if len(numeric) >= 2 and not numeric[0] and not numeric[1]:
            return "annotations"
        raise ValueError(
            f"Cannot tell what these features are, from the columns {shorten(map(repr, features.columns), 8)}. Pass "
            "kind='table' (genes as index or first column, numbers else), 'annotations' (gene, term) or 'network' "
            "(source, target, weight)."
        )
    if isinstance(features, Mapping):
        first = next(iter(features.values()), None)
        if (
            isinstance(first, list | tuple | np.ndarray)
            and len(first)
            and all(isinstance(value, Real) for value in first)
        ):
            raise TypeError(
                "features map genes to numbers, expected terms to genes. Make a table of them: "
                "`pd.DataFrame.from_dict(features, orient='index')`."
            )
        return "annotations"
    if is_path(features):
        return "annotations"
    if sparse.issparse(features) or hasattr(features, "is_directed"):
        return "network"
    raise TypeError(
        "features must be a DataFrame, a path, a mapping from term to genes, a sparse matrix or a networkx graph, found "
        f"{type(features).__name__}. Give an array its gene names: `pd.DataFrame(array, index=genes)`."
    )


def _diffusion_profiles(
    edges: Any,
    var_names: Sequence[str],
    restart: float,
    check_genes: Callable[[Sequence[str]], None],
    n_components: int,
    seed: int,
) -> tuple[list[str], NDArray, str]:
    """Return the genes of a network, their profiles, and where the weights of its edges come from."""
    table = read_edges(edges, var_names=var_names)
    n_edges = len(table.edges)
    ends, names = pd.factorize(pd.concat([table.edges["source"], table.edges["target"]]), sort=True)
    check_genes(list(names))
    adjacency = edges_to_csr(
        ends[:n_edges], ends[n_edges:], table.edges["weight"], n_nodes=len(names), directed=False, duplicates="max"
    )
    _, component = connected_components(adjacency, directed=False)
    held = (np.bincount(component) >= SMALLEST_COMPONENT * len(component))[component]
    if not held.all():
        logger.warning(
            "%d of the %d genes of the network lie in parts that are joined to no other and hold less than %g %% of the "
            "genes. They get no features, as each such part would take one of the %d components.",
            *((~held).sum(), len(names), 100 * SMALLEST_COMPONENT, n_components),
        )
        adjacency, names = adjacency[held][:, held], names[held]
    return list(names), diffusion_embedding(adjacency, n_components, restart=restart, seed=seed), table.weight_column


def _known_rows(genes: list[str], values: NDArray) -> tuple[list[str], NDArray]:
    """Leave out genes about which the decomposition contains nothing.

    The rows keep their lengths: stretching all to one would blow up the genes of which it holds little, which made
    predictions of unseen genes slightly worse (docs/model_log.md).
    """
    keep = np.linalg.norm(values, axis=1) > SMALLEST_LENGTH
    if not keep.any():
        raise ValueError("The decomposition is empty: no term or edge distinguishes one gene from another.")
    return [gene for gene, held in zip(genes, keep, strict=True) if held], values[keep]
