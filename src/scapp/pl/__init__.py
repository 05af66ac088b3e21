"""Plots of results. They only draw what is already in the data."""

from scapp.pl._attention import attention, attention_heatmap
from scapp.pl._coverage import network_coverage
from scapp.pl._embedding import perturbation_embedding
from scapp.pl._interactions import interaction_map
from scapp.pl._predictions import explanation, predicted_profile, predicted_vs_observed
from scapp.pl._scores import benchmark_ratios, scores, training_history
from scapp.pl._subnetwork import attention_subnetwork

__all__ = [
    "attention",
    "attention_heatmap",
    "attention_subnetwork",
    "benchmark_ratios",
    "explanation",
    "interaction_map",
    "network_coverage",
    "perturbation_embedding",
    "predicted_profile",
    "predicted_vs_observed",
    "scores",
    "training_history",
]
