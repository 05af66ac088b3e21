"""The genes to work with: the highly variable ones, every measured gene that was perturbed, and room for genes that were not measured."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from scapp._checked import checked
from scapp._genes import check_gene_names, measured_mask, scapp_uns, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, column_of_obs, is_effects, perturbed_genes, read_perturbations
from scapp.expression import Expression, Scale, get_matrix

logger = logging.getLogger(__name__)

# Of genes that vary, for the curve of the flavors that take counts.
FEWEST_MEANS = 10
REASONS = ["unmeasured", "highly variable", "perturbed"]
Flavor = Literal["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper"]


@checked
def select_genes(
    adata: AnnData,
    n_top_genes: int = 2000,
    *,
    perturbation_key: str = "perturbation",
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    layer: str | None = None,
    flavor: Flavor = "seurat",
    batch_key: str | None = None,
) -> AnnData:
    """Keep the highly variable genes, and every measured gene that was perturbed.

    For cells, genes are ranked by :func:`scanpy.pp.highly_variable_genes`; raw counts are recognised and log-normalised
    for the ranking, on a copy (the flavors ``"seurat_v3"`` and ``"seurat_v3_paper"`` use the counts directly). For
    effects, with one observation per perturbation, they are ranked by their mean squared log-fold-change.

    Parameters
    ----------
    adata
        Cells by genes, or effects. It is not changed. If it is backed, the result is in memory.
    n_top_genes
        Number of highly variable genes to keep, or all if there are fewer. Perturbed genes are kept in addition.
    perturbation_key
        Column of ``adata.obs`` with the labels.
    control
        Label of the control cells; None for effects. If every observation is a different perturbation and none is a
        control, `adata` is read as effects in any case.
    sep
        Separator between the genes of a combination.
    layer
        Layer with the expression; if None, `X`, or for effects ``layers["lfc"]`` if there is one.
    flavor
        scanpy's method for ranking the genes of cells.
    batch_key
        Column of ``adata.obs`` with batches, within which the genes of cells are then ranked, as in scanpy.

    Returns
    -------
    A new AnnData with the selected genes in their order, with ``var["highly_variable"]`` (bool), ``var["selected_as"]``
    (the reason: ``"highly variable"``, ``"perturbed"``, or ``"unmeasured"`` for genes with ``var["measured"]`` false,
    all of which are kept) and the counts of these in ``uns["scapp"]["select_genes"]``. An INFO message says how many
    were kept for each reason.

    Raises
    ------
    ValueError
        If `n_top_genes` is below 1, labels cannot be read, gene names occur twice, or the matrix holds values that
        cannot be ranked: NaN, negative values of cells, or values that were normalised but not logged.
    """
    if n_top_genes < 1:
        raise ValueError(f"n_top_genes must be at least 1, found {n_top_genes}.")
    perturbations = read_perturbations(adata, perturbation_key=perturbation_key, control=control, sep=sep)
    check_gene_names(adata)
    if batch_key is not None:
        column_of_obs(adata, batch_key, "batch_key")

    measured = measured_mask(adata)
    variable = np.zeros(adata.n_vars, dtype=bool)
    if control is None or is_effects(perturbations):
        variable[measured] = _most_changed(adata, layer, n_top_genes)
    else:
        variable[measured] = _highly_variable(adata, layer, n_top_genes, flavor, batch_key)
    perturbed = np.asarray(adata.var_names.isin(perturbed_genes(perturbations)))

    reason = np.select([~measured, variable, perturbed], REASONS, default="")
    kept = adata[:, reason != ""]
    selected = kept.to_memory() if adata.isbacked else kept.copy()
    reason = reason[reason != ""]
    selected.var[Key.var.HIGHLY_VARIABLE] = reason == "highly variable"
    selected.var[Key.var.SELECTED_AS] = pd.Categorical(reason, categories=REASONS)
    counts = {why: int((reason == why).sum()) for why in REASONS}
    record = {"n_top_genes": n_top_genes} | {f"n_{why.replace(' ', '_')}": n for why, n in counts.items()}
    selected.uns[Key.uns.SCAPP] = {**copy.deepcopy(dict(scapp_uns(adata))), Key.uns.SELECT_GENES: record}
    logger.info(
        "%d of %d genes: %d highly variable, %d more kept because they were perturbed%s.",
        *(selected.n_vars, adata.n_vars, counts["highly variable"], counts["perturbed"]),
        f", {counts['unmeasured']} that were not measured" if counts["unmeasured"] else "",
    )
    return selected


def _highly_variable(
    adata: AnnData, layer: str | None, n_top_genes: int, flavor: Flavor, batch_key: str | None
) -> NDArray[np.bool_]:
    """Return a mask of the measured genes that scanpy finds highly variable in these cells."""
    expression = Expression(adata, layer=layer)
    wants_counts = flavor.startswith("seurat_v3")
    if wants_counts and expression.scale is not Scale.COUNTS:
        raise ValueError(
            f"flavor={flavor!r} ranks raw counts, but {expression.name} holds log-normalised values. Name the layer of "
            "the counts with layer=…, or take flavor='seurat'."
        )
    if n_top_genes >= len(expression.genes):
        return np.ones(len(expression.genes), dtype=bool)
    import scanpy as sc

    cells = AnnData(
        _in_memory(expression, normalise=not wants_counts),
        obs=pd.DataFrame(index=adata.obs_names) if batch_key is None else adata.obs[[batch_key]].copy(),
        var=pd.DataFrame(index=expression.genes),
    )
    if wants_counts:
        _check_variation(cells, flavor, batch_key)
    try:
        ranked = sc.pp.highly_variable_genes(
            cells, n_top_genes=n_top_genes, flavor=flavor, batch_key=batch_key, inplace=False
        )
    except ValueError as error:
        if not wants_counts:
            raise
        raise ValueError(
            f"flavor={flavor!r} could not fit its curve of variance by mean to {cells.n_vars} genes of {cells.n_obs} cells: {error}.\n"
            "Expected genes of many different means.\nTake flavor='seurat'."
        ) from error
    return ranked.loc[expression.genes, "highly_variable"].to_numpy(dtype=bool)


def _check_variation(cells: AnnData, flavor: Flavor, batch_key: str | None) -> None:
    """Raise where the curve through the genes has nothing to go through, which ends the interpreter in its library."""
    batches = np.zeros(cells.n_obs) if batch_key is None else cells.obs[batch_key].to_numpy()
    for batch in pd.unique(batches):
        values = cells.X[batches == batch]
        mean, variance = mean_variance_axis(sparse.csr_matrix(values).astype(np.float64), axis=0)
        n_different = len(np.unique(mean[variance > 0]))
        if n_different < FEWEST_MEANS:
            where = f" in batch {batch!r}" if batch_key is not None else ""
            raise ValueError(
                f"flavor={flavor!r} fits a curve of variance by mean, and the genes that vary have {n_different} different means"
                f"{where}.\nExpected {FEWEST_MEANS} or more.\nTake flavor='seurat', or all cells and genes of the screen."
            )


def _in_memory(expression: Expression, *, normalise: bool) -> np.ndarray | sparse.csr_matrix:
    """Return all blocks side by side, float32, sparse if they are."""
    blocks = list(expression.blocks(normalise=normalise))
    small = [block.values.astype(np.float32) for block in blocks]
    by_genes = blocks[0].rows == blocks[-1].rows
    if sparse.issparse(small[0]):
        return (sparse.hstack if by_genes else sparse.vstack)(small, format="csr")
    return np.concatenate(small, axis=1 if by_genes else 0)


def _most_changed(adata: AnnData, layer: str | None, n_top_genes: int) -> NDArray[np.bool_]:
    """Return a mask of the measured genes with the largest mean squared log-fold-change."""
    if layer is None and Key.layers.LFC in adata.layers:
        layer = Key.layers.LFC
    matrix, name = get_matrix(adata, layer)
    values = matrix[:, :]
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    values = values[:, measured_mask(adata)].astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(
            f"{name} holds {(~finite).sum()} NaN or infinite values among the measured genes, which cannot be ranked. "
            "Replace them, leave these genes out, or name another layer with layer=…."
        )
    # A stable sort, so that ties are kept in the order of the genes.
    order = np.argsort(-np.square(values).mean(axis=0), kind="stable")
    chosen = np.zeros(values.shape[1], dtype=bool)
    chosen[order[:n_top_genes]] = True
    return chosen


@checked(own=("genes",))
def add_unmeasured_genes(
    adata: AnnData,
    genes: Iterable[str] | None = None,
    *,
    perturbation_key: str = "perturbation",
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
) -> AnnData:
    """Add perturbed genes that were not measured, and other genes by name, as genes without data.

    Such a gene can be a node of the network and the target of a perturbation, but no log-fold-change is reported for
    it. ``var["measured"]`` marks these genes, and every function of scapp respects it.

    Parameters
    ----------
    adata
        Cells, or effects (one observation per perturbation). It is not changed. If it is backed, the result is in
        memory.
    genes
        Additional genes, for example those to be predicted later. Genes that already exist are not changed.
    perturbation_key
        Column of ``adata.obs`` with the labels, from which the perturbed genes are read.
    control
        Label of the control cells; not needed for effects.
    sep
        Separator between the genes of a combination.

    Returns
    -------
    A new AnnData with the genes of `adata` in their order, followed by the added genes in alphabetical order, with
    ``var["measured"]`` false. The columns of added genes are NaN in dense `X` and layers (integers become floating
    point), and empty in sparse ones. Their rows are NaN in `varm` and empty in `varp`, because they have no edges until
    a network is added. In other columns of `var` they are False, NaN or an empty string. Calling it again changes
    nothing.

    Raises
    ------
    ValueError
        If gene names are empty or occur twice, or labels are missing or cannot be read.
    TypeError
        If `genes` is a single string, or contains anything other than strings.

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
            *(len(missing), len(set(missing).intersection(perturbed)), len(perturbed), shorten(missing)),
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
    # In a boolean column, "no" stands for unknown.
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
