"""Small modules of every form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scapp.module import APPModule
from scapp.module._predictor import Architecture

N_NODES, N_GENES, N_FIT = 30, 25, 25
SINGLES = [(i,) for i in range(20)]
COMBINATIONS = [(i, i + 1) for i in range(8)] + [(3, 25), (4, 26)]
FORMS = {
    "default": Architecture(),
    "linear": Architecture(decoder="linear"),
    "mlp": Architecture(decoder="mlp"),
    "free head": Architecture(n_free_heads=1),
    "mean pooling": Architecture(pooling="mean"),
    "sum, two layers": Architecture(aggregation="sum", n_layers=2),
    "paper": Architecture(closed_form=False, priors=False, n_free_heads=1, decoder="linear", activation="relu"),
}


def module_of(form: str) -> APPModule:
    torch.manual_seed(0)
    module = APPModule(
        perturbations=[*SINGLES, *COMBINATIONS],
        n_genes=N_GENES,
        graphs=[(torch.randint(N_NODES, (2, 100)), torch.rand(100))],
        features=torch.randn(N_NODES, 12),
        block_sizes=[8, 4],
        n_models=2,
        anchor=form != "paper",
        architecture=FORMS[form],
    )
    module.targets.normal_()
    module.prepare(range(N_FIT))
    return module


@pytest.fixture
def new_module() -> Callable[[], APPModule]:
    """Makes a module of the default form, ready to train on `rows`."""
    return lambda: module_of("default")


@pytest.fixture(params=list(FORMS))
def each_form(request: pytest.FixtureRequest) -> APPModule:
    """A module of each form."""
    return module_of(request.param)


@pytest.fixture(params=[False, True], ids=["training", "validation"])
def rows(request: pytest.FixtureRequest) -> dict[str, torch.Tensor]:
    """Rows of the training perturbations, and of those held out in validation."""
    fit = {"fit": torch.arange(N_FIT)}
    return {**fit, "held_out": torch.arange(N_FIT, len(SINGLES) + len(COMBINATIONS))} if request.param else fit
