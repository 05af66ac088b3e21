"""Screens to try scapp on."""

from scapp.datasets._simulated import SimulatedTruth, simulated_perturb_seq

__all__ = ["SimulatedTruth", "simulated_perturb_seq"]
