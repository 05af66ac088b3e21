"""Settings stored with an AnnData of effects, so that users need not repeat them, and the types of perturbations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._controls import is_control
from scapp._genes import scapp_uns
from scapp._keys import Key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._controls import Control

# Common names of each type, in lower case and without hyphens, and its effect on the target. "CRISPR" alone is left
# out, because collections of screens also use it for activation and interference.
_TYPES = {
    "knockout": ("knockout", "ko", "crisprko", "cas9", "crisprcas9", "deletion"),
    "interference": ("interference", "knockdown", "kd", "crispri", "crisproff", "rnai", "shrna", "sirna"),
    "activation": ("activation", "overexpression", "oe", "crispra", "orf"),
}
DIRECTION = {"knockout": -1, "interference": -1, "activation": 1}


def effects_record(adata: AnnData) -> Mapping[str, Any] | None:
    """Return the record of :func:`scapp.pp.pseudobulk` or :func:`scapp.pp.read_effects`; None for any other AnnData."""
    if not isinstance(adata, AnnData):
        raise TypeError(f"Expected an AnnData, found {type(adata).__name__}.")
    records = scapp_uns(adata)
    for name in (Key.uns.EFFECTS, Key.uns.PSEUDOBULK):
        record = records.get(name)
        if isinstance(record, Mapping) and Key.layers.LFC in adata.layers:
            return record
    return None


def label_column(adata: AnnData, perturbation_key: str) -> str:
    """Return the column of labels; if the default name was given, the one stored with the effects."""
    if perturbation_key != Key.obs.PERTURBATION:
        return perturbation_key
    recorded = (effects_record(adata) or {}).get("perturbation_key")
    return recorded if isinstance(recorded, str) and recorded in adata.obs else perturbation_key


def control_label(adata: AnnData, control: Control, perturbation_key: str | None = None) -> Control:
    """Return the label of the control cells; None for effects, which have no rows for controls.

    Given the column of labels, effects are also recognised by ``layers["lfc"]``, unique labels and no control.
    """
    if effects_record(adata) is not None:
        return None
    if perturbation_key in adata.obs and Key.layers.LFC in adata.layers:
        labels = adata.obs[perturbation_key].dropna().astype(str)
        if len(labels) == adata.n_obs and labels.is_unique and not any(is_control(label, control) for label in labels):
            return None
    return control


def effects_layer(adata: AnnData, control: Control, layer: str | None) -> str | None:
    """Return the layer of the expression or log-fold-changes: by default ``"lfc"`` for effects that have it."""
    is_default = layer is None and control is None and Key.layers.LFC in adata.layers
    return Key.layers.LFC if is_default else layer


def added_keys(adata: AnnData, group: str, slot: Mapping[str, Any]) -> list[str]:
    """Return the keys of the networks or of the gene features that scapp added to an AnnData, in their order."""
    return [key for key in scapp_uns(adata).get(group, {}) if key in slot]


def fill_own_targets(
    values: NDArray[np.floating], perturbations: Sequence[Sequence[str]], genes: pd.Index
) -> NDArray[np.floating]:
    """Fill values that are NaN because the gene itself was perturbed, which many tables mask.

    `values`, shape (n_perturbations, n_genes), is not changed; `perturbations` has the genes of each row, and `genes`
    the names of the columns. In a copy, such values are replaced by the median of the gene over perturbations of other
    genes, so that they carry no information. Without such values, the same array is returned. Any other NaN is kept.
    """
    places = genes.get_indexer([gene for of in perturbations for gene in of])
    rows = np.repeat(np.arange(len(perturbations)), [len(of) for of in perturbations])
    known = places >= 0
    rows, places = rows[known], places[known]
    masked = np.isnan(values[rows, places])
    if not masked.any():
        return values
    filled = values.copy()
    rows, places = rows[masked], places[masked]
    for gene in np.unique(places):
        others = values[:, gene]
        if (there := np.isfinite(others)).any():
            filled[rows[places == gene], gene] = np.median(others[there])
    return filled


def perturbation_type(name: object) -> str | None:
    """Return the type of perturbation for a common name; None if the name is unknown."""
    plain = str(name).lower().replace("-", "").replace("_", "").replace(" ", "")
    return next((kind for kind, names in _TYPES.items() if plain in names), None)
