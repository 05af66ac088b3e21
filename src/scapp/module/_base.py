"""What every form of the model is made of and gives: inputs, predictions, and their parts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scvi.module.base import BaseModuleClass
from torch import Tensor

from scapp.module._evidence import Genes

# Perturbations that are predicted at once.
BATCH = 256


@dataclass(frozen=True)
class Inputs:
    """Hold what the module is made of; genes are numbers of nodes.

    Parameters
    ----------
    labels
        Canonical label of each training perturbation.
    perturbations
        Its nodes.
    n_nodes, n_measured
        Number of genes, and of those that were measured.
    networks
        Matrices of shape (n_nodes, n_nodes).
    features
        Gene features of shape (n_nodes, n_features); a row of NaN marks a gene without.
    added
        Which genes came after the training, of shape (n_nodes,); None where none did.
    """

    labels: list[str]
    perturbations: list[Genes]
    n_nodes: int
    n_measured: int
    networks: list[sparse.csr_matrix]
    features: list[NDArray[np.floating]] = field(default_factory=list)
    added: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Wanted:
    """Say what is predicted beside the log-fold-changes.

    Parameters
    ----------
    std
        Their standard deviations.
    change
        Threshold of the probability of a change; None for no probability.
    attention
        Attention to measured perturbations and to genes of the networks.
    """

    std: bool = True
    change: float | None = None
    attention: bool = True


class Prediction(NamedTuple):
    """Predictions of n perturbations; what was not wanted, or the form of the model does not have, is None.

    `lfc`, `std` and `change` have the shape (n, n_measured), `to_genes` (n, n_nodes), `to_perturbations` (n, n_training)
    and `to_mean`, the share of the attention that goes to the centre, (n,).
    """

    lfc: Tensor
    std: Tensor | None = None
    change: Tensor | None = None
    to_genes: Tensor | None = None
    to_perturbations: Tensor | None = None
    to_mean: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence[Prediction]) -> Prediction:
        """Join predictions of several batches."""
        return cls(*(None if values[0] is None else torch.cat(values) for values in zip(*parts, strict=True)))


class Contribution(NamedTuple):
    """A part of one predicted value: `weight` times `value` of the perturbations `rows`, summed; the centre has no rows."""

    half: str
    rows: list[int]
    weight: Tensor
    value: Tensor


class EffectModule(BaseModuleClass):
    """Base of the forms of the model: a module that learns from all perturbations together and predicts their effects."""

    perturbations: list[Genes]

    @abstractmethod
    def predict_batches(self, batches: Sequence[Sequence[Genes]], wanted: Wanted) -> Iterator[Prediction]:
        """Predict batch by batch."""

    def predict(self, perturbations: Sequence[Genes], wanted: Wanted | None = None) -> Prediction:
        """Predict perturbations, each a tuple of nodes."""
        wanted = Wanted() if wanted is None else wanted
        batches = [perturbations[i : i + BATCH] for i in range(0, len(perturbations), BATCH)]
        return Prediction.joined(list(self.predict_batches(batches, wanted)))

    def inference(self, *args: Any, **kwargs: Any) -> dict:
        """Return nothing: scvi-tools asks for it, but all perturbations are learned from together, in `loss`."""
        return {}

    def generative(self, *args: Any, **kwargs: Any) -> dict:
        """Return nothing, as `inference` does."""
        return {}

    def _get_inference_input(self, tensors: dict[str, Tensor], **kwargs: Any) -> dict:
        return {}

    def _get_generative_input(self, tensors: dict[str, Tensor], inference_outputs: dict, **kwargs: Any) -> dict:
        return {}

    def sample(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: this is not a generative model of cells."""
        raise TypeError("APP predicts the mean effect of a perturbation; it does not sample cells.")
