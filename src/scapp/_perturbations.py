"""The grammar of perturbation labels: ``"KLF1"``, ``"CEBPA+KLF1"``, ``"KLF1+ctrl"``.

A label names the perturbed genes, joined by a separator, in any order. Tokens are compared whole, never
as substrings, and the control token is dropped, so that ``"KLF1+ctrl"``, ``"ctrl+KLF1"`` and ``"KLF1"`` are
one perturbation. The canonical form is the tuple of its genes in alphabetical order.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

SEPARATOR = "+"
CONTROL_ALIASES = frozenset(
    {
        "ctrl",
        "control",
        "non-targeting",
        "non_targeting",
        "nontargeting",
        "nt",
        "neg",
        "negative",
        "safe-targeting",
        "safe_targeting",
        "unperturbed",
        "mock",
        "vehicle",
        "dmso",
    }
)

Perturbation = tuple[str, ...]


def is_control(token: str, control: str | None = None) -> bool:
    """Whether one token of a label stands for "no perturbation", by name or by a usual alias."""
    return token == control or token.lower() in CONTROL_ALIASES


def parse_label(label: str, *, control: str | None = "control", sep: str = SEPARATOR) -> Perturbation:
    """Read one label.

    Parameters
    ----------
    label
        For example ``"KLF1"``, ``"KLF1+CEBPA"``, ``"ctrl+KLF1"`` or the control label itself.
    control
        The label of control cells; its usual aliases inside a combination are understood as well.
    sep
        What joins the genes of a combination.

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
    if label == control:
        return ()
    tokens = [token.strip() for token in label.split(sep)]
    if not all(tokens):
        raise ValueError(
            f"The perturbation label {label!r} has an empty part: genes are joined by {sep!r}, as in 'KLF1{sep}CEBPA'. "
            "Correct the label, or pass the separator that these labels use."
        )
    genes = _drop_control(tokens, control, sep)
    if len(set(genes)) < len(genes):
        twice = sorted({gene for gene in genes if genes.count(gene) > 1})
        raise ValueError(f"The perturbation label {label!r} names {', '.join(twice)} more than once.")
    return tuple(sorted(genes))


def _drop_control(tokens: list[str], control: str | None, sep: str) -> list[str]:
    # A control may hold the separator itself, as "non_targeting" does where genes are joined by "_": then it is several
    # tokens in a row, and must not be read as the genes "non" and "targeting".
    longest = 1 + max(name.count(sep) for name in (*CONTROL_ALIASES, control or ""))
    genes: list[str] = []
    rest = tokens
    while rest:
        lengths = range(min(longest, len(rest)), 0, -1)
        dropped = next((n for n in lengths if is_control(sep.join(rest[:n]), control)), 0)
        if not dropped:
            genes.append(rest[0])
        rest = rest[dropped or 1 :]
    return genes


def parse_labels(labels: Iterable[str], *, control: str | None = "control", sep: str = SEPARATOR) -> list[Perturbation]:
    """Read many labels (each distinct one once); see :func:`parse_label`."""
    labels = list(labels)
    distinct = {
        label: parse_label(label, control=control, sep=sep) for label in pd.unique(pd.Series(labels, dtype=object))
    }
    return [distinct[label] for label in labels]


def format_label(genes: Iterable[str], *, sep: str = SEPARATOR) -> str:
    """The canonical label of some genes: alphabetical, joined by `sep`."""
    return sep.join(sorted(genes))


def check_control(labels: Iterable[str], control: str) -> None:
    """Raise a helpful error if no label is the control.

    Raises
    ------
    ValueError
        Naming the control aliases that do occur, or else the labels that look most like `control`.
    """
    distinct = [str(label) for label in pd.unique(pd.Series(list(labels), dtype=object))]
    if control in distinct:
        return
    found = [label for label in distinct if is_control(label)]
    if found:
        mend = f"These labels look like controls: {', '.join(map(repr, found))}. Pass control={found[0]!r}."
    else:
        like = near_matches(control, distinct)
        hint = f" Similar labels: {', '.join(map(repr, like))}." if like else ""
        first = ", ".join(map(repr, distinct[:5]))
        mend = (
            f"The labels are {first}{', …' if len(distinct) > 5 else ''}.{hint} Name the control label with control=…, "
            "or, if the observations are log-fold-changes already, pass control=None."
        )
    raise ValueError(f"No observation is labelled {control!r}, the control. {mend}")


def perturbed_genes(perturbations: Iterable[Perturbation]) -> list[str]:
    """All genes that occur, sorted."""
    return sorted({gene for genes in perturbations for gene in genes})


def encode(perturbations: Sequence[Perturbation], nodes: Sequence[str]) -> sparse.csr_matrix:
    """Multi-hot matrix of perturbations over genes.

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
    """Up to `n` choices that differ from `name` by case or by a few letters, the nearest first."""
    choices = list(choices)
    same_but_case = [choice for choice in choices if choice.lower() == name.lower()]
    similar = difflib.get_close_matches(name, choices, n=n, cutoff=0.75)
    return list(dict.fromkeys([*same_but_case, *similar]))[:n]
