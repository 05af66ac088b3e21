"""Guides in tables: calls in long form, one row per cell and guide, and libraries, one row per guide."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._controls import missing_kind
from scapp._genes import shorten
from scapp._tables import PathLike, existing_file, find_column, is_path, names_of, read_table, to_numbers
from scapp.pp._guide_calls import Calls, is_no_guide

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

CallTable: TypeAlias = pd.DataFrame | PathLike | Mapping[str, Any]

# Column names in lower case, in the order in which they are looked for.
CELLS = [
    "cell_barcode",
    "cell barcode",
    "barcode_cell",
    "cell_id",
    "cellid",
    "cell",
    "cbc",
    "cell_name",
    "cb",
    "barcode",
]
CELLS += ["index", "obs_names", "unnamed: 0", ""]
GUIDES = [
    "guide_identity",
    "feature_call",
    "guide_id",
    "guide",
    "guides",
    "sgrna_id",
    "sgrna",
    "sgrnas",
    "grna_id",
    "grna",
]
GUIDES += ["sgid", "sgrna id", "sgid_ab", "protospacer_id", "guide_name", "guide_call", "feature", "barcode"]
COUNTS = ["umi_count", "num_umis", "umis", "n_umis", "n_umi", "umi", "umi_counts", "count", "counts", "n_counts"]
COUNTS += ["guide_umi_count", "read_count", "reads", "n_reads"]
LIBRARY_GUIDES = [
    "guide_id",
    "guide",
    "sgrna_id",
    "sgrna",
    "grna_id",
    "grna",
    "sgid",
    "sgrna id",
    "guide_name",
    "id",
    "name",
]
LIBRARY_GUIDES += ["guide id", "sgrna name", "sgrna_name", "protospacer_id", "feature_id", "unnamed: 0", "index", ""]
TARGETS = [
    "intended_target_name",
    "target_gene_name",
    "target_gene_symbol",
    "target_gene",
    "gene_symbol",
    "gene_target",
]
TARGETS += ["grna_target", "target gene symbol", "gene symbol", "gene_name", "symbol", "gene", "target", "targets"]
TARGETS += ["intended_target", "target_name", "target gene", "target_gene_id"]
TYPES = ["type", "guide_type", "target_type", "guide_class", "class", "category", "targeting"]
SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".parquet", ".xlsx", ".xls")


def names_a_file(value: object) -> bool:
    """Return whether an argument is the path of a table, and not a column or a regular expression."""
    if not is_path(value):
        return False
    if not isinstance(value, str):
        return True
    return value.lower().removesuffix(".gz").endswith(SUFFIXES) or Path(value).expanduser().is_file()


def read_library(targets: pd.DataFrame | PathLike, guides: list[str]) -> tuple[pd.Series, pd.Series, str]:
    """Read a table of guides.

    Parameters
    ----------
    targets
        One row per guide, with its name, its target and perhaps its type; or the path of such a table.
    guides
        The guides that are asked for, by which the column of their names is found.

    Returns
    -------
    The target of each guide (empty where there is none), its type (empty where there is none), both by its name, and where
    the table comes from, for messages.

    Raises
    ------
    ValueError
        If the columns cannot be told, or a guide occurs twice with another target.
    """
    where = f"targets={str(targets)!r}" if is_path(targets) else "targets=…"
    table: pd.DataFrame = read_table(existing_file(targets)) if is_path(targets) else targets
    wanted = set(guides)
    names: dict[Any, pd.Series] = {
        column: pd.Series(table[column].astype(str).str.strip().to_numpy()) for column in table.columns
    }
    if not isinstance(table.index, pd.RangeIndex):
        names[None] = pd.Series(table.index.astype(str))
    hits = {column: len(wanted & set(values)) for column, values in names.items()}
    usual = find_column(table, LIBRARY_GUIDES)
    best = max(hits, key=lambda column: (hits[column], column == usual), default=None)
    target = find_column(table.drop(columns=[best] if best in table else []), TARGETS)
    if not hits or not hits[best]:
        first = shorten(map(repr, names[usual].unique()), 3) if usual in names else "none"
        raise ValueError(
            f"No guide is in {where}: the guides are {shorten(map(repr, guides), 3)}, the table has {first}. Its columns are "
            f"{shorten(map(repr, table.columns), 12)}; one must hold the names of the guides."
        )
    if target is None:
        raise ValueError(
            f"{where} has no column of target genes under a usual name ({', '.join(TARGETS[:6])}, …); its columns are "
            f"{shorten(map(repr, table.columns), 12)}. Pass a mapping, such as `table.set_index({best!r})['my_column']`."
        )
    kind = find_column(table.drop(columns=[target]), TYPES)
    read = pd.DataFrame({"guide": names[best], "target": table[target].to_numpy()})
    read["target"] = ["" if pd.isna(gene) else str(gene).strip() for gene in read["target"]]
    read["type"] = "" if kind is None else [_type(value, str(kind)) for value in table[kind]]
    read = read.drop_duplicates()
    if read["guide"].duplicated().any():
        twice = read.loc[read["guide"].duplicated(), "guide"].unique()
        raise ValueError(
            f"{where} names {len(twice)} guides with several targets: {shorten(twice)}. Name each once; the genes of a guide "
            "with several targets are joined, as in 'A+B'."
        )
    logger.info(
        "Targets of guides: column %r, by the names in %r%s.", target, best, f", types in {kind!r}" if kind else ""
    )
    read = read.set_index("guide")
    return read["target"], read["type"], where


def _type(value: object, column: str) -> str:
    """Return the type of a guide as text: a column ``targeting`` may be true and false."""
    text = "" if pd.isna(value) else str(value).strip()
    if column.strip().lower() == "targeting" and text.lower() in ("false", "0", "0.0", "no", "f"):
        return "non-targeting"
    return text


def calls_from_table(adata: AnnData, guides: CallTable, *, sep: str, min_counts: float) -> tuple[Calls, int]:
    """Read calls from a long table; see :func:`scapp.pp.guides_to_perturbations`.

    Parameters
    ----------
    adata
        The cells that are asked for.
    guides
        One row per cell and guide, or a cell with its guides joined by `sep`; the path of such a table; or a mapping from
        guide to cells.
    sep
        What joins the guides and counts of one row.
    min_counts
        Rows with fewer counts are left out, where the table has counts.

    Returns
    -------
    The calls, and how many cells of adata the table does not hold.

    Raises
    ------
    ValueError
        If the columns cannot be told, counts are no numbers, or no cell of adata is in the table.
    """
    table = _table(guides)
    cell, guide, count = _columns(table)
    if "good_coverage" in table:
        good = table["good_coverage"].astype(str).str.lower().isin(["true", "1", "1.0"])
        if not good.all():
            logger.info("Left out %d of %d calls whose 'good_coverage' is false.", int((~good).sum()), len(good))
        table = table[good]
    rows = pd.DataFrame({"cell": names_of(table[cell], "cell"), "guide": table[guide].astype(object)})
    rows["guide"] = ["" if pd.isna(name) else str(name) for name in rows["guide"]]
    rows["count"] = np.nan if count is None else table[count].to_numpy()
    if rows["guide"].str.contains(sep, regex=False).any():
        rows["guide"] = rows["guide"].str.split(sep)
        if count is not None:
            rows["count"] = rows["count"].astype(str).str.split(sep)
        try:
            rows = rows.explode(["guide", "count"] if count is not None else "guide")
        except ValueError as error:
            raise ValueError(
                f"Rows of the calls do not have as many counts in {count!r} as guides in {guide!r}. Correct the table."
            ) from error
    rows["guide"] = rows["guide"].str.strip()
    rows["count"] = to_numbers(rows["count"])
    if count is not None and rows["count"].isna().any():
        raise ValueError(f"{int(rows['count'].isna().sum())} rows of the calls have no number in {count!r}.")
    position = pd.Series(np.arange(adata.n_obs), index=adata.obs_names)
    n_not_held = int((~adata.obs_names.isin(rows["cell"])).sum())
    if n_not_held == adata.n_obs:
        raise ValueError(
            f"No cell is in both adata and the calls, by their names: {shorten(adata.obs_names, 3)} and "
            f"{shorten(rows['cell'].unique(), 3)}. Bring them to one form, for example with `adata.obs_names + '-1'`."
        )
    rows = rows[rows["cell"].isin(adata.obs_names)]
    several = rows["guide"].map(missing_kind) == "several"
    tied = adata.obs_names.isin(rows.loc[several, "cell"])
    rows = rows[~several & ~rows["guide"].map(is_no_guide)]
    if count is not None:
        rows = rows[rows["count"] >= min_counts]
    codes, names = pd.factorize(rows["guide"], sort=True)
    shape = (adata.n_obs, len(names))
    held = sparse.csr_matrix((np.ones(len(rows)), (position[rows["cell"]].to_numpy(), codes)), shape=shape)
    if not len(names):
        raise ValueError(
            f"The calls in {guide!r} name no guide of these cells with min_counts={min_counts} counts or more."
        )
    share = np.full(adata.n_obs, np.nan)
    return Calls([str(name) for name in names], held.astype(bool), share, tied, np.full(len(names), np.nan)), n_not_held


def _table(guides: CallTable) -> pd.DataFrame:
    if is_path(guides):
        return read_table(guides)
    if isinstance(guides, Mapping):
        pairs = [
            (cell, guide) for guide, cells in guides.items() for cell in ([cells] if isinstance(cells, str) else cells)
        ]
        return pd.DataFrame(pairs, columns=["cell", "guide"], dtype=object)
    if not isinstance(guides, pd.DataFrame):
        raise TypeError(f"guides must be a table of calls, found {type(guides).__name__}.")
    if not isinstance(guides.index, pd.RangeIndex) and find_column(guides, CELLS) is None:
        return guides.rename_axis("cell").reset_index()
    return guides


def _columns(table: pd.DataFrame) -> tuple[str, str, str | None]:
    cell = find_column(table, CELLS)
    guide = find_column(table.drop(columns=[cell]) if cell is not None else table, GUIDES)
    if cell is None or guide is None:
        raise ValueError(
            f"Cannot tell which columns of the calls hold cells and guides: the columns are "
            f"{shorten(map(repr, table.columns), 12)}. Rename them to 'cell', 'guide' and, if there are counts, 'count'."
        )
    return cell, guide, find_column(table.drop(columns=[cell, guide]), COUNTS)
