"""Which gene of adata does a name from elsewhere mean? First by symbol, then by alias, never by a guess."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scapp._controls import Control
from scapp._effects import label_column
from scapp._genes import shorten
from scapp._perturbations import SEPARATOR, parse_labels, perturbed_genes
from scapp.pp._name_kinds import likely_reason
from scapp.pp._name_tables import Aliases, NameTables

if TYPE_CHECKING:
    from anndata import AnnData

BY_SYMBOL, BY_OFFICIAL, BY_ALIAS = 0, 1, 2
# Shares of the genes that could be found, below which something is wrong, or likely so.
HARDLY_ANY, FEW = 0.01, 0.1

logger = logging.getLogger(__name__)


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
        """Return for each gene of adata the one name that fits best: its own, its official symbol, or its only alias.

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
        As :meth:`scapp.pp._name_tables.NameTables.read` takes them. None matches by symbol only.
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
                # Who is called by the own name needs no other, unless that is the name of no other gene.
                if gene != own and (own is None or self.var_names[gene] not in given):
                    pairs.append((i, gene, BY_OFFICIAL if official == name else BY_ALIAS))
        found = np.array(pairs, dtype=np.int64).reshape(-1, 3)
        return NameMatch(names, found[:, 0], found[:, 1], found[:, 2], tuple(ambiguous))

    def check_some_match(self, match: NameMatch, what: str, var_columns: Iterable[str] = ()) -> None:
        """Raise if (nearly) no gene is found, with examples from both sides and what is likely wrong; warn of few.

        Raises
        ------
        ValueError
            If fewer than one in a hundred of the genes that could be found is found.
        """
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
