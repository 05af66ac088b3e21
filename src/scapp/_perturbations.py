"""The grammar of perturbation labels: ``"KLF1"``, ``"CEBPA+KLF1"``, ``"KLF1+ctrl"``.

A label names the perturbed genes, joined by a separator, in any order. Tokens are compared whole, never
as substrings, and the control token is dropped, so that ``"KLF1+ctrl"``, ``"ctrl+KLF1"`` and ``"KLF1"`` are
one perturbation. The canonical form is the tuple of its genes in alphabetical order.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._controls import (
    Control,
    doubtful,
    is_control,
    is_control_of_parts,
    is_named,
    looks_like_control,
    named_controls,
    recognised,
)
from scapp._warn import warn_user

logger = logging.getLogger(__name__)

SEPARATOR = "+"
# A control may hold the separator itself, as in "non_targeting_00012_sg1": so many tokens in a row are looked at together.
LONGEST_CONTROL = 5
Perturbation = tuple[str, ...]


def parse_label(
    label: str, *, control: Control = "control", sep: str = SEPARATOR, genes: Collection[str] = ()
) -> Perturbation:
    """Read one label.

    Parameters
    ----------
    label
        For example ``"KLF1"``, ``"KLF1+CEBPA"``, ``"ctrl+KLF1"`` or the control label itself.
    control
        The label of control cells; the usual names of controls are understood as well. A list names several, and then
        no others are controls. None: no cells are, but the usual names inside a combination are dropped.
    sep
        What joins the genes of a combination.
    genes
        Names of genes, which stay genes where `control` is None, even if controls are often called so.

    Returns
    -------
    The perturbed genes in alphabetical order; empty for a control.

    Raises
    ------
    ValueError
        If the label is missing, has an empty part, or names a gene twice.
    """
    if not sep:
        raise ValueError("The separator of the genes in a label must not be empty; the usual one is '+'.")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"A perturbation label must be a non-empty string, found {label!r}.")
    if label in named_controls(control):
        return ()
    tokens = [token.strip() for token in label.split(sep)]
    if not all(tokens):
        raise ValueError(
            f"The perturbation label {label!r} has an empty part: genes are joined by {sep!r}, as in 'KLF1{sep}CEBPA'. "
            "Correct the label, or pass the separator that these labels use."
        )
    kept = _drop_control(tokens, control, sep, genes if control is None else ())
    if len(set(kept)) < len(kept):
        twice = sorted({gene for gene in kept if kept.count(gene) > 1})
        raise ValueError(f"The perturbation label {label!r} names {', '.join(twice)} more than once.")
    return tuple(sorted(kept))


def _drop_control(tokens: list[str], control: Control, sep: str, known: Collection[str]) -> list[str]:
    """Return the tokens without controls, each of which may be several tokens in a row."""
    longest = max(LONGEST_CONTROL, *(1 + name.count(sep) for name in named_controls(control) or ("",)))
    genes: list[str] = []
    rest = tokens
    while rest:
        lengths = range(min(longest, len(rest)), 0, -1)
        dropped = next(
            (n for n in lengths if sep.join(rest[:n]) not in known and _is_control(rest[:n], control, sep)), 0
        )
        dropped = 0 if rest[0] in known else dropped
        if not dropped:
            genes.append(rest[0])
        rest = rest[dropped or 1 :]
    return genes


def _is_control(tokens: list[str], control: Control, sep: str) -> bool:
    name = sep.join(tokens)
    if len(tokens) > 1 and name not in named_controls(control) and not is_control_of_parts(name):
        return False
    return is_control(name, control)


def parse_labels(
    labels: Iterable[str], *, control: Control = "control", sep: str = SEPARATOR, genes: Iterable[str] = ()
) -> list[Perturbation]:
    """Read many labels (each distinct one once); see :func:`parse_label`."""
    labels, known = list(labels), frozenset(genes)
    distinct = {
        label: parse_label(label, control=control, sep=sep, genes=known)
        for label in pd.unique(pd.Series(labels, dtype=object))
    }
    return [distinct[label] for label in labels]


def format_label(genes: Iterable[str], *, sep: str = SEPARATOR) -> str:
    """Return the canonical label of some genes: alphabetical, joined by `sep`."""
    return sep.join(sorted(genes))


def check_control(labels: Iterable[str], control: Control, *, sep: str = SEPARATOR, genes: Iterable[str] = ()) -> None:
    """Raise unless some labels are the named control, and no others could be meant as well.

    Names that are taken as controls beside those that were named (``"NTC_1"`` where ``"NTC"`` was) are logged with
    their counts; a warning names labels that resemble controls and are taken as genes.

    Parameters
    ----------
    labels
        One for each cell, not missing.
    control
        As in :func:`parse_label`; not None.
    sep
        What joins the genes of a combination.
    genes
        Names of genes, to ask where a part of a combination may be a gene or a control.

    Raises
    ------
    ValueError
        Naming the usual controls that do occur, with their counts, or else the labels that look most like `control`.
    """
    counts = count_labels(labels)
    names = named_controls(control)
    found, others, kept = _sort_controls(counts, control, sep)
    complete = not isinstance(control, str)  # a list names all controls
    if not found:
        raise ValueError(
            f"No observation is labelled {_or(names)}, the control. {_mend_control(counts, others | kept, names)}"
        )
    if others and not complete:
        raise ValueError(
            f"Beside {sum(found.values()):,} observations labelled {_or(names)}, {sum(others.values()):,} have names that "
            f"controls usually have: {show_counts(others)}. Take them as controls with "
            f"control={_as_list([*names, *_short(others)])}, take them as genes with control={list(names)!r}, or leave them out."
        )
    unsaid = {name: n for name, n in found.items() if name not in names}
    if unsaid:
        logger.info("Taken as controls: %s.", show_counts(found, 12))
    if complete:
        kept = kept | others
    if kept:
        warn_user(
            f"{sum(kept.values()):,} observations are taken as perturbed, although their labels look like those of controls: "
            f"{show_counts(kept)}. If they are controls, name them with control=[{', '.join(map(repr, names))}, …]."
        )
    known = set(genes)
    dropped = {
        token.strip(): 0
        for label in counts
        if sep in label
        for token in label.split(sep)
        if not complete and token.strip() in known and doubtful(token.strip()) and token.strip() not in names
    }
    if dropped:
        warn_user(
            f"{', '.join(map(repr, dropped))} in combinations was dropped as the name of a control, but is a gene of adata as "
            f"well. If the gene is meant, pass control={list(names)!r}."
        )


def count_labels(labels: Iterable[str]) -> dict[str, int]:
    """Return how many observations have each label, in the order in which they occur first."""
    series = labels if isinstance(labels, pd.Series) else pd.Series(list(labels), dtype=object)
    return {str(label): int(n) for label, n in series.value_counts(sort=False).items() if n}


def show_counts(counts: Mapping[str, int], n: int = 5) -> str:
    """Return names with their counts for a message, the most frequent first."""
    first = sorted(counts, key=lambda name: -counts[name])
    more = f" and {len(first) - n} more" if len(first) > n else ""
    return ", ".join(f"{name!r} ({counts[name]:,})" for name in first[:n]) + more


def _sort_controls(
    counts: Mapping[str, int], control: Control, sep: str
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Return the labels that are named controls, those with other usual names of controls, and those that resemble them."""
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
    return found, others, kept


def _mend_control(counts: Mapping[str, int], alike: Mapping[str, int], names: tuple[str, ...]) -> str:
    if alike:
        return f"These labels look like controls: {show_counts(alike)}. Pass control={_as_list(_short(alike))}."
    distinct = list(counts)
    like = near_matches(names[0], distinct) if names else []
    hint = f" Similar labels: {', '.join(map(repr, like))}." if like else ""
    first = ", ".join(map(repr, distinct[:5]))
    return (
        f"The labels are {first}{', …' if len(distinct) > 5 else ''}.{hint} Name the control label with control=…, "
        "or, if the observations are log-fold-changes already, pass control=None."
    )


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
    """Return the multi-hot matrix of perturbations over genes.

    Parameters
    ----------
    perturbations
        Parsed labels.
    nodes
        The genes that stand for the columns.

    Returns
    -------
    float32 matrix of shape (n_perturbations, n_nodes).

    Raises
    ------
    ValueError
        If a gene is not among `nodes`; see :func:`check_known`.
    """
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
    """Raise if a perturbed gene is not a node, naming it, its near matches and the call that adds it."""
    known = set(nodes)
    unknown = [gene for gene in perturbed_genes(perturbations) if gene not in known]
    if not unknown:
        return
    described = []
    for gene in unknown[:5]:
        like = near_matches(gene, nodes)
        described.append(f"{gene!r}" + (f" (did you mean {' or '.join(map(repr, like))}?)" if like else ""))
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    raise ValueError(
        f"{len(unknown)} perturbed gene(s) are not among the {len(known)} genes: {', '.join(described)}{more}. "
        "Correct the names, or add the genes with `adata = scapp.pp.add_unmeasured_genes(adata, genes=[...])` "
        "before the network is added and the model is set up."
    )


def near_matches(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """Return up to `n` choices that differ from `name` by case or by a few letters, the nearest first."""
    choices = list(choices)
    same_but_case = [choice for choice in choices if choice.lower() == name.lower()]
    similar = difflib.get_close_matches(name, choices, n=n, cutoff=0.75)
    return list(dict.fromkeys([*same_but_case, *similar]))[:n]
