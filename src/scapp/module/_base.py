"""Inputs, predictions and base classes shared by all forms of the model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scvi.module.base import BaseModuleClass
from torch import Tensor, nn

from scapp.module._evidence import Genes, genes_of, membership

# Number of perturbations to predict at once.
BATCH = 256


@dataclass(frozen=True)
class Inputs:
    """Hold the inputs of the module; genes are given as node numbers.

    Parameters
    ----------
    labels
        Canonical label of each training perturbation.
    perturbations
        Nodes of each training perturbation.
    n_nodes, n_measured
        Number of genes, and of measured genes.
    networks
        Matrices of shape (n_nodes, n_nodes).
    features
        Gene features of shape (n_nodes, n_features); a row of NaN marks a gene without.
    added
        Mask of the genes that were added after training, shape (n_nodes,); None if there are none.
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
    """Select the outputs besides the log-fold-changes.

    Parameters
    ----------
    std
        Their standard deviations.
    change
        Threshold for the probability of a change; None to skip this probability.
    attention
        Attention to measured perturbations and to network genes.
    """

    std: bool = True
    change: float | None = None
    attention: bool = True


class Prediction(NamedTuple):
    """Predictions of n perturbations; outputs that were not requested or do not exist for the model are None.

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
    """A part of one predicted value: the sum of `weight` times `value` over `rows` (no rows for the centre)."""

    half: str
    rows: list[int]
    weight: Tensor
    value: Tensor


class Half(nn.Module):
    """Hold the training perturbations for both parts of the default form."""

    def __init__(self, n_sources: int, perturbations: Sequence[Genes], n_measured: int):
        super().__init__()
        self.n_sources, self.n_measured = n_sources, n_measured
        self.perturbations = list(perturbations)
        self.genes = genes_of(perturbations)
        self.holds = membership(perturbations, self.genes)
        self.is_combination = np.array([len(p) > 1 for p in perturbations])
        self.single_row = single_rows(perturbations)


class EffectModule(BaseModuleClass):
    """Base class of the forms of the model, which learn from all perturbations together and predict their effects."""

    targets: Tensor
    threshold: Tensor

    def __init__(self, inputs: Inputs):
        super().__init__()
        self.inputs = inputs
        self.perturbations = list(inputs.perturbations)
        self.single_row = single_rows(self.perturbations)
        self.register_buffer("targets", torch.zeros(len(self.perturbations), inputs.n_measured))
        self.register_buffer("threshold", torch.ones((), dtype=torch.float64))

    @abstractmethod
    def predict_batches(self, batches: Sequence[Sequence[Genes]], wanted: Wanted) -> Iterator[Prediction]:
        """Predict batch by batch."""

    def predict(self, perturbations: Sequence[Genes], wanted: Wanted | None = None) -> Prediction:
        """Predict perturbations, each a tuple of nodes."""
        wanted = Wanted() if wanted is None else wanted
        batches = [perturbations[i : i + BATCH] for i in range(0, len(perturbations), BATCH)]
        return Prediction.joined(list(self.predict_batches(batches, wanted)))

    # scvi-tools requires these methods, but `loss` learns from all perturbations together.

    def inference(self, *args: Any, **kwargs: Any) -> dict:
        """Return nothing."""
        return {}

    def generative(self, *args: Any, **kwargs: Any) -> dict:
        """Return nothing."""
        return {}

    def _get_inference_input(self, tensors: dict[str, Tensor], **kwargs: Any) -> dict:
        return {}

    def _get_generative_input(self, tensors: dict[str, Tensor], inference_outputs: dict, **kwargs: Any) -> dict:
        return {}

    def sample(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: this is not a generative model of cells."""
        raise TypeError("APP predicts the mean effect of a perturbation; it does not sample cells.")


class Descent:
    """L-BFGS on the loss of one part of the model."""

    def __init__(self, half: nn.Module, loss: Callable[[], Tensor], n_steps: int):
        self._loss = loss
        self._optimizer = torch.optim.LBFGS(
            list(half.parameters()), max_iter=n_steps, history_size=30, line_search_fn="strong_wolfe"
        )

    @torch.enable_grad()
    def step(self) -> float:
        """Take the steps, and return the loss before them."""
        return float(self._optimizer.step(self._closure).detach())

    def _closure(self) -> Tensor:
        self._optimizer.zero_grad()
        value = self._loss()
        value.backward()
        return value


def single_rows(perturbations: Sequence[Genes]) -> dict[int, int]:
    """Return the row of each gene that was perturbed alone."""
    return {genes[0]: row for row, genes in enumerate(perturbations) if len(genes) == 1}
