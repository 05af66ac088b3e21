"""What a name of a gene stands for: tables of aliases, previous symbols, Ensembl and Entrez ids, read into one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import pandas as pd

from scapp._tables import PathLike, find_column, is_path, read_table

AliasTable: TypeAlias = Mapping[str, str] | pd.DataFrame | PathLike
Aliases: TypeAlias = "AliasTable | Sequence[AliasTable] | NameTables"

# Columns of the tables, in lower case: those of org.Hs.eg.db as it is exported, and of HGNC.
SYMBOL = ["symbol", "approved_symbol", "approved symbol", "preferred_name"]
COLUMNS = {
    "previous": ["prev_symbol", "previous_symbol", "previous symbol", "previous symbols"],
    # STRING's table of proteins has their ids beside the preferred names, which are symbols.
    "alias": ["alias_symbol", "alias", "alias symbol", "alias symbols", "string_protein_id"],
    "ensembl": ["ensembl_gene_id", "ensembl_id", "ensembl", "ensembl gene id"],
    "entrez": ["entrez_id", "entrez", "ncbi_gene_id", "ncbi gene id"],
}
ENSEMBL_ID = re.compile(r"^(ENS[A-Z]{0,4}G\d{11})(\.\d+)?(_PAR_Y)?$")
# Of a genome, in front of a name, as Cell Ranger writes it where reads were aligned to several.
PREFIX = re.compile(r"^(GRCh3[78]|GRCm3[89]|hg19|hg38|mm9|mm10|mm39)[-_]+(?=.)")


class Meaning(NamedTuple):
    """What a name stands for: no symbol, one, or several of which none is chosen; and by which rule it was found."""

    symbols: tuple[str, ...]
    rule: str


@dataclass
class NameTables:
    """Symbols of genes, and the other names that they have.

    Parameters
    ----------
    official
        The official symbols.
    given
        Names that the user says the symbol of, in a mapping; they decide before any table.
    found
        For each rule (``"previous"``, ``"alias"``, ``"ensembl"``, ``"entrez"``) the symbols of each name.
    """

    official: set[str] = field(default_factory=set)
    given: dict[str, str] = field(default_factory=dict)
    found: dict[str, dict[str, set[str]]] = field(default_factory=lambda: {rule: {} for rule in COLUMNS})

    @classmethod
    def read(cls, aliases: Aliases | None, ensembl: AliasTable | None = None) -> NameTables:
        """Read tables.

        Parameters
        ----------
        aliases
            Mapping from a name to its symbol; table, or its path, with the column ``symbol`` and one or more of
            ``alias_symbol``, ``prev_symbol``, ``ensembl_id`` and ``entrez`` (as HGNC spells them, too; several names in a
            cell are parted by ``|``); or several of these. Tables add to each other. What was read before is returned
            as it is, so that many networks can share it.
        ensembl
            A further table, or mapping, of Ensembl ids.

        Raises
        ------
        ValueError
            If a table lacks these columns.
        TypeError
            If something else was given.
        """
        if isinstance(aliases, NameTables) and ensembl is None:
            return aliases
        tables = cls()
        single = aliases is None or not isinstance(aliases, Sequence) or is_path(aliases)
        sources: Iterable = ([] if aliases is None else [aliases]) if single else aliases  # type: ignore[assignment]
        for source in sources:
            tables._add(source)
        if ensembl is not None:
            tables._add_ensembl(ensembl)
        return tables

    @property
    def empty(self) -> bool:
        """Whether there is nothing to look names up in."""
        return not (self.official or self.given)

    @property
    def only_given(self) -> bool:
        """Whether all that is known are the names that the user says the symbol of, which need not be many."""
        return self.official <= set(self.given.values())

    def ids_by_symbol(self) -> dict[str, set[str]]:
        """Return the Ensembl ids of each symbol."""
        ids: dict[str, set[str]] = {}
        for name, symbols in self.found["ensembl"].items():
            for symbol in symbols:
                ids.setdefault(symbol, set()).add(name)
        return ids

    def meaning(self, name: str) -> Meaning:
        """Return what a name stands for; an official symbol stands for itself, whatever else is called by it."""
        if name in self.given:
            return Meaning((self.given[name],), "given")
        if name in self.official:
            return Meaning((name,), "official")
        # A name that is a previous symbol of one gene and an alias of another could mean either.
        previous, alias = self.found["previous"].get(name, set()), self.found["alias"].get(name, set())
        if previous or alias:
            return Meaning(tuple(sorted(previous | alias)), "previous" if previous else "alias")
        id_ = ENSEMBL_ID.match(name)
        if id_ and id_[1] in self.found["ensembl"]:
            return Meaning(tuple(sorted(self.found["ensembl"][id_[1]])), "ensembl")
        if name in self.found["entrez"]:
            return Meaning(tuple(sorted(self.found["entrez"][name])), "entrez")
        bare = PREFIX.sub("", name)
        if bare != name:
            return self.meaning(bare)._replace(rule="prefix")
        return Meaning((), "unknown")

    def to_official(self, name: str) -> str:
        """Return the symbol that a name stands for; the name itself where that is not known or not certain."""
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
            self._add_column(rule, _text(source[column]), symbols)

    def _add_ensembl(self, source: AliasTable) -> None:
        if isinstance(source, Mapping | pd.Series):
            source = pd.DataFrame(source.items(), columns=["ensembl_id", "symbol"])
        before = len(self.found["ensembl"])
        self._add(source)
        if len(self.found["ensembl"]) == before:
            raise ValueError(
                "The table of Ensembl ids needs the columns 'ensembl_id' and 'symbol', with ids such as "
                "'ENSG00000105610'. Rename its columns."
            )

    def _add_column(self, rule: str, names: pd.Series, symbols: pd.Series) -> None:
        if names.str.contains("|", regex=False).any():
            names = names.str.strip('"').str.split("|").explode().str.strip()
            symbols = symbols.loc[names.index]
        known = self.found[rule]
        for name, symbol in zip(names, symbols, strict=True):
            if rule == "ensembl":
                id_ = ENSEMBL_ID.match(name)
                name = id_[1] if id_ else ""
            if name and symbol and name != symbol:
                known.setdefault(name, set()).add(symbol)


def _text(column: pd.Series) -> pd.Series:
    """Return a column as stripped text, empty where nothing is."""
    column = column.reset_index(drop=True)
    if pd.api.types.is_float_dtype(column.dtype):  # whole numbers with some missing
        column = column.astype("Int64")
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()
