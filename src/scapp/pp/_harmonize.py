"""Harmonising gene names: symbols, previous symbols, aliases, Ensembl and Entrez ids."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._checked import checked
from scapp._controls import Control
from scapp._edge_columns import edge_ends
from scapp._effects import label_column
from scapp._gene_names import (
    ENSEMBL_ID,
    HARDLY_ANY,
    PREFIX,
    Aliases,
    AliasTable,
    NameTables,
    excel_form,
    kind_of,
    perturbed_genes_in,
)
from scapp._genes import check_gene_names, check_no_view, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, format_label, parse_label
from scapp._tables import check_column, check_single, find_column, names_of
from scapp._warn import warn_user
from scapp.pp._report import Report, listed

logger = logging.getLogger(__name__)

Target = Literal["symbol", "ensembl"]
OnCollision = Literal["keep", "error", "merge"]
# So few names are compared by chance; among more, the share that differs by case alone tells of another species.
_ENOUGH = 20
COLUMNS = ["name", "new_name", "rule", "candidates", "perturbed", "collided"]
FLAGS = ("perturbed", "collided")
# How names are found that change, and what is said of it.
RENAMED = {
    "given": "as you said",
    "previous": "previous symbol",
    "alias": "alias",
    "ensembl": "Ensembl id",
    "entrez": "Entrez id",
    "prefix": "prefix of the genome",
    "version": "version of the id",
    "case": "upper and lower case",
    "excel": "date or number that a spreadsheet made of the name",
    "symbol": "symbol to id",
}

# Symbols that a spreadsheet reads as a month and a day: MARCH1, MARC1, SEPT2, DEC1, OCT4.
_DATED = re.compile(r"(JAN|FEB|MAR(?:CH|C)?|APR|MAY|JUN|JUL|AUG|SEPT?|OCT|NOV|DEC)-?0?(\d{1,2})", re.IGNORECASE)
# Symbols that were renamed for it, by what they were called before.
_BEFORE = {"SEPTIN": "SEPT", "MARCHF": "MARCH", "MTARC": "MARC", "DELEC": "DEC"}
_RENAMED = re.compile(rf"({'|'.join(_BEFORE)})(\d+)", re.IGNORECASE)
# Clones of RIKEN and others: digits, E and digits, which is a power of ten.
_POWER = re.compile(r"(\d+)E(\d+)(?:RIK)?", re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class GeneNamesReport(Report, what="gene_names"):
    """Report of what :func:`scapp.pp.harmonize_genes` found and did.

    Parameters
    ----------
    target
        ``"symbol"`` or ``"ensembl"``.
    names
        One row per name that was given, with the columns ``name``; ``new_name`` (the same, where it was not renamed);
        ``rule``: ``"official"`` (it was right), how it was found (``"given"``, ``"previous"``, ``"alias"``,
        ``"ensembl"``, ``"entrez"``, ``"prefix"``, ``"version"``, ``"case"``, ``"excel"``, ``"symbol"``), or why it was left as it is
        (``"ambiguous"``, ``"collision"``, ``"unknown"``); ``candidates``: what an ambiguous name could mean, joined by
        ``", "``, or the name for which names collide; ``perturbed``: whether it is a perturbed gene; ``collided``: whether
        another name means the same gene.
    """

    _group = Key.uns.GENE_NAMES

    target: str
    names: pd.DataFrame

    @property
    def renamed(self) -> pd.DataFrame:
        """The names that were changed."""
        return self.names[self.names["name"] != self.names["new_name"]]

    @property
    def ambiguous(self) -> pd.DataFrame:
        """Names that could mean several genes and were kept; ``candidates`` lists these genes."""
        return self._of("ambiguous")

    @property
    def collided(self) -> pd.DataFrame:
        """Names that share a gene with another name; ``candidates`` gives the gene."""
        return self.names[self.names["collided"]]

    @property
    def unknown(self) -> pd.DataFrame:
        """Names that are in no table and were kept."""
        return self._of("unknown")

    def _of(self, rule: str) -> pd.DataFrame:
        return self.names[self.names["rule"] == rule]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that an h5ad file can hold; of names that were right only the names."""
        is_right = self.names["rule"] == "official"
        told, right = self.names[~is_right], self.names[is_right]
        values: dict[str, Any] = {
            column: told[column].to_numpy(dtype=bool if column in FLAGS else object) for column in told
        }
        return values | {
            "target": self.target,
            "n_names": len(self.names),
            "position": np.flatnonzero(~is_right),
            "official": right["name"].to_numpy(dtype=object),
            "official_perturbed": right["perturbed"].to_numpy(dtype=bool),
            "official_collided": right["collided"].to_numpy(dtype=bool),
            "official_candidates": right["candidates"].to_numpy(dtype=object),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GeneNamesReport:
        """Return the report that :meth:`to_dict` made these values of, also after they were in a file."""
        told = pd.DataFrame({column: values[column] for column in COLUMNS})
        right = pd.DataFrame({"name": values["official"], "new_name": values["official"], "rule": "official"})
        right = right.assign(**{column: values[f"official_{column}"] for column in COLUMNS[3:]})
        place = np.setdiff1d(np.arange(int(values["n_names"])), values["position"])
        names = pd.concat([told.set_index(np.asarray(values["position"])), right.set_index(place)]).sort_index()
        return cls(str(values["target"]), names.astype(object).astype(dict.fromkeys(FLAGS, np.bool_)))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per name; see `names`."""
        return self.names.copy()

    def _lines(self) -> Iterable[str]:
        yield (
            f"Gene names to {'symbols' if self.target == 'symbol' else 'Ensembl ids'}: {len(self.renamed):,} of {len(self.names):,} renamed, "
            f"{len(self._of('official')):,} were right, {len(self.unknown):,} are unknown"
        )
        renamed = self.renamed
        for rule in RENAMED:
            rows = renamed[renamed["rule"] == rule]
            pairs = [f"{a} -> {b}" for a, b in zip(rows["name"], rows["new_name"], strict=True)]
            yield from listed((f"by {RENAMED[rule]}", pairs), n=5)
        for what, rows, link in (
            ("ambiguous, left as they are", self.ambiguous, "could be"),
            ("several names for one gene", self.collided, "for"),
        ):
            told = [f"{a} {link} {b}" for a, b in zip(rows["name"], rows["candidates"], strict=True)]
            yield from listed((what, told), n=5)
        yield from listed(("perturbed genes that are unknown", self.unknown.loc[self.unknown["perturbed"], "name"]))


@checked
def harmonize_genes(
    data: AnnData | pd.DataFrame,
    *,
    aliases: Aliases | None = None,
    ensembl: AliasTable | None = None,
    target: Target = "symbol",
    ignore_case: bool = True,
    on_collision: OnCollision = "keep",
    columns: Sequence[str] | None = None,
    perturbation_key: str | None = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    copy: bool = False,
) -> AnnData | tuple[pd.DataFrame, GeneNamesReport] | None:
    """Rename every gene to its current symbol or its Ensembl id.

    A name is looked up in this order: your own mapping; official symbols, which are kept; previous symbols and aliases;
    Ensembl ids, with or without a version (``"ENSG00000105610.5"``); Entrez ids; the same without the prefix of a
    genome (``"GRCh38_KLF1"``); official symbols that differ only by case; dates and numbers into which spreadsheets
    turn symbols (``"2-Sep"`` from SEPT2, now SEPTIN2; ``"2.31E+19"`` from 2310009E13Rik). A name that could mean
    several genes is never guessed (``"1-Mar"``, from MARCH1 or MARC1, unless one of them is present): it is kept and
    listed.

    Call it before you add networks and features and set up the model, and use the same tables for all of them.

    Parameters
    ----------
    data
        Annotated data, changed in place unless `copy`; or a table of edges or annotations; then a changed copy is returned.
    aliases
        Mapping from a name to its symbol, which takes precedence over tables; or a table, or its path, with the column
        ``symbol`` and one or more of ``alias_symbol``, ``prev_symbol``, ``ensembl_id`` and ``entrez``, such as HGNC's
        (:func:`scapp.resources.hgnc`); or a list of these.
    ensembl
        A further table, or its path, with ``ensembl_id`` and ``symbol``, or a mapping from one to the other.
    target
        ``"symbol"``, or ``"ensembl"`` for Ensembl ids without version.
    ignore_case
        Whether a name may stand for the only official symbol that differs from it by case (``"C10ORF88"`` is C10orf88).
    on_collision
        What to do with several names for one gene: ``"keep"`` leaves them unchanged and lists them; ``"error"`` raises
        an error; ``"merge"``, for tables only, renames all of them to the gene, and lists them.
    columns
        For a table: the columns that hold genes. If None, the ends of edges, or ``"gene"``.
    perturbation_key, control, sep
        For annotated data: column with the perturbations, control label and separator. The genes in labels are renamed
        in the same way, so that they still match. None leaves labels unchanged; the column may be absent.
    copy
        Return a changed copy and leave `data` unchanged.

    Returns
    -------
    None, or the copy; for a table, a changed copy and the report. In annotated data, this changes ``var_names``, labels
    of renamed genes in ``obs[perturbation_key]``, and ``obs_names`` if they are the labels. The old names are kept in
    ``var["original_name"]``. `raw` is not changed. The report is logged and stored in ``uns["scapp"]["gene_names"]``;
    ``scapp.pp.report(data, "gene_names")`` returns it.

    Raises
    ------
    ValueError
        If no table or mapping is given; if hardly any name is known; if names are those of another species or have the
        prefixes of two genomes; if names collide and `on_collision` is ``"error"``; or if the data cannot be read.
        Nothing is changed then.
    TypeError
        If an argument has the wrong type.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import scapp
    >>> table = pd.DataFrame({"alias_symbol": ["C19orf26", "EKLF"], "symbol": ["CBARP", "KLF1"]})
    >>> obs = pd.DataFrame({"perturbation": ["control", "C19orf26+KLF1"]}, index=["a", "b"])
    >>> adata = ad.AnnData(np.zeros((2, 2)), obs=obs, var=pd.DataFrame(index=["EKLF", "CBARP"]))
    >>> scapp.pp.harmonize_genes(adata, aliases=table)
    >>> adata.var_names.tolist(), adata.obs["perturbation"].tolist()
    (['KLF1', 'CBARP'], ['control', 'CBARP+KLF1'])
    """
    naming = Naming(NameTables.read(aliases, ensembl), target, ignore_case)
    if isinstance(data, pd.DataFrame):
        return _harmonize_table(data, naming, on_collision, columns)
    if not isinstance(data, AnnData):
        raise TypeError(f"Expected an AnnData or a DataFrame, found {type(data).__name__}.")
    if on_collision == "merge":
        raise ValueError(
            "on_collision='merge' is for tables: genes of an AnnData cannot be merged. Pass 'keep' or 'error'."
        )
    if columns is not None:
        raise ValueError("columns=… are those of a table; leave them out for an AnnData.")
    if copy:
        data = data.copy()
    check_no_view(data, "scapp.pp.harmonize_genes")
    check_gene_names(data)
    if perturbation_key is not None:
        perturbation_key = label_column(data, perturbation_key)
    perturbed = perturbed_genes_in(data, perturbation_key, control, sep)
    report = GeneNamesReport(target, naming.plan(data.var_names, perturbed, on_collision))
    _write(data, report, perturbation_key, control, sep)
    return data if copy else None


@dataclass(frozen=True)
class Naming:
    """Rules for looking up names."""

    tables: NameTables
    target: Target
    ignore_case: bool
    _present: set[str] = field(default_factory=set)

    @cached_property
    def _by_excel(self) -> dict[str, set[str]]:
        """Return the symbols of each date or number that a spreadsheet makes of a name."""
        official = ((symbol, {symbol}) for symbol in self.tables.official)
        named = chain(official, *(self.tables.found[rule].items() for rule in ("previous", "alias")))
        return _grouped((form, symbol) for name, of in named for form in made_by_excel(name) for symbol in of)

    @cached_property
    def _by_upper(self) -> dict[str, set[str]]:
        return _grouped((symbol.upper(), symbol) for symbol in self.tables.official if self.ignore_case)

    @cached_property
    def _ids(self) -> dict[str, set[str]]:
        """Return the Ensembl ids of each symbol."""
        return _grouped((symbol, id_) for id_, symbols in self.tables.found["ensembl"].items() for symbol in symbols)

    def plan(self, names: Iterable[str], perturbed: Iterable[str], on_collision: OnCollision) -> pd.DataFrame:
        """Return the new name of each name, perturbed genes included, as the table of a report."""
        names, perturbed = list(names), set(perturbed)
        every = list(dict.fromkeys([*names, *sorted(perturbed)]))
        self._check(every)
        self._present.update(self.tables.to_official(name) for name in every)
        found = {name: self._look_up(name) for name in every}
        if self.tables.official:
            self._check_known(every, [rule for _, rule, _ in found.values()])
        groups = defaultdict(list)
        for name, (new, _, _) in found.items():
            groups[new].append(name)
        there = set(names)
        collided = {
            name
            for group in groups.values()
            if max(len(there.intersection(group)), len(perturbed.intersection(group))) > 1
            for name in group
        }
        if collided and on_collision == "error":
            told = [f"{' and '.join(group)} for {new}" for new, group in groups.items() if collided.issuperset(group)]
            raise ValueError(
                f"{len(told)} gene(s) would have several names: {shorten(told)}. Remove or rename one of each, or pass "
                "on_collision='keep' to leave them as they are."
            )
        rows = []
        for name, (new, rule, candidates) in found.items():
            if name in collided:
                candidates = new
                if on_collision == "keep" and name != new:
                    new, rule = name, "collision"
            rows.append((name, new, rule, candidates, name in perturbed, name in collided))
        return pd.DataFrame(rows, columns=COLUMNS, dtype=object).astype(dict.fromkeys(FLAGS, np.bool_))

    def _look_up(self, name: str) -> tuple[str, str, str]:
        """Return the new name, the rule, and the candidates."""
        if self.target == "ensembl" and (id_ := ENSEMBL_ID.match(PREFIX.sub("", name))):
            bare = id_[1]
            return bare, "official" if bare == name else "version", ""
        symbols, rule = self.tables.meaning(name)
        if not symbols and self.ignore_case:
            symbols, rule = tuple(sorted(self._by_upper.get(PREFIX.sub("", name).upper(), ()))), "case"
        if not symbols and (form := excel_form(name)):
            symbols, rule = tuple(sorted(self._by_excel.get(form, ()))), "excel"
            # A gene that is present under its own name was not changed by the spreadsheet.
            left = tuple(symbol for symbol in symbols if symbol not in self._present)
            symbols = left if len(left) == 1 else symbols
        if not symbols:
            # Nothing knows the name, but what stands before it is none of it.
            bare = PREFIX.sub("", name)
            return (bare, "prefix", "") if bare != name and self.target == "symbol" else (name, "unknown", "")
        if len(symbols) > 1:
            return name, "ambiguous", ", ".join(symbols)
        if self.target == "symbol":
            return symbols[0], rule, ""
        own = sorted(self._ids.get(symbols[0], ()))
        if len(own) != 1:
            return name, "ambiguous" if own else "unknown", ", ".join(own)
        return own[0], "symbol" if rule == "official" else rule, ""

    def _check(self, names: Sequence[str]) -> None:
        genomes = sorted({match[1] for name in names if (match := PREFIX.match(name))})
        if len(genomes) > 1:
            raise ValueError(
                f"The names carry the prefixes of {len(genomes)} genomes, {', '.join(genomes)}. Keep the genes of one, for "
                f"example with `adata = adata[:, adata.var_names.str.startswith({genomes[0]!r})].copy()`."
            )
        if self.target == "ensembl" and not self.tables.found["ensembl"] and kind_of(names) != "Ensembl ids":
            raise ValueError(
                "No table says which Ensembl ids these names have. Pass ensembl=…, a table with the columns 'ensembl_id' and "
                "'symbol'."
            )
        if not self.tables.official and not genomes and self.target == "symbol":
            raise ValueError(
                "There is nothing to look the names up in. Pass aliases=… (for example scapp.resources.hgnc()) or, for "
                "Ensembl ids, ensembl=…."
            )

    def _check_known(self, names: Sequence[str], rules: list[str]) -> None:
        n_known = len(rules) - rules.count("unknown")
        # There may be few names for which the user gave symbols.
        only_given = self.tables.official <= set(self.tables.given.values())
        if n_known < (1 if only_given else max(HARDLY_ANY * len(names), 1)):
            raise ValueError(
                f"Only {n_known} of the {len(names)} names are known to the tables. Names: {shorten(names, 4)} "
                f"({kind_of(names) or 'of no known kind'}). Symbols of the tables: {shorten(sorted(self.tables.official), 4)}. "
                "Pass tables of the species and the kind of these names."
            )
        if rules.count("case") > max(n_known / 2, _ENOUGH):
            raise ValueError(
                f"{rules.count('case')} of the {n_known} names that are known differ from an official symbol by case "
                f"({shorten(names, 4)}): they look like genes of another species, and human KLF1 is not mouse Klf1. Pass "
                "tables of that species, or map the genes to orthologues first."
            )


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    grouped = defaultdict(set)
    for one, other in pairs:
        grouped[one].add(other)
    return grouped


def _harmonize_table(
    table: pd.DataFrame, naming: Naming, on_collision: OnCollision, columns: Sequence[str] | None
) -> tuple[pd.DataFrame, GeneNamesReport]:
    if columns is None:
        gene = find_column(table, ["gene"])
        columns = edge_ends(table) or ([gene] if gene is not None else None)
    if not columns:
        raise ValueError(
            f"Cannot tell which columns hold genes; there are {', '.join(map(repr, table.columns))}. Name them with columns=[…]."
        )
    columns = [columns] if isinstance(columns, str) else list(columns)
    for column in columns:
        check_column(table, column, "columns")
    check_single(table, columns)
    named = {column: names_of(table[column], "gene") for column in columns}
    names = pd.unique(pd.concat(list(named.values())))
    report = GeneNamesReport(naming.target, naming.plan(names, (), on_collision))
    new_name = dict(zip(report.names["name"], report.names["new_name"], strict=True))
    new = table.assign(**{column: values.map(new_name) for column, values in named.items()})
    new.attrs = dict(table.attrs)
    logger.info("%s", report)
    return new, report


def _write(adata: AnnData, report: GeneNamesReport, perturbation_key: str | None, control: Control, sep: str) -> None:
    new_name = dict(zip(report.names["name"], report.names["new_name"], strict=True))
    new_names = pd.Index([new_name[name] for name in adata.var_names], name=adata.var_names.name)
    if perturbation_key is not None and perturbation_key in adata.obs:
        labels = adata.obs[perturbation_key]
        new_label = {}
        for label in labels.dropna().unique():
            genes = parse_label(str(label), control=control, sep=sep)
            new_genes = [new_name[gene] for gene in genes]
            # A label whose genes keep their names stays; else it is the canonical one of the new names.
            new_label[label] = str(label) if new_genes == list(genes) else format_label(new_genes, sep=sep)
        renamed = labels.astype(object).map(new_label)
        if isinstance(labels.dtype, pd.CategoricalDtype):
            # In the order that they have, which colours in uns may follow, and with those that no observation has.
            categories = dict.fromkeys(new_label.get(label, label) for label in labels.cat.categories)
            renamed = renamed.astype(pd.CategoricalDtype(list(categories), ordered=labels.cat.ordered))
        if (adata.obs_names == labels.astype(str)).all():
            adata.obs_names = pd.Index(renamed.astype(str).tolist(), name=adata.obs_names.name)
            renamed.index = adata.obs_names
        adata.obs[perturbation_key] = renamed
    if Key.var.ORIGINAL_NAME not in adata.var:
        adata.var[Key.var.ORIGINAL_NAME] = adata.var_names.to_numpy(dtype=object)
    adata.var_names = new_names
    report.store(adata)


def made_by_excel(symbol: str) -> Iterator[str]:
    """Yield the forms into which a spreadsheet turns a symbol, spelled as by :func:`excel_form`; none for most."""
    renamed = _RENAMED.fullmatch(symbol)
    if renamed:
        symbol = f"{_BEFORE[renamed[1].upper()]}{renamed[2]}"
    dated = _DATED.fullmatch(symbol)
    if dated and 1 <= int(dated[2]) <= 31:
        yield f"{dated[1][:3].upper()}-{int(dated[2])}"
    if (power := _POWER.fullmatch(symbol)) and int(power[1]) and len(power[2]) <= 3:
        digits = power[1].lstrip("0")
        mantissa, shift = f"{float(digits):.2E}".split("E")
        yield f"{float(mantissa):.2f}E{int(shift) + int(power[2])}"


def warn_of_names(perturbed: Iterable[str], measured: Iterable[str], columns: Iterable[str] = ()) -> None:
    """Warn of dates among the names of genes, and of perturbed genes that are ids of another kind than the measured ones.

    One of `columns`, those of ``adata.var``, may hold symbols.
    """
    perturbed, measured = sorted(perturbed), list(measured)
    dates = [name for name in dict.fromkeys([*perturbed, *measured]) if excel_form(name)]
    if dates:
        warn_user(
            f"{len(dates)} names of genes are dates or numbers that a spreadsheet made of them: {shorten(map(repr, dates))}. Restore them with "
            "`scapp.pp.harmonize_genes(adata, aliases=table)`, or from a file that no spreadsheet opened."
        )
    kinds = kind_of(perturbed), kind_of(measured)
    ids = [kind for kind in kinds if kind.endswith(("ids", "accessions"))]
    if not ids or not all(kinds) or kinds[0] == kinds[1] or not set(measured).isdisjoint(perturbed):
        return
    of_each = [
        next(name for name in names if kind_of([name]) == kind)
        for names, kind in zip((perturbed, measured), kinds, strict=True)
    ]
    symbols = next((name for name in columns if "symbol" in str(name).lower() or "name" in str(name).lower()), None)
    mend = f"`scapp.pp.harmonize_genes(adata, {'ensembl' if ids[0].startswith('Ensembl') else 'aliases'}=table)`"
    if symbols is not None and kinds[1] in ids:
        mend = f"`adata.var_names = adata.var[{symbols!r}].astype(str)`"
    warn_user(
        f"No perturbed gene is among the measured ones, because they are named otherwise: {kinds[0]} such as {of_each[0]!r}, "
        f"but {kinds[1]} such as {of_each[1]!r}. Bring both to one kind with {mend}."
    )
