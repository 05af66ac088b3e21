"""From files of predictions to one tidy table: one row a number."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scapp import metrics
from scapp._keys import Key
from scapp._perturbations import parse_labels
from scapp.benchmark._files import COSTS, units
from scapp.benchmark._methods import registered
from scapp.benchmark._results import read_results, write_results
from scapp.benchmark._task import Task
from scapp.benchmark._tidy import COVERAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp.benchmark._task import Split

logger = logging.getLogger(__name__)

KINDS = ("synergy", "buffering", "opposite")
N_DIRECTION = 50
CEILING = "noise ceiling"


def score(tasks: Task | Iterable[Task], folder: Path | str) -> pd.DataFrame:
    """Score every prediction in a folder, and write the scores beside the predictions.

    Parameters
    ----------
    tasks
        The tasks that were run. Scores of other tasks that are in the folder already are kept.
    folder
        That of :func:`run`.

    Returns
    -------
    The table, also written as ``results.parquet`` (or ``results.csv`` where pyarrow is not installed): one row a
    number, with the columns ``task``, ``method``, ``group``, ``seed``, ``perturbation`` (empty for a number over all
    perturbations of a split), ``metric``, ``value``, ``n_seen`` (how many genes of the perturbation were measured
    alone in training; -1 over a split) and ``effect_size`` (Euclidean norm of the observed effect over the scored
    genes; NaN over a split). A number that is not defined is NaN.

    Raises
    ------
    ValueError
        If there are no predictions, or some are not of the task's perturbations and genes.
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


class _Scorer:
    """What all methods are held against in one split."""

    def __init__(self, task: Task, split: Split):
        self.task, self.split = task, split
        train = task.training(split)
        columns = task.scored
        self.observed = task.observed(split).astype(np.float64)
        self.trained = np.asarray(train.layers[Key.layers.LFC][:, columns], dtype=np.float64)
        # Rounded as predictions are, so that the mean itself differs from it by exactly nothing.
        self.mean = self.trained.mean(axis=0).astype(np.float32).astype(np.float64)
        self.parsed = parse_labels(split.test, control=None)
        self.n_seen = task.n_seen(split)
        self.effect_size = np.linalg.norm(self.observed, axis=1)
        self.targets = task.targets(split)
        self.weights = metrics.effect_weights(self.observed, self._errors(), reference=self.mean)
        alone = {
            p[0]: row
            for p, row in zip(parse_labels(split.train, control=None), self.trained, strict=True)
            if len(p) == 1
        }
        self.pairs = np.array([len(p) == 2 and all(gene in alone for gene in p) for p in self.parsed], dtype=bool)
        pairs = [p for p, is_pair in zip(self.parsed, self.pairs, strict=True) if is_pair]
        self.singles = tuple(np.array([alone[p[i]] for p in pairs]).reshape(len(pairs), len(columns)) for i in (0, 1))

    def _errors(self) -> NDArray[np.float64] | None:
        """Standard errors of what is held out, where they are known; none is taken to be nearly nothing."""
        if self.task.kind == "seen":
            assert self.task.halves is not None
            effects = self.task.halves[self.split.seed][1]
        else:
            effects = self.task.effects
        if Key.layers.LFC_SE not in effects.layers:
            return None
        names = self.task.effects.var_names[self.task.scored]
        errors = np.asarray(effects[list(self.split.test), names].layers[Key.layers.LFC_SE], dtype=np.float64)
        if not np.isfinite(errors).all() or not (errors > 0).any():
            return None
        return np.maximum(errors, np.quantile(errors[errors > 0], 0.01))

    def table(self, arrays: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
        """All numbers of one file."""
        name = str(arrays["method"])
        self._check(arrays, name)
        lfc = arrays["lfc"].astype(np.float64)
        if not self.task.score_targets:
            lfc[self.targets] = 0
        std = arrays["std"].astype(np.float64) if "std" in arrays else None
        each = self._each(lfc, std)
        n = len(self.split.test)
        rows = pd.DataFrame(
            {
                "perturbation": np.tile(np.array(self.split.test, dtype=object), len(each)),
                "metric": np.repeat(np.array(list(each), dtype=object), n),
                "value": np.concatenate([np.asarray(values, dtype=float) for values in each.values()]),
                "n_seen": np.tile(self.n_seen, len(each)),
                "effect_size": np.tile(self.effect_size, len(each)),
            }
        )
        once = {**self._interactions(lfc), **{cost: float(arrays[cost]) for cost in COSTS}}
        if std is not None and n >= 3:
            once["spread_error_spearman"] = metrics.spread_error_spearman(std, lfc, self.observed)
        over = pd.DataFrame(
            {
                "perturbation": "",
                "metric": list(once),
                "value": list(once.values()),
                "n_seen": -1,
                "effect_size": np.nan,
            }
        )
        return self._labelled(pd.concat([rows, over], ignore_index=True), name, str(arrays["group"]))

    def ceiling(self) -> pd.DataFrame:
        """The L2 that noise leaves to a perfect prediction, by halves of the cells or else by standard errors, where known."""
        halves = (self.task.halves or {}).get(self.split.seed)
        names = self.task.effects.var_names[self.task.scored]
        rows = (
            []
            if halves is None
            else [i for i, p in enumerate(self.split.test) if all(p in h.obs_names for h in halves)]
        )
        labels = [self.split.test[i] for i in rows]
        values: Any = np.zeros(0)
        if halves is not None and rows:
            first, second = (np.asarray(half[labels, names].layers[Key.layers.LFC], dtype=float) for half in halves)
            # Seen singles are scored on one half, whose noise has twice the variance of that of the whole.
            values = metrics.noise_ceiling(first, second) * (np.sqrt(2) if self.task.kind == "seen" else 1)
        elif halves is None and (noise := self.task.noise(self.split)) is not None:
            rows, labels, values = list(range(len(noise))), list(self.split.test), noise
        table = pd.DataFrame(
            {
                "perturbation": np.array(labels, dtype=object),
                "metric": "ceiling_l2",
                "value": values,
                "n_seen": self.n_seen[rows],
                "effect_size": self.effect_size[rows],
            }
        )
        return self._labelled(table, CEILING, "ceiling")

    def _labelled(self, table: pd.DataFrame, method: str, group: str) -> pd.DataFrame:
        for i, (column, value) in enumerate(
            {"task": self.task.name, "method": method, "group": group, "seed": self.split.seed}.items()
        ):
            table.insert(i, column, value)
        return table

    def _check(self, arrays: Mapping[str, NDArray[Any]], name: str) -> None:
        same = (
            arrays["labels"].tolist() == list(self.split.test)
            and arrays["genes"].tolist() == self.task.genes.tolist()
            and np.array_equal(arrays["observed"], self.task.observed(self.split))
        )
        if not same:
            raise ValueError(
                f"The predictions of {name!r} in split {self.split.seed} of {self.task.name!r} were made for other "
                "perturbations, genes or effects. Run the benchmark again into this folder, or into a new one."
            )

    def _each(self, lfc: NDArray[np.float64], std: NDArray[np.float64] | None) -> dict[str, NDArray[np.float64]]:
        observed = self.observed
        nothing = np.full(len(observed), np.nan)
        several = len(observed) > 1
        free = not self.targets.all(axis=1).any()
        exclude = self.targets if free else None
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

    def _interactions(self, lfc: NDArray[np.float64]) -> dict[str, float]:
        if not self.pairs.any():
            return {}
        predicted, observed, singles = lfc[self.pairs], self.observed[self.pairs], self.singles
        additive = singles[0] + singles[1]
        three = (predicted, observed, additive)
        found = {
            "gi_auprc": metrics.interaction_auprc(*three),
            "gi_tpr_at_fdp_30": metrics.interaction_tpr_at_fdp(*three, fdp=0.3),
            "gi_tpr_at_fdp_50": metrics.interaction_tpr_at_fdp(*three, fdp=0.5),
            "gi_sign_match": metrics.interaction_sign_match(*three),
        }
        for kind in KINDS:
            found[f"gi_auprc_{kind}"] = metrics.interaction_auprc(*three, kind=kind, singles=(singles[0], singles[1]))  # type: ignore[arg-type]
        return found
