"""Tools for interpreting and using trained models."""

from scapp.tl._attention_checks import attention_checks
from scapp.tl._drivers import rank_drivers
from scapp.tl._embedding import perturbation_embedding
from scapp.tl._explain import explain
from scapp.tl._interactions import genetic_interactions
from scapp.tl._rank_attention import rank_attention_genes
from scapp.tl._sample_cells import sample_cells
from scapp.tl._screen import screen
from scapp.tl._subnetwork import attention_subnetwork
from scapp.tl._suggest import suggest_perturbations

__all__ = [
    "attention_checks",
    "attention_subnetwork",
    "explain",
    "genetic_interactions",
    "perturbation_embedding",
    "rank_attention_genes",
    "rank_drivers",
    "sample_cells",
    "screen",
    "suggest_perturbations",
]
