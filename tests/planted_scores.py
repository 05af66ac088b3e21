"""Scores of a benchmark with known ratios, for tests of statistics and pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd

# L2 relative to the observed effect, on doubles and on unseen singles; None where a method does not apply.
PLANTED = {
    "no change": ("baseline", 1.35, 1.03),
    "mean": ("baseline", 1.2, 1.0),
    "geometric median": ("baseline", 1.19, 0.998),
    "additive": ("baseline", 1.0, None),
    "shrunk additive": ("baseline", 0.89, None),
    "linear model": ("baseline", 1.17, 1.001),
    "kernel ridge": ("baseline", None, 0.935),
    "pair kernel": ("baseline", 0.837, None),
    "APP": ("app", 0.8, 0.92),
    "APP, paper, random embeddings": ("paper", 1.3, 1.02),
    "APP, paper": ("app", 1.21, 0.975),
    "APP, attention alone": ("ablation", 0.84, 0.99),
    "APP, no attention": ("ablation", 0.8, 0.92),
    "APP, no known noise": ("ablation", 0.78, 0.9),
    "APP, 10 % edges removed": ("network", 0.801, 0.921),
    "APP, 25 % edges removed": ("network", 0.802, 0.925),
    "APP, 10 % edges added": ("network", 0.8, 0.92),
    "APP, 25 % edges added": ("network", 0.803, 0.93),
    "APP, edges rewired": ("network", 0.803, 0.99),
    "embedding: text": ("embedding", 1.1, 0.99),
}
TASKS = {
    "norman_doubles": ("Doubles (Norman 2019)", "additive"),
    "k562_singles": ("Unseen genes (Replogle 2022)", "mean"),
}


def planted_scores(n_perturbations: int = 40, n_seeds: int = 3) -> pd.DataFrame:
    """Make scores in which every method has a known ratio, with noise of 2 % for each perturbation and method."""
    rng = np.random.default_rng(0)
    rows = []
    for t, task in enumerate(TASKS):
        labels = [f"G{i:02d}+G{i + 50}" if t == 0 else f"G{i:02d}" for i in range(n_perturbations)]
        sizes = rng.gamma(8, 1.5, n_perturbations)
        for seed in range(1, n_seeds + 1):
            held_out = np.sort(rng.permutation(n_perturbations)[: n_perturbations // 2])
            for method, (group, *factors) in PLANTED.items():
                factor = factors[t]
                if factor is None:
                    continue
                for i in held_out:
                    noise = np.exp(rng.normal(0, 0.02))
                    values = {
                        "l2": sizes[i] * factor * noise,
                        "pearson_delta": np.nan
                        if method == "no change"
                        else np.clip(1.4 - 0.8 * factor * noise, -1, 1),
                        "pds": 0.9 if method == "kernel ridge" else 0.5 + 0.2 * (1.3 - factor) * noise,
                    }
                    if group == "app":
                        values |= {
                            "coverage_50": 0.52 * noise,
                            "coverage_80": 0.79 * noise,
                            "coverage_95": 0.93 * noise,
                            "coverage_80_top_20": 0.62,
                        }
                    of = (task, method, group, seed, labels[i])
                    rows += [(*of, name, value, 2 if t == 0 else 0, sizes[i]) for name, value in values.items()]
                once = {"fit_seconds": 3.0 * seed, "predict_ms": 0.2, "parameters": 41139.0, "peak_memory_mb": 840.0}
                if t == 0:
                    once["gi_auprc"] = 0.3 if method == "APP" else 0.2
                rows += [(task, method, group, seed, "", name, value, -1, np.nan) for name, value in once.items()]
    columns = ["task", "method", "group", "seed", "perturbation", "metric", "value", "n_seen", "effect_size"]
    return pd.DataFrame(rows, columns=columns)
