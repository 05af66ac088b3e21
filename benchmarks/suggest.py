"""Do suggested perturbations improve predictions more than as many drawn by chance? A Markdown table.

python benchmarks/suggest.py --data ../shared/data

A model is trained on a part of a screen. From a pool, perturbations are suggested or drawn by chance, "measured", and the model
is trained anew with them. The error is the mean L2 on test perturbations that are neither in the part nor in the pool, as a
ratio to that of the model before. Chance is the mean over several draws, with the share of draws that the suggestions beat.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

import scapp

STRATEGIES = ("variance", "uncertainty")
# Perturbations in the start, the pool, and to be suggested; the rest are the test. The start of "simulated, few modules" are
# those of three modules of 16; that of the doubles also holds all singles.
SIZES = {
    "simulated": (30, 65, 13),
    "simulated, few modules": (30, 65, 13),
    "norman_doubles": (15, 55, 20),
    "k562_singles": (150, 400, 75),
}


def simulated(seed: int) -> tuple[AnnData, list[str]]:
    """True effects of 160 regulators in 16 modules, and the regulators of the first three modules."""
    _, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=500, n_regulators=160, n_singles=160, n_doubles=0, n_modules=16, n_cells_per_perturbation=4,
        n_control_cells=20, seed=seed,
    )  # fmt: skip
    effects = truth.effects[truth.effects.obs["in_screen"]].copy()
    scapp.pp.add_network(effects, truth.network, directed=True)
    few = truth.modules.index[truth.modules.isin(["M1", "M2", "M3"])]
    return effects, [name for name in effects.obs_names if name in few]


def fit(effects: AnnData, labels: list[str], features: list[str]) -> scapp.model.APP:
    adata = effects[labels].copy()
    scapp.model.APP.setup_anndata(adata, gene_features_key=features)
    model = scapp.model.APP(adata)
    with contextlib.redirect_stdout(io.StringIO()):  # where early stopping says that it stopped
        model.train(enable_progress_bar=False, enable_model_summary=False, logger=False)
    return model


def compare(
    effects: AnnData, name: str, features: list[str], first: list[str], seed: int, n_draws: int
) -> dict[str, float]:
    """Errors of all ways to choose from one pool, relative to the error before."""
    rng = np.random.default_rng(seed)
    n_start, n_pool, n = SIZES[name]
    n_genes = np.array([label.count("+") + 1 for label in effects.obs_names])
    doubles = name == "norman_doubles"
    shuffled = rng.permutation(effects.obs_names[n_genes == (2 if doubles else 1)]).tolist()
    shuffled = [*first, *(label for label in shuffled if label not in first)]
    n_start = len(first) or n_start
    start, pool, test = shuffled[:n_start], shuffled[n_start : n_start + n_pool], shuffled[n_start + n_pool :]
    start = [*(effects.obs_names[n_genes == 1] if doubles else []), *start]

    def error(labels: list[str]) -> float:
        predicted = fit(effects, [*start, *labels], features).predict(test)
        measured = predicted.var["measured"].to_numpy()
        found, expected = predicted.layers["predicted_lfc"], effects[test].layers["lfc"]
        return float(scapp.metrics.l2(found[:, measured], expected[:, measured]).mean())

    model, before = fit(effects, start, features), error([])
    found = {
        strategy: error(
            scapp.tl.suggest_perturbations(model, n, candidates=pool, strategy=strategy)["perturbation"].tolist()
        )
        / before
        for strategy in STRATEGIES
    }
    drawn = [error(rng.choice(pool, n, replace=False).tolist()) / before for _ in range(n_draws)]
    found["chance"], found["whole pool"] = float(np.mean(drawn)), error(pool) / before
    return found | {f"{s} wins": float(np.mean([found[s] < value for value in drawn])) for s in STRATEGIES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--tasks", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    for name in ("scapp", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    columns = ["variance", "uncertainty", "chance", "whole pool", *(f"{s} wins" for s in STRATEGIES)]
    print(f"| task | start | pool | measured | {' | '.join(columns)} |\n{'|---' * (4 + len(columns))}|", flush=True)
    for name in args.tasks:
        rows = []
        for seed in range(args.starts):
            features: list[str] = []
            first: list[str] = []
            if name.startswith("simulated"):
                effects, few = simulated(seed)
                first = few if "few" in name else []
            else:
                task = getattr(scapp.benchmark, name)(args.data)
                effects, features = task.inputs(), list(task.gene_features_key)
                effects = effects[[*task.splits[0].train, *task.splits[0].test]].copy()
            rows.append(compare(effects, name, features, first, seed, args.draws))
        mean = pd.DataFrame(rows).mean()
        sizes = " | ".join(map(str, SIZES[name]))
        print(f"| {name} | {sizes} | {' | '.join(f'{mean[column]:.3f}' for column in columns)} |", flush=True)


if __name__ == "__main__":
    main()
