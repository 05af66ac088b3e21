"""Checks of labels as a whole: missing ones, other separators, names of guides and conditions, and decorated genes.

They serve cells and tables of effects alike. What would be misread is refused; what may be meant otherwise is warned of.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from scapp._controls import (
    Control,
    is_control,
    is_control_of_parts,
    missing_kind,
    named_controls,
    recognised,
)
from scapp._genes import shorten, show_counts
from scapp._warn import warn_user

# Separators that other tools use between the genes of a combination. The first ones occur in no symbol.
JOINS = ("+", "|", ";", ",", "&", " and ", "/", ":", "__", "_", " ", "-")
IN_NO_SYMBOL = JOINS[:6]
# Genes that are read through have such symbols, so that labels of known genes are no proof.
WEAK_JOIN = "-"
# Any other separator: one or more signs, words, and white space other than blanks.
OTHER_JOIN = re.compile(r"\s*[^\w\s]+\s*|_{2,}|[\s_]+(?:and|x|plus|with)[\s_]+|[\t\r\n]+", re.IGNORECASE)
# A list or tuple that was converted to text: "['KLF1']".
LIST_AS_TEXT = re.compile(r"[\[(]\s*['\"].*['\"]\s*,?\s*[\])]")
# Number of successive tokens to examine together, because a control name may contain the separator
# ("non_targeting_00012_sg1").
LONGEST_CONTROL = 5
LONGEST_LABEL = 200
_SYMBOL = re.compile(r"[A-Za-z][\w.\-]+")
# A promoter or transcript is a target of its own: "SNX29_ENST00000306030.3,ENST00000323433.4".
_TRANSCRIPT = re.compile(r"ENS[A-Z]*T\d+")
# Symbols that hold "-" (or "_" and "." in its place), by their parts: HLA-A, MT-CO1, GATA3-AS1.
_HYPHENATED = re.compile(
    r"(?:HLA|MT|H2|NKX\d|KRTAP\d+|ERV\w+|RP\d+)-\w+|\w+-(?:AS\d?|DT|IT\d|OT\d|(?-i:[A-SU-Z]))", re.IGNORECASE
)

# Words of labels that say how, how much, when or by which guide a gene was perturbed, and are not genes. The first line
# also where the gene is not known.
_HOW = (
    r"ko kd oe crispr(?:[iako]|ko|cut)? d?cas(?:9|1[23]a?) knock[_-]?(?:out|down|in) over[_-]?express\w* "
    r"\d+(?:h|hrs?|hours?|days?) day\d+ low high"
).split()
_ALSO = (
    r"ki null mut(?:ant)? het hom lo hi rep(?:licate)?\d? batch\d* guide\d* (?:sg|g|cr)rna\d* (?-i:sg|sh|si)\d* g\d+ p1p2 p\d "
    r"[dt]\d+ (?:wk|week)s?\d+ \d+(?:\.\d+)?(?:d|wks?|weeks?|min|[unµ]m|x|%)? (?-i:[iapm])"
).split()
_SURE = re.compile("|".join(_HOW), re.IGNORECASE)
_AFFIX = re.compile("|".join([*_HOW, *_ALSO]), re.IGNORECASE)
_WORDS = re.compile(r"(?:[^\w.\-]|[_Δ])+")
_BY_DASH = re.compile(  # without numbers, which stand in names: IGHV1-69-2
    rf"[-.]({_SURE.pattern})(?=[-.])|[-.]((?!\d+$)(?:{_AFFIX.pattern}))$|^((?!\d+[-.])(?:{_AFFIX.pattern}))[-.]",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^(?:sgRNA|gRNA|sg|sh|si|g)[.\-]?(?=[A-Z])")
_SUFFIX = re.compile(r"(?<=[A-Z\d])(?:s?g\d+|s?gRNA\d*|p1p2|[ia]|KO|KD)$")
# The name of a guide: a gene followed by a number, a letter, a transcript or a spacer.
GUIDE = re.compile(
    r"(?:(?-i:sgRNA|gRNA|sg|g|sh)|(?:sgrna|grna|sg|g|sh)[_.\- ])?[_.\- ]?(?P<gene>.+?)(?:[_.\-# (]+(?:sg|sgrna|grna|guide|g|i|sh|MP)?[_.\-#]?"
    r"(?:\d+|[A-Za-z]|P1P2|P1|P2|MP[A-Z]|[ACGT]{10,})\)?)+",
    re.IGNORECASE,
)
_OF_GUIDE = re.compile(r"(?:^|[\W_])sg(?:RNA)?[_\-]?(?=[A-Z])")
# Condition names of GEARS: cell line, genes, and number of genes.
GEARS_CONDITION = re.compile(r"[^_]+_.+_1(?:\+1)+|[^_]+_ctrl_1")
# Guide names in the libraries of the Weissman lab: gene, strand, position and transcript.
GUIDE_WITH_STRAND = re.compile(r".+_[+-]_\d+\.\d+.*")


def check_labels(
    counts: Mapping[str, int], genes: Iterable[str], *, control: Control, sep: str, key: str | None = None
) -> None:
    """Raise if labels, given with their counts, would be misread; warn if they may mean known `genes` otherwise.

    `key` is their column in ``adata.obs``, None for those of a table of effects.
    """
    known, names = set(genes), named_controls(control)
    _check_missing({label: n for label, n in counts.items() if label not in names}, known, key, sep)
    if not sep:  # `parse_label` raises
        return
    counts = {label: n for label, n in counts.items() if label not in names and not is_control(label, control)}
    tokens: dict[str, int] = {}
    for label, n in counts.items():
        for token in map(str.strip, label.split(sep)):
            if token and token not in known and not is_control(token, control):
                tokens[token] = tokens.get(token, 0) + n
    _check_cut(counts, known, key, sep)
    _check_guides(counts, known, control, key, sep)
    check_separator(tokens, known, control, sep)
    _warn_of_decorated(tokens, known, key, sep)


def check_separators(counts: Mapping[str, int], genes: Iterable[str], sep: str, what: str) -> None:
    """Raise if `sep` cuts names, given with their counts, within a known gene, or if another separator joins genes."""
    known = set(genes)
    parts = Counter({part.strip(): n for name, n in counts.items() for part in name.split(sep)})
    _check_cut(counts, known, None, sep, what)
    check_separator({part: n for part, n in parts.items() if part and part not in known}, known, None, sep, what)


def _labels_in(key: str | None) -> str:
    return "labels" if key is None else f"adata.obs[{key!r}]"


def _check_missing(counts: Mapping[str, int], known: set[str], key: str | None, sep: str) -> None:
    missing, floats = {}, {}
    for label, n in counts.items():
        parts = map(str.strip, label.split(sep)) if sep else ()
        if any(missing_kind(part) for part in (label, *filter(None, parts)) if part not in known):
            missing[label] = n
        elif re.fullmatch(r"\d{2,}\.0", label.strip()):
            floats[label] = n
    if missing and key is None:
        raise ValueError(
            f"{sum(missing.values()):,} rows have no known perturbation: {show_counts(missing)}. Leave them out, for example with "
            "`table = table[table['perturbation'].notna()]`."
        )
    if missing:
        raise ValueError(
            f"{sum(missing.values()):,} observations have no known perturbation in adata.obs[{key!r}]: {show_counts(missing)}. "
            f"Leave them out with `adata = adata[~adata.obs[{key!r}].isin({list(missing)[:3]!r})].copy()`"
            + (", and the others likewise." if len(missing) > 3 else ".")
        )
    if floats:
        raise ValueError(
            f"{len(floats)} labels are ids that were read as numbers: {show_counts(floats)}. Restore them with "
            rf"`{_labels_in(key)}.astype(str).str.replace(r'\.0$', '', regex=True)`."
        )


def _check_cut(counts: Mapping[str, int], known: set[str], key: str | None, sep: str, what: str = "labels") -> None:
    """Raise if the separator cuts the name of a gene, such as HLA-A."""
    cut: dict[str, int] = {}
    for label, n in counts.items():
        parts = [part.strip() for part in label.split(sep)]
        runs = [
            parts[begin : begin + size]
            for size in range(2, min(len(parts), LONGEST_CONTROL) + 1)
            for begin in range(len(parts) - size + 1)
        ]
        in_a_name = sep in "-_." and any(
            not known.issuperset(run) and _HYPHENATED.fullmatch("-".join(run)) for run in runs if len(run) == 2
        )
        if in_a_name or any(
            sep.join(run) in known and (len(run) == len(parts) or not known.issuperset(run)) for run in runs
        ):
            cut[label] = n
    if not cut:
        return
    mend = "Rename these genes, in all tables."
    if sep != "+":
        others = {label: label.replace(sep, "+") for label in counts if sep in label and label not in cut}
        some = dict(list(others.items())[:1]) or {f"KLF1{sep}GATA1": "KLF1+GATA1"}
        mend = (
            "Keep such names whole, join the genes of combinations by '+', as with "
            f"`{_labels_in(key) if key else what}.replace({some!r})`, and leave sep=… out."
        )
    raise ValueError(f"sep={sep!r} cuts {len(cut)} {what} within the name of a gene: {show_counts(cut)}. {mend}")


def _check_guides(counts: Mapping[str, int], known: set[str], control: Control, key: str | None, sep: str) -> None:
    """Raise if the separator splits the names of guides or conditions."""
    condition = [label for label in counts if "+" in label and GEARS_CONDITION.fullmatch(label)]
    if condition:
        raise ValueError(
            f"Labels such as {shorten(map(repr, condition), 2)} also contain the cell line and the number of genes, as in "
            f"'condition_name' of GEARS. Pass perturbation_key='condition', or remove these parts from {_labels_in(key)}."
        )
    twice = [label for label in counts if re.fullmatch(r"(.+_.+)__\1", label)]
    if twice:
        raise ValueError(
            f"Labels such as {shorten(map(repr, twice), 2)} name the guides of a pair twice. "
            + _label_by_guides(r"(.+)__.+", key, ", sep='_', max_genes=2")
        )
    stranded = [label for label in counts if GUIDE_WITH_STRAND.fullmatch(label)]
    split: dict[str, list[str]] = {}  # with the words of each that are not genes
    for label in counts:
        parts = [part.strip() for part in label.split(sep)]
        kept = without_control(parts, control, sep, known if control is None else ()) if len(parts) > 1 else []
        affixes = [part for part in kept if part not in known and _AFFIX.fullmatch(part)]
        if 0 < len(affixes) < len(kept):
            split[label] = affixes
    if stranded or split:
        of = stranded or split
        words = dict.fromkeys(word for affixes in split.values() for word in affixes)
        join = "_" if stranded else sep
        gene, rest = f"([^{re.escape(join)}]+)", f"{re.escape(join)}.+"
        first = next(iter(of)).split(join)[0].strip()
        pattern = f".+{re.escape(join)}{gene}" if first in words else gene + rest
        what = "strands" if stranded else "numbers" if all(map(str.isdecimal, words)) else shorten(map(repr, words), 3)
        raise ValueError(
            f"Labels such as {shorten(map(repr, of), 2)} seem to be names of guides or conditions, which sep={sep!r} splits: "
            f"{what} are not genes. " + _label_by_guides(pattern, key)
        )


def _label_by_guides(pattern: str, key: str | None, options: str = "") -> str:
    if key is None:
        return (
            f"Name the genes alone, as with `labels.str.extract(r'{pattern}')[0]`; effects of several guides of a gene are to be computed "
            "together, from the cells."
        )
    return (
        f"Label the cells with `scapp.pp.guides_to_perturbations(adata, calls_key={key!r}, targets=r'{pattern}'{options}, "
        "key_added='target')`, and pass perturbation_key='target'."
    )


def check_separator(
    tokens: Mapping[str, int], known: set[str], control: Control, sep: str, what: str = "labels"
) -> None:
    """Raise if another separator than `sep` splits tokens of labels, given with their counts, into genes.

    Only warns if the separator occurs in gene symbols too.
    """
    alone = {token for token in tokens if not any(join in token for join in JOINS[:-3])}
    for join in JOINS:
        if join == sep:
            continue
        joined = {}
        for token, n in tokens.items():
            parts = [part.strip() for part in token.split(join)]
            if len(parts) < 2 or not all(parts):
                continue
            controls = [recognised(part) or is_control(part, control) for part in parts]
            genes = known if join in (WEAK_JOIN, " ") else known | alone
            rest = [part for part, one in zip(parts, controls, strict=True) if not one]
            known_parts = genes.issuperset(rest) or (
                join in IN_NO_SYMBOL
                and not _TRANSCRIPT.search(token)
                and all(_SYMBOL.fullmatch(part) and not _AFFIX.fullmatch(part) for part in rest)
            )
            if known_parts and rest:
                joined[token] = n
        if joined:
            _refuse_join(joined, join, sep, what)
    written = {token: n for token, n in tokens.items() if LIST_AS_TEXT.fullmatch(token)}
    if written:
        raise ValueError(
            f"{len(written)} {what} are lists written as text: {show_counts(written)}. Join the genes of each by {sep!r}, as with "
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
            _refuse_join(joined, join, sep, what)


def _refuse_join(joined: Mapping[str, int], join: str, sep: str, what: str) -> None:
    """Raise, or only warn if the separator also occurs in symbols."""
    message = (
        f"{len(joined)} {what} are read as one gene each, but {join!r} splits them into known genes: {show_counts(joined)}. "
        f"Pass sep={join!r} if it joins the genes of a combination here (found sep={sep!r}); if {what} have several "
        f"separators, unify them first, for example with `{what}.str.replace({join!r}, {sep!r}, regex=False)`."
    )
    if join != WEAK_JOIN:
        raise ValueError(message)
    warn_user(message)


def _warn_of_decorated(tokens: Mapping[str, int], known: set[str], key: str | None, sep: str) -> None:
    """Warn of labels that are a known gene but for the name of a guide, the case, or words for the kind of perturbation."""
    by_case = {re.sub(r"^(ens\w+)\.\d+$", r"\1", gene.lower()): gene for gene in known}
    unclear = False
    meant: dict[str, str] = {}
    genes: dict[str, list[str]] = {}
    for token in tokens:
        if len(token) > LONGEST_LABEL or _TRANSCRIPT.search(token):
            continue
        match = None if token.startswith("ENS") else GUIDE.fullmatch(token)  # ids have versions
        if match is not None:
            genes.setdefault(match["gene"], []).append(token)
        found, more = _meaning(token, known, by_case)
        if found:
            meant[token] = sep.join(found)
            unclear |= more
    guides = {
        token: tokens[token]
        for gene, of in genes.items()
        for token in of
        if gene in known or gene in tokens or (len(of) > 1 and all("_" in token for token in of))
    } | {token: tokens[token] for token in meant if _OF_GUIDE.search(token)}
    if guides:
        example = next(iter(guides))
        match = GUIDE.fullmatch(example)
        gene = meant.get(example) or (match["gene"] if match else example)
        before, _, after = example.partition(gene)
        join = re.escape(after[:1])
        pattern = re.escape(before) + {"": "(.+)", "_": "([^_]+)_.+"}.get(join, f"(.+){join}[^{join}]+")
        mend = (
            "Name the genes alone in the column of perturbations, and compute the effects of all guides of a gene together, from the "
            "cells."
            if key is None
            else f"To join the guides of a gene, label the cells with `scapp.pp.guides_to_perturbations(adata, calls_key={key!r}, "
            f"targets=r'{pattern}', key_added='target')`."
        )
        warn_user(
            f"{len(guides)} labels look like names of guides, each of which is read as a separate perturbation: "
            f"{show_counts(guides)}. {mend}"
        )
    others = {token: gene for token, gene in meant.items() if token not in guides}
    if others:
        shown = shorten([f"{token!r} for {gene!r}" for token, gene in others.items()], 5)
        hint = (
            f" Where another word is a gene that was not measured, join the two by {sep!r} instead." if unclear else ""
        )
        where, there = ("the column of perturbations", "the table") if key is None else (_labels_in(key), "adata")
        warn_user(
            f"{len(others)} labels are not genes of {there}, but seem to mean some of them: {shown}. If so, write the names of the genes alone into "
            f"{where}, for example with `{_labels_in(key)}.replace({dict(list(others.items())[:2])!r})`, and times, doses or cell lines into "
            f"a column for context_key=….{hint}"
        )


def _meaning(token: str, known: set[str], by_case: Mapping[str, str]) -> tuple[list[str], bool]:
    """Return the genes that a decorated name seems to mean, and whether it has further words that may be genes.

    They are known ones, or one beside words that no symbol has.
    """
    if gene := by_case.get(token.lower()):
        return [gene], False
    words, affixes = [], []
    for word in filter(None, _WORDS.split(token)):
        if _AFFIX.fullmatch(word) and word not in known:
            affixes.append(word)
        elif word in known:
            words.append(word)
        else:
            affixes += [affix for pair in _BY_DASH.findall(word) for affix in pair if affix]
            words += [part for part in (part.strip("-.") for part in _BY_DASH.sub("\0", word).split("\0")) if part]
    bare = {word: _SUFFIX.sub("", _PREFIX.sub("", word)) for word in words}
    plain = {
        word: gene
        for word in words
        for gene in (bare[word], word)
        if gene in known and len(gene) > 1 and not gene.isdecimal()
    }
    found = plain or {
        word: by_case[name] for word in words for name in (bare[word].lower(), word.lower()) if name in by_case
    }
    if not found and len(words) == 1 and _SYMBOL.fullmatch(bare[words[0]]):
        glued = _PREFIX.match(words[0])
        if any(map(_SURE.fullmatch, affixes)) or (glued is not None and len(glued[0]) > 1):
            return [bare[words[0]]], False
    return sorted(set(found.values())), any(_SYMBOL.fullmatch(word) and word not in found for word in words)


def without_control(tokens: list[str], control: Control, sep: str, known: Collection[str]) -> list[str]:
    """Return the tokens of a label without controls, whose names may span several tokens."""
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
