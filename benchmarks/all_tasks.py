"""APP against the best of all baselines on every measured task and on simulated screens of several designs, as a Markdown table.

python benchmarks/all_tasks.py --data ../shared/data
python benchmarks/all_tasks.py --tasks simulated             # the simulated screens alone; or names, as the table has them

The number of a task is the mean over splits of the mean L2 of the held-out perturbations. The best baseline is the one with the
lowest number on the very perturbations that are scored, so it is chosen in hindsight: a ratio of 1 is as good as having known it.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import scapp
from scapp.benchmark._measured import MEASURED

# Arguments of the simulation, and of the task that is made of it.
PAIRS = {
    "dense pairs of few genes": {"n_regulators": 16, "n_singles": 12, "n_doubles": 60},
    "sparse pairs of many genes": {
        "n_genes": 600,
        "n_regulators": 120,
        "n_singles": 110,
        "n_doubles": 100,
        "n_modules": 8,
    },
    "pairs, weak effects": {"n_cells_per_perturbation": 6, "median_library_size": 1500},
    "pairs, one batch of many cells": {"n_batches": 1, "n_cells_per_perturbation": 200},
    "pairs without interactions": {"interaction_strength": 0.0},
}
# Singles of which a fifth is unseen. Modules grow with the screen: some ten regulators each.
SINGLES = {
    f"singles only, {n} perturbations": {
        "n_genes": max(300, 3 * n), "n_regulators": n, "n_singles": n, "n_doubles": 0, "n_modules": max(3, n // 10)
    }
    for n in (25, 50, 100, 200, 400)
}  # fmt: skip
SINGLES["singles only, weak effects"] = SINGLES["singles only, 100 perturbations"] | {
    "n_cells_per_perturbation": 6, "median_library_size": 1500,
}  # fmt: skip
# More perturbations than scalars are learned from. The simulation takes minutes.
SINGLES["singles only, 2000 perturbations"] = {
    "n_genes": 3000, "n_regulators": 2000, "n_singles": 2000, "n_doubles": 0, "n_modules": 60, "n_cells_per_perturbation": 20,
}  # fmt: skip
N_CELLS = 30  # of a perturbation, where a design does not say
N_SPLITS = 2


def simulated(name: str, seed: int) -> scapp.benchmark.Task:
    """Simulate a screen, and hold out half of its pairs or a fifth of its singles."""
    design = {"n_cells_per_perturbation": N_CELLS, **(PAIRS | SINGLES)[name]}
    cells, truth = scapp.datasets.simulated_perturb_seq(seed=seed, **design)
    network = truth.network.rename(columns={"source": "regulator"})  # edges have a direction
    make = scapp.benchmark.doubles if name in PAIRS else scapp.benchmark.unseen_singles
    slug = name.replace(",", "").replace(" ", "_")
    return make(cells, network=network, batch_key="batch", n_splits=N_SPLITS, seed=seed, name=slug, title=name)


def compare(task: scapp.benchmark.Task, folder: Path, jobs: int) -> dict[str, float]:
    """Mean L2 of each method over the splits of a task."""
    failed = scapp.benchmark.run(task, ["baseline", "APP"], folder=folder, n_jobs=jobs, progress_bar=False)
    for failure in failed:
        print(f"{failure.method} failed on {failure.task}, split {failure.seed}: {failure.error}", flush=True)
    scores = scapp.benchmark.score(task, folder)
    rows = scores[(scores["task"] == task.name) & (scores["metric"] == "l2")]
    by_split = rows.groupby(["method", "seed"])["value"].mean().unstack("seed")
    return by_split.dropna().mean(axis=1).to_dict()  # a method that failed on a split is left out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="names, 'measured' or 'simulated'; all if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the simulations and their splits")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--folder", type=Path, help="keeps the predictions, to go on where a run stopped")
    args = parser.parse_args()
    readers: dict[str, Callable[[], scapp.benchmark.Task]] = {}
    readers |= {name: partial(read, args.data) for name, read in MEASURED.items()}
    readers |= {name: partial(simulated, name, args.seed) for name in PAIRS | SINGLES}
    groups = {"measured": list(MEASURED), "simulated": [*PAIRS, *SINGLES]}
    asked = [name for task in args.tasks or groups for name in groups.get(task, [task])]
    if unknown := [name for name in asked if name not in readers]:
        parser.error(f"there is no task {', '.join(unknown)}; there are {', '.join([*groups, *readers])}")
    logging.getLogger("scapp").setLevel(logging.WARNING)
    begin, ratios = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as scratch:
        print("| task | APP | best baseline | its L2 | ratio |\n|---|---|---|---|---|", flush=True)
        for name in asked:
            found = compare(readers[name](), args.folder or Path(scratch), args.jobs)
            app = found.pop("APP")
            found.pop("noise ceiling", None)
            best = min(found, key=found.__getitem__)
            ratios.append(app / found[best])
            print(f"| {name} | {app:.3f} | {best} | {found[best]:.3f} | {ratios[-1]:.3f} |", flush=True)
    print(
        f"\nGeometric mean of the {len(ratios)} ratios: {np.exp(np.mean(np.log(ratios))):.3f}, worst {max(ratios):.3f}; "
        f"{time.perf_counter() - begin:.0f} s."
    )


if __name__ == "__main__":
    main()
