"""The same table of effects is taken or refused by the model, the baselines, the benchmark and the demo."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp
from scapp import baselines, benchmark

LABELS = ["A", "B", "C", "D", "A+B", "C+D"]
GENES = [*"ABCDEFGH"]


def effects() -> ad.AnnData:
    rng = np.random.default_rng(0)
    shape = (len(LABELS), len(GENES))
    found = ad.AnnData(
        obs=pd.DataFrame({"perturbation": LABELS, "n_cells": 50}, index=LABELS),
        var=pd.DataFrame({"control_mean": np.ones(shape[1])}, index=GENES),
        layers={"lfc": rng.normal(size=shape), "lfc_se": rng.uniform(0.1, 0.2, size=shape)},
    )
    edges = np.zeros((shape[1],) * 2)
    edges[np.arange(7), np.arange(1, 8)] = 1
    found.varp["network"] = sparse.csr_matrix(edges + edges.T)
    return found


READERS = {
    "model": lambda given: scapp.model.APP.setup_anndata(given, control=None),
    "baseline": lambda given: baselines.Additive().fit(given),
    "benchmark": lambda given: benchmark.doubles(given, control=None),
}


def counts(given):
    given.layers["lfc"] = np.round(np.abs(given.layers["lfc"]) * 5)


def far(given):
    given.layers["lfc"][0, 0] = 80


def nan(given):
    given.layers["lfc"][0, 5] = np.nan


def nothing(given):
    given.layers["lfc"][:] = 0


def negative_error(given):
    given.layers["lfc_se"][1, 1] = -1


def negative_mean(given):
    given.var["control_mean"] = -1.0


def no_cells(given):
    given.obs["n_cells"] = 0


def twice(given):
    given.obs["perturbation"] = ["A", "A", *LABELS[2:]]


FAULTS = {
    counts: "looks like counts", far: "reaches 80", nan: "NaN or infinite", nothing: "is 0, so there is nothing",
    negative_error: "standard errors", negative_mean: "control_mean", no_cells: "above 0", twice: "more than one observation",
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_a_fault_is_refused_by_every_reader_in_the_same_words(reader, spoil):
    given = effects()
    spoil(given)
    with pytest.raises(ValueError, match=FAULTS[spoil]):
        READERS[reader](given)


@pytest.mark.parametrize("reader", ["model", "baseline"])
def test_values_masked_at_a_perturbation_s_own_target_are_taken_and_the_input_is_not_changed(reader):
    given = effects()
    given.layers["lfc"][0, 0] = given.layers["lfc_se"][0, 0] = np.nan
    before = given.layers["lfc"].copy()
    READERS[reader](given)
    np.testing.assert_array_equal(given.layers["lfc"], before)
