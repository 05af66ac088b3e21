"""Labels of public files of screens: scPerturb, pertpy, GEARS and what Adamson et al. called their guides."""

from __future__ import annotations

import logging
import re

import pandas as pd
from anndata import AnnData

from scapp._controls import doubtful, is_control, looks_like_control, missing_kind, recognised
from scapp._genes import shorten
from scapp._labels import format_label, show_counts
from scapp._tables import to_numbers

logger = logging.getLogger(__name__)

CONTROL = "control"
# In the order in which they are looked for: scPerturb, pertpy, GEARS and PerturBench, others.
COLUMNS = ("perturbation", "perturbation_name", "condition", "target_gene", "gene_target", "gene")
# Joins that no gene symbol holds. "_" and "-" occur in names of genes, guides and controls.
JOINS = re.compile(r"\s*[+|;,&]\s*")
# Names of the plasmids behind the guides of Adamson et al. 2016, such as "_pDS263" and "_pMJ144-1".
PLASMID = re.compile(r"_p[A-Z]{2,3}\d+(-\d+)?$")
# Their control constructs: "62(mod)", "63(mod)", "Gal4-4(mod)" and "3x_neg_ctrl".
CONTROL_CONSTRUCT = re.compile(r"^(\d+\(mod\)|gal4.*\(mod\)|.*neg_ctrl.*)$", re.IGNORECASE)


def label_column(adata: AnnData) -> str:
    """Return the column of obs that holds the labels, by its usual names.

    Raises
    ------
    ValueError
        If there is none of these names.
    """
    for name in COLUMNS:
        if name in adata.obs:
            return name
    raise ValueError(
        f"adata.obs has none of the columns {', '.join(COLUMNS)} that usually hold the perturbations; it has "
        f"{shorten(map(repr, adata.obs.columns), 12) or 'none'}. Name it with perturbation_key=…."
    )


def read_labels(adata: AnnData, *, perturbation_key: str | None = None, control: str | None = None) -> pd.Series:
    """Return labels as scapp reads them.

    Parameters
    ----------
    adata
        Cells of a public file.
    perturbation_key
        Column of `obs`; found by its usual names if None.
    control
        Label of the control cells, besides the usual ones.

    Returns
    -------
    For each cell ``"control"``, a canonical label such as ``"CEBPA+KLF1"``, or None for a cell without a known
    perturbation. Genes that are joined by ``"_"`` are told apart where each part is a gene of the matrix or a
    perturbation by itself, or where ``obs["nperts"]`` counts as many.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    if perturbation_key is not None and perturbation_key not in adata.obs:
        raise ValueError(
            f"adata.obs has no column {perturbation_key!r} of perturbations; it has "
            f"{shorten(map(repr, adata.obs.columns), 12) or 'none'}."
        )
    column = adata.obs[perturbation_key or label_column(adata)]
    raw = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    n_cells = raw.value_counts(sort=False)
    distinct = {label: _clean(label) for label in n_cells.index}
    known = {*adata.var_names, *(name for name in distinct.values() if name and "_" not in name)}
    counted = _counted(raw, adata.obs)
    control = control or CONTROL
    # A symbol that is a usual name of controls as well is a gene where there are other controls.
    genes = {name for name in distinct.values() if name and name != control and name in known and doubtful(name)}
    genes &= set(adata.var_names)
    if not any(name and name not in genes and is_control(name, control) for name in distinct.values()):
        genes = set()

    def means_control(name: str) -> bool:
        return name not in genes and is_control(name, control)

    controls: dict[str, int] = {}
    read: dict[str, str | None] = {}
    whole = []
    for label, name in distinct.items():
        if name is None:
            read[label] = None
        elif CONTROL_CONSTRUCT.match(name) or means_control(name):
            read[label] = CONTROL
            controls[name] = controls.get(name, 0) + int(n_cells[label])
        else:
            parts = _parts(name, known, counted.get(label))
            if len(parts) == 1 and "_" in parts[0] and parts[0] not in known:
                whole.append(parts[0])
            perturbed = {part for part in parts if not means_control(part)}
            read[label] = format_label(perturbed) if perturbed else CONTROL
            if not perturbed:
                controls[name] = controls.get(name, 0) + int(n_cells[label])
    if whole:
        logger.warning(
            "%d label(s) hold '_' and were taken as the name of one gene each, since their parts are not all known: %s.",
            len(whole),
            shorten(whole),
        )
    _say_controls(controls, {name: int(n_cells[label]) for label, name in read.items() if name})
    return raw.map(read)


def _say_controls(controls: dict[str, int], labels: dict[str, int]) -> None:
    """Log which labels were read as controls, and which were not although they resemble them."""
    if set(controls) - {CONTROL}:
        logger.info("Read as controls: %s.", show_counts(controls, 12))
    if not controls:
        logger.warning(
            "No cell was read as a control. The labels are %s. Name the control with control=….", show_counts(labels)
        )
    alike = {name: n for name, n in labels.items() if name != CONTROL and looks_like_control(name)}
    if alike:
        logger.warning("Read as perturbed, although the labels look like those of controls: %s.", show_counts(alike))


def _clean(label: str) -> str | None:
    if missing_kind(label):
        return None
    name = PLASMID.sub("", label)
    return name.removesuffix("_only")


def _counted(raw: pd.Series, obs: pd.DataFrame) -> dict[str, int]:
    """Return how many genes each label perturbs, where the file says so."""
    if "nperts" not in obs:
        return {}
    numbers = to_numbers(obs["nperts"]).groupby(raw.to_numpy()).agg(["min", "max"])
    agree = numbers[(numbers["min"] == numbers["max"]) & numbers["min"].notna()]
    return {str(label): int(n) for label, n in agree["min"].items()}


def _parts(name: str, known: set[str], n: int | None) -> list[str]:
    joined = JOINS.split(name)
    if len(joined) > 1 or "_" not in name or name in known or recognised(name):
        return joined
    parts = name.split("_")
    named = all(part in known or recognised(part) for part in parts)
    return parts if named or (n is not None and n > 1 and len(parts) == n) else joined
