"""Perturbations as points."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import scapp


@pytest.fixture
def embedded() -> ad.AnnData:
    rng = np.random.default_rng(0)
    names = [f"A{i}" for i in range(30)]
    obs = pd.DataFrame(
        {"module": pd.Categorical(list("012") * 10), "n_cells": np.arange(30), "size": rng.random(30)}, index=names
    )
    obs["guides"] = [f"guide {i}" for i in range(30)]
    obs["n_perturbed_genes"] = [1, 2] * 15
    return ad.AnnData(
        obs=obs, obsm={"X_perturbation_umap": rng.normal(size=(30, 2)), "X_pca": rng.normal(size=(30, 5))}
    )


def test_each_module_has_its_points_color_and_marker(embedded):
    ax = scapp.pl.perturbation_embedding(embedded, names=False, show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1", "2"]
    assert ax.get_legend().get_title().get_text() == "module"
    for k, points in enumerate(ax.collections):
        of = (embedded.obs["module"] == str(k)).to_numpy()
        np.testing.assert_allclose(points.get_offsets(), embedded.obsm["X_perturbation_umap"][of])
    assert len({to_hex(points.get_facecolor()[0]) for points in ax.collections}) == 3
    assert len({points.get_paths()[0].vertices.tobytes() for points in ax.collections}) == 3


def test_numbers_are_on_a_scale_and_few_whole_numbers_are_categories(embedded):
    ax = scapp.pl.perturbation_embedding(embedded, color="size", basis="pca", show=False)
    np.testing.assert_allclose(ax.collections[-1].get_array(), embedded.obs["size"])
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), embedded.obsm["X_pca"][:, :2])
    assert ax.get_legend() is None
    ax = scapp.pl.perturbation_embedding(embedded, color="n_perturbed_genes", show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1", "2"]


def test_fourteen_categories_are_fourteen_pairs_of_color_and_marker(embedded):
    embedded.obs["complex"] = [f"c{i % 14:02d}" for i in range(30)]
    embedded.obs.loc["A0", "complex"] = np.nan
    ax = scapp.pl.perturbation_embedding(embedded, color="complex", show=False)
    pairs = {(to_hex(p.get_facecolor()[0]), p.get_paths()[0].vertices.tobytes()) for p in ax.collections}
    assert len(pairs) == 15  # and the unknown


def test_names_are_those_asked_and_do_not_overlap(embedded, overlapping):
    ax = scapp.pl.perturbation_embedding(embedded, show=False)
    assert {text.get_text() for text in ax.texts} == set(embedded.obs_names)
    assert not overlapping(ax.texts)
    ax = scapp.pl.perturbation_embedding(embedded, names=["A3", "A7"], color=None, show=False)
    assert [text.get_text() for text in ax.texts] == ["A3", "A7"]


def test_what_is_missing_or_too_much_is_named_with_the_call_that_mends_it(embedded):
    with pytest.raises(ValueError, match=r"30 categories; at most 14.*resolution=0\.5"):
        scapp.pl.perturbation_embedding(embedded, color="guides")
    with pytest.raises(ValueError, match="no column 'moduls'; it has 'module'"):
        scapp.pl.perturbation_embedding(embedded, color="moduls")
    with pytest.raises(ValueError, match="0 observations named 'a3'.*'A3'"):
        scapp.pl.perturbation_embedding(embedded, names=["a3"])
    with pytest.raises(TypeError, match=r"Pass \['A3'\]"):
        scapp.pl.perturbation_embedding(embedded, names="A3")
    with pytest.raises(ValueError, match=r"no column 'module'.*scapp\.tl\.perturbation_embedding"):
        scapp.pl.perturbation_embedding(ad.AnnData(obsm={"X_perturbation_umap": np.zeros((3, 2))}))
    with pytest.raises(ValueError, match=r"no 'umap'.*scapp\.tl\.perturbation_embedding"):
        scapp.pl.perturbation_embedding(embedded, basis="umap")
    embedded.obsm["X_line"] = np.zeros((30, 1))
    with pytest.raises(ValueError, match=r"shape \(30, 1\)"):
        scapp.pl.perturbation_embedding(embedded, basis="line")


def test_more_than_forty_names_are_left_out_unless_asked(embedded):
    twice = ad.concat([embedded, embedded], index_unique="-")
    assert not scapp.pl.perturbation_embedding(twice, show=False).texts
    with pytest.raises(ValueError, match=r"60 names .* at most 40"):
        scapp.pl.perturbation_embedding(twice, names=True)
