"""The formats of files of predictions: what each holds, whatever its suffix."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scapp._genes import shorten
from scapp._keys import Key
from scapp.pp._tables import find_column, read_table, to_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray


SUFFIXES = (".h5ad", ".npz", ".csv", ".csv.gz", ".parquet")
SEED = "seed"
EXPECTED = (
    "Expected one row a perturbation and one column a gene: h5ad (layers['predicted_lfc'] or X, obs['perturbation'], "
    "optionally layers['predicted_lfc_std'] and obs['seed']), npz (labels, genes, lfc, optionally std and seed), or csv "
    "or parquet (first column the perturbation, optionally a column 'seed', the other columns genes). "
    "scapp.benchmark.write_predictions writes all of them."
)


@dataclass(frozen=True, eq=False)
class Content:
    """What a file holds: `lfc` and `std` of shape (n_rows, n_columns), the seed of each row."""

    labels: list[str]
    genes: list[str]
    lfc: Any
    std: Any = None
    seed: Any = None


def suffix_of(file: Path) -> str:
    name = file.name.lower()
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if suffix is None:
        raise ValueError(
            f"{str(file)!r} is no predictions file: its name should end in {', '.join(SUFFIXES)}. {EXPECTED}"
        )
    return suffix


def read(file: Path) -> Content:
    reader = {".h5ad": _from_h5ad, ".npz": _from_npz}.get(suffix_of(file), _from_table)
    try:
        return reader(file)
    except (OSError, EOFError, KeyError, UnicodeDecodeError, zipfile.BadZipFile, pd.errors.ParserError) as error:
        raise ValueError(f"{str(file)!r} cannot be read ({error}). Is it complete? {EXPECTED}") from error


def _from_h5ad(file: Path) -> Content:
    import anndata as ad
    from scipy import sparse

    def dense(values: Any) -> Any:
        return values.toarray() if sparse.issparse(values) else np.asarray(values)

    adata = ad.read_h5ad(file)
    values = adata.layers.get(Key.layers.PREDICTED_LFC, adata.X)
    if values is None or Key.obs.PERTURBATION not in adata.obs:
        raise ValueError(
            f"{str(file)!r} has the layers {shorten(adata.layers) or 'none'} and the columns of obs "
            f"{shorten(adata.obs.columns, 8) or 'none'}. {EXPECTED}"
        )
    std = adata.layers.get(Key.layers.PREDICTED_LFC_STD)
    return Content(
        labels=adata.obs[Key.obs.PERTURBATION].astype(str).tolist(),
        genes=adata.var_names.astype(str).tolist(),
        lfc=dense(values),
        std=None if std is None else dense(std),
        seed=adata.obs[SEED].to_numpy() if SEED in adata.obs else None,
    )


def _from_npz(file: Path) -> Content:
    try:
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
    except (ValueError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{str(file)!r} holds objects, not plain arrays, or is no npz file ({error}). Save names as text: "
            "`np.array(labels, dtype=str)`."
        ) from error
    missing = [name for name in ("labels", "genes", "lfc") if name not in arrays]
    if missing:
        raise ValueError(
            f"{str(file)!r} has no array {shorten(missing)}; it has {shorten(arrays) or 'none'}. {EXPECTED}"
        )
    names = {name: np.atleast_1d(arrays[name]).astype(str).tolist() for name in ("labels", "genes")}
    return Content(names["labels"], names["genes"], arrays["lfc"], arrays.get("std"), arrays.get(SEED))


def _from_table(file: Path) -> Content:
    if file.name.lower().endswith(".parquet"):
        import pyarrow

        try:
            table = pd.read_parquet(file)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{str(file)!r} cannot be read as parquet ({error}). Is it complete?") from error
        if not pd.api.types.is_integer_dtype(table.index.dtype):
            table = table.reset_index()
    else:
        table = read_table(file)
    if not table.shape[1]:
        raise ValueError(f"{str(file)!r} has no columns. {EXPECTED}")
    labels = table.iloc[:, 0].astype(str).tolist()
    table = table.iloc[:, 1:]
    column = find_column(table, [SEED])
    seed = None
    if column is not None:
        seed = table[column].to_numpy()
        table = table.drop(columns=column)
    genes = [str(name) for name in table.columns]
    numbers = table.apply(to_numbers) if table.shape[1] else table
    return Content(labels, genes, numbers.to_numpy(dtype=np.float64), seed=seed)


def write_h5ad(
    file: Path, labels: list[str], genes: list[str], lfc: Any, std: Any, seeds: NDArray[np.int64] | None
) -> None:
    import anndata as ad

    # Rows of several splits may have the same label; names of observations may not.
    names = labels if seeds is None else [f"{label}/{seed}" for label, seed in zip(labels, seeds, strict=True)]
    obs = pd.DataFrame({Key.obs.PERTURBATION: np.array(labels, dtype=object)}, index=pd.Index(names, dtype=object))
    if seeds is not None:
        obs[SEED] = seeds
    layers = {Key.layers.PREDICTED_LFC: lfc} | ({} if std is None else {Key.layers.PREDICTED_LFC_STD: std})
    ad.AnnData(obs=obs, var=pd.DataFrame(index=pd.Index(genes, dtype=object)), layers=layers).write_h5ad(file)
