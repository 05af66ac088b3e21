"""Tables for readers in Markdown: numbers made readable, the best in bold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from scapp.benchmark import paired, summarise

COSTS = ("parameters", "fit_seconds", "predict_ms", "peak_memory_mb")
INTERACTIONS = (
    "gi_auprc", "gi_tpr_at_fdp_30", "gi_tpr_at_fdp_50", "gi_sign_match",
    "gi_auprc_synergy", "gi_auprc_buffering", "gi_auprc_opposite",
)  # fmt: skip
Format = Callable[[float], str]


class Metric(NamedTuple):
    """Name a metric for readers, and say which side is better (None: neither)."""

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


def number(value: float, digits: int = 3) -> str:
    """Format a number with three significant digits, thousands apart; nothing for NaN."""
    if value is None or not math.isfinite(value):
        return ""
    if value == 0:
        return "0"
    before = math.floor(math.log10(abs(value))) + 1
    return f"{value:,.{max(digits - max(before, 0), 0) if abs(value) >= 0.001 else digits + 2}f}"


def decimals(n: int) -> Format:
    """Return a format with n digits after the point."""
    return lambda value: f"{value:,.{n}f}" if math.isfinite(value) else ""


def percent(value: float, digits: int = 0) -> str:
    """Format a share as a percentage."""
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else ""


def p_value(value: float) -> str:
    """Format a p-value with one significant digit; below a thousandth only that."""
    return "" if not math.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Format both ends, or nothing where there are none."""
    return f"{low:.{digits}f} to {high:.{digits}f}" if math.isfinite(low) and math.isfinite(high) else ""


@dataclass(frozen=True)
class Table:
    """Hold a table of results: the values, and how they are shown.

    Parameters
    ----------
    name
        For the file: letters, digits and underscores.
    caption
        What the table shows.
    frame
        The values; the first column names the rows.
    formats
        How the numbers of a column are written; where not given, with as many decimals as suit the column.
    best
        Which way is better in a column: its best value is bold.
    note
        What a reader must know, below the table.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    formats: Mapping[str, Format] = field(default_factory=dict)
    best: Mapping[str, Literal["low", "high"]] = field(default_factory=dict)
    note: str = ""

    def cells(self) -> list[list[tuple[str, bool]]]:
        """Return each cell as text, and whether it is the best of its column."""
        columns = []
        for name in self.frame.columns:
            values = self.frame[name]
            if not pd.api.types.is_numeric_dtype(values):
                columns.append([("" if value is None else str(value), False) for value in values])
                continue
            write = self.formats.get(name, _alike(values.to_numpy(float)))
            texts = [write(float(value)) for value in values]
            best = None
            if name in self.best and values.notna().sum() > 1:
                # Values that read the same are equally good to the reader.
                best = texts[int(np.nanargmin(values) if self.best[name] == "low" else np.nanargmax(values))]
            columns.append([(text, text != "" and text == best) for text in texts])
        return [list(row) for row in zip(*columns, strict=True)]

    def markdown(self) -> str:
        """Return the table in Markdown, without its caption."""
        right = [pd.api.types.is_numeric_dtype(self.frame[name]) for name in self.frame.columns]
        lines = [
            "| " + " | ".join(_escape(str(name)) for name in self.frame.columns) + " |",
            "|" + "|".join("---:" if r else "---" for r in right) + "|",
        ]
        for row in self.cells():
            lines.append("| " + " | ".join(f"**{_escape(t)}**" if bold else _escape(t) for t, bold in row) + " |")
        return "\n".join(lines)


def methods_table(results: pd.DataFrame, task: str, reference: str, *, title: str = "") -> Table:
    """Tabulate all methods of a task by L2: ratio to the reference with its interval, by split, and share of wins."""
    rows = results[results["task"] == task]
    summary = summarise(rows, reference=reference)
    wins = paired(rows, against=reference, n_draws=1).set_index("method")
    frame = pd.DataFrame(
        {
            "method": summary["method"],
            "L2": summary["mean"],
            f"ratio to {reference}": summary["ratio"],
            "95 % interval": [interval(*ends) for ends in summary[["ratio_low", "ratio_high"]].itertuples(index=False)],
            "ratio by split": [" ".join(decimals(3)(x) for x in of) for of in summary["ratio_by_seed"]],
            "better on": summary["method"].map(wins["win_rate"]),
            "p": summary["method"].map(wins["p_value"]),
        }
    )
    ratio = f"ratio to {reference}"
    return Table(
        f"{task}_methods", f"{title or task}: all methods, by L2", frame,
        formats={ratio: decimals(3), "L2": decimals(3), "better on": percent, "p": p_value},
        best={ratio: "low", "L2": "low"},
        note=f"Better on: share of held-out perturbations and splits on which a method is better than {reference}. p: "
        f"Wilcoxon's signed-rank test against {reference}, one difference a perturbation. Intervals: bootstrap over "
        "perturbations.",
    )  # fmt: skip


def metrics_table(results: pd.DataFrame, task: str, *, title: str = "") -> Table:
    """Tabulate all methods of a task by all metrics of single perturbations that have a better side."""
    rows = results[(results["task"] == task) & (results["perturbation"] != "")]
    present = set(rows["metric"].unique())
    names = [name for name, of in METRICS.items() if of.better and name in present]
    means = rows[rows["metric"].isin(names)].groupby(["method", "metric", "seed"], sort=False)["value"].mean()
    frame = means.groupby(["method", "metric"], sort=False).mean().unstack()[names].reset_index()
    if "l2" in frame:
        frame = frame.sort_values("l2", kind="stable")
    labels = {name: METRICS[name].label for name in names}
    undefined = rows[rows["value"].isna() & rows["metric"].isin(names)]
    note = "Means over splits of means over held-out perturbations."
    if len(undefined):
        share = undefined.groupby("metric").size().index
        note += (
            f" {', '.join(labels[name] for name in names if name in share)}: not defined for some predictions, such as "
        )
        note += "those of no change, and left out of the means."
    return Table(
        f"{task}_metrics", f"{title or task}: all metrics", frame.rename(columns=labels),
        best={labels[name]: better for name in names if (better := METRICS[name].better)}, note=note,
    )  # fmt: skip


def split_table(
    results: pd.DataFrame, metrics: tuple[str, ...], name: str, caption: str, *, task: str | None = None
) -> Table | None:
    """Tabulate what each method has once per split, as means over splits; None where nothing was measured."""
    table = over_splits(results if task is None else results[results["task"] == task], metrics)
    if table.empty:
        return None
    present = [metric for metric in metrics if metric in set(table["metric"])]
    index = ["method"] if task is not None else ["task", "method"]
    order = table[index].drop_duplicates()
    frame = order.merge(table.pivot(index=index, columns="metric", values="mean")[present].reset_index(), on=index)
    labels = {metric: METRICS[metric].label for metric in present}
    best: dict[str, Literal["low", "high"]] = {labels[m]: "high" for m in present if METRICS[m].better == "high"}
    # Costs differ by orders of magnitude between methods: three significant digits each.
    formats: dict[str, Format] = {labels[metric]: number for metric in present if metric in COSTS}
    if "parameters" in present:
        formats[labels["parameters"]] = decimals(0)
    return Table(name, caption, frame.rename(columns=labels), formats=formats, best=best, note="Means over splits.")


def calibration_table(calibrated: pd.DataFrame) -> Table | None:
    """Tabulate coverage of predicted intervals by task and method; None where no method predicts a spread."""
    if calibrated.empty:
        return None
    named = calibrated.assign(
        what=[
            f"{100 * nominal:.0f} % intervals hold" + (f", {n} genes predicted to change most" if n else "")
            for nominal, n in zip(calibrated["nominal"], calibrated["n_largest"], strict=True)
        ]
    )
    wide = named.pivot(index=["task", "method"], columns="what", values="empirical")
    wide = wide[named["what"].unique()].reset_index().rename_axis(columns=None)
    formats = dict.fromkeys(wide.columns[2:], percent)
    return Table("calibration", "Share of observed values inside the predicted intervals", wide, formats=formats)


def over_splits(results: pd.DataFrame, metrics: Iterable[str]) -> pd.DataFrame:
    """Compute mean, least and largest of the numbers that a method has once per split.

    Returns
    -------
    One row per task, method and metric: ``mean``, ``low``, ``high`` and ``n_seeds``.
    """
    rows = results[(results["perturbation"] == "") & results["metric"].isin(list(metrics)) & results["value"].notna()]
    grouped = rows.groupby(["task", "method", "group", "metric"], sort=False, observed=True)["value"]
    table = grouped.agg(mean="mean", low="min", high="max", n_seeds="size").reset_index()
    return table.astype({"mean": float, "low": float, "high": float})


def _alike(values: np.ndarray) -> Format:
    """Return a format that gives the typical number of a column three significant digits, and all the same decimals."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    before = math.floor(math.log10(np.median(sizes))) + 1 if len(sizes) else 1
    digits = min(max(3 - before, 0), 3 if before > -1 else 5)
    return lambda value: f"{value:,.{digits}f}" if math.isfinite(value) else ""


def _escape(text: str) -> str:
    """Escape text so that Markdown leaves it as it is inside a cell of a table."""
    for character in "\\|*_<`$[":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
