"""Warnings name the line of the user, whatever lies between."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp

GENES = [f"G{i}" for i in range(12)]


def effects() -> ad.AnnData:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": GENES[:6]}, index=GENES[:6]),
        var=pd.DataFrame(index=GENES),
        layers={"lfc": rng.normal(size=(6, 12)).astype(np.float32)},
    )
    network = np.zeros((12, 12), dtype=np.float32)
    network[:6, :6] = 1
    adata.varp["network"] = sparse.csr_matrix(network)
    return adata


def test_warnings_of_the_model_point_at_the_users_line():
    adata = effects()
    adata.layers["lfc"][0] = 0
    with pytest.warns(UserWarning, match="have no effect on any gene") as caught:
        scapp.model.APP.setup_anndata(adata, control=None, layer="lfc")
    assert caught[0].filename == __file__
    model = scapp.model.APP(adata)
    model.train(max_epochs=1, enable_progress_bar=False)
    with pytest.warns(UserWarning, match="predicted like an average gene") as caught:
        model.predict(["G9"])
    assert caught[0].filename == __file__


def test_warnings_of_pseudobulk_point_at_the_users_line():
    rng = np.random.default_rng(0)
    labels = ["control"] * 5 + ["G1"] * 5 + ["G2"]
    cells = ad.AnnData(
        rng.poisson(3, size=(11, 12)).astype(np.float32) + 1,
        obs=pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(11)]),
        var=pd.DataFrame(index=GENES),
    )
    with pytest.warns(UserWarning, match="fewer than min_cells=2") as caught:
        scapp.pp.pseudobulk(cells, on_few_cells="drop")
    assert caught[0].filename == __file__
