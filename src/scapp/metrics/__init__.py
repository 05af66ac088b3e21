"""How far predictions are from observations: one function a metric, arrays in, numbers out."""

from scapp.metrics._calibration import interval_coverage, spread_error_spearman
from scapp.metrics._ceiling import explained_gap, noise_ceiling
from scapp.metrics._correlation import cosine, pearson_delta
from scapp.metrics._discrimination import perturbation_discrimination, rank
from scapp.metrics._distance import l2, mae, rmse
from scapp.metrics._genes import top_expressed_genes
from scapp.metrics._interactions import (
    interaction_auprc,
    interaction_classes,
    interaction_sign_match,
    interaction_tpr_at_fdp,
)
from scapp.metrics._top_genes import direction_match, top_k_overlap
from scapp.metrics._weighted import effect_weights, weighted_mse, weighted_r2

__all__ = [
    "cosine",
    "direction_match",
    "effect_weights",
    "explained_gap",
    "interaction_auprc",
    "interaction_classes",
    "interaction_sign_match",
    "interaction_tpr_at_fdp",
    "interval_coverage",
    "l2",
    "mae",
    "noise_ceiling",
    "pearson_delta",
    "perturbation_discrimination",
    "rank",
    "rmse",
    "spread_error_spearman",
    "top_expressed_genes",
    "top_k_overlap",
    "weighted_mse",
    "weighted_r2",
]
