"""Column names of tables of differential expression, and what they imply about the logarithm and standard errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from scapp._genes import shorten
from scapp._tables import find_column, plain, to_numbers
from scapp._warn import warn_user

logger = logging.getLogger(__name__)

# Column names in lower case, with words joined by "_", in the order of the search.
PERTURBATIONS = """perturbation perturbed_gene perturbation_name perturbed perturbation_id target_perturbation gene_perturbed
    knocked_down_gene knockdown_gene knockdown kd_gene knockout knockout_gene ko ko_gene activated_gene gene_target grna_target
    sgrna_target guide_target guide_target_gene target_gene_name target_gene grna_group grna_id perturb intervention contrast
    comparison treatment group cluster test target source tf regulator condition""".split()
GENES = """measured_gene affected_gene response_gene readout_gene downstream_gene response_id gene_symbol gene_name hgnc_symbol
    external_gene_name symbol names gene genes feature_name feature name variable target_gene target gene_id ensembl_id
    ensembl_gene_id geneid featureid id primerid index rownames row_names row unnamed:_0""".split()
GENES.append("")
CONTEXTS = """context cell_line cell_type celltype cellline condition stimulation stimulus culture_condition timepoint time_point
    time dose treatment state tissue cell_state""".split()
LOG2 = """log2foldchange log2_fold_change log_2_fold_change log2fc log2_fc avg_log2fc l2fc log2foldchanges log2_foldchange
    log2_lfc lfc_log2 log2ratio log2_ratio logfoldchanges mean_log2fc shrunken_log2fc""".split()
LN = """lnfc ln_fc lfc_ln ln_foldchange lnfoldchange ln_fold_change loge_fc logefc log_e_fold_change natural_lfc lfc_natural
    avg_logfc nat_log_fc natural_log_fold_change""".split()
LOG10 = """log10fc log10_fc log10foldchange log10_fold_change avg_log10fc lfc_log10""".split()
LOGS = """lfc logfc log_fc log_fold_change logfoldchange log_foldchange lfcs effect effect_size coef coefficient beta estimate
    delta fold_change_log mean_lfc value de_coef""".split()
FOLDS = "fold_change foldchange fc".split()
ERRORS = """lfc_se lfcse se se_lfc logfc_se log_fc_se log2fc_se log2foldchange_se ln_fc_se stderr std_err std_error stderror
    standard_error se_logfc selogfc std_error_lfc se_coef coef_se de_se
    se_b""".split()
P_VALUES = """pvalue p_value pval pvals p_val p raw_p raw_pval raw_p_value pr_>|z| pr_>|t| de_pval""".split()
ADJUSTED = """padj p_adj adj_p_val adj_pval adj_p_value p_val_adj pvals_adj fdr q_value qvalue qval adjusted_p_value
    p_adjusted pvalue_adj bh""".split()
STATISTICS = (
    "z z_score zscore z_value stat statistic wald wald_statistic t t_stat t_statistic t_value tstat tvalue".split()
)
SQUARES = "f_statistic f f_stat f_value lr lrt chisq chi2".split()
FREEDOM = "df df2 df_total df_residual dof".split()
# Columns that identify a program whose column of effects does not name the logarithm; all of them must be present.
PROGRAMS = {
    "glmGamPoi": ({"lfc", "f_statistic", "df1"}, "2"),
    "DESeq2": ({"lfcse", "basemean"}, "2"),
    "DESeq2's names": ({"lfcse"}, "2"),
    "edgeR": ({"logfc", "logcpm"}, "2"),
    "limma": ({"logfc", "aveexpr"}, "2"),
    # In the unit of the fitted expression.
    "pertpy's Statsmodels": ({"variable", "log_fc", "t_value", "sd"}, ""),
    "pertpy": ({"variable", "log_fc", "contrast"}, "2"),
    "Seurat before 4": ({"avg_logfc", "pct_1", "pct_2"}, "e"),
    "sleuth": ({"b", "se_b"}, "e"),
    "scanpy": ({"names", "scores", "logfoldchanges"}, "2"),
}
# If no name matches: parts of names that identify a column.
_LIKE_PERTURBATION = re.compile(
    r".*(?:perturb|knock_?(?:ed|down|out)|(?<![a-z])(?:kd|ko|crispri?a?)(?![a-z])|guide_?(?:gene|target)).*"
)
_LIKE_GENE = re.compile(
    r"(?:measured|affected|response|readout|downstream|regulated|observed).*|(?:gene|feature|transcript)s?(?:_?\w+)?"
)
_LIKE_LFC = re.compile(r"(?=.*(?:log|ln|l2))(?=.*(?:fc|fold|lfc)).*")
_LIKE_ERROR = re.compile(r".*(?:lfcse|std_?err|standard_?err|stderr).*|(?:.*_)?se(?:_.*)?")
# Names of tests that are not names of genes.
LIKE_TEST = re.compile(
    r"(?:.*_)?(?:p_?val(?:ue)?s?|padj|q_?val(?:ue)?s?|fdr|lfcse|std_?err(?:or)?)(?:_.*)?|neg_?log_?(?:10)?_?p.*"
)
# Columns for single perturbations: a label, and a statistic that is not the name of a gene.
_PLAIN_LOGS = "lfc logfc log_fc log_fold_change logfoldchange".split()
_EFFECTS = frozenset({*LOG2, *LN, *LOG10, *_PLAIN_LOGS})
_ALL_WHATS = {*_EFFECTS, *LOGS, *ERRORS, *P_VALUES, *ADJUSTED, *STATISTICS}
_WHATS = "|".join(
    re.escape(name).replace("_", r"[\s_.\-]*")
    for name in sorted({*_EFFECTS, *ERRORS, *P_VALUES, *ADJUSTED, "zscore", "z_score", "stat"}, key=len, reverse=True)
    if len(name) > 1
)
_OF_ONE = (
    re.compile(rf"(?P<label>.+?)[\s_.:(\[]+(?P<what>{_WHATS})[)\]]?", re.IGNORECASE),
    re.compile(rf"(?P<what>{_WHATS})[\s_.:(\[]+(?P<label>.+?)[)\]]?", re.IGNORECASE),
)


@dataclass(frozen=True)
class EffectColumns:
    """Columns of a long table; None if missing."""

    perturbation: str | None
    gene: str | None
    lfc: str | None
    se: str | None
    statistic: str | None
    squared: bool
    p_value: str | None
    adjusted: str | None
    freedom: str | None


def find_like(table: pd.DataFrame, pattern: re.Pattern[str], without: Iterable[str | None] = ()) -> str | None:
    """Return the only column, except those in `without`, whose name matches; None if none or several do."""
    left_out = set(without)
    alike = [column for column in table.columns if column not in left_out and pattern.fullmatch(plain(column))]
    return alike[0] if len(alike) == 1 else None


def find_columns(table: pd.DataFrame, given: dict[str, str | None]) -> EffectColumns:
    """Find the columns of a long table by their common names, unless they are given.

    `given` has the columns named by the user, under ``"perturbation"``, ``"gene"``, ``"lfc"``, ``"lfc_se"``,
    ``"statistic"`` and ``"p_value"``.
    """
    named = [column for column in given.values() if column is not None]
    lfc = given["lfc"] or find_column(table, [*LOG2, *LN, *LOG10, *LOGS], named)
    se = given["lfc_se"] or find_column(table, ERRORS, [*named, lfc]) or find_like(table, _LIKE_ERROR, [*named, lfc])
    lfc = lfc or find_like(table, _LIKE_LFC, [*named, se])
    if lfc is None and find_column(table, ["se_b"]) is not None:
        lfc = find_column(table, ["b"], named)  # sleuth
    # GENES begins with names that clearly mean the measured gene; "target_gene" may be either.
    perturbation = given["perturbation"] or (
        find_column(table, PERTURBATIONS[: PERTURBATIONS.index("intervention")], [*named, lfc])
        or find_like(table, _LIKE_PERTURBATION, [*named, lfc, se])
        or find_column(table, PERTURBATIONS, [*named, lfc])
    )
    gene = given["gene"] or find_column(table, GENES, [*named, lfc, perturbation])
    gene = gene or find_like(table, _LIKE_GENE, [*named, lfc, se, perturbation])
    statistic = given["statistic"] or find_column(table, [*STATISTICS, *SQUARES], [*named, gene, perturbation])
    squared = statistic is not None and plain(statistic) in SQUARES
    p_value = given["p_value"] or find_column(table, P_VALUES, named)
    unsure = statistic is not None and not squared and not given["statistic"] and p_value is not None
    if unsure and lfc is not None and table.columns.is_unique:
        # If effects have both signs, a statistic that is never negative may not be z or t: it may be a rank sum
        # (pertpy).
        values, effects = (to_numbers(table[name]) for name in (statistic, lfc))
        statistic = None if values.min() >= 0 > effects.min() else statistic
    return EffectColumns(
        perturbation=perturbation,
        gene=gene,
        lfc=lfc,
        se=se,
        statistic=statistic,
        squared=squared,
        p_value=p_value,
        adjusted=find_column(table, ADJUSTED, named),
        freedom=find_column(table, FREEDOM, named),
    )


def columns_by_perturbation(table: pd.DataFrame) -> dict[str, dict[str, list[object]]]:
    """Return each perturbation's columns by statistic (``"KLF1_log2FC"``, ``"KLF1_padj"``); empty if there are none.

    Names of statistics may come before or after those of perturbations, at least two of which must have effects.
    """
    found: dict[str, dict[str, list[object]]] = {}
    for column in table.columns:
        if plain(column) in _ALL_WHATS:
            continue
        for match in filter(None, (pattern.fullmatch(str(column).strip()) for pattern in _OF_ONE)):
            if not match["label"].isdecimal():  # pandas numbers columns of one name
                found.setdefault(match["label"], {}).setdefault(plain(match["what"]), []).append(column)
            break
    return found if sum(not _EFFECTS.isdisjoint(columns) for columns in found.values()) >= 2 else {}


def by_perturbation(table: pd.DataFrame, found: Mapping[str, Mapping[str, Sequence[object]]]) -> pd.DataFrame:
    """Convert a table with columns for each perturbation, found by :func:`columns_by_perturbation`, to a long table.

    Columns without a perturbation are kept if they are not numbers, such as names of genes. Raises a ValueError if a
    perturbation has several columns of effects, or effects under a different name from the rest.
    """
    used = {column for columns in found.values() for of in columns.values() for column in of}
    rest = [column for column in table.columns if column not in used]
    numbers = [column for column in rest if pd.api.types.is_numeric_dtype(table[column].dtype)]
    without = [
        column
        for columns in found.values()
        for of in columns.values()
        for column in of[0 if _EFFECTS.isdisjoint(columns) else 1 :]
    ]
    found = {label: columns for label, columns in found.items() if not _EFFECTS.isdisjoint(columns)}
    effects = {
        label: [c for what, of in columns.items() if what in _EFFECTS for c in of] for label, columns in found.items()
    }
    label, several = max(effects.items(), key=lambda item: len(item[1]))
    if len(several) > 1:
        raise ValueError(
            f"The table has several columns of effects of {label!r}: {', '.join(map(repr, several))}. Drop all but one of each "
            "perturbation."
        )
    names = {what: str(of[0]) for columns in found.values() for what, of in columns.items() if what in _EFFECTS}
    if len(names) > 1:
        raise ValueError(
            f"Each perturbation has its own columns, but effects have several names, as in {', '.join(map(repr, names.values()))}. "
            "Use one scale and one name, for example with `table.rename(columns={'KLF1_lfc': 'KLF1_log2FC'})`."
        )
    logger.info("Each perturbation has its own columns, such as %r.", *names.values())
    if numbers:
        logger.info("Ignored, because they belong to no perturbation: %s.", shorten(map(repr, numbers)))
    if without:
        warn_user(
            f"{len(without)} columns belong to a perturbation that has no effects, or repeat another, and are not read: "
            f"{shorten(map(repr, without))}. Effects are those of columns such as {next(iter(names.values()))!r}."
        )
    parts = []
    for label, columns in found.items():
        part = table[rest].drop(columns=numbers).assign(perturbation=label)
        parts.append(part.assign(**{what: table[of[0]].to_numpy() for what, of in columns.items()}))
    return pd.concat(parts, ignore_index=True)


def base_of(name: object, columns: Sequence[object] = ()) -> tuple[str, str]:
    """Return the base that a name of effects implies (``"2"``, ``"e"``, ``"10"`` or ``""``), and the evidence for it."""
    word = plain(name)
    for base, names in (("2", LOG2), ("e", LN), ("10", LOG10)):
        if word in names:
            return base, f"the name {name!r}"
    there = {plain(column) for column in columns}
    for program, (needed, base) in PROGRAMS.items():
        if needed <= there:
            return base, f"the columns of {program}"
    for base, pattern in (
        ("2", r"log_?2|l2fc"),
        ("10", r"log_?10"),
        ("e", r"(?:^|_)ln(?:_|$|fc)|natural|log_?e(?:_|$)"),
    ):
        if re.search(pattern, word):
            return base, f"the name {name!r}"
    return "", ""
