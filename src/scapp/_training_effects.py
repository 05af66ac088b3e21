"""Read the effects for fitting a model, a baseline or a benchmark; all accept or refuse the same tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from scapp._effects import fill_own_targets
from scapp._genes import check_gene_names, check_layer, measured_mask, over_all_genes, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, format_label, read_perturbations
from scapp._warn import warn_user

# Natural log-fold-changes are on the order of one.
LARGEST_LFC = 50.0
# Columns of obs that indicate how well each effect was measured, if there are no standard errors.
DEPTH = ("n_cells", "total_umi", "total_counts", "ncounts", "n_counts", "nCount_RNA", "n_umi")


@dataclass(frozen=True)
class TrainingEffects:
    """Checked effects of n perturbations on the measured genes.

    `lfc` and `lfc_se` (standard errors, or None) have the shape (n, n_measured), and `genes` names the columns.
    `control_mean` is the mean expression of the control cells, shape (n_measured,), or None. `depth` holds the number
    of cells or counts of each perturbation, by the name of its column of `obs`. `source` is the given AnnData.
    """

    perturbations: list[Perturbation]
    genes: list[str]
    lfc: NDArray[np.float64]
    lfc_se: NDArray[np.float64] | None
    control_mean: NDArray[np.float64] | None
    depth: dict[str, NDArray[np.float64]]
    source: AnnData

    @property
    def labels(self) -> list[str]:
        """The label of each perturbation, with genes in alphabetical order."""
        return [format_label(genes) for genes in self.perturbations]

    @property
    def singles(self) -> dict[str, NDArray[np.float64]]:
        """The log-fold-changes of each gene that was perturbed alone."""
        return {p[0]: row for p, row in zip(self.perturbations, self.lfc, strict=True) if len(p) == 1}

    def to_anndata(self) -> AnnData:
        """Return only layers and depth of the effects, named by label, with NaN for genes that were not measured."""
        measured = measured_mask(self.source)
        given = {Key.layers.LFC: self.lfc, Key.layers.LFC_SE: self.lfc_se}
        layers = {name: over_all_genes(values, measured) for name, values in given.items() if values is not None}
        n_genes = [len(genes) for genes in self.perturbations]
        names = pd.Index(self.labels, dtype=object)
        obs = pd.DataFrame({Key.obs.N_PERTURBED_GENES: n_genes, **self.depth}, index=names)
        return AnnData(obs=obs, var=self.source.var.copy(), layers=layers)


def read_effects(
    effects: AnnData, *, layer: str | None, perturbation_key: str = Key.obs.PERTURBATION, sep: str = SEPARATOR
) -> TrainingEffects:
    """Read effects for fitting: one observation per perturbation, no controls, log-fold-changes in `layer` or `X`.

    Nothing is changed. Values that are NaN because the gene itself was perturbed are filled; see
    :func:`scapp._effects.fill_own_targets`.

    Raises
    ------
    ValueError
        If a label cannot be read, an observation is a control, two observations are the same perturbation, no gene was
        measured, or the values are not log-fold-changes (not finite, counts, or larger than 50); also for impossible
        standard errors, control means and numbers of cells.
    """
    perturbations = read_perturbations(effects, perturbation_key=perturbation_key, control=None, sep=sep)
    check_gene_names(effects)
    if not perturbations:
        raise ValueError("There are no effects to fit: the AnnData has no observations.")
    n_controls = perturbations.count(())
    if n_controls:
        raise ValueError(
            f"{n_controls} observation(s) are labelled as controls by adata.obs[{perturbation_key!r}]; effects have none. "
            "If these are cells, pass `scapp.pp.pseudobulk(adata)`, or control='…' with their label; "
            "if not, leave these observations out."
        )
    labels = pd.Index([format_label(p) for p in perturbations])
    twice = labels[labels.duplicated()].unique()
    if len(twice):
        raise ValueError(
            f"{len(twice)} perturbation(s) have more than one observation ({shorten(twice)}); effects have one each. "
            "If these are cells, pass `scapp.pp.pseudobulk(adata)`, or control='…' with the label of the control cells."
        )
    mend = "Calculate effects with `scapp.pp.pseudobulk(adata)`, or name the layer of log-fold-changes with layer=…."
    check_layer(effects, layer, mend)
    if layer is None and effects.X is None:
        raise ValueError("adata.X is empty. Name the layer of log-fold-changes with layer=….")
    measured = measured_mask(effects)
    if not measured.any():
        raise ValueError("No gene was measured: adata.var['measured'] is False throughout.")
    genes = effects.var_names[measured]
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    lfc = _dense(effects.X if layer is None else effects.layers[layer], perturbations, effects.var_names)[:, measured]
    _check_lfc(lfc, genes, where)
    errors = None
    if Key.layers.LFC_SE in effects.layers:
        errors = _dense(effects.layers[Key.layers.LFC_SE], perturbations, effects.var_names)[:, measured]
        bad = ~np.isfinite(errors) | (errors < 0)
        if bad.any():
            raise ValueError(
                f"{int(bad.sum())} standard errors of adata.layers['lfc_se'] are negative, NaN or infinite, in the genes "
                f"{shorten(genes[bad.any(axis=0)])}. Calculate them again with `scapp.pp.pseudobulk`, "
                "or remove them with `del adata.layers['lfc_se']`."
            )
    control_mean = None
    if Key.var.CONTROL_MEAN in effects.var:
        control_mean = effects.var[Key.var.CONTROL_MEAN].to_numpy(dtype=np.float64)[measured]
        bad = ~np.isfinite(control_mean) | (control_mean < 0)
        if bad.any():
            raise ValueError(
                f"adata.var['control_mean'] is negative, NaN or infinite for {int(bad.sum())} measured genes "
                f"({shorten(genes[bad])}). Calculate it again with `scapp.pp.pseudobulk`, "
                "or remove it with `del adata.var['control_mean']`."
            )
    return TrainingEffects(perturbations, genes.tolist(), lfc, errors, control_mean, _depth(effects), effects)


def _dense(values: Any, perturbations: list[Perturbation], genes: pd.Index) -> NDArray[np.float64]:
    dense = values.toarray() if sparse.issparse(values) else np.asarray(values)
    if dense.dtype.kind not in "fiu":
        try:
            dense = dense.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Effects and their standard errors must be numbers, found dtype {dense.dtype} ({error}). Read them with "
                "`scapp.pp.read_effects`, or correct the layer."
            ) from error
    return fill_own_targets(dense, perturbations, genes).astype(np.float64)


def _check_lfc(values: NDArray[np.float64], genes: pd.Index, where: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} values of {where} are NaN or infinite, in the genes {shorten(genes[bad.any(axis=0)])}. "
            "Leave these genes out, or mark genes that were not measured in adata.var['measured']."
        )
    if (values >= 0).all() and (values.max() > LARGEST_LFC or (values == np.round(values)).all()) and values.any():
        raise ValueError(
            f"{where} holds no negative value and looks like counts or expression, not like log-fold-changes. "
            "If these are cells, pass control='…' with the label of the control cells; "
            "if the log-fold-changes are in a layer, name it with layer='lfc'."
        )
    if np.abs(values).max() > LARGEST_LFC:
        raise ValueError(
            f"{where} reaches {np.abs(values).max():.3g}; natural log-fold-changes stay far below {LARGEST_LFC:.0f}. "
            "Calculate them with `scapp.pp.pseudobulk`."
        )
    silent = ~values.any(axis=1)
    if silent.all():
        raise ValueError(
            f"Every log-fold-change of {where} is 0, so there is nothing to learn from. "
            "Calculate the effects again with `scapp.pp.pseudobulk`, or name their layer with layer=…."
        )
    if silent.any():
        warn_user(f"{int(silent.sum())} perturbation(s) have no effect on any gene.")


def _depth(effects: AnnData) -> dict[str, NDArray[np.float64]]:
    found = {}
    for column in DEPTH:
        if column in effects.obs and pd.api.types.is_numeric_dtype(effects.obs[column]):
            depth = effects.obs[column].to_numpy(dtype=np.float64)
            if not (np.isfinite(depth).all() and (depth > 0).all()):
                raise ValueError(
                    f"adata.obs[{column!r}] must be a number above 0 for each perturbation, because it determines the noise of its "
                    f"effects; found {shorten(sorted(set(depth[~(depth > 0)])))}. "
                    f"Correct it, or remove it with `del adata.obs[{column!r}]`."
                )
            found[column] = depth
    return found
