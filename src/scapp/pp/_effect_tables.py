"""Tables of effects in the forms in which they are shared: long, wide, and one per perturbation."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from scapp._controls import Control, is_control
from scapp._effect_columns import (
    CONTEXTS,
    FOLDS,
    GENES,
    LIKE_TEST,
    LN,
    LOG2,
    LOG10,
    LOGS,
    PERTURBATIONS,
    EffectColumns,
    base_of,
    by_perturbation,
    columns_by_perturbation,
    find_columns,
)
from scapp._genes import shorten
from scapp._label_checks import check_labels
from scapp._labels import SEPARATOR, format_label, parse_label
from scapp._tables import (
    PathLike,
    check_column,
    check_single,
    find_column,
    is_path,
    name_of,
    names_of,
    plain,
    read_table,
    text_of,
    to_numbers,
)
from scapp._warn import warn_user

logger = logging.getLogger(__name__)

# A table with far more rows than columns probably has genes as rows.
MANY_ROWS, MUCH_LONGER = 1000, 5
_MISSING = {"", "na", "nan", "n/a", "none", "null", "<na>", "-", "#n/a", "."}
# Perturbations are on the side of which more names are those of the other side, by at least this share.
CLEARLY = 0.3
_VERSUS = re.compile(
    r"(?:(?:condition|perturbation|group|treatment|target)[_ .]+)?(?P<one>.+?)(?:[_ .\-]+(?:vs|versus)[_ .\-]+|\s+-\s+|\s*/\s*)(?P<two>.+)",
    re.IGNORECASE,
)
_LABEL = "perturbation of the table"
_ROLES = {
    "gene": "genes",
    "lfc": "effects",
    "se": "standard errors",
    "statistic": "statistics",
    "p_value": "p-values",
}
# Columns of screens of growth or survival, where a gene has one score and no effects on other genes; all of them must be present.
_FITNESS = {
    "MAGeCK": [{"neg|score"}, {"pos|score"}, {"sgrna", "treat_mean"}, {"sgrna", "treatment_count"}],
    "BAGEL": [{"gene", "bf"}],
    "drugZ": [{"gene", "normz"}, {"gene", "sumz"}],
    "JACKS or CERES": [{"gene", "x1"}, {"gene", "gene_effect"}],
}
LARGEST_Z = 37.0  # of the smallest p-value that a double holds


@dataclass
class FoundEffects:
    """Effects as read, in logs of ``record["base"]``, float64, shape (n_rows, n_genes), NaN if missing.

    `labels` and `contexts` are those of the rows; `contexts` is None where there is only one, and named by its column otherwise.
    `lfc_se` is None where no standard errors are known. `record` is how they were read, `var` what is known of the genes, and
    `canonical` whether labels are in their canonical form already.
    """

    labels: pd.Series
    contexts: pd.Series | None
    genes: pd.Index
    lfc: NDArray[np.float64]
    lfc_se: NDArray[np.float64] | None
    record: dict[str, Any] = field(default_factory=dict)
    var: pd.DataFrame | None = None
    canonical: bool = False


@dataclass(frozen=True)
class Options:
    columns: dict[str, str | None]
    lfc_se: str | pd.DataFrame | PathLike | None
    context_key: str | None
    base: str
    rows: str | None
    control: Control
    sep: str
    layer: str | None
    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.sep, str) or not self.sep:
            raise ValueError(f"sep joins the genes of a combination and must be text, not empty, found {self.sep!r}.")


def from_mapping(tables: Mapping[str, Any], options: Options) -> FoundEffects:
    if not tables:
        raise ValueError("There is no table in the mapping. Pass one for each perturbation.")
    parts = []
    roles: dict[str, tuple[str, str]] = {}
    for label, table in tables.items():
        table = read_table(table) if is_path(table) else table
        if not isinstance(table, pd.DataFrame):
            raise TypeError(f"Expected a table or its path for {label!r}, found {type(table).__name__}.")
        found = find_columns(table, {**options.columns, "lfc_se": None})
        if found.lfc is None or (found.gene is None and isinstance(table.index, pd.RangeIndex)):
            raise ValueError(
                f"The table of {label!r} has no column of genes or effects under a usual name; its columns are "
                f"{shorten(map(repr, table.columns), 12)}. Name them with gene=… and lfc=…."
            )
        if not len(table):
            raise ValueError(f"The table of {label!r} has no rows. Write it again, or leave it out.")
        if found.gene is None:
            table, found = table.rename_axis("gene").reset_index(), replace(found, gene="gene")
        for role in ("gene", "lfc", "se", "statistic", "p_value"):
            column = getattr(found, role)
            first, of_first = roles.setdefault(role, (label, column)) if column is not None else (label, column)
            if column != of_first:
                raise ValueError(
                    f"The tables of {first!r} and {label!r} have {_ROLES[role]} under different names, {of_first!r} and {column!r}. Bring "
                    f"them to one name (and one scale), as with `table.rename(columns={{{column!r}: {of_first!r}}})`."
                )
        own = found.perturbation
        if own is not None and options.columns["perturbation"] is None and table[own].nunique() == len(table) > 1:
            own = None  # genes under another name
        parts.append(
            table.drop(columns=[own] if own is not None and own != found.gene else []).assign(**{_LABEL: str(label)})
        )
    columns = {**options.columns, "perturbation": _LABEL}
    table = pd.concat(parts, ignore_index=True)
    return from_long(table, replace(options, columns=columns))


def from_table(table: pd.DataFrame, options: Options) -> FoundEffects:
    """Read a long or a wide table, whichever its columns say."""
    if not len(table) or not table.shape[1]:
        raise ValueError("The table of effects is empty.")
    _refuse_fitness(table)
    if not isinstance(table.index, pd.RangeIndex):
        name = table.index.name
        if not isinstance(name, str) or name in table.columns:
            name = "index" if "index" not in table else "row_names"
        if isinstance(table.index, pd.MultiIndex):
            table = table.reset_index()
        elif not pd.api.types.is_numeric_dtype(table.index.dtype):
            table = table.rename_axis(name).reset_index()
    table = table.reset_index(drop=True)
    if isinstance(table.columns, pd.MultiIndex):
        table.columns = ["_".join(str(part) for part in name if str(part)) for name in table.columns]
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()].unique()
        raise ValueError(
            f"{len(twice)} columns of the table occur twice: {shorten(twice)}. Rename or drop all but one of each."
        )
    errors_in = options.lfc_se if isinstance(options.lfc_se, str) and options.lfc_se in table else None
    given = {**options.columns, "lfc_se": errors_in}
    for argument, column in given.items():
        if column is not None:
            check_column(table, column, argument)
    found = find_columns(table, given)
    columns = shorten(map(repr, table.columns), 12)
    texts = [column for column in table.columns if _is_text(table[column])]
    named = any(options.columns[name] is not None for name in ("gene", "lfc"))
    numbers = table.shape[1] - len(texts)
    is_long = found.lfc is not None and found.gene is not None and found.perturbation is not None
    others_named = any(column is not None for argument, column in given.items() if argument != "gene")
    of_each = {} if others_named or is_long else columns_by_perturbation(table)
    if of_each and _name_genes(of_each, table[texts], options):
        return from_table(by_perturbation(table, of_each), options)
    # No gene is called "log2FC".
    is_named_long = is_long and plain(found.lfc) in {*LOG2, *LN, *LOG10}
    # A wide table may have a gene called "T" or "F" among its columns; a long one has two columns of text or more.
    if named or is_named_long or (is_long and len({found.gene, found.perturbation} & set(texts)) == 2):
        return from_long(table, options)
    if found.lfc is not None and plain(found.lfc) in {*LOG2, *LN, *LOG10, *LOGS} and numbers < 12 and len(texts) >= 1:
        if None in (found.perturbation, found.gene):
            what = "perturbations" if found.perturbation is None else "genes"
            raise ValueError(
                f"This is a long table with effects in {found.lfc!r}, but its {what} have no usual name; its columns are {columns}. "
                "Name them with perturbation=… and gene=…; the table of one perturbation is passed as {'KLF1': table}."
            )
    folds = find_column(table, FOLDS)
    if folds is not None and found.gene is not None:
        raise ValueError(
            f"The column {folds!r} seems to hold ratios; expected are their logarithms. Take them first, as in "
            f"`table.assign(lfc=np.log(table[{folds!r}]))`, and pass base='e'."
        )
    others = found.statistic or found.p_value
    z_may_stand = f"; z may stand for them where nothing else is known, with lfc={others!r}, base='e'."
    if found.lfc is None and None not in (found.gene, found.perturbation, others) and len(texts) >= 2:
        raise ValueError(
            f"The table has {others!r} but no effects under a usual name; its columns are {columns}. Name the "
            f"effects with lfc=…{z_may_stand if found.statistic else '.'}"
        )
    tests = [column for column in table.columns if LIKE_TEST.fullmatch(plain(column))]
    if tests and numbers < 12:
        raise ValueError(
            f"This is a long table of tests (with {tests[0]!r}), but which columns hold perturbations, genes and effects cannot be told; "
            f"its columns are {columns}. Name them with perturbation=…, gene=… and lfc=…."
        )
    return _from_wide(table, texts, options)


def _refuse_fitness(table: pd.DataFrame) -> None:
    names = {plain(column) for column in table.columns}
    of_mle = any(re.fullmatch(r".+\|(?:beta|wald_fdr|wald_p_value)", name) for name in names)
    program = next((one for one, sets in _FITNESS.items() if any(needed <= names for needed in sets)), None)
    if of_mle or program is not None:
        raise ValueError(
            f"These are scores of a screen of growth or survival, as from {program or 'MAGeCK'}: one a gene, and no effects on the expression of "
            "other genes. Expected are log-fold-changes of genes by perturbation, as from DESeq2 or `scapp.pp.pseudobulk`."
        )


def _name_genes(labels: Iterable[str], texts: pd.DataFrame, options: Options) -> bool:
    """Return whether most labels name a gene of the table, so that they are perturbations and not other effects."""
    genes = {str(name).strip() for column in texts for name in texts[column]}
    known = [
        any(part.strip() in genes for part in without_control(label, options.control).split(options.sep))
        for label in labels
    ]
    return 2 * sum(known) >= len(known)


def _is_text(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return False
    return _numbers(column).isna().mean() > 0.5


def _numbers(column: pd.Series, what: str | None = None) -> pd.Series:
    """Return a column as numbers, NaN where it says that there is none; raise if `what` is given and other text is there."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype(np.float64)
    text = text_of(column)
    numbers = to_numbers(text)
    absent = text.str.lower().isin(_MISSING)
    commas = text[numbers.isna() & ~absent].str.fullmatch(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
    if len(commas) and commas.all():
        numbers = numbers.fillna(to_numbers(text.str.replace(",", ".", regex=False)))
    wrong = numbers.isna() & ~absent
    if what is not None and wrong.any():
        first = ", ".join(map(repr, text[wrong].unique()[:3]))
        raise ValueError(
            f"{int(wrong.sum())} of {len(text)} values of {column.name!r} ({what}) are not numbers: {first}. Correct them, or name "
            "another column."
        )
    return numbers


def from_long(table: pd.DataFrame, options: Options) -> FoundEffects:
    se_column, columns = options.lfc_se, shorten(map(repr, table.columns), 12)
    if se_column is not None and not (isinstance(se_column, str) and se_column in table):
        given_as = se_column if isinstance(se_column, str) else type(se_column).__name__
        raise ValueError(
            f"lfc_se names the column of standard errors of a long table, found {given_as!r}; the columns are {columns}."
        )
    given = {**options.columns, "lfc_se": se_column if isinstance(se_column, str) else None}
    for argument, column in given.items():
        if column is not None and column != _LABEL:
            check_column(table, column, argument)
    found = find_columns(table, given)
    for argument, column in (("perturbation", found.perturbation), ("gene", found.gene), ("lfc", found.lfc)):
        if column is None:
            raise ValueError(
                f"Cannot tell the column of the {argument}; the columns are {columns}. Name it with {argument}=…."
            )
    used = [found.perturbation, found.gene, found.lfc, found.se, found.statistic, found.p_value]
    check_single(table, used)
    assert found.lfc is not None and found.gene is not None and found.perturbation is not None
    label = table[found.perturbation].map(name_of)
    label = compared(label, options)
    gene = names_of(table[found.gene], "gene")
    context = _context(table, label, gene, [*used, found.adjusted, found.freedom], options)
    values = _numbers(table[found.lfc], "lfc").to_numpy()
    base, told = told_base(found.lfc, table.columns, options)
    errors, source = _errors(table, found, values)
    if errors is not None and not np.isfinite(errors).any():
        warn_user(
            f"No standard error follows from {source}: all statistics are zero or missing. The effects have none; name others with "
            "lfc_se=…, statistic=… or p_value=…."
        )
        errors, source = None, ""
    record = {"lfc_column": str(found.lfc), "base": base, "told_by": told}
    logger.info("Perturbations from the column %r, genes from %r, effects from %r.", *used[:3])
    if source:
        record["lfc_se"] = source
    frame = pd.DataFrame({"label": label.to_numpy(), "gene": gene.to_numpy()})
    frame["context"] = "" if context is None else context.to_numpy()
    frame["lfc"] = values
    frame["lfc_se"] = np.nan if errors is None else errors
    frame["label"] = frame["label"].map(canonical(frame["label"], frame["gene"], options))
    frame = frame[frame["label"].notna()].drop_duplicates()
    if frame.empty:
        raise ValueError("No perturbation is left: all labels are controls.")
    twice = frame.duplicated(["label", "context", "gene"])
    if twice.any():
        first = frame[twice].iloc[0]
        raise ValueError(
            f"{int(twice.sum())} effects are there more than once with other values, the first that of {first['label']} on "
            f"{first['gene']}. If these are conditions, name their column with context_key=…; if not, average them first, as with "
            "`table.groupby(['perturbation', 'gene'], as_index=False).mean(numeric_only=True)`."
        )
    rows = frame.groupby(["label", "context"], sort=False).ngroup().to_numpy()
    pairs = frame[["label", "context"]].drop_duplicates()
    places, genes = pd.factorize(frame["gene"])
    lfc, lfc_se = (np.full((len(pairs), len(genes)), np.nan) for _ in range(2))
    lfc[rows, places] = frame["lfc"]
    lfc_se[rows, places] = frame["lfc_se"]
    pairs = pairs.reset_index(drop=True)
    contexts = None if context is None else pairs["context"].rename(context.name)
    matrices = (lfc, None if errors is None else lfc_se)
    return FoundEffects(pairs["label"], contexts, pd.Index(genes), *matrices, record, canonical=True)


def told_base(name: object, columns: Sequence[object] | pd.Index, options: Options) -> tuple[str, str]:
    base, told = base_of(name, list(columns))
    if options.base and base and options.base != base and "name" in told:
        warn_user(
            f"{told} says base {base}, but base={options.base!r} was passed and is used. Leave it out if the name is right."
        )
    if options.base:
        return options.base, "base=…"
    if not base:
        raise ValueError(
            f"Whether the effects in {name!r} are natural logs, log2 or log10 cannot be told by their name. Say it with base='e', "
            "base=2 or base=10 (DESeq2, edgeR, limma and Seurat report log2)."
        )
    return base, told


def _errors(
    table: pd.DataFrame, found: EffectColumns, lfc: NDArray[np.float64]
) -> tuple[NDArray[np.float64] | None, str]:
    """Return standard errors on the scale of the effects, and where they come from."""
    if found.se is not None:
        errors = _numbers(table[found.se], "lfc_se").to_numpy()
        check_errors(errors, repr(found.se))
        return errors, repr(found.se)
    freedom = None if found.freedom is None else _numbers(table[found.freedom]).to_numpy()
    # The statistic of a test of several degrees of freedom is no square of z or t.
    first = find_column(table, ["df1", "df_1", "df_num"])
    several = first is not None and bool((_numbers(table[first]) != 1).any())
    if found.statistic is not None and not (found.squared and several):
        values = _numbers(table[found.statistic], "statistic").to_numpy()
        if found.squared and (values < 0).any():
            raise ValueError(
                f"{found.statistic!r} holds negative values, expected F or chi-squared. Name another with statistic=…."
            )
        root = "the root of " if found.squared else ""
        size = np.sqrt(values) if found.squared else np.abs(values)
        return _errors_of(lfc, size), f"the effect and {root}{found.statistic!r}"
    if found.p_value is not None:
        p = _numbers(table[found.p_value], "p_value").to_numpy()
        if ((p < 0) | (p > 1)).any():
            raise ValueError(
                f"{found.p_value!r} holds values outside of 0 to 1, expected p-values. Name another with p_value=…."
            )
        student = freedom if found.freedom is not None and plain(found.freedom) != "df" else None
        if (p == 0).any():
            warn_user(
                f"{int((p == 0).sum())} values of {found.p_value!r} are 0, and their exact size is lost: they are read as |z| = {LARGEST_Z:.0f}, so that "
                "these standard errors may be too large or too small. Name z, t or standard errors with statistic=… or "
                "lfc_se=… if you have them."
            )
        size = stats.norm.isf(p / 2) if student is None else stats.t.isf(p / 2, student)
        return _errors_of(lfc, np.where(p == 0, LARGEST_Z, size)), f"the effect and {found.p_value!r}"
    if found.adjusted is not None:
        warn_user(
            f"The table has adjusted p-values alone ({found.adjusted!r}), from which standard errors do not follow. The effects have "
            "none; name p-values, z or t, or standard errors with p_value=…, statistic=… or lfc_se=…."
        )
    return None, ""


def _errors_of(lfc: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return standard errors from effects and the size of their z or t; NaN if either is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.abs(lfc) / size
    return np.where((size > 0) & (np.abs(lfc) > 0) & np.isfinite(errors), errors, np.nan)


def check_errors(errors: NDArray[np.float64], where: str) -> None:
    """Raise if standard errors are negative."""
    negative = errors[errors < 0]
    if len(negative):
        raise ValueError(
            f"{len(negative)} standard errors in {where} are negative, the first: {negative[0]:.4g}. Correct them, or name others "
            "with lfc_se=…."
        )


def _context(
    table: pd.DataFrame, label: pd.Series, gene: pd.Series, used: list[str | None], options: Options
) -> pd.Series | None:
    """Return the context of each effect, where one is named or effects occur twice without it."""
    if options.context_key is not None:
        return names_of(table[check_column(table, options.context_key, "context_key")], "context").rename(
            options.context_key
        )
    pairs = pd.DataFrame({"label": label.to_numpy(), "gene": gene.to_numpy()})
    if not pairs.duplicated().any():
        return None
    candidates = [column for column in table.columns if plain(column) in CONTEXTS and column not in used]
    for column in sorted(candidates, key=lambda column: CONTEXTS.index(plain(column))):
        values = text_of(table[column])
        twice = pairs.assign(context=values.to_numpy()).duplicated()
        if values.nunique() > 1 and (values != "").all() and not twice.any():
            return values.rename(column)
    return None


def _from_wide(table: pd.DataFrame, texts: list[str], options: Options) -> FoundEffects:
    labels_in, contexts_in = _label_columns(table, texts, options)
    values = table.drop(columns=[column for column in (labels_in, contexts_in) if column is not None])
    values = values.drop(columns=[column for column in texts if column in values])
    if not values.shape[1]:
        raise ValueError(
            f"Cannot tell which columns hold effects; the columns are {shorten(map(repr, table.columns), 12)}. Name those of a long "
            "table with perturbation=…, gene=… and lfc=…."
        )
    names = names_of(table[labels_in], "label") if labels_in is not None else pd.Series(map(str, table.index))
    matrix = np.column_stack([_numbers(values[column], "lfc").to_numpy() for column in values.columns])
    header = list(map(name_of, values.columns))
    if len(header) > 1 and header == [str(k) for k in range(len(header))]:
        raise ValueError(
            f"The columns of the table are numbered from 0 to {len(header) - 1}, where names of genes are expected. Name them, as with "
            "`table.columns = adata.var_names`."
        )
    genes_in_rows = _genes_in_rows(names, header, labels_in, options)
    errors = _wide_errors(options.lfc_se, names, header)
    base, told = told_base(options.name or "the table", [], options)
    record = {"base": base, "told_by": told}
    if errors is not None:
        check_errors(errors, "the table of lfc_se")
        record["lfc_se"] = "a table"
    if contexts_in is not None and genes_in_rows:
        raise ValueError(
            f"The rows are genes, but {contexts_in!r} says a context of each row. Pass rows='perturbations' if they are."
        )
    contexts = None if contexts_in is None else names_of(table[contexts_in], "context").rename(contexts_in)
    if genes_in_rows:
        names, header = pd.Series(header), names.tolist()
        matrix, errors = matrix.T, None if errors is None else errors.T
    return FoundEffects(compared(names, options), contexts, pd.Index(header), matrix, errors, record)


def _label_columns(table: pd.DataFrame, texts: list[str], options: Options) -> tuple[str | None, str | None]:
    """Return the columns of a wide table that hold the labels of its rows and their contexts."""
    context = options.context_key
    if context is not None:
        check_column(table, context, "context_key")
    if options.columns["perturbation"] is not None:
        return options.columns["perturbation"], context
    left = [column for column in texts if column != context]
    if len(left) > 1:
        part = table[left]
        label = (
            find_column(part, PERTURBATIONS[:-1])
            or find_column(part, GENES)
            or next(c for c in left if plain(c) not in CONTEXTS)
        )
        others = [column for column in left if column != label]
        if context is None:
            context = find_column(part, CONTEXTS, [label])
        unclear = [column for column in others if column != context and plain(column) not in GENES]
        if unclear and find_column(part, [*PERTURBATIONS[:-1], *GENES]) is None:
            raise ValueError(
                f"Several columns hold text, and which one names the rows cannot be told: {shorten(map(repr, left))}. Name it with "
                "perturbation=…."
            )
        return label, context if context is not None and table[context].nunique() > 1 else None
    if left:
        return left[0], context
    first = table.columns[0]
    if str(first).startswith("Unnamed") or plain(first) in GENES:
        return first, context  # Entrez ids
    raise ValueError(
        f"No column names the rows: all {table.shape[1]} columns hold numbers, the first are {shorten(map(repr, table.columns))}. "
        "Expected perturbations, or genes, as the first column or as the index."
    )


def _genes_in_rows(names: pd.Series, header: list[str], label: object, options: Options) -> bool:
    if options.rows is not None:
        return options.rows == "genes"
    if options.columns["perturbation"] is not None:
        return False
    word = plain(label)
    if word in PERTURBATIONS:
        return False
    joined = [any(options.sep in name for name in one) for one in (names, header)]
    sides = shares_of_genes(names, header, options.sep)
    if abs(sides[0] - sides[1]) > CLEARLY:
        if sides[1] > sides[0]:
            logger.info(
                "The rows of the table are read as genes and its columns as perturbations: more of their names are genes."
            )
        return sides[1] > sides[0]
    comparisons = [any(_VERSUS.fullmatch(name) for name in list(one)[:50]) for one in (names, header)]
    in_columns = (joined[1] and not joined[0]) or (comparisons[1] and not comparisons[0])
    if in_columns or (word in GENES and word and not word.startswith(("unnamed", "index", "row"))):
        logger.info("The rows of the table are read as genes and its columns as perturbations.")
        return True
    if len(names) > MANY_ROWS and len(names) > MUCH_LONGER * len(header) and not joined[0]:
        raise ValueError(
            f"The table has {len(names):,} rows and {len(header):,} columns: are the rows genes and the columns perturbations? Say it "
            "with rows='genes' or rows='perturbations'."
        )
    return False


def shares_of_genes(rows: Iterable[str], columns: Iterable[str], sep: str) -> tuple[float, float]:
    """Return the share of genes in row labels that are column names, and vice versa.

    Most perturbed genes are measured, but few measured genes are perturbed.
    """
    names = [{str(name).strip() for name in side} for side in (rows, columns)]
    genes = [{part.strip() for name in side for part in name.split(sep)} for side in names]
    shares = [len(genes[k] & names[1 - k]) / max(len(genes[k]), 1) for k in (0, 1)]
    return shares[0], shares[1]


def _wide_errors(
    given: str | pd.DataFrame | PathLike | None, names: pd.Series, header: list[str]
) -> NDArray[np.float64] | None:
    """Return standard errors from a table of the same rows and columns, by name."""
    if given is None:
        return None
    table = read_table(given) if is_path(given) else given
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"lfc_se must be a table like that of the effects, or its path, found {type(table).__name__}.")
    if not len(table) or not table.shape[1]:
        raise ValueError("The table of lfc_se is empty. Pass one like that of the effects, or leave it out.")
    if isinstance(table.index, pd.RangeIndex):
        table = table.set_index(table.columns[0])
    table.index = table.index.map(lambda name: str(name).strip())
    table.columns = [str(column).strip() for column in table.columns]
    rows, columns = table.index.get_indexer(names), table.columns.get_indexer(header)
    if (rows < 0).any() or (columns < 0).any():
        raise ValueError(
            f"The table of standard errors lacks {int((rows < 0).sum())} of the {len(names)} rows and {int((columns < 0).sum())} of the "
            f"{len(header)} columns of the effects. Pass one of the same names."
        )
    values = np.column_stack([_numbers(table.iloc[:, column], "lfc_se").to_numpy() for column in columns])
    return values[rows]


def canonical(labels: pd.Series, genes: pd.Series | pd.Index, options: Options) -> dict[str, str | None]:
    """Return the canonical form of each label; None for controls, which are left out with a message."""
    counts = labels.value_counts(sort=False)
    check_labels(counts.to_dict(), genes, control=options.control, sep=options.sep)
    read = {label: parse_label(label, control=options.control, sep=options.sep) for label in counts.index}
    controls = [label for label, perturbed in read.items() if not perturbed]
    if controls:
        named = ", ".join(f"{label!r} ({counts[label]} rows)" for label in controls[:12])
        logger.info("Left out as controls: %s.", named)
    clash = [gene for perturbed in read.values() for gene in perturbed if SEPARATOR in gene]
    if clash:
        raise ValueError(
            f"Labels hold {SEPARATOR!r}, which joins the genes of a combination: {shorten(clash)}. Pass sep={SEPARATOR!r} (found "
            f"sep={options.sep!r})."
        )
    return {label: format_label(perturbed) if perturbed else None for label, perturbed in read.items()}


def compared(labels: pd.Series, options: Options) -> pd.Series:
    """Return labels without the control that they are compared with."""
    return labels.map({label: without_control(label, options.control) for label in labels.unique()})


def without_control(label: str, control: Control) -> str:
    """Return the perturbation of a comparison with controls, such as ``"KLF1_vs_control"`` or ``"KLF1-control"``.

    ValueError if it is the control that is compared with a perturbation, so that effects have the other sign.
    """
    named = control if control is None or isinstance(control, str) else list(control)

    def is_one(name: str) -> bool:
        return is_control(name, named) or is_control(name)

    match = _VERSUS.fullmatch(label)
    if match is not None and is_one(match["two"].strip()):
        return match["one"].strip()
    if match is not None and is_one(match["one"].strip()):
        raise ValueError(
            f"{label!r} compares the control with {match['two'].strip()!r}, so that effects have the other sign. Turn them round, as with "
            f"`table.assign(lfc=-table['lfc'])`, and call the perturbation {match['two'].strip()!r}."
        )
    one, join, two = label.rpartition("-")
    return one.strip() if join and one.strip() and is_one(two.strip()) and not is_one(label) else label
