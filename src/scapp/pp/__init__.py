"""From cells to effects, and gene networks and features into AnnData."""

from scapp.pp._features import GeneFeaturesReport, add_gene_features
from scapp.pp._harmonize import harmonize_genes
from scapp.pp._names_report import GeneNamesReport
from scapp.pp._network import add_network
from scapp.pp._network_report import NetworkReport
from scapp.pp._pseudobulk import pseudobulk
from scapp.pp._select_genes import select_genes
from scapp.pp._similarity import coexpression_network, similarity_network
from scapp.pp._unmeasured import add_unmeasured_genes

__all__ = [
    "GeneFeaturesReport",
    "GeneNamesReport",
    "NetworkReport",
    "add_gene_features",
    "add_network",
    "add_unmeasured_genes",
    "coexpression_network",
    "harmonize_genes",
    "pseudobulk",
    "select_genes",
    "similarity_network",
]
