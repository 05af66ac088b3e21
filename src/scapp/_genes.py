"""Checks of genes that every function needs: that their names are unique, and which of them were measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scapp._keys import Key

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def measured_mask(adata: AnnData) -> NDArray[np.bool_]:
    """Return a mask of the measured genes, a copy of ``var["measured"]``; all True if there is no such column.

    Genes that were not measured are nodes of the network and possible targets. Their columns of `X` and of the
    layers hold no data and are never to be read. ValueError if the column holds anything but true and false.
    """
    if Key.var.MEASURED not in adata.var:
        return np.ones(adata.n_vars, dtype=bool)
    column = adata.var[Key.var.MEASURED]
    if not (pd.api.types.is_bool_dtype(column.dtype) and not column.isna().any()):
        found = ", ".join(sorted({repr(value) for value in column.unique()[:5]}))
        raise ValueError(
            f"adata.var[{Key.var.MEASURED!r}] must say True or False of each gene, found {found} "
            f"(dtype {column.dtype}). Restore it, for example with "
            f"`adata.var[{Key.var.MEASURED!r}] = adata.var[{Key.var.MEASURED!r}].fillna(False).astype(bool)`."
        )
    return column.to_numpy(dtype=bool, copy=True)


def over_all_genes(values: NDArray[np.floating], measured: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Spread columns of measured genes over all genes, NaN elsewhere."""
    # Taking columns (with an extra one of NaN) is several times faster than assigning to columns by a mask.
    column = np.where(measured, np.cumsum(measured) - 1, values.shape[1])
    with_nan = np.column_stack([values, np.full(len(values), np.nan, dtype=np.float32)])
    return np.take(with_nan, column, axis=1).astype(np.float32, copy=False)


def check_gene_names(adata: AnnData) -> None:
    """Raise unless each gene has a name and no name occurs twice."""
    names = adata.var_names
    nameless = sum(not isinstance(name, str) or not name.strip() for name in names)
    if nameless:
        raise ValueError(
            f"{nameless} of the {len(names)} adata.var_names are empty or not text. "
            "Name these genes, or leave them out with `adata = adata[:, adata.var_names.str.strip() != ''].copy()`."
        )
    if not names.is_unique:
        twice = [name for name, times in Counter(names).items() if times > 1]
        raise ValueError(
            f"{len(twice)} gene name(s) occur more than once in adata.var_names: {shorten(twice)}. "
            "A perturbation could not say which of them it means. Make them unique first, "
            "with `adata.var_names_make_unique()`."
        )


# Entries of uns["scapp"] that hold one entry for each key that was added.
GROUPS = (Key.uns.NETWORKS, Key.uns.GENE_FEATURES, Key.uns.GUIDES, Key.uns.EFFICACY)


def scapp_uns(adata: AnnData) -> Mapping[str, Any]:
    """Return ``adata.uns["scapp"]``, or an empty dict; ValueError if it, or an entry that scapp uses, is not a dict."""
    record = adata.uns.get(Key.uns.SCAPP, {})
    entries = {f"adata.uns[{Key.uns.SCAPP!r}]": record}
    if isinstance(record, Mapping):
        entries |= {f"adata.uns[{Key.uns.SCAPP!r}][{name!r}]": record[name] for name in GROUPS if name in record}
    for where, entry in entries.items():
        if not isinstance(entry, Mapping):
            raise ValueError(
                f"{where} must be a dictionary, in which scapp keeps its records, found {type(entry).__name__}. Give what is "
                f"there another name, or remove it with `del {where}`."
            )
    return record


def scapp_entry(adata: AnnData, group: str) -> MutableMapping[str, Any]:
    """Return the dictionary ``adata.uns["scapp"][group]``, creating it if missing."""
    scapp_uns(adata)
    return adata.uns.setdefault(Key.uns.SCAPP, {}).setdefault(group, {})


def check_no_view(adata: AnnData, call: str) -> None:
    """Raise if `adata` is a view, or ``uns["scapp"]`` no dictionary, before `call`, such as ``"scapp.pp.add_network"``, writes into it."""
    scapp_uns(adata)
    if adata.is_view:
        raise ValueError(
            f"{call} writes into adata, and this is a view of another AnnData. Pass a copy: `adata = adata.copy()`."
        )


def writable(adata: AnnData, call: str, *, copy: bool, key_added: str | None = None) -> AnnData:
    """Return `adata`, or a copy of it, after the checks of all functions that write into annotated data."""
    if copy:
        adata = adata.copy()
    check_no_view(adata, call)
    check_gene_names(adata)
    if key_added is not None:
        check_key_added(key_added)
    return adata


def check_layer(adata: AnnData, layer: str | None, mend: str, name: str = "adata") -> None:
    """Raise if a layer is named that is not there, naming those that are."""
    if layer is not None and layer not in adata.layers:
        layers = shorten(repr(key) for key in adata.layers if isinstance(key, str)) or "none"
        raise ValueError(f"{name} has no layer {layer!r}; its layers are {layers}. {mend}")


def check_key_added(key: str) -> None:
    """Raise unless `key` can name a slot of an AnnData that is written to a file."""
    if not isinstance(key, str):
        raise TypeError(f"key_added must be a string, found {type(key).__name__}.")
    if not key.strip() or "/" in key:
        raise ValueError(f"key_added={key!r} cannot name a slot: it must not be empty nor hold a '/'.")


def shorten(names: Iterable[object], n: int = 5) -> str:
    """Return the first `n` names, and how many more there are, for a message."""
    names = list(names)
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(map(str, names[:n])) + more


def show_counts(counts: Mapping[str, int], n: int = 5) -> str:
    """Return names with their counts for a message, the most frequent first."""
    return shorten([f"{name!r} ({counts[name]:,})" for name in sorted(counts, key=lambda name: -counts[name])], n)
