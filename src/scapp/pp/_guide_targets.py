"""Which gene does a guide target, and is it a control?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import pandas as pd

from scapp._genes import shorten
from scapp._perturbations import is_control

if TYPE_CHECKING:
    Targets: TypeAlias = str | Mapping[str, str] | pd.Series

Genes: TypeAlias = tuple[str, ...]


def read_targets(
    guides: Sequence[str],
    targets: Targets,
    *,
    var: pd.DataFrame | None,
    controls: str | Iterable[str],
    control: str,
    sep: str,
) -> list[Genes]:
    """The genes that each guide targets, without controls; see :func:`scapp.pp.guides_to_perturbations`.

    Parameters
    ----------
    guides
        Names of the guides.
    targets
        Column of `var`, mapping, or regular expression.
    var
        Describes the guides; None where they are only known by name.
    controls
        Regular expressions of control guides or their targets.
    control, sep
        The label of controls, and what joins genes.

    Returns
    -------
    One tuple of genes a guide, sorted; empty for a control.

    Raises
    ------
    ValueError
        If `targets` cannot be read, or a guide has no target and is no control.
    """
    if len(set(guides)) < len(guides):
        raise ValueError(
            f"These guides occur more than once: {_twice(pd.Index(guides))}. Make their names unique, with "
            "`guides.var_names_make_unique()`."
        )
    named = _name_targets(guides, targets, var)
    patterns = [_compile(pattern, "controls") for pattern in ([controls] if isinstance(controls, str) else controls)]

    def control_by_name(name: str) -> bool:
        return is_control(name, control) or any(pattern.fullmatch(name) for pattern in patterns)

    found: list[Genes] = []
    unknown = []
    for guide, target in zip(guides, named, strict=True):
        if control_by_name(guide) or control_by_name(target):
            found.append(())
            continue
        genes = [gene.strip() for gene in target.split(sep)]
        if not all(genes):
            unknown.append(guide)
        found.append(tuple(sorted({gene for gene in genes if not control_by_name(gene)})))
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the {len(guides)} guides have no target gene by targets=…: {shorten(unknown)}. Name "
            "their genes there, or, if they are controls, match their names with controls=…, for example "
            "controls=['NTC.*', 'safe.*']."
        )
    return found


def _name_targets(guides: Sequence[str], targets: Targets, var: pd.DataFrame | None) -> list[str]:
    """Target of each guide as it is written, "" where there is none."""
    if isinstance(targets, str):
        if var is not None and targets in var:
            targets = var[targets]
        else:
            columns = None if var is None else (shorten(map(repr, var.columns), 12) or "none")
            return _by_pattern(guides, targets, columns)
    if not isinstance(targets, Mapping | pd.Series):
        raise TypeError(
            "targets must be a column of the guides' var, a mapping from guide to gene or a regular expression, found "
            f"{type(targets).__name__}."
        )
    if isinstance(targets, pd.Series) and not targets.index.is_unique:
        raise ValueError(
            f"targets names these guides more than once: {_twice(targets.index)}. Name each once; the genes of a guide with "
            "several targets are joined, as in 'A+B'."
        )
    return ["" if pd.isna(gene := targets.get(guide, "")) else str(gene).strip() for guide in guides]


def _twice(names: pd.Index) -> str:
    return shorten(names[names.duplicated()].unique())


def _by_pattern(guides: Sequence[str], pattern: str, columns: str | None) -> list[str]:
    compiled = _compile(pattern, "targets")
    if not compiled.groups:
        where = "" if columns is None else f"no column of the guides' var, which has {columns}, and "
        raise ValueError(
            f"targets={pattern!r} is {where}no regular expression with a group for the gene. Pass a column, a mapping "
            r"from guide to gene, or for example targets=r'(.+)_\d+', which finds KLF1 in KLF1_2."
        )
    matches = (compiled.fullmatch(guide) for guide in guides)
    return ["" if match is None else (match[1] or "").strip() for match in matches]


def _compile(pattern: str, argument: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{argument}={pattern!r} cannot be read as a regular expression: {error}.") from error
