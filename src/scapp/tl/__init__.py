"""Tools: what a trained model tells beyond its predictions."""

from scapp.tl._attention_checks import attention_checks
from scapp.tl._embedding import perturbation_embedding
from scapp.tl._explain import explain

__all__ = ["attention_checks", "explain", "perturbation_embedding"]
