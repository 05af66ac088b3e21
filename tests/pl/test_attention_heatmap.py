"""Attention over perturbations."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp

GENES = [f"g{i}" for i in range(8)]


@pytest.fixture
def attended() -> ad.AnnData:
    """Three perturbations: g7 is attended to by all, g0 and g1 by their own perturbations alone."""
    values = np.full((3, 8), 0.01, dtype=np.float32)
    values[:, 7] = [0.5, 0.45, 0.6]
    values[0, 0], values[1, 1], values[2, 0] = 0.43, 0.48, 0.33
    values[:, 4] = 0
    return ad.AnnData(
        obs=pd.DataFrame(index=["g0", "g1", "g0+g7"]), var=pd.DataFrame(index=GENES), layers={"attention": values}
    )


def shown(ax) -> np.ndarray:
    return ax.collections[0].get_array().reshape(len(ax.get_yticks()), -1)


def test_rows_are_the_union_of_the_most_attended_and_columns_the_perturbations(attended):
    ax = scapp.pl.attention_heatmap(attended, n_genes=2, show=False)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["g0", "g1", "g0+g7"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["g7", "g0", "g1"]
    np.testing.assert_allclose(shown(ax), attended.layers["attention"][:, [7, 0, 1]].T)


def test_relative_attention_takes_what_is_specific_and_shows_the_log_ratio_to_the_mean_of_all(attended):
    ax = scapp.pl.attention_heatmap(attended, ["g1", "g7+g0"], n_genes=1, relative=True, show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["g1", "g0"]
    values = attended.layers["attention"]
    expected = np.log((values[[1, 2]][:, [1, 0]] + 1 / 8) / (values[:, [1, 0]].mean(0) + 1 / 8)).T
    np.testing.assert_allclose(shown(ax), expected, rtol=1e-5)
    low, high = ax.collections[0].get_clim()
    assert low == -high  # white is the mean


def test_dots_mark_perturbed_genes_and_zeros_have_no_color(attended):
    ax = scapp.pl.attention_heatmap(attended, n_genes=8, show=False)
    genes = [label.get_text() for label in ax.get_yticklabels()]
    dots = {tuple(at) for marks in ax.collections[1:] for at in marks.get_offsets()}
    assert dots == {(c + 0.5, genes.index(g) + 0.5) for c, g in [(0, "g0"), (1, "g1"), (2, "g0"), (2, "g7")]}
    assert np.ma.getmaskarray(shown(ax))[genes.index("g4")].all()
    assert np.ma.getmaskarray(shown(ax)).sum() == 3


def test_controls_are_left_out_of_the_mean_and_refused_as_columns(attended):
    layers = {"attention": np.vstack([attended.layers["attention"], np.full((1, 8), np.nan)]).astype(np.float32)}
    with_control = ad.AnnData(obs=pd.DataFrame(index=[*attended.obs_names, "control"]), var=attended.var, layers=layers)
    of = {"perturbations": ["g0", "g1"], "relative": True, "show": False}
    without = shown(scapp.pl.attention_heatmap(attended, **of))
    np.testing.assert_allclose(shown(scapp.pl.attention_heatmap(with_control, **of)), without, rtol=1e-5)
    with pytest.raises(ValueError, match="no attention, as controls have none: 'control'"):
        scapp.pl.attention_heatmap(with_control)


def test_sparse_attention_gives_the_same(attended):
    for relative in (False, True):
        dense = shown(scapp.pl.attention_heatmap(attended, relative=relative, show=False))
        other = attended.copy()
        other.layers["attention"] = sparse.csr_matrix(other.layers["attention"])
        np.testing.assert_allclose(
            shown(scapp.pl.attention_heatmap(other, relative=relative, show=False)), dense, rtol=1e-5
        )


def many(n: int) -> ad.AnnData:
    rng = np.random.default_rng(0)
    names = [f"g{i}" for i in range(n)]
    values = rng.dirichlet(np.ones(300), n).astype(np.float32)
    var = pd.DataFrame(index=[f"g{i}" for i in range(300)])
    return ad.AnnData(obs=pd.DataFrame(index=names), var=var, layers={"attention": values})


def test_what_cannot_be_read_is_refused_with_the_call_that_mends_it():
    with pytest.raises(ValueError, match=r"51 perturbations are asked; from 1 to 50.*obs_names\[:20\]"):
        scapp.pl.attention_heatmap(many(51))
    adata = many(30)
    with pytest.raises(ValueError, match=r"n_genes=5 of 30 perturbations are \d+ genes.*Pass n_genes=(\d)") as error:
        scapp.pl.attention_heatmap(adata)
    fits = int(str(error.value).rpartition("n_genes=")[2].rstrip("."))
    assert len(scapp.pl.attention_heatmap(adata, n_genes=fits, show=False).get_yticks()) <= 80
    with pytest.raises(ValueError, match="n_genes=0"):
        scapp.pl.attention_heatmap(adata, n_genes=0)
    with pytest.raises(ValueError, match="0 perturbations are asked"):
        scapp.pl.attention_heatmap(adata, [])
    with pytest.raises(TypeError, match=r"Pass \['g1'\]"):
        scapp.pl.attention_heatmap(adata, "g1")
    with pytest.raises(ValueError, match="0 observations named 'G1'.*'g1'"):
        scapp.pl.attention_heatmap(adata, ["G1"])
    del adata.layers["attention"]
    with pytest.raises(ValueError, match=r"filled by `APP\.predict`"):
        scapp.pl.attention_heatmap(adata)


def test_names_of_many_perturbations_and_genes_do_not_overlap(overlapping):
    figure = scapp.pl.attention_heatmap(many(50), n_genes=1, return_fig=True)
    assert figure.get_figwidth() <= 7.0
    assert not overlapping([*figure.axes[0].get_yticklabels()])
    assert not overlapping([*figure.axes[0].get_xticklabels()])
