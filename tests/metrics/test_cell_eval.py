"""The metrics that cell-eval has give its numbers on the same arrays."""

from __future__ import annotations

import anndata as ad
import cell_eval
import numpy as np
import pandas as pd
import polars as pl
import pytest
from cell_eval import metrics as theirs

from scapp import metrics

rng = np.random.default_rng(0)
NAMES = [f"G{i:02}" for i in range(60)]
TARGETS = [f"G{i:02}" for i in range(15)]
OBSERVED = rng.normal(size=(15, 60))
PREDICTED = OBSERVED + 2 * rng.normal(size=OBSERVED.shape)
OBSERVED[np.arange(15), np.arange(15)] -= 5
OWN = np.eye(15, 60, dtype=bool)


def screen(effects):
    """One cell a perturbation, and a control with an expression of its own."""
    control = 3 + np.arange(60) / 10
    obs = pd.DataFrame({"target": [*TARGETS, "control"]}, index=[*TARGETS, "control"])
    return ad.AnnData(np.vstack([effects + control, control]), obs=obs, var=pd.DataFrame(index=NAMES))


def differential_expression(effects, significant):
    """The table of all perturbations and genes, with a false discovery rate that says which are significant."""
    return pl.DataFrame(
        {
            "target": np.repeat(TARGETS, 60),
            "feature": np.tile(NAMES, 15),
            "log2_fold_change": effects.ravel(),
            "p_value": np.where(significant, 0.001, 0.5).ravel(),
            "fdr": np.where(significant, 0.01, 0.9).ravel(),
        }
    )


@pytest.fixture(scope="module")
def pair():
    return cell_eval.PerturbationAnndataPair(screen(OBSERVED), screen(PREDICTED), "target", "control")


def in_order(values):
    return [values[target] for target in TARGETS]


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_perturbation_discrimination(pair, metric, exclude):
    expected = theirs.discrimination_score(pair, metric=metric, exclude_target_gene=exclude)
    found = metrics.perturbation_discrimination(PREDICTED, OBSERVED, metric=metric, exclude=OWN if exclude else None)
    np.testing.assert_allclose(found, in_order(expected))


def test_errors_and_correlation_of_changes(pair):
    np.testing.assert_allclose(metrics.mae(PREDICTED, OBSERVED), in_order(theirs.mae_delta(pair)))
    np.testing.assert_allclose(metrics.rmse(PREDICTED, OBSERVED) ** 2, in_order(theirs.mse_delta(pair)))
    np.testing.assert_allclose(metrics.pearson_delta(PREDICTED, OBSERVED), in_order(theirs.pearson_delta(pair)))


@pytest.mark.parametrize("k", [5, 20, 50])
def test_overlap_of_the_most_changed_genes(k):
    everything = np.ones_like(OWN)
    tables = [differential_expression(effects, everything) for effects in (OBSERVED, PREDICTED)]
    expected = theirs.de_overlap_metric(cell_eval.initialize_de_comparison(*tables), k=k)
    np.testing.assert_allclose(metrics.top_k_overlap(PREDICTED, OBSERVED, k), in_order(expected))


def test_direction_of_the_changed_genes():
    significant = np.abs(OBSERVED) >= 1
    tables = [differential_expression(OBSERVED, significant), differential_expression(PREDICTED, significant)]
    expected = theirs.DEDirectionMatch()(cell_eval.initialize_de_comparison(*tables))
    np.testing.assert_allclose(metrics.direction_match(PREDICTED, OBSERVED, threshold=1), in_order(expected))
