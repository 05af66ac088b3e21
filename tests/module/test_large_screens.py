"""Screens with more perturbations than scalars are learned from: what is learned on some holds for all, in any order."""

from __future__ import annotations

import numpy as np
import pytest
from tests.module.conftest import N_NODES, fit, make_screen

from scapp.module import Evidence, Inputs, Wanted, _app, _attention, _closed_form, _evidence


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (_app, _closed_form):
        monkeypatch.setattr(room, "MAX_LEARNED_FROM", 20)
    monkeypatch.setattr(_closed_form, "MAX_FOR_PENALTIES", 12)
    monkeypatch.setattr(_attention, "MAX_ASKED", 14)
    monkeypatch.setattr(_attention, "MAX_FOR_PROGRAMS", 20)


def predicted(screen) -> np.ndarray:
    asked = [(3,), (40,), (5, 11), (5, 41)]
    found = fit(screen).predict(asked, Wanted(attention=False))
    return np.stack([found.lfc.numpy(), found.std.numpy()])


@pytest.mark.parametrize("n_pairs", [0, 4, 40])
def test_scalars_learned_from_some_predict_as_those_learned_from_all(n_pairs, small_limits, monkeypatch):
    screen = make_screen(n_pairs=n_pairs)
    some = predicted(screen)
    monkeypatch.undo()
    every = predicted(screen)
    assert np.corrcoef(some[0].ravel(), every[0].ravel())[0, 1] > 0.97
    if not n_pairs:  # errors of pairs are learned from few of them
        assert np.abs(np.log(some[1, :2] / every[1, :2])).mean() < 0.4


@pytest.mark.parametrize("n_pairs", [0, 40])
@pytest.mark.usefixtures("small_limits")
def test_the_order_of_perturbations_does_not_matter(n_pairs):
    screen = make_screen(n_pairs=n_pairs)
    order = np.random.default_rng(0).permutation(len(screen.lfc))
    inputs = screen.inputs
    turned = Inputs(
        [inputs.labels[i] for i in order], [inputs.perturbations[i] for i in order], N_NODES, inputs.n_measured,
        inputs.networks,
    )  # fmt: skip
    np.testing.assert_allclose(
        predicted(screen._replace(inputs=turned, lfc=screen.lfc[order])), predicted(screen), atol=1e-5
    )


@pytest.mark.usefixtures("small_limits")
def test_few_singles_among_many_pairs_make_programs_that_can_be_saved():
    screen = make_screen(n_singles=24, n_pairs=160)
    module = fit(screen)
    assert module.attention.loadings.shape[1] == 24 // _attention.PERTURBATIONS_PER_VECTOR
    again = type(module)(screen.inputs)
    again.load_state_dict(module.state_dict())
    asked = [(3,), (40,), (3, 41)]
    np.testing.assert_allclose(again.predict(asked).lfc, module.predict(asked).lfc)


def test_walks_from_all_genes_at_once_are_those_from_each(screen):
    few = Evidence(screen.inputs.networks, n_nodes=N_NODES).similarities([3, 40], [5, 7])
    nodes = list(range(N_NODES))
    every = Evidence(screen.inputs.networks, n_nodes=N_NODES).similarities(nodes, nodes)
    np.testing.assert_allclose(every[:, [3, 40]][:, :, [5, 7]], few, atol=1e-6)
    transition, degree = _evidence._transition(screen.inputs.networks[0])
    step_by_step = _evidence._random_walks(transition, degree, np.array([3, 40]))
    np.testing.assert_allclose(_evidence._all_walks(transition, degree)[[3, 40]], step_by_step, atol=1e-8)
