"""A folder of results as the runner writes it, with planted scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scapp
from scapp import benchmark

TASKS = {
    "norman_doubles": ("Doubles (Norman 2019)", "additive"),
    "k562_singles": ("Unseen genes (Replogle 2022)", "mean"),
}


def _write_folder(folder: Path, scores: pd.DataFrame) -> Path:
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(folder / "scores.parquet")
    sizes = {"n_splits": 3, "n_scored": 100, "n_train": 60, "n_test": 20, "note": "Planted scores."}
    tasks = {task: {"title": title, "reference": reference, **sizes} for task, (title, reference) in TASKS.items()}
    versions = {"scapp": "0.1.0", "numpy": np.__version__}
    info = {"created": "2026-11-25", "versions": versions, "cores": 2, "quick": False, "tasks": tasks}
    (folder / "run.json").write_text(json.dumps(info))
    genes = np.array([f"G{i:02d}" for i in range(100)])
    for task in TASKS:
        for seed in (1, 2, 3):
            of = scores[(scores["task"] == task) & (scores["seed"] == seed) & (scores["perturbation"] != "")]
            labels = sorted(of["perturbation"].unique())
            attended, weights = [], []
            for label in labels:
                own = label.split("+")
                others = [gene for gene in rng.permutation(genes) if gene not in own][: 20 - len(own)]
                attended.append([*own, *others])
                weights.append(np.sort(rng.dirichlet(np.full(20, 0.4)))[::-1])
            sizes_of = of.drop_duplicates("perturbation").set_index("perturbation")["effect_size"]
            observed = rng.normal(size=(len(labels), 100))
            observed *= sizes_of[labels].to_numpy()[:, None] / np.linalg.norm(observed, axis=1, keepdims=True)
            path = folder / "predictions" / task / "app" / f"{seed}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            alone = {}
            if labels and "+" in labels[0]:  # a task of combinations also tells of a single that was trained on
                alone = {"single": np.array("G07"), "single_genes": genes[7:27], "single_scores": weights[0]}
            np.savez(
                path, labels=np.array(labels), genes=genes, lfc=(observed * 0.5).astype("float32"),
                observed=observed.astype("float32"), attention_genes=np.array(attended),
                attention_scores=np.array(weights, dtype="float32"), fit_seconds=np.array(3.0), **alone,
            )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def write_folder() -> Callable[[Path, pd.DataFrame], Path]:
    """Write what the runner leaves: scores, description, predictions."""
    return _write_folder


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory: pytest.TempPathFactory, planted: pd.DataFrame) -> Path:
    """A folder of results with planted scores."""
    return _write_folder(tmp_path_factory.mktemp("benchmark") / "results", planted)


@pytest.fixture(scope="session")
def simulated():
    """Cells and truth of a small simulated screen."""
    return scapp.datasets.simulated_perturb_seq(
        seed=0, n_genes=100, n_regulators=22, n_singles=18, n_doubles=20, n_cells_per_perturbation=12,
        n_control_cells=80,
    )  # fmt: skip


@pytest.fixture(scope="session")
def true_network(simulated):
    return simulated[1].network


@pytest.fixture(scope="session")
def doubles(simulated, true_network):
    return benchmark.doubles(simulated[0], network=true_network, n_splits=2, n_scored=50)


@pytest.fixture(scope="session")
def unseen(simulated, true_network):
    return benchmark.unseen_singles(simulated[0], network=true_network, n_splits=2, n_scored=50)
