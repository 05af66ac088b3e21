"""What to do with a trained model: which perturbations to look for, which to measure next, and cells to look at."""

from scapp.tl._sample_cells import sample_cells
from scapp.tl._screen import screen
from scapp.tl._suggest import suggest_perturbations

__all__ = ["sample_cells", "screen", "suggest_perturbations"]
