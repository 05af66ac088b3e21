"""Pictures of results. Nothing is computed here that is not in the data already."""

from scapp.pl._attention import attention
from scapp.pl._benchmark import (
    benchmark_attention,
    benchmark_by_test_set,
    benchmark_calibration,
    benchmark_network_damage,
    benchmark_ratios,
    benchmark_scatter,
)
from scapp.pl._history import training_history
from scapp.pl._interactions import interaction_map
from scapp.pl._predicted import predicted_vs_observed
from scapp.pl._scores import scores
from scapp.pl._subnetwork import attention_subnetwork

__all__ = [
    "attention",
    "attention_subnetwork",
    "benchmark_attention",
    "benchmark_by_test_set",
    "benchmark_calibration",
    "benchmark_network_damage",
    "benchmark_ratios",
    "benchmark_scatter",
    "interaction_map",
    "predicted_vs_observed",
    "scores",
    "training_history",
]
