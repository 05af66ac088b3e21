"""Profiles of perturbations over the scored genes, measured or predicted, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from scapp._genes import measured_mask, shorten
from scapp._labels import Perturbation, format_label
from scapp.tl._rows import check_layer, mean_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

# Predictions are held for this many pairs at a time.
BLOCK = 1000
# From here on a bar shows the progress.
LONG = 100


class Predictor(Protocol):
    """Anything that predicts: :class:`scapp.model.APP` and the baselines."""

    def predict(self, perturbations: list[str], /) -> AnnData:
        """Return predictions with one observation per label, in ``layers["predicted_lfc"]``."""


LookUp = Callable[[Sequence[Perturbation]], tuple[pd.Index, "NDArray[np.bool_]", "NDArray[np.float64]"]]


def measured_profiles(adata: AnnData, layer: str, labels: pd.Series, label_of: Mapping[Perturbation, str]) -> LookUp:
    """Look perturbations up in a layer."""
    measured = measured_mask(adata)
    return lambda wanted: (adata.var_names, measured, mean_rows(adata, layer, labels, [label_of[p] for p in wanted]))


def predicted_profiles(model: Predictor, layer: str, sep: str) -> LookUp:
    """Ask a model for perturbations."""

    def look_up(wanted: Sequence[Perturbation]) -> tuple[pd.Index, NDArray[np.bool_], NDArray[np.float64]]:
        predicted = model.predict([format_label(p, sep=sep) for p in wanted])
        check_layer(predicted, layer, "`APP.predict`")
        return predicted.var_names, measured_mask(predicted), np.asarray(predicted.layers[layer], dtype=np.float64)

    return look_up


def in_blocks(
    pairs: list[Perturbation], look_up: LookUp, columns: NDArray[np.intp], layer: str
) -> Iterator[tuple[Perturbation, NDArray[np.float64]]]:
    """Yield each pair with its values of the scored genes."""
    from rich.progress import track

    blocks = [pairs[i : i + BLOCK] for i in range(0, len(pairs), BLOCK)]
    profiles = (
        (pair, values)
        for block in blocks
        for pair, values in zip(block, check_finite(look_up(block)[2][:, columns], block, layer), strict=True)
    )
    yield from track(profiles, "Interactions", total=len(pairs), transient=True, disable=len(pairs) < LONG)


def scored_columns(names: pd.Index, measured: NDArray[np.bool_], genes: ArrayLike | None) -> NDArray[np.intp]:
    """Return positions of the scored genes."""
    if genes is None:
        return np.flatnonzero(measured)
    asked = np.asarray(genes)
    if asked.dtype == bool:
        if asked.shape != (len(names),):
            raise ValueError(f"genes is a mask of shape {asked.shape}, expected ({len(names)},), one for each gene.")
        columns = np.flatnonzero(asked)
    elif np.issubdtype(asked.dtype, np.integer):
        columns = asked
    else:
        columns = names.get_indexer(pd.Index(asked.astype(object)))
    wrong = [str(g) for g, column in zip(asked[:], columns, strict=False) if not 0 <= column < len(names)]
    if asked.dtype != bool and wrong:
        raise ValueError(f"{len(wrong)} of the genes to score are not among the {len(names)} genes: {shorten(wrong)}.")
    unmeasured = names[columns[~measured[columns]]]
    if len(unmeasured) or len(columns) < 3:
        raise ValueError(
            f"Expected at least 3 measured genes to score, found {len(columns)}, of which {len(unmeasured)} were not "
            f"measured ({shorten(unmeasured) or 'none'}). Choose others with genes=…."
        )
    return columns


def check_finite(values: NDArray[np.float64], perturbations: Sequence[Perturbation], layer: str) -> NDArray[np.float64]:
    """Return the values; raise if one is NaN or infinite."""
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        found = shorten(format_label(perturbations[int(i)]) for i in np.flatnonzero(bad))
        raise ValueError(
            f"The layer {layer!r} holds NaN or infinite values of scored genes for {int(bad.sum())} perturbations: {found}. "
            "Leave these genes out with genes=…, or mark them in adata.var['measured']."
        )
    return values
