"""What is given is left as it is, also where a call fails, and a uns["scapp"] of someone else is refused before writing."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.reports import reported

import scapp


def cells() -> ad.AnnData:
    rng = np.random.default_rng(0)
    genes = ["KLF1", "GATA1", "HBB", "ALAS2", *[f"G{i}" for i in range(20)]]
    labels = np.repeat(["control", "KLF1", "GATA1", "HBB"], 15)
    x = rng.poisson(5, size=(60, 24)).astype(np.float32) + 1
    obs = pd.DataFrame({"perturbation": labels, "call": np.repeat(["NTC_1", "KLF1_1", "GATA1_1", "HBB_1"], 15)})
    obs.index = [f"c{i}" for i in range(60)]
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=genes))


def effects() -> ad.AnnData:
    return scapp.pp.pseudobulk(cells())


EDGES = pd.DataFrame({"source": ["KLF1", "GATA1"], "target": ["HBB", "KLF1"]})
SETS = {"t1": ["KLF1", "GATA1"], "t2": ["KLF1", "HBB"]}
FEATURES = pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 1.0]}, index=["KLF1", "GATA1"])
CALLS = {
    "add_network": (cells, lambda a: reported(scapp.pp.add_network, a, EDGES)),
    "similarity_network": (cells, lambda a: reported(scapp.pp.similarity_network, a, SETS)),
    "coexpression_network": (cells, lambda a: reported(scapp.pp.coexpression_network, a, min_correlation=0.01)),
    "add_gene_features": (cells, lambda a: reported(scapp.pp.add_gene_features, a, FEATURES, kind="table", key_added="x")),
    "guides_to_perturbations": (
        cells, lambda a: reported(scapp.pp.guides_to_perturbations, a, calls_key="call", targets=r"(.+)_\d", key_added="label"),
    ),
    "harmonize_genes": (cells, lambda a: reported(scapp.pp.harmonize_genes, a, aliases={"OLD": "NEW"})),
    "pseudobulk": (cells, lambda a: scapp.pp.pseudobulk(a)),
    "select_genes": (cells, lambda a: scapp.pp.select_genes(a, 5)),
    "check_efficacy": (effects, lambda a: reported(scapp.pp.check_efficacy, a, kind="knockout")),
    "read_effects": (effects, lambda a: scapp.pp.read_effects(a)),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("found", ["text", 3, ["list"]])
def test_a_record_that_is_no_dictionary_is_refused_before_anything_is_written(call, found, assert_same):
    make, run = CALLS[call]
    adata = make()
    adata.uns["scapp"] = found
    before = adata.copy()
    with pytest.raises(ValueError, match=r"adata.uns\['scapp'\] must be a dictionary.*del adata.uns\['scapp'\]"):
        run(adata)
    assert_same(adata, before)


def test_an_entry_of_the_record_that_is_no_dictionary_is_refused_too(assert_same):
    adata = cells()
    adata.uns["scapp"] = {"networks": "mine"}
    before = adata.copy()
    with pytest.raises(ValueError, match=r"adata.uns\['scapp'\]\['networks'\] must be a dictionary"):
        scapp.pp.add_network(adata, EDGES)
    assert_same(adata, before)


@pytest.mark.parametrize("call", ["pseudobulk", "select_genes", "read_effects"])
def test_calls_that_return_something_new_change_nothing(call, assert_same):
    make, run = CALLS[call]
    adata = make()
    before = adata.copy()
    run(adata)
    assert_same(adata, before)


def test_tables_that_are_given_are_not_changed():
    table = EDGES.assign(effect=["+", "-"])
    before = table.copy()
    scapp.pp.add_network(cells(), table)
    scapp.resources.from_table(table)
    pd.testing.assert_frame_equal(table, before)


def test_a_table_given_for_cells_is_named_with_the_function_for_it(shared_cases):
    with pytest.raises(ValueError, match="wide_lfc.csv' is a table.*scapp.pp.read_effects"):
        scapp.pp.pseudobulk(shared_cases / "wide_lfc.csv")
