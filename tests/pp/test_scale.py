"""Cells on any scale give the effects of their counts, or are refused by what was found; never other numbers in silence."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from scapp.pp import pseudobulk

GENES = ["KLF1", "GATA1", "HBB", "ALAS2", *[f"G{i}" for i in range(196)]]


def counts(n: int = 150, n_genes: int = 200) -> ad.AnnData:
    """Cells of different depth, with effects."""
    rng = np.random.default_rng(1)
    labels = np.array(["control", "KLF1", "GATA1"])[np.arange(n) % 3]
    mean = rng.gamma(0.5, 3.0, size=n_genes)
    effect = {"control": np.zeros(n_genes), "KLF1": rng.normal(0, 0.7, n_genes), "GATA1": rng.normal(0, 0.7, n_genes)}
    depth = rng.lognormal(0, 0.6, size=n)
    x = rng.poisson(depth[:, None] * np.stack([mean * np.exp(effect[label]) for label in labels])).astype(np.float32)
    x[:, 4] += 1
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(n)])
    obs["ncounts"] = x.sum(1)
    return ad.AnnData(sparse.csr_matrix(x), obs=obs, var=pd.DataFrame(index=GENES[:n_genes]))


def cp10k(adata: ad.AnnData, total: float = 1e4) -> np.ndarray:
    x = adata.X.toarray().astype(np.float64)
    return x / adata.obs["ncounts"].to_numpy()[:, None] * total


def with_x(x: np.ndarray, adata: ad.AnnData, form=sparse.csr_matrix) -> ad.AnnData:
    new = adata.copy()
    new.X = form(x.astype(np.float32))
    return new


LOGS = {"ln": np.log1p, "log2": lambda x: np.log2(x + 1), "log10": lambda x: np.log10(x + 1)}
NOT_LOGGED = {
    "shares": (lambda a: cp10k(a, 1), "not logged .each cell sums to 1"),
    "to 300": (lambda a: cp10k(a, 300), "not logged .each cell sums to 300"),
    "percent": (lambda a: cp10k(a, 100), "not logged .each cell sums to 100"),
    "per million": (lambda a: cp10k(a, 1e6), "not logged .each cell sums to 1e.06"),
    "times 0.93": (lambda a: a.X.toarray() * 0.93, "probably counts times 0.93, but not logged"),
    "square root": (lambda a: np.sqrt(cp10k(a)), "square root of normalised counts"),
    "inverse hyperbolic sine": (lambda a: np.arcsinh(cp10k(a)), "inverse hyperbolic sine of normalised counts"),
    "logged twice": (lambda a: np.log1p(np.log1p(cp10k(a))), "natural log, taken twice"),
    "log of shares": (lambda a: np.log1p(cp10k(a, 1)), "natural log of shares"),
    "log of counts": (lambda a: np.log1p(a.X.toarray()), "natural log of counts that were not normalised"),
    "log2 of counts": (lambda a: np.log2(a.X.toarray() + 1), "log2 of counts that were not normalised"),
}


@pytest.mark.parametrize("base", LOGS)
@pytest.mark.parametrize("part", [slice(None), slice(0, 60)])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("chunk_size", [None, 40])
def test_logs_of_any_base_give_the_effects_of_the_counts(base, part, form, chunk_size, caplog):
    adata = counts()
    expected = pseudobulk(adata)[:, part].copy()
    logs = with_x(LOGS[base](cp10k(adata)), adata)[:, part].copy()
    logs.X = form(logs.X.toarray())
    with caplog.at_level(logging.INFO, logger="scapp"):
        found = pseudobulk(logs, chunk_size=chunk_size)
    for key in ("lfc", "lfc_se"):
        np.testing.assert_allclose(found.layers[key], expected.layers[key], atol=1e-5)
    np.testing.assert_allclose(found.X, expected.X, atol=1e-5)
    name = {"ln": "natural log", "log2": "log2", "log10": "log10"}[base]
    assert f"holds the {name}" in caplog.text and ("brought to the natural" in caplog.text) == (base != "ln")


@pytest.mark.parametrize("how", NOT_LOGGED)
@pytest.mark.parametrize("part", [slice(None), slice(0, 60)])
@pytest.mark.parametrize("noted", [{}, {"log1p": {"base": None}}])
def test_values_that_are_no_logs_of_normalised_counts_are_refused_by_name(how, part, noted):
    values, message = NOT_LOGGED[how]
    adata = counts()
    changed = with_x(values(adata), adata)[:, part].copy()
    changed.uns = noted
    with pytest.raises(ValueError, match=message if part == slice(None) else "not logged|" + message) as caught:
        pseudobulk(changed)
    assert "layer=" in str(caught.value) and len(str(caught.value).splitlines()) <= 3


def test_rounded_and_half_precision_logs_are_still_told():
    adata = counts()
    expected = pseudobulk(adata).layers["lfc"]
    for values in (np.round(LOGS["log2"](cp10k(adata)), 3), LOGS["log2"](cp10k(adata)).astype(np.float16)):
        np.testing.assert_allclose(pseudobulk(with_x(values, adata)).layers["lfc"], expected, atol=5e-3)


def smooth(adata: ad.AnnData) -> np.ndarray:
    """Logs without the steps of counts, and without equal sums, as after denoising."""
    x = np.log1p(cp10k(adata))
    return 0.6 * x + 0.3 * np.roll(x, 3, axis=0) + 0.1 * np.roll(x, 6, axis=0)


def test_what_cannot_be_told_is_refused_and_may_be_said(tmp_path):
    adata = counts()
    x = smooth(adata)
    unknown = with_x(x, adata)
    with pytest.raises(ValueError, match=r"cannot be told.*layer=.*adata.uns\['log1p'\] = \{'base': None\}"):
        pseudobulk(unknown)
    unknown.uns["log1p"] = {"base": None}
    expected = pseudobulk(unknown)
    two = with_x(x / np.log(2), adata)
    two.uns["log1p"] = {"base": 2}
    two.write_h5ad(tmp_path / "cells.h5ad")
    for given in (two, tmp_path / "cells.h5ad"):
        np.testing.assert_allclose(pseudobulk(given).layers["lfc"], expected.layers["lfc"], atol=1e-5)


def test_logs_of_scanpy_with_a_base_are_read_as_they_are_noted_or_seen():
    adata = counts()
    expected = pseudobulk(adata)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata, base=2)
    np.testing.assert_allclose(pseudobulk(adata).layers["lfc"], expected.layers["lfc"], atol=1e-5)
    adata.uns["log1p"] = {"base": None}  # what is seen is stronger than what was noted
    np.testing.assert_allclose(pseudobulk(adata).layers["lfc"], expected.layers["lfc"], atol=1e-5)


def test_logs_of_several_bases_in_several_screens_are_refused():
    adata = counts()
    one, two = (with_x(LOGS[base](cp10k(adata)), adata) for base in ("ln", "log2"))
    two.obs_names = "two" + two.obs_names
    with pytest.raises(
        ValueError, match="different scales: natural log in adata.X of number 1, log2 in adata.X of number 2"
    ):
        pseudobulk([one, two])


def test_scaled_data_name_the_raw_ones():
    adata = counts()
    logged = with_x(np.log1p(cp10k(adata)), adata)
    logged.raw = logged
    scaled = logged.copy()
    sc.pp.scale(scaled)
    with pytest.raises(ValueError, match=r"negative values.*adata.raw.to_adata\(\), which has 200 genes"):
        pseudobulk(scaled)


@pytest.mark.parametrize(
    "key",
    ["ncounts", "total_counts", "nCount_RNA", "nCounts_RNA", "n_counts", "n_umi", "nUMI", "UMI_count", "core_adjusted_UMI_count",
     "total_counts_gene", "counts", "sum", "library_size"],
)  # fmt: skip
def test_counts_of_a_part_of_the_genes_beside_totals_over_all_are_warned_of(key):
    adata = counts()
    adata.obs = adata.obs.rename(columns={"ncounts": key})
    part = adata[:, :60].copy()
    with pytest.warns(UserWarning, match=rf"adata.obs\['{key}'\] is .* times the sum.*total_counts_key='{key}'"):
        pseudobulk(part)


@pytest.mark.filterwarnings("error::UserWarning")
def test_totals_over_these_genes_are_nothing_to_warn_of():
    adata = counts()
    pseudobulk(adata)
    adata.obs["total_counts"] = np.arange(adata.n_obs)  # counts something else
    adata.obs["n_counts"] = "many"
    for key in ("nCount_ATAC", "read_count", "n_genes"):  # more than the counts, and of something else
        adata.obs[key] = 3 * adata.obs["ncounts"]
    pseudobulk(adata)
    pseudobulk(adata[:, :60].copy(), total_counts_key="ncounts")


def test_datlinger_is_warned_of(shared_data):
    cells = ad.read_h5ad(shared_data / "datlinger_2017_jurkat_cells.h5ad")
    cells = cells[np.asarray(cells.X.sum(axis=1)).ravel() > 0].copy()
    with pytest.warns(UserWarning, match="total_counts_key='ncounts'"):
        pseudobulk(cells)


def test_values_of_zero_and_one_are_said_to_be_no_counts():
    cells = counts()
    with pytest.warns(UserWarning, match="holds only 0 and 1.*layer=…"):
        pseudobulk(with_x(cells.X.toarray() > 0, cells))
