"""One form for the cells of public files: genes by symbol, labels as scapp reads them, and the same columns of obs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import parse_labels
from scapp.datasets._labels import CONTROL, read_labels

logger = logging.getLogger(__name__)

# In the order in which they are looked for: 10x lanes in scPerturb's files, replicates elsewhere.
BATCHES = ("batch", "gemgroup", "gem_group", "replicate", "bio_rep", "lane")
SYMBOLS = ("gene_name", "gene_symbol", "gene_symbols", "feature_name")
SOURCE = "_source"


def load_h5ad(path: Path | str, *, backed: Literal["r"] | None = None) -> AnnData:
    """Read an h5ad file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return ad.read_h5ad(path, backed=backed)


def labelled_cells(path: Path | str, *, perturbation_key: str | None = None, control: str | None = None) -> AnnData:
    """Return the cells of a file, as :func:`tidy` makes them.

    Parameters
    ----------
    path
        h5ad file.
    perturbation_key, control
        As in :func:`scapp.datasets._labels.read_labels`.
    """
    return tidy(load_h5ad(path), perturbation_key=perturbation_key, control=control)


def tidy(adata: AnnData, *, perturbation_key: str | None = None, control: str | None = None) -> AnnData:
    """Return the cells of a public file whose perturbation is known, in scapp's form.

    Parameters
    ----------
    adata
        Cells, in memory or backed; the object is changed.
    perturbation_key, control
        As in :func:`scapp.datasets._labels.read_labels`.

    Returns
    -------
    The cells, with ``obs["perturbation"]`` (``"control"``, ``"KLF1"``, ``"CEBPA+KLF1"``), ``obs["control"]`` (boolean),
    ``obs["n_perturbed_genes"]`` and, where a column of its usual names is there, ``obs["batch"]`` (text). Columns of
    these names that hold something else are kept as ``"…_source"``. A view, where cells of a backed file are left out.
    """
    genes = use_gene_symbols(adata)
    labels = read_labels(adata, perturbation_key=perturbation_key, control=control)
    known = labels.notna().to_numpy()
    if not known.all():
        logger.info("Left out %d of %d cells, whose perturbation is not known.", (~known).sum(), len(known))
    n_genes = {label: len(parse_labels([label])[0]) for label in labels[known].unique()}
    columns: dict[str, pd.Series | NDArray] = {
        Key.obs.PERTURBATION: labels,
        Key.obs.CONTROL: (labels == CONTROL).to_numpy(),
        Key.obs.N_PERTURBED_GENES: labels.map(n_genes).fillna(0).to_numpy(dtype=np.int64),
    }
    batch = next((name for name in BATCHES if name in adata.obs), None)
    if batch is not None:
        columns[Key.obs.BATCH] = adata.obs[batch].astype(str).to_numpy()
    adata.obs = with_columns(adata.obs, columns)
    if known.all() and genes.all():
        return adata
    chosen = adata[known, slice(None) if genes.all() else genes]
    return chosen if adata.isbacked else chosen.copy()


def with_columns(obs: pd.DataFrame, columns: dict[str, pd.Series | NDArray]) -> pd.DataFrame:
    """Return these columns first, then those of `obs`; one of the same name that differs is kept with ``"_source"`` behind it."""
    new = pd.DataFrame(columns, index=obs.index)
    old = obs.copy()
    for name in new.columns.intersection(old.columns):
        if (old[name].astype(str).to_numpy() == new[name].astype(str).to_numpy()).all():
            old = old.drop(columns=name)
        else:
            old = old.rename(columns={name: f"{name}{SOURCE}"})
    return pd.concat([new, old], axis=1)


def use_gene_symbols(adata: AnnData) -> NDArray[np.bool_]:
    """Name genes by symbol where a column of var has these and the names are Ensembl ids, as in the files of GEARS.

    Returns
    -------
    Which genes to keep: of those with the same symbol the first.
    """
    for name in SYMBOLS:
        if name in adata.var and adata.var_names.str.match(r"ENS[A-Z]*G\d").mean() > 0.5:
            adata.var_names = pd.Index(adata.var[name].astype(str).tolist())
            break
    repeated = adata.var_names.duplicated()
    if repeated.any():
        names = adata.var_names[repeated].unique()
        logger.info(
            "Left out %d gene(s) whose symbol another gene has before them: %s.", repeated.sum(), shorten(names)
        )
    return ~repeated
