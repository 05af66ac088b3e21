"""From cells to effects, and gene networks and features into AnnData."""

from scapp.pp._contexts import add_effects_as_features, select_context
from scapp.pp._efficacy import EfficacyReport, check_efficacy
from scapp.pp._evidence import add_evidence
from scapp.pp._features import GeneFeaturesReport, add_gene_features
from scapp.pp._genes import add_unmeasured_genes, select_genes
from scapp.pp._guides import GuidesReport, guides_to_perturbations
from scapp.pp._harmonize import GeneNamesReport, harmonize_genes
from scapp.pp._network import NetworkReport, add_network
from scapp.pp._pseudobulk import pseudobulk
from scapp.pp._read_effects import read_effects
from scapp.pp._report import report
from scapp.pp._similarity import coexpression_network, similarity_network

__all__ = [
    "EfficacyReport",
    "GeneFeaturesReport",
    "GeneNamesReport",
    "GuidesReport",
    "NetworkReport",
    "add_effects_as_features",
    "add_evidence",
    "add_gene_features",
    "add_network",
    "add_unmeasured_genes",
    "check_efficacy",
    "coexpression_network",
    "guides_to_perturbations",
    "harmonize_genes",
    "pseudobulk",
    "read_effects",
    "report",
    "select_context",
    "select_genes",
    "similarity_network",
]
