"""Readers of published gene vectors: PIE's folders, STRING's embeddings and DepMap's dependencies."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scapp._genes import shorten
from scapp._tables import existing_file, open_bytes, open_text, whole
from scapp.resources._safe import read_arrays, read_json

META, VECTORS, OFFSETS = "meta.json", "embeddings.npy", "offsets.npy"
# DepMap's columns: symbol and Entrez id.
_DEPMAP_COLUMN: Final = re.compile(r"^(\S+) \((\d+)\)$")
_DEPMAP_COLUMNS: Final = 20  # so many columns at most decide whether a table is DepMap's
_MOST_MISSING: Final = 0.5

logger = logging.getLogger(__name__)


class GeneVectors(NamedTuple):
    """Names, their vectors, and what ``attrs`` records about them."""

    names: list[str]
    values: NDArray[Any]
    attrs: Mapping[str, Any] = MappingProxyType({})


def is_pie_folder(path: Path) -> bool:
    """Return whether a folder is one of PIE's sources of knowledge."""
    return (path / META).is_file() and (path / VECTORS).is_file()


def from_pie_folder(folder: Path) -> GeneVectors:
    """Read ``meta.json`` (keys, layout, provenance) and ``embeddings.npy``; of several tokens for one key, the mean."""
    meta = read_json(existing_file(folder / META), "description of the source")
    where = f"The folder {str(folder)!r}"
    keys = meta.get("keys") if isinstance(meta, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) for key in keys):
        raise ValueError(
            f"{where} is no source of PIE: its {META} has no list of names under 'keys'. Other vectors are read from one file of "
            "names and numbers."
        )
    if meta.get("index") == "context":
        raise ValueError(f"{where} describes contexts and not genes (its {META} has 'index': 'context').")
    values = _one_array(folder / VECTORS)
    if values.ndim != 2 or values.dtype.kind != "f":
        raise ValueError(
            f"{where}: {VECTORS} should be a matrix of numbers, found {values.dtype} of shape {values.shape}."
        )
    if meta.get("layout") == "token":
        offsets, n_keys = _one_array(existing_file(folder / OFFSETS)), len(keys)
        fits = offsets.shape == (n_keys + 1,) and offsets.dtype.kind in "iu"
        if not fits or offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets.astype(np.int64)) <= 0).any():
            raise ValueError(
                f"{where}: {OFFSETS} should hold {n_keys + 1} increasing whole numbers from 0 to {len(values)}, the rows of "
                f"{VECTORS}. Copy the folder again."
            )
        sums = np.add.reduceat(values.astype(np.float64), offsets[:-1].astype(np.intp), axis=0)
        values = sums / np.diff(offsets)[:, None]
    if len(values) != len(keys):
        raise ValueError(
            f"{where} has {len(values)} vectors in {VECTORS}, but {len(keys)} keys in {META}. Copy both again."
        )
    attrs = {"name": str(meta.get("name", "")), "provenance": json.dumps(meta.get("provenance", {}), sort_keys=True)}
    return GeneVectors(list(keys), values, attrs)


def _one_array(path: Path) -> NDArray[Any]:
    snippet = f"import numpy as np\nnp.save({path.name!r}, np.load({path.name!r}, allow_pickle=True).astype('float32'))"
    found = read_arrays(existing_file(path), snippet)
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{str(path)!r} should hold one array, found several: {shorten(found)}.")
    return found


def from_string_h5(file: Path, key: str | None) -> GeneVectors:
    """Read STRING's embeddings of proteins (HDF5): of one species, or of the species `key` of all."""
    import h5py

    try:
        with h5py.File(file, "r") as opened:
            group: Any = opened
            if "species" in opened:
                there = sorted(opened["species"])
                chosen = key or (there[0] if len(there) == 1 else "")
                if chosen not in there:
                    found = f"has no species {key!r}" if key else f"has {len(there)} species"
                    raise ValueError(f"it {found}; name one with key=…, such as '9606' for human: {shorten(there, 8)}")
                group = opened["species"][chosen]
            elif key is not None:
                raise ValueError(f"it holds one species, so that key={key!r} names nothing; leave it out")
            missing = [name for name in ("proteins", "embeddings") if name not in group]
            if missing:
                raise ValueError(
                    f"it has no {' and no '.join(map(repr, missing))}, but {shorten(map(repr, group)) or 'nothing'}"
                )
            names = [name.decode() if isinstance(name, bytes) else str(name) for name in group["proteins"][:]]
            return GeneVectors(names, group["embeddings"][:], {"name": "STRING"})
    except (OSError, KeyError, TypeError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{str(file)!r} cannot be read as embeddings of STRING: {error}.") from error


def is_depmap(file: Path) -> bool:
    """Return whether the columns of a csv file are named as DepMap's: ``"A1BG (1)"``."""
    try:
        with whole(file), open_text(file) as lines:
            columns = next(lines, "").rstrip("\r\n").split(",")[1 : _DEPMAP_COLUMNS + 1]
    except (OSError, ValueError):
        return False
    named = sum(bool(_DEPMAP_COLUMN.match(name.strip('"'))) for name in columns)
    return len(columns) > 0 and named > len(columns) / 2


def from_depmap(file: Path) -> GeneVectors:
    """Read DepMap's gene effects, with one cell line per row, as vectors of genes over the lines.

    Each gene has its own mean taken off, so that the cosine of two genes is their correlation over the lines, and a missing
    value is that mean. Genes that are missing in most lines, or the same in all, are left out and logged.
    """
    with whole(file), open_bytes(file) as opened:
        table = pd.read_csv(opened, index_col=0, low_memory=False, float_precision="round_trip")
    matches = {column: _DEPMAP_COLUMN.match(str(column)) for column in table.columns}
    others = [column for column, match in matches.items() if match is None]
    table = table.drop(columns=others)
    text = [column for column in table.columns if not pd.api.types.is_numeric_dtype(table[column].dtype)]
    if text:
        raise ValueError(
            f"{len(text)} columns of {str(file)!r} hold something else than numbers: {shorten(map(repr, text))}. Download DepMap's "
            "CRISPRGeneEffect.csv again."
        )
    values = table.to_numpy(dtype=np.float64).T
    missing = np.isnan(values)
    mostly = missing.mean(axis=1) > _MOST_MISSING
    with np.errstate(invalid="ignore"):
        mean = np.where(missing, 0, values).sum(axis=1) / np.maximum((~missing).sum(axis=1), 1)
    centred = np.where(missing, 0, values - mean[:, None])
    constant = ~mostly & ~(np.abs(centred) > 1e-9).any(axis=1)
    keep = ~mostly & ~constant
    names = [str(match.group(1)) for match in map(matches.get, table.columns) if match is not None]
    logger.info(
        "DepMap: %d genes in %d lines of cells; %.1f %% of their values are missing. Left out: %d genes missing in most lines, %d the "
        "same in all, %d columns that name no gene.",
        int(keep.sum()), values.shape[1], 100 * float(missing[keep].mean()) if keep.any() else 0.0, int(mostly.sum()),
        int(constant.sum()), len(others),
    )  # fmt: skip
    attrs = {
        "name": "DepMap",
        "n_lines": values.shape[1],
        "n_mostly_missing": int(mostly.sum()),
        "n_constant": int(constant.sum()),
    }
    return GeneVectors([name for name, kept in zip(names, keep, strict=True) if kept], centred[keep], attrs)
