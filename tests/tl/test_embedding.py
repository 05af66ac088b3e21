"""Perturbations as points: the modules that were planted are found."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from sklearn.metrics import adjusted_rand_score

import scapp


@pytest.fixture
def effects() -> ad.AnnData:
    """Thirty-six perturbations of three modules, which differ in the genes that they change."""
    rng = np.random.default_rng(0)
    names = [f"P{i}" for i in range(36)]
    planted = np.arange(36) % 3
    lfc = rng.normal(size=(3, 50))[planted] + 0.3 * rng.normal(size=(36, 50))
    lfc[:, -1] = np.nan  # not measured
    return ad.AnnData(
        obs=pd.DataFrame({"perturbation": names, "planted": planted}, index=names),
        var=pd.DataFrame({"measured": [True] * 49 + [False]}, index=[f"g{i}" for i in range(50)]),
        layers={"lfc": lfc.astype(np.float32)},
    )


class States:
    """A model that gives each perturbation the state of its module."""

    def __init__(self, effects: ad.AnnData):
        rng = np.random.default_rng(1)
        states = rng.normal(size=(3, 8))[effects.obs["planted"]] + 0.1 * rng.normal(size=(36, 8))
        self.states = pd.DataFrame(states, index=effects.obs_names)

    def get_perturbation_embeddings(self, perturbations):
        return self.states.loc[list(perturbations)]


@pytest.mark.parametrize("with_model", [False, True])
def test_planted_modules_are_found_and_lie_together(effects, with_model):
    scapp.tl.perturbation_embedding(effects, States(effects) if with_model else None)
    assert adjusted_rand_score(effects.obs["planted"], effects.obs["module"]) == 1
    xy = effects.obsm["X_perturbation_umap"]
    centres = np.array([xy[effects.obs["planted"] == k].mean(0) for k in range(3)])
    nearest = np.linalg.norm(xy[:, None] - centres, axis=2).argmin(1)
    np.testing.assert_array_equal(nearest, effects.obs["planted"])


def test_only_the_named_keys_are_written_and_survive_a_file(effects, tmp_path, assert_same):
    before = effects.copy()
    scapp.tl.perturbation_embedding(effects, resolution=0.5)
    assert set(effects.obsm) == {"X_perturbation", "X_perturbation_umap"}
    assert set(effects.obsp) == {"perturbation_distances", "perturbation_connectivities"}
    assert set(effects.obs) - set(before.obs) == {"module"}
    assert set(effects.uns) == {"perturbation"}
    effects.write_h5ad(tmp_path / "e.h5ad")
    read = ad.read_h5ad(tmp_path / "e.h5ad")
    np.testing.assert_array_equal(read.obsm["X_perturbation_umap"], effects.obsm["X_perturbation_umap"])
    assert list(read.obs["module"]) == list(effects.obs["module"])
    for key in ("obsm", "obsp", "uns"):
        getattr(effects, key).clear()
    del effects.obs["module"]
    assert_same(effects, before)


def test_scanpy_reads_the_embedding_and_the_neighbours(effects):
    scapp.tl.perturbation_embedding(effects, key_added="lfc_space")
    sc.tl.leiden(
        effects, neighbors_key="lfc_space", flavor="igraph", directed=False, key_added="again", n_iterations=-1
    )
    assert adjusted_rand_score(effects.obs["module"], effects.obs["again"]) == 1
    axes = sc.pl.embedding(effects, basis="lfc_space_umap", color="module", show=False)
    assert len(axes.collections[0].get_offsets()) == 36


def test_the_same_seed_gives_the_same_layout(effects):
    other = effects.copy()
    for adata in (effects, other):
        scapp.tl.perturbation_embedding(adata, seed=3)
    np.testing.assert_array_equal(effects.obsm["X_perturbation_umap"], other.obsm["X_perturbation_umap"])


def test_bad_input_is_named_and_nothing_is_written(effects, assert_same, monkeypatch):
    before = effects.copy()
    with pytest.raises(ValueError, match="view of another"):
        scapp.tl.perturbation_embedding(effects[:20])
    with pytest.raises(ValueError, match=r"no layer 'predicted_lfc'; its layers are 'lfc'.*APP\.predict"):
        scapp.tl.perturbation_embedding(effects, layer="predicted_lfc")
    with pytest.raises(ValueError, match=r"n_neighbors must be from 2 to .*36; found 50\. Pass n_neighbors=18"):
        scapp.tl.perturbation_embedding(effects, n_neighbors=50)
    with pytest.raises(ValueError, match="n_pcs must be at least 1"):
        scapp.tl.perturbation_embedding(effects, n_pcs=0)
    with pytest.raises(ValueError, match=r"no column 'condition'.*perturbation_key"):
        scapp.tl.perturbation_embedding(effects, perturbation_key="condition")
    with monkeypatch.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"pip install 'scapp\[modules\]'"):
            scapp.tl.perturbation_embedding(effects)
    assert_same(effects, before)
    twice = effects.copy()
    twice.obs["perturbation"] = "P1"
    with pytest.raises(ValueError, match=r"'P1' in obs\['perturbation'\] label several.*pseudobulk"):
        scapp.tl.perturbation_embedding(twice)
    effects.layers["lfc"][3, 4] = np.nan
    with pytest.raises(ValueError, match="not finite for 'P3'"):
        scapp.tl.perturbation_embedding(effects)
