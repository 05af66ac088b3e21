"""Predictions as a model would write them, with attention and effects that are known."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

LABELS = ["HLA/A", "KLF1", "HLA/A+KLF1", "GATA1"]
GENES = ["HUB", "HLA/A", "KLF1", "GATA1", "T1", "T2", "T3", "T4", "UNMEASURED"]


@pytest.fixture
def predicted() -> ad.AnnData:
    """What `APP.predict(names)` returns: one observation a perturbation. HUB gets most attention everywhere."""
    rng = np.random.default_rng(0)
    attention = rng.random((4, 9)) * 0.2
    attention[:, 0] = 5
    attention[[0, 1, 2, 3], [4, 5, 6, 7]] = 2  # what is specific to each
    attention /= attention.sum(axis=1, keepdims=True)
    lfc = rng.normal(size=(4, 9))
    lfc[:, 8] = np.nan
    return ad.AnnData(
        X=np.maximum(1 + lfc, 0).astype(np.float32),
        obs=pd.DataFrame({"perturbation": np.array(LABELS, dtype=object)}, index=LABELS),
        var=pd.DataFrame({"measured": [True] * 8 + [False]}, index=GENES),
        layers={"attention": attention.astype(np.float32), "predicted_lfc": lfc.astype(np.float32)},
    )


@pytest.fixture
def cells(predicted: ad.AnnData) -> ad.AnnData:
    """What `APP.predict()` writes into cells: the same for all of a perturbation, NaN attention for controls."""
    rows = np.repeat([0, 1, 2, 3, 0], [3, 2, 4, 3, 5])
    adata = ad.AnnData(
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(len(rows))]),
        var=predicted.var,
        layers={key: values[rows] for key, values in predicted.layers.items()},
    )
    labels = [*np.repeat(LABELS, [3, 2, 4, 3]), *["control"] * 5]
    adata.obs["perturbation"] = pd.Categorical(labels, categories=["control", *LABELS])
    is_control = (adata.obs["perturbation"] == "control").to_numpy()
    adata.layers["attention"][is_control] = np.nan
    adata.layers["predicted_lfc"][is_control] = 0
    adata.X = np.random.default_rng(1).random(adata.shape).astype(np.float32)
    return adata[np.random.default_rng(2).permutation(adata.n_obs)].copy()
