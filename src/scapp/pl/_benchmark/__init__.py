"""Pictures of a benchmark: ratios, test sets, perturbations, calibration, attention and damaged networks."""

from scapp.pl._benchmark._attended import benchmark_attention
from scapp.pl._benchmark._calibration import benchmark_calibration
from scapp.pl._benchmark._damage import benchmark_network_damage
from scapp.pl._benchmark._ratios import benchmark_ratios
from scapp.pl._benchmark._scatter import benchmark_scatter
from scapp.pl._benchmark._test_sets import benchmark_by_test_set

__all__ = [
    "benchmark_attention",
    "benchmark_by_test_set",
    "benchmark_calibration",
    "benchmark_network_damage",
    "benchmark_ratios",
    "benchmark_scatter",
]
