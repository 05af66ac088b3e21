"""Perturbation labels: their grammar (``"KLF1"``, ``"CEBPA+KLF1"``, ``"KLF1+ctrl"``), and reading them from ``adata.obs``.

A label names the perturbed genes in any order, joined by a separator. Tokens are compared whole, never as substrings,
and the control token is dropped, so ``"KLF1+ctrl"``, ``"ctrl+KLF1"`` and ``"KLF1"`` are the same perturbation. The
canonical form is the tuple of its genes in alphabetical order.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scapp._controls import (
    Control,
    doubtful,
    is_control,
    is_missing_value,
    is_named,
    looks_like_control,
    named_controls,
    recognised,
)
from scapp._effects import control_label, label_column
from scapp._genes import shorten, show_counts
from scapp._label_checks import JOINS, check_labels, without_control
from scapp._warn import warn_user

logger = logging.getLogger(__name__)

SEPARATOR = "+"
Perturbation = tuple[str, ...]


def parse_label(
    label: str, *, control: Control = "control", sep: str = SEPARATOR, genes: Collection[str] = ()
) -> Perturbation:
    """Read one label, such as ``"KLF1"``, ``"KLF1+CEBPA"``, ``"ctrl+KLF1"`` or the control label itself.

    `control` is the label of control cells; common control names are recognised too. If it is a list, only the names in
    it are controls. If it is None, no label is a control, but common control names inside a combination are dropped,
    except for those in `genes`, which are genes in spite of their names. `sep` joins the genes of a combination.

    Returns the perturbed genes in alphabetical order; empty for a control. Raises a ValueError if the label is missing,
    has an empty part, or names a gene twice.
    """
    if not sep:
        raise ValueError("The separator of the genes in a label must not be empty; the usual one is '+'.")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"A perturbation label must be a non-empty string, found {label!r}.{_mend_type(label)}")
    if label in named_controls(control):
        return ()
    tokens = [token.strip() for token in label.split(sep)]
    if not all(tokens):
        raise ValueError(
            f"The perturbation label {label!r} has an empty part: genes are joined by {sep!r}, as in 'KLF1{sep}CEBPA'. "
            + (f"If they are joined by {sep * 2!r} here, pass sep={sep * 2!r}. " if sep * 2 in label else "")
            + "Correct the label, or pass the separator that these labels use."
        )
    kept = without_control(tokens, control, sep, genes if control is None else ())
    if len(set(kept)) < len(kept):
        twice = sorted({gene for gene in kept if kept.count(gene) > 1})
        raise ValueError(
            f"The perturbation label {label!r} names {', '.join(twice)} more than once. If it means that gene alone, "
            f"write {format_label(set(kept), sep=sep)!r}; two guides of a gene are one perturbation."
        )
    return tuple(sorted(kept))


def _mend_type(label: object) -> str:
    if isinstance(label, bytes):
        return " Labels are bytes here: decode them with `adata.obs[key] = adata.obs[key].str.decode('utf-8')`."
    if isinstance(label, tuple | list):
        return " Join the genes of each label first, as with `adata.obs[key] = adata.obs[key].map('+'.join)`."
    if isinstance(label, bool | np.bool_ | int | float | np.number):
        return (
            " Name the column that holds the names of perturbed genes with perturbation_key=…; if these numbers are names, make "
            "them text with `adata.obs[key] = adata.obs[key].astype(str)`."
        )
    return ""


def parse_labels(
    labels: Iterable[str], *, control: Control = "control", sep: str = SEPARATOR, genes: Iterable[str] = ()
) -> list[Perturbation]:
    """Read many labels, parsing each distinct one only once; see :func:`parse_label`."""
    labels, known = list(labels), frozenset(genes)
    distinct = {
        label: parse_label(label, control=control, sep=sep, genes=known)
        for label in pd.unique(pd.Series(labels, dtype=object))
    }
    return [distinct[label] for label in labels]


def refuse_text(given: object, what: str) -> None:
    """Raise if a single string is given instead of a list of `what`, because it would be read letter by letter."""
    if isinstance(given, str):
        raise TypeError(f"Expected a list of {what}, found the text {given!r}. Pass [{given!r}].")


def list_labels(perturbations: Iterable[str]) -> list[str]:
    """Return the given labels; TypeError if they are not a list of strings, ValueError if empty or with duplicates."""
    refuse_text(perturbations, "labels")
    if isinstance(perturbations, pd.DataFrame):
        raise TypeError(
            "Expected a list of labels, found a DataFrame. Pass the column that holds them, as in list(table['perturbation'])."
        )
    if not isinstance(perturbations, Iterable):
        raise TypeError(
            f"Expected a list of labels such as ['KLF1', 'KLF1+CEBPA'], found {type(perturbations).__name__} {perturbations!r}."
        )
    names = list(perturbations)
    lists = [name for name in names if isinstance(name, list | tuple | set)]
    if lists:
        raise TypeError(
            f"A perturbation is named by a text, such as 'KLF1' or 'KLF1+CEBPA', found the {type(lists[0]).__name__} {lists[0]!r}. "
            "Join the genes of each: ['+'.join(genes) for genes in …]."
        )
    others = [name for name in names if not isinstance(name, str)]
    if others:
        raise ValueError(
            f"A perturbation is named by a string, such as 'KLF1' or 'KLF1+CEBPA', found {type(others[0]).__name__} "
            f"{str(others[0])[:60]}. Pass the labels as strings: [str(label) for label in …]."
        )
    if not names:
        raise ValueError("The list of perturbations is empty. Pass at least one label.")
    if len(set(names)) < len(names):
        twice = [name for name, n in count_labels(names).items() if n > 1]
        raise ValueError(f"These labels occur more than once: {shorten(twice)}. Pass each label once.")
    return list(map(str, names))


def format_label(genes: Iterable[str], *, sep: str = SEPARATOR) -> str:
    """Return the canonical label of some genes: alphabetical, joined by `sep`."""
    return sep.join(sorted(genes))


def check_control(labels: Iterable[str], control: Control, *, sep: str = SEPARATOR, genes: Iterable[str] = ()) -> None:
    """Raise unless some of the labels of cells are the named control (not None), and no others could be controls too.

    Additional names that are read as controls (``"NTC_1"`` if ``"NTC"`` was given) are logged with their counts. A
    warning names labels that resemble controls but are read as genes, and parts of combinations that may be one of
    `genes` or a control. The error names the common controls that occur, with their counts, or else the labels most
    similar to `control`.
    """
    counts = count_labels(labels)
    names = named_controls(control)
    # Labels that are the given controls, that have other common control names, and that resemble controls.
    found: dict[str, int] = {}
    others: dict[str, int] = {}
    kept: dict[str, int] = {}
    for label, n in counts.items():
        tokens = [token.strip() for token in label.split(sep)]
        if parse_label(label, control=control, sep=sep) == ():
            named = is_named(label, control) or all(is_named(token, control) for token in tokens)
            (found if named else others)[label] = n
        elif len(tokens) == 1 and recognised(label):
            others[label] = n  # where a list names all controls
        elif any(looks_like_control(token) and not is_control(token, control) for token in tokens):
            kept[label] = n
    complete = not isinstance(control, str)  # a list names all controls
    if not found:
        if alike := others | kept:
            mend = f"These labels look like controls: {show_counts(alike)}. Pass control={_as_list(_short(alike))}."
        else:
            like = near_matches(names[0], counts) if names else []
            hint = f" Similar labels: {', '.join(map(repr, like))}." if like else ""
            mend = (
                f"The labels are {', '.join(map(repr, list(counts)[:5]))}{', …' if len(counts) > 5 else ''}.{hint} Name the control "
                "label with control=…, or, if the observations are log-fold-changes already, pass control=None."
            )
        raise ValueError(f"No observation is labelled {_or(names)}, the control. {mend}")
    if others and not complete:
        raise ValueError(
            f"{sum(found.values()):,} observations are labelled {_or(names)}, but {sum(others.values()):,} more have common control "
            f"names: {show_counts(others)}. Read them as controls with "
            f"control={_as_list([*names, *_short(others)])}, as genes with control={list(names)!r}, or leave them out."
        )
    absent = [name for name in names if not _names_some(name, found, sep)]
    if absent:
        warn_user(
            f"No observation is labelled {_or(tuple(absent))}, which control=… names as well; the controls are {show_counts(found)}. Correct "
            "the name, or leave it out."
        )
    unsaid = {name: n for name, n in found.items() if name not in names}
    if unsaid:
        logger.info("Controls: %s.", show_counts(found, 12))
    if complete:
        kept = kept | others
    if kept:
        warn_user(
            f"{sum(kept.values()):,} observations are read as perturbed, although their labels look like controls: "
            f"{show_counts(kept)}. If they are controls, name them with control=[{', '.join(map(repr, names))}, …]."
        )
    known = set(genes).difference(names)
    combined = (token.strip() for label in counts if sep in label for token in label.split(sep))
    dropped = dict.fromkeys(token for token in combined if not complete and token in known and doubtful(token))
    if dropped:
        warn_user(
            f"{', '.join(map(repr, dropped))} in combinations was dropped as the name of a control, but is also a gene of "
            f"adata. If the gene is meant, pass control={list(names)!r}."
        )


def controls_among(adata: AnnData, control: Control, perturbation_key: str, sep: str) -> list[str]:
    """Return the named controls that label some observations."""
    labels = column_of_obs(adata, label_column(adata, perturbation_key), "perturbation_key").unique()
    return [name for name in named_controls(control) if _names_some(name, map(str, labels), sep)]


def _names_some(name: str, labels: Iterable[str], sep: str) -> bool:
    return any(is_named(token, [name]) for label in labels for token in (label, *label.split(sep)))


def count_labels(labels: Iterable[str]) -> dict[str, int]:
    """Return the number of observations with each label, in the order of first occurrence."""
    series = labels if isinstance(labels, pd.Series) else pd.Series(list(labels), dtype=object)
    return {str(label): int(n) for label, n in series.value_counts(sort=False).items() if n}


def _short(labels: Iterable[str]) -> list[str]:
    """Return names of which all labels are numbered forms: ``["NTC"]`` for ``["NTC_1", "NTC_2"]``."""
    names: list[str] = []
    for label in sorted(labels, key=len):
        if is_named(label, names):
            continue
        stem = re.sub(r"[\s_.\-]*\d+$", "", label)
        names.append(stem if stem != label and is_named(label, [stem]) and not doubtful(stem) else label)
    return names


def _as_list(names: list[str]) -> str:
    return repr(names[0]) if len(names) == 1 else repr(names)


def _or(names: tuple[str, ...]) -> str:
    return " or ".join(map(repr, names)) or "as a control (control=[] names none)"


def perturbed_genes(perturbations: Iterable[Perturbation]) -> list[str]:
    """Return all genes that occur, sorted."""
    return sorted({gene for genes in perturbations for gene in genes})


def encode(perturbations: Sequence[Perturbation], nodes: Sequence[str]) -> sparse.csr_matrix:
    """Return the float32 multi-hot matrix (n_perturbations, n_nodes) of perturbations; see :func:`check_known`."""
    check_known(perturbations, nodes)
    column = {gene: i for i, gene in enumerate(nodes)}
    sizes = np.fromiter((len(genes) for genes in perturbations), dtype=np.int64, count=len(perturbations))
    indices = np.fromiter(
        (column[gene] for genes in perturbations for gene in genes), dtype=np.int32, count=sizes.sum()
    )
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    data = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(perturbations), len(nodes)))


def check_known(perturbations: Iterable[Perturbation], nodes: Sequence[str]) -> None:
    """Raise an error if a perturbed gene is not a node, with its near matches and the call that adds it."""
    known = set(nodes)
    unknown = [gene for gene in perturbed_genes(perturbations) if gene not in known]
    if not unknown:
        return
    described = []
    for gene in unknown[:5]:
        # If another separator splits the name into known genes, suggest the same label with the usual separator.
        cut = ([part.strip() for part in gene.split(join)] for join in JOINS)
        rejoined = [SEPARATOR.join(parts) for parts in cut if len(parts) > 1 and known.issuperset(parts)][:1]
        like = [*rejoined, *near_matches(gene, nodes)][:3]
        described.append(f"{gene!r}" + (f" (did you mean {' or '.join(map(repr, like))}?)" if like else ""))
    raise ValueError(
        f"{len(unknown)} perturbed gene(s) are not among the {len(known)} genes: {shorten([*described, *unknown[5:]])}. "
        "Correct the names, or add the genes with `adata = scapp.pp.add_unmeasured_genes(adata, genes=[...])` "
        "before the network is added and the model is set up."
    )


def near_matches(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """Return up to `n` choices that differ from `name` by case or by a few letters, the nearest first."""
    choices = list(choices)
    same_but_case = [choice for choice in choices if choice.lower() == name.lower()]
    similar = difflib.get_close_matches(name, choices, n=n, cutoff=0.75)
    return list(dict.fromkeys([*same_but_case, *similar]))[:n]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return a question for the end of a message, such as ``" Did you mean 'KLF1'?"``; "" if nothing is similar."""
    like = near_matches(name, choices)
    return f" Did you mean {' or '.join(map(repr, like))}?" if like else ""


def read_perturbations(
    adata: AnnData, *, perturbation_key: str, control: Control, sep: str = SEPARATOR, effects_allowed: bool = True
) -> list[Perturbation]:
    """Return the perturbed genes of each cell, or of each row of effects, in alphabetical order; empty for a control.

    `control` is None if there are none. With `effects_allowed`, a table of effects (every observation a different
    perturbation, and none a control) is accepted even if `control` is given.

    Raises
    ------
    ValueError
        If the column is missing, an observation has no label, a label cannot be read or would be misread, none is
        labelled `control`, or other labels are common control names.
    TypeError
        If `adata` is not an AnnData.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(f"Expected an AnnData, found {type(adata).__name__}.")
    perturbation_key, control = label_column(adata, perturbation_key), control_label(adata, control)
    labels = column_of_obs(adata, perturbation_key, "perturbation_key")
    counts = count_labels(labels)
    check_labels(counts, adata.var_names, control=control, sep=sep, key=perturbation_key)
    perturbations = parse_labels(labels, control=control, sep=sep, genes=adata.var_names)
    if control is None:
        doubted = {label: n for label, n in counts.items() if recognised(label) and doubtful(label)}
        if doubted:
            warn_user(
                f"{show_counts(doubted)} is taken as a perturbed gene, although controls often have this name. If it is a control, "
                "leave it out of the effects."
            )
    elif not (effects_allowed and is_effects(perturbations)):
        check_control(labels, control, sep=sep, genes=adata.var_names)
    return perturbations


def is_effects(perturbations: list[Perturbation]) -> bool:
    """Return whether these are the rows of a table of effects, with each perturbation once and no control."""
    distinct = set(perturbations)
    return len(distinct) == len(perturbations) and () not in distinct


def column_of_obs(adata: AnnData, key: str, argument: str) -> pd.Series:
    """Return a column of ``adata.obs`` without missing values; errors name the argument and the existing columns."""
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
    if argument not in ("batch_key", "context_key"):  # labels have their own check
        return column
    written = [value for value in column.astype(str).unique() if is_missing_value(value)]
    if written:
        raise ValueError(
            f"{int(column.astype(str).isin(written).sum())} of the {adata.n_obs} observations have a missing value as text in adata.obs[{key!r}] ({argument}): "
            f"{shorten(map(repr, written))}. Name it otherwise, or leave these observations out with "
            f"`adata = adata[~adata.obs[{key!r}].isin({written!r})].copy()`."
        )
    return column
