"""Loss over training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from scapp._checked import checked
from scapp.pl._figure import BLUE, GREEN, VERMILION, axes, finish_figure

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checked
def training_history(
    history: dict[str, pd.DataFrame],
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (3.5, 2.6),
    show: bool | None = None,
    save: str | Path | bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot training and validation loss by epoch; the best epoch on held-out perturbations is marked.

    Parameters
    ----------
    history
        ``model.history``.
    ax, figsize
        Where to draw, or the size of a new figure in inches.
    show, save, return_fig
        As in scanpy: show the figure, save it to this path (or with a suffix such as
        ``".pdf"``, or True, in scanpy's folder of figures), return the figure.

    Returns
    -------
    The axes; the figure if `return_fig`; None if shown. The model keeps the weights of the best epoch of a training.

    Raises
    ------
    ValueError
        If the model has no history.

    Examples
    --------
    >>> model.train()
    >>> scapp.pl.training_history(model.history)
    """
    if not history or "train_loss" not in history:
        raise ValueError("There is no training history: call `model.train()` with at least one epoch first.")
    ax = axes(ax, figsize)
    curves = {
        "train_loss": ("mean", BLUE, "--"),
        "leave_one_out_closed_form": ("closed form", VERMILION, "-"),
        "leave_one_out_attention": ("attention", GREEN, "-"),
    }
    for key, (name, color, style) in curves.items():
        if key in history:
            values = history[key].iloc[:, 0].astype(float)
            # A line of one epoch would not be seen.
            marker = "o" if len(values) == 1 else None
            ax.plot(values.index, values, color=color, label=name, linewidth=1.5, linestyle=style, marker=marker)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.tick_params(labelsize=7)
    ax.set_xlabel("epoch", fontsize=8)
    ax.set_ylabel("left-out error, relative to no change", fontsize=8)
    ax.legend(fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return finish_figure(ax, show=show, save=save, return_fig=return_fig)
