"""Baselines that every prediction has to beat, used like `APP`: ``fit(effects)``, then ``predict(perturbations)``."""

from scapp.baselines._additive import Additive, DenoisedAdditive, ShrunkAdditive
from scapp.baselines._base import Baseline  # what all have in common
from scapp.baselines._kernel_ridge import KernelRidge, NearestPerturbation
from scapp.baselines._linear import EmbeddingLinear, LinearModel
from scapp.baselines._mean import CarriedOver, GeometricMedian, MatchingMean, Mean, NoChange, PartnerMean
from scapp.baselines._pairs import GaussianProcess, PairKernel
from scapp.baselines._similarities import annotation_similarity, diffusion_similarity

__all__ = [
    "Additive",
    "CarriedOver",
    "DenoisedAdditive",
    "EmbeddingLinear",
    "GaussianProcess",
    "GeometricMedian",
    "KernelRidge",
    "LinearModel",
    "MatchingMean",
    "Mean",
    "NearestPerturbation",
    "NoChange",
    "PairKernel",
    "PartnerMean",
    "ShrunkAdditive",
    "annotation_similarity",
    "diffusion_similarity",
]
