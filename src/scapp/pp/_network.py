"""A gene network from any source into ``adata.varp``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._checked import checked
from scapp._edges import read_edges
from scapp._gene_names import BY_SYMBOL, GeneMatcher, perturbed_genes_in
from scapp._genes import writable
from scapp._keys import Key
from scapp._labels import SEPARATOR
from scapp._provenance import origin_of
from scapp.graph import Duplicates, edges_to_csr, scale_weights
from scapp.graph import top_k as keep_top_k
from scapp.pp._report import Report, listed

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scapp._edges import Edges
    from scapp._gene_names import Aliases


@dataclass(frozen=True, repr=False)
class NetworkReport(Report, what="network"):
    """Report of how well a network covers the genes of adata.

    Edges of an undirected network are counted once per pair.

    Parameters
    ----------
    key
        Key of the network in ``adata.varp``.
    kind
        ``"edges"``, ``"coexpression"`` or ``"similarity"``.
    directed
        Whether edges have a direction.
    n_genes, n_genes_matched, n_genes_by_alias
        Number of genes in adata, of those found in the source, and of those found by an alias.
    n_edges
        Edges in ``adata.varp[key]``.
    n_isolated
        Genes of adata without any edge.
    isolated_perturbed_genes
        The perturbed genes among them.
    perturbed_genes_not_in_var
        Perturbed genes that are not nodes; see :func:`scapp.pp.add_unmeasured_genes`.
    weight_column
        Column of the weights; empty if all are one.
    sign_column, n_without_sign
        Column of the signs, if they do not come from the weights (empty if there is none), and the number of listed
        edges whose sign it does not give; these are positive.
    unread_columns
        Columns of the input that were left out.
    n_listed
        Rows of the input. (If adata contains a gene under two names, both get its edges.)
    n_outside
        Listed edges with an end that is not a gene of adata.
    n_self_loops, n_weak, n_duplicates, n_pruned
        Remaining edges that lead from a gene to itself (removed unless `self_loops`), have zero weight or less than
        `min_weight` (removed), repeat another edge (merged), or exceed `top_k` per gene (removed).
    n_contradicting
        Edges that are listed with both signs; `duplicates` decides how they are combined.
    n_names, ambiguous_names
        Number of genes in the source, and names in it that could mean several genes and were therefore not used.
    constant_genes
        Measured genes that are constant in the control cells and therefore correlate with nothing.
    """

    _group = Key.uns.NETWORKS
    _default_key = Key.varp.NETWORK

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

    def _lines(self) -> Iterable[str]:
        direction = "directed" if self.directed else "undirected"
        yield (
            f"Network {self.key!r} ({self.kind}, {direction}): {self.n_edges:,} edges, "
            f"{self.n_genes - self.n_isolated:,} of {self.n_genes:,} genes have one"
        )
        yield f"  genes found in the source: {self.n_genes_matched:,}, {self.n_genes_by_alias:,} of them by alias"
        if self.kind == "edges":
            unknown = f" (not known for {self.n_without_sign:,}, which are positive)" if self.n_without_sign else ""
            signs = f"; signs: {self.sign_column}{unknown}" if self.sign_column else ""
            left_out = {
                "between other genes": self.n_outside,
                "self-loops": self.n_self_loops,
                "too weak": self.n_weak,
                "repeats merged": self.n_duplicates,
                "pruned": self.n_pruned,
            }
            yield (
                f"  edges listed: {self.n_listed:,}; weights: {self.weight_column or 'none, all one'}{signs}"
                + "".join(f"; {what}: {n:,}" for what, n in left_out.items() if n)
            )
        if self.n_contradicting:
            yield f"  edges listed with both signs: {self.n_contradicting:,}"
        yield from listed(
            ("perturbed genes without an edge", self.isolated_perturbed_genes),
            ("perturbed genes not in adata.var (see scapp.pp.add_unmeasured_genes)", self.perturbed_genes_not_in_var),
            ("ambiguous names, not used", self.ambiguous_names),
            ("columns left out", self.unread_columns),
            ("genes constant in the control cells", self.constant_genes),
        )


@checked
def add_network(
    adata: AnnData,
    edges: Edges,
    *,
    key_added: str = Key.varp.NETWORK,
    source: str | int | None = None,
    target: str | int | None = None,
    weight: str | int | None = None,
    directed: bool | None = None,
    keep_sign: bool = True,
    scale: bool = True,
    min_weight: float | None = None,
    self_loops: bool = False,
    duplicates: Duplicates = "max",
    top_k: int | None = None,
    aliases: Aliases | None = None,
    perturbation_key: str | None = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    copy: bool = False,
) -> AnnData | None:
    """Add a gene network to ``adata.varp[key_added]``.

    Parameters
    ----------
    adata
        Annotated data, changed in place unless `copy`. Its genes, measured or not, are the nodes.
    edges
        A table, or the path of one (csv, tsv, parquet; gzipped or not), with one edge per row; the ends and the
        weight are found under the names usual in decoupler (source, target, weight or mor), STRING (protein1,
        protein2, combined_score; preferredName_A, preferredName_B, score), GEARS (source, target, importance),
        regulatory networks (TF or regulator, target) and others of their kind (source_gene, target_gene; parent_symbol,
        child_symbol), in upper or lower case. Signs are read from columns such as ``Mode_of_Regulation``, ``effect``,
        ``interaction``, ``action`` (1, +, Activation, up-regulates; -1, -, Repression, down-regulates) or
        ``is_stimulation`` and ``is_inhibition``; the report says which columns were left out. Tables of regulators by
        targets or genes by genes, Cytoscape's names of edges (``"KLF1 (pp) HBB"``) and the paths of GraphML and sif files
        are read as well. Or a scipy or numpy matrix of shape (n_vars, n_vars) in the order of ``adata.var_names``, row =
        source. Or a networkx graph whose nodes are gene names.
    key_added
        Key in `varp` for the network. Use different keys for several networks.
    source, target, weight
        Columns of the table (for `weight`, also an edge attribute of the graph) if they do not have the usual names;
        for a file without a header, their positions, counted from 0.
    directed
        Whether edges have a direction. If None, this is inferred: a ``DiGraph``, an asymmetric matrix, a table with
        signs, with a column such as ``TF`` or ``regulator``, or with negative weights from source to target, and the directed networks of :mod:`scapp.resources` are
        directed, and everything else is undirected. If an undirected network lists a pair in both directions, it
        becomes one edge with the stronger weight.
    keep_sign
        Whether negative weights (repression, mode of regulation) stay negative.
    scale
        Divide the weights by the largest magnitude.
    min_weight
        Leave out edges of smaller magnitude, on the scale of the input (for example 700 for a STRING score).
    self_loops
        Keep edges from a gene to itself.
    duplicates
        How to combine the weights of an edge that is listed several times: the one of largest magnitude, the mean, the
        sum, or an error.
    top_k
        Keep only this many of the strongest edges of each gene: of its incoming edges if the network is directed,
        otherwise those that are among the strongest of either end.
    aliases
        Gene aliases: a mapping from a name to its symbol; or a table, or its path, with the column ``symbol`` and one
        or more of ``alias_symbol``, ``prev_symbol``, ``ensembl_id`` and ``entrez``, such as
        :func:`scapp.resources.hgnc`; or a list of these. Genes are matched by symbol first; names that several symbols
        share are not used.
    perturbation_key, control, sep
        Column with the perturbations, control label and separator, for reporting perturbed genes without edges; optional.
    copy
        Return a changed copy and leave `adata` unchanged.

    Returns
    -------
    None, or the copy. The network is a float32 csr matrix of shape (n_vars, n_vars), row = source, column = target;
    symmetric if undirected. A report of its coverage of the genes is logged and stored with the parameters in
    ``adata.uns["scapp"]["networks"][key_added]``; ``scapp.pp.report(adata, "network", key_added)`` returns it.

    Raises
    ------
    ValueError
        If adata is a view or has duplicate genes; if the edges cannot be read (columns not found, wrong shape of the
        matrix, missing or infinite weights, none at all), hardly any gene matches, or no edge is left. Nothing is
        written then.
    """
    adata = writable(adata, "scapp.pp.add_network", copy=copy, key_added=key_added)
    if min_weight is not None and not min_weight >= 0:
        raise ValueError(f"min_weight bounds the magnitude and must not be negative, found {min_weight!r}.")
    perturbed = perturbed_genes_in(adata, perturbation_key, control, sep)

    table = read_edges(edges, var_names=adata.var_names, source=source, target=target, weight=weight)
    directed = table.directed if directed is None else directed
    names = pd.unique(pd.concat([table.edges["source"], table.edges["target"]]))
    matcher = GeneMatcher(adata.var_names, aliases)
    match = matcher.match(names)
    matcher.check_some_match(match, "network", adata.var.columns)

    # A gene that adata holds under two names has its edges under both.
    genes = pd.DataFrame({"name": np.asarray(match.names, dtype=object)[match.name], "gene": match.gene})
    joined = table.edges.merge(genes.rename(columns={"name": "source", "gene": "row"}), on="source").merge(
        genes.rename(columns={"name": "target", "gene": "column"}), on="target"
    )
    rows, columns, values = (joined[name].to_numpy() for name in ("row", "column", "weight"))
    same_name = (joined["source"] == joined["target"]).to_numpy()
    known = table.edges[["source", "target"]].isin([match.names[i] for i in match.name])
    n_outside = int((~known.all(axis=1)).sum())

    loop = (rows == columns) | same_name
    weak = (np.abs(values) < (min_weight or 0)) | (values == 0)
    keep = ~weak if self_loops else ~weak & ~loop
    n_self_loops, n_weak = int(loop.sum()), int((weak & ~loop).sum())
    rows, columns, values = rows[keep], columns[keep], values[keep]
    if not len(rows):
        raise ValueError(
            f"No edge is left. Of {len(table.edges)} edges, {n_outside} have an end that is not a gene of adata, "
            f"{n_self_loops} join a gene to itself, and {n_weak} are of zero weight or below min_weight={min_weight}. "
            "Lower min_weight, or add the missing genes first with `adata = scapp.pp.add_unmeasured_genes(adata, genes=[...])`."
        )
    if duplicates == "error":
        _check_no_repeats(rows, columns, adata.var_names)
    n_contradicting = 0
    if keep_sign and (values < 0).any():
        signs = pd.DataFrame({"row": rows, "column": columns, "up": values > 0}).drop_duplicates()
        n_contradicting = int(signs.duplicated(["row", "column"]).sum())
    ends = np.vstack([rows, columns])
    pairs = np.unique(ends if directed else np.sort(ends, axis=0), axis=1)
    n_duplicates = len(rows) - pairs.shape[1]
    values = values if keep_sign else np.abs(values)
    adjacency = edges_to_csr(rows, columns, values, n_nodes=adata.n_vars, directed=directed, duplicates=duplicates)
    if adjacency.nnz == 0:
        raise ValueError("No edge is left: the weights of repeated edges cancel. Pass duplicates='max'.")
    n_before = _count_edges(adjacency, directed=directed)
    if top_k is not None:
        adjacency = keep_top_k(adjacency, top_k, by="target" if directed else "either")
    if scale:
        adjacency = scale_weights(adjacency)

    params: dict[str, Any] = {"keep_sign": keep_sign, "scale": scale, "min_weight": min_weight}
    params |= {"self_loops": self_loops, "duplicates": duplicates, "top_k": top_k, "origin": origin_of(edges)}
    write_network(
        adata,
        adjacency,
        key=key_added,
        kind="edges",
        perturbed=perturbed,
        directed=directed,
        n_genes_matched=match.n_genes,
        n_genes_by_alias=match.n_genes - len(np.unique(match.gene[match.how == BY_SYMBOL])),
        weight_column=table.weight_column,
        sign_column=table.sign_column,
        n_without_sign=table.n_without_sign,
        unread_columns=table.unread,
        n_listed=len(table.edges),
        n_outside=n_outside,
        n_self_loops=n_self_loops,
        n_weak=n_weak,
        n_duplicates=n_duplicates,
        n_contradicting=n_contradicting,
        n_pruned=n_before - _count_edges(adjacency, directed=directed),
        n_names=len(names),
        ambiguous_names=match.ambiguous,
        params=params,
    )
    return adata if copy else None


def _check_no_repeats(rows: NDArray, columns: NDArray, var_names: pd.Index) -> None:
    repeated = pd.DataFrame({"source": rows, "target": columns})
    repeated = repeated[repeated.duplicated()].drop_duplicates()
    if len(repeated):
        first = ", ".join(f"{var_names[a]} -> {var_names[b]}" for a, b in repeated.head(3).itertuples(index=False))
        raise ValueError(
            f"{len(repeated)} edges are listed more than once (after matching of aliases), the first: {first}. "
            "Remove the repeats, or pass duplicates='max', 'mean' or 'sum'."
        )


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
) -> None:
    """Write a network that has passed all checks, its parameters and its report; log the report."""
    degree = np.diff(adjacency.indptr) + np.bincount(adjacency.indices, minlength=adata.n_vars)
    isolated = set(adata.var_names[degree == 0])
    nodes = set(adata.var_names)
    report = NetworkReport(
        key=key,
        kind=kind,
        directed=directed,
        n_genes=adata.n_vars,
        n_edges=_count_edges(adjacency, directed=directed),
        n_isolated=len(isolated),
        isolated_perturbed_genes=tuple(gene for gene in perturbed if gene in isolated),
        perturbed_genes_not_in_var=tuple(gene for gene in perturbed if gene not in nodes),
        **counts,
    )
    adata.varp[key] = adjacency.astype(np.float32)
    report.store(adata, params)


def _count_edges(adjacency: sparse.csr_matrix, *, directed: bool) -> int:
    """Return edges, once per pair if the network is undirected."""
    if directed:
        return int(adjacency.nnz)
    loops = int((adjacency.diagonal() != 0).sum())
    return (int(adjacency.nnz) - loops) // 2 + loops
