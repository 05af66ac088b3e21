"""Guides in cells: from their counts, or from calls that somebody else made, in a column of obs or a long table."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from rich.progress import track
from scipy import sparse

from scapp._controls import missing_kind
from scapp._genes import shorten
from scapp._label_checks import LIST_AS_TEXT
from scapp._labels import column_of_obs
from scapp._tables import PathLike, find_column, is_path, names_of, read_table, to_numbers
from scapp.expression import get_matrix, in_memory

CallTable: TypeAlias = pd.DataFrame | pd.Series | PathLike | Mapping[str, Any]
Method = Literal["mixture", "threshold", "maximum"]
# Means of two components this many standard deviations apart make two humps; less is one skewed hump
# (Ashman, Bird and Zepf 1994).
SMALLEST_DISTANCE = 2.0
# Fewer cells with a guide do not show two humps.
MIN_CELLS_OF_MIXTURE = 20
# Counts are whole numbers, one apart from two by a whole unit of log2: a component narrower than half of that (the
# square of which this is) would sit on the counts of one alone.
SMALLEST_VARIANCE = 0.25
# Fitting is quick for a small library, and says nothing then.
SHOW_PROGRESS_FROM = 200
# Usual names of columns of tables of calls, in the order in which they are looked for.
CELLS = """cell_barcode barcode_cell cell_id cellid cell cbc cell_name cb bc_wells barcode index obs_names
    unnamed:_0""".split()
CELLS.append("")
GUIDES = """guide_identity feature_call guide_id guide guides sgrna_id sgrna sgrnas grna_id grna sgid
    sgid_ab protospacer_id protospacer guide_name guide_call
    assigned_guide assignment feature_id feature barcode""".split()
# What joins the guides of a cell, other than the usual one; the last ones stand in names of guides as well.
OTHER_JOINS = (";", ",", "|", "&", "+", "/", " ")
_NAME = re.compile(r"(?!.*ENS[A-Z]*T\d)[A-Za-z][\w.+\-]{2,}")
_NUMBERED_NAME = re.compile(r"[A-Za-z][\w\-]*[_.\-]\w*\d+")
COUNTS = """umi_count num_umis umis n_umis n_umi umi umi_counts count counts n_counts guide_umi_count
    tscp_count read_count reads n_reads""".split()

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calls:
    """Guides of cells.

    `assigned`, a boolean CSR of shape (n_cells, n_guides), tells which of the `guides` are in which cells; `share` is that of a
    cell's guide counts which its guides hold together, NaN where it is not known; `tied` are cells with several guides of which it is
    not known which counts. `thresholds` are the fewest counts at which each guide is assigned, NaN where there are none, and
    `not_fitted` the guides whose counts do not show two components, so that `min_counts` decides alone.
    """

    guides: list[str]
    assigned: sparse.csr_matrix
    share: NDArray[np.float64]
    tied: NDArray[np.bool_]
    thresholds: NDArray[np.float64]
    not_fitted: tuple[str, ...] = ()


def calls_from_counts(
    guides: AnnData, cells: NDArray[np.intp], layer: str | None, method: Method, min_counts: float, seed: int
) -> Calls:
    """Assign guides by their counts; see :func:`scapp.pp.guides_to_perturbations`.

    `cells` are rows of `guides`, one for each cell asked; -1 for a cell that is not there.
    """
    counts = _read_counts(guides, layer)
    rows = sparse.vstack([counts, sparse.csr_matrix((1, counts.shape[1]))], format="csr")[cells]
    names = [str(name) for name in guides.var_names]
    total = np.asarray(rows.sum(axis=1)).ravel()
    tied = np.zeros(len(cells), dtype=bool)
    thresholds = np.full(len(names), float(min_counts))
    not_fitted: tuple[str, ...] = ()
    if method == "mixture":
        by_guide, columns = rows.tocsc(), range(len(names))
        shown = columns if len(names) < SHOW_PROGRESS_FROM else track(columns, description="Mixtures of guide counts")
        counts_of = (by_guide.data[slice(*by_guide.indptr[guide : guide + 2])] for guide in shown)
        fitted = np.array([_mixture_threshold(counts, seed) for counts in counts_of])
        not_fitted = tuple(np.array(names, dtype=object)[np.isnan(fitted)])
        thresholds = np.fmax(fitted, thresholds)
    held = _keep(rows, rows.data >= thresholds[rows.indices])
    if method == "maximum":
        strongest = rows.max(axis=1).toarray().ravel()
        held = _keep(rows, (rows.data >= min_counts) & (rows.data == np.repeat(strongest, np.diff(rows.indptr))))
        tied = np.diff(held.indptr) > 1
    with np.errstate(invalid="ignore"):
        share = np.asarray(held.sum(axis=1)).ravel() / total
    return Calls(names, held.astype(bool), share, tied, thresholds, not_fitted)


def calls_from_obs(
    adata: AnnData, key: str, sep: str, counts_key: str | None, total_counts_key: str | None, min_counts: float
) -> Calls:
    """Read calls from a column of obs; see :func:`scapp.pp.guides_to_perturbations`."""
    if key not in adata.obs:
        column_of_obs(adata, key, "calls_key")  # raises, with the columns that there are
    if adata.obs[key].map(lambda call: isinstance(call, list | tuple | set | np.ndarray)).any():
        raise TypeError(
            f"adata.obs[{key!r}] holds lists of guides, expected text such as 'KLF1_1|GATA1_2'.\n"
            f"Join them first: `adata.obs[{key!r}] = adata.obs[{key!r}].str.join('|')`."
        )
    joins = _joins_of((str(call) for call in adata.obs[key].dropna().unique()), sep)
    calls = ([] if pd.isna(call) else map(str.strip, joins.split(str(call))) for call in adata.obs[key])
    lists = [list(dict.fromkeys(filter(None, guides))) for guides in calls]
    distinct = {guide for guides in lists for guide in guides}
    several = {guide for guide in distinct if missing_kind(guide) == "several"}
    absent = several | {guide for guide in distinct if is_no_guide(guide)}
    tied = np.array([bool(several.intersection(guides)) for guides in lists], dtype=bool)
    lists = [[guide for guide in guides if guide not in absent] for guides in lists]
    names = sorted({guide for guides in lists for guide in guides})
    if not names:
        raise ValueError(f"adata.obs[{key!r}] names no guide: all {adata.n_obs} values are missing or empty.")
    share = np.full(adata.n_obs, np.nan)
    if counts_key is not None:
        called = np.array([bool(guides) for guides in lists])
        counts = _numbers(adata, counts_key, "counts_key", joins, called)
        lists = [guides if n >= min_counts else [] for guides, n in zip(lists, counts, strict=True)]
        if total_counts_key is not None:
            total = _numbers(adata, total_counts_key, "total_counts_key", joins, called)
            if (wrong := total < counts).any():
                raise ValueError(
                    f"In {int(wrong.sum())} cells adata.obs[{total_counts_key!r}] (total_counts_key) is less than "
                    f"adata.obs[{counts_key!r}] (counts_key), the first: {adata.obs_names[wrong][0]!r}. Name the right "
                    "columns."
                )
            with np.errstate(invalid="ignore"):
                share = counts / total
    elif total_counts_key is not None:
        raise ValueError("total_counts_key=… needs counts_key=…, the counts of the guides that were called.")
    number = {guide: i for i, guide in enumerate(names)}
    indptr = np.concatenate([[0], np.cumsum([len(guides) for guides in lists])])
    indices = np.array([number[guide] for guides in lists for guide in guides], dtype=np.int32)
    assigned = sparse.csr_matrix((np.ones(len(indices), bool), indices, indptr), shape=(adata.n_obs, len(names)))
    return Calls(names, assigned, share, tied, np.full(len(names), np.nan))


def is_no_guide(call: str) -> bool:
    """Return whether a call says that no guide was found; ``"negative"`` is not a negative control here."""
    return missing_kind(call) == "missing" or call.strip().lower() == "negative"


def _numbers(
    adata: AnnData, key: str, argument: str, joins: re.Pattern[str], called: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the counts of each cell, adding up several ("12|30", as from Cell Ranger); 0 without a call."""
    if key not in adata.obs:
        column_of_obs(adata, key, argument)  # raises, with the columns that there are
    column = adata.obs[key][called]
    if missing := int(column.isna().sum()):
        raise ValueError(
            f"{missing} of the {len(column)} cells with a called guide have no counts in adata.obs[{key!r}] ({argument}). Fill "
            "them in, or leave these cells out."
        )
    numbers = np.zeros(adata.n_obs)
    try:
        if pd.api.types.is_numeric_dtype(column.dtype):
            numbers[called] = column.to_numpy(dtype=np.float64)
        else:
            numbers[called] = [sum(float(part) for part in joins.split(str(value)) if part.strip()) for value in column]
    except ValueError as error:
        raise ValueError(f"adata.obs[{key!r}] ({argument}) must hold counts: {error}.") from error
    if (numbers < 0).any():
        raise ValueError(f"adata.obs[{key!r}] ({argument}) must hold counts, found negative numbers.")
    return numbers


def _read_counts(guides: AnnData, layer: str | None) -> sparse.csr_matrix:
    matrix, name = get_matrix(guides, layer)
    name = name.replace("adata", "guides", 1)
    # A copy, with its own indices too: what follows sorts in place, and these are the user's.
    counts = sparse.csr_matrix(in_memory(matrix), dtype=np.float64, copy=True)
    counts.sum_duplicates()
    bad = ~np.isfinite(counts.data) | (counts.data < 0) | (counts.data != np.rint(counts.data))
    if bad.any():
        raise ValueError(
            f"{name} must hold counts of guides, found {int(bad.sum())} values that are negative, missing or no whole "
            f"numbers, such as {counts.data[bad][0]:.4g}. Name the layer of the counts with layer=…."
        )
    counts.eliminate_zeros()
    return counts


def _keep(matrix: sparse.csr_matrix, which: NDArray[np.bool_]) -> sparse.csr_matrix:
    kept = matrix.copy()
    kept.data[~which] = 0
    kept.eliminate_zeros()
    return kept


def _mixture_threshold(counts: NDArray[np.float64], seed: int) -> float:
    """Return the fewest counts that come more likely from the upper of two components than from the lower; NaN without two.

    Both are Gaussian in log2 of the counts above zero. There are two if the Bayesian information criterion says so and
    they lie apart: guides that only cells with them show, as after filtering, have one skewed component that two fit
    better.
    """
    if len(counts) < MIN_CELLS_OF_MIXTURE or counts.min() == counts.max():
        return np.nan
    from sklearn.mixture import GaussianMixture

    x = np.log2(counts)[:, None]
    one, two = (GaussianMixture(n, reg_covar=SMALLEST_VARIANCE, random_state=seed).fit(x) for n in (1, 2))
    lower, upper = np.argsort(two.means_.ravel())
    distance = (two.means_[upper, 0] - two.means_[lower, 0]) / np.sqrt(two.covariances_.mean())
    if two.bic(x) >= one.bic(x) or distance < SMALLEST_DISTANCE:
        return np.nan
    grid = np.arange(1, counts.max() + 1)
    # Below the lower mean and above the upper the wider component would win again, on the wrong side.
    between = grid[(np.log2(grid) >= two.means_[lower, 0]) & (np.log2(grid) <= two.means_[upper, 0])]
    above = between[two.predict(np.log2(between)[:, None]) == upper] if len(between) else between
    return float(above[0] if len(above) else np.ceil(2 ** two.means_[upper, 0]))


def check_cells(adata: AnnData, guides: AnnData) -> NDArray[np.intp]:
    """Return the row of `guides` of each cell of `adata`, by name, -1 where it has none; raise if no cell is in both."""
    for name, data in (("expression", adata), ("guide counts", guides)):
        if not data.obs_names.is_unique:
            twice = data.obs_names[data.obs_names.duplicated()].unique()
            raise ValueError(
                f"{len(twice)} cells of the {name} occur more than once: {shorten(twice)}. Make them unique, with the "
                "batch in their names."
            )
    rows = guides.obs_names.get_indexer(adata.obs_names).astype(np.intp)
    if (rows < 0).all():
        raise ValueError(
            "No cell is in both the expression and the guide counts, by their names: "
            f"{shorten(adata.obs_names, 3)} and {shorten(guides.obs_names, 3)}. Bring their obs_names to one form."
        )
    return rows


def calls_from_table(adata: AnnData, guides: CallTable, sep: str, min_counts: float) -> tuple[Calls, int]:
    """Read calls from a long table; see :func:`scapp.pp.guides_to_perturbations`.

    Returns the calls, and how many cells of adata the table does not hold. Rows with fewer than `min_counts` are left out, where the
    table has counts.
    """
    table = _table(guides, adata.obs_names)
    cell, guide, count = _columns(table)
    if "good_coverage" in table:
        good = table["good_coverage"].astype(str).str.lower().isin(["true", "1", "1.0"])
        if not good.all():
            logger.info("Left out %d of %d calls whose 'good_coverage' is false.", int((~good).sum()), len(good))
        table = table[good]
    if table[guide].map(lambda call: isinstance(call, list | tuple | set | np.ndarray)).any():
        table = table.assign(**{guide: table[guide].map(list)}).explode(guide if count is None else [guide, count])
    rows = pd.DataFrame({"cell": names_of(table[cell], "cell"), "guide": table[guide].astype(object)})
    rows["guide"] = ["" if pd.isna(name) else str(name) for name in rows["guide"]]
    rows["count"] = np.nan if count is None else table[count].to_numpy()
    joins = _joins_of(rows["guide"], sep)
    if rows["guide"].str.contains(joins).any():
        rows["guide"] = rows["guide"].str.split(joins)
        if count is not None:
            rows["count"] = rows["count"].astype(str).str.split(joins)
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


def _joins_of(calls: Iterable[str], sep: str) -> re.Pattern[str]:
    """Return a pattern of what joins the guides of a cell: `sep`, and other signs between names of guides."""
    distinct = {part.strip() for call in calls for part in call.split(sep)}
    written = next((call for call in distinct if LIST_AS_TEXT.fullmatch(call)), None)
    if written is not None:
        raise ValueError(
            f"The guides of a cell are lists written as text, such as {written!r}. Join them by {sep!r}, as with "
            f'`calls.str.findall(r"[^\\[\\]()\',\\s]+").str.join({sep!r})`.'
        )
    joins = [sep]
    for join in OTHER_JOINS:
        joined = [call for call in distinct if join in call]
        parts = {part.strip() for call in joined for part in call.split(join)}
        name = _NAME if join in OTHER_JOINS[:4] else _NUMBERED_NAME
        if joined and (parts <= distinct or all(map(name.fullmatch, parts))):
            logger.info("Guides of a cell are joined by %r here, as in %r.", join, joined[0])
            joins.append(join)
            distinct = distinct.difference(joined) | parts
    return re.compile("|".join(map(re.escape, joins)))


def read_calls(guides: CallTable, cells: pd.Index) -> AnnData | pd.DataFrame:
    """Return a table of calls; or counts of guides, if it is a table of cells by guides, or of guides by cells."""
    table = _table(guides, cells)
    if find_column(table.iloc[:, 1:], GUIDES) is not None:
        return table
    names = table.columns[0]
    values = table.drop(columns=[names])
    if not values.shape[1] or not all(pd.api.types.is_numeric_dtype(dtype) for dtype in values.dtypes):
        return table
    rows = names_of(table[names], "cell").to_numpy()
    in_rows, in_columns = (int(pd.Index(one).isin(cells).sum()) for one in (rows, values.columns.astype(str)))
    if not in_rows and not in_columns:
        return table
    import anndata

    counts = anndata.AnnData(
        sparse.csr_matrix(values.to_numpy(dtype=np.float64)),
        obs=pd.DataFrame(index=rows.astype(str)),
        var=pd.DataFrame(index=values.columns.astype(str)),
    )
    logger.info("Read as counts of guides, %s.", "cells by guides" if in_rows >= in_columns else "guides by cells")
    return counts if in_rows >= in_columns else counts.T.copy()


def _table(guides: CallTable, cells: pd.Index) -> pd.DataFrame:
    if is_path(guides):
        guides = read_table(guides)
    if isinstance(guides, Mapping | pd.Series):
        pairs = [(key, value) for key, of in guides.items() for value in ([of] if isinstance(of, str) else _listed(of))]
        here = set(cells)
        from_guides = sum(value in here for _, value in pairs) > sum(key in here for key, _ in pairs)
        return pd.DataFrame(pairs, columns=["guide", "cell"] if from_guides else ["cell", "guide"], dtype=object)
    if not isinstance(guides, pd.DataFrame):
        raise TypeError(f"guides must be a table of calls, found {type(guides).__name__}.")
    if not isinstance(guides.index, pd.RangeIndex) and find_column(guides, CELLS) is None:
        return guides.rename_axis("cell").reset_index()
    return guides


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Iterable) else [value]


def targets_of_calls(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the targets of guides that a column of a table of calls names, by guide."""
    guide = _columns(table)[1]
    pairs = pd.DataFrame({"guide": table[guide].astype(str).str.strip(), "target": table[column]}).drop_duplicates()
    return pairs.set_index("guide")["target"]


def _columns(table: pd.DataFrame) -> tuple[str, str, str | None]:
    cell = find_column(table, CELLS)
    guide = find_column(table.drop(columns=[cell]) if cell is not None else table, GUIDES)
    if cell is None or guide is None:
        raise ValueError(
            f"Cannot tell which columns of the calls hold cells and guides: the columns are "
            f"{shorten(map(repr, table.columns), 12)}. Rename them to 'cell', 'guide' and, if there are counts, 'count'."
        )
    return cell, guide, find_column(table.drop(columns=[cell, guide]), COUNTS)
