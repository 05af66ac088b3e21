"""Effects that others calculated, in the forms in which they are shared, into an AnnData that every later call knows."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scapp._checked import checked
from scapp._controls import Control, is_control, missing_kind
from scapp._effect_columns import (
    CONTEXTS,
    ERRORS,
    FOLDS,
    GENES,
    LN,
    LOG2,
    LOG10,
    LOGS,
    PERTURBATIONS,
    EffectColumns,
    base_of,
    errors_of,
    find,
    find_columns,
    plain_name,
)
from scapp._genes import check_gene_names, scapp_uns, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, format_label, parse_label
from scapp._tables import PathLike, check_column, check_single, is_path, names_of, read_table, to_numbers
from scapp._warn import warn_user

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Given: TypeAlias = AnnData | pd.DataFrame | PathLike | Mapping[str, pd.DataFrame | PathLike]

logger = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".parquet", ".xlsx")
FACTORS = {"e": 1.0, "2": float(np.log(2)), "10": float(np.log(10))}
NAMES_OF_BASES = {"e": "natural logs", "2": "log2", "10": "log10"}
BASES = {
    "e": "e",
    "ln": "e",
    "natural": "e",
    "2": "2",
    "2.0": "2",
    "log2": "2",
    "10": "10",
    "10.0": "10",
    "log10": "10",
}
# Far more rows than columns are genes by perturbations, it seems.
MANY_ROWS, MUCH_LONGER = 1000, 5
# Beyond this, natural log-fold-changes are logs of something near zero.
LARGEST_LFC = 50.0
# So many effects are not all of one sign.
MANY_VALUES = 50
_MISSING = {"", "na", "nan", "n/a", "none", "null", "<na>", "-", "#n/a", "."}
_VERSUS = re.compile(
    r"(?:(?:condition|perturbation|group|treatment|target)[_ .]+)?(?P<one>.+?)(?:[_ .\-]+(?:vs|versus)[_ .\-]+|\s+-\s+|\s*/\s*)(?P<two>.+)",
    re.IGNORECASE,
)


@dataclass
class _Effects:
    """Effects as they were read, natural log, float64 of shape (n_rows, n_genes), NaN where there is none.

    Parameters
    ----------
    labels, contexts
        Of the rows; `contexts` is None where there is one alone, and named by its column otherwise.
    genes
        Of the columns.
    lfc, lfc_se
        Effects and standard errors; `lfc_se` is None where none are known.
    record
        How they were read.
    var
        What is known of the genes.
    canonical
        Whether labels are in their canonical form already.
    """

    labels: pd.Series
    contexts: pd.Series | None
    genes: pd.Index
    lfc: NDArray[np.float64]
    lfc_se: NDArray[np.float64] | None
    record: dict[str, Any] = field(default_factory=dict)
    var: pd.DataFrame | None = None
    canonical: bool = False


@checked
def read_effects(
    effects: Given,
    *,
    perturbation: str | None = None,
    gene: str | None = None,
    lfc: str | None = None,
    lfc_se: str | pd.DataFrame | PathLike | None = None,
    statistic: str | None = None,
    p_value: str | None = None,
    context_key: str | None = None,
    base: Literal["e", 2, 10] | float | str | None = None,
    rows: Literal["perturbations", "genes"] | None = None,
    fill_value: float | None = None,
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = None,
    sep: str = SEPARATOR,
    layer: str | None = None,
) -> AnnData:
    r"""Read effects that were calculated elsewhere: tables of differential expression, or of perturbations by genes.

    Effects are brought to the natural logarithm. Which logarithm was taken is told by the names of columns where these
    say it (``log2FoldChange``, ``avg_log2FC``, the columns of DESeq2, edgeR, limma, scanpy, glmGamPoi and pertpy); where
    they do not, `base` must.

    Standard errors :math:`\mathrm{se}` are those of the table or, where there are none, follow from the effect
    :math:`\beta` and its statistic, :math:`\mathrm{se} = |\beta| / |z|`, which may be z, t, or the root of F or
    :math:`\chi^2` of one degree of freedom, or from its two-sided p-value by :math:`|z| = \Phi^{-1}(1 - p / 2)` (by
    Student's t where the table has its degrees of freedom). Adjusted p-values are not used. Where these say nothing, as of an
    effect of zero, the median of the gene over the other perturbations stands for it, with a warning.

    Parameters
    ----------
    effects
        One of:

        - a long table with one effect a row and columns for the perturbation, the gene and the effect;
        - a wide table, one row per perturbation and one column per gene (or the other way round, see `rows`);
        - a folder with one long table a perturbation, which is named by its file, or a mapping from perturbations to
          tables;
        - an AnnData of effects, perturbations by genes, or one with the results of
          :func:`scanpy.tl.rank_genes_groups`.

        Tables are DataFrames or paths of csv, tsv, parquet or xlsx files; AnnData may be the path of a ``.h5ad`` file or a
        ``.zarr`` folder. Nothing is changed.
    perturbation, gene, lfc, lfc_se, statistic, p_value
        Columns, where they have no usual names. `lfc_se` may also be a wide table, or its path, beside a wide table of
        effects, or a layer of an AnnData.
    context_key
        Column with the cell line or condition of each effect. Found under its usual names where effects would occur twice
        without it.
    base
        Base of the logarithm: ``"e"``, 2 or 10.
    rows
        What the rows of a wide table are. None takes them for perturbations, unless names say otherwise.
    fill_value
        What stands for effects that the table does not hold, such as 0 where only changes were kept. None leaves them NaN,
        with a warning.
    perturbation_key
        Column of ``obs`` that gets the labels.
    control
        Label of controls, or a list; their rows are left out. Usual names of controls are left out as well.
    sep
        What joins the genes of a combination. Labels of the result are joined by ``"+"``.
    layer
        Layer of an AnnData that holds the effects; found under its usual names if None, or else `X`.

    Returns
    -------
    AnnData of perturbations by genes: ``layers["lfc"]`` (and `X`), natural log; ``layers["lfc_se"]`` where known;
    ``obs[perturbation_key]`` and ``obs["n_perturbed_genes"]``. With several contexts, one observation for each perturbation
    and context, as from :func:`scapp.pp.pseudobulk`. How it was read is in ``uns["scapp"]["effects"]``.

    Raises
    ------
    ValueError
        If columns or the logarithm cannot be told, effects occur twice, are no numbers or infinite, standard errors are
        negative, or nothing is left.
    TypeError
        If `effects` is something else.

    See Also
    --------
    scapp.pp.pseudobulk : Effects from cells.
    scapp.pp.select_context : The effects in one context.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"perturbation": ["KLF1", "GATA1"], "gene": "HBB", "log2FoldChange": [-1.1, -0.7], "lfcSE": 0.2}
    ... )
    >>> effects = scapp.pp.read_effects(table)
    >>> effects.to_df("lfc").round(2)
            HBB
    KLF1  -0.76
    GATA1 -0.49
    """
    columns = {"perturbation": perturbation, "gene": gene, "lfc": lfc, "statistic": statistic, "p_value": p_value}
    name = Path(effects).name if is_path(effects) else ""
    options = _Options(columns, lfc_se, context_key, _base(base), rows, control, sep, layer, name)
    effects = _open(effects)
    if isinstance(effects, AnnData):
        found = _from_anndata(effects, options)
    elif isinstance(effects, Mapping):
        found = _from_mapping(effects, options)
    elif isinstance(effects, pd.DataFrame):
        found = _from_table(effects, options)
    else:
        raise TypeError(
            "effects must be a DataFrame, an AnnData, the path of a table, an AnnData or a folder of tables, or a mapping from "
            f"perturbations to tables, found {type(effects).__name__}."
        )
    read = _assemble(found, options, perturbation_key, fill_value)
    record = read.uns[Key.uns.SCAPP][Key.uns.EFFECTS]
    logger.info(
        "%d perturbations by %d genes: %s; %s.",
        read.n_obs,
        read.n_vars,
        record["normalisation"],
        f"standard errors from {record['lfc_se']}" if "lfc_se" in record else "no standard errors",
    )
    return read


@dataclass(frozen=True)
class _Options:
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
        if self.rows not in (None, "perturbations", "genes"):
            raise ValueError(f"rows must be 'perturbations' or 'genes', found {self.rows!r}.")
        if not isinstance(self.sep, str) or not self.sep:
            raise ValueError(f"sep joins the genes of a combination and must be text, not empty, found {self.sep!r}.")


def _base(base: object) -> str:
    if base is None:
        return ""
    number = float(base) if isinstance(base, int | float | np.number) and not isinstance(base, bool) else None
    if number is not None and np.isclose(number, np.e):
        return "e"
    found = BASES.get(str(number if number is not None else base).lower())
    if found is None:
        raise ValueError(f"base must be 'e', 2 or 10, the base of the logarithm of the effects, found {base!r}.")
    return found


def _open(effects: Any) -> Any:
    """Return what a path names, or what was given."""
    if not is_path(effects):
        return effects
    path = Path(effects).expanduser()
    if path.suffix == ".h5ad" or (
        path.is_dir() and any((path / name).exists() for name in (".zgroup", "zarr.json", ".zattrs"))
    ):
        import anndata

        if not path.exists():
            raise ValueError(f"There is no file {str(path)!r} (looked in {str(Path.cwd())!r}).")
        try:
            return anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{str(path)!r} cannot be read as an AnnData: it is truncated, damaged or of another kind ({error}). Expected a "
                ".h5ad file or a .zarr folder; fetch or write it again."
            ) from error
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _is_table(file))
        if not files:
            raise ValueError(f"The folder {str(path)!r} holds no tables ({', '.join(TABLE_SUFFIXES)}).")
        return dict(zip(_labels_of([_stem(file) for file in files]), files, strict=True))
    return read_table(path)


def _is_table(file: Path) -> bool:
    return file.is_file() and not file.name.startswith((".", "~")) and _plain_name(file).endswith(TABLE_SUFFIXES)


def _plain_name(file: Path) -> str:
    return file.name.lower().removesuffix(".gz")


def _stem(file: Path) -> str:
    name = file.name[: len(_plain_name(file))]
    return name[: name.rindex(".")]


def _labels_of(stems: list[str]) -> list[str]:
    """Return the names of files without what all share at their begin or end, such as ``"DE_"`` and ``"_vs_control"``."""
    stems = [_without_control(stem, None) for stem in stems]
    if len(stems) < 2:
        return stems
    parts = [re.split(r"([_.\- ]+)", stem) for stem in stems]
    begin = 0
    while all(len(part) > begin + 2 and part[begin : begin + 2] == parts[0][begin : begin + 2] for part in parts):
        begin += 2
    parts = [part[begin:] for part in parts]
    end = 0
    while all(
        len(part) > end + 2 and part[len(part) - end - 2 :] == parts[0][len(parts[0]) - end - 2 :] for part in parts
    ):
        end += 2
    return ["".join(part[: len(part) - end]) for part in parts]


def _without_control(label: str, control: Control) -> str:
    """Return the perturbation of a comparison with controls, such as ``"KLF1_vs_control"``."""
    match = _VERSUS.fullmatch(label)
    named = control if control is None or isinstance(control, str) else list(control)
    if match is not None and (is_control(match["two"].strip(), named) or is_control(match["two"].strip())):
        return match["one"].strip()
    return label


def _from_mapping(tables: Mapping[str, Any], options: _Options) -> _Effects:
    if not tables:
        raise ValueError("There is no table in the mapping. Pass one for each perturbation.")
    parts = []
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
        if found.gene is None:
            table = table.rename_axis("gene").reset_index()
        own = found.perturbation
        if own is not None and options.columns["perturbation"] is None and table[own].nunique() == len(table) > 1:
            own = None  # genes under another name
        parts.append(
            table.drop(columns=[own] if own is not None and own != found.gene else []).assign(**{_LABEL: str(label)})
        )
    columns = {**options.columns, "perturbation": _LABEL}
    table = pd.concat(parts, ignore_index=True)
    return _from_long(table, _Options(**{**vars(options), "columns": columns}))


_LABEL = "perturbation of the table"


def _from_table(table: pd.DataFrame, options: _Options) -> _Effects:
    """Read a long or a wide table, whichever its columns say."""
    if not len(table) or not table.shape[1]:
        raise ValueError("The table of effects is empty.")
    if not isinstance(table.index, pd.RangeIndex):
        name = table.index.name if isinstance(table.index.name, str) and table.index.name not in table.columns else ""
        if isinstance(table.index, pd.MultiIndex):
            table = table.reset_index()
        elif not pd.api.types.is_numeric_dtype(table.index.dtype):
            table = table.rename_axis(name).reset_index()
    table = table.reset_index(drop=True)
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()].unique()
        raise ValueError(
            f"{len(twice)} columns of the table occur twice: {shorten(twice)}. Rename or drop all but one of each."
        )
    given = {
        **options.columns,
        "lfc_se": options.lfc_se if isinstance(options.lfc_se, str) and options.lfc_se in table else None,
    }
    for argument, column in given.items():
        if column is not None:
            check_column(table, column, argument)
    found = find_columns(table, given)
    texts = [column for column in table.columns if _is_text(table[column])]
    named = any(options.columns[name] is not None for name in ("gene", "lfc"))
    numbers = table.shape[1] - len(texts)
    is_long = found.lfc is not None and found.gene is not None and found.perturbation is not None
    # A wide table may have a gene called "T" or "F" among its columns; a long one has two columns of text or more.
    if named or (is_long and len({found.gene, found.perturbation} & set(texts)) == 2):
        return _from_long(table, options)
    if (
        found.lfc is not None
        and plain_name(found.lfc) in {*LOG2, *LN, *LOG10, *LOGS}
        and numbers < 12
        and len(texts) >= 1
    ):
        if found.perturbation is None or found.gene is None:
            what = "perturbations" if found.perturbation is None else "genes"
            raise ValueError(
                f"This is a long table with effects in {found.lfc!r}, but its {what} have no usual name; its columns are "
                f"{shorten(map(repr, table.columns), 12)}. Name them with perturbation=… and gene=…; the table of one perturbation "
                "is passed as {'KLF1': table}."
            )
    others = found.statistic or found.p_value
    if found.lfc is None and None not in (found.gene, found.perturbation, others) and len(texts) >= 2:
        raise ValueError(
            f"The table has {others!r} but no effects under a usual name; its columns are {shorten(map(repr, table.columns), 12)}. Name "
            "the effects with lfc=…"
            + (
                f"; z may stand for them where nothing else is known, with lfc={others!r}, base='e'."
                if found.statistic
                else "."
            )
        )
    folds = find(table, FOLDS)
    if folds is not None and found.gene is not None:
        raise ValueError(
            f"The column {folds!r} holds ratios, it seems; expected are their logarithms. Take them first, as in "
            f"`table.assign(lfc=np.log(table[{folds!r}]))`, and pass base='e'."
        )
    return _from_wide(table, texts, options)


def _is_text(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return False
    return _numbers(column).isna().mean() > 0.5


def _numbers(column: pd.Series, what: str | None = None) -> pd.Series:
    """Return a column as numbers, NaN where it says that there is none; raise if `what` is given and other text is there."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype(np.float64)
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    numbers = to_numbers(text)
    absent = text.str.lower().isin(_MISSING)
    if (
        commas := text[numbers.isna() & ~absent].str.fullmatch(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
    ).any() and commas.all():
        numbers = numbers.fillna(to_numbers(text.str.replace(",", ".", regex=False)))
    wrong = numbers.isna() & ~absent
    if what is not None and wrong.any():
        first = ", ".join(map(repr, text[wrong].unique()[:3]))
        raise ValueError(
            f"{int(wrong.sum())} of {len(text)} values of {column.name!r} ({what}) are no numbers: {first}. Correct them, or name "
            "another column."
        )
    return numbers


def _from_long(table: pd.DataFrame, options: _Options) -> _Effects:
    se_column = options.lfc_se
    if se_column is not None and not (isinstance(se_column, str) and se_column in table):
        raise ValueError(
            f"lfc_se names the column of standard errors of a long table, found {se_column if isinstance(se_column, str) else type(se_column).__name__!r}; "
            f"the columns are {shorten(map(repr, table.columns), 12)}."
        )
    given = {**options.columns, "lfc_se": se_column if isinstance(se_column, str) else None}
    for argument, column in given.items():
        if column is not None and column != _LABEL:
            check_column(table, column, argument)
    found = find_columns(table, given)
    for argument, column in (("perturbation", found.perturbation), ("gene", found.gene), ("lfc", found.lfc)):
        if column is None:
            raise ValueError(
                f"Cannot tell the column of the {argument}; the columns are {shorten(map(repr, table.columns), 12)}. Name it with "
                f"{argument}=…."
            )
    used = [found.perturbation, found.gene, found.lfc, found.se, found.statistic, found.p_value]
    check_single(table, used)
    assert found.lfc is not None and found.gene is not None and found.perturbation is not None
    label = table[found.perturbation].map(lambda value: "" if pd.isna(value) else str(value).strip())
    label = _compared(label, options)
    gene = names_of(table[found.gene], "gene")
    context = _context(table, label, gene, [*used, found.adjusted, found.freedom], options)
    values = _numbers(table[found.lfc], "lfc").to_numpy()
    base, told = _told_base(found.lfc, table.columns, options)
    errors, source = _errors(table, found, values)
    record = {"lfc_column": str(found.lfc), "base": base, "told_by": told}
    logger.info("Perturbations from the column %r, genes from %r, effects from %r.", *used[:3])
    if source:
        record["lfc_se"] = source
    frame = pd.DataFrame({"label": label.to_numpy(), "gene": gene.to_numpy()})
    frame["context"] = "" if context is None else context.to_numpy()
    frame["lfc"] = values * FACTORS[base]
    frame["lfc_se"] = np.nan if errors is None else errors * FACTORS[base]
    return _pivot(frame, None if context is None else context.name, errors is not None, record, options)


def _pivot(
    frame: pd.DataFrame, context_key: object, with_errors: bool, record: dict[str, Any], options: _Options
) -> _Effects:
    """Bring effects one below the other into a matrix."""
    names = _canonical(frame["label"], frame["gene"], options)
    frame["label"] = frame["label"].map(names)
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
    columns, genes = pd.factorize(frame["gene"])
    lfc, lfc_se = (np.full((len(pairs), len(genes)), np.nan) for _ in range(2))
    lfc[rows, columns] = frame["lfc"]
    lfc_se[rows, columns] = frame["lfc_se"]
    contexts = None if context_key is None else pairs["context"].rename(context_key).reset_index(drop=True)
    return _Effects(
        labels=pairs["label"].reset_index(drop=True),
        contexts=contexts,
        genes=pd.Index(genes),
        lfc=lfc,
        lfc_se=lfc_se if with_errors else None,
        record=record,
        canonical=True,
    )


def _told_base(name: object, columns: Sequence[object] | pd.Index, options: _Options) -> tuple[str, str]:
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
        if (errors < 0).any():
            raise ValueError(
                f"{int((errors < 0).sum())} standard errors in {found.se!r} are negative, the first: {errors[errors < 0][0]:.4g}. Name "
                "the right column with lfc_se=…."
            )
        return errors, repr(found.se)
    freedom = None if found.freedom is None else _numbers(table[found.freedom]).to_numpy()
    if found.statistic is not None and not (found.squared and _several_degrees(table)):
        values = _numbers(table[found.statistic], "statistic").to_numpy()
        if found.squared and (values < 0).any():
            raise ValueError(
                f"{found.statistic!r} holds negative values, expected F or chi-squared. Name another with statistic=…."
            )
        root = "the root of " if found.squared else ""
        return errors_of(lfc, statistic=values, squared=found.squared), f"the effect and {root}{found.statistic!r}"
    if found.p_value is not None:
        p = _numbers(table[found.p_value], "p_value").to_numpy()
        if ((p < 0) | (p > 1)).any():
            raise ValueError(
                f"{found.p_value!r} holds values outside of 0 to 1, expected p-values. Name another with p_value=…."
            )
        student = freedom if found.freedom is not None and plain_name(found.freedom) != "df" else None
        return errors_of(lfc, p_value=p, freedom=student), f"the effect and {found.p_value!r}"
    if found.adjusted is not None:
        warn_user(
            f"The table has adjusted p-values alone ({found.adjusted!r}), from which standard errors do not follow. The effects have "
            "none; name p-values, z or t, or standard errors with p_value=…, statistic=… or lfc_se=…."
        )
    return None, ""


def _several_degrees(table: pd.DataFrame) -> bool:
    """Return whether a test has more than one degree of freedom, so that its statistic is no square of z or t."""
    first = find(table, ["df1", "df_1", "df_num"])
    return first is not None and bool((_numbers(table[first]) != 1).any())


def _context(
    table: pd.DataFrame, label: pd.Series, gene: pd.Series, used: list[str | None], options: _Options
) -> pd.Series | None:
    """Return the context of each effect, where one is named or effects occur twice without it."""
    if options.context_key is not None:
        return names_of(table[check_column(table, options.context_key, "context_key")], "context").rename(
            options.context_key
        )
    pairs = pd.DataFrame({"label": label.to_numpy(), "gene": gene.to_numpy()})
    if not pairs.duplicated().any():
        return None
    candidates = [column for column in table.columns if plain_name(column) in CONTEXTS and column not in used]
    for column in sorted(candidates, key=lambda column: CONTEXTS.index(plain_name(column))):
        values = table[column].astype(object).where(table[column].notna(), "").astype(str).str.strip()
        if (
            values.nunique() > 1
            and (values != "").all()
            and not pairs.assign(context=values.to_numpy()).duplicated().any()
        ):
            return values.rename(column)
    return None


def _from_wide(table: pd.DataFrame, texts: list[str], options: _Options) -> _Effects:
    labels_in, contexts_in = _label_columns(table, texts, options)
    values = table.drop(columns=[column for column in (labels_in, contexts_in) if column is not None])
    values = values.drop(columns=[column for column in texts if column in values])
    if not values.shape[1]:
        raise ValueError(
            f"Cannot tell which columns hold effects; the columns are {shorten(map(repr, table.columns), 12)}. Name those of a long "
            "table with perturbation=…, gene=… and lfc=….",
        )
    names = names_of(table[labels_in], "label") if labels_in is not None else pd.Series(map(str, table.index))
    matrix = np.column_stack([_numbers(values[column], "lfc").to_numpy() for column in values.columns])
    header = [str(column).strip() for column in values.columns]
    genes_in_rows = _genes_in_rows(names, header, labels_in, options)
    errors = _wide_errors(options.lfc_se, names, header)
    base, told = _told_base(options.name or "the table", [], options)
    record = {"base": base, "told_by": told}
    if errors is not None:
        if (errors < 0).any():
            raise ValueError(f"{int((errors < 0).sum())} standard errors are negative. Correct them.")
        record["lfc_se"] = "a table"
    if contexts_in is not None and genes_in_rows:
        raise ValueError(
            f"The rows are genes, but {contexts_in!r} says a context of each row. Pass rows='perturbations' if they are."
        )
    contexts = None if contexts_in is None else names_of(table[contexts_in], "context").rename(contexts_in)
    if genes_in_rows:
        names, header = pd.Series(header), names.tolist()
        matrix, errors = matrix.T, None if errors is None else errors.T
    factor = FACTORS[base]
    return _Effects(
        _compared(names, options),
        contexts,
        pd.Index(header),
        matrix * factor,
        None if errors is None else errors * factor,
        record,
    )


def _compared(labels: pd.Series, options: _Options) -> pd.Series:
    """Return labels without the control that they are compared with."""
    return labels.map({label: _without_control(label, options.control) for label in labels.unique()})


def _label_columns(table: pd.DataFrame, texts: list[str], options: _Options) -> tuple[str | None, str | None]:
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
            find(part, PERTURBATIONS[:-1])
            or find(part, GENES)
            or next(c for c in left if plain_name(c) not in CONTEXTS)
        )
        others = [column for column in left if column != label]
        if context is None:
            context = find(part, CONTEXTS, [label])
        unclear = [column for column in others if column != context and plain_name(column) not in GENES]
        if unclear and find(part, [*PERTURBATIONS[:-1], *GENES]) is None:
            raise ValueError(
                f"Several columns hold text, and which one names the rows cannot be told: {shorten(map(repr, left))}. Name it with "
                "perturbation=…."
            )
        return label, context if context is not None and table[context].nunique() > 1 else None
    if left:
        return left[0], context
    first = table.columns[0]
    if str(first).startswith("Unnamed") or plain_name(first) in GENES:
        return first, context  # Entrez ids
    raise ValueError(
        f"No column names the rows: all {table.shape[1]} columns hold numbers, the first are {shorten(map(repr, table.columns))}. "
        "Expected perturbations, or genes, as the first column or as the index."
    )


def _genes_in_rows(names: pd.Series, header: list[str], label: object, options: _Options) -> bool:
    if options.rows is not None:
        return options.rows == "genes"
    if options.columns["perturbation"] is not None:
        return False
    plain = plain_name(label)
    if plain in PERTURBATIONS:
        return False
    joined = [any(options.sep in name for name in one) for one in (names, header)]
    comparisons = [any(_VERSUS.fullmatch(name) for name in list(one)[:50]) for one in (names, header)]
    in_columns = (joined[1] and not joined[0]) or (comparisons[1] and not comparisons[0])
    if in_columns or (plain in GENES and plain and not plain.startswith(("unnamed", "index", "row"))):
        logger.info("The rows of the table are read as genes and its columns as perturbations.")
        return True
    if len(names) > MANY_ROWS and len(names) > MUCH_LONGER * len(header) and not joined[0]:
        raise ValueError(
            f"The table has {len(names):,} rows and {len(header):,} columns: are the rows genes and the columns perturbations? Say it "
            "with rows='genes' or rows='perturbations'."
        )
    return False


def _wide_errors(
    given: str | pd.DataFrame | PathLike | None, names: pd.Series, header: list[str]
) -> NDArray[np.float64] | None:
    """Return standard errors from a table of the same rows and columns, by name."""
    if given is None:
        return None
    table = read_table(given) if is_path(given) else given
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"lfc_se must be a table like that of the effects, or its path, found {type(table).__name__}.")
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


def _from_anndata(adata: AnnData, options: _Options) -> _Effects:
    check_gene_names(adata)
    record = scapp_uns(adata)
    layers = {plain_name(key): key for key in adata.layers if isinstance(key, str)}
    layer = options.layer
    if layer is not None and layer not in adata.layers:
        raise ValueError(
            f"adata has no layer {layer!r}; its layers are {shorten(map(repr, layers.values())) or 'none'}. Name one with layer=…."
        )
    if layer is None:
        layer = next((layers[name] for name in [*LOG2, *LN, *LOG10, *LOGS] if name in layers), None)
    if layer is None and "rank_genes_groups" in adata.uns:
        return _from_long(_ranked_by_scanpy(adata), options)
    key = options.columns["perturbation"] or next(
        (column for column in adata.obs for name in PERTURBATIONS if plain_name(column) == name), None
    )
    if key is not None and key not in adata.obs:
        raise ValueError(
            f"adata.obs has no column {key!r}; it has {shorten(map(repr, adata.obs.columns), 12) or 'none'}."
        )
    labels = adata.obs_names.to_series() if key is None else adata.obs[key]
    names = pd.Series(["" if pd.isna(label) else str(label).strip() for label in labels])
    contexts = options.context_key or next(
        (column for column in adata.obs if plain_name(column) in CONTEXTS and column != key), None
    )
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise ValueError("adata.X is empty (None). Name the layer of the effects with layer=….")
    values = _dense(matrix)
    if not options.base and layer == Key.layers.LFC:
        base, told = "e", "the layer 'lfc', in which scapp keeps natural logs"
    elif not options.base and layer is None and Key.uns.EFFECTS in record:
        base, told = "e", "uns['scapp']"
    else:
        base, told = _told_base(layer or "adata.X", [], options)
    errors_in = (
        options.lfc_se if isinstance(options.lfc_se, str) else next((layers[n] for n in ERRORS if n in layers), None)
    )
    if options.lfc_se is not None and errors_in not in adata.layers:
        raise ValueError(
            f"lfc_se={options.lfc_se!r} is no layer of adata; its layers are {shorten(map(repr, layers.values())) or 'none'}."
        )
    errors = None
    read: dict[str, Any] = {"base": base, "told_by": told, "lfc_column": layer or "X"}
    if errors_in is not None:
        errors = _dense(adata.layers[errors_in])
        if (errors < 0).any():
            raise ValueError(
                f"{int((errors < 0).sum())} standard errors in adata.layers[{errors_in!r}] are negative. Correct them."
            )
        read["lfc_se"] = repr(errors_in)
    context = None
    if contexts is not None and (options.context_key is not None or names.duplicated().any()):
        if contexts not in adata.obs:
            raise ValueError(
                f"adata.obs has no column {contexts!r}; it has {shorten(map(repr, adata.obs.columns), 12) or 'none'}."
            )
        context = pd.Series(adata.obs[contexts].astype(str).to_numpy(), name=contexts)
    factor = FACTORS[base]
    return _Effects(
        _compared(names, options),
        context,
        adata.var_names,
        values * factor,
        None if errors is None else errors * factor,
        read,
        adata.var,
    )


def _dense(matrix: Any) -> NDArray[np.float64]:
    for method in ("to_memory", "compute"):
        if hasattr(matrix, method):
            matrix = getattr(matrix, method)()
    return np.array(
        matrix.toarray() if sparse.issparse(matrix) else matrix[()] if hasattr(matrix, "id") else matrix,
        dtype=np.float64,
    )


def _ranked_by_scanpy(adata: AnnData) -> pd.DataFrame:
    """Return the results of `scanpy.tl.rank_genes_groups` as a long table."""
    ranked = adata.uns["rank_genes_groups"]
    if "logfoldchanges" not in ranked:
        raise ValueError(
            "adata.uns['rank_genes_groups'] holds no log-fold-changes, which scanpy gives for its methods but 'logreg'. Rank again "
            "with method='t-test'."
        )
    fields = [name for name in ("names", "scores", "logfoldchanges", "pvals", "pvals_adj") if name in ranked]
    groups = ranked["names"].dtype.names
    parts = [
        pd.DataFrame({name: np.asarray(ranked[name][group]) for name in fields}).assign(group=group) for group in groups
    ]
    return pd.concat(parts, ignore_index=True)


def _assemble(found: _Effects, options: _Options, perturbation_key: str, fill_value: float | None) -> AnnData:
    """Check what was read, and put it into an AnnData."""
    _check_values(found)
    names = dict(zip(found.labels, found.labels, strict=True))
    if not found.canonical:
        names = _canonical(found.labels, found.genes, options)
    table = pd.DataFrame({"label": found.labels.map(names).to_numpy(dtype=object)})
    table["context"] = "" if found.contexts is None else found.contexts.to_numpy()
    kept = table[table["label"].notna()]
    if kept.empty:
        raise ValueError("No perturbation is left: all labels are controls.")
    if kept.duplicated().any():
        twice = kept.loc[kept.duplicated(), "label"].unique()
        raise ValueError(
            f"{len(twice)} perturbations have more than one row of effects: {shorten(twice)}. If these are conditions, name their "
            "column with context_key=…; if not, average them first."
        )
    contexts = sorted(kept["context"].unique()) if found.contexts is not None else []
    if contexts:
        kept = kept.sort_values(["context", "label"], kind="stable")
    rows = kept.index.to_numpy()
    lfc = found.lfc[rows].astype(np.float32)
    n_absent = int(np.isnan(lfc).sum())
    if n_absent and fill_value is not None:
        lfc[np.isnan(lfc)] = fill_value
    elif n_absent:
        warn_user(
            f"{n_absent:,} of {lfc.size:,} effects ({n_absent / lfc.size:.1%}) are not in the table and are NaN. If only changes were "
            "kept, pass fill_value=0; or leave out genes, as in `effects[:, np.isfinite(effects.layers['lfc']).all(axis=0)].copy()`."
        )
    labels = kept["label"].tolist()
    index = [f"{label} ({context})" for label, context in kept.itertuples(index=False)] if contexts else labels
    obs = pd.DataFrame(
        {
            perturbation_key: np.array(labels, dtype=object),
            Key.obs.N_PERTURBED_GENES: [label.count(SEPARATOR) + 1 for label in labels],
        },
        index=pd.Index(index, dtype=object),
    )
    told = found.record["told_by"]
    from_base = f" from {NAMES_OF_BASES[found.record['base']]}" if found.record["base"] != "e" else ""
    record: dict[str, Any] = {
        "perturbation_key": perturbation_key,
        "control": None,
        "layer": Key.layers.LFC,
        "sep": SEPARATOR,
        "normalisation": f"natural logs{from_base} (told by {told})",
        **{name: value for name, value in found.record.items() if name != "told_by"},
    }
    if fill_value is not None:
        record["fill_value"] = float(fill_value)
    if contexts:
        assert found.contexts is not None
        context_key = str(found.contexts.name)
        obs[context_key] = pd.Categorical(kept["context"], categories=contexts)
        record |= {"context_key": context_key, "contexts": np.array(contexts, dtype=object)}
    layers = {Key.layers.LFC: lfc}
    if found.lfc_se is not None:
        errors, n_filled = _fill_errors(found.lfc_se[rows], np.isfinite(lfc))
        layers[Key.layers.LFC_SE] = errors.astype(np.float32)
        if n_filled:
            record["n_lfc_se_filled"] = n_filled
            warn_user(
                f"{n_filled:,} of {lfc.size:,} effects have no standard error, where the effect or its statistic is zero or missing; the "
                "median of the gene over the other perturbations stands for it."
            )
    var = pd.DataFrame(index=pd.Index(found.genes.astype(str).to_numpy(dtype=object)))
    if found.var is not None:
        var = found.var.copy()
    read = AnnData(X=lfc.copy(), obs=obs, var=var, layers=layers, uns={Key.uns.SCAPP: {Key.uns.EFFECTS: record}})
    check_gene_names(read)
    return read


def _fill_errors(errors: NDArray[np.float64], present: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Return standard errors with those of effects that have none filled by their gene, or else by all; and how many."""
    known = np.isfinite(errors)
    unknown = present & ~known
    if not unknown.any() or not known.any():
        return errors, 0
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of genes without any
        of_gene = np.nanmedian(np.where(known, errors, np.nan), axis=0)
    of_gene = np.where(np.isfinite(of_gene), of_gene, np.median(errors[known]))
    return np.where(unknown, of_gene[None, :], errors), int(unknown.sum())


def _check_values(found: _Effects) -> None:
    """Raise unless these can be natural log-fold-changes."""
    infinite = np.isinf(found.lfc)
    if infinite.any():
        i, j = np.argwhere(infinite)[0]
        raise ValueError(
            f"{int(infinite.sum())} effects are infinite, the first that of {found.labels.iloc[i]} on {found.genes[j]}: a gene "
            "without counts on one side, or a number that is too large. Leave these out, or give them a finite value."
        )
    if np.isnan(found.lfc).all():
        raise ValueError("All effects are missing (NaN). Name another column or layer with lfc=… or layer=….")
    largest, smallest = float(np.nanmax(np.abs(found.lfc))), float(np.nanmin(found.lfc))
    if largest > LARGEST_LFC:
        raise ValueError(
            f"Effects reach {largest:.3g} as natural logs, which stay far below {LARGEST_LFC:.0f}: these are no log-fold-changes. Name "
            "their column or layer with lfc=… or layer=…, and their logarithm with base=…."
        )
    if smallest >= 0 and largest > 0 and found.lfc.size >= MANY_VALUES:
        raise ValueError(
            f"None of {found.lfc.size:,} effects is negative: these are expression, ratios or magnitudes, it seems, and no "
            "log-fold-changes. Name their column or layer with lfc=… or layer=…; for cells, use `scapp.pp.pseudobulk`."
        )


def _canonical(labels: pd.Series, genes: pd.Series | pd.Index, options: _Options) -> dict[str, str | None]:
    """Return the canonical form of each label; None for controls, which are left out with a message."""
    counts = labels.value_counts(sort=False)
    known = set(genes)
    missing = [label for label in counts.index if missing_kind(label) and label not in known]
    if missing:
        raise ValueError(
            f"{int(counts[missing].sum())} rows have no known perturbation: {shorten(map(repr, missing))}. Leave them out, for example "
            "with `table = table[table['perturbation'].notna()]`."
        )
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
