"""What all pictures share: where they are drawn, how they are shown, saved and returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from scapp._genes import shorten
from scapp._perturbations import near_matches

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00"
GREY = "#999999"
PALETTE = (GREY, SKY, ORANGE, BLUE, GREEN, VERMILION, BLACK)
LFC_UNIT = "log-fold-change (natural log)"


def axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """The axes given, or those of a new figure."""
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def done(ax: Axes, *, show: bool | None, save: str | Path | None, return_fig: bool) -> Axes | Figure | None:
    """Save, show or return, by scanpy's habits; `show` None is ``scanpy.settings.autoshow``."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    if save is not None:
        figure.savefig(save, dpi=200, bbox_inches="tight")
    if return_fig:
        return figure
    if show is None:
        import scanpy as sc

        show = sc.settings.autoshow
    if not show:
        return ax
    plt.show()
    return None


def row_of(adata: AnnData, perturbation: str, layer: str, filled_by: str) -> np.ndarray:
    """One perturbation's row of a layer, or an error that says what is missing and which function fills it."""
    if layer not in adata.layers:
        layers = shorten(repr(key) for key in adata.layers if isinstance(key, str)) or "none"
        raise ValueError(f"adata has no layer {layer!r}; its layers are {layers}. It is filled by {filled_by}.")
    rows = [i for i, name in enumerate(adata.obs_names) if name == perturbation]
    if len(rows) != 1:
        like = near_matches(perturbation, adata.obs_names)
        hint = f" Did you mean {' or '.join(map(repr, like))}?" if like else ""
        raise ValueError(
            f"adata has {len(rows)} observations named {perturbation!r}, expected one.{hint} Pictures take effects or "
            "predictions with one observation a perturbation, as `APP.predict` and `scapp.pp.pseudobulk` return."
        )
    return adata.layers[layer][rows[0]]
