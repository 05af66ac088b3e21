"""Scores: from files of predictions to one tidy table, one row per number."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scapp import metrics
from scapp._files import replacing
from scapp._keys import Key
from scapp._labels import parse_labels
from scapp.benchmark._methods import P_CHANGE, registered
from scapp.benchmark._run import units
from scapp.benchmark._task import Split, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARQUET, CSV = "scores.parquet", "scores.csv"
COLUMNS = ("task", "method", "group", "seed", "perturbation", "metric", "value", "n_seen", "effect_size")
COSTS = ("fit_seconds", "predict_ms", "parameters", "peak_memory_mb")
# Share that an interval should hold, and among how many genes of the largest predicted change (0: among all).
COVERAGES = {
    "coverage_50": (0.5, 0),
    "coverage_80": (0.8, 0),
    "coverage_95": (0.95, 0),
    "coverage_80_top_20": (0.8, 20),
}
INTERACTIONS = ("synergy", "buffering", "opposite")
N_DIRECTION = 50
CEILING = "noise ceiling"


def score(tasks: Task | Iterable[Task], folder: Path | str) -> pd.DataFrame:
    """Score every prediction in a folder, and write the scores into the folder.

    Parameters
    ----------
    tasks
        The tasks that were run. Scores of other tasks in the folder are kept.
    folder
        That of :func:`run`.

    Returns
    -------
    The table, also written as ``scores.parquet`` (or ``scores.csv`` where pyarrow is not installed): one row per
    number, with the columns ``task``, ``method``, ``group``, ``seed``, ``perturbation`` (empty for a number over all
    perturbations of a split), ``metric``, ``value``, ``n_seen`` (how many genes of the perturbation were measured
    alone in training; -1 over a split) and ``effect_size`` (Euclidean norm of the observed effect over the scored
    genes; NaN over a split). A number that is not defined is NaN.

    Besides errors, the table has ``kept_spread``, the share of the measured spread between perturbations that the
    predictions keep (:func:`scapp.metrics.kept_spread`; if the noise is known, ``ceiling_kept_spread`` is the share
    that the truth would keep), and scores for finding the changed genes, ``changed_auprc``, ``changed_precision`` and
    ``changed_recall``, by the probability of a change or, for methods without it, by its size; guessing has an AUPRC of
    ``changed_share``. The threshold for a change is twice the median standard error of the task or, if unknown, the
    level that the largest twentieth of the values reaches.

    Raises
    ------
    ValueError
        If there are no predictions, or some are for other perturbations or genes than the task's.
    """
    folder = Path(folder)
    tasks = [tasks] if isinstance(tasks, Task) else list(tasks)
    order = {method.name: i for i, method in enumerate(registered())}
    tables = []
    for task in tasks:
        scorers: dict[int, _Scorer] = {}
        found = []
        for seed, arrays in units(folder, task.name):
            if seed not in scorers:
                scorers[seed] = _Scorer(task, task.split(seed))
            found.append((order.get(str(arrays["method"]), len(order)), scorers[seed].table(arrays)))
        if not found:
            raise ValueError(
                f"{str(folder)!r} holds no predictions of {task.name!r}. Make some with `scapp.benchmark.run`."
            )
        tables += [table for _, table in sorted(found, key=lambda item: item[0])]
        tables += [scorer.ceiling() for scorer in scorers.values()]
    scored = pd.concat(tables, ignore_index=True)
    try:
        earlier = read_results(folder)
        names = {task.name for task in tasks}
        scored = pd.concat([earlier[~earlier["task"].isin(names)], scored], ignore_index=True)
    except FileNotFoundError:
        pass
    write_results(folder, scored)
    return scored


def read_results(folder: Path | str) -> pd.DataFrame:
    """Read the scores that a run wrote into a folder.

    Parameters
    ----------
    folder
        That of :func:`run` and :func:`score`.

    Returns
    -------
    The table that :func:`score` describes.

    Raises
    ------
    FileNotFoundError
        If the folder holds no scores.
    ValueError
        If the file is not a table of scores.
    """
    folder = Path(folder)
    if (folder / PARQUET).is_file():
        table = pd.read_parquet(folder / PARQUET)
    elif (folder / CSV).is_file():
        table = pd.read_csv(
            folder / CSV,
            keep_default_na=False,
            na_values={"value": [""], "effect_size": [""]},
            float_precision="round_trip",
        )
    else:
        raise FileNotFoundError(
            f"The folder {str(folder)!r} holds neither {PARQUET} nor {CSV}. Run `scapp benchmark --output FOLDER` first."
        )
    check(table)
    return table


def write_results(folder: Path, table: pd.DataFrame) -> Path:
    """Write the scores as parquet, or as csv where pyarrow is not installed."""
    parquet = importlib.util.find_spec("pyarrow") is not None
    path, other = (folder / PARQUET, folder / CSV) if parquet else (folder / CSV, folder / PARQUET)
    with replacing(path) as scratch:
        if parquet:
            table.to_parquet(scratch, index=False)
        else:
            table.to_csv(scratch, index=False)
    other.unlink(missing_ok=True)  # an older table in the folder would be read instead
    return path


def check(scores: pd.DataFrame, *, metric: str | None = None) -> None:
    """Refuse a table that does not hold scores, or lacks a metric."""
    missing = [column for column in COLUMNS if column not in scores.columns]
    if missing:
        raise ValueError(
            f"The scores have no column {', '.join(missing)}; they have {', '.join(map(str, scores.columns))}. Expected "
            f"is the table `{PARQUET}` that `scapp benchmark` writes."
        )
    if metric is not None and not (scores["metric"] == metric).any():
        found = ", ".join(sorted(map(str, scores["metric"].unique()))) or "none"
        raise ValueError(f"No score is of the metric {metric!r}; the metrics are {found}.")


class _Scorer:
    """Score the predictions of one split: hold all that they are compared with."""

    def __init__(self, task: Task, split: Split):
        self.task, self.split = task, split
        train = task.training(split)
        columns = task.scored
        self.observed = task.observed(split).astype(np.float64)
        self.trained = np.asarray(train.layers[Key.layers.LFC][:, columns], dtype=np.float64)
        # Rounded as predictions are, so that the mean itself differs from it by exactly nothing.
        self.mean = self.trained.mean(axis=0).astype(np.float32).astype(np.float64)
        self.n_seen = task.n_seen(split)
        self.effect_size = np.linalg.norm(self.observed, axis=1)
        self.targets = task.targets(split)
        self.threshold = task.change_threshold(split)
        self.weights = metrics.effect_weights(self.observed, self._errors(), reference=self.mean)
        parsed = parse_labels(split.train, control=None)
        alone = {p[0]: row for p, row in zip(parsed, self.trained, strict=True) if len(p) == 1}
        parsed = parse_labels(split.test, control=None)
        self.pairs = np.array([len(p) == 2 and all(gene in alone for gene in p) for p in parsed], dtype=bool)
        pairs = [p for p, is_pair in zip(parsed, self.pairs, strict=True) if is_pair]
        self.singles = tuple(np.array([alone[p[i]] for p in pairs]).reshape(len(pairs), len(columns)) for i in (0, 1))

    def _errors(self) -> NDArray[np.float64] | None:
        """Return the standard errors of the held-out effects, or None; zeros become small values."""
        effects = self.task.held_out(self.split)
        if Key.layers.LFC_SE not in effects.layers:
            return None
        names = self.task.effects.var_names[self.task.scored]
        errors = np.asarray(effects[list(self.split.test), names].layers[Key.layers.LFC_SE], dtype=np.float64)
        if not np.isfinite(errors).all() or not (errors > 0).any():
            return None
        return np.maximum(errors, np.quantile(errors[errors > 0], 0.01))

    def table(self, arrays: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
        """Return all numbers of one file of predictions."""
        name = str(arrays["method"])
        if not (
            arrays["labels"].tolist() == list(self.split.test)
            and arrays["genes"].tolist() == self.task.genes.tolist()
            and np.array_equal(arrays["observed"], self.task.observed(self.split))
        ):
            raise ValueError(
                f"The predictions of {name!r} in split {self.split.seed} of {self.task.name!r} were made for other "
                "perturbations, genes or effects. Run the benchmark again into this folder, or into a new one."
            )
        lfc = arrays["lfc"].astype(np.float64)
        if not self.task.score_targets:
            lfc[self.targets] = 0
        std = arrays["std"].astype(np.float64) if "std" in arrays else None
        each = self._each(lfc, std) | self._changed(
            lfc, arrays[P_CHANGE].astype(np.float64) if P_CHANGE in arrays else None
        )
        once = {**self._interactions(lfc), **{cost: float(arrays[cost]) for cost in COSTS}}
        if std is not None and len(lfc) >= 3:
            once["spread_error_spearman"] = metrics.spread_error_spearman(std, lfc, self.observed)
        if len(lfc) >= 2:
            once["kept_spread"] = metrics.kept_spread(lfc, self.observed)
        of, test = (name, str(arrays["group"])), np.array(self.split.test, dtype=object)
        rows = [self._rows(of, test, metric, values, self.n_seen, self.effect_size) for metric, values in each.items()]
        return pd.concat([*rows, self._rows(of, "", list(once), list(once.values()))], ignore_index=True)

    def ceiling(self) -> pd.DataFrame:
        """Return the L2 that noise leaves to a perfect prediction, by halves of the cells or else by standard errors."""
        # Measurements in different contexts differ by more than noise.
        halves = None if self.task.kind == "context" else (self.task.halves or {}).get(self.split.seed)
        rows: list[int] = []
        values: Any = np.zeros(0)
        if halves is not None:
            rows = [i for i, p in enumerate(self.split.test) if all(p in half.obs_names for half in halves)]
        elif (noise := self.task.noise(self.split)) is not None:
            rows, values = list(range(len(noise))), noise
        labels = [self.split.test[i] for i in rows]
        if halves is not None and rows:
            names = self.task.effects.var_names[self.task.scored]
            first, second = (np.asarray(half[labels, names].layers[Key.layers.LFC], dtype=float) for half in halves)
            # Seen singles are scored on one half, whose noise has twice the variance of that of the whole.
            values = metrics.noise_ceiling(first, second) * (np.sqrt(2) if self.task.kind == "seen" else 1)
        of, perturbations = (CEILING, "ceiling"), np.array(labels, dtype=object)
        table = self._rows(of, perturbations, "ceiling_l2", values, self.n_seen[rows], self.effect_size[rows])
        if len(rows) == len(self.observed) > 1:
            # Predictions should not keep the spread between perturbations that noise adds.
            spread = np.square(self.observed - self.observed.mean(axis=0)).sum()
            noise = np.square(values).sum() * (1 - 1 / len(rows))
            kept = float(np.sqrt(max(1 - noise / spread, 0))) if spread > 0 else float("nan")
            table = pd.concat([table, self._rows(of, "", ["ceiling_kept_spread"], [kept])], ignore_index=True)
        return table

    def _rows(
        self,
        of: tuple[str, str],
        perturbation: Any,
        metric: Any,
        value: Any,
        n_seen: Any = -1,
        effect_size: Any = np.nan,
    ) -> pd.DataFrame:
        """Return rows of the table for a method and its group."""
        columns = (self.task.name, *of, self.split.seed, perturbation, metric, np.asarray(value, dtype=float), n_seen)
        return pd.DataFrame(dict(zip(COLUMNS, (*columns, effect_size), strict=True)))

    def _each(self, lfc: NDArray[np.float64], std: NDArray[np.float64] | None) -> dict[str, NDArray[np.float64]]:
        """Return the numbers of each held-out perturbation by metric."""
        observed = self.observed
        nothing = np.full(len(observed), np.nan)
        several = len(observed) > 1
        exclude = None if self.targets.all(axis=1).any() else self.targets
        values: dict[str, Any] = {
            "l2": metrics.l2(lfc, observed),
            "rmse": metrics.rmse(lfc, observed),
            "mae": metrics.mae(lfc, observed),
            "pearson_delta": metrics.pearson_delta(lfc, observed),
            "pearson_delta_mean": metrics.pearson_delta(lfc, observed, reference=self.mean),
            "cosine": metrics.cosine(lfc, observed),
            "pds": metrics.perturbation_discrimination(lfc, observed, exclude=exclude) if several else nothing,
            "rank": metrics.rank(lfc, observed, exclude=exclude) if several else nothing,
            "weighted_mse": metrics.weighted_mse(lfc, observed, self.weights),
            "weighted_r2": metrics.weighted_r2(lfc, observed, self.weights, reference=self.mean),
            "top_20_overlap": metrics.top_k_overlap(lfc, observed, 20),
            "top_50_overlap": metrics.top_k_overlap(lfc, observed, 50),
            "direction_match": metrics.direction_match(lfc, observed, k=N_DIRECTION),
        }
        if std is not None:
            for name, (level, n_largest) in COVERAGES.items():
                among = min(n_largest or lfc.shape[1], lfc.shape[1])
                values[name] = metrics.interval_coverage(lfc, std, observed, level=level, n_largest=among)
            values["spread"] = std.mean(axis=1)
        return values

    def _changed(
        self, lfc: NDArray[np.float64], p_change: NDArray[np.float64] | None
    ) -> dict[str, NDArray[np.float64]]:
        """Score the recovery of changed genes by the probability of a change, or else by its size."""
        changed = np.abs(self.observed) >= self.threshold
        size = np.abs(lfc)
        called = size >= self.threshold if p_change is None else p_change >= 0.5
        precision, recall = metrics.changed_genes_precision_recall(called, changed)
        auprc = metrics.changed_genes_auprc(size if p_change is None else p_change, changed)
        return {
            "changed_auprc": np.atleast_1d(auprc),
            "changed_precision": np.atleast_1d(precision),
            "changed_recall": np.atleast_1d(recall),
            "changed_share": changed.mean(axis=1),
        }

    def _interactions(self, lfc: NDArray[np.float64]) -> dict[str, float]:
        """Score the recovery of genetic interactions, over pairs whose genes were both measured alone."""
        if not self.pairs.any():
            return {}
        singles = (self.singles[0], self.singles[1])
        three = (lfc[self.pairs], self.observed[self.pairs], singles[0] + singles[1])
        found = {
            "gi_auprc": metrics.interaction_auprc(*three),
            "gi_tpr_at_fdp_30": metrics.interaction_tpr_at_fdp(*three, fdp=0.3),
            "gi_tpr_at_fdp_50": metrics.interaction_tpr_at_fdp(*three, fdp=0.5),
            "gi_sign_match": metrics.interaction_sign_match(*three),
        }
        for kind in INTERACTIONS:
            found[f"gi_auprc_{kind}"] = metrics.interaction_auprc(*three, kind=kind, singles=singles)  # type: ignore[arg-type]
        return found
