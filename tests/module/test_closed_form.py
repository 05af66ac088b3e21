"""The closed form against independent solutions, and the baselines as its special cases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.module.conftest import N_MEASURED, Screen, fit, make_screen

from scapp.module import APPModule, Wanted, _closed_form
from scapp.module._kernel import Asked

OFF = -40.0  # the logarithm of a weight that does nothing


def solved(screen: Screen, *, penalty: float = 1.0, **scalars) -> APPModule:
    """A module whose scalars are set, not learned, with one penalty for all genes."""
    module = APPModule(screen.inputs, attention=False)
    module.set_effects(screen.lfc)
    module.prepare()
    with torch.no_grad():
        for name, value in scalars.items():
            getattr(module.closed_form, name).copy_(torch.as_tensor(value, dtype=torch.float64))
    module.finish()
    module.closed_form.penalty = torch.full((N_MEASURED,), penalty, dtype=torch.float64)
    return module


def predicted(module: APPModule, asked) -> np.ndarray:
    return module.predict(asked, Wanted(std=False, attention=False)).lfc.numpy()


def kernel_by_hand(module: APPModule, a, b) -> np.ndarray:
    """The kernel of singles, written out."""
    closed, evidence = module.closed_form, module.evidence
    weight = closed.log_additive.exp().detach().numpy()
    found = np.zeros((len(a), len(b)))
    for i, (p,) in enumerate(a):
        for j, (q,) in enumerate(b):
            found[i, j] = weight[0] + weight[1] * (p == q) + weight[2] * evidence.similarities([p], [q])[0, 0, 0]
    return found


def test_the_solution_is_that_of_the_linear_system(screen, singles_module):
    closed = singles_module.closed_form
    train, asked = screen.inputs.perturbations, [(3,), (40,), (47,)]
    gram, noise = kernel_by_hand(singles_module, train, train), np.diag(closed.noise().detach().numpy())
    cross = kernel_by_hand(singles_module, asked, train)
    lfc = closed.predict(closed.to_training(singles_module.asked(asked)))
    for gene in (0, 7, 29):
        system = gram + float(closed.penalty[gene]) * noise
        expected = cross @ np.linalg.solve(system, singles_module.targets[:, gene].double().numpy())
        np.testing.assert_allclose(lfc[:, gene].detach().numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("n_pairs", [0, 30])
def test_left_out_residuals_are_those_of_refitting_without_the_row(n_pairs):
    screen = make_screen(n_singles=24, n_pairs=n_pairs)
    module = fit(screen, epochs=3)
    closed = module.closed_form
    residual = closed.left_out_with(closed.penalty)
    parts = closed.parts(Asked(closed.perturbations, closed.genes, closed.similarities))
    gram, noise = closed.kernel(parts).detach().numpy(), closed.noise().detach().numpy()
    y = module.targets.double().numpy()
    for row in (0, 5, len(y) - 1):
        rest = np.delete(np.arange(len(y)), row)
        for gene in (0, 11):
            system = gram[np.ix_(rest, rest)] + float(closed.penalty[gene]) * np.diag(noise[rest])
            expected = y[row, gene] - gram[row, rest] @ np.linalg.solve(system, y[rest, gene])
            assert float(residual[row, gene]) == pytest.approx(expected, abs=1e-8)


def test_influence_times_the_effects_is_the_prediction(pairs, pairs_module):
    closed = pairs_module.closed_form
    kernel = closed.to_training(pairs_module.asked([(1, 40)]))
    weights = closed.influence(kernel, 3)
    expected = closed.predict(kernel)[0, 3]
    assert float(weights @ pairs_module.targets[:, 3].double()) == pytest.approx(float(expected), abs=1e-9)


def test_the_mean_is_a_special_case(screen):
    module = solved(screen, log_additive=[14.0, OFF, OFF])
    np.testing.assert_allclose(predicted(module, [(40,), (3,)]), np.tile(module.targets.mean(0), (2, 1)), atol=1e-6)


def test_the_shrunk_additive_model_is_a_special_case(pairs):
    alone = [i for i, p in enumerate(pairs.inputs.perturbations) if len(p) == 1]
    inputs = dataclasses.replace(
        pairs.inputs,
        perturbations=[pairs.inputs.perturbations[i] for i in alone],
        labels=[pairs.inputs.labels[i] for i in alone],
    )
    module = solved(
        Screen(inputs, pairs.lfc[alone], pairs.response), log_additive=[OFF, 0.0, OFF], log_noise=[-20.0, -20.0],
        factor_logit=np.log(0.6 / 0.4),
    )  # fmt: skip
    expected = 0.6 * (module.targets[2] + module.targets[5])
    np.testing.assert_allclose(predicted(module, [(2, 5)])[0], expected, atol=1e-6)


def test_kernel_ridge_is_a_special_case(screen):
    module = solved(screen, log_additive=[OFF, OFF, 0.0], log_noise=[np.log(0.5)] * 2)
    evidence, train = module.evidence, list(range(32))
    gram = evidence.similarities(train, train)[0] + 0.5 * np.eye(32)
    expected = evidence.similarities([40, 3], train)[0] @ np.linalg.solve(gram, module.targets.double().numpy())
    np.testing.assert_allclose(predicted(module, [(40,), (3,)]), expected, atol=1e-6)


def test_the_gaussian_process_over_sums_is_a_special_case(pairs):
    module = solved(
        pairs, log_additive=[OFF, OFF, OFF], log_profiles=OFF, log_combined=[OFF, OFF, OFF, 0.0],
        log_noise=[0.0, np.log(0.1)],
    )  # fmt: skip
    closed = module.closed_form
    rows = np.flatnonzero(closed.is_combination)
    x = closed.summed_profiles(Asked(closed.perturbations, closed.genes, closed.similarities)).numpy()[rows]
    new = closed.summed_profiles(module.asked([(0, 1)])).numpy()
    unit = float(closed.units[2])

    def gaussian(a, b):
        return np.exp(-((a[:, None] - b) ** 2).sum(2) / (2 * unit))

    system = gaussian(x, x) + 0.1 * np.eye(len(rows))
    expected = gaussian(new, x) @ np.linalg.solve(system, module.targets.double().numpy()[rows])
    np.testing.assert_allclose(predicted(module, [(0, 1)]), expected, atol=1e-6)


def test_a_screen_of_noise_is_predicted_as_its_centre():
    screen = make_screen(noise=1.0, signal=0.0, seed=3)
    shifted = Screen(screen.inputs, screen.lfc + 0.5, screen.response)
    module = fit(shifted)
    lfc = predicted(module, [(40,), (44,), (47,)])
    centre = shifted.lfc.mean(axis=0)
    assert np.linalg.norm(lfc - lfc.mean(axis=0), axis=1).max() < 0.05 * np.linalg.norm(centre)
    errors = [np.linalg.norm(value - 0.5, axis=1).mean() for value in (lfc, centre[None])]
    assert errors[0] <= 1.01 * errors[1]


def test_known_noise_takes_weight_from_noisy_perturbations():
    screen = make_screen(noise=0.0, seed=1)
    rng = np.random.default_rng(0)
    error = np.where(np.arange(32) // 4 % 2, 1.5, 0.1)[:, None] * np.ones(N_MEASURED)
    noisy = Screen(screen.inputs, screen.lfc + error * rng.normal(size=error.shape), screen.response)
    truth = screen.response[np.arange(36, 48) % 4]
    asked = [(g,) for g in range(36, 48)]
    blind, knowing = fit(noisy), fit(noisy, variance=error**2)
    lengths = [np.linalg.norm(predicted(m, asked) - truth, axis=1).mean() for m in (blind, knowing)]
    assert lengths[1] < lengths[0]


def test_many_genes_and_any_size_of_combination_are_predicted(pairs_module):
    found = pairs_module.predict([(0, 1, 2), (0, 1, 2, 40, 41), (45,)], Wanted(change=0.5))
    for values in (found.lfc, found.std, found.change):
        assert torch.isfinite(values).all()
    assert (found.std > 0).all()
    assert ((found.change >= 0) & (found.change <= 1)).all()


def test_predictions_do_not_depend_on_what_else_is_asked(pairs_module):
    asked = [(0, 1), (40,), (3,), (41, 42), (2, 44)]
    together = pairs_module.predict(asked, Wanted(change=0.5))
    for i, perturbation in enumerate(asked):
        alone = pairs_module.predict([perturbation], Wanted(change=0.5))
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_of_them[i], atol=1e-9)


def test_contributions_add_up_to_the_prediction(pairs_module, singles_module):
    for module in (pairs_module, singles_module):
        for perturbation in ((3,), (40,), (0, 1), (2, 44), (41, 45)):
            expected = predicted(module, [perturbation])[0]
            for gene in (0, 17):
                parts = module.explain(perturbation, gene)
                total = sum(float((part.weight * part.value).sum()) for part in parts)
                assert total == pytest.approx(expected[gene], abs=1e-8)


def test_planted_pairs_are_predicted_whether_or_not_their_genes_were_measured(pairs_module, pairs):
    truth = 0.7 * np.stack(
        [pairs.response[a % 4] + pairs.response[b % 4] for a, b in ((0, 1), (2, 7), (40, 3), (41, 46))]
    )
    lfc = predicted(pairs_module, [(0, 1), (2, 7), (40, 3), (41, 46)])
    assert np.linalg.norm(lfc - truth, axis=1).mean() < 0.2 * np.linalg.norm(truth, axis=1).mean()


def test_a_combination_never_does_more_than_the_sum_of_its_genes():
    """An unbounded factor reached 5.6 on small screens, and spoilt the pairs of genes that were not perturbed alone."""
    pairs = make_screen(n_singles=10, n_pairs=4)
    pairs.lfc[10:] *= 4
    assert 0 < float(fit(pairs).closed_form.factor) < 1


def test_a_step_to_an_indefinite_kernel_does_not_end_the_training():
    """Similarities without negative values need not be positive definite; a long step of the line search may show it."""
    indefinite = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    inverse = _closed_form._Inverse.apply(indefinite)
    assert torch.isfinite(inverse).all()
    assert (indefinite @ inverse).abs().max() < 0.1  # next to nothing is predicted
    definite = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(_closed_form._Inverse.apply(definite), torch.linalg.inv(definite))
    with pytest.raises(FloatingPointError, match="not finite"):
        _closed_form._Inverse.apply(torch.full((2, 2), torch.inf, dtype=torch.float64))


def with_rows(screen: Screen, kept) -> Screen:
    """The screen with those perturbations of which `kept` says so."""
    rows = [i for i, genes in enumerate(screen.inputs.perturbations) if kept(i, genes)]
    labels, sets = ([values[i] for i in rows] for values in (screen.inputs.labels, screen.inputs.perturbations))
    return screen._replace(
        inputs=dataclasses.replace(screen.inputs, labels=labels, perturbations=sets), lfc=screen.lfc[rows]
    )


@pytest.mark.parametrize("n_pairs", [3, 30])
def test_pairs_do_not_change_what_is_predicted_for_genes_in_none_of_them(pairs, n_pairs):
    asked = [(30,), (41,)]
    found, expected = (
        fit(with_rows(pairs, lambda i, _, n=n: i < 24 + n), attention=False).predict(asked, Wanted(attention=False))
        for n in (n_pairs, 0)
    )
    torch.testing.assert_close(found.lfc, expected.lfc)
    torch.testing.assert_close(found.std, expected.std)


def test_similar_genes_count_as_one_combination_for_a_gene_that_was_not_perturbed_alone(pairs):
    hidden = 7
    screen = with_rows(pairs, lambda _, genes: genes != (hidden,))
    n = sum(hidden in genes for genes in screen.inputs.perturbations)
    assert n > 0
    module = fit(screen, attention=False)
    form, kernel = module._alike([hidden])
    own = module.closed_form.predict(module.closed_form.to_training(module.asked([(hidden,)])))
    expected = (n * own + form.predict(kernel)) / (n + 1)
    np.testing.assert_allclose(predicted(module, [(hidden,)]), expected)
