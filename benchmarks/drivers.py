"""Rank of the perturbed gene among candidate causes of its own measured effect, held out: tl.rank_drivers against correlation.

Usage: python benchmarks/drivers.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import itertools
import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import scapp
from scapp import benchmark
from scapp.model import APP

N_BEST = 500
TASKS = {"k562_singles": 1, "norman_unseen_singles": 1, "norman_doubles": 2}


def train(task: benchmark.Task, split: benchmark.Split) -> APP:
    """Train on the training perturbations of a split."""
    training = task.training(split, networks=True)
    keys = {"network_key": task.sources.network_keys, "gene_features_key": list(task.gene_features_key)}
    APP.setup_anndata(training, control=None, layer="lfc", **keys)
    model = APP(training)
    model.train(enable_progress_bar=False, accelerator="cpu")
    return model


def candidates_of(split: benchmark.Split, order: int) -> list[str]:
    """All perturbations that were measured or held out, and with pairs all those of the genes measured alone."""
    known = [*split.train, *split.test]
    if order == 2:
        singles = sorted(label for label in split.train if "+" not in label)
        known += ["+".join(pair) for pair in itertools.combinations(singles, 2)]
    return list(dict.fromkeys(known))


def ranks(task: benchmark.Task, split: benchmark.Split, order: int) -> pd.DataFrame:
    """For each held-out perturbation the rank of its own label by rank_drivers and by the correlation with predictions."""
    model = train(task, split)
    names = candidates_of(split, order)
    predicted = model.predict(names)[:, model.measured_genes]
    centered = np.asarray(predicted.layers["predicted_lfc"], dtype=float)
    centered -= centered.mean(axis=1, keepdims=True)
    centered /= np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    rows = []
    for label in split.test:
        shift = pd.Series(task.effects[label, model.measured_genes].layers["lfc"][0], index=model.measured_genes)
        if not shift.any():
            continue
        for direction in ("same", "both"):
            table = scapp.tl.rank_drivers(
                model, shift, perturbations=names, direction=direction, n_best=N_BEST, n_permutations=100,
                progress_bar=False,
            )  # fmt: skip
            ranked = table["perturbation"].tolist()
            # Beyond the best that are asked for, the middle of the others.
            place = ranked.index(label) if label in ranked else None
            rank = (N_BEST + len(names) + 1) / 2 if place is None else place + 1
            correlation = centered @ (shift - shift.mean()).to_numpy() / shift.std(ddof=0) / np.sqrt(len(shift))
            correlation = np.abs(correlation) if direction == "both" else correlation
            own = correlation[names.index(label)]
            rows.append(
                {
                    "direction": direction, "n": len(names), "rank_drivers": rank,
                    "correlation": 1 + (correlation > own).sum() + (np.sum(correlation == own) - 1) / 2,
                    "p_adjusted": np.nan if place is None else table["p_adjusted"][place],
                    "right_direction": np.nan if place is None else float(table["direction"][place] == "same"),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--splits", type=int, default=None, help="only so many splits of each task")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    for task in benchmark.measured(args.data, args.tasks):
        found = pd.concat([ranks(task, split, TASKS[task.name]) for split in task.splits[: args.splits]])
        for direction, rows in found.groupby("direction", sort=False):
            print(
                f"{task.name}, direction {direction}: {len(rows)} held out among {rows['n'].min()} to {rows['n'].max()}"
            )
            for method in ("rank_drivers", "correlation"):
                rank, n = rows[method], rows["n"]
                print(
                    f"  {method:13s} median rank {rank.median():6.1f}, first {np.mean(rank <= 1):.3f}, of the first ten "
                    f"{np.mean(rank <= 10):.3f}, mean rank over n {np.mean(rank / n):.3f}"
                )
            print(
                f"  p_adjusted < 0.05 for {np.mean(rows['p_adjusted'] < 0.05):.2f}, right direction {rows['right_direction'].mean():.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
