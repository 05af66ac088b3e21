"""Plot how well a network and gene features cover the perturbed genes and all genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse

from scapp._effects import control_label, label_column
from scapp._genes import measured_mask, scapp_uns, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, parse_labels, perturbed_genes
from scapp.pl._figure import COLUMN, Color, finish_figure, label_axes, literal, note, picture

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 48  # letters that fit below the bars
PERTURBED, ALL = ("perturbed genes", Color.VERMILION), ("all genes", Color.BLUE)


@picture
def network_coverage(
    adata: AnnData,
    *,
    network_key: str | Sequence[str] = Key.varp.NETWORK,
    gene_features_key: str | Sequence[str] | None = None,
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    ax: Sequence[Axes] | None = None,
    figsize: tuple[float, float] = (COLUMN, 4.4),
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Sequence[Axes] | Figure | None:
    """Plot how many neighbours the genes have, and which genes lack neighbours, features or measurements.

    Parameters
    ----------
    adata
        Cells or effects with a network from :func:`scapp.pp.add_network`.
    network_key
        One or more keys of networks in `varp`. The edges of several networks are combined, as in the model.
    gene_features_key
        One or more keys of gene features in `varm`; a gene lacks features if it has none under any key. If None, all
        that :func:`scapp.pp.add_gene_features` added.
    perturbation_key, control, sep
        Column of `obs` with the perturbations, label of the controls, and separator between the genes of a combination.
    ax, figsize
        Two axes to draw on, or the size of a new figure in inches.
    {saved}

    Returns
    -------
    The two axes; the figure if `return_fig`; None if shown. The upper panel shows the share of genes by number of
    neighbours, in either direction and excluding the gene itself. The lower panel shows the share and number of genes
    without neighbours, without features or not measured, and of perturbed genes that are missing from `adata`; some of the
    perturbed genes are named.

    Raises
    ------
    ValueError
        If a network, gene features or the column of perturbations are missing, or `ax` is not two axes.

    Examples
    --------
    >>> scapp.pp.add_network(adata, "string.tsv")
    >>> scapp.pl.network_coverage(adata)
    """
    if ax is not None and np.size(np.asarray(ax, dtype=object)) != 2:
        raise ValueError("The plot has two panels: pass two axes, for example `plt.subplots(2)[1]`.")
    degree = _degree(adata, _as_list(network_key))
    key = label_column(adata, perturbation_key)
    if key not in adata.obs:
        raise ValueError(
            f"adata.obs has no column {key!r} that names the perturbations; it has {shorten(map(repr, adata.obs)) or 'none'}. "
            "Name it with perturbation_key=…."
        )
    labels = adata.obs[key].dropna().astype(str).unique()
    known = perturbed_genes(parse_labels(labels, control=control_label(adata, control), sep=sep))
    is_perturbed = adata.var_names.isin(known)
    genes, n_perturbed = adata.var_names, int(is_perturbed.sum())
    lacks: list[tuple[str, list[str], int, int | None]] = [
        (name, list(genes[lacking & is_perturbed]), n_perturbed, int(lacking.sum()))
        for name, lacking in _lacks(adata, degree, gene_features_key).items()
    ]
    if outside := [gene for gene in known if gene not in set(genes)]:
        lacks.append(("no gene\nof adata", outside, len(known), None))
    upper, lower = plt.subplots(2, figsize=figsize, layout="constrained")[1] if ax is None else ax

    _draw_degrees(upper, {PERTURBED: degree[is_perturbed], ALL: degree})
    _draw_lacks(lower, lacks, n_genes=len(genes))
    literal(lower)
    drawn = finish_figure(upper, show=show, save=save, return_fig=return_fig)
    return (upper, lower) if drawn is upper else drawn  # type: ignore[return-value]


def _as_list(keys: str | Sequence[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else list(keys)


def _degree(adata: AnnData, keys: list[str]) -> np.ndarray:
    """Return the number of neighbours of each gene in any of the networks, shape (n_vars,)."""
    if missing := [key for key in keys if key not in adata.varp]:
        has = shorten(map(repr, adata.varp)) or "none"
        raise ValueError(
            f"adata.varp has no network {missing[0]!r}; it has {has}. Add one with "
            f"`scapp.pp.add_network(adata, edges, key_added={missing[0]!r})`, or name it with network_key=…."
        )
    if not keys:
        raise ValueError("network_key names no network; name at least one key of adata.varp.")
    joined = sparse.csr_matrix(adata.shape[1:] * 2, dtype=bool)
    for key in keys:
        matrix = sparse.csr_matrix(adata.varp[key]) != 0
        joined = joined + matrix + matrix.T
    joined = joined.tolil()
    joined.setdiag(False)
    return np.asarray(joined.tocsr().sum(axis=1)).ravel()


def _lacks(adata: AnnData, degree: np.ndarray, features: str | Sequence[str] | None) -> dict[str, np.ndarray]:
    """Return a mask of the genes without neighbours, without features and not measured."""
    reported = scapp_uns(adata).get(Key.uns.GENE_FEATURES, {})
    keys = list(reported) if features is None else _as_list(features)
    if missing := [key for key in keys if key not in adata.varm]:
        has = shorten(map(repr, adata.varm)) or "none"
        raise ValueError(
            f"adata.varm has no gene features {missing[0]!r}; it has {has}. Add them with "
            f"`scapp.pp.add_gene_features(adata, features, key_added={missing[0]!r})`."
        )
    lacks = {"no neighbour": degree == 0}
    if keys:
        described = [~np.isnan(np.asarray(adata.varm[key], dtype=float)).any(axis=1) for key in keys]
        lacks["no features"] = ~np.any(described, axis=0)
    return lacks | {"not measured": ~measured_mask(adata)}


def _draw_degrees(ax: Axes, degrees: dict[tuple[str, str], np.ndarray]) -> None:
    """Draw bars over powers of two, because degrees span orders of magnitude."""
    most = max(int(values.max(initial=0)) for values in degrees.values())
    edges = np.array([0, *2 ** np.arange(0, max(most, 1).bit_length() + 1)])
    labels = [
        str(low) if high - low == 1 else f"{low}–{high - 1}" for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    x, highest = np.arange(len(labels)), 0.0
    for k, ((name, color), values) in enumerate(degrees.items()):
        counts = np.histogram(values, bins=edges)[0]
        share = counts / max(len(values), 1)
        highest = max(highest, float(share.max()))
        middle = f", median {np.median(values):g}" if len(values) else ""
        ax.bar(x + (k - 0.5) * 0.4, share, 0.38, color=color, label=f"{name} (n = {len(values):,}{middle})")
    label_axes(ax, x="neighbours in the network", y="share of genes")
    ax.set_xticks(x, labels, fontsize=6.5, rotation=45, ha="right", rotation_mode="anchor")
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.set_ylim(0, 1.3 * highest or 1)  # room for the legend
    ax.legend(fontsize=7, frameon=False, loc="upper right")


def _draw_lacks(ax: Axes, lacks: list[tuple[str, list[str], int, int | None]], *, n_genes: int) -> None:
    """Draw two bars for each kind of missing information, with their numbers and the first perturbed genes affected.

    Each entry of `lacks` is a name, the affected perturbed genes, their total, and the number of affected genes
    overall.
    """
    for k, (_, concerned, of_perturbed, n_all) in enumerate(lacks):
        bars = [(-0.3, PERTURBED[1], len(concerned), of_perturbed)]
        if n_all is not None:
            bars.append((0.0, ALL[1], n_all, n_genes))
        for shift, color, count, total in bars:
            share = count / max(total, 1)
            ax.barh(k + shift, share, 0.28, color=color)
            note(ax, f"{count:,} of {total:,}", (share, k + shift), fontsize=6)
        if concerned:
            below = k + bars[-1][0] + 0.27
            note(ax, _fitting(concerned), (0, below), shift=2, fontsize=6, color=Color.VERMILION)
    ax.set_yticks(np.arange(len(lacks)) - 0.15, [lack[0] for lack in lacks], fontsize=7)
    ax.set_ylim(len(lacks) - 0.5, -0.6)  # the first on top
    ax.set_xlim(0, 1.3)  # room for the numbers of a full bar
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.xaxis.set_major_formatter("{x:.0%}")
    label_axes(ax, x="share of genes")


def _fitting(names: list[str]) -> str:
    """Return the names that fit on a line, and the number of the rest."""
    lines = [shorten(names, n) for n in range(1, len(names) + 1)]
    return next((line for line in reversed(lines) if len(line) <= LINE), lines[0])
