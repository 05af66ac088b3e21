"""A simulated screen, its cells and its truth, and a model that was trained on a part of it."""

from __future__ import annotations

import anndata as ad
import pytest
import scvi

import scapp
from scapp.model import APP


def train(effects: ad.AnnData, **options: object) -> APP:
    """A small model of some effects, with a fixed seed."""
    scvi.settings.seed = 0
    APP.setup_anndata(effects, control=None, layer="lfc")
    model = APP(effects, **{"n_models": 2, "n_hidden": 8, **options})
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
