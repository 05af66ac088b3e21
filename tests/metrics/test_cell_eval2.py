"""The metrics that cell-eval2 has give its numbers on the same arrays, where a definition differs by the conversion in docs/metrics.md."""

from __future__ import annotations

import dataclasses

import cell_eval2
import numpy as np
import polars as pl
import pytest
from anndata import AnnData
from cell_eval2.catalog import CATALOG, PROFILES
from cell_eval2.metrics import de, delta
from cell_eval2.metrics.discrimination import discrimination_score
from cell_eval2.prep import pseudobulk_with_moments
from cell_eval2.scoring import score_one

import scapp
from scapp import metrics

rng = np.random.default_rng(0)
N, G = 15, 60
NAMES = np.array([f"G{i:02}" for i in range(G)])
TARGETS = NAMES[:N]
CONTROL = 3 + np.arange(G) / 10
OBSERVED = rng.normal(size=(N, G))
PREDICTED = OBSERVED + 2 * rng.normal(size=OBSERVED.shape)
OBSERVED[np.arange(N), np.arange(N)] -= 5  # each target loses its own expression
OWN = np.eye(N, G, dtype=bool)
SIGNIFICANT = np.abs(OBSERVED) >= 0.8
CALLED = np.abs(PREDICTED) >= 2
BULKS = {
    side: (np.array([*TARGETS, "control"]), np.vstack([effects + CONTROL, CONTROL]))
    for side, effects in {"pred_bulk": PREDICTED, "real_bulk": OBSERVED}.items()
}


def differential_expression(effects, significant):
    """The table of all perturbations and genes, in which a gene is more significant the more it changes."""
    adjusted = np.where(significant, 0.04, 0.9) / (1 + np.abs(effects))
    return pl.DataFrame(
        {
            "target": np.repeat(TARGETS, G),
            "feature": np.tile(NAMES, N),
            "log2_fold_change": effects.ravel(),
            "p_value": adjusted.ravel() / 10,
            "fdr": adjusted.ravel(),
        }
    )


DE = {
    "de_pred": differential_expression(PREDICTED, CALLED),
    "de_real": differential_expression(OBSERVED, SIGNIFICANT),
    "control": "control",
}


def in_order(values):
    return [values[target] for target in TARGETS]


@pytest.mark.parametrize("scope", ["panel", "row", None])
@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_perturbation_discrimination(metric, scope):
    options = {"distance": metric, "exclude_target_gene": scope is not None, "exclusion_scope": scope or "row"}
    options |= {"control": "control", "genes": NAMES}
    left_out = {"panel": {"genes": ~OWN.any(axis=0)}, "row": {"exclude": OWN}, None: {}}[scope]
    found = metrics.perturbation_discrimination(PREDICTED, OBSERVED, metric=metric, **left_out)
    expected = in_order(discrimination_score(**BULKS, **options, rank_denominator="n"))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # The challenge of 2026 divides by the others, so that guessing scores a half.
    expected = in_order(discrimination_score(**BULKS, **options, rank_denominator="n-1"))
    np.testing.assert_allclose(1 - (1 - found) * N / (N - 1), expected, rtol=1e-12)


def test_ties_of_perturbation_discrimination_count_as_half():
    same = {**BULKS, "pred_bulk": (BULKS["pred_bulk"][0], np.tile(CONTROL, (N + 1, 1)))}
    options = {"distance": "cosine", "control": "control", "genes": NAMES, "rank_denominator": "n-1"}
    found = metrics.perturbation_discrimination(np.zeros_like(OBSERVED), OBSERVED, metric="cosine")
    assert in_order(discrimination_score(**same, **options)) == [0.5] * N
    np.testing.assert_allclose(1 - (1 - found) * N / (N - 1), 0.5)


def test_errors_and_correlation_of_changes():
    of_changes = {**BULKS, "control": "control"}
    np.testing.assert_allclose(metrics.mae(PREDICTED, OBSERVED), in_order(delta.mae(**of_changes)), rtol=1e-12)
    np.testing.assert_allclose(metrics.mae(PREDICTED, OBSERVED), in_order(delta.mae_delta(**of_changes)), rtol=1e-12)
    np.testing.assert_allclose(metrics.rmse(PREDICTED, OBSERVED) ** 2, in_order(delta.mse(**of_changes)), rtol=1e-12)
    np.testing.assert_allclose(
        metrics.rmse(PREDICTED, OBSERVED) ** 2, in_order(delta.mse_delta(**of_changes)), rtol=1e-12
    )
    np.testing.assert_allclose(
        metrics.pearson_delta(PREDICTED, OBSERVED), in_order(delta.pearson_delta(**of_changes)), rtol=1e-12
    )


def test_error_without_the_noise_of_the_measurement():
    labels = np.repeat(["A", "B", "control"], 40)
    cells = {side: AnnData(rng.normal(3, 1, (120, 10)), obs={"target": labels}) for side in ("pred", "real")}
    read = {side: pseudobulk_with_moments(adata, "target") for side, adata in cells.items()}
    given = {f"{side}_bulk": read[side][:2] for side in read} | {f"{side}_moments": read[side][2] for side in read}
    expected = delta.mse_unbiased(**given, comparator="lognorm", control="control")
    noise = sum(
        np.array([adata.X[labels == label].var(axis=0, ddof=1).sum() / 40 for label in "AB"])
        for adata in cells.values()
    )
    error = metrics.l2(*(read[side][1][:2] for side in ("pred", "real")))
    np.testing.assert_allclose((error**2 - noise) / 10, [expected["A"], expected["B"]], rtol=1e-10)


@pytest.mark.parametrize("k", [5, 20, 50])
def test_overlap_of_the_most_changed_genes(k):
    everything = np.ones_like(OWN)
    tables = {
        "de_pred": differential_expression(PREDICTED, everything),
        "de_real": differential_expression(OBSERVED, everything),
    }
    expected = de.de_overlap(**tables, k=k, control="control")
    np.testing.assert_allclose(metrics.top_k_overlap(PREDICTED, OBSERVED, k), in_order(expected), rtol=1e-12)


def test_changed_genes():
    _, recall = metrics.changed_genes_precision_recall(CALLED, SIGNIFICANT)
    np.testing.assert_allclose(recall, in_order(de.de_sig_recall(**DE)), rtol=1e-12)
    score = -np.log10(np.where(CALLED, 0.04, 0.9) / (1 + np.abs(PREDICTED)))
    found = metrics.changed_genes_auprc(score, SIGNIFICANT)
    np.testing.assert_allclose(found, in_order(de.de_pr_auc(**DE)), rtol=1e-12)
    found = metrics.direction_match(PREDICTED, OBSERVED, threshold=0.8)
    np.testing.assert_allclose(found, in_order(de.de_direction_match(**DE)), rtol=1e-12)


def test_changed_genes_without_the_targets():
    significant, called = SIGNIFICANT & ~OWN, CALLED & ~OWN
    precision, recall = metrics.changed_genes_precision_recall(called, significant)
    np.testing.assert_allclose(1 / (1 / precision + 1 / recall - 1), in_order(de.de_sig_jaccard(**DE)), rtol=1e-12)
    size = [np.abs(row[genes]).mean() for row, genes in zip(OBSERVED, significant, strict=True)]
    error = [metrics.mae(PREDICTED[i], OBSERVED[i], genes=genes) for i, genes in enumerate(significant)]
    np.testing.assert_allclose(np.divide(error, size), in_order(de.de_lfc_nmae(**DE)), rtol=1e-12)


@pytest.mark.parametrize("name", ["pds_cosine", "de_wilcoxon_sig_jaccard", "de_wilcoxon_lfc_nmae"])
def test_calibrated_scores(name):
    """Both scales: 0 for the baseline, and 1 for perfection or for a replicate of the measurement."""
    policy = CATALOG[name].scoring
    lower = policy.direction == "lower"
    own, null, replicate = np.array([0.9, 0.62, 0.55, 0.2]), 0.5, 0.1 if lower else 0.8
    for best, scoring in ((0.0 if lower else 1.0, policy), (replicate, dataclasses.replace(policy, anchor=replicate))):
        expected = [score_one(value, null, scoring) for value in own]
        np.testing.assert_allclose(metrics.calibrated_score(own, null, best), expected, rtol=1e-12)
    # Errors of the challenge have a floor, as the best has none here either.
    assert (
        score_one(9.0, null, CATALOG["de_wilcoxon_lfc_nmae"].scoring) == -6 > metrics.calibrated_score(9.0, null, 0.0)
    )


def test_sampled_cells_are_scored_by_the_preset_of_2026():
    """Without its differential expression, which takes seconds to compile: the eighth tutorial has all six scores."""
    cells, _ = scapp.datasets.simulated_perturb_seq(n_genes=100, n_singles=6, n_doubles=0)
    effects = scapp.pp.pseudobulk(cells)
    effects.layers["predicted_lfc"] = effects.layers["lfc"]
    sampled = scapp.tl.sample_cells(cells, effects, counts=True)
    sampled.X = sampled.layers["counts"]
    preset = cell_eval2.EvalConfig.from_preset("vcc2026")
    scored = ["pds_cosine", "expr_mse_unbiased_capped_norm"]
    assert set(scored) < set(PROFILES[preset.metrics])
    config = dataclasses.replace(preset, metrics=scored, pert_col="perturbation", control="control", num_threads=1)
    scores = cell_eval2.aggregate_metrics_wide(cell_eval2.compute_metrics(sampled, cells, config=config))
    means = scores.row(by_predicate=pl.col("statistic") == "mean", named=True)
    assert means["pds_cosine"] == 1 and means["expr_mse_unbiased_capped_norm"] < 0.1
