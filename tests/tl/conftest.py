"""Predictions as a model would write them, with attention and effects that are known; a simulated screen and a model of it."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi

import scapp
from scapp.model import APP

LABELS = ["HLA/A", "KLF1", "HLA/A+KLF1", "GATA1"]
GENES = ["HUB", "HLA/A", "KLF1", "GATA1", "T1", "T2", "T3", "T4", "UNMEASURED"]


@pytest.fixture
def predicted() -> ad.AnnData:
    """What `APP.predict(names)` returns: one observation per perturbation. HUB gets most attention everywhere."""
    rng = np.random.default_rng(0)
    attention = rng.random((4, 9)) * 0.2
    attention[:, 0] = 5
    attention[[0, 1, 2, 3], [4, 5, 6, 7]] = 2  # what is specific to each
    attention /= attention.sum(axis=1, keepdims=True)
    lfc = rng.normal(size=(4, 9))
    lfc[:, 8] = np.nan
    return ad.AnnData(
        X=np.maximum(1 + lfc, 0).astype(np.float32),
        obs=pd.DataFrame({"perturbation": pd.Categorical(LABELS, categories=LABELS)}, index=LABELS),
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


def train(effects: ad.AnnData, *, kind: str | None = None, **options: object) -> APP:
    """A small model of some effects, with a fixed seed."""
    scvi.settings.seed = 0
    APP.setup_anndata(effects, control=None, layer="lfc", kind=kind)
    model = APP(effects, **options)
    model.train(max_epochs=5, enable_progress_bar=False)
    return model


@pytest.fixture(scope="session")
def make():
    return train


@pytest.fixture(scope="session")
def simulated():
    """Cells and truth."""
    return scapp.datasets.simulated_perturb_seq(
        n_genes=120, n_regulators=30, n_singles=24, n_doubles=60, n_cells_per_perturbation=30, n_control_cells=300
    )


@pytest.fixture(scope="session")
def effects(simulated) -> ad.AnnData:
    """Effects of all perturbations of the screen, with its network."""
    cells, truth = simulated
    effects = scapp.pp.pseudobulk(cells)
    scapp.pp.add_network(effects, truth.network, directed=True)
    return effects


@pytest.fixture(scope="session")
def held_out(effects) -> list[str]:
    """Doubles that the model does not see."""
    doubles = effects.obs_names[effects.obs["n_perturbed_genes"] == 2]
    return doubles[::2].tolist()


@pytest.fixture(scope="session")
def model(effects, held_out) -> APP:
    return train(effects[~effects.obs_names.isin(held_out)].copy())
