"""Loss over training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scapp.pl._figure import BLUE, VERMILION, axes, done

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def training_history(
    history: dict[str, pd.DataFrame],
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 2.6),
    show: bool | None = None,
    save: str | Path | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Training and validation loss by epoch; the epoch whose weights were kept is marked.

    Parameters
    ----------
    history
        ``model.history``.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path, return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown.

    Raises
    ------
    ValueError
        If the model has no history.
    """
    if not history or "train_loss" not in history:
        raise ValueError("There is no training history: call `model.train()` with at least one epoch first.")
    ax = axes(ax, figsize)
    curves = {
        "train_loss": ("training (leave-one-out)", BLUE),
        "validation_loss": ("held-out perturbations", VERMILION),
    }
    for key, (name, color) in curves.items():
        if key in history:
            values = history[key].iloc[:, 0].astype(float)
            ax.plot(values.index, values, color=color, label=name, linewidth=1.5)
    if "validation_loss" in history:
        values = history["validation_loss"].iloc[:, 0].to_numpy(dtype=float)
        best = int(np.nanargmin(values))
        ax.scatter(history["validation_loss"].index[best], values[best], color=VERMILION, zorder=3, s=25, label="kept")
    ax.set_xlabel("epoch", fontsize=8)
    ax.set_ylabel("error, relative to no model", fontsize=8)
    ax.legend(fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return done(ax, show=show, save=save, return_fig=return_fig)
