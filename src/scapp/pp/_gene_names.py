"""Which gene of adata does a name from elsewhere mean? First by symbol, then by alias, never by a guess."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scapp._genes import shorten
from scapp._perturbations import SEPARATOR, parse_labels, perturbed_genes
from scapp.pp._tables import PathLike, find_column, is_path, read_table

if TYPE_CHECKING:
    from anndata import AnnData

Aliases: TypeAlias = Mapping[str, str] | pd.DataFrame | PathLike

BY_SYMBOL, BY_OFFICIAL, BY_ALIAS = 0, 1, 2
_ENSEMBL = re.compile(r"^(\d+\.)?ENS[A-Z]*[GTP]\d{6,}")


@dataclass(frozen=True)
class NameMatch:
    """Which names from a source mean which genes of adata.

    Parameters
    ----------
    names
        The names asked.
    name, gene, how
        One entry for each name and gene that mean the same: their numbers, and how they were found.
    ambiguous
        Names that could mean several genes, and so mean none.
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

    @property
    def n_genes_by_alias(self) -> int:
        """Genes of adata that were found by another name than their own."""
        return self.n_genes - len(np.unique(self.gene[self.how == BY_SYMBOL]))

    def best_names(self, n_genes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each gene of adata the one name that fits best: its own, its official symbol, or its only alias.

        Returns
        -------
        The number of that name, -1 if there is none or several aliases fit equally well; and the genes, by number,
        of which the latter is true.
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
    symbols share decides nothing.

    Parameters
    ----------
    var_names
        The genes of adata, unique.
    aliases
        Mapping from alias to official symbol, or a table (or its path) with columns ``alias_symbol`` and
        ``symbol``. None matches by symbol only.
    """

    def __init__(self, var_names: Sequence[str], aliases: Aliases | None = None) -> None:
        self.var_names = [str(name) for name in var_names]
        self._by_name = {name: i for i, name in enumerate(self.var_names)}
        self._official, self._symbol, self._several = _read_aliases(aliases)
        self._by_official: dict[str, list[int]] = {}
        for i, name in enumerate(self.var_names):
            self._by_official.setdefault(self._to_official(name), []).append(i)

    def _to_official(self, name: str) -> str:
        return name if name in self._official else self._symbol.get(name, name)

    def match(self, names: Iterable[str]) -> NameMatch:
        """Find the genes of each name; names are expected once each."""
        names = list(names)
        given = set(names)
        ambiguous = tuple(name for name in names if name in self._several and name not in self._by_name)
        pairs = []
        for i, name in enumerate(names):
            own = self._by_name.get(name)
            if own is not None:
                pairs.append((i, own, BY_SYMBOL))
            if name in self._several:
                continue
            official = self._to_official(name)
            for gene in self._by_official.get(official, []):
                # Who is called by the own name needs no other, unless that is the name of no other gene.
                if gene != own and (own is None or self.var_names[gene] not in given):
                    pairs.append((i, gene, BY_OFFICIAL if official == name else BY_ALIAS))
        found = np.array(pairs, dtype=np.int64).reshape(-1, 3)
        return NameMatch(names, found[:, 0], found[:, 1], found[:, 2], ambiguous)

    def check_some_match(self, match: NameMatch, what: str, var_columns: Iterable[str] = ()) -> None:
        """Raise if (nearly) no gene is found, with examples from both sides and what is likely wrong.

        Raises
        ------
        ValueError
            If fewer than one in a hundred of the genes that could be found is found.
        """
        smaller = min(len(self.var_names), len(match.names))
        n_found = match.n_genes
        if n_found and n_found >= 0.01 * smaller:
            return
        raise ValueError(
            f"Only {n_found} of the {len(self.var_names)} genes of adata occur among the {len(match.names)} genes of the "
            f"{what}. adata.var_names: {shorten(self.var_names, 4)}. {what.capitalize()}: {shorten(match.names, 4)}. "
            + self._hint(match.names, list(var_columns), what)
        )

    def _hint(self, names: Sequence[str], var_columns: list[str], what: str) -> str:
        sides = {
            "adata.var_names": _share(self.var_names, _ENSEMBL.match),
            f"the {what}": _share(names, _ENSEMBL.match),
        }
        ensembl = [side for side, share in sides.items() if share > 0.5]
        if len(ensembl) == 1:
            symbols = [column for column in var_columns if "symbol" in column.lower() or "name" in column.lower()]
            mend = (
                f" Symbols may be in adata.var[{symbols[0]!r}]: `adata.var_names = adata.var[{symbols[0]!r}].astype(str)`."
                if symbols and ensembl == ["adata.var_names"]
                else " Name the genes the same way on both sides, or pass aliases={ensembl_id: symbol, …}."
            )
            return f"The names in {ensembl[0]} are Ensembl ids, the others are not.{mend}"
        upper = {name.upper() for name in self.var_names}
        if len({name.upper() for name in names} & upper) >= 0.01 * min(len(upper), len(names)):
            return (
                "They would agree but for upper and lower case: are these genes of another species (human KLF1 is mouse "
                "Klf1)? Map them to orthologues, or change the case of one side."
            )
        return (
            "Are they of the same species and the same kind (symbols, Ensembl, Entrez or UniProt ids)? Map one side to "
            "the other, or pass aliases={name: symbol, …}."
        )


def _share(names: Sequence[str], test: Callable[[str], object]) -> float:
    return sum(bool(test(name)) for name in names) / max(len(names), 1)


def _read_aliases(aliases: Aliases | None) -> tuple[set[str], dict[str, str], set[str]]:
    """The official symbols, the symbol of each unambiguous alias, and the ambiguous aliases."""
    if aliases is None:
        return set(), {}, set()
    if is_path(aliases):
        aliases = read_table(aliases)
    if isinstance(aliases, pd.DataFrame):
        alias, symbol = find_column(aliases, ["alias_symbol", "alias"]), find_column(aliases, ["symbol"])
        if alias is None or symbol is None:
            raise ValueError(
                "The alias table needs the columns 'alias_symbol' and 'symbol', found "
                f"{', '.join(map(repr, aliases.columns))}. Rename them, or pass a mapping from alias to symbol."
            )
        pairs = aliases[[alias, symbol]].dropna().astype(str).itertuples(index=False, name=None)
    elif isinstance(aliases, Mapping):
        pairs = ((str(alias), str(symbol)) for alias, symbol in aliases.items())
    else:
        raise TypeError(f"aliases must be a mapping, a DataFrame or a path, found {type(aliases).__name__}.")
    symbols: dict[str, set[str]] = {}
    for alias, symbol in pairs:
        symbols.setdefault(alias, set()).add(symbol)
    official = set().union(*symbols.values()) if symbols else set()
    unique = {alias: next(iter(found)) for alias, found in symbols.items() if len(found) == 1}
    return official, unique, {alias for alias, found in symbols.items() if len(found) > 1} - official


def perturbed_genes_in(
    adata: AnnData, perturbation_key: str | None, control: str | None, sep: str = SEPARATOR
) -> list[str]:
    """The perturbed genes that ``adata.obs`` names; none if it has no such column (they only serve a report)."""
    if perturbation_key is None or perturbation_key not in adata.obs:
        return []
    labels = [str(label) for label in adata.obs[perturbation_key].dropna().unique()]
    return perturbed_genes(parse_labels(labels, control=control, sep=sep))
