"""A small simulated screen, and tasks of it."""

from __future__ import annotations

import pytest

import scapp
from scapp import benchmark

SMALL = {
    "n_genes": 100, "n_regulators": 22, "n_singles": 18, "n_doubles": 20, "n_cells_per_perturbation": 12,
    "n_control_cells": 80,
}  # fmt: skip


@pytest.fixture(scope="session")
def simulated():
    """Cells and truth."""
    return scapp.datasets.simulated_perturb_seq(seed=0, **SMALL)


@pytest.fixture(scope="session")
def network(simulated):
    return simulated[1].network


@pytest.fixture(scope="session")
def doubles(simulated, network):
    """Half of the doubles held out, in two splits; with halves of the cells and a network."""
    return benchmark.doubles(simulated[0], network=network, n_splits=2, n_scored=50)


@pytest.fixture(scope="session")
def unseen(simulated, network):
    return benchmark.unseen_singles(simulated[0], network=network, n_splits=2, n_scored=50)


@pytest.fixture(scope="session")
def seen(simulated, network):
    return benchmark.seen_singles(simulated[0], network=network, n_splits=2, n_scored=50)
