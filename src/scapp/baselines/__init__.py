"""What every prediction has to beat. Each is used as `APP` is: ``fit(effects)``, then ``predict(perturbations)``."""

from scapp.baselines._additive import Additive, ShrunkAdditive
from scapp.baselines._base import Baseline  # what all have in common
from scapp.baselines._carried_over import CarriedOver
from scapp.baselines._constant import Mean, NoChange
from scapp.baselines._denoised import DenoisedAdditive
from scapp.baselines._kernel_ridge import KernelRidge
from scapp.baselines._linear import EmbeddingLinear, LinearModel
from scapp.baselines._means import GeometricMedian, MatchingMean, PartnerMean
from scapp.baselines._nearest import NearestPerturbation
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
