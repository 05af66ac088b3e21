"""Match gene names from other sources to genes: first by symbol, then by alias, never by a guess."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scapp._controls import Control
from scapp._effects import label_column
from scapp._genes import shorten
from scapp._labels import SEPARATOR, parse_labels, perturbed_genes
from scapp._tables import PathLike, find_column, is_path, read_table, text_of
from scapp._warn import warn_user

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

AliasTable: TypeAlias = Mapping[str, str] | pd.DataFrame | PathLike
Aliases: TypeAlias = "AliasTable | Sequence[AliasTable] | NameTables"

# Columns of the tables, in lower case: those of exports of org.Hs.eg.db, of HGNC, NCBI and Ensembl's BioMart.
SYMBOL = "symbol approved_symbol preferred_name official_symbol hgnc_symbol gene_symbol gene_name".split()
COLUMNS = {
    "previous": "prev_symbol previous_symbol previous_symbols".split(),
    # STRING's table of proteins has their ids and preferred names, which are symbols.
    "alias": "alias_symbol alias alias_symbols aliases synonyms synonym gene_synonym gene_synonyms string_protein_id".split(),
    "ensembl": "ensembl_gene_id ensembl_id ensembl gene_stable_id".split(),
    "entrez": "entrez_id entrez ncbi_gene_id geneid entrez_gene_id".split(),
}
ENSEMBL_ID = re.compile(r"^(ENS[A-Z]{0,4}G\d{11})(\.\d+)?(_PAR_Y)?$")
# Prefix of a genome, which Cell Ranger adds to names if reads were aligned to several genomes.
PREFIX = re.compile(r"^(GRCh3[78]|GRCm3[89]|hg19|hg38|mm9|mm10|mm39)[-_]+(?=.)")
# The first pattern that matches most names. Human symbols differ from those of mouse and rat only by case.
_KINDS = {
    "STRING's protein ids": re.compile(r"^\d+\.\w+"),
    "Ensembl protein ids": re.compile(r"^ENS[A-Z]{0,4}P\d{11}"),
    "Ensembl transcript ids": re.compile(r"^ENS[A-Z]{0,4}T\d{11}"),
    "Ensembl ids": re.compile(r"^ENS[A-Z]{0,4}G\d{6,}"),
    "Entrez ids": re.compile(r"^\d+$"),
    "UniProt accessions": re.compile(r"^([OPQ]\d[A-Z\d]{3}\d|[A-NR-Z]\d([A-Z][A-Z\d]{2}\d){1,2})$"),
    "symbols as of mouse or rat": re.compile(r"^[A-Z][a-z\d.-]*[a-z][a-z\d.-]*$"),
    "symbols as of human": re.compile(r"^[A-Z\d][A-Z\d.-]*(orf\d+)?[A-Z\d.-]*$"),
}
# Kinds of names that terms do not have.
OF_GENES = {*list(_KINDS)[:6]}
_MOUSE, _HUMAN = "symbols as of mouse or rat", "symbols as of human"
_SPECIES = re.compile(r"^ENS([A-Z]{0,4})[GTP]\d")
# Dates and numbers that a spreadsheet makes of symbols.
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAY_MONTH = re.compile(r"0?(\d{1,2})[-/ ]([A-Za-z]{3})[a-z]*(?:[-/ ](?:\d{2}|\d{4}))?")
_MONTH_DAY = re.compile(r"([A-Za-z]{3})[a-z]*[-/ ]0?(\d{1,2})")
_ISO = re.compile(r"\d{4}-(\d{2})-(\d{2})(?:[ T]00:00(?::00(?:\.0+)?)?)?")
_SCIENTIFIC = re.compile(r"(\d(?:[.,]\d+)?)E\+?(\d+)", re.IGNORECASE)
BY_SYMBOL, BY_OFFICIAL, BY_ALIAS = 0, 1, 2
# Shares of matching genes below which something is wrong, or probably wrong.
HARDLY_ANY, FEW = 0.01, 0.1


class Meaning(NamedTuple):
    """Meaning of a name: no symbol, one, or several (none of which is chosen), and the rule that found it."""

    symbols: tuple[str, ...]
    rule: str


@dataclass
class NameTables:
    """Symbols of genes, and the other names that they have.

    `official` are the official symbols. `given` are names that the user says the symbol of, in a mapping; they decide before any
    table. `found` has, for each rule (``"previous"``, ``"alias"``, ``"ensembl"``, ``"entrez"``), the symbols of each name.
    """

    official: set[str] = field(default_factory=set)
    given: dict[str, str] = field(default_factory=dict)
    found: dict[str, dict[str, set[str]]] = field(default_factory=lambda: {rule: {} for rule in COLUMNS})

    @classmethod
    def read(cls, aliases: Aliases | None, ensembl: AliasTable | None = None) -> NameTables:
        """Read and combine tables; input that was already read is returned unchanged, so that networks can share it.

        `aliases` is a mapping from a name to its symbol; a table, or its path, with the column ``symbol`` and one or more of
        ``alias_symbol``, ``prev_symbol``, ``ensembl_id`` and ``entrez`` (as HGNC spells them, too; several names in a cell are parted by
        ``|``); or several of these. `ensembl` is a further table, or mapping, of Ensembl ids. ValueError if a table lacks these columns.
        """
        if isinstance(aliases, NameTables) and ensembl is None:
            return aliases
        tables = cls()
        several = isinstance(aliases, Sequence) and not is_path(aliases)
        for source in aliases if several else [] if aliases is None else [aliases]:  # type: ignore[union-attr]
            tables._add(source)
        if ensembl is not None:
            if isinstance(ensembl, Mapping | pd.Series):
                ensembl = pd.DataFrame(ensembl.items(), columns=["ensembl_id", "symbol"])
            before = len(tables.found["ensembl"])
            tables._add(ensembl)
            if len(tables.found["ensembl"]) == before:
                raise ValueError(
                    "The table of Ensembl ids needs the columns 'ensembl_id' and 'symbol', with ids such as "
                    "'ENSG00000105610'. Rename its columns."
                )
        return tables

    def meaning(self, name: str) -> Meaning:
        """Return the meaning of a name; an official symbol means itself, even if other genes share the name."""
        if name in self.given:
            return Meaning((self.given[name],), "given")
        if name in self.official:
            return Meaning((name,), "official")
        # A name that is a previous symbol of one gene and an alias of another could mean either.
        previous, alias = self.found["previous"].get(name, set()), self.found["alias"].get(name, set())
        if previous or alias:
            return Meaning(tuple(sorted(previous | alias)), "previous" if previous else "alias")
        id_ = ENSEMBL_ID.match(name)
        for rule, known in (("ensembl", id_[1] if id_ else ""), ("entrez", name)):
            if known in self.found[rule]:
                return Meaning(tuple(sorted(self.found[rule][known])), rule)
        bare = PREFIX.sub("", name)
        if bare != name:
            return self.meaning(bare)._replace(rule="prefix")
        return Meaning((), "unknown")

    def to_official(self, name: str) -> str:
        """Return the symbol that a name stands for; the name itself if unknown or ambiguous."""
        symbols = self.meaning(name).symbols
        return symbols[0] if len(symbols) == 1 else name

    def _add(self, source: AliasTable) -> None:
        if is_path(source):
            source = read_table(source)
        if isinstance(source, pd.Series):
            source = source.to_dict()
        if isinstance(source, Mapping):
            self.given |= {str(name): str(symbol) for name, symbol in source.items()}
            self.official |= set(self.given.values())
            return
        if not isinstance(source, pd.DataFrame):
            raise TypeError(
                f"aliases must be a mapping, a DataFrame, a path or a list of these, found {type(source).__name__}."
            )
        symbol = find_column(source, SYMBOL)
        columns = {
            rule: column for rule, names in COLUMNS.items() if (column := find_column(source, names)) is not None
        }
        if symbol is None or not columns:
            raise ValueError(
                "The alias table needs the columns 'alias_symbol' and 'symbol', found "
                f"{', '.join(map(repr, source.columns))}. (Columns 'prev_symbol', 'ensembl_id' and 'entrez' are understood as "
                "well.) Rename them, or pass a mapping from alias to symbol."
            )
        symbols = _text(source[symbol])
        self.official |= set(symbols[symbols != ""])
        for rule, column in columns.items():
            names, of = _text(source[column]), symbols
            if names.str.contains("|", regex=False).any():
                names = names.str.strip('"').str.split("|").explode().str.strip()
                of = symbols.loc[names.index]
            for name, symbol in zip(names, of, strict=True):
                if rule == "ensembl":
                    id_ = ENSEMBL_ID.match(name)
                    name = id_[1] if id_ else ""
                if name and symbol and name != symbol:
                    self.found[rule].setdefault(name, set()).add(symbol)


def _text(column: pd.Series) -> pd.Series:
    """Return a column as text, with a new index."""
    column = column.reset_index(drop=True)
    if pd.api.types.is_float_dtype(column.dtype):  # whole numbers with some missing
        column = column.astype("Int64")
    return text_of(column)


@dataclass(frozen=True)
class NameMatch:
    """Match of the names of a source to the genes of adata.

    `name`, `gene` and `how` have one entry for each name and gene that mean the same: their numbers, and how they were found.
    `ambiguous` names could mean several genes, and so mean none.
    """

    names: Sequence[str]
    name: NDArray[np.int64]
    gene: NDArray[np.int64]
    how: NDArray[np.int64]
    ambiguous: tuple[str, ...]

    @property
    def n_genes(self) -> int:
        """Genes of adata that were found."""
        return len(np.unique(self.gene))

    def best_names(self, n_genes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each gene of adata the number of the one name that fits best: its own, its official symbol, or its only alias.

        It is -1 where there is none, or where several aliases fit equally well; the second array has the numbers of the latter genes.
        """
        best = np.full(n_genes, BY_ALIAS + 1)
        np.minimum.at(best, self.gene, self.how)
        fits = self.how == best[self.gene]
        number = np.full(n_genes, -1, dtype=np.int64)
        number[self.gene[fits]] = self.name[fits]
        tied = np.bincount(self.gene[fits], minlength=n_genes) > 1
        number[tied] = -1
        return number, np.flatnonzero(tied)


class GeneMatcher:
    """Finds genes of adata by the names that other sources give them.

    A name that is in `var_names` is that gene. Otherwise, names and `var_names` are both brought to their
    official symbol by the alias table (a name that is itself an official symbol stays), and mean the same if
    these agree: so an old symbol in adata is found by the new one, and the reverse. A gene that adata holds under
    two names, as when C19orf26 was perturbed and measured as CBARP, is found under both. An alias that several
    symbols share is not used. `aliases` are as :meth:`NameTables.read` takes them; None matches by symbol only.
    """

    def __init__(self, var_names: Sequence[str], aliases: Aliases | None = None) -> None:
        self.var_names = [str(name) for name in var_names]
        self._by_name = {name: i for i, name in enumerate(self.var_names)}
        self._tables = NameTables.read(aliases)
        self._by_official: dict[str, list[int]] = {}
        for i, name in enumerate(self.var_names):
            self._by_official.setdefault(self._tables.to_official(name), []).append(i)

    def match(self, names: Iterable[str]) -> NameMatch:
        """Find the genes of each name; names are expected once each."""
        names = list(names)
        given = set(names)
        ambiguous = []
        pairs = []
        for i, name in enumerate(names):
            own = self._by_name.get(name)
            if own is not None:
                pairs.append((i, own, BY_SYMBOL))
            symbols = self._tables.meaning(name).symbols
            if len(symbols) > 1:
                if own is None:
                    ambiguous.append(name)
                continue
            official = symbols[0] if symbols else name
            for gene in self._by_official.get(official, []):
                # A gene that is present under its own name needs no other, unless no other gene has that name.
                if gene != own and (own is None or self.var_names[gene] not in given):
                    pairs.append((i, gene, BY_OFFICIAL if official == name else BY_ALIAS))
        found = np.array(pairs, dtype=np.int64).reshape(-1, 3)
        return NameMatch(names, found[:, 0], found[:, 1], found[:, 2], tuple(ambiguous))

    def check_some_match(self, match: NameMatch, what: str, var_columns: Iterable[str] = ()) -> None:
        """Raise if fewer than one in a hundred genes match, with examples and the likely reason; warn if few match."""
        warn_of_dates((name for name in match.names if name not in self._by_name), what)
        smaller = min(len(self.var_names), len(match.names))
        if match.n_genes >= FEW * smaller:
            return
        reason = likely_reason(self.var_names, match.names, what, list(var_columns))
        found = (
            f"{match.n_genes} of the {len(self.var_names)} genes of adata occur among the {len(match.names)} genes of the "
            f"{what}. adata.var_names: {shorten(self.var_names, 4)}. {what.capitalize()}: {shorten(match.names, 4)}. {reason}"
        )
        if match.n_genes and match.n_genes >= HARDLY_ANY * smaller:
            logger.warning("Only %s", found)
            return
        raise ValueError(f"Only {found}")


def perturbed_genes_in(
    adata: AnnData, perturbation_key: str | None, control: Control, sep: str = SEPARATOR
) -> list[str]:
    """Return the perturbed genes that ``adata.obs`` names; none if it has no such column (they only serve a report)."""
    if perturbation_key is None:
        return []
    perturbation_key = label_column(adata, perturbation_key)
    if perturbation_key not in adata.obs:
        logger.info("adata.obs has no column %r, so perturbed genes are not reported.", perturbation_key)
        return []
    labels = [str(label) for label in adata.obs[perturbation_key].dropna().unique()]
    return perturbed_genes(parse_labels(labels, control=control, sep=sep, genes=adata.var_names))


def kind_of(names: Sequence[str]) -> str:
    """Return the kind that most of the names are of; empty if none is."""
    for kind, pattern in _KINDS.items():
        if sum(bool(pattern.match(name)) for name in names) > len(names) / 2:
            return kind
    return ""


def excel_form(name: str) -> str:
    """Return the date or number that a name is, in one spelling; empty for any other name."""
    if day_month := _DAY_MONTH.fullmatch(name):
        day, month = day_month.groups()
    elif month_day := _MONTH_DAY.fullmatch(name):
        month, day = month_day.groups()
    elif iso := _ISO.fullmatch(name):
        return f"{MONTHS[int(iso[1]) - 1]}-{int(iso[2])}" if 1 <= int(iso[1]) <= 12 else ""
    elif number := _SCIENTIFIC.fullmatch(name):
        return f"{float(number[1].replace(',', '.')):.2f}E{int(number[2])}"
    else:
        return ""
    return f"{month.upper()}-{int(day)}" if month.upper() in MONTHS else ""


def warn_of_dates(names: Iterable[str], what: str) -> None:
    """Warn if some of the names of a source are dates that a spreadsheet made of genes."""
    # Look closely at few names, as most are not dates.
    likely = (name for name in names if name[:1].isdigit() or (name[-1:].isdigit() and re.search("[-/ ]", name)))
    dates = [name for name in likely if excel_form(name)]
    if dates:
        warn_user(
            f"{len(dates)} names of the {what} are dates or numbers that a spreadsheet made of genes ({shorten(map(repr, dates), 4)}), and match no "
            "gene. Restore them with `scapp.pp.harmonize_genes(table, aliases=scapp.resources.hgnc())`."
        )


def likely_reason(var_names: Sequence[str], names: Sequence[str], what: str, var_columns: Sequence[str]) -> str:
    """Explain why hardly any gene of adata is among the `names` of a source, such as a ``"network"``, and name the call that mends it.

    One of `var_columns`, the columns of ``adata.var``, may hold symbols.
    """
    ours, theirs = kind_of(var_names), kind_of(names)
    symbols = (_MOUSE, _HUMAN)
    if {ours, theirs} == set(symbols):
        return (
            f"One seems to be of another species: adata has {ours}, the {what} {theirs}. Take the {what} of the species of adata (the "
            f"functions of scapp.resources have organism={'mouse' if ours == _MOUSE else 'human'!r}), or map one side to "
            "its orthologues first."
        )
    if ours == theirs == "Ensembl ids" and _species(var_names) != _species(names):
        return f"These are Ensembl ids of two species. Take the {what} of the species of adata."
    if ours != theirs and ours and theirs:
        side, kind = ("adata", ours) if ours not in symbols else (what, theirs)
        column = next((name for name in var_columns if "symbol" in name.lower() or "name" in name.lower()), None)
        if side == "adata" and column is not None:
            mend = f"Symbols may be in adata.var[{column!r}]: `adata.var_names = adata.var[{column!r}].astype(str)`."
        elif "protein ids" in kind:
            mend = (
                "scapp.resources.string reads STRING's files and names proteins by the symbol of their gene; or pass STRING's table "
                "of names with it: aliases='….protein.info….txt.gz'."
            )
        else:
            tables = {
                "Ensembl ids": ("ensembl=table", ", a table of ensembl_id and symbol"),
                "Entrez ids": ("aliases=table", ", a table of entrez and symbol"),
            }
            option, of = tables.get(kind, ("aliases={name: symbol, …}", ""))
            mend = f"Bring them to symbols with `scapp.pp.harmonize_genes({side}, {option})`{of}."
        return f"adata has {ours}, the {what} has {theirs}. {mend}"
    upper = {name.upper() for name in var_names}
    if len({name.upper() for name in names} & upper) >= 0.01 * min(len(upper), len(names)):
        return (
            "They would agree but for upper and lower case. If they are of one species, "
            "`scapp.pp.harmonize_genes(adata, aliases=…)` corrects the case; if not, map one side to its orthologues first."
        )
    return (
        "Are they of the same species and the same kind (symbols, Ensembl, Entrez or UniProt ids)? Bring both to symbols "
        f"with `scapp.pp.harmonize_genes(adata, aliases=…)` and `scapp.pp.harmonize_genes({what}, aliases=…)`, or map one "
        "side to the other with aliases={name: symbol, …}."
    )


def _species(names: Sequence[str]) -> str:
    """Return the letters for the species in most Ensembl ids: empty for human, ``"MUS"`` for mouse."""
    found = [match[1] for name in names if (match := _SPECIES.match(name))]
    return max(set(found), key=found.count) if found else ""
