"""The tidy table of scores, and what each metric means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

COLUMNS = ("task", "method", "group", "seed", "perturbation", "metric", "value", "n_seen", "effect_size")


class Metric(NamedTuple):
    """How a metric is called, and which way is better (None: neither)."""

    label: str
    better: Literal["low", "high"] | None


METRICS = {
    "l2": Metric("L2", "low"),
    "rmse": Metric("RMSE", "low"),
    "mae": Metric("MAE", "low"),
    "pearson_delta": Metric("Pearson delta", "high"),
    "pearson_delta_mean": Metric("Pearson delta to training mean", "high"),
    "cosine": Metric("cosine", "high"),
    "pds": Metric("discrimination score", "high"),
    "rank": Metric("rank", "low"),
    "weighted_mse": Metric("weighted MSE", "low"),
    "weighted_r2": Metric("weighted R2", "high"),
    "top_20_overlap": Metric("overlap of top 20 genes", "high"),
    "top_50_overlap": Metric("overlap of top 50 genes", "high"),
    "direction_match": Metric("direction match", "high"),
    "coverage_50": Metric("coverage of 50 % intervals", None),
    "coverage_80": Metric("coverage of 80 % intervals", None),
    "coverage_95": Metric("coverage of 95 % intervals", None),
    "coverage_80_top_20": Metric("coverage of 80 % intervals, 20 genes predicted to change most", None),
    "spread": Metric("predicted spread", None),
    "spread_error_spearman": Metric("Spearman of spread and error", "high"),
    "gi_auprc": Metric("interactions: AUPRC", "high"),
    "gi_tpr_at_fdp_30": Metric("interactions: TPR at FDP 0.3", "high"),
    "gi_tpr_at_fdp_50": Metric("interactions: TPR at FDP 0.5", "high"),
    "gi_sign_match": Metric("interactions: sign match", "high"),
    "gi_auprc_synergy": Metric("synergy: AUPRC", "high"),
    "gi_auprc_buffering": Metric("buffering: AUPRC", "high"),
    "gi_auprc_opposite": Metric("opposite: AUPRC", "high"),
    "fit_seconds": Metric("seconds to fit", "low"),
    "predict_ms": Metric("ms a prediction", "low"),
    "parameters": Metric("parameters", "low"),
    "peak_memory_mb": Metric("peak memory, MB", "low"),
}


# What an interval should hold, and among how many genes of the largest predicted change (0: among all).
COVERAGES = {
    "coverage_50": (0.5, 0),
    "coverage_80": (0.8, 0),
    "coverage_95": (0.95, 0),
    "coverage_80_top_20": (0.8, 20),
}


def check(results: pd.DataFrame, *, metric: str | None = None) -> None:
    """Refuse a table that is not one of scores, or that lacks a metric.

    Raises
    ------
    ValueError
        If a column or the metric is missing.
    """
    missing = [column for column in COLUMNS if column not in results.columns]
    if missing:
        raise ValueError(
            f"The scores have no column {', '.join(missing)}; they have {', '.join(map(str, results.columns))}. Expected "
            "is the table `results.parquet` that `scapp benchmark` writes."
        )
    if metric is not None and not (results["metric"] == metric).any():
        found = ", ".join(sorted(map(str, results["metric"].unique()))) or "none"
        raise ValueError(f"No score is of the metric {metric!r}; the metrics are {found}.")


def direction(metric: str) -> Literal["low", "high"]:
    """Which way is better.

    Raises
    ------
    ValueError
        If the metric is unknown, or neither way is better.
    """
    better = METRICS[metric].better if metric in METRICS else None
    if better is None:
        known = ", ".join(name for name, of in METRICS.items() if of.better)
        raise ValueError(f"Methods cannot be compared by {metric!r}: it is not known which way is better. Use {known}.")
    return better


@dataclass(frozen=True)
class Cube:
    """Scores of one task and metric as an array, of shape (methods, seeds, perturbations); NaN where not scored."""

    methods: list[str]
    groups: list[str]
    seeds: list[int]
    perturbations: list[str]
    values: np.ndarray

    def __getitem__(self, method: str) -> np.ndarray:
        """Scores of one method, of shape (seeds, perturbations)."""
        return self.values[self.methods.index(method)]


def cube(results: pd.DataFrame, metric: str) -> Cube:
    """The scores of one task by method, seed and perturbation.

    Raises
    ------
    ValueError
        If a method has two scores for the same perturbation and seed.
    """
    rows = results[(results["metric"] == metric) & (results["perturbation"] != "")]
    twice = rows.duplicated(["method", "seed", "perturbation"])
    if twice.any():
        first = rows[twice].iloc[0]
        raise ValueError(
            f"{first['method']!r} has more than one {metric} for {first['perturbation']!r} in split {first['seed']} of "
            f"{first['task']!r}. Each method is scored once: remove the repeated rows, or run the benchmark anew."
        )
    method, methods = pd.factorize(rows["method"].astype(object))
    seed, seeds = pd.factorize(rows["seed"], sort=True)
    perturbation, perturbations = pd.factorize(rows["perturbation"].astype(object), sort=True)
    values = np.full((len(methods), len(seeds), len(perturbations)), np.nan)
    values[method, seed, perturbation] = rows["value"].to_numpy(float)
    group = rows.drop_duplicates("method").set_index("method")["group"]
    return Cube(list(methods), [str(group[m]) for m in methods], [int(s) for s in seeds], list(perturbations), values)
