"""The part of the network that joins perturbed genes with the genes attended to and changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._checked import checked
from scapp._genes import check_gene_names, check_layer, check_no_view, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, check_known, did_you_mean, format_label, parse_label
from scapp.graph import csr_to_edge_index, paths_to_networkx
from scapp.tl._rows import FILLED, labels_of, mean_rows

if TYPE_CHECKING:
    import networkx as nx
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

# Of paths with equally many steps the strongest is taken: its cost decides only where nothing else does.
TIE = 1e-6


@checked
def attention_subnetwork(
    adata: AnnData,
    perturbation: str,
    *,
    network_key: str | Sequence[str] = Key.varp.NETWORK,
    network: sparse.spmatrix | Mapping[str, sparse.spmatrix] | None = None,
    n_attended: int = 10,
    n_changed: int = 10,
    max_length: int = 3,
    by: Literal["weight", "hops"] = "weight",
    perturbation_key: str = Key.obs.PERTURBATION,
    layer: str = Key.layers.ATTENTION,
    lfc_layer: str = Key.layers.PREDICTED_LFC,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    key_added: str | None = Key.uns.ATTENTION_SUBNETWORK,
) -> nx.DiGraph:
    r"""Find network paths from the perturbed genes to the genes with the most attention and the largest change.

    A path is a possible explanation, not evidence: it shows that the network could carry the effect this way. Attention
    starts from the network by construction, so attended genes are near the perturbed ones.

    Parameters
    ----------
    adata
        Predictions returned by :meth:`scapp.model.APP.predict`, or the AnnData that it wrote into.
    perturbation
        One of the labels, with its genes in any order.
    network_key
        One or more keys of networks in `varp`, with sources as rows and targets as columns.
    network
        The network, or several by name, instead of `network_key`. Predictions for given labels contain no network; pass
        ``model.network``.
    n_attended, n_changed
        Number of target genes for paths: those with the most attention, and those with the largest predicted
        log-fold-change in magnitude; the perturbed genes themselves do not count.
    max_length
        Maximum number of edges in a path.
    by
        Let :math:`w_e` be the magnitude of an edge's weight relative to the largest in its network. ``"weight"`` takes
        the path with the smallest :math:`\sum_e -\ln w_e`, that is, the largest product of weights; ties go to the path
        with the fewest edges. ``"hops"`` takes the path with the fewest edges; ties go to the strongest. If networks
        share an edge, the one with the largest :math:`w_e` counts.
    perturbation_key
        Column of `obs` with the labels.
    layer, lfc_layer
        Layers of the attention and of the predicted log-fold-changes.
    control, sep
        Options for reading labels.
    key_added
        Key of the tables in `uns`; None writes nothing.

    Returns
    -------
    A :class:`networkx.DiGraph` over gene names. Nodes have `attention`, `predicted_lfc` (NaN if not measured), `perturbed`,
    `role` (``"perturbed"``, ``"attended"``, ``"changed"``, ``"attended and changed"``, or ``"path"`` for genes in
    between), and `step`, the smallest number of edges from a perturbed gene on the paths, or -1 for genes without a
    path. Edges have `weight`, `strength` (:math:`w_e`) and `network`. The graph has the attribute `perturbation`.

    ``adata.uns[key_added]`` gains two tables; rows from earlier calls for other perturbations are kept:

    - ``["paths"]``: one row per step of a path: `perturbation`, `gene` at the end of the path, its `role`, `reached`,
      `path_strength` (the product of :math:`w_e`), `step` from 1, `source`, `target`, `weight`, `strength`, `network`. A
      gene without a path has one row with step 0, `reached` False and no source.
    - ``["genes"]``: one row per node, with its attributes.

    Raises
    ------
    ValueError
        If the perturbation, a layer or a network is missing, the network has the wrong shape, or a number is out of
        range. Nothing is written then.

    Examples
    --------
    >>> predicted = model.predict(["CEBPA+KLF1"])
    >>> graph = scapp.tl.attention_subnetwork(predicted, "CEBPA+KLF1", network=model.network)
    >>> scapp.pl.attention_subnetwork(graph)
    """
    if max_length < 1:
        raise ValueError(f"max_length counts the edges of a path and must be at least 1, found {max_length}.")
    if min(n_attended, n_changed) < 0 or n_attended + n_changed < 1:
        raise ValueError(
            f"n_attended and n_changed must not be negative and not both 0, found {n_attended} and {n_changed}."
        )
    check_gene_names(adata)
    if key_added is not None:
        check_no_view(adata, "scapp.tl.attention_subnetwork")
    networks = _networks(adata, network_key, network)
    genes = parse_label(perturbation, control=control, sep=sep, genes=adata.var_names)
    if not genes:
        raise ValueError(f"Expected a perturbation, found the control ({perturbation!r}), which perturbs nothing.")
    label, attention, lfc = _row(adata, perturbation, genes, perturbation_key, layer, lfc_layer, control, sep)
    check_known([genes], adata.var_names.tolist())
    starts = adata.var_names.get_indexer(list(genes))
    roles = _roles(attention, lfc, starts, n_attended, n_changed)
    edges = join_networks(networks)
    cost = path_costs(edges, by)
    distance, last = shortest_paths(edges, cost, starts, adata.n_vars, max_length)
    paths = {g: trace(g, last, edges.source) for g in roles if np.isfinite(distance[g])}

    table = _path_table(label, roles, paths, edges, list(networks), adata.var_names)
    step = dict.fromkeys(map(int, starts), 0)
    for path in paths.values():
        for k, e in enumerate(path, start=1):
            node = int(edges.target[e])
            step[node] = min(step.get(node, k), k)
    step |= {gene: -1 for gene in roles if gene not in step}
    shown = list(step)
    is_perturbed = [gene in starts for gene in shown]
    role = ["perturbed" if start else roles.get(gene, "path") for gene, start in zip(shown, is_perturbed, strict=True)]
    nodes = pd.DataFrame(
        {
            "perturbation": label, "gene": adata.var_names[shown].astype(object), "attention": attention[shown],
            "predicted_lfc": lfc[shown], "perturbed": is_perturbed, "role": role, "step": list(step.values()),
        }
    )  # fmt: skip
    lost = [adata.var_names[g] for g in roles if g not in paths]
    if lost:
        logger.info(
            f"{label}: {len(lost)} of {len(roles)} genes have no path of at most {max_length} edges from "
            f"{format_label(genes, sep=sep)}: {shorten(lost)}. They are in the table and the graph without edges."
        )
    if key_added is not None:
        before = adata.uns.get(key_added, {})
        tables = {Key.tables.PATHS: table, Key.tables.GENES: nodes}
        for name, made in tables.items():
            if name in before:
                others = before[name][before[name]["perturbation"].astype(str) != label]
                made = pd.concat([others, made]) if len(others) else made
            tables[name] = made.reset_index(drop=True).set_axis(pd.RangeIndex(len(made)).astype(str))
        adata.uns[key_added] = tables
    return paths_to_networkx(table, nodes)


def _networks(
    adata: AnnData, keys: str | Sequence[str], given: sparse.spmatrix | Mapping[str, sparse.spmatrix] | None
) -> dict[str, sparse.spmatrix]:
    if given is None:
        names = [keys] if isinstance(keys, str) else list(keys)
        missing = [name for name in names if name not in adata.varp]
        if missing or not names:
            raise ValueError(
                f"adata.varp has no network {shorten(map(repr, missing)) or '(no key is named)'}; it has "
                f"{shorten(map(repr, adata.varp)) or 'none'}. Add one with `scapp.pp.add_network(adata, edges)`, or, for "
                "predictions, pass that of the model with network=model.network."
            )
        found = {name: adata.varp[name] for name in names}
    else:
        found = dict(given) if isinstance(given, Mapping) else {Key.varp.NETWORK: given}
    if not found:
        raise ValueError("network={} names no network. Pass one, such as network=model.network, or leave it out.")
    for name, matrix in found.items():
        if not (sparse.issparse(matrix) or isinstance(matrix, np.ndarray)):
            raise TypeError(
                f"The network {name!r} must be a sparse matrix over adata.var_names, such as model.network, found "
                f"{type(matrix).__name__}. Add other forms with `scapp.pp.add_network(adata, edges)`."
            )
        if matrix.shape != (adata.n_vars,) * 2:
            raise ValueError(
                f"The network {name!r} has the shape {matrix.shape}, expected ({adata.n_vars}, {adata.n_vars}): one row and "
                "one column for each of adata.var_names, in their order."
            )
    return {name: sparse.csr_matrix(matrix) for name, matrix in found.items()}


def _row(
    adata: AnnData, perturbation: str, genes: Perturbation, key: str, layer: str, lfc_layer: str,
    control: str | Sequence[str] | None, sep: str,
) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Return the label as adata spells it, attention and log-fold-changes of one perturbation."""
    for name in (layer, lfc_layer):
        check_layer(adata, name, FILLED)
    labels = labels_of(adata, key)
    distinct = list(dict.fromkeys(labels))
    same = [label for label in distinct if parse_label(label, control=control, sep=sep, genes=adata.var_names) == genes]
    if not same:
        hint = did_you_mean(perturbation, distinct)
        raise ValueError(
            f"No observation is labelled {perturbation!r} in adata.obs[{key!r}].{hint} "
            f"Predict it first with `model.predict([{perturbation!r}])`."
        )
    label = perturbation if perturbation in same else same[0]
    attention, lfc = (mean_rows(adata.layers[name], labels, [label])[0] for name in (layer, lfc_layer))
    if not np.isfinite(attention).all():
        raise ValueError(
            f"The attention of {label!r} in adata.layers[{layer!r}] is NaN. It is filled by `APP.predict`."
        )
    return label, attention, lfc


def _roles(
    attention: NDArray[np.float64], lfc: NDArray[np.float64], starts: NDArray[np.int64], n_attended: int, n_changed: int
) -> dict[int, str]:
    """Return the genes that paths lead to, the most attended first."""
    other = np.ones(len(attention), dtype=bool)
    other[starts] = False
    attended = [g for g in np.argsort(-attention, kind="stable") if other[g]][:n_attended]
    size = np.abs(np.nan_to_num(lfc))
    changed = [g for g in np.argsort(-size, kind="stable") if other[g] and size[g] > 0][:n_changed]
    roles = {int(g): "attended" for g in attended}
    for g in changed:
        roles[int(g)] = "attended and changed" if int(g) in roles else "changed"
    return roles


def _path_table(
    label: str, roles: dict[int, str], paths: dict[int, list[int]], edges: Edges, networks: list[str], names: pd.Index
) -> pd.DataFrame:
    rows = []
    for gene, role in roles.items():
        steps = paths.get(gene, [])
        strength = float(np.prod(edges.strength[steps])) if steps else np.nan
        of = (label, names[gene], role, bool(steps), strength)
        for k, e in enumerate(steps, start=1):
            ends = (names[edges.source[e]], names[edges.target[e]])
            rows.append((*of, k, *ends, edges.weight[e], edges.strength[e], networks[edges.network[e]]))
        if not steps:
            rows.append((*of, 0, "", "", np.nan, np.nan, ""))
    columns = [
        "perturbation", "gene", "role", "reached", "path_strength", "step", "source", "target", "weight", "strength",
        "network",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class Edges:
    """Edges of several networks together, sorted by target: each pair of nodes once, with its strongest edge.

    `strength` is the magnitude of the weight relative to the largest of its network, between 0 and 1.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float64]
    strength: NDArray[np.float64]
    network: NDArray[np.int64]


def join_networks(networks: Mapping[str, sparse.spmatrix]) -> Edges:
    """Join networks over the same nodes; without edges from a node to itself."""
    found = []
    for k, adjacency in enumerate(networks.values()):
        (rows, columns), values = csr_to_edge_index(adjacency)
        keep = rows != columns
        weight = values[keep].astype(np.float64)
        largest = np.abs(weight).max(initial=0) or 1.0
        found.append((rows[keep], columns[keep], weight, np.abs(weight) / largest, np.full(len(weight), k)))
    source, target, weight, strength, network = map(np.concatenate, zip(*found, strict=True))
    order = np.lexsort((network, -strength, source, target))
    source, target = source[order], target[order]
    first = np.r_[True, (source[1:] != source[:-1]) | (target[1:] != target[:-1])][: len(source)]
    kept = order[first]
    return Edges(source[first], target[first], weight[kept], strength[kept], network[kept])


def path_costs(edges: Edges, by: Literal["weight", "hops"]) -> NDArray[np.float64]:
    """Return the cost of each edge, so that the cheapest path is the one wanted."""
    weakness = -np.log(edges.strength)
    if by == "weight":
        return weakness
    return 1 + TIE * weakness / (weakness.max(initial=0) or 1.0)


def shortest_paths(
    edges: Edges, cost: NDArray[np.float64], starts: NDArray[np.int64], n_nodes: int, max_length: int
) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    """Return cheapest paths of at most `max_length` edges from any of the starts, by Bellman and Ford's recursion.

    Dijkstra's algorithm would not know of the limit: its cheapest path may be too long where another one is not. What is
    returned are the costs of shape (n_nodes,), infinite without a path; and for each number of edges the last edge of the
    path to each node, -1 where a path of fewer edges is as cheap.
    """
    distance = np.full(n_nodes, np.inf)
    distance[starts] = 0
    last: list[NDArray[np.int64]] = []
    begins = np.flatnonzero(np.r_[True, edges.target[1:] != edges.target[:-1]][: len(edges.target)])
    targets = edges.target[begins]
    for _ in range(min(max_length, n_nodes)):
        edge = np.full(n_nodes, -1, dtype=np.int64)
        if len(begins):
            candidate = distance[edges.source] + cost
            best = np.minimum.reduceat(candidate, begins)
            sizes = np.diff(np.r_[begins, len(candidate)])
            is_best = np.flatnonzero(candidate == np.repeat(best, sizes))
            first = is_best[np.searchsorted(is_best, begins)]
            better = best < distance[targets]
            edge[targets[better]] = first[better]
            distance = distance.copy()
            distance[targets[better]] = best[better]
        if (edge < 0).all():
            break  # no path of more edges is cheaper
        last.append(edge)
    return distance, last


def trace(node: int, last: list[NDArray[np.int64]], source: NDArray[np.int64]) -> list[int]:
    """Return the edges of the path to a node, from its start."""
    path: list[int] = []
    for edge in reversed(last):
        if edge[node] >= 0:
            path.append(int(edge[node]))
            node = int(source[edge[node]])
    return path[::-1]
