"""How well the stated uncertainty of APP holds on the held-out perturbations of the measured tasks, as a Markdown table.

python benchmarks/intervals.py --data ../shared/data

The share of measured values inside the 80 % intervals, of all genes and of the 20 that are predicted to change most; the largest
distance of the mean `p_change` from the share that did change, over ten equally large groups of values; and how well `p_change` and the
size of the prediction rank the changed genes (average precision). For K562, whose effects are z-scores, also the share of the knockdowns
with |z| of at least 2 for a gene that are among the tenth ranked first (`scapp.metrics.hit_discovery_recall`).
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

import scapp
from scapp.benchmark._measured import MEASURED
from scapp.benchmark._methods import P_CHANGE
from scapp.benchmark._run import units


def uncertainty(task: scapp.benchmark.Task, folder: Path) -> list[float]:
    """Return the columns of the table for one task."""
    scapp.benchmark.run(task, ["APP"], folder=folder, progress_bar=False)
    scores = scapp.benchmark.score(task, folder)
    held = scores[scores["task"] == task.name].groupby("metric")["value"].mean()
    kept = dict(units(folder, task.name))
    probability, changed, size = [], [], []
    for split in task.splits:
        probability.append(kept[split.seed][P_CHANGE].astype(np.float64).ravel())
        changed.append((np.abs(task.observed(split)) > task.change_threshold(split)).ravel())
        size.append(np.abs(kept[split.seed]["lfc"]).ravel())
    p, y, s = (np.concatenate(values) for values in (probability, changed, size))
    table = scapp.metrics.reliability(p, y.astype(float))
    gap = (table["predicted"] - table["observed"]).abs().max()
    ranked = [average_precision_score(y, values) for values in (p, s)]
    return [held["coverage_80"], held["coverage_80_top_20"], gap, y.mean(), *ranked]


def hits(task: scapp.benchmark.Task, folder: Path) -> np.ndarray:
    """Return the recall of hits by the size of the prediction, by its size over the standard deviation, and by `p_change`."""
    found = []
    for split in task.splits:
        kept = dict(units(folder, task.name))[split.seed]
        size = np.abs(kept["lfc"])
        for score in (size, size / kept["std"], kept[P_CHANGE]):
            found.append(np.nanmean(scapp.metrics.hit_discovery_recall(score, task.observed(split), threshold=2)))
    return np.reshape(found, (-1, 3)).mean(axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--tasks", nargs="+", choices=list(MEASURED), default=list(MEASURED))
    parser.add_argument("--folder", type=Path, help="keeps the predictions, to go on where a run stopped")
    args = parser.parse_args()
    logging.getLogger("scapp").setLevel(logging.WARNING)
    print("| task | inside 80 % | of the top 20 | largest gap of p_change | changed | AP by p_change | by size |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.tasks:
            task, folder = MEASURED[name](args.data), args.folder or Path(scratch)
            values = uncertainty(task, folder)
            print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |", flush=True)
            if name == "k562_singles":
                recall = hits(task, folder)
    if "k562_singles" in args.tasks:
        print("Hits of K562 by |lfc|, |lfc| / std and p_change:", *(f"{value:.3f}" for value in recall))


if __name__ == "__main__":
    main()
