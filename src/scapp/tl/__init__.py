"""Tools: what a trained model tells beyond its predictions."""

from scapp.tl._attention_checks import attention_checks
from scapp.tl._explain import explain

__all__ = ["attention_checks", "explain"]
"""What results say: tools on predictions and effects."""

from scapp.tl._embedding import perturbation_embedding

__all__ = ["perturbation_embedding"]
