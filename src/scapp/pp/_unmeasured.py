"""Room for genes that were perturbed, or are to be predicted, but were not measured."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scapp._checked import checked
from scapp._genes import check_gene_names, measured_mask, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, perturbed_genes, read_perturbations

logger = logging.getLogger(__name__)


@checked(own=("genes",))
def add_unmeasured_genes(
    adata: AnnData,
    genes: Iterable[str] | None = None,
    *,
    perturbation_key: str = "perturbation",
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
) -> AnnData:
    """Add the perturbed genes that were not measured, and others by name, as genes without data.

    Such a gene can be a node of the network and the target of a perturbation; no log-fold-change is reported for it.
    ``var["measured"]`` says which genes these are, and every function of scapp understands it.

    Parameters
    ----------
    adata
        Cells, or effects (one observation per perturbation). It is not changed. Where it is backed, the result is in
        memory.
    genes
        More genes to add, for example those that are to be predicted later. Genes that are there already are left.
    perturbation_key
        Column of ``adata.obs`` with the labels, from which the perturbed genes are read.
    control
        Label of the control cells; effects have none, and need none.
    sep
        What joins the genes of a combination.

    Returns
    -------
    A new AnnData: the genes of `adata` in their order, then those that were missing in alphabetical order, with
    ``var["measured"]`` false. In `X` and the layers their columns are NaN where these are dense (whole numbers become
    floating point for that), and empty where they are sparse; their rows are NaN in `varm`, and empty in `varp`: they
    have no edges before a network is added. In other columns of `var` they are False, NaN, or, among texts, empty.
    Calling it again changes nothing.

    Raises
    ------
    ValueError
        If gene names are empty or occur twice, or labels are missing or cannot be read.
    TypeError
        If `genes` is a single string, or holds anything but strings.

    Examples
    --------
    >>> effects = scapp.pp.add_unmeasured_genes(effects, genes=["GATA1"])
    >>> effects.var_names[~effects.var["measured"]]
    """
    named = _check_names(genes)
    perturbations = read_perturbations(adata, perturbation_key=perturbation_key, control=control, sep=sep)
    check_gene_names(adata)
    measured = measured_mask(adata)
    perturbed = perturbed_genes(perturbations)
    missing = sorted({*perturbed, *named}.difference(adata.var_names))

    if adata.isbacked:
        adata = adata.to_memory()
    result = _extend(adata, missing)
    result.var[Key.var.MEASURED] = np.concatenate([measured, np.zeros(len(missing), dtype=bool)])
    if missing:
        logger.info(
            "%d genes added that were not measured (%d of the %d perturbed genes): %s.",
            len(missing),
            len(set(missing).intersection(perturbed)),
            len(perturbed),
            shorten(missing),
        )
    return result


def _check_names(genes: Iterable[str] | None) -> list[str]:
    if isinstance(genes, str):
        raise TypeError(f"genes must be a list of gene names, found the string {genes!r}. Pass genes=[{genes!r}].")
    names = [] if genes is None else list(genes)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"genes must hold gene names, found {name!r}, a {type(name).__name__}.")
        if not name.strip() or name != name.strip():
            raise ValueError(f"genes holds {name!r}, which is empty or has blanks around it. Correct this name.")
    return names


def _extend(adata: AnnData, missing: list[str]) -> AnnData:
    """Return a copy with more genes, in all slots that have a gene axis."""
    n_new = len(missing)
    names = pd.Index([*adata.var_names, *missing], name=adata.var_names.name)
    result = AnnData(
        X=None if adata.X is None else _extend_array(adata.X, (0, n_new)),
        obs=adata.obs.copy(),
        var=_extend_frame(adata.var, names),
        uns=copy.deepcopy(dict(adata.uns)),
        obsm={key: adata.obsm[key].copy() for key in adata.obsm},
        obsp={key: adata.obsp[key].copy() for key in adata.obsp},
        layers={key: _extend_array(adata.layers[key], (0, n_new)) for key in adata.layers if isinstance(key, str)},
        varm={
            key: _extend_frame(values, names) if isinstance(values, pd.DataFrame) else _extend_array(values, (n_new, 0))
            for key, values in adata.varm.items()
        },
        varp={key: _extend_array(values, (n_new, n_new), fill=0) for key, values in adata.varp.items()},
    )
    if adata.raw is not None:
        result.raw = adata.raw.to_adata()
    return result


def _extend_array(values: Any, new: tuple[int, int], fill: float = np.nan) -> Any:
    """Add rows and columns to an array: empty ones if it is sparse, else of `fill`, in a type that can hold it."""
    rows, columns = values.shape[0] + new[0], values.shape[1] + new[1]
    if sparse.issparse(values):
        extended = values.copy()
        extended.resize(rows, columns)
        return extended
    dtype = values.dtype
    if np.isnan(fill) and dtype.kind in "iu":
        dtype = np.result_type(dtype, np.float32)
    if dtype.kind not in "bfiuc":
        raise TypeError(f"Cannot add genes to an array of dtype {dtype} in adata. Take it out of adata first.")
    # Of booleans, "no" stands for what is not known.
    full = np.full((rows, columns, *values.shape[2:]), False if dtype.kind == "b" else fill, dtype=dtype)
    full[: values.shape[0], : values.shape[1]] = values
    return full


def _extend_frame(frame: pd.DataFrame, names: pd.Index) -> pd.DataFrame:
    """Add genes to a table so that it can still be written: False, NaN, or an empty text."""
    extended = frame.reindex(names)
    new = names[len(frame) :]
    for key, column in frame.items():
        if column.dtype == bool:
            extended[key] = np.concatenate([column.to_numpy(), np.zeros(len(new), dtype=bool)])
        elif pd.api.types.is_string_dtype(column) and not isinstance(column.dtype, pd.CategoricalDtype):
            extended.loc[new, key] = ""
    return extended
