"""The model as torch modules: tensors in, log-fold-changes and attention out. Nothing here knows AnnData."""

from scapp.module._anchor import Anchor
from scapp.module._app import APPModule
from scapp.module._attention import AdditiveAttention, MeanPooling
from scapp.module._decoder import KernelDecoder
from scapp.module._encoder import GraphEncoder, IdentityEncoder, RandomEncoder
from scapp.module._gradient_decoder import LinearDecoder, MLPDecoder
from scapp.module._ridge_decoder import RidgeDecoder

__all__ = [
    "APPModule",
    "AdditiveAttention",
    "Anchor",
    "GraphEncoder",
    "IdentityEncoder",
    "KernelDecoder",
    "LinearDecoder",
    "MLPDecoder",
    "MeanPooling",
    "RandomEncoder",
    "RidgeDecoder",
]
