"""Metrics of predictions against observations: one function per metric, arrays in, numbers out.

DataFrames and Series are aligned by their labels, and refused if the labels differ; arrays are compared by position.
"""

from scapp.metrics._calibration import expected_calibration_error, interval_coverage, reliability, spread_error_spearman
from scapp.metrics._ceiling import calibrated_score, explained_gap, noise_ceiling
from scapp.metrics._discrimination import kept_spread, perturbation_discrimination, rank
from scapp.metrics._distance import cosine, energy_distance, l2, mae, pearson_delta, rmse
from scapp.metrics._genes import (
    changed_genes_auprc,
    changed_genes_precision_recall,
    direction_match,
    hit_discovery_recall,
    top_expressed_genes,
    top_k_overlap,
)
from scapp.metrics._interactions import (
    interaction_auprc,
    interaction_classes,
    interaction_sign_match,
    interaction_tpr_at_fdp,
)
from scapp.metrics._weighted import effect_weights, weighted_mse, weighted_r2

__all__ = [
    "calibrated_score",
    "changed_genes_auprc",
    "changed_genes_precision_recall",
    "cosine",
    "direction_match",
    "effect_weights",
    "energy_distance",
    "expected_calibration_error",
    "explained_gap",
    "hit_discovery_recall",
    "interaction_auprc",
    "interaction_classes",
    "interaction_sign_match",
    "interaction_tpr_at_fdp",
    "interval_coverage",
    "kept_spread",
    "l2",
    "mae",
    "noise_ceiling",
    "pearson_delta",
    "perturbation_discrimination",
    "rank",
    "reliability",
    "rmse",
    "spread_error_spearman",
    "top_expressed_genes",
    "top_k_overlap",
    "weighted_mse",
    "weighted_r2",
]
