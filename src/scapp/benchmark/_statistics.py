"""Statistics of scores: means, ratios, intervals, paired tests, strata and ceilings."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from scapp.benchmark._scores import COSTS, COVERAGES, INTERACTIONS, check
from scapp.metrics import calibrated_score

LEVEL = 0.95
# Errors, which are 0 for a perfect prediction, and agreements, which are 1.
ERRORS = ("l2", "rmse", "mae", "rank", "weighted_mse")
AGREEMENTS = (
    "pearson_delta", "pearson_delta_mean", "cosine", "pds", "weighted_r2", "top_20_overlap", "top_50_overlap",
    "direction_match",
)  # fmt: skip
CHANGED = ("changed_auprc", "changed_precision", "changed_recall")
PERFECT = dict.fromkeys(ERRORS, 0.0) | dict.fromkeys((*AGREEMENTS, *CHANGED), 1.0)
# Metrics by which methods can be compared: the side that is better.
LOW = (*ERRORS, *COSTS)
HIGH = (
    *AGREEMENTS, "spread_error_spearman", *CHANGED, "gi_auprc", "gi_tpr_at_fdp_30", "gi_tpr_at_fdp_50", "gi_sign_match",
    *(f"gi_auprc_{kind}" for kind in INTERACTIONS),
)  # fmt: skip


def summarise(
    results: pd.DataFrame,
    *,
    metric: str = "l2",
    reference: str | Mapping[str, str] | None = None,
    n_draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the mean score of each method and its ratio to a reference, with intervals over perturbations.

    Scores are averaged over the held-out perturbations and then over splits. Intervals are percentiles of a bootstrap
    that draws perturbations, each with its scores in all splits, because the scores of one perturbation in several
    splits are not independent. They do not cover other screens or other choices of training data.

    Parameters
    ----------
    results
        One row per score, with the columns ``task``, ``method``, ``group``, ``seed``, ``perturbation``, ``metric``,
        ``value``, ``n_seen`` and ``effect_size``.
    metric
        Name of the score.
    reference
        Reference method for ratios, or one for each task; no ratios if None. A ratio compares the means over the
        perturbations and splits on which both were scored.
    n_draws, seed
        Size and seed of the bootstrap.

    Returns
    -------
    One row per task and method, best first: ``mean`` with ``low`` and ``high`` (95 %), ``n_perturbations``, ``n_seeds``;
    ``kept_spread``, the share of the measured spread between perturbations that the predictions keep (0 if all are the
    same, "mean collapse"; NaN if not in the results), averaged over splits; with a reference also ``ratio``,
    ``ratio_low``, ``ratio_high``, and ``ratio_by_seed``, a tuple.

    Raises
    ------
    ValueError
        If a column, the metric or the reference is missing, or a score occurs twice.
    """
    check(results, metric=metric)
    tables = []
    for task, rows in _tasks(results, metric):
        scores = cube(rows, metric)
        weights = bootstrap(len(scores.perturbations), n_draws, seed)
        low, high = interval(means(scores.values, weights))
        table = pd.DataFrame({"task": task, "method": scores.methods, "group": scores.groups, "metric": metric})
        table["n_perturbations"] = np.isfinite(scores.values).any(axis=1).sum(axis=1)
        table["n_seeds"] = np.isfinite(scores.values).any(axis=2).sum(axis=1)
        table["mean"], table["low"], table["high"] = means(scores.values)[0], low, high
        kept = rows[rows["metric"] == "kept_spread"].groupby("method")["value"].mean()
        table["kept_spread"] = table["method"].map(kept).astype(float)
        if reference is not None:
            name = reference if isinstance(reference, str) else reference.get(task)
            if name is None or name not in scores.methods:
                raise ValueError(
                    f"The reference {name!r} has no {metric} in the task {task!r}; methods with one are "
                    f"{', '.join(scores.methods)}."
                )
            own, base = in_both(scores.values, scores[name])
            ratios = means(own, weights) / means(base, weights)
            table["reference"] = name
            table["ratio"] = means(own)[0] / means(base)[0]
            table["ratio_low"], table["ratio_high"] = interval(ratios)
            by_seed = mean(own, axis=2) / mean(base, axis=2)
            table["ratio_by_seed"] = [tuple(float(x) for x in row) for row in by_seed]
        tables.append(table.sort_values("mean", ascending=metric not in HIGH, kind="stable"))
    return pd.concat(tables, ignore_index=True)


def paired(
    results: pd.DataFrame,
    *,
    metric: str = "l2",
    methods: Sequence[str] | None = None,
    against: str | Sequence[str] | None = None,
    n_draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare methods perturbation by perturbation.

    Parameters
    ----------
    results, metric, n_draws, seed
        As in :func:`scapp.benchmark.summarise`.
    methods
        Methods to compare; all if None.
    against
        Methods to compare them with; those of the group "baseline" if None.

    Returns
    -------
    One row per task, method and other method: ``n`` (perturbations times splits that both were scored on) and
    ``n_perturbations``; ``win_rate``, the share of `n` on which the method is better, a tie counting half;
    ``difference`` and ``ratio`` of the means with intervals of the bootstrap; ``median_difference`` over perturbations;
    ``p_value`` of Wilcoxon's signed-rank test on the difference of each perturbation, averaged over splits so that none
    counts several times; ``p_holm``, corrected for the rows of the task; and ``verdict``: "better" or "worse" if the
    interval of the difference excludes zero and ``p_holm`` is below 0.05, otherwise "unclear".

    Raises
    ------
    ValueError
        If a column, the metric or a method is missing, or it is unknown whether higher or lower values of the metric
        are better.
    """
    check(results, metric=metric)
    if metric not in (*LOW, *HIGH):
        raise ValueError(
            f"Methods cannot be compared by {metric!r}: it is not known which way is better. Use {', '.join((*LOW, *HIGH))}."
        )
    sign = 1 if metric in LOW else -1
    asked = [against] if isinstance(against, str) else against
    known = list(pd.unique(results["method"].astype(object)))
    if unknown := [name for name in [*(methods or []), *(asked or [])] if name not in known]:
        raise ValueError(f"There are no scores of {', '.join(map(repr, unknown))}; methods are {', '.join(known)}.")
    tables = []
    for task, rows in _tasks(results, metric):
        scores = cube(rows, metric)
        others = [m for m, g in zip(scores.methods, scores.groups, strict=True) if g == "baseline"]
        others = others if asked is None else [m for m in asked if m in scores.methods]
        pairs = [(m, o) for m in scores.methods if methods is None or m in methods for o in others if m != o]
        if not pairs:
            continue
        own, base = in_both(*(np.stack([scores[pair[i]] for pair in pairs]) for i in (0, 1)))
        both = np.isfinite(own)
        table = pd.DataFrame(pairs, columns=["method", "against"])
        table.insert(0, "task", task)
        table["metric"] = metric
        table["n"] = both.sum(axis=(1, 2))
        table["n_perturbations"] = both.any(axis=1).sum(axis=1)
        gain = sign * (base - own)
        table["win_rate"] = mean(np.where(both, (gain > 0) + 0.5 * (gain == 0), np.nan), axis=(1, 2))
        weights = bootstrap(len(scores.perturbations), n_draws, seed)
        drawn_own, drawn_base = means(own, weights), means(base, weights)
        mean_own, mean_base = means(own)[0], means(base)[0]
        table["difference"] = mean_own - mean_base
        table["difference_low"], table["difference_high"] = interval(drawn_own - drawn_base)
        table["ratio"] = mean_own / np.where(mean_base == 0, np.nan, mean_base)
        table["ratio_low"], table["ratio_high"] = interval(drawn_own / np.where(drawn_base == 0, np.nan, drawn_base))
        by_perturbation = [d[np.isfinite(d)] for d in mean(own - base, axis=1)]
        table["median_difference"] = [np.median(d) if len(d) else np.nan for d in by_perturbation]
        table["p_value"] = [signed_rank(d) for d in by_perturbation]
        table = table[table["n"] > 0].copy()
        table["p_holm"] = holm(table["p_value"].to_numpy())
        sure = table["p_holm"] < 1 - LEVEL
        is_lower = (table[["difference_low", "difference_high"]] < 0).all(axis=1)
        is_higher = (table[["difference_low", "difference_high"]] > 0).all(axis=1)
        better, worse = (is_lower, is_higher) if sign > 0 else (is_higher, is_lower)
        table["verdict"] = np.select([sure & better, sure & worse], ["better", "worse"], "unclear")
        tables.append(table)
    if not tables:
        raise ValueError("There is nothing to compare: no task has scores of both a method and one to compare it with.")
    return pd.concat(tables, ignore_index=True)


def by_stratum(
    results: pd.DataFrame, *, metric: str = "l2", reference: str | Mapping[str, str], n_draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Summarise each split, each third of effect sizes, and each number of genes seen alone in training.

    Parameters
    ----------
    results, metric, reference, n_draws, seed
        As in :func:`scapp.benchmark.summarise`. Effect sizes are divided into thirds of the perturbations of a task.

    Returns
    -------
    The columns of the summary, and ``kind`` ("split", "effect size", "genes seen") and ``stratum``. A kind with a
    single stratum in a task is left out.

    Raises
    ------
    ValueError
        As :func:`scapp.benchmark.summarise` does.
    """
    check(results, metric=metric)
    tables = []
    for _, rows in _tasks(results, metric):
        rows = rows[rows["metric"] == metric]
        size = rows.groupby("perturbation")["effect_size"].mean()
        thirds = pd.Series("unknown", size.index)
        if size.notna().all() and len(size) >= 3:
            thirds[:] = np.array(["small", "medium", "large"])[np.searchsorted(np.quantile(size, [1 / 3, 2 / 3]), size)]
        kinds = {
            "split": rows["seed"].astype(int).astype(str),
            "effect size": rows["perturbation"].map(thirds),
            "genes seen": rows["n_seen"].astype(int).astype(str),
        }
        order = {"small": 0, "medium": 1, "large": 2}
        for kind, strata in kinds.items():
            names = sorted(strata.unique(), key=lambda name: (order.get(name, 0), name))
            for name in names if len(names) > 1 else []:
                part = summarise(rows[strata == name], metric=metric, reference=reference, n_draws=n_draws, seed=seed)
                part.insert(1, "kind", kind)
                part.insert(2, "stratum", name)
                tables.append(part)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["task", "kind", "stratum"])


def ceilings(results: pd.DataFrame, *, metric: str = "l2", nothing: str = "no change") -> pd.DataFrame:
    """Compute the share of the explainable effect that each method explains, if the noise ceiling is known.

    Parameters
    ----------
    results
        As in :func:`scapp.benchmark.summarise`. The ceiling is the metric ``ceiling_<metric>``: the score of a perfect
        prediction, given the noise of the observed effects.
    metric
        Name of the score.
    nothing
        The method that explains nothing.

    Returns
    -------
    One row per task and method: ``mean``, ``ceiling``, ``nothing`` and ``share_closed``, (nothing - mean) / (nothing -
    ceiling). Empty if no task has a ceiling.
    """
    check(results, metric=metric)
    tables = []
    for task, rows in _tasks(results, metric):
        known = rows[(rows["metric"] == f"ceiling_{metric}") & (rows["perturbation"] != "")]
        if known.empty or nothing not in set(rows["method"]):
            continue
        limit = known.groupby(["seed", "perturbation"])["value"].mean()
        scores = rows[(rows["metric"] == metric) & (rows["perturbation"] != "")]
        inside = pd.MultiIndex.from_frame(scores[["seed", "perturbation"]]).isin(limit.index)
        of_split = scores[inside].groupby(["method", "seed"], sort=False)["value"].mean()
        table = of_split.groupby("method", sort=False).mean().rename("mean").reset_index()
        table.insert(0, "task", task)
        table["ceiling"] = limit.groupby("seed").mean().mean()
        table["nothing"] = table.loc[table["method"] == nothing, "mean"].squeeze()
        table["share_closed"] = (table["nothing"] - table["mean"]) / (table["nothing"] - table["ceiling"])
        tables.append(table)
    columns = ["task", "method", "mean", "ceiling", "nothing", "share_closed"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def calibrated(
    results: pd.DataFrame,
    *,
    metrics: Sequence[str] = ("l2", "mae", "pds", "weighted_r2", "changed_auprc"),
    null: str = "mean",
) -> pd.DataFrame:
    """Rescale scores to the share of the range between an uninformative and a perfect prediction.

    Parameters
    ----------
    results
        As in :func:`scapp.benchmark.summarise`.
    metrics
        Names of scores for which the value of a perfect prediction is known.
    null
        The method without information about individual perturbations.

    Returns
    -------
    One row per task, method and metric: ``mean``, ``null`` and ``best``, over the perturbations and splits on which
    both methods were scored, and ``share``, (mean - null) / (best - null): 0 for the null, 1 for the truth, negative if
    worse than the null. NaN if the null has no score, as for a correlation with a constant. Noise keeps even the truth
    below 1; see :func:`ceilings` for the L2.

    Raises
    ------
    ValueError
        If a column or metric is missing, no perfect value of a metric is known, or no task has the null.

    See Also
    --------
    scapp.metrics.calibrated_score, ceilings
    """
    check(results)
    if isinstance(metrics, str):
        metrics = [metrics]
    tables = []
    for metric in metrics:
        if metric not in PERFECT:
            raise ValueError(f"No perfect value of {metric!r} is known; there are those of {', '.join(PERFECT)}.")
        check(results, metric=metric)
        for task, rows in _tasks(results, metric):
            scores = cube(rows, metric)
            if null not in scores.methods:
                continue
            own, base = in_both(scores.values, scores[null])
            table = pd.DataFrame({"task": task, "method": scores.methods, "group": scores.groups, "metric": metric})
            table["mean"] = means(own)[0]
            table["null"] = means(base)[0]
            table["best"] = PERFECT[metric]
            table["share"] = calibrated_score(table["mean"].to_numpy(), table["null"].to_numpy(), PERFECT[metric])
            tables.append(table.sort_values("share", ascending=False, kind="stable", na_position="last"))
    if not tables:
        raise ValueError(
            f"No task has scores of {null!r}, which the others are held against. Run it, or name another with null=…."
        )
    return pd.concat(tables, ignore_index=True)


def calibration(results: pd.DataFrame, *, n_draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Compute the share of observed values that lie within predicted intervals.

    Parameters
    ----------
    results, n_draws, seed
        As in :func:`scapp.benchmark.summarise`; the metrics ``coverage_50``, ``coverage_80``, ``coverage_95`` and
        ``coverage_80_top_20``.

    Returns
    -------
    One row per task, method and interval: ``nominal``, ``n_largest`` (0 for all genes, or the number of genes with the
    largest predicted change in each perturbation), ``empirical``, ``low``, ``high``. Empty without such metrics.
    """
    check(results)
    tables = []
    for metric, (nominal, n_largest) in COVERAGES.items():
        rows = results[(results["metric"] == metric) & results["value"].notna()]
        if len(rows):
            table = summarise(rows, metric=metric, n_draws=n_draws, seed=seed)
            table["nominal"], table["n_largest"] = nominal, n_largest
            tables.append(table.rename(columns={"mean": "empirical"}))
    columns = ["task", "method", "group", "nominal", "n_largest", "empirical", "low", "high"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def verdict(rows: pd.DataFrame) -> list[str]:
    """Describe in words which method won a task, by how much, and how APP compares.

    Parameters
    ----------
    rows
        The scores of one task, from :func:`scapp.benchmark.score`.

    Returns
    -------
    One or two sentences, with the ratio of the L2 of the two best methods, its interval and the p-value of the paired
    comparison; empty for a single method.

    Raises
    ------
    ValueError
        As :func:`scapp.benchmark.summarise` does.
    """
    order = summarise(rows, n_draws=1)["method"].tolist()
    if len(order) < 2:
        return []
    clear, words = _compare(rows, order[0], order[1])
    won = f"{order[0]} won." if clear else f"No method clearly won; {order[0]} has the lowest L2."
    said = [f"{won} The next best is {order[1]}: {words}."]
    if "APP" in order[2:]:
        words = _compare(rows, "APP", order[0])[1]
        said.append(f"APP is number {order.index('APP') + 1} of {len(order)}, behind {order[0]}: {words}.")
    return said


def _compare(rows: pd.DataFrame, method: str, other: str) -> tuple[bool, str]:
    """Return whether two methods clearly differ, and their paired comparison in words."""
    found = paired(rows, methods=[method], against=other)
    if found.empty:
        return False, "they were scored on different splits"
    row = found.iloc[0]
    clear = row["verdict"] != "unclear"
    p = "p < 0.001" if row["p_value"] < 0.001 else f"p = {row['p_value']:.3f}"
    return clear, (
        f"the L2 of {method} is {row['ratio']:.3f} of that of {other} (95 % interval {row['ratio_low']:.3f} to "
        f"{row['ratio_high']:.3f}), and it is closer on {100 * row['win_rate']:.0f} % of the held-out perturbations; "
        f"{'a' if clear else 'no'} clear difference ({p})"
    )


def _tasks(results: pd.DataFrame, metric: str) -> Iterable[tuple[str, pd.DataFrame]]:
    """Yield each task that has scores of the metric, in the order of the table."""
    has = results.loc[(results["metric"] == metric) & (results["perturbation"] != ""), "task"]
    for task in pd.unique(has.astype(object)):
        yield str(task), results[results["task"] == task]


@dataclass(frozen=True)
class Cube:
    """Hold scores of one task and metric as an array of shape (methods, seeds, perturbations); NaN where not scored."""

    methods: list[str]
    groups: list[str]
    perturbations: list[str]
    values: np.ndarray

    def __getitem__(self, method: str) -> np.ndarray:
        """Return the scores of one method, of shape (seeds, perturbations)."""
        return self.values[self.methods.index(method)]


def cube(results: pd.DataFrame, metric: str) -> Cube:
    """Arrange the scores of one task by method, seed and perturbation; refuse a score that is there twice."""
    rows = results[(results["metric"] == metric) & (results["perturbation"] != "")]
    twice = rows.duplicated(["method", "seed", "perturbation"])
    if twice.any():
        first = rows[twice].iloc[0]
        raise ValueError(
            f"{first['method']!r} has more than one {metric} for {first['perturbation']!r} in split {first['seed']} of "
            f"{first['task']!r}. Each method is scored once: remove the repeated rows, or rerun the benchmark."
        )
    method, methods = pd.factorize(rows["method"].astype(object))
    seed, seeds = pd.factorize(rows["seed"], sort=True)
    perturbation, perturbations = pd.factorize(rows["perturbation"].astype(object), sort=True)
    values = np.full((len(methods), len(seeds), len(perturbations)), np.nan)
    values[method, seed, perturbation] = rows["value"].to_numpy(float)
    group = rows.drop_duplicates("method").set_index("method")["group"]
    return Cube(list(methods), [str(group[m]) for m in methods], list(perturbations), values)


def in_both(own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both with NaN wherever one of them has no score."""
    both = np.isfinite(own) & np.isfinite(other)
    return np.where(both, own, np.nan), np.where(both, other, np.nan)


def mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Average the finite values; NaN if there are none, without numpy's warning."""
    there = np.isfinite(values)
    total = np.where(there, values, 0).sum(axis=axis)
    return np.divide(total, there.sum(axis=axis), out=np.full(np.shape(total), np.nan), where=there.any(axis=axis))


def means(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average over splits the weighted means over perturbations; of shape (draws, methods)."""
    n, n_seeds, n_perturbations = values.shape
    weights = np.ones((1, n_perturbations)) if weights is None else weights
    flat = values.reshape(n * n_seeds, n_perturbations)
    there = np.isfinite(flat)
    total, weight = weights @ np.where(there, flat, 0).T, weights @ there.T.astype(float)
    means = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return mean(means.reshape(len(weights), n, n_seeds), axis=2)


@functools.lru_cache(maxsize=8)
def bootstrap(n: int, n_draws: int, seed: int) -> np.ndarray:
    """Draw how often each of n perturbations is in each sample; of shape (draws, n)."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_draws).astype(float)
    drawn.flags.writeable = False  # every caller gets the same array
    return drawn


def interval(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile interval of each column."""
    low, high = np.full(drawn.shape[1], np.nan), np.full(drawn.shape[1], np.nan)
    known = np.isfinite(drawn).any(axis=0)
    if known.any():
        low[known], high[known] = np.nanquantile(drawn[:, known], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def signed_rank(differences: np.ndarray) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; 1 if nothing differs."""
    moved = differences[differences != 0]
    return float(stats.wilcoxon(moved).pvalue) if len(moved) else 1.0


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values for the number of tests, after Holm."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected
