"""Perturbation labels: their grammar (``"KLF1"``, ``"CEBPA+KLF1"``, ``"KLF1+ctrl"``), and reading them from ``adata.obs``.

A label names the perturbed genes in any order, joined by a separator. Tokens are compared whole, never as substrings,
and the control token is dropped, so ``"KLF1+ctrl"``, ``"ctrl+KLF1"`` and ``"KLF1"`` are the same perturbation. The
canonical form is the tuple of its genes in alphabetical order.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scapp._controls import (
    Control,
    doubtful,
    is_control,
    is_control_of_parts,
    is_named,
    looks_like_control,
    missing_kind,
    named_controls,
    recognised,
)
from scapp._effects import control_label, label_column
from scapp._genes import shorten
from scapp._warn import warn_user

logger = logging.getLogger(__name__)

SEPARATOR = "+"
# Number of successive tokens to examine together, because a control name may contain the separator
# ("non_targeting_00012_sg1").
LONGEST_CONTROL = 5
Perturbation = tuple[str, ...]
# Separators that other tools use between the genes of a combination. The first ones occur in no symbol.
JOINS = ("+", "|", ";", ",", "&", " and ", "/", ":", "__", "_", "-", " ")
WEAK_JOINS = ("-", " ")
# Any other separator: one or more signs, words, and white space other than blanks.
OTHER_JOIN = re.compile(r"\s*[^\w\s]+\s*|_{2,}|[\s_]+(?:and|x|plus|with)[\s_]+|[\t\r\n]+", re.IGNORECASE)
# A list or tuple that was converted to text: "['KLF1']".
LIST_AS_TEXT = re.compile(r"[\[(]\s*['\"].*['\"]\s*,?\s*[\])]")
# Affixes of labels that say how the gene was perturbed: "KLF1_KO", "CRISPRi_KLF1", "siKLF1".
DECORATED = re.compile(
    r"(?:(?:sg|sh|si)[\s_.:\-]*|(?:crispr[ia]?|ko|kd|oe|\d+)[\s_.:\-]+)?(?P<gene>.+?)"
    r"(?:[\s_.:\-(]+(?:ko|kd|oe|ki|crispr[iako]?|knock_?(?:out|down)|null|mut|het|hom|rep|[ia])?\d*|[-+]/-|(?:sg|g|p1p|p)\d+)?\)?",
    re.IGNORECASE,
)
# The name of a guide: a gene followed by a number, a letter, a transcript or a spacer.
GUIDE = re.compile(
    r"(?:(?-i:sgRNA|gRNA|sg|g|sh)|(?:sgrna|grna|sg|g|sh)[_.\- ])?[_.\- ]?(?P<gene>.+?)(?:[_.\-# (]+(?:sg|sgrna|grna|guide|g|i|sh|MP)?[_.\-#]?"
    r"(?:\d+|[A-Za-z]|P1P2|P1|P2|MP[A-Z]|[ACGT]{10,})\)?)+",
    re.IGNORECASE,
)
# Condition names of GEARS: cell line, genes, and number of genes.
GEARS_CONDITION = re.compile(r"[^_]+_.+_1(?:\+1)+|[^_]+_ctrl_1")
# Guide names in the libraries of the Weissman lab: gene, strand, position and transcript.
GUIDE_WITH_STRAND = re.compile(r".+_[+-]_\d+\.\d+.*")


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
    kept = _drop_control(tokens, control, sep, genes if control is None else ())
    if len(set(kept)) < len(kept):
        twice = sorted({gene for gene in kept if kept.count(gene) > 1})
        raise ValueError(f"The perturbation label {label!r} names {', '.join(twice)} more than once.")
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


def _drop_control(tokens: list[str], control: Control, sep: str, known: Collection[str]) -> list[str]:
    """Return the tokens without controls, whose names may span several tokens."""
    named = named_controls(control)
    longest = max(LONGEST_CONTROL, *(1 + name.count(sep) for name in named or ("",)))
    genes: list[str] = []
    rest = tokens
    while rest:
        dropped = 0
        for n in range(0 if rest[0] in known else min(longest, len(rest)), 0, -1):
            name = sep.join(rest[:n])
            may_be = name not in known and (n == 1 or name in named or is_control_of_parts(name))
            if may_be and is_control(name, control):
                dropped = n
                break
        if not dropped:
            genes.append(rest[0])
        rest = rest[dropped or 1 :]
    return genes


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
    absent = [
        name
        for name in names
        if not any(is_named(token, [name]) for label in found for token in (label, *label.split(sep)))
    ]
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


def count_labels(labels: Iterable[str]) -> dict[str, int]:
    """Return the number of observations with each label, in the order of first occurrence."""
    series = labels if isinstance(labels, pd.Series) else pd.Series(list(labels), dtype=object)
    return {str(label): int(n) for label, n in series.value_counts(sort=False).items() if n}


def show_counts(counts: Mapping[str, int], n: int = 5) -> str:
    """Return names with their counts for a message, the most frequent first."""
    return shorten([f"{name!r} ({counts[name]:,})" for name in sorted(counts, key=lambda name: -counts[name])], n)


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
    counts, known, names = count_labels(labels), set(adata.var_names), named_controls(control)
    _check_missing({label: n for label, n in counts.items() if label not in names}, known, perturbation_key, sep)
    if sep:  # else `parse_labels` raises
        tokens = _unknown_parts(counts, known, control, sep)
        _check_guides(counts, tokens, perturbation_key, sep)
        _check_separator(tokens, known, control, sep)
        _warn_of_guides(tokens, known, perturbation_key)
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


def check_separator(counts: Mapping[str, int], genes: Iterable[str], *, control: Control, sep: str) -> None:
    """Raise if another separator than `sep` splits labels, given with their counts, into known genes.

    Only warns if the separator occurs in gene symbols too.
    """
    known = set(genes)
    _check_separator(_unknown_parts(counts, known, control, sep), known, control, sep)


def _unknown_parts(counts: Mapping[str, int], known: set[str], control: Control, sep: str) -> dict[str, int]:
    """Return the parts of labels that are neither known genes nor controls, with their counts."""
    tokens: dict[str, int] = {}
    for label, n in counts.items():
        for token in map(str.strip, label.split(sep)):
            if token and token not in known and not is_control(token, control) and not is_control(label, control):
                tokens[token] = tokens.get(token, 0) + n
    return tokens


def _check_missing(counts: Mapping[str, int], known: set[str], key: str, sep: str) -> None:
    missing = {}
    for label, n in counts.items():
        parts = map(str.strip, label.split(sep)) if sep else ()
        if any(missing_kind(part) for part in (label, *filter(None, parts)) if part not in known):
            missing[label] = n
    if missing:
        raise ValueError(
            f"{sum(missing.values()):,} observations have no known perturbation in adata.obs[{key!r}]: {show_counts(missing)}. "
            f"Leave them out with `adata = adata[~adata.obs[{key!r}].isin({list(missing)[:3]!r})].copy()`"
            + (", and the others likewise." if len(missing) > 3 else ".")
        )


def _check_guides(counts: Mapping[str, int], tokens: Mapping[str, int], key: str, sep: str) -> None:
    """Raise if the separator splits the names of guides or conditions."""
    condition = [label for label in counts if "+" in label and GEARS_CONDITION.fullmatch(label)]
    if condition:
        raise ValueError(
            f"Labels such as {shorten(map(repr, condition), 2)} also contain the cell line and the number of genes, as in "
            f"'condition_name' of GEARS. Pass perturbation_key='condition', or remove these parts from adata.obs[{key!r}]."
        )
    stranded = [label for label in counts if GUIDE_WITH_STRAND.fullmatch(label)]
    numbers = {token for token in tokens if token.isdecimal()}
    if stranded or (numbers and len(numbers) < len(tokens)):
        of = stranded or [label for label in counts if not numbers.isdisjoint(map(str.strip, label.split(sep)))]
        raise ValueError(
            f"Labels such as {shorten(map(repr, of), 2)} seem to be names of guides, which sep={sep!r} splits: "
            f"{'strands' if stranded else 'numbers'} are not genes. Label the cells with `scapp.pp.guides_to_perturbations(adata, "
            f"calls_key={key!r}, targets=r'([^_]+)_.+', key_added='target')`, and pass perturbation_key='target'."
        )


def _check_separator(tokens: Mapping[str, int], known: set[str], control: Control, sep: str) -> None:
    """Raise if another separator splits labels into known genes."""
    alone = {token for token in tokens if not any(join in token for join in JOINS[:-3])}
    for join in JOINS:
        if join == sep:
            continue
        genes = known if join in WEAK_JOINS else known | alone
        joined = {}
        for token, n in tokens.items():
            parts = [part.strip() for part in token.split(join)]
            controls = [recognised(part) or is_control(part, control) for part in parts]
            known_parts = all(part in genes or one for part, one in zip(parts, controls, strict=True))
            if len(parts) > 1 and all(parts) and known_parts and not all(controls):
                joined[token] = n
        if joined:
            _refuse_join(joined, join, sep)
    written = {token: n for token, n in tokens.items() if LIST_AS_TEXT.fullmatch(token)}
    if written:
        raise ValueError(
            f"{len(written)} labels are lists written as text: {show_counts(written)}. Join the genes of each by {sep!r}, as with "
            f'`adata.obs[key] = adata.obs[key].astype(str).str.findall(r"[^\\[\\]()\',\\s]+").str.join({sep!r})`.'
        )
    known = known | alone
    by_join: dict[str, dict[str, int]] = {}
    for token, n in tokens.items():
        other = OTHER_JOIN.search(token)
        if other is not None and other[0].strip() not in JOINS:
            parts = [part.strip() for part in OTHER_JOIN.split(token)]
            if all(part and (part in known or recognised(part)) for part in parts):
                by_join.setdefault(other[0], {})[token] = n
    for join, joined in by_join.items():
        if any(part in known for token in joined for part in token.split(join)):
            _refuse_join(joined, join, sep)


def _refuse_join(joined: Mapping[str, int], join: str, sep: str) -> None:
    """Raise, or only warn if the separator also occurs in symbols."""
    message = (
        f"{len(joined)} labels are read as one gene each, but {join!r} splits them into known genes: {show_counts(joined)}. "
        f"Pass sep={join!r} if it joins the genes of a combination here (found sep={sep!r}); if labels have several "
        f"separators, unify them first, for example with `labels.str.replace({join!r}, {sep!r}, regex=False)`."
    )
    if join not in WEAK_JOINS:
        raise ValueError(message)
    warn_user(message)  # in symbols too, such as those of genes that are read through


def _warn_of_guides(tokens: Mapping[str, int], known: set[str], key: str) -> None:
    """Warn of labels that match a known gene except for a guide number, the case or the kind of perturbation."""
    genes: dict[str, list[str]] = {}
    by_case = {gene.lower(): gene for gene in known}
    others: dict[str, str] = {}
    for token in tokens:
        match = None if token.startswith("ENS") else GUIDE.fullmatch(token)  # ids have versions
        if match is not None:
            genes.setdefault(match["gene"], []).append(token)
        elif (bare := re.sub(r"^(?:sg|gRNA|sgRNA)[_.\- ]?", "", token)) != token and bare in known:
            genes.setdefault(bare, []).append(token)
        decorated = DECORATED.fullmatch(token)
        of = by_case.get(token.lower()) or (decorated and by_case.get(decorated["gene"].lower()))
        if of:
            others[token] = of
    guides = {
        token: tokens[token]
        for gene, of in genes.items()
        for token in of
        if gene in known or gene in tokens or (len(of) > 1 and all("_" in token for token in of))
    }
    if guides:
        example = next(iter(guides))
        prefix = "sg" if re.match(r"sg[A-Z]", example) else ""
        pattern = f"r'{prefix}([^_]+)_.+'" if "_" in example else f"r'{prefix}(.+?)[.\\-# ]?\\d*'"
        warn_user(
            f"{len(guides)} labels look like names of guides, each of which is read as a separate perturbation: "
            f"{show_counts(guides)}. To join the guides of a gene, label the cells with "
            f"`scapp.pp.guides_to_perturbations(adata, calls_key={key!r}, targets={pattern}, key_added='target')`."
        )
    others = {token: gene for token, gene in others.items() if token not in guides}
    if others:
        shown = shorten([f"{token!r} for {gene!r}" for token, gene in others.items()], 5)
        warn_user(
            f"{len(others)} labels are not genes of adata, but seem to mean some of them: {shown}. If so, write the names of the genes alone into "
            f"adata.obs[{key!r}], for example with `adata.obs[{key!r}].replace({dict(list(others.items())[:2])!r})`."
        )


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
    return column
