"""What predictions say: ranked genes, subnetworks, genetic interactions."""

from scapp.tl._interactions import genetic_interactions
from scapp.tl._rank_attention import rank_attention_genes
from scapp.tl._subnetwork import attention_subnetwork

__all__ = ["attention_subnetwork", "genetic_interactions", "rank_attention_genes"]
