"""What became of a network on its way into adata: the report, and the writing of both."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._genes import scapp_entry, shorten
from scapp._keys import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class NetworkReport:
    """How a network covers the genes of adata.

    Edges of an undirected network are counted once a pair.

    Parameters
    ----------
    key
        Where the network is: ``adata.varp[key]``.
    kind
        ``"edges"``, ``"coexpression"`` or ``"similarity"``.
    directed
        Whether edges have a direction.
    n_genes, n_genes_matched, n_genes_by_alias
        The genes of adata; how many of them the source knows; how many of these were found by an alias.
    n_edges
        Edges in ``adata.varp[key]``.
    n_isolated
        Genes of adata without any edge.
    isolated_perturbed_genes
        The perturbed genes among them.
    perturbed_genes_not_in_var
        Perturbed genes that are no nodes at all; see :func:`scapp.pp.add_unmeasured_genes`.
    weight_column
        Where the weights come from; empty if all are one.
    sign_column, n_without_sign
        Where the signs come from, if not from the weights (empty if there are none), and the listed edges of which it does
        not say the sign; these are positive.
    unread_columns
        Columns of the input that were left out.
    n_listed
        Rows of the input. (A gene that adata holds under two names has its edges under both.)
    n_outside
        Of these, edges with an end that is no gene of adata.
    n_self_loops, n_weak, n_duplicates, n_pruned
        Of the rest: from a gene to itself (removed unless asked for); of zero weight or below `min_weight`
        (removed); repeats of an edge (merged); beyond the strongest of each gene (removed).
    n_contradicting
        Edges that are listed with both signs, of which `duplicates` decides.
    n_names, ambiguous_names
        Genes in the source; its names that could mean several genes, and so were not used.
    constant_genes
        Measured genes that are constant in the control cells, and so correlate with nothing.
    """

    key: str
    kind: str
    directed: bool
    n_genes: int
    n_genes_matched: int
    n_genes_by_alias: int
    n_edges: int
    n_isolated: int
    isolated_perturbed_genes: tuple[str, ...] = ()
    perturbed_genes_not_in_var: tuple[str, ...] = ()
    weight_column: str = ""
    sign_column: str = ""
    n_without_sign: int = 0
    unread_columns: tuple[str, ...] = ()
    n_listed: int = 0
    n_outside: int = 0
    n_self_loops: int = 0
    n_weak: int = 0
    n_duplicates: int = 0
    n_pruned: int = 0
    n_contradicting: int = 0
    n_names: int = 0
    ambiguous_names: tuple[str, ...] = ()
    constant_genes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that an h5ad file can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: np.array(value, dtype=object) if isinstance(value, tuple) else value for name, value in values.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per number or list of names, in the column ``value``."""
        values = {
            field.name: shorten(value, len(value)) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in fields(self)
        }
        return pd.DataFrame({"value": pd.Series(values, dtype=object)})

    def __repr__(self) -> str:
        direction = "directed" if self.directed else "undirected"
        lines = [
            f"Network {self.key!r} ({self.kind}, {direction}): {self.n_edges:,} edges, "
            f"{self.n_genes - self.n_isolated:,} of {self.n_genes:,} genes have one",
            f"  genes found in the source: {self.n_genes_matched:,}, {self.n_genes_by_alias:,} of them by alias",
        ]
        if self.kind == "edges":
            left_out = {
                "between other genes": self.n_outside,
                "self-loops": self.n_self_loops,
                "too weak": self.n_weak,
                "repeats merged": self.n_duplicates,
                "pruned": self.n_pruned,
            }
            lines.append(
                f"  edges listed: {self.n_listed:,}; weights: {self.weight_column or 'none, all one'}{self._signs()}"
                + "".join(f"; {what}: {n:,}" for what, n in left_out.items() if n)
            )
        if self.n_contradicting:
            lines.append(f"  edges listed with both signs: {self.n_contradicting:,}")
        for what, names in (
            ("perturbed genes without an edge", self.isolated_perturbed_genes),
            ("perturbed genes not in adata.var (see scapp.pp.add_unmeasured_genes)", self.perturbed_genes_not_in_var),
            ("ambiguous names, not used", self.ambiguous_names),
            ("columns left out", self.unread_columns),
            ("genes constant in the control cells", self.constant_genes),
        ):
            if names:
                lines.append(f"  {what}: {len(names)} ({shorten(names, 10)})")
        return "\n".join(lines)

    def _signs(self) -> str:
        if not self.sign_column:
            return ""
        unknown = f" (not known for {self.n_without_sign:,}, which are positive)" if self.n_without_sign else ""
        return f"; signs: {self.sign_column}{unknown}"


def check_key_added(key: str) -> None:
    """Raise unless `key` can name a slot of an AnnData that is written to a file."""
    if not isinstance(key, str):
        raise TypeError(f"key_added must be a string, found {type(key).__name__}.")
    if not key.strip() or "/" in key:
        raise ValueError(f"key_added={key!r} cannot name a slot: it must not be empty nor hold a '/'.")


def write_report(adata: AnnData, group: str, key: str, values: dict[str, Any], params: dict[str, Any]) -> None:
    """Put a report and the parameters that led to it into ``adata.uns["scapp"][group][key]``."""
    given = {
        name: np.array(value, dtype=object) if isinstance(value, list | tuple) else value
        for name, value in params.items()
        if value is not None
    }
    entry = scapp_entry(adata, group)
    entry[key] = {"report": values, "params": given}


def origin_of(given: object) -> dict[str, str] | None:
    """Return where a table of `scapp.resources` comes from, as plain text; None for anything else."""
    attrs = given.attrs if isinstance(given, pd.DataFrame) else {}
    return {str(name): str(value) for name, value in attrs.items()} if "licence" in attrs else None


def write_network(
    adata: AnnData,
    adjacency: sparse.csr_matrix,
    *,
    key: str,
    kind: str,
    perturbed: Sequence[str],
    params: dict[str, Any],
    directed: bool = False,
    **counts: Any,
) -> NetworkReport:
    """Write a network that has passed all checks, its parameters and its report; log the report."""
    degree = np.diff(adjacency.indptr) + np.bincount(adjacency.indices, minlength=adata.n_vars)
    isolated = set(adata.var_names[degree == 0])
    nodes = set(adata.var_names)
    report = NetworkReport(
        key=key,
        kind=kind,
        directed=directed,
        n_genes=adata.n_vars,
        n_edges=count_edges(adjacency, directed=directed),
        n_isolated=len(isolated),
        isolated_perturbed_genes=tuple(gene for gene in perturbed if gene in isolated),
        perturbed_genes_not_in_var=tuple(gene for gene in perturbed if gene not in nodes),
        **counts,
    )
    adata.varp[key] = adjacency.astype(np.float32)
    write_report(adata, Key.uns.NETWORKS, key, report.to_dict(), params)
    logger.info("%s", report)
    return report


def count_edges(adjacency: sparse.csr_matrix, *, directed: bool) -> int:
    """Return edges, once a pair if the network is undirected."""
    if directed:
        return int(adjacency.nnz)
    loops = int((adjacency.diagonal() != 0).sum())
    return (int(adjacency.nnz) - loops) // 2 + loops
