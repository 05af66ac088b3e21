"""Equations 1 to 7, the decoder and its leave-one-out residuals against independent calculations in numpy."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from scipy import sparse
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from scapp.model import APP
from scapp.module import KernelDecoder, RidgeDecoder, _additive_scores
from scapp.module._additive_scores import additive_scores, reached_scores
from scapp.module._attention import AdditiveAttention, reach
from scapp.module._calibration import Calibration
from scapp.module._encoder import Graph, GraphEncoder
from scapp.module._kernel import gaussian_kernel, kernel_inverse, kernel_leave_one_out, robust_weights
from scapp.module._ridge import ridge_leave_one_out, ridge_posterior, ridge_solve


def small_effects() -> ad.AnnData:
    rng = np.random.default_rng(1)
    genes = [f"g{i}" for i in range(12)]
    labels = [*genes[:8], "g0+g1", "g2+g3", "g1+g5"]
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame(index=genes),
        layers={"lfc": rng.normal(size=(11, 12)).astype(np.float32)},
    )
    adata.varp["network"] = sparse.random(12, 12, 0.3, format="csr", dtype=np.float32, random_state=2)
    adata.varm["x"] = rng.normal(size=(12, 5)).astype(np.float32)
    return adata


def paper_in_numpy(model: APP, genes: list[int], aggregation: str) -> tuple[np.ndarray, np.ndarray]:
    """Equations 1 to 7 as the paper writes them, gene by gene, from the parameters of a model."""
    member = model.module.main[0]
    value = lambda tensor: tensor.detach().numpy().astype(np.float64)
    h = value(model.module.features)
    network = model.network.toarray().astype(np.float64)
    np.fill_diagonal(network, 0)
    for layer in member.encoder.layers:
        a = np.zeros_like(h)
        for i in range(len(h)):
            sources = np.flatnonzero(network[:, i])
            if not len(sources):
                continue
            messages = network[sources, i][:, None] * h[sources]
            if aggregation == "mean":
                a[i] = messages.sum(0) / np.abs(network[sources, i]).sum()
            else:
                a[i] = messages.sum(0) if aggregation == "sum" else messages.max(0)  # equation 1
        h = np.maximum((h + a) @ value(layer.weight).T + value(layer.bias), 0)  # equation 2, ReLU
    c = h[genes].mean(0)  # equation 3
    pool = member.pooling
    w_c, w_h, b, v = (value(t)[0] for t in (pool.W_c, pool.W_h, pool.b_e, pool.v))
    e = np.array([v @ np.tanh(w_c.T @ c + w_h.T @ h_i + b) for h_i in h])  # equation 4
    alpha = np.exp(e) / np.exp(e).sum()  # equation 5
    s = sum(alpha[i] * h[i] for i in range(len(h)))  # equation 6
    decoder = member.decoder.network
    return value(decoder.weight) @ s + value(decoder.bias), alpha  # equation 7


@pytest.mark.parametrize("aggregation", ["mean", "sum", "max"])
@pytest.mark.parametrize("max_epochs", [1, 5])
def test_the_papers_form_is_equations_1_to_7(aggregation, max_epochs):
    scvi.settings.seed = 0
    adata = small_effects()
    APP.setup_anndata(adata, control=None, layer="lfc", gene_features_key="x")
    model = APP(adata, preset="paper", n_hidden=6, aggregation=aggregation)
    model.train(max_epochs=max_epochs, validation_size=0, enable_progress_bar=False)
    predicted = model.predict(["g3", "g0+g4", "g1+g2+g9"])
    for row, genes in enumerate([[3], [0, 4], [1, 2, 9]]):
        lfc, alpha = paper_in_numpy(model, genes, aggregation)
        np.testing.assert_allclose(predicted.layers["predicted_lfc"][row], lfc, atol=1e-5)
        np.testing.assert_allclose(predicted.layers["attention"][row], alpha, atol=1e-5)


@pytest.mark.parametrize("at_a_time", [1, 60, 10**6], ids=["one perturbation", "some", "all"])
def test_equation_4_and_its_gradient_are_those_of_the_tanh_layer_however_many_are_worked_on_at_a_time(
    at_a_time, monkeypatch
):
    monkeypatch.setattr(_additive_scores, "N_AT_A_TIME", at_a_time)
    torch.manual_seed(0)
    sizes = [(5, 3), (7, 3), (3,)]
    query, key, v = (torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in sizes)
    expected = torch.tanh(query[:, None] + key) @ v
    torch.testing.assert_close(additive_scores(query, key, v), expected)
    index = torch.randint(7, (5, 4))
    torch.testing.assert_close(reached_scores(query, key[index], v), expected.gather(1, index))
    assert torch.autograd.gradcheck(additive_scores, (query, key, v))


@pytest.mark.parametrize("aggregation", ["mean", "sum", "max"])
def test_a_scale_of_the_features_may_go_into_the_weights(aggregation):
    torch.manual_seed(0)
    graph = Graph(torch.tensor([[0, 1, 2, 3, 3], [1, 2, 3, 0, 1]]), torch.rand(5))
    features, scale = torch.randn(5, 4), torch.rand(4)
    encoder = GraphEncoder(4, 3, n_layers=2, aggregation=aggregation)
    torch.testing.assert_close(encoder(features, [graph], scale), encoder(features * scale, [graph], torch.ones(4)))


@pytest.mark.parametrize("shape", [(20, 6), (6, 20)], ids=["more rows", "more columns"])
def test_the_closed_form_is_ridge_regression_and_its_residuals_those_of_refitting_without_each_row(shape):
    rng = np.random.default_rng(0)
    x, y, penalty = rng.normal(size=shape), rng.normal(size=(shape[0], 3)), 0.7
    tensors = torch.tensor(x), torch.tensor(y), torch.tensor(penalty, dtype=torch.float64)
    expected = Ridge(alpha=penalty, fit_intercept=False).fit(x, y)
    np.testing.assert_allclose(ridge_solve(*tensors).numpy(), expected.coef_.T, atol=1e-8)
    refitted = np.empty_like(y)
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        refitted[i] = y[i] - Ridge(alpha=penalty, fit_intercept=False).fit(x[rest], y[rest]).predict(x[i : i + 1])[0]
    np.testing.assert_allclose(ridge_leave_one_out(*tensors).numpy(), refitted, atol=1e-8)
    inverse = penalty * np.linalg.inv(x.T @ x + penalty * np.eye(shape[1]))
    np.testing.assert_allclose(ridge_posterior(tensors[0], tensors[2]).numpy(), inverse, atol=1e-8)


def decoders() -> list:
    options = {"penalty": 2.0, "constant": 1.0}
    return [RidgeDecoder(2, 4, 5, **options), KernelDecoder(2, 4, 5, 12, **options)]


@pytest.mark.parametrize("decoder", decoders(), ids=["linear", "kernel"])
def test_the_decoder_predicts_rows_it_is_not_fitted_to_as_its_fit_does_later(decoder, monkeypatch):
    monkeypatch.setattr("scapp.module._decoder.N_REWEIGHT", 1)  # the first fit has equal weights, as in training
    torch.manual_seed(0)
    states, y = torch.randn(12, 2, 4, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    decoder = decoder.double()
    new = torch.randn(3, 2, 4, dtype=torch.float64)
    before = decoder.held_out(states, None, y, new, None)
    decoder.finish(states, None, y)
    torch.testing.assert_close(decoder(new, None), before)
    assert (decoder.distance(new * 5, None) > decoder.distance(states, None).mean()).all()


@pytest.mark.parametrize("decoder", decoders(), ids=["linear", "kernel"])
def test_residuals_and_distances_of_left_out_rows_are_those_of_refitting_without_them(decoder, monkeypatch):
    monkeypatch.setattr("scapp.module._decoder.N_REWEIGHT", 1)
    for decoders_of in ("_decoder", "_ridge_decoder"):
        monkeypatch.setattr(
            f"scapp.module.{decoders_of}.standardisation", lambda s: (s.mean(0) * 0, torch.ones(2).double())
        )
    torch.manual_seed(0)
    states, y = torch.randn(12, 2, 4, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    decoder = decoder.double()
    residuals, distances = decoder.finish(states, None, y)
    torch.testing.assert_close(decoder.residuals(states, None, y).detach(), residuals)
    for i in range(12):
        rest = [k for k in range(12) if k != i]
        decoder.finish(states[rest], None, y[rest])
        torch.testing.assert_close(y[i] - decoder(states[[i]], None)[0].detach(), residuals[i])
        torch.testing.assert_close(decoder.distance(states[[i]], None)[0].detach(), distances[i])


@pytest.mark.parametrize("decoder", decoders(), ids=["linear", "kernel"])
def test_rows_that_are_sums_of_states_have_sums_of_predictions(decoder):
    torch.manual_seed(0)
    counts = torch.zeros(3, 6).double()
    counts[0, :2], counts[1, 2], counts[1, 5], counts[2, 3:5] = 1, 2, 1, 1
    states, decoder = torch.randn(6, 2, 4).double(), decoder.double()
    decoder.finish(states, counts, torch.randn(3, 5).double())
    torch.testing.assert_close(decoder(states, counts), counts @ decoder(states, None))


def test_kernel_ridge_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    x, y, new, penalty = rng.normal(size=(20, 4)), rng.normal(size=(20, 3)), rng.normal(size=(5, 4)), 0.7
    expected = KernelRidge(alpha=penalty, kernel="rbf", gamma=0.5).fit(x, y).predict(new)
    gram = gaussian_kernel(torch.tensor(x), torch.tensor(x))
    inverse = kernel_inverse(gram, torch.tensor(penalty), torch.ones(20, dtype=torch.float64))
    found = gaussian_kernel(torch.tensor(new), torch.tensor(x)) @ inverse @ torch.tensor(y)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-8)


def test_robust_weights_lead_to_the_fit_with_the_smallest_sum_of_lengths():
    """With a kernel of a constant alone, the fit is one vector: reweighting has to end at the geometric median."""
    torch.manual_seed(0)
    y = torch.randn(30, 2).double()
    y[:3] += 40  # outliers pull the mean, not the geometric median
    gram, penalty, weight = torch.full((30, 30), 1e3).double(), torch.tensor(1e-3).double(), torch.ones(30).double()
    for _ in range(50):
        inverse = kernel_inverse(gram, penalty, weight)
        fitted = gram @ (inverse @ y)
        weight = robust_weights(kernel_leave_one_out(inverse, y))
    total = lambda point: (y - point).norm(dim=1).sum()
    assert total(fitted[0]) < 1.001 * min(total(fitted[0] + 0.05 * torch.randn(2).double()) for _ in range(50))
    assert total(fitted[0]) < 0.95 * total(y.mean(0))


def test_attention_with_a_prior_is_the_papers_over_the_genes_that_the_prior_reaches():
    torch.manual_seed(0)
    h, membership = torch.randn(7, 3), torch.tensor([[0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 1.0, 0, 0, 0, 0]])
    prior = torch.tensor([[0.4, 0.3, 0.2, 0.1, 0, 0, 0], [0, 0, 0.7, 0, 0, 0.3, 0]])
    pooling = AdditiveAttention(3, n_prior_heads=1, n_free_heads=0)
    state, attention = pooling(h, membership, [reach(prior)])
    context = membership @ h
    scores = torch.tanh((context @ pooling.W_c[0])[:, None] + h @ pooling.W_h[0] + pooling.b_e[0]) @ pooling.v[0]
    expected = torch.softmax(scores + prior.log(), dim=1)
    torch.testing.assert_close(attention[:, 0], expected)
    torch.testing.assert_close(state[:, 0], expected @ h)
    state.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in pooling.parameters())


def test_intervals_hold_what_they_say_where_errors_grow_with_effects():
    generator = torch.Generator().manual_seed(0)
    size = torch.rand(400, generator=generator) * 3
    truth = torch.randn(400, 50, generator=generator) * size.exp()[:, None]
    residuals = torch.randn(400, 50, generator=generator) * (0.5 * size.exp())[:, None]
    calibration, near = Calibration(50), torch.ones(400)
    calibration.fit(residuals[:200], truth[:200], near[:200])
    std = calibration(truth[200:], near[200:])
    inside = (residuals[200:].abs() < 1.2816 * std).float().mean(1)
    assert 0.77 < inside.mean() < 0.83
    assert inside[size[200:] < 1].mean() > 0.7 and inside[size[200:] > 2].mean() > 0.7
    assert calibration.slopes[0] > 0.8 and calibration.slopes[1] == 0


def largest_predicted(inside: torch.Tensor, predicted: torch.Tensor, n: int = 5) -> float:
    return float(inside.float().gather(1, predicted.abs().topk(n).indices).mean())


@pytest.mark.parametrize("thresholded", [False, True])
def test_intervals_hold_among_the_genes_that_are_predicted_to_change_most_as_among_all(thresholded):
    generator = torch.Generator().manual_seed(1)
    predicted = torch.randn(600, 100, generator=generator) * 0.2
    # What is predicted to be large is wrong by more, as after a choice of the largest; small measured effects may be set to zero.
    measured = predicted + torch.randn(600, 100, generator=generator) * (0.05 + predicted.abs())
    if thresholded:
        measured = torch.where(measured.abs() < 0.3, 0, measured)
    calibration, near = Calibration(100), torch.ones(600)
    calibration.fit((measured - predicted)[:300], predicted[:300], near[:300])
    inside = (measured - predicted)[300:].abs() < 1.2816 * calibration(predicted[300:], near[300:])
    assert 0.72 < inside.float().mean() < 0.86
    assert 0.75 < largest_predicted(inside, predicted[300:]) < 0.85
    one_width = Calibration(100)
    one_width.load_state_dict({**calibration.state_dict(), "widths": torch.zeros_like(calibration.widths)})
    inside = (measured - predicted)[300:].abs() < 1.2816 * one_width(predicted[300:], near[300:])
    assert largest_predicted(inside, predicted[300:]) < 0.6


def test_a_calibration_on_a_handful_of_residuals_is_one_width():
    torch.manual_seed(0)
    calibration = Calibration(7)
    predicted = torch.randn(3, 7)
    calibration.fit(torch.randn(3, 7), predicted, torch.ones(3))
    assert (calibration.widths == calibration.widths[0]).all()
    assert torch.isfinite(calibration(torch.zeros(2, 7), torch.ones(2))).all()
