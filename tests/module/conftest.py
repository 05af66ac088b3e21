"""A planted screen in the module's terms: genes of one module of the network do the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from scapp.module import APPModule, Inputs

N_NODES, N_MODULES, N_MEASURED = 48, 4, 30


class Screen(NamedTuple):
    inputs: Inputs
    lfc: np.ndarray
    response: np.ndarray


def make_screen(*, n_singles=32, n_pairs=0, noise=0.1, signal=1.0, seed=0) -> Screen:
    rng = np.random.default_rng(seed)
    network = np.zeros((N_NODES, N_NODES))
    for i in range(N_NODES):
        for j in range(i):
            if i % N_MODULES == j % N_MODULES and rng.random() < 0.6:
                network[i, j] = network[j, i] = 1
    response = signal * rng.normal(size=(N_MODULES, N_MEASURED))
    sets = [(i,) for i in range(n_singles)]
    pairs = [(i, j) for i in range(n_singles) for j in range(i + 1, n_singles)]
    sets += [pairs[k] for k in rng.permutation(len(pairs))[:n_pairs]]
    lfc = np.stack([(0.7 if len(p) > 1 else 1.0) * sum(response[g % N_MODULES] for g in p) for p in sets])
    lfc = lfc + noise * rng.normal(size=lfc.shape)
    labels = ["+".join(f"g{g:02d}" for g in p) for p in sets]
    return Screen(Inputs(labels, sets, N_NODES, N_MEASURED, [sparse.csr_matrix(network)]), lfc, response)


def fit(screen: Screen, epochs: int = 8, *, variance=None, **options) -> APPModule:
    module = APPModule(screen.inputs, **options)
    module.set_effects(screen.lfc, variance=variance)
    module.prepare()
    for epoch in range(epochs):
        module.step()
        if epoch == epochs // 2:
            module.reweigh()
    module.reweigh()
    module.finish()
    return module


@pytest.fixture(scope="session")
def screen() -> Screen:
    return make_screen()


@pytest.fixture(scope="session")
def pairs() -> Screen:
    return make_screen(n_singles=24, n_pairs=30)


@pytest.fixture(scope="session")
def singles_module(screen) -> APPModule:
    return fit(screen)


@pytest.fixture(scope="session")
def pairs_module(pairs) -> APPModule:
    return fit(pairs)
