"""Equations 1 to 7, the decoder and its leave-one-out residuals against independent calculations in numpy."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from scipy import sparse
from sklearn.linear_model import Ridge

from scapp.model import APP
from scapp.module import RidgeDecoder
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


def test_the_decoder_predicts_rows_it_is_not_fitted_to_as_its_fit_does_later():
    torch.manual_seed(0)
    states, y = torch.randn(12, 2, 4, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    decoder = RidgeDecoder(2, 4, 5, penalty=2.0, constant=1.0).double()
    new = torch.randn(3, 2, 4, dtype=torch.float64)
    before = decoder.held_out(states, None, y, new, None)
    decoder.finish(states, None, y)
    torch.testing.assert_close(decoder(new, None), before)
    assert (decoder.uncertainty(new * 5, None) > decoder.uncertainty(states, None).mean()).all()


def test_rows_that_are_sums_of_states_have_sums_of_designs():
    torch.manual_seed(0)
    states, counts = torch.randn(6, 1, 3), torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 2, 0, 0, 1], [0, 0, 0, 1, 1, 0]])
    decoder = RidgeDecoder(1, 3, 4, penalty=1.0, constant=1.0)
    decoder.finish(states, counts, torch.randn(3, 4))
    torch.testing.assert_close(decoder(states, counts), counts @ decoder(states, None))
