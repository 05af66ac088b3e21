"""The table of effects that a model is trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scapp._controls import Control
from scapp._effects import DIRECTION, fill_own_targets, perturbation_type
from scapp._genes import check_gene_names, measured_mask, shorten
from scapp._keys import Key
from scapp._labels import check_known, check_labels, column_of_obs, format_label, parse_labels
from scapp._warn import warn_user
from scapp.pp import pseudobulk

# With fewer perturbations there is nothing to learn from, and none to validate on.
MIN_PERTURBATIONS = 4
# Log-fold-changes are of the order of one; whole numbers beyond this are counts.
LARGEST_LFC = 50.0
# Fewer measured targets do not say that a kind is wrong.
MIN_TARGETS = 5
# Columns of obs that tell how well each effect was measured, where there are no standard errors.
DEPTH = ("n_cells", "total_umi", "total_counts", "ncounts", "n_counts", "nCount_RNA", "n_umi")


def read_effects(
    adata: AnnData,
    *,
    perturbation_key: str,
    control: Control,
    layer: str | None,
    sep: str,
    batch_key: str | None,
) -> AnnData:
    """Return effects of the perturbations in `adata`, with the genes perturbed checked to be nodes.

    Parameters
    ----------
    adata
        Cells with controls, or effects if `control` is None. Not changed.
    perturbation_key, control, layer, sep, batch_key
        As in :meth:`scapp.model.APP.setup_anndata`.

    Returns
    -------
    AnnData with one observation per perturbation, ``layers["lfc"]`` and, where known, ``layers["lfc_se"]``.

    Raises
    ------
    ValueError
        For each kind of input that cannot be learned from, with the mend.
    """
    check_gene_names(adata)
    labels = column_of_obs(adata, perturbation_key, "perturbation_key")
    check_labels(labels, adata.var_names, perturbation_key=perturbation_key, control=control, sep=sep)
    perturbations = parse_labels(labels, control=control, sep=sep, genes=adata.var_names)
    check_known([p for p in set(perturbations) if p], adata.var_names.tolist())
    if control is not None:
        effects = pseudobulk(
            adata, perturbation_key=perturbation_key, control=control, sep=sep, layer=layer, batch_key=batch_key
        )
    else:
        effects = _given_effects(adata, perturbation_key, perturbations, layer, sep)
    if effects.n_obs < MIN_PERTURBATIONS:
        raise ValueError(
            f"Found {effects.n_obs} perturbation(s) ({shorten(effects.obs_names)}), expected at least {MIN_PERTURBATIONS}: "
            "a model that is to predict other perturbations cannot be learned from so few."
        )
    return effects


def read_kinds(
    adata: AnnData, effects: AnnData, *, perturbation_key: str, control: Control, sep: str, kind: str
) -> np.ndarray:
    """Return the kind of each perturbation of `effects`; "" for a combination of several.

    Parameters
    ----------
    adata
        What the effects were read from.
    kind
        ``"interference"``, ``"activation"``, ``"knockout"``, or a column of ``adata.obs``.

    Raises
    ------
    ValueError
        If there is no such kind or column, or it does not say one kind of each gene that was perturbed alone.
    """
    if kind not in adata.obs:
        if (known := perturbation_type(kind)) is None:
            columns = shorten(map(repr, adata.obs.columns), 12) or "none"
            raise ValueError(
                f"kind={kind!r} is neither 'knockout', 'interference' nor 'activation', nor a column of adata.obs, "
                f"which has {columns}."
            )
        kinds = [known] * effects.n_obs
        _warn_of_directions(effects, kinds, f"kind={kind!r}")
        return np.array(kinds, dtype=object)
    labels = parse_labels(adata.obs[perturbation_key], control=control, sep=sep, genes=adata.var_names)
    found: dict[str, set[str]] = {}
    for genes, value in zip(labels, adata.obs[kind], strict=True):
        found.setdefault(format_label(genes), set()).add(perturbation_type(value) or "")
    kinds = [next(iter(found[name])) if len(found[name]) == 1 else "" for name in effects.obs_names]
    single = [len(genes) == 1 for genes in parse_labels(effects.obs_names, control=None, genes=effects.var_names)]
    unclear = [name for name, k, one in zip(effects.obs_names, kinds, single, strict=True) if one and not k]
    if unclear:
        raise ValueError(
            f"adata.obs[{kind!r}] does not say 'knockout', 'interference' or 'activation' of {len(unclear)} perturbation(s) "
            f"of a single gene, or says several: {shorten(unclear)}."
        )
    _warn_of_directions(effects, kinds, f"adata.obs[{kind!r}]")
    return np.array(kinds, dtype=object)


def _warn_of_directions(effects: AnnData, kinds: list[str], said: str) -> None:
    """Warn where most measured targets of a kind changed against its direction."""
    measured, lfc = measured_mask(effects), effects.layers[Key.layers.LFC]
    column = {gene: i for i, gene in enumerate(effects.var_names)}
    own: dict[str, list[float]] = {}
    for row, (genes, kind) in enumerate(
        zip(parse_labels(effects.obs_names, control=None, genes=effects.var_names), kinds, strict=True)
    ):
        if kind and len(genes) == 1 and measured[column[genes[0]]]:
            own.setdefault(kind, []).append(float(lfc[row, column[genes[0]]]))
    for kind, changes in own.items():
        against = int((DIRECTION[kind] * np.array(changes) < 0).sum())
        if len(changes) >= MIN_TARGETS and 2 * against > len(changes):
            warn_user(
                f"{said} says {kind!r}, but {against} of {len(changes)} measured targets of single perturbations went "
                f"{'up' if DIRECTION[kind] < 0 else 'down'}. Look at them with `scapp.pp.check_efficacy(effects, kind=…)`, "
                "and correct the kind if it is another."
            )


def _given_effects(adata: AnnData, key: str, perturbations: list, layer: str | None, sep: str) -> AnnData:
    if layer is not None and layer not in adata.layers:
        layers = shorten(repr(k) for k in adata.layers if isinstance(k, str)) or "none"
        raise ValueError(
            f"adata has no layer {layer!r}; its layers are {layers}. Name the log-fold-changes with layer=…."
        )
    controls = perturbations.count(())
    if controls:
        raise ValueError(
            f"{controls} observation(s) are labelled as controls, but control=None says that these are effects. "
            "If these are cells, pass control='…' with their label; if not, leave these observations out."
        )
    names = [format_label(p) for p in perturbations]
    twice = pd.Index(names)[pd.Index(names).duplicated()].unique()
    if len(twice):
        raise ValueError(
            f"{len(twice)} perturbation(s) have more than one observation ({shorten(twice)}); effects have one each. "
            "If these are cells, pass control='…' with the label of the control cells."
        )
    values = adata.X if layer is None else adata.layers[layer]
    values = np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float32)
    values = fill_own_targets(values, perturbations, adata.var_names)
    measured = measured_mask(adata)
    _check_lfc(
        values[:, measured], adata.var_names[measured], "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    )
    found = {Key.layers.LFC: values}
    if Key.layers.LFC_SE in adata.layers:
        error = adata.layers[Key.layers.LFC_SE]
        error = np.asarray(error.toarray() if sparse.issparse(error) else error, dtype=np.float32)
        error = fill_own_targets(error, perturbations, adata.var_names)
        _check_standard_errors(error[:, measured], adata.var_names[measured])
        found[Key.layers.LFC_SE] = error
    obs = pd.DataFrame(
        {Key.obs.N_PERTURBED_GENES: [len(p) for p in perturbations]}, index=pd.Index(names, dtype=object)
    )
    for column in DEPTH:
        if column in adata.obs and pd.api.types.is_numeric_dtype(adata.obs[column]):
            depth = adata.obs[column].to_numpy(dtype=np.float64)
            if not (np.isfinite(depth).all() and (depth > 0).all()):
                raise ValueError(
                    f"adata.obs[{column!r}] must be a number above 0 for each perturbation, since it tells the noise of its "
                    f"effects; found {shorten(sorted(set(depth[~(depth > 0)])))}. "
                    f"Correct it, or remove it with `del adata.obs[{column!r}]`."
                )
            obs[column] = depth
    _check_control_mean(adata, measured)
    return AnnData(obs=obs, var=adata.var.copy(), layers=found)


def _check_standard_errors(values: np.ndarray, genes: pd.Index) -> None:
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} standard errors of adata.layers['lfc_se'] are negative, NaN or infinite, in the genes "
            f"{shorten(genes[bad.any(axis=0)])}. Calculate them again with `scapp.pp.pseudobulk`, "
            "or remove them with `del adata.layers['lfc_se']`."
        )


def _check_control_mean(adata: AnnData, measured: np.ndarray) -> None:
    if Key.var.CONTROL_MEAN not in adata.var:
        return
    mean = adata.var[Key.var.CONTROL_MEAN].to_numpy(dtype=np.float64)[measured]
    bad = ~np.isfinite(mean) | (mean < 0)
    if bad.any():
        raise ValueError(
            f"adata.var['control_mean'] is negative, NaN or infinite for {int(bad.sum())} measured genes "
            f"({shorten(adata.var_names[measured][bad])}). Calculate it again with `scapp.pp.pseudobulk`, "
            "or remove it with `del adata.var['control_mean']`."
        )


def _check_lfc(values: np.ndarray, genes: pd.Index, where: str) -> None:
    if not values.shape[1]:
        raise ValueError("No gene was measured: adata.var['measured'] is False throughout.")
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
            "if the log-fold-changes stand in a layer, name it with layer='lfc'."
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
