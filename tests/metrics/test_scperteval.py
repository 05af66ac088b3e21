"""The metrics that scPertEval has give its numbers on the same cells, where a definition differs by the conversion in docs/metrics.md."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scperteval
from anndata import AnnData
from scipy import stats

from scapp import metrics

rng = np.random.default_rng(0)
N, G, CELLS = 8, 40, 24
LABELS = np.array([f"P{i}" for i in range(N)])
GENES = [f"G{i:02}" for i in range(G)]
EFFECTS = rng.normal(size=(N, G)) * (rng.random((N, G)) < 0.3)
BLURRED = EFFECTS + rng.normal(size=(N, G)) * (rng.random((N, G)) < 0.3)


def screen(effects):
    """Cells of every perturbation, and controls."""
    means = np.vstack([np.repeat(effects, CELLS, axis=0), np.zeros((2 * CELLS, G))]) + 3 + np.arange(G) / 10
    obs = pd.DataFrame({"perturbation": np.r_[np.repeat(LABELS, CELLS), ["control"] * 2 * CELLS]}).rename(index=str)
    return AnnData(means + 0.5 * rng.normal(size=means.shape), obs=obs, var=pd.DataFrame(index=GENES))


REAL, PREDICTED = screen(EFFECTS), screen(BLURRED)


def cells(adata, label):
    return adata.X[(adata.obs["perturbation"] == label).to_numpy()]


def others(label):
    return REAL.X[(~REAL.obs["perturbation"].isin([label, "control"])).to_numpy()]


CONTROL = cells(REAL, "control").mean(axis=0)
PROFILES = {
    name: np.array([cells(adata, p).mean(axis=0) for p in LABELS])
    for name, adata in (("real", REAL), ("predicted", PREDICTED))
}
OBSERVED, PREDICTION = PROFILES["real"] - CONTROL, PROFILES["predicted"] - CONTROL
# For each perturbation the mean of the others, without the perturbation itself.
MEAN_OF_OTHERS = (OBSERVED.sum(axis=0) - OBSERVED) / (N - 1)
TESTS = {
    name: [stats.ttest_ind(cells(adata, p), others(p), equal_var=False) for p in LABELS]
    for name, adata in (("real", REAL), ("predicted", PREDICTED))
}
T = np.array([test.statistic for test in TESTS["real"]])
T_PREDICTED = np.array([test.statistic for test in TESTS["predicted"]])
CHANGED = np.array([stats.false_discovery_control(test.pvalue) for test in TESTS["real"]]) < 0.05
WEIGHTS = metrics.effect_weights(T, reference=np.zeros(G))


@pytest.fixture(scope="module")
def prepared():
    return scperteval.prepare(REAL, [], min_cells=2, workers=1)


@pytest.fixture(scope="module")
def theirs(prepared):
    def score(protocol):
        table = scperteval.score(prepared, protocol, PREDICTED).per_perturbation
        return table.set_index("perturbation").loc[LABELS, "score"].to_numpy()

    return score


def top(k, i):
    return np.argsort(-np.abs(T[i]))[:k]


def of_each(metric, genes=None, reference=None):
    """One score of each perturbation, on genes and against a reference of its own."""
    shift = 0 if reference is None else reference
    pairs = zip(PREDICTION - shift, OBSERVED - shift, strict=True)
    return [metric(*pair, genes=None if genes is None else genes(i)) for i, pair in enumerate(pairs)]


def mse(predicted, observed, genes=None):
    return metrics.rmse(predicted, observed, genes=genes) ** 2


def r2(predicted, observed, genes=None):
    return metrics.weighted_r2(predicted, observed, np.ones(G), genes=genes)


EXPRESSED = metrics.top_expressed_genes(CONTROL, 10)
AGREEMENTS = {
    "mse": lambda: mse(PREDICTION, OBSERVED),
    "mse_top_k=10": lambda: of_each(mse, genes=lambda i: top(10, i)),
    "mse_degs_padj=0.05": lambda: of_each(mse, genes=lambda i: CHANGED[i]),
    "pearson": lambda: metrics.pearson_delta(PROFILES["predicted"], PROFILES["real"]),
    "pearson_ctrl": lambda: metrics.pearson_delta(PREDICTION, OBSERVED),
    "pearson_ctrl_top_k=10": lambda: of_each(metrics.pearson_delta, genes=lambda i: top(10, i)),
    "pearson_ctrl_heg_k=10": lambda: metrics.pearson_delta(PREDICTION, OBSERVED, genes=EXPRESSED),
    "pearson_pert": lambda: metrics.pearson_delta(PREDICTION - MEAN_OF_OTHERS, OBSERVED - MEAN_OF_OTHERS),
    "pearson_pert_degs_padj=0.05": lambda: of_each(metrics.pearson_delta, lambda i: CHANGED[i], MEAN_OF_OTHERS),
    "l2_heg_k=10": lambda: metrics.l2(PREDICTION, OBSERVED, genes=EXPRESSED),
    "r2_ctrl": lambda: r2(PREDICTION, OBSERVED),
    "r2_pert_top_k=10": lambda: of_each(r2, lambda i: top(10, i), MEAN_OF_OTHERS),
    "wmse_exp1": lambda: metrics.weighted_mse(PREDICTION, OBSERVED, np.sqrt(WEIGHTS)),
    "wmse_exp2": lambda: metrics.weighted_mse(PREDICTION, OBSERVED, WEIGHTS),
    "wmse_exp4": lambda: metrics.weighted_mse(PREDICTION, OBSERVED, WEIGHTS**2),
    "weighted_pearson_ctrl_exp2": lambda: metrics.pearson_delta(PREDICTION, OBSERVED, weights=WEIGHTS),
    "weighted_pearson_pert_exp2": lambda: metrics.pearson_delta(
        PREDICTION - MEAN_OF_OTHERS, OBSERVED - MEAN_OF_OTHERS, weights=WEIGHTS
    ),
    "weighted_r2_ctrl_exp2": lambda: metrics.weighted_r2(PREDICTION, OBSERVED, WEIGHTS),
    "weighted_r2_pert_exp2": lambda: metrics.weighted_r2(PREDICTION - MEAN_OF_OTHERS, OBSERVED - MEAN_OF_OTHERS, WEIGHTS),
    "rank": lambda: metrics.rank(PREDICTION, OBSERVED),
    # One row of perturbation discrimination divides by all perturbations, theirs by the others.
    "nir": lambda: 1 - (1 - metrics.perturbation_discrimination(PREDICTION, OBSERVED, metric="l2")) * N / (N - 1),
    "transpose_rank": lambda: (1 - metrics.perturbation_discrimination(PREDICTION, OBSERVED, metric="l2")) * N / (N - 1),
    "energy_distance_top_k=10": lambda: [
        metrics.energy_distance(cells(PREDICTED, p), cells(REAL, p), genes=top(10, i)) for i, p in enumerate(LABELS)
    ],
    "de_auprc": lambda: metrics.changed_genes_auprc(np.abs(T_PREDICTED), CHANGED),
    "de_overlap_k=10": lambda: metrics.top_k_overlap(T_PREDICTED, T, 10),
}  # fmt: skip


@pytest.mark.parametrize("protocol", AGREEMENTS)
def test_scores(theirs, protocol):
    # Their distances of a cell from itself are 0 only but for rounding.
    np.testing.assert_allclose(
        AGREEMENTS[protocol](), theirs(protocol), rtol=1e-9, atol=1e-7 if "energy" in protocol else 0
    )


@pytest.mark.parametrize(
    ("protocol", "best"), [("mse", 0), ("pearson_ctrl", 1), ("l2_heg_k=10", 0), ("rank", 0), ("de_auprc", 1)]
)
def test_dynamic_range_fraction_is_a_calibrated_score(prepared, protocol, best):
    table = scperteval.calibrate(prepared, protocol, calibrator="drf").per_perturbation
    replicate, null = table["raw_positive"].to_numpy(), table["raw_negative"].to_numpy()
    found = metrics.calibrated_score(replicate, null, best)
    # Theirs adds 1e-6 to the range, which shows where errors are small, and is cut off at -1.
    gap = np.abs(null - best)
    np.testing.assert_allclose(np.maximum(found * gap / (gap + 1e-6), -1), table["drf"], rtol=1e-9)


def test_bound_discrimination_score_counts_calibrated_scores_above_0(prepared):
    found = scperteval.calibrate(prepared, "mse", calibrator="bds")
    table = found.per_perturbation
    above = metrics.calibrated_score(table["raw_positive"].to_numpy(), table["raw_negative"].to_numpy(), 0) > 0
    assert above.mean() == found.aggregate["bds"]
