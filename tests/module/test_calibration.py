"""Errors of predictions: intervals that hold, probabilities that come true."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scapp.module import Calibration, Wanted


def draw(n, n_genes, seed, heavy=False):
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.5, 2.0, size=(n, 1)) * np.ones((n, n_genes))
    gene = np.linspace(0.5, 3.0, n_genes)
    predicted = rng.normal(size=(n, n_genes)) * gene
    noise = rng.standard_t(3, size=(n, n_genes)) if heavy else rng.normal(size=(n, n_genes))
    residual = noise * np.sqrt(variance) * gene
    return tuple(torch.as_tensor(x) for x in (residual, predicted, variance))


@pytest.mark.parametrize("heavy", [False, True])
def test_intervals_hold_their_share_of_new_errors(heavy):
    calibration = Calibration(50)
    calibration.fit(*draw(200, 50, 0, heavy))
    residual, predicted, variance = draw(400, 50, 1, heavy)
    inside = residual.abs() < 1.2816 * calibration.std(predicted, variance)
    assert float(inside.double().mean()) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("threshold", [0.5, 1.0, 3.0])
def test_probabilities_of_a_change_come_true(threshold):
    calibration = Calibration(50)
    calibration.fit(*draw(200, 50, 0))
    residual, predicted, variance = draw(400, 50, 1)
    probability = calibration.change(predicted, calibration.std(predicted, variance), threshold).flatten().numpy()
    changed = ((predicted + residual).abs() > threshold).flatten().numpy()
    for part in np.array_split(np.argsort(probability), 10):
        assert changed[part].mean() == pytest.approx(probability[part].mean(), abs=0.05)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.05, 5))
@example(807, 1.0)  # widths that were interpolated linearly grew faster than the size just above a knot
def test_certainty_grows_with_the_size_of_a_prediction(seed, threshold):
    calibration = Calibration(20)
    calibration.fit(*draw(60, 20, seed, heavy=True))
    predicted = torch.linspace(0.01, 8, 50).double()[:, None].expand(50, 20)
    ratio = predicted / calibration.std(predicted, torch.ones(50, 20).double())
    assert (ratio.diff(dim=0) >= -1e-9).all()
    change = calibration.change(predicted, calibration.std(predicted, torch.ones(50, 20).double()), threshold)
    assert ((change >= 0) & (change <= 1)).all()


def test_few_rows_without_errors_give_finite_standard_deviations():
    calibration = Calibration(5)
    calibration.fit(torch.zeros(4, 5).double(), torch.zeros(4, 5).double(), torch.ones(4, 5).double())
    assert torch.isfinite(calibration.std(torch.ones(2, 5).double(), torch.ones(2, 5).double())).all()


def test_scales_of_genes_are_kept_as_far_as_rows_agree_about_them():
    rng = np.random.default_rng(0)
    gene = np.linspace(0.8, 1.6, 200)
    zero, one = torch.zeros(12, 200).double(), torch.ones(12, 200).double()
    noise = torch.as_tensor(rng.normal(size=(12, 200)))
    alike, apart = Calibration(200), Calibration(200)
    alike.fit(noise, zero, one)
    apart.fit(noise * torch.as_tensor(gene), zero, one)
    rows = noise.square().mean(0).sqrt()
    assert alike.scale.std() < 0.4 * rows.std()
    # Of 12 rows, the scales are nearer to the truth than what each gene's own rows say.
    own = rows * torch.as_tensor(gene)
    assert (apart.scale - torch.as_tensor(gene)).norm() < 0.8 * (own - torch.as_tensor(gene)).norm()
    assert np.corrcoef(apart.scale, gene)[0, 1] > 0.6


def test_the_error_of_a_pair_holds_those_of_its_genes_that_were_not_perturbed_alone(pairs_module):
    module, a, b = pairs_module, 30, 31  # which occur nowhere
    found = module.predict([(a,), (b,), (3, a), (a, b), (3, 4)], Wanted(change=0.5))
    variance = found.std.square()
    factor = float(module.closed_form.factor) ** 2
    assert (variance[2] > factor * variance[0]).all()
    assert (variance[3] > factor * (variance[0] + variance[1])).all()
    assert ((found.change >= 0) & (found.change <= 1)).all()
    apart = module.predict([(3, a)], Wanted(change=0.5))
    torch.testing.assert_close(apart.std[0], found.std[2])
    torch.testing.assert_close(apart.change[0], found.change[2])
