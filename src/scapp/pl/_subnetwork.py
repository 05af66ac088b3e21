"""Plot of the subnetwork between perturbed, attended and changed genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from matplotlib.colors import Normalize

from scapp._genes import shorten
from scapp._keys import Key
from scapp.graph import paths_to_networkx
from scapp.pl._figure import LFC_UNIT, PALETTE, Color, axes, color_bar, finish_figure, picture

if TYPE_CHECKING:
    from pathlib import Path

    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"perturbed": "s", "attended": "o", "changed": "^", "attended and changed": "D", "path": "h"}
NAMES = {"path": "on a path"}
SMALLEST, LARGEST = 18.0, 170.0  # areas of nodes, in square points


@picture
def attention_subnetwork(
    data: AnnData | nx.DiGraph,
    perturbation: str | None = None,
    *,
    key: str = Key.uns.ATTENTION_SUBNETWORK,
    cmap: str = "RdBu_r",
    vmax: float | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot paths outward from the perturbed genes, with a column for each step and one for genes without a path.

    The area of a node shows its attention, the color its predicted log-fold-change (grey: not measured), and the shape
    the reason for which it is included. The width of an edge shows its strength; with several networks, the color shows
    the network.

    Parameters
    ----------
    data
        The graph from :func:`scapp.tl.attention_subnetwork`, or the AnnData that it wrote into.
    perturbation
        The perturbation to show, if the AnnData has subnetworks of several.
    key
        Key of the subnetworks in `uns`.
    cmap, vmax
        Diverging color map, and the log-fold-change at its ends; by default the largest shown.
    {fitted_figure}

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown.

    Raises
    ------
    ValueError
        If there is no subnetwork, or none for this perturbation.
    """
    graph = _graph(data, perturbation, key) if isinstance(data, AnnData) else data
    place, columns = _layout(graph)
    tallest = max(len(column) for column in columns)
    ax = axes(ax, figsize or (max(3.5, 1.3 + 1.05 * len(columns)), max(2.6, 1.3 + 0.17 * tallest)))
    networks = list(dict.fromkeys(network for *_, network in graph.edges(data="network")))
    _draw_edges(ax, graph, place, networks)
    points = _draw_nodes(ax, graph, place, cmap, vmax)
    steps = [graph.nodes[column[0]]["step"] for column in columns]
    named = {-1: "no path", 0: "perturbed", 1: "1 step"}
    ax.set_xticks(range(len(columns)), [named.get(step, f"{step} steps") for step in steps], fontsize=7)
    if steps[-1] < 0:
        ax.axvline(len(columns) - 1.45, color=Color.GREY, linewidth=0.8, linestyle=":")
    ax.set_xlim(-0.85 if len(columns) > 1 else -1, len(columns) - 0.15)
    ax.set_ylim(-tallest / 2 - 0.3, tallest / 2 + 0.3)
    ax.set_yticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(f"{graph.graph['perturbation']}: paths to attended and changed genes", fontsize=8)
    color_bar(ax, points, f"predicted {LFC_UNIT}", shrink=0.7, aspect=25)
    _legend(ax, graph, networks)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _graph(adata: AnnData, perturbation: str | None, key: str) -> nx.DiGraph:
    if key not in adata.uns:
        raise ValueError(f"adata.uns has no {key!r}. It is filled by `scapp.tl.attention_subnetwork`.")
    paths, genes = (adata.uns[key][name] for name in (Key.tables.PATHS, Key.tables.GENES))
    there = list(dict.fromkeys(genes["perturbation"].astype(str)))
    if perturbation is None and len(there) == 1:
        perturbation = there[0]
    if perturbation not in there:
        raise ValueError(
            f"adata.uns[{key!r}] has no subnetwork of {perturbation!r}; it has those of {shorten(map(repr, there))}. "
            f"Call `scapp.tl.attention_subnetwork(adata, {perturbation or there[0]!r})`, or name one of these."
        )
    return paths_to_networkx(*(table[table["perturbation"].astype(str) == perturbation] for table in (paths, genes)))


def _layout(graph: nx.DiGraph) -> tuple[dict[str, tuple[float, float]], list[list[str]]]:
    """Return the position of each node, and the nodes of each column from top to bottom; unconnected genes are last."""
    steps = dict(graph.nodes(data="step"))
    order = sorted(set(steps.values()), key=lambda step: (step < 0, step))
    place: dict[str, tuple[float, float]] = {}
    columns = []
    for x, step in enumerate(order):
        column = [node for node in graph if steps[node] == step]
        # At the mean height of the preceding nodes, so that few edges cross.
        above = {
            node: float(np.mean([place[p][1] for p in graph.predecessors(node) if p in place] or [0]))
            for node in column
        }
        column.sort(key=lambda node: -above[node])
        gap = max(1.0, 3.0 / len(column)) if step == 0 else 1.0
        for i, node in enumerate(column):
            place[node] = (x, ((len(column) - 1) / 2 - i) * gap)
        columns.append(column)
    return place, columns


def _draw_edges(ax: Axes, graph: nx.DiGraph, place: dict[str, tuple[float, float]], networks: list[str]) -> None:
    for source, target, edge in graph.edges(data=True):
        same_column = place[source][0] == place[target][0]
        ax.annotate(
            "", place[target], xytext=place[source],
            arrowprops={
                "arrowstyle": "-|>,head_width=0.12,head_length=0.25", "linewidth": 0.5 + 1.2 * edge["strength"],
                "color": Color.GREY if len(networks) < 2 else PALETTE[1 + networks.index(edge["network"]) % 6],
                "shrinkA": 4, "shrinkB": 5, "alpha": 0.8, "connectionstyle": f"arc3,rad={0.3 if same_column else 0}",
            }, zorder=1,
        )  # fmt: skip


def _draw_nodes(
    ax: Axes, graph: nx.DiGraph, place: dict[str, tuple[float, float]], cmap: str, vmax: float | None
) -> Any:
    nodes = dict(graph.nodes(data=True))
    lfc = np.array([node["predicted_lfc"] for node in nodes.values()], dtype=float)
    attention = np.array([node["attention"] for node in nodes.values()], dtype=float)
    area = SMALLEST + (LARGEST - SMALLEST) * attention / (attention.max() or 1)
    limit = vmax or float(np.nanmax(np.abs(lfc), initial=0)) or 1.0
    points = None
    for role, marker in MARKERS.items():
        mine = np.array([node["role"] == role for node in nodes.values()])
        if not mine.any():
            continue
        x, y = np.array([place[name] for name, is_mine in zip(nodes, mine, strict=True) if is_mine]).T
        measured = np.isfinite(lfc[mine])
        size, change = area[mine], lfc[mine]
        style: dict[str, Any] = {"marker": marker, "linewidth": 0.6, "edgecolor": Color.BLACK, "zorder": 3}
        ax.scatter(x[~measured], y[~measured], s=size[~measured], color=Color.GREY, **style)
        points = ax.scatter(
            x[measured], y[measured], s=size[measured], c=change[measured], cmap=cmap, norm=Normalize(-limit, limit),
            **style,
        )  # fmt: skip
    for (name, node), size in zip(nodes.items(), area, strict=True):
        left = node["step"] == 0
        ax.annotate(
            name, place[name], xytext=((-1 if left else 1) * (np.sqrt(size) / 2 + 2), 0), textcoords="offset points",
            ha="right" if left else "left", va="center", fontsize=6.5, zorder=4, annotation_clip=False,
            color=Color.VERMILION if node["perturbed"] else Color.BLACK, fontweight="bold" if node["perturbed"] else "normal",
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.3},
        )  # fmt: skip
    return points


def _legend(ax: Axes, graph: nx.DiGraph, networks: list[str]) -> None:
    roles = {role for _, role in graph.nodes(data="role")}
    style: dict[str, Any] = {"s": 22, "facecolor": "white", "edgecolor": Color.BLACK, "linewidth": 0.6}
    handles: list[Any] = [
        ax.scatter([], [], marker=marker, label=NAMES.get(role, role), **style)
        for role, marker in MARKERS.items()
        if role in roles
    ]
    if len(networks) > 1:
        handles += [ax.plot([], [], color=PALETTE[1 + k % 6], label=name)[0] for k, name in enumerate(networks)]
    ax.legend(
        handles=handles, fontsize=6.5, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.08),
        title="area: attention", title_fontsize=6.5, columnspacing=1, handletextpad=0.3,
    )  # fmt: skip
