"""The genes that a prediction attends to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, near_matches, parse_label
from scapp._ranking import read_group
from scapp.pl._figure import BLUE, VERMILION, axes, finish_figure
from scapp.pl._rows import PREDICT, row_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What the scores of a ranking are called, by its method.
SCORES = {
    "attention_relative": "ln (attention / mean over perturbations)",
    "attention_z_score": "attention (z-score over perturbations)",
}


@checked
def attention(
    adata: AnnData,
    perturbation: str,
    *,
    n_genes: int = 20,
    layer: str = Key.layers.ATTENTION,
    key: str | None = None,
    sep: str = SEPARATOR,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the genes ranked by the attention of one perturbation; the perturbed genes stand out.

    Parameters
    ----------
    adata
        Predictions with one observation per perturbation, as :meth:`scapp.model.APP.predict` returns; with `key`, any
        AnnData that holds a ranking.
    perturbation
        One of ``adata.obs_names``; with `key`, one of the groups of the ranking.
    n_genes
        How many genes. Genes with an attention of zero are left out.
    layer
        Layer of the attention.
    key
        Show the scores of this ranking in `uns` instead of the layer. It is in the form of scanpy's
        ``rank_genes_groups``, as ``uns["attention_genes"]`` is, or the complete one that stands for it beyond 500
        perturbations.
    sep
        What joins the genes of the label.
    ax, figsize
        Where to draw, or the size of a new figure in inches; by default as high as the genes need.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The scale is logarithmic where all scores are positive.

    Raises
    ------
    ValueError
        If the layer, the ranking or the perturbation is missing, or the observation has no attention, as controls
        have none.

    Examples
    --------
    >>> predicted = model.predict(["CEBPA+KLF1"])
    >>> scapp.pl.attention(predicted, "CEBPA+KLF1")
    """
    if key is None:
        values = row_of(adata, perturbation, layer, PREDICT, sep=sep)
        order = np.argsort(-values, kind="stable")[:n_genes]
        names, values = adata.var_names[order].to_numpy(), values[order]
        positive = values > 0  # not NaN either
        names, values, label = names[positive], values[positive], "attention (all genes sum to 1)"
        if not len(values):
            raise ValueError(f"The attention of {perturbation!r} is zero or NaN for all genes; controls have none.")
    else:
        names, values, label = _ranked(adata, perturbation, key, n_genes)
    names, values = names[::-1], values[::-1]
    perturbed = set(parse_label(perturbation, control=(), sep=sep))
    y = np.arange(len(values))
    logarithmic = bool((values > 0).all())
    ax = axes(ax, figsize or (3.5, 0.9 + 0.165 * len(values)))
    colors = [VERMILION if name in perturbed else BLUE for name in names]
    ax.hlines(y, values.min() * 0.8 if logarithmic else 0, values, color=colors, linewidth=1.5)
    ax.scatter(values, y, color=colors, s=18, zorder=3)
    if logarithmic:
        ax.set_xscale("log")
    ax.set_yticks(y, names, fontsize=7)
    for text, color in zip(ax.get_yticklabels(), colors, strict=True):
        text.set_color(color)
    ax.tick_params(axis="x", labelsize=7, which="both")
    ax.set_xlabel(label, fontsize=8)
    marked = "\n(perturbed genes in red)" if VERMILION in colors else ""
    ax.set_title(f"{perturbation}: most attended genes{marked}", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)


def _ranked(adata: AnnData, perturbation: str, key: str, n_genes: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return names and scores of the first genes of a ranking, and what the scores are."""
    try:
        names, scores, method = read_group(adata, key, perturbation)
    except KeyError as error:
        if len(error.args) == 1:
            has = shorten(repr(k) for k, value in adata.uns.items() if hasattr(value, "keys") and "names" in value)
            raise ValueError(
                f"adata.uns has no ranking of genes {key!r}; it has {has or 'none'}. `model.predict()` without names writes "
                f"uns[{Key.uns.ATTENTION_GENES!r}]."
            ) from None
        groups = error.args[1]
        like = near_matches(perturbation, groups)
        hint = f" Did you mean {' or '.join(map(repr, like))}?" if like else f" Its groups are {shorten(groups)}."
        raise ValueError(f"The ranking uns[{key!r}] has no group {perturbation!r}.{hint}") from None
    return names[:n_genes], scores[:n_genes], SCORES.get(method, method)
