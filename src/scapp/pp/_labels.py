"""Reading the perturbation of each observation from ``adata.obs``, and refusing labels that would be misread."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pandas as pd
from anndata import AnnData

from scapp._controls import Control, doubtful, is_control, missing_kind, recognised
from scapp._effects import control_label, label_column
from scapp._genes import shorten
from scapp._perturbations import SEPARATOR, Perturbation, check_control, count_labels, parse_labels, show_counts
from scapp._warn import warn_user

# What joins the genes of a combination elsewhere. Those in front occur in no symbol.
JOINS = ("+", "|", ";", ",", "&", " and ", "/", ":", "__", "_", "-", " ")
WEAK_JOINS = ("-", " ")
# The name of a guide: a gene, and behind it a number, a letter, a transcript or a spacer.
GUIDE = re.compile(
    r"(?:(?:sg|sgrna|grna|g|sh)[_.\- ]?)?(?P<gene>.+?)(?:[_.\-# (]+(?:sg|sgrna|grna|guide|g|i|sh|MP)?[_.\-#]?"
    r"(?:\d+|[A-Za-z]|P1P2|P1|P2|MP[A-Z]|[ACGT]{10,})\)?)+",
    re.IGNORECASE,
)
# As GEARS names conditions: cell line, genes, and how many.
GEARS_CONDITION = re.compile(r"[^_]+_.+_1(?:\+1)+|[^_]+_ctrl_1")
# As Weissman's libraries name guides: gene, strand, position and transcript.
GUIDE_WITH_STRAND = re.compile(r".+_[+-]_\d+\.\d+.*")


def read_perturbations(
    adata: AnnData,
    *,
    perturbation_key: str,
    control: Control,
    sep: str = SEPARATOR,
    effects_allowed: bool = True,
) -> list[Perturbation]:
    """Return the perturbed genes of each observation.

    Parameters
    ----------
    adata
        Cells, or effects (one observation per perturbation).
    perturbation_key
        Column of ``adata.obs`` that holds the labels.
    control
        Label of the control cells, or a list of several; None if there are none.
    sep
        What joins the genes of a combination.
    effects_allowed
        Whether a table of effects (each observation its own perturbation, none of them a control) may pass although
        `control` is given.

    Returns
    -------
    One tuple of genes in alphabetical order for each observation; empty for a control.

    Raises
    ------
    ValueError
        If the column is missing, an observation has no label, a label cannot be read or would be misread, none is labelled
        `control`, or other labels are usual names of controls.
    TypeError
        If `adata` is no AnnData.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(f"Expected an AnnData, found {type(adata).__name__}.")
    perturbation_key, control = label_column(adata, perturbation_key), control_label(adata, control)
    labels = column_of_obs(adata, perturbation_key, "perturbation_key")
    check_labels(labels, adata.var_names, perturbation_key=perturbation_key, control=control, sep=sep)
    perturbations = parse_labels(labels, control=control, sep=sep, genes=adata.var_names)
    if control is None:
        _warn_of_controls(labels)
    elif not (effects_allowed and is_effects(perturbations)):
        check_control(labels, control, sep=sep, genes=adata.var_names)
    return perturbations


def check_labels(
    labels: pd.Series, genes: Iterable[str], *, perturbation_key: str, control: Control, sep: str = SEPARATOR
) -> None:
    """Raise if labels are missing values written as text, or use another separator; warn of names of guides.

    Parameters
    ----------
    labels
        One for each observation.
    genes
        The genes of adata, by which parts of labels are known.
    perturbation_key, control, sep
        As in :func:`read_perturbations`.

    Raises
    ------
    ValueError
        Naming the labels, their counts, and the call that mends them.
    """
    counts = count_labels(labels)
    known = set(genes)
    _check_missing(counts, known, perturbation_key, sep)
    if not sep:
        return  # an error of its own
    tokens: dict[str, int] = {}
    for label, n in counts.items():
        for token in map(str.strip, label.split(sep)):
            if token and token not in known and not is_control(token, control) and not is_control(label, control):
                tokens[token] = tokens.get(token, 0) + n
    _check_guides(counts, tokens, known, perturbation_key, sep)
    _check_separator(tokens, known, control, sep)
    _warn_of_guides(tokens, known, perturbation_key)


def _check_missing(counts: Mapping[str, int], known: set[str], key: str, sep: str) -> None:
    missing = {}
    for label, n in counts.items():
        parts = label.split(sep) if sep and sep in label else [label]
        if any(part.strip() and part.strip() not in known and missing_kind(part) for part in parts):
            missing[label] = n
    if missing:
        raise ValueError(
            f"{sum(missing.values()):,} observations have no known perturbation in adata.obs[{key!r}]: {show_counts(missing)}. "
            f"Leave them out with `adata = adata[~adata.obs[{key!r}].isin({list(missing)[:3]!r})].copy()`"
            + (", and the others likewise." if len(missing) > 3 else ".")
        )


def _check_guides(counts: Mapping[str, int], tokens: Mapping[str, int], known: set[str], key: str, sep: str) -> None:
    """Raise if the separator cuts the names of guides or conditions in two."""
    condition = {label: n for label, n in counts.items() if "+" in label and GEARS_CONDITION.fullmatch(label)}
    if condition:
        raise ValueError(
            f"Labels such as {shorten(map(repr, condition), 2)} name the cell line and the number of genes as well, as GEARS "
            f"does in 'condition_name'. Pass perturbation_key='condition', or leave these parts out of adata.obs[{key!r}]."
        )
    stranded = {label: n for label, n in counts.items() if GUIDE_WITH_STRAND.fullmatch(label)}
    numbers = [token for token in tokens if token.isdecimal()]
    if stranded or (numbers and len(numbers) < len(tokens)):
        of = stranded or {
            label: n for label, n in counts.items() if set(map(str.strip, label.split(sep))) & set(numbers)
        }
        raise ValueError(
            f"Labels such as {shorten(map(repr, of), 2)} are names of guides, it seems, which sep={sep!r} cuts: "
            f"{'strands' if stranded else 'numbers'} are no genes. Label the cells with `scapp.pp.guides_to_perturbations(adata, "
            f"calls_key={key!r}, targets=r'([^_]+)_.+', key_added='target')`, and pass perturbation_key='target'."
        )


def _check_separator(tokens: Mapping[str, int], known: set[str], control: Control, sep: str) -> None:
    """Raise if another separator cuts labels into known genes."""
    alone = {token for token in tokens if not any(join in token for join in JOINS[:-3])}
    for join in JOINS:
        if join == sep:
            continue
        genes = known if join in WEAK_JOINS else known | alone
        joined = {}
        for token, n in tokens.items():
            parts = [part.strip() for part in token.split(join)]
            controls = [recognised(part) or is_control(part, control) for part in parts]
            if len(parts) > 1 and all(parts) and not all(controls):
                if all(part in genes or one for part, one in zip(parts, controls, strict=True)):
                    joined[token] = n
        if not joined:
            continue
        message = (
            f"{len(joined)} labels are taken as one gene each, but {join!r} cuts them into known genes: {show_counts(joined)}. "
            f"Pass sep={join!r}, which joins the genes of a combination here (found sep={sep!r}); if labels have several "
            f"separators, bring them to one first, as with `adata.obs[key].str.replace({join!r}, {sep!r}, regex=False)`."
        )
        if join in WEAK_JOINS:  # in symbols too, such as those of genes that are read through
            warn_user(message)
        else:
            raise ValueError(message)


def _warn_of_guides(tokens: Mapping[str, int], known: set[str], key: str) -> None:
    """Warn of labels that are known genes, or the same gene, but for the number of a guide."""
    genes: dict[str, list[str]] = {}
    for token in tokens:
        match = None if token.startswith("ENS") else GUIDE.fullmatch(token)  # ids have versions
        if match is not None:
            genes.setdefault(match["gene"], []).append(token)
        elif (bare := re.sub(r"^(?:sg|gRNA|sgRNA)[_.\- ]?", "", token)) != token and bare in known:
            genes.setdefault(bare, []).append(token)
    guides = {
        token: tokens[token]
        for gene, of in genes.items()
        for token in of
        if gene in known or gene in tokens or (len(of) > 1 and all("_" in token for token in of))
    }
    if guides:
        example = next(iter(guides))
        warn_user(
            f"{len(guides)} labels look like names of guides, each of which is taken as a perturbation of its own: "
            f"{show_counts(guides)}. To join the guides of a gene, label the cells with "
            f"`scapp.pp.guides_to_perturbations(adata, calls_key={key!r}, targets={_pattern(example)}, key_added='target')`."
        )


def _pattern(guide: str) -> str:
    prefix = "sg" if re.match(r"sg[A-Z]", guide) else ""
    return f"r'{prefix}([^_]+)_.+'" if "_" in guide else f"r'{prefix}(.+?)[.\\-# ]?\\d*'"


def _warn_of_controls(labels: pd.Series) -> None:
    """Warn of effects whose label is a usual name of controls and is taken as a gene."""
    kept = {label: n for label, n in count_labels(labels).items() if recognised(label) and doubtful(label)}
    if kept:
        warn_user(
            f"{show_counts(kept)} is taken as a perturbed gene, although controls often have this name. If it is a control, "
            "leave it out of the effects."
        )


def is_effects(perturbations: list[Perturbation]) -> bool:
    """Return whether these are the rows of a table of effects: each perturbation once, and no control."""
    distinct = set(perturbations)
    return len(distinct) == len(perturbations) and () not in distinct


def column_of_obs(adata: AnnData, key: str, argument: str) -> pd.Series:
    """Return a column of ``adata.obs`` without missing values, or an error that names the argument and the columns there are."""
    if not isinstance(key, str):
        raise TypeError(
            f"{argument} names one column of adata.obs, found the {type(key).__name__} {key!r}. Join several into one first, as in "
            "`adata.obs['both'] = adata.obs['a'].astype(str) + '-' + adata.obs['b'].astype(str)`."
        )
    if key not in adata.obs:
        columns = shorten(map(repr, adata.obs.columns), 12) or "none"
        raise ValueError(f"adata.obs has no column {key!r}. Name one of its columns with {argument}=…: {columns}.")
    column = adata.obs[key]
    missing = int(column.isna().sum())
    if missing:
        raise ValueError(
            f"{missing} of the {adata.n_obs} observations have no value in adata.obs[{key!r}] ({argument}). "
            f"Fill them in, or leave these observations out with `adata = adata[adata.obs[{key!r}].notna()].copy()`."
        )
    return column
