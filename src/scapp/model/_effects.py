"""Reading of the effects on which a model is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from anndata import AnnData

from scapp._controls import Control
from scapp._effects import DIRECTION, perturbation_type
from scapp._genes import measured_mask, shorten
from scapp._keys import Key
from scapp._labels import Perturbation, check_known, format_label, parse_labels
from scapp._training_effects import read_effects as read_training_effects
from scapp._warn import warn_user
from scapp.pp import pseudobulk

Gene = TypeVar("Gene", str, int)
# Fewer perturbations are not enough to learn from or to validate on.
MIN_PERTURBATIONS = 4
# Minimum number of measured targets for warning that a kind may be wrong.
MIN_TARGETS = 5


def read_effects(
    adata: AnnData,
    *,
    perturbation_key: str,
    control: Control,
    layer: str | None,
    sep: str,
    batch_key: str | None,
) -> AnnData:
    """Return the effects of the perturbations in `adata`, after checking that perturbed genes are nodes.

    Parameters
    ----------
    adata
        Cells with controls, or effects if `control` is None. They are not changed.
    perturbation_key, control, layer, sep, batch_key
        As in :meth:`scapp.model.APP.setup_anndata`.

    Returns
    -------
    AnnData with one observation per perturbation, ``layers["lfc"]`` and, if known, ``layers["lfc_se"]``.

    Raises
    ------
    ValueError
        For input from which the model cannot learn; the message says how to fix it.
    """
    if control is None:
        effects = read_training_effects(adata, layer=layer, perturbation_key=perturbation_key, sep=sep).to_anndata()
    else:
        effects = pseudobulk(
            adata, perturbation_key=perturbation_key, control=control, sep=sep, layer=layer, batch_key=batch_key
        )
    check_known(parse_labels(effects.obs_names, control=None, genes=adata.var_names), adata.var_names.tolist())
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
        AnnData from which the effects were read.
    kind
        ``"interference"``, ``"activation"``, ``"knockout"``, or a column of ``adata.obs``.

    Raises
    ------
    ValueError
        If there is no such kind or column, or it does not give exactly one kind for each gene that was perturbed alone.
    """
    parsed = parse_labels(effects.obs_names, control=None, genes=effects.var_names)
    if kind in adata.obs:
        said = f"adata.obs[{kind!r}]"
        labels = parse_labels(adata.obs[perturbation_key], control=control, sep=sep, genes=adata.var_names)
        found: dict[str, set[str]] = {}
        for genes, value in zip(labels, adata.obs[kind], strict=True):
            found.setdefault(format_label(genes), set()).add(perturbation_type(value) or "")
        kinds = [next(iter(found[name])) if len(found[name]) == 1 else "" for name in effects.obs_names]
        unclear = [format_label(genes) for genes, k in zip(parsed, kinds, strict=True) if len(genes) == 1 and not k]
        if unclear:
            raise ValueError(
                f"{said} does not say 'knockout', 'interference' or 'activation' of {len(unclear)} perturbation(s) "
                f"of a single gene, or says several: {shorten(unclear)}."
            )
    elif (known := perturbation_type(kind)) is not None:
        said, kinds = f"kind={kind!r}", [known] * effects.n_obs
    else:
        columns = shorten(map(repr, adata.obs.columns), 12) or "none"
        raise ValueError(
            f"kind={kind!r} is neither 'knockout', 'interference' nor 'activation', nor a column of adata.obs, "
            f"which has {columns}."
        )
    _warn_of_directions(effects, parsed, kinds, said)
    return np.array(kinds, dtype=object)


def _warn_of_directions(effects: AnnData, perturbations: list[Perturbation], kinds: list[str], said: str) -> None:
    """Warn if most measured targets of a kind changed in the wrong direction."""
    lfc, measured = effects.layers[Key.layers.LFC], measured_mask(effects)
    column = {gene: i for i, gene in enumerate(effects.var_names) if measured[i]}
    own: dict[str, list[float]] = {}
    for kind, row, gene in measured_targets(perturbations, kinds, column):
        own.setdefault(kind, []).append(float(lfc[row, column[gene]]))
    for kind, changes in own.items():
        against = int((DIRECTION[kind] * np.array(changes) < 0).sum())
        if len(changes) >= MIN_TARGETS and 2 * against > len(changes):
            warn_user(
                f"{said} says {kind!r}, but {against} of {len(changes)} measured targets of single perturbations went "
                f"{'up' if DIRECTION[kind] < 0 else 'down'}. Look at them with `scapp.pp.check_efficacy(effects, kind=…)`, "
                "and correct the kind if it is another."
            )


def measured_targets(
    perturbations: Sequence[tuple[Gene, ...]], kinds: Sequence[str], column: Mapping[Gene, int]
) -> Iterator[tuple[str, int, Gene]]:
    """Yield kind, row and target of each single perturbation of a known kind whose target was measured (is in `column`)."""
    for row, (genes, kind) in enumerate(zip(perturbations, kinds, strict=True)):
        if kind and len(genes) == 1 and genes[0] in column:
            yield kind, row, genes[0]
