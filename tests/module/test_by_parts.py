"""Above the change-over training goes by parts; below it nothing may change."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from scipy import sparse

import scapp
from scapp.data import PerturbationSplitter
from scapp.module import _anchor, _decoder, _diffusion, _parts, _scale, _spectrum
from scapp.module._diffusion import diffuse
from scapp.module._encoder import Graph
from scapp.module._kernel import kernel_inverse, kernel_leave_one_out, robust_weights

N_HELD_OUT = 60


def few_together(monkeypatch: pytest.MonkeyPatch, n_together: int) -> None:
    for room in (_anchor, _scale, _diffusion, _parts, _spectrum):
        monkeypatch.setattr(room, "N_TOGETHER", n_together)
    monkeypatch.setattr("scapp.model._training.N_TOGETHER", n_together)


@pytest.fixture(scope="module")
def screen() -> tuple[ad.AnnData, list[str], np.ndarray]:
    """Effects of single genes that the genes of a community share, and some held out."""
    rng = np.random.default_rng(0)
    n_nodes, n_genes, n_train = 360, 120, 300
    community = np.arange(n_nodes) % 12
    same = community[:, None] == community
    network = sparse.csr_matrix(
        np.triu(rng.random((n_nodes, n_nodes)) < np.where(same, 0.3, 0.01), 1), dtype=np.float32
    )
    effects = 0.5 * rng.normal(size=(12, n_genes))[community] + 0.2 * rng.normal(size=(n_nodes, n_genes))
    names = np.array([f"G{i}" for i in range(n_nodes)], dtype=object)
    shuffled = rng.permutation(n_nodes)
    trained, held_out = shuffled[:n_train], shuffled[n_train:]
    values = np.full((n_train, n_nodes), np.nan, dtype=np.float32)
    values[:, :n_genes] = effects[trained]
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": names[trained]}, index=names[trained]),
        var=pd.DataFrame({"measured": np.arange(n_nodes) < n_genes}, index=names),
        layers={"lfc": values},
    )
    adata.varp["network"] = network + network.T
    return adata, list(names[held_out]), effects[held_out]


def relative_error(screen: tuple[ad.AnnData, list[str], np.ndarray], n_train: int | None = None, **options) -> float:
    adata, names, truth = screen
    adata = adata[:n_train].copy()
    scvi.settings.seed = 0
    scapp.model.APP.setup_anndata(adata, control=None, layer="lfc")
    model = scapp.model.APP(adata, n_models=1, **options)
    model.train(max_epochs=6, enable_progress_bar=False)
    n_genes = truth.shape[1]
    found = model.predict(names).layers["predicted_lfc"][:, :n_genes]
    mean = adata.layers["lfc"][:, :n_genes].mean(0)
    return np.linalg.norm(truth - found, axis=1).mean() / np.linalg.norm(truth - mean, axis=1).mean()


def test_training_by_parts_is_as_good_as_all_at_once_and_better_than_a_subset(screen, monkeypatch):
    subset, at_once = relative_error(screen, 60), relative_error(screen)
    few_together(monkeypatch, 64)
    by_parts = relative_error(screen)
    assert by_parts < subset
    assert by_parts < 1.02 * at_once


@pytest.mark.parametrize("options", [{"decoder": "linear"}, {"preset": "paper"}, {"anchor": False}])
def test_every_form_of_the_model_trains_by_parts(screen, monkeypatch, options):
    few_together(monkeypatch, 64)
    assert relative_error(screen, **options) < 1.05


def test_combinations_train_by_parts(screen, monkeypatch):
    adata, _, _ = screen
    rng = np.random.default_rng(1)
    pairs = [sorted(rng.choice(adata.obs_names, 2, replace=False)) for _ in range(80)]
    names = list(dict.fromkeys("+".join(pair) for pair in pairs))
    values = np.vstack([adata[name.split("+")].layers["lfc"].sum(0) for name in names])
    both = ad.AnnData(
        obs=pd.DataFrame({"perturbation": names}, index=names), var=adata.var, layers={"lfc": values.astype(np.float32)}
    )
    both = ad.concat([adata, both], merge="same")
    both.varp["network"] = adata.varp["network"]
    few_together(monkeypatch, 64)
    scapp.model.APP.setup_anndata(both, control=None, layer="lfc")
    model = scapp.model.APP(both, n_models=1)
    model.train(max_epochs=3, enable_progress_bar=False)
    predicted = model.predict(names).layers["predicted_lfc"][:, :120]
    assert np.corrcoef(predicted.ravel(), values[:, :120].ravel())[0, 1] > 0.9


def test_an_epoch_goes_through_all_training_rows_once():
    scvi.settings.seed = 0
    splitter = PerturbationSplitter([1] * 103, validation_size=0.1, n_together=20)
    loader = splitter.train_dataloader()
    first, second = ([b["fit"].numpy() for b in loader] for _ in range(2))
    assert all(len(part) <= 20 for part in first)
    np.testing.assert_array_equal(np.sort(np.concatenate(first)), splitter.train_idx)
    assert not np.array_equal(first[0], second[0])
    validation = next(iter(splitter.val_dataloader()))
    assert set(validation["fit"].tolist()) <= set(splitter.train_idx.tolist())
    assert len(validation["fit"]) <= 20


def test_few_rows_are_handed_out_as_before():
    scvi.settings.seed = 0
    bounded, unbounded = (PerturbationSplitter([1] * 50, validation_size=0.1, n_together=n) for n in (50, None))
    for splitter in (bounded, unbounded):
        batches = list(splitter.train_dataloader())
        assert len(batches) == 1
        np.testing.assert_array_equal(batches[0]["fit"], unbounded.train_idx)


def test_a_sketch_keeps_lengths_and_is_the_same_each_time():
    values = torch.randn(200, 3000, generator=torch.Generator().manual_seed(1))
    found = _scale.sketch(values)
    assert found.shape == (200, _scale.N_DIRECTIONS)
    ratio = found.norm(dim=1) / values.norm(dim=1)
    assert abs(ratio.mean() - 1) < 0.01
    assert ratio.std() < 0.05
    torch.testing.assert_close(found, _scale.sketch(values))
    torch.testing.assert_close(_scale.sketch(values[:, :100]), values[:, :100])


def test_walks_by_parts_equal_those_at_once(monkeypatch):
    edges = torch.randint(40, (2, 200), generator=torch.Generator().manual_seed(0))
    graph = Graph(edges, torch.rand(200, generator=torch.Generator().manual_seed(1)))
    at_once = diffuse(torch.eye(40), graph)
    monkeypatch.setattr(_diffusion, "N_TOGETHER", 7)
    torch.testing.assert_close(diffuse(torch.eye(40), graph), at_once)


def test_weights_by_parts_are_near_those_of_all_rows(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(240, 2, 3, generator=generator)
    targets = states.flatten(1) @ torch.randn(6, 30, generator=generator)
    targets += torch.rand(240, 1, generator=generator) * torch.randn(240, 30, generator=generator)
    decoder = _decoder.KernelDecoder(2, 3, 30, 240, penalty=1.0, constant=3.0)
    gram = decoder._gram(states, None).detach()
    weight = torch.ones(240)
    for _ in range(_decoder.N_REWEIGHT):
        inverse = kernel_inverse(gram, torch.tensor(1.0), weight)
        weight = robust_weights(kernel_leave_one_out(inverse, targets))
    monkeypatch.setattr(_scale, "N_TOGETHER", 120)
    found = decoder._weights_by_parts(gram, targets).detach()
    assert np.corrcoef(found.log(), weight.log())[0, 1] > 0.9


def test_a_randomised_spectrum_thresholds_like_the_exact_one(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    signal = 3 * torch.randn(300, 4, generator=generator) @ torch.randn(4, 260, generator=generator)
    matrix = signal + torch.randn(300, 260, generator=generator)
    exact = _spectrum.spectrum(matrix)
    monkeypatch.setattr(_spectrum, "N_TOGETHER", 100)
    leading = _spectrum.spectrum(matrix)
    torch.testing.assert_close(leading.S[:4], exact.S[:4], rtol=1e-3, atol=0)
    assert 0.8 < leading.median / exact.median < 1.25
    difference = leading.soft_threshold(0.4) - exact.soft_threshold(0.4)
    assert difference.norm() < 0.2 * (matrix - signal).norm()
    for one in (exact, leading):  # what explanations need: how much each row counts
        torch.testing.assert_close(
            (one.shares(0.4) @ matrix.double()).float(), one.soft_threshold(0.4), atol=1e-4, rtol=1e-4
        )
