"""The genes that guides target, and whether they are controls: by a column, a mapping, a pattern or a library of guides."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from scapp._controls import doubtful, looks_like_control, missing_kind, recognised
from scapp._genes import shorten
from scapp._label_checks import check_separators
from scapp._tables import PathLike, existing_file, find_column, is_path, name_of, plain, read_table
from scapp._warn import warn_user
from scapp.pp._harmonize import warn_of_names

if TYPE_CHECKING:
    Targets: TypeAlias = str | Mapping[str, str] | pd.Series | pd.DataFrame | PathLike

Genes: TypeAlias = tuple[str, ...]
# Usual names of columns of libraries of guides, in the order in which they are looked for.
LIBRARY_GUIDES = """guide_id guide sgrna_id sgrna grna_id grna sgid guide_name id name sgrna_name protospacer_id
    feature_id unnamed:_0 index""".split()
LIBRARY_GUIDES.append("")
TARGETS = """intended_target_name target_gene_name target_gene_symbol target_gene gene_symbol gene_target
    grna_target gene_name symbol gene target targets intended_target target_name target_gene_id""".split()
# What a guide is: in words, or true and false of what the column is called.
TYPES = "type guide_type target_type guide_class class category".split()
SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".parquet", ".xlsx", ".xls")

logger = logging.getLogger(__name__)


def read_targets(
    guides: Sequence[str],
    targets: Targets,
    var: pd.DataFrame | None,
    controls: str | Iterable[str],
    control: str,
    sep: str,
    genes: Iterable[str],
    measured: Iterable[str],
) -> list[Genes]:
    """Return the genes that each guide targets, sorted, without controls (empty for a control guide).

    `targets`, `controls`, `control`, `sep` and `genes` are those of :func:`scapp.pp.guides_to_perturbations`. `var` describes the
    guides, None where they are only known by name; `measured` are the genes of adata. ValueError if `targets` cannot be read, a
    guide has no target and is no control, or a target may be a gene or a control.
    """
    if len(set(guides)) < len(guides):
        raise ValueError(
            f"These guides occur more than once: {_twice(pd.Index(guides))}. Make their names unique, with "
            "`guides.var_names_make_unique()`."
        )
    measured, types = set(measured), [""] * len(guides)
    if isinstance(targets, pd.DataFrame) or (
        names_a_file(targets) and (var is None or not isinstance(targets, str) or targets not in var)
    ):
        targets, kinds = read_library(targets, list(guides))
        types = [str(kinds.get(guide, "")) for guide in guides]
    named = _name_targets(guides, targets, var, sep)
    counts = Counter(named)
    check_separators({target: n for target, n in counts.items() if not recognised(target)}, measured, sep, "targets")
    patterns = [_compile(one, "controls") for one in ([controls] if isinstance(controls, str) else controls)]
    genes = {genes} if isinstance(genes, str) else set(genes)
    undecided: set[str] = set()

    def is_control(name: str) -> bool:
        if name in genes or not name:
            return False
        if name == control or any(pattern.fullmatch(name) for pattern in patterns):
            return True
        if not recognised(name) or (doubtful(name) and patterns):  # which tell all controls whose names are not clear
            return False
        if doubtful(name) and name in measured:
            undecided.add(name)
        return True

    def is_control_guide(guide: str, target: str) -> bool:
        if is_control(target) or any(pattern.fullmatch(guide) for pattern in patterns):
            return True
        return recognised(guide) and target not in genes and target not in measured and not doubtful(target)

    found: list[Genes] = []
    unknown = []
    for guide, target, kind in zip(guides, named, types, strict=True):
        if recognised(kind) or is_control_guide(guide, target):
            found.append(())
            continue
        targeted = [gene.strip() for gene in target.split(sep)]
        if not all(gene and (gene in measured or gene in genes or not missing_kind(gene)) for gene in targeted):
            unknown.append(guide)
        found.append(tuple(sorted({gene for gene in targeted if not is_control(gene)})))
    if undecided:
        names = sorted(undecided)
        raise ValueError(
            f"{shorten(map(repr, names))}, the target of {sum(target in undecided for target in named)} of the {len(guides)} guides, "
            f"is a usual name of controls and a gene of adata as well. Say which is meant: controls={names!r}, or genes={names!r} "
            "for the gene."
        )
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the {len(guides)} guides have no target gene by targets=…: {shorten(unknown)}. Name "
            "their genes there, or, if they are controls, match their names with controls=…, for example "
            "controls=['NTC.*', 'safe.*']."
        )
    warn_of_names({gene for of in found for gene in of}, ())
    kept = sorted({gene for of in found for gene in of if gene not in genes and looks_like_control(gene)})
    if kept:
        warn_user(
            f"{len(kept)} targets are taken for genes, although they look like controls: {shorten(map(repr, kept))}. If they "
            f"are controls, pass controls={kept[:3]!r}; if they are genes, genes={kept[:3]!r}."
        )
    by_kind = [f"{kind!r} ({types.count(kind)})" for kind in dict.fromkeys(types) if recognised(kind)]
    if by_kind:
        logger.info("Control guides by their type: %s.", ", ".join(by_kind))
    return found


def _name_targets(guides: Sequence[str], targets: Targets, var: pd.DataFrame | None, sep: str) -> list[str]:
    """Return the target of each guide as written, several joined by `sep`; "" if there is none."""
    if isinstance(targets, str) and var is not None and targets in var:
        targets = var[targets]
    if isinstance(targets, str):
        pattern = _compile(targets, "targets")
        if not pattern.groups:
            columns = "" if var is None else (shorten(map(repr, var.columns), 12) or "none")
            where = f"no column of the guides' var, which has {columns}, and " if columns else ""
            raise ValueError(
                f"targets={targets!r} is {where}no regular expression with a group for the gene. Pass a column, a mapping "
                r"from guide to gene, or for example targets=r'(.+)_\d+', which finds KLF1 in KLF1_2."
            )
        matches = (pattern.fullmatch(guide) for guide in guides)
        return ["" if match is None else (match[1] or "").strip() for match in matches]
    if not isinstance(targets, Mapping | pd.Series):
        raise TypeError(
            "targets must be a column of the guides' var, a mapping from guide to gene, a regular expression or a table of guides, found "
            f"{type(targets).__name__}."
        )
    if isinstance(targets, pd.Series) and not targets.index.is_unique:
        raise ValueError(
            f"targets names these guides more than once: {_twice(targets.index)}. Name each once; the genes of a guide with "
            "several targets are joined, as in 'A+B'."
        )
    lists = list | tuple | set | np.ndarray
    found = (targets.get(guide, "") for guide in guides)
    return [sep.join(map(name_of, gene)) if isinstance(gene, lists) else name_of(gene) for gene in found]


def _twice(names: pd.Index) -> str:
    return shorten(names[names.duplicated()].unique())


def _compile(pattern: str, argument: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{argument}={pattern!r} cannot be read as a regular expression: {error}.") from error


def names_a_file(value: object) -> bool:
    """Return whether an argument is the path of a table, and not a column or a regular expression."""
    if not is_path(value):
        return False
    if not isinstance(value, str):
        return True
    return value.lower().removesuffix(".gz").endswith(SUFFIXES) or Path(value).expanduser().is_file()


def read_library(targets: pd.DataFrame | PathLike, guides: list[str]) -> tuple[pd.Series, pd.Series]:
    """Read a table of guides, one per row, with its name, its target and perhaps its type; or the path of such a table.

    The column of the names is found by the `guides` that are asked for. Returns the target of each guide and its type, both by its
    name and empty where there is none. ValueError if the columns cannot be told, or a guide occurs twice with another target.
    """
    where = f"targets={str(targets)!r}" if is_path(targets) else "targets=…"
    table: pd.DataFrame = read_table(existing_file(targets)) if is_path(targets) else targets
    wanted = set(guides)
    names: dict[Any, pd.Series] = {
        column: pd.Series(table[column].astype(str).str.strip().to_numpy()) for column in table.columns
    }
    if not isinstance(table.index, pd.RangeIndex):
        names[None] = pd.Series(table.index.astype(str))
    hits = {column: len(wanted & set(values)) for column, values in names.items()}
    usual = find_column(table, LIBRARY_GUIDES)
    best = max(hits, key=lambda column: (hits[column], column == usual), default=None)
    target = find_column(table.drop(columns=[best] if best in table else []), TARGETS)
    if not hits or not hits[best]:
        first = shorten(map(repr, names[usual].unique()), 3) if usual in names else "none"
        raise ValueError(
            f"No guide is in {where}: the guides are {shorten(map(repr, guides), 3)}, the table has {first}. Its columns are "
            f"{shorten(map(repr, table.columns), 12)}; one must hold the names of the guides."
        )
    if target is None:
        raise ValueError(
            f"{where} has no column of target genes under a usual name ({', '.join(TARGETS[:6])}, …); its columns are "
            f"{shorten(map(repr, table.columns), 12)}. Pass a mapping, such as `table.set_index({best!r})['my_column']`."
        )
    read = pd.DataFrame({"guide": names[best], "target": [name_of(gene) for gene in table[target]]})
    rest = table.drop(columns=[target, *([best] if best in table else [])])
    kinds = {column: _types(rest[column]) for column in [*filter(None, [find_column(rest, TYPES)]), *rest.columns]}
    kind = next((column for column, of in kinds.items() if any(map(recognised, of))), None)
    read["type"] = "" if kind is None else kinds[kind]
    read = read.drop_duplicates()
    if read["guide"].duplicated().any():
        twice = read.loc[read["guide"].duplicated(), "guide"].unique()
        raise ValueError(
            f"{where} names {len(twice)} guides with several targets: {shorten(twice)}. Name each once; the genes of a guide "
            "with several targets are joined, as in 'A+B'."
        )
    logger.info(
        "Targets of guides: column %r, by the names in %r%s.", target, best, f", types in {kind!r}" if kind else ""
    )
    read = read.set_index("guide")
    return read["target"], read["type"]


def _types(column: pd.Series) -> list[str]:
    """Return the types of guides, as a column says them in words or by true and false; empty if it says something else."""
    name, text = plain(column.name), [name_of(value) for value in column]
    if name in TYPES:
        return text
    truth = {
        **dict.fromkeys(("true", "t", "1", "yes", "y"), True),
        **dict.fromkeys(("false", "f", "0", "no", "n"), False),
    }
    said = [truth.get(value.lower()) for value in text]
    subject = re.sub(r"^is_?", "", name)
    targeting = subject in ("targeting", "is_target", "target", "targeted")
    if None in said or not (targeting or recognised(subject)):
        return []
    return ["non-targeting" if value != targeting else "" for value in said]
