"""What results say: tools on predictions and effects."""

from scapp.tl._embedding import perturbation_embedding

__all__ = ["perturbation_embedding"]
