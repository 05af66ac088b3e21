"""A small planted screen, and a model trained on it."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
from scipy import sparse

import scapp
from scapp.model import APP

SINGLES = [f"g{i}" for i in range(16)]
PAIRS = [(i, j) for i in range(0, 10) for j in range(i + 1, 10) if (i + j) % 3 == 0]


def planted_effects() -> ad.AnnData:
    """Effects that follow the network: genes of one of four modules share their targets; pairs do less than the sum."""
    rng = np.random.default_rng(0)
    n_genes, genes = 40, [f"g{i}" for i in range(40)]
    response = rng.normal(size=(4, n_genes)) * (rng.random((4, n_genes)) < 0.4)
    lfc = {f"g{i}": response[i % 4] + 0.1 * rng.normal(size=n_genes) for i in range(16)}
    for i, j in PAIRS:
        lfc[f"g{i}+g{j}"] = 0.7 * (lfc[f"g{i}"] + lfc[f"g{j}"]) + 0.05 * rng.normal(size=n_genes)
    network = np.zeros((n_genes, n_genes), dtype=np.float32)
    for i in range(20):
        for j in range(20):
            if i != j and i % 4 == j % 4:
                network[i, j] = 1
    for i in range(20, 39):
        network[i, i + 1] = network[i + 1, i] = 0.5
    labels = list(lfc)
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame({"control_mean": rng.random(n_genes).astype(np.float32) + 1}, index=genes),
        layers={"lfc": np.array(list(lfc.values()), dtype=np.float32)},
    )
    adata.varp["network"] = sparse.csr_matrix(network)
    return adata


@pytest.fixture
def effects() -> ad.AnnData:
    return planted_effects()


@pytest.fixture
def backed(effects, tmp_path) -> ad.AnnData:
    """The same effects, read from ``mine.h5ad`` when they are needed."""
    effects.X = effects.layers["lfc"].copy()
    effects.write_h5ad(tmp_path / "mine.h5ad")
    return ad.read_h5ad(tmp_path / "mine.h5ad", backed="r")


def train(adata: ad.AnnData, *, max_epochs: int = 3, setup: dict | None = None, **options: object) -> APP:
    """Set up, make and train a small model with a fixed seed."""
    scvi.settings.seed = 0
    APP.setup_anndata(adata, **{"control": None, "layer": "lfc", **(setup or {})})
    model = APP(adata, **options)
    model.train(max_epochs=max_epochs, enable_progress_bar=False)
    return model


@pytest.fixture
def make():
    return train


@pytest.fixture(scope="session")
def trained() -> APP:
    return train(planted_effects())


@pytest.fixture(scope="session")
def simulated():
    """Cells and truth of a small simulated screen, with its network."""
    cells, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=120, n_regulators=24, n_singles=20, n_doubles=24, n_cells_per_perturbation=12, n_control_cells=100
    )
    scapp.pp.add_network(cells, truth.network, directed=True)
    return cells, truth
