"""From cells to effects: one observation per perturbation, with its log-fold-change and the standard error of it."""

from __future__ import annotations

import copy
import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scapp._checked import checked
from scapp._controls import named_controls
from scapp._genes import scapp_uns, shorten
from scapp._keys import Key
from scapp._labels import (
    SEPARATOR,
    Perturbation,
    column_of_obs,
    controls_among,
    format_label,
    perturbed_genes,
    read_perturbations,
)
from scapp._warn import warn_user
from scapp.expression import TARGET_SUM, Expression, Scale, sum_groups
from scapp.pp._contexts import effects_by_context
from scapp.pp._harmonize import warn_of_names
from scapp.pp._responders import read_responders
from scapp.pp._screen_files import Screen, open_screen

logger = logging.getLogger(__name__)
FEATURE_TYPES, GENE_EXPRESSION = "feature_types", "Gene Expression"  # as Cell Ranger names them


@checked(own=("context_key", "batch_key"))
def pseudobulk(
    adata: Screen | Sequence[Screen],
    *,
    perturbation_key: str = "perturbation",
    control: str | Sequence[str] = "control",
    sep: str = SEPARATOR,
    layer: str | None = None,
    batch_key: str | None = None,
    context_key: str | None = None,
    total_counts_key: str | None = None,
    responders_key: str | None = None,
    min_cells: int = 2,
    on_few_cells: Literal["error", "drop"] = "error",
    chunk_size: int | None = None,
) -> AnnData:
    r"""Compute the effects of the perturbations of a screen from its cells.

    With :math:`x` the expression log1p(counts per 10,000) of a cell, the log-fold-change (natural logarithm) of
    perturbation :math:`P` is the mean of :math:`x` over its :math:`n_P` cells minus that over the :math:`n_c` control
    cells, as in the benchmark of :cite:p:`AhlmannEltze2025`, and its standard error is
    :math:`\sqrt{s^2_P / n_P + s^2_c / n_c}` with the sample variances :math:`s^2`.

    With `batch_key`, each cell is compared with the control cells of its own batch: let :math:`d_i = x_i - c_{b(i)}`,
    where :math:`c_b` is the mean of the :math:`n_{cb}` control cells of batch :math:`b`. The log-fold-change is the
    mean of :math:`d` over the cells of :math:`P`, that is
    :math:`\sum_b w_b (\bar x_{P,b} - c_b)` with :math:`w_b` the share of its cells that are in batch :math:`b`, and the
    standard error is :math:`\sqrt{s^2_{d,P} / n_P + \sum_b w_b^2 s^2_{cb} / n_{cb}}`. With a single batch, these are
    the formulas above.

    Raw counts are recognised as whole numbers, normalised to 10,000 counts per cell over the measured genes, and
    transformed by log1p; an INFO message says so. Log-normalised values are used directly, after converting base 2 or
    10 to natural logs. The base is inferred from the values of a cell, which are multiples of a unit before the log,
    from the sums of cells, or from ``uns["log1p"]``. Values that are not logged or not normalised, or for which this is
    unclear, are refused. Matrices in memory, backed by HDF5 or zarr, and Dask arrays, whether dense, CSR or CSC, give
    the same numbers. They are read in blocks, and only once unless `batch_key` is given or they are stored gene by
    gene; memory use stays close to the size of the result. Blocks of a Dask array (such as from
    :func:`anndata.experimental.read_lazy`) are read and summed in threads, or on the cluster of the active
    ``distributed.Client``. Each thread keeps about one running sum, and one total is returned. The number of sums is
    fixed at the start, so call ``client.wait_for_workers`` first if workers are still starting.

    Parameters
    ----------
    adata
        Cells by genes, in memory, backed or lazy; the path of a ``.h5ad`` file or a ``.zarr`` folder; or a list of such
        screens, whose cells are combined. These must have the same genes; if the order differs, they are aligned by
        name, with a message. Nothing is changed.
    perturbation_key
        Column of ``adata.obs`` with the label of each cell, such as ``"KLF1"``, ``"KLF1+CEBPA"`` or ``"ctrl+KLF1"``.
        Labels that name the same genes count as one perturbation.
    control
        Label of the control cells, including its numbered forms (``"NTC_1"`` for ``"NTC"``); other common control names
        are then an error. If this is a list, only the names in it are controls.
    sep
        Separator between the genes of a combination in these labels. Labels of the result are joined by ``"+"``.
    layer
        Layer with the expression; `X` if None.
    batch_key
        Column of ``adata.obs`` with batches. Each cell is then compared with the controls of its own batch.
    context_key
        Column of ``adata.obs`` with the cell line or condition of each cell. Effects are then computed separately in
        each context, against its own controls.
    total_counts_key
        Column of ``adata.obs`` with the total counts of each cell, if the matrix holds raw counts for only some of the
        genes. If a column with a common name has larger totals than the matrix, a warning names it.
    responders_key
        Column of ``adata.obs`` that says which cells respond to their perturbation, such as ``"mixscape_class_global"`` or
        ``"mixscape_class"`` of pertpy's Mixscape (``"KO"`` and ``"NP"``, alone or after the gene), or of True and
        False. Effects are then those of the responding cells; all control cells are kept, whatever their value. A model
        that is given cells uses all of them, so give it these effects instead.
    min_cells
        Minimum number of (responding) cells per perturbation. A standard error needs two.
    on_few_cells
        What to do with perturbations that have fewer cells: ``"error"``, or ``"drop"`` with a warning that names them.
    chunk_size
        Number of cells to read at a time; by default a block takes tens of megabytes, or hundreds for a sparse matrix
        in memory. Chunks of a Dask array are joined up to this number, but not split.

    Returns
    -------
    A new AnnData with one observation per perturbation (controls excluded), in the order of their labels, and the genes
    of `adata`:

    - ``X`` and ``layers["lfc"]``, ``layers["lfc_se"]``: mean profile over the cells, log-fold-change against control,
      and its standard error; float32, shape (n_perturbations, n_vars), NaN for genes that were not measured.
    - ``obs``: the label under `perturbation_key` and as names, ``n_cells``, ``n_perturbed_genes``, and those columns
      that are constant within each perturbation; with `responders_key` also ``share_responding``, the share of its cells
      that respond; ``n_cells`` is then their number.
    - ``var``: that of `adata`, ``control_mean`` and ``control_var`` (over all control cells); ``varm`` and ``varp``
      (gene features, networks) as in `adata`.
    - with `context_key`, one observation for each perturbation and context, ``"KLF1 (K562)"``, whose context is in
      ``obs[context_key]``; ``varm["control_mean"]`` and ``varm["control_var"]`` instead of those in `var`, with one
      column per context in the order of ``uns["scapp"]["pseudobulk"]["contexts"]``. :func:`scapp.pp.select_context`
      extracts one context.
    - ``uns["n_control_cells"]`` (one for each context), and in ``uns["scapp"]["pseudobulk"]`` the options and what was
      dropped.

    Raises
    ------
    ValueError
        If there are fewer than two control cells, or other labels are common control names; if labels are missing (also
        as text), cannot be read or use another separator; if a perturbation has too few cells or a batch has no
        controls; if `responders_key` does not classify every perturbed cell, or names the gene of other cells; if names
        of genes or cells occur twice; if the matrix holds NaN, negative values (log-fold-changes, scaled data), or
        values that were not normalised and logged or whose scale is unclear; if a file is missing, truncated or not an
        AnnData; or if files have different genes or cells of the same name.
    TypeError
        If `context_key` is given with files or several parts.

    Examples
    --------
    >>> effects = scapp.pp.pseudobulk(adata, control="control", batch_key="replicate")
    >>> effects["KLF1"].layers["lfc"]
    >>> effects = scapp.pp.pseudobulk(["run1.h5ad", "run2.zarr"])

    Use only the cells that respond according to pertpy's Mixscape:

    >>> adata.obs["responds"] = True  # or responders_key="mixscape_class_global"
    >>> scapp.pp.pseudobulk(adata, responders_key="responds").obs["share_responding"]
    """
    options: dict[str, Any] = {"control": control, "sep": sep, "layer": layer, "batch_key": batch_key}
    options |= {"perturbation_key": perturbation_key, "total_counts_key": total_counts_key, "min_cells": min_cells}
    options["responders_key"] = responders_key
    if context_key is not None:
        if not isinstance(adata, AnnData):
            raise TypeError(
                "context_key=… takes one AnnData of cells, found files or several parts. Open the file first, for example with "
                "`anndata.read_h5ad(path, backed='r')`, or calculate the effects of each context apart."
            )
        # Each context may have controls of its own; those that are in none are named.
        absent = set(named_controls(control)).difference(controls_among(adata, control, perturbation_key, sep))

        def one_context(part: AnnData) -> AnnData:
            here = control
            if not isinstance(control, str):
                there = {*controls_among(part, control, perturbation_key, sep), *absent}
                here = [name for name in control if name in there] or control
            return pseudobulk(part, **{**options, "control": here}, on_few_cells=on_few_cells, chunk_size=chunk_size)

        return effects_by_context(adata, context_key, perturbation_key, one_context)
    if min_cells < 2:
        raise ValueError(f"min_cells must be at least 2, found {min_cells}: a standard error needs two cells.")
    with open_screen(adata, layer=layer, chunk_size=chunk_size) as (adata, sources):
        perturbations = read_perturbations(
            adata, perturbation_key=perturbation_key, control=control, sep=sep, effects_allowed=False
        )
        used, shares = np.ones(len(perturbations), dtype=bool), None
        if responders_key is not None:
            used, shares = read_responders(adata, responders_key, perturbations)
        n_cells = dict.fromkeys(perturbations, 0) | Counter(itertools.compress(perturbations, used))
        what = "cells" if responders_key is None else "responding cells"
        kept, few = _split_by_cells(n_cells, what, min_cells=min_cells, drop=on_few_cells == "drop")
        group = {(): 0, **{genes: i for i, genes in enumerate(kept, start=1)}}
        groups = np.where(used, [group.get(genes, -1) for genes in perturbations], -1).astype(np.intp)
        batches = None if batch_key is None else _read_batches(adata, batch_key, groups)
        expression = Expression(adata, total_counts_key=total_counts_key, sources=sources, inspect=False)
        effects = calculate_effects(expression, groups, len(kept) + 1, batches)
        _say_what_is_done(expression, few, what, min_cells, total_counts_key)
        _warn_of_other_features(adata.var[expression.measured])
        warn_of_names(perturbed_genes(kept), adata.var_names[expression.measured], adata.var.columns)

        dropped = {
            Key.obs.PERTURBATION: list(map(format_label, few)),
            Key.obs.N_CELLS: np.array(list(few.values()), int),
        }
        record = {name: value for name, value in options.items() if value is not None}
        record |= {"input": expression.scale.value, "dropped": pd.DataFrame(dropped)}
        result = _assemble(adata, expression, effects, kept, groups, perturbation_key, record)
    if shares is not None:
        result.obs[Key.obs.SHARE_RESPONDING] = [shares[genes] for genes in kept]
    return result


def _split_by_cells(
    n_cells: dict[Perturbation, int], what: str, *, min_cells: int, drop: bool
) -> tuple[list[Perturbation], dict[Perturbation, int]]:
    """Return the perturbations with enough cells, and the cells of those with too few."""
    n_control = n_cells.get((), 0)
    n_cells = {genes: n for genes, n in n_cells.items() if genes != ()}
    if n_control < 2:
        raise ValueError(f"There is {n_control} control cell; at least 2 are needed for a mean and its standard error.")
    clash = [gene for genes in n_cells for gene in genes if SEPARATOR in gene]
    if clash:
        raise ValueError(
            f"These gene names hold {SEPARATOR!r}, which joins the genes in labels of the result: {shorten(clash)}. "
            "Rename them, or pass the separator of these labels with sep=…."
        )
    few = {genes: n for genes, n in sorted(n_cells.items()) if n < min_cells}
    if few and not drop:
        raise ValueError(
            f"{len(few)} perturbation(s) have fewer than min_cells={min_cells} {what}: {_name(few)}. Leave them out "
            "with on_few_cells='drop'" + (", or lower min_cells (at least 2)." if min_cells > 2 else ".")
        )
    kept = sorted((genes for genes in n_cells if genes not in few), key=format_label)
    if not kept:
        raise ValueError(f"No perturbation has at least min_cells={min_cells} {what}; there are {len(few)} with fewer.")
    return kept, few


def _name(few: dict[Perturbation, int]) -> str:
    return shorten([f"{format_label(genes)} ({n})" for genes, n in few.items()], 10)


def _read_batches(adata: AnnData, batch_key: str, groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the batch of each cell, from 0, with controls in each batch that needs them."""
    codes, names = pd.factorize(column_of_obs(adata, batch_key, "batch_key"), sort=True)
    n_controls = np.bincount(codes[groups == 0], minlength=len(names))
    n_perturbed = np.bincount(codes[groups > 0], minlength=len(names))
    without = [f"{names[i]!s} ({n_controls[i]})" for i in np.flatnonzero((n_perturbed > 0) & (n_controls < 2))]
    if without:
        raise ValueError(
            f"{len(without)} of the {len(names)} batches in adata.obs[{batch_key!r}] have perturbed cells but fewer "
            f"than 2 control cells to match them: {shorten(without, 10)}. Leave these batches out, join them with "
            "others, or compare with all controls by batch_key=None."
        )
    return codes


def _say_what_is_done(
    expression: Expression, few: dict[Perturbation, int], what: str, min_cells: int, total_counts_key: str | None
) -> None:
    if expression.scale is Scale.COUNTS:
        over = f"adata.obs[{total_counts_key!r}]" if total_counts_key else f"{len(expression.genes)} measured genes"
        logger.info(
            "%s holds raw counts: each cell is normalised to %s counts (total: %s) and log1p is taken.",
            *(expression.name, f"{TARGET_SUM:,}", over),
        )
    else:
        logger.info("%s", expression.say_scale())
    expression.warn_of_scale()
    if few:
        warn_user(
            f"{len(few)} perturbation(s) with fewer than min_cells={min_cells} {what} are left out: {_name(few)}. "
            "All are listed in uns['scapp']['pseudobulk']['dropped']."
        )


def _warn_of_other_features(var: pd.DataFrame) -> None:
    """Warn of guides and antibodies, which Cell Ranger writes into the matrix of the genes and which would count as expression."""
    if FEATURE_TYPES not in var:
        return
    types = var[FEATURE_TYPES].dropna().astype(str)
    other = types[types != GENE_EXPRESSION]
    if len(other) and len(other) < len(types):
        warn_user(
            f"{len(other)} of {len(var)} features are not genes by var[{FEATURE_TYPES!r}] ({shorten(other.unique())}). They "
            "are taken for genes, in the total of a cell too. Leave them out with "
            f"`adata = adata[:, adata.var[{FEATURE_TYPES!r}] == {GENE_EXPRESSION!r}].copy()`."
        )


def _assemble(
    adata: AnnData,
    expression: Expression,
    effects: Effects,
    kept: list[Perturbation],
    groups: NDArray[np.intp],
    perturbation_key: str,
    record: dict[str, Any],
) -> AnnData:
    def over_all_genes(values: NDArray[np.float64], dtype: type = np.float32) -> NDArray[Any]:
        if expression.measured.all():
            return values.astype(dtype, copy=False)
        full = np.full((*values.shape[:-1], adata.n_vars), np.nan, dtype=dtype)
        full[..., expression.measured] = values
        return full

    labels = [format_label(genes) for genes in kept]
    # The columns that have one value within each perturbation.
    perturbed = adata.obs.drop(columns=perturbation_key)[groups > 0]
    by_group = perturbed.groupby(groups[groups > 0])
    constant = [key for key in perturbed if (by_group[key].nunique(dropna=False) == 1).all()]
    first = pd.Series(np.arange(len(perturbed))).groupby(groups[groups > 0]).first()
    obs = perturbed[constant].iloc[first.to_numpy()].copy()
    obs.index = pd.Index(labels)
    obs.insert(0, perturbation_key, np.array(labels, dtype=object))
    obs[Key.obs.N_CELLS] = effects.n_cells[1:]
    obs[Key.obs.N_PERTURBED_GENES] = [len(genes) for genes in kept]
    var = adata.var.copy()
    var[Key.var.CONTROL_MEAN] = over_all_genes(effects.control_mean, np.float64)
    var[Key.var.CONTROL_VAR] = over_all_genes(effects.control_var, np.float64)
    uns = copy.deepcopy(dict(scapp_uns(adata)))
    return AnnData(
        X=over_all_genes(effects.mean),
        obs=obs,
        var=var,
        layers={Key.layers.LFC: over_all_genes(effects.lfc), Key.layers.LFC_SE: over_all_genes(effects.lfc_se)},
        varm={key: adata.varm[key].copy() for key in adata.varm},
        varp={key: adata.varp[key].copy() for key in adata.varp},
        uns={Key.uns.SCAPP: {**uns, Key.uns.PSEUDOBULK: record}, Key.uns.N_CONTROL_CELLS: int(effects.n_cells[0])},
    )


@dataclass
class Effects:
    """Effects of shape (n_perturbations, n_measured), control statistics of shape (n_measured,).

    `n_cells` counts the controls first, then the cells of each perturbation.
    """

    n_cells: NDArray[np.intp]
    mean: NDArray[np.float64]
    lfc: NDArray[np.float64]
    lfc_se: NDArray[np.float64]
    control_mean: NDArray[np.float64]
    control_var: NDArray[np.float64]


def calculate_effects(
    expression: Expression, groups: NDArray[np.intp], n_groups: int, batches: NDArray[np.intp] | None
) -> Effects:
    """Calculate mean, log-fold-change and standard error of each perturbation; :func:`scapp.pp.pseudobulk` has the formulas.

    `groups`, of shape (n_obs,), are 0 for a control, from 1 to `n_groups` - 1 the perturbation, -1 for a cell that is left out. In
    `batches`, numbered from 0, controls are matched; each batch with perturbed cells has two controls or more. None compares all
    cells with all controls.
    """
    if batches is None:
        sums = sum_groups(expression, groups, n_groups)
        means, errors = sums.means(), sums.errors()
        lfc = means[1:] - means[0]
        squared_se = errors[1:] + errors[0]
    else:
        n_batches = int(batches.max()) + 1
        controls = sum_groups(expression, np.where(groups == 0, batches, -1), n_batches)
        # Batches without controls hold no perturbed cell; zero keeps their NaN out of the products.
        reference, reference_errors = np.nan_to_num(controls.means()), np.nan_to_num(controls.errors())
        sums = sum_groups(expression, groups, n_groups, reference=reference, batches=batches)
        means, errors = sums.means(), sums.errors()

        cells = np.zeros((n_groups, n_batches))
        np.add.at(cells, (groups[groups >= 0], batches[groups >= 0]), 1.0)
        n = sums.n_cells[1:, None]
        share = cells[1:] / n
        lfc = means[1:] - share @ reference
        # The sum over the cells of (x - c)^2 = x^2 - 2 x c + c^2, less its mean: no cell has to be read again.
        assert sums.products is not None
        squared_se = sums.squares[1:] - 2 * sums.products[1:]
        squared_se += cells[1:] @ reference**2
        squared_se -= n * lfc**2
        np.maximum(squared_se, 0.0, out=squared_se)
        squared_se /= n * (n - 1)
        squared_se += share**2 @ reference_errors
    return Effects(
        n_cells=sums.n_cells,
        mean=means[1:],
        lfc=lfc,
        lfc_se=np.sqrt(squared_se, out=squared_se),
        control_mean=means[0],
        control_var=errors[0] * sums.n_cells[0],
    )
