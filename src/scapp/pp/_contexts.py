"""Screens in several contexts: effects in each of them, one of them alone, and one as gene features of another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from scapp._checked import checked
from scapp._effects import label_column
from scapp._gene_names import Aliases
from scapp._genes import check_gene_names, check_layer, measured_mask, scapp_uns, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, column_of_obs, is_effects, read_perturbations
from scapp.graph import truncated_svd
from scapp.pp._features import add_gene_features

N_COMPONENTS = 32
MIN_SINGLES = 4


def effects_by_context(
    adata: AnnData, context_key: str, perturbation_key: str, effects_of: Callable[[AnnData], AnnData]
) -> AnnData:
    """Compute the effects in each context, one below the other; `effects_of` turns the cells of one context into effects."""
    if isinstance(context_key, str) and context_key == perturbation_key:
        raise ValueError(f"context_key and perturbation_key name the same column, {context_key!r}.")
    column = column_of_obs(adata, context_key, "context_key").astype(str)
    contexts = sorted(column.unique())
    parts = []
    for context in contexts:
        try:
            parts.append(effects_of(adata[(column == context).to_numpy()]))
        except ValueError as error:
            raise ValueError(f"In the context {context!r} of adata.obs[{context_key!r}]: {error}") from error

    obs = pd.concat([part.obs for part in parts], join="inner")
    names = [f"{label} ({context})" for context, part in zip(contexts, parts, strict=True) for label in part.obs_names]
    obs.index = pd.Index(names)
    obs[context_key] = pd.Categorical(np.repeat(contexts, [part.n_obs for part in parts]), categories=contexts)
    records = [part.uns[Key.uns.SCAPP][Key.uns.PSEUDOBULK] for part in parts]
    dropped = [record["dropped"].assign(**{Key.obs.CONTEXT: c}) for record, c in zip(records, contexts, strict=True)]
    of_controls = {
        key: np.column_stack([part.var[key] for part in parts]) for key in (Key.varm.CONTROL_MEAN, Key.varm.CONTROL_VAR)
    }
    record = {**records[0], "context_key": context_key, "contexts": np.array(contexts, dtype=object)}
    record["dropped"] = pd.concat(dropped, ignore_index=True)
    return AnnData(
        X=np.vstack([part.X for part in parts]),
        obs=obs,
        var=parts[0].var.drop(columns=list(of_controls)),
        layers={key: np.vstack([p.layers[key] for p in parts]) for key in (Key.layers.LFC, Key.layers.LFC_SE)},
        varm={**{key: parts[0].varm[key] for key in parts[0].varm}, **of_controls},
        varp={key: parts[0].varp[key] for key in parts[0].varp},
        uns={
            Key.uns.SCAPP: {**parts[0].uns[Key.uns.SCAPP], Key.uns.PSEUDOBULK: record},
            Key.uns.N_CONTROL_CELLS: np.array([part.uns[Key.uns.N_CONTROL_CELLS] for part in parts]),
        },
    )


@checked
def select_context(effects: AnnData, context: object) -> AnnData:
    """Select the effects in one context, as if the screen had been done only there.

    Parameters
    ----------
    effects
        Effects in several contexts, from :func:`scapp.pp.pseudobulk` with `context_key` or
        :func:`scapp.pp.read_effects`; of all genes or some. They are not changed.
    context
        The context to select, such as ``"K562"``; numbers may be given as numbers or text.

    Returns
    -------
    A new AnnData with the observations of that context, named by their labels, and its controls in
    ``var["control_mean"]`` and ``var["control_var"]``, ready for :meth:`scapp.model.APP.setup_anndata`.

    Raises
    ------
    ValueError
        If `effects` are not effects in contexts, or the context does not exist or has no effects.

    Examples
    --------
    >>> effects = scapp.pp.pseudobulk(cells, context_key="cell_line")
    >>> k562 = scapp.pp.select_context(effects, "K562")
    """
    records = scapp_uns(effects)
    source = next((name for name in (Key.uns.PSEUDOBULK, Key.uns.EFFECTS) if "contexts" in records.get(name, {})), None)
    if source is None:
        raise ValueError(
            "These are no effects in several contexts. Calculate them with "
            "`scapp.pp.pseudobulk(cells, context_key='cell_line')`."
        )
    record = records[source]
    contexts, context = [str(name) for name in record["contexts"]], str(context)
    if context not in contexts:
        raise ValueError(f"There is no context {context!r}; there are {shorten(map(repr, contexts), 12)}.")
    k = contexts.index(context)
    key, perturbation_key = record["context_key"], record["perturbation_key"]
    rows = (effects.obs[key].astype(str) == context).to_numpy()
    if not rows.any():
        raise ValueError(
            f"The effects in the context {context!r} have been left out of this AnnData; select it before."
        )
    one = effects[rows].to_memory(copy=True)
    # Without a name, which a file would take for the column's.
    one.obs_names = one.obs[perturbation_key].astype(str).to_numpy()
    for name in (Key.varm.CONTROL_MEAN, Key.varm.CONTROL_VAR):
        if name in one.varm:  # effects that were read have none
            one.var[name] = np.asarray(one.varm[name])[:, k]
            del one.varm[name]
    if Key.uns.N_CONTROL_CELLS in one.uns:
        one.uns[Key.uns.N_CONTROL_CELLS] = int(np.asarray(one.uns[Key.uns.N_CONTROL_CELLS])[k])
    one.uns[Key.uns.SCAPP] = copy.deepcopy(dict(one.uns[Key.uns.SCAPP]))
    of_context = {name: value for name, value in record.items() if name not in ("contexts", "dropped", "context_key")}
    of_context["context"] = context
    if "dropped" in record:
        dropped = record["dropped"]
        of_context["dropped"] = dropped[dropped[Key.obs.CONTEXT].astype(str) == context].drop(columns=Key.obs.CONTEXT)
    one.uns[Key.uns.SCAPP][source] = of_context
    return one


@checked
def add_effects_as_features(
    adata: AnnData,
    effects: AnnData,
    *,
    key_added: str = "other_screen",
    n_components: int = N_COMPONENTS,
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    layer: str = Key.layers.LFC,
    aliases: Aliases | None = None,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | None:
    """Add the effects of perturbing each gene in another screen as gene features.

    A screen in another cell line or condition is the strongest known evidence for genes that were not perturbed in this
    one: with two cell lines, a linear model is 10 to 19 % better if it describes genes by their effects in the other
    line :cite:p:`AhlmannEltze2025`. The features of a gene are the principal components of the effect of perturbing it
    alone in the other screen, after subtracting the common part of all perturbations. Each component is shrunk by the
    size of the first one left out, which removes most of the noise. The change of the target itself is left out.

    **The other screen must really be a different one.** Effects of the same cells or of a replicate, or effects of all
    perturbations of the screen from which you hold some out, contain the answers and make any score worthless. If
    `adata` holds effects, identical effects are refused, but nothing can recognise a replicate, or effects of the cells
    in `adata`.

    Parameters
    ----------
    adata
        Cells or effects of this screen, to which the features are added.
    effects
        Effects of the other screen, with one observation per perturbation and any genes. Combinations are not used.
    key_added
        Key in `varm` for the features, to pass as ``gene_features_key=…``.
    n_components
        Number of principal components; fewer if there are fewer perturbations or genes.
    perturbation_key, sep
        Column with the labels in both screens, and separator between the genes of a combination.
    control
        Label of the control cells of `adata`; None if it holds effects.
    layer
        Layer of the log-fold-changes in both screens.
    aliases
        Gene aliases, as in :func:`scapp.pp.add_network`.
    seed
        Random seed of the decomposition.
    copy
        Return a changed copy and leave `adata` unchanged.

    Returns
    -------
    None, or the copy. Adds ``adata.varm[key_added]``, float32 of shape (n_vars, n_components);
    the rows of genes that were not perturbed there are NaN. ``scapp.pp.report(adata, "gene_features", key_added)``
    reports how many genes they cover.

    Raises
    ------
    ValueError
        If `effects` are not effects, are those of `adata`, or hold fewer than four single perturbations; also as in
        :func:`scapp.pp.add_gene_features`. Nothing is written then.

    Examples
    --------
    >>> scapp.pp.add_effects_as_features(k562, rpe1, key_added="rpe1", control=None)
    >>> scapp.model.APP.setup_anndata(k562, control=None, layer="lfc", gene_features_key="rpe1")
    """
    if n_components < 1:
        raise ValueError(f"n_components must be at least 1, found {n_components}.")
    check_gene_names(effects)
    perturbations = read_perturbations(effects, perturbation_key=perturbation_key, control=None, sep=sep)
    if not is_effects(perturbations):
        raise ValueError(
            "The other screen must be effects, one observation per perturbation and no controls; these look like cells, or "
            "effects in several contexts. Use `scapp.pp.pseudobulk`, and `scapp.pp.select_context` to take one context."
        )
    _check_another_screen(adata, effects, perturbations, perturbation_key, layer, sep)
    singles = [i for i, genes in enumerate(perturbations) if len(genes) == 1]
    if len(singles) < MIN_SINGLES:
        raise ValueError(
            f"The other screen has {len(singles)} perturbation(s) of a single gene, expected at least {MIN_SINGLES}."
        )
    values = _lfc(effects, layer)[singles]
    genes = [perturbations[i][0] for i in singles]
    table = pd.DataFrame(_signatures(values, genes, effects.var_names, n_components, seed), index=genes)
    names = {"aliases": aliases, "perturbation_key": perturbation_key, "control": control, "sep": sep}
    return add_gene_features(adata, table, key_added=key_added, kind="table", copy=copy, **names)  # type: ignore[arg-type]


def _lfc(effects: AnnData, layer: str) -> NDArray[np.float64]:
    """Return log-fold-changes; zero for genes that were not measured."""
    check_layer(effects, layer, "Name one with layer=….", "The other screen")
    values = _dense(effects.layers[layer], np.float64)
    values[:, ~measured_mask(effects)] = 0
    if not np.isfinite(values).all():
        bad = effects.var_names[~np.isfinite(values).all(axis=0)]
        raise ValueError(
            f"The log-fold-changes of the other screen are NaN or infinite in {len(bad)} genes: {shorten(bad)}. Leave "
            "these genes out, or mark those that were not measured in var['measured']."
        )
    return values


def _dense(values: Any, dtype: type) -> NDArray[Any]:
    """Return a dense copy."""
    return np.array(values.toarray() if sparse.issparse(values) else values, dtype=dtype)


def _signatures(
    values: NDArray[np.float64], genes: list[str], var_names: pd.Index, n_components: int, seed: int
) -> NDArray[np.float64]:
    own = var_names.get_indexer(genes)
    rows, columns = np.flatnonzero(own >= 0), own[own >= 0]
    # The mean of the other perturbations says nothing about this one.
    values[rows, columns] = (values.sum(axis=0)[columns] - values[rows, columns]) / (len(values) - 1)
    values -= values.mean(axis=0)
    scores = truncated_svd(values, min(n_components + 1, *values.shape), seed=seed)
    size = np.linalg.norm(scores, axis=0)
    if not size.any():
        raise ValueError("All perturbations of the other screen have the same effect, so they tell no genes apart.")
    last = size[n_components] if len(size) > n_components else 0.0
    kept = slice(0, n_components)
    return scores[:, kept] * (np.maximum(size[kept] - last, 0) / np.maximum(size[kept], 1e-12))


def _check_another_screen(
    adata: AnnData, effects: AnnData, perturbations: list[Perturbation], perturbation_key: str, layer: str, sep: str
) -> None:
    """Raise if some effects are those of `adata` itself."""
    if label_column(adata, perturbation_key) not in adata.obs or not (
        layer in adata.layers and layer in effects.layers
    ):
        return
    own = read_perturbations(adata, perturbation_key=perturbation_key, control=None, sep=sep)
    row = {genes: i for i, genes in enumerate(own)}
    pairs = [(row[genes], i) for i, genes in enumerate(perturbations) if genes in row]
    shared = effects.var_names.intersection(adata.var_names)
    if not pairs or not len(shared):
        return
    here, there = (list(rows) for rows in zip(*pairs, strict=True))
    a, b = (_dense(data[rows, shared].layers[layer], np.float32) for data, rows in ((adata, here), (effects, there)))
    same = np.isclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True).all(axis=1) & a.any(axis=1)
    if same.any():
        raise ValueError(
            f"{int(same.sum())} perturbations have the same effects in both screens, such as "
            f"{effects.obs_names[there[int(np.argmax(same))]]!r}: this is the same screen, and its effects as features would "
            "give away what is to be predicted. Pass the effects of another screen."
        )
