"""What is known about genes, as vectors, into ``adata.varm``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._gene_names import GeneMatcher, perturbed_genes_in
from scapp._genes import check_gene_names, check_no_view, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR
from scapp.pp._feature_sources import Kind, read_features
from scapp.pp._network_report import check_key_added, origin_of, write_report

if TYPE_CHECKING:
    from anndata import AnnData

    from scapp._gene_names import Aliases
    from scapp._tables import PathLike
    from scapp.pp._feature_sources import Features

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class GeneFeaturesReport:
    """How a set of gene features covers the genes of adata.

    Parameters
    ----------
    key
        Where the features are: ``adata.varm[key]``.
    kind
        ``"table"``, ``"annotations"`` or ``"network"``.
    n_features
        Length of a gene's vector.
    n_genes, n_genes_with_features, n_genes_by_alias
        The genes of adata; how many of them have features; how many of these were found by an alias.
    n_genes_in_source
        Genes that the source describes.
    perturbed_genes_without_features
        The perturbed genes, of adata or not, that have none.
    ambiguous_names
        Names that could mean several genes, and so were not used.
    """

    key: str
    kind: str
    n_features: int
    n_genes: int
    n_genes_with_features: int
    n_genes_by_alias: int
    n_genes_in_source: int
    perturbed_genes_without_features: tuple[str, ...] = ()
    ambiguous_names: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that an h5ad file can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: np.array(value, dtype=object) if isinstance(value, tuple) else value for name, value in values.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per number or list of names, in the column ``value``."""
        values = {
            name: ", ".join(value) if isinstance(value, np.ndarray) else value for name, value in self.to_dict().items()
        }
        return pd.DataFrame({"value": pd.Series(values, dtype=object)})

    def __repr__(self) -> str:
        lines = [
            f"Gene features {self.key!r} ({self.kind}): {self.n_features} for {self.n_genes_with_features:,} of "
            f"{self.n_genes:,} genes, {self.n_genes_by_alias:,} of them found by alias; "
            f"the source describes {self.n_genes_in_source:,}"
        ]
        for what, names in (
            ("perturbed genes without features", self.perturbed_genes_without_features),
            ("ambiguous names, not used", self.ambiguous_names),
        ):
            if names:
                lines.append(f"  {what}: {len(names)} ({shorten(names, 10)})")
        return "\n".join(lines)


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
) -> GeneFeaturesReport:
    """Put a vector for each gene into ``adata.varm[key_added]``.

    Parameters
    ----------
    adata
        Annotated data, changed in place. Its genes, measured or not, get features.
    features
        A *table*: numeric DataFrame indexed by gene; a csv, tsv or parquet file with the genes in the first column
        and numbers in the others; or an npz file that holds one array of names and one of numbers, such as the
        embeddings of a language model. Or *annotations*, as :func:`scapp.pp.similarity_network` takes them: long
        table of gene and term, mapping from term to genes, GMT file. Or the edges of a *network*, in any form that
        :func:`scapp.pp.add_network` takes.
    key_added
        Where the features go.
    kind
        ``"table"``, ``"annotations"`` or ``"network"``. ``"auto"`` tells them apart: npz files and tables of numbers
        are tables; mappings, GMT files and tables that begin with two columns of names are annotations; graphs,
        square sparse matrices and tables whose columns are named as the ends of edges usually are, networks.
    n_components
        Number of features that annotations (tf-idf, weighted as in `similarity_network`) and networks (diffusion
        profiles) are reduced to by a truncated singular value decomposition, 128 if None. It is computed over all
        genes of the source, those of adata or not; dot products of rows approximate the cosine similarities of
        annotations and the dot products of diffusion profiles. A table is kept as it is if None, and reduced to its principal
        components if a number is given.
    parents
        For annotations: table of child and parent terms, to pass annotation on to the ancestors.
    min_genes, max_genes
        For annotations: terms with fewer or more annotated genes are left out.
    restart
        For networks: restart probability of the random walk, whose profiles (symmetric form, signs and direction
        ignored) are computed over the whole network: paths may lead through genes that adata does not hold.
    aliases
        Names of genes, as in :func:`scapp.pp.add_network`.
    seed
        Seed of the decomposition's start.
    perturbation_key, control, sep
        Where perturbations are named, to report perturbed genes without features. The column may be absent.

    Returns
    -------
    The report, also logged and stored with the parameters in ``adata.uns["scapp"]["gene_features"][key_added]``.
    The features are a dense float32 array of shape (n_vars, n_features); the rows of genes without features are NaN.

    Raises
    ------
    ValueError
        If adata is a view or has duplicate genes, the features cannot be read, hold infinite or single missing
        values or no numbers, name a gene twice, or hardly any gene matches. Nothing is written then.
    """
    check_no_view(adata, "scapp.pp.add_gene_features")
    check_gene_names(adata)
    check_key_added(key_added)
    perturbed = perturbed_genes_in(adata, perturbation_key, control, sep)
    matcher = GeneMatcher(adata.var_names, aliases)
    source = read_features(
        features,
        check_genes=lambda genes: matcher.check_some_match(matcher.match(genes), "features", adata.var.columns),
        kind=kind,
        var_names=adata.var_names,
        n_components=n_components,
        parents=parents,
        min_genes=min_genes,
        max_genes=max_genes,
        restart=restart,
        seed=seed,
    )
    match = matcher.match(source.genes)
    row, tied = match.best_names(adata.n_vars)
    found = row >= 0
    values = np.full((adata.n_vars, source.values.shape[1]), np.nan, dtype=np.float32)
    values[found] = source.values[row[found]]
    with_features = set(adata.var_names[found])

    report = GeneFeaturesReport(
        key=key_added,
        kind=source.kind,
        n_features=values.shape[1],
        n_genes=adata.n_vars,
        n_genes_with_features=int(found.sum()),
        n_genes_by_alias=sum(
            source.genes[i] != gene for i, gene in zip(row[found], adata.var_names[found], strict=True)
        ),
        n_genes_in_source=len(source.genes),
        perturbed_genes_without_features=tuple(gene for gene in perturbed if gene not in with_features),
        ambiguous_names=(*match.ambiguous, *adata.var_names[tied]),
    )
    adata.varm[key_added] = values
    write_report(
        adata, Key.uns.GENE_FEATURES, key_added, report.to_dict(), source.params | {"origin": origin_of(features)}
    )
    logger.info("%s", report)
    return report
