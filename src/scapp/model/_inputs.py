"""From the registry to the tensors that the module takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from scapp._perturbations import parse_labels
from scapp.data._fields import EFFECTS, FEATURES, GENES, NETWORK
from scapp.network import hellinger_embedding, symmetrize

N_NETWORK_FEATURES = 128


@dataclass(frozen=True)
class Registered:
    """What the registry says, in the module's terms; nodes are positions among the genes."""

    genes: list[str]
    measured: np.ndarray
    perturbations: list[tuple[int, ...]]
    labels: list[str]
    control_mean: np.ndarray | None
    networks: list[tuple[np.ndarray, np.ndarray]]
    feature_blocks: list[np.ndarray]
    kinds: list[str] | None

    @classmethod
    def read(cls, registry: dict) -> Registered:
        """Read the states of all fields."""
        states = {key: value["state_registry"] for key, value in registry["field_registries"].items()}
        genes = states[GENES]["var_names"].tolist()
        node = {gene: i for i, gene in enumerate(genes)}
        effects = states[EFFECTS]
        labels = effects["perturbations"].tolist()
        perturbations = [tuple(node[gene] for gene in p) for p in parse_labels(labels, control=None)]
        networks = [(s["edge_index"], s["edge_weight"]) for s in _numbered(states, NETWORK)]
        blocks = [s["values"] for s in _numbered(states, FEATURES)]
        measured = states[GENES]["measured"]
        kinds = effects["kinds"].tolist() if "kinds" in effects else None
        return cls(genes, measured, perturbations, labels, effects.get("control_mean"), networks, blocks, kinds)

    def adjacency(self, k: int) -> sparse.csr_matrix:
        """Network k, row = source."""
        (source, target), weight = self.networks[k]
        return sparse.csr_matrix((weight, (source, target)), shape=(len(self.genes),) * 2)

    def graphs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Edges and weights of the networks, as tensors."""
        return [(torch.as_tensor(edges), torch.as_tensor(weights)) for edges, weights in self.networks]

    def has_edges(self) -> np.ndarray:
        """Which genes have an edge in any network."""
        found = np.zeros(len(self.genes), dtype=bool)
        for edge_index, _ in self.networks:
            found[edge_index.ravel()] = True
        return found

    def has_features(self) -> np.ndarray:
        """Which genes have any of the given features."""
        found = np.zeros(len(self.genes), dtype=bool)
        for block in self.feature_blocks:
            found |= ~np.isnan(block).any(axis=1)
        return found

    def features(self) -> tuple[torch.Tensor, list[int]]:
        """Gene features, block by block: position in each network, what was given, and expression in control cells.

        Each block is centred on the perturbed genes and scaled to rows of unit mean square there, so that learned scales
        start equal; a gene without the features stands at that centre.
        """
        blocks = [self._network_features(k) for k in range(len(self.networks))]
        blocks += self.feature_blocks
        if self.control_mean is not None:
            blocks.append(self.control_mean[:, None])
        perturbed = sorted({gene for genes in self.perturbations for gene in genes})
        standard = [_standardise(block, perturbed) for block in blocks]
        return torch.as_tensor(np.hstack(standard)), [block.shape[1] for block in standard]

    def _network_features(self, k: int) -> np.ndarray:
        adjacency = abs(self.adjacency(k))
        found = hellinger_embedding(symmetrize(adjacency), N_NETWORK_FEATURES)
        isolated = np.asarray(adjacency.sum(axis=0)).ravel() + np.asarray(adjacency.sum(axis=1)).ravel() == 0
        found[isolated] = np.nan
        return found


def _numbered(states: dict, key: str) -> list[dict]:
    return [states[name] for name in sorted(states, key=_number) if name.rsplit("_", 1)[0] == key]


def _number(name: str) -> int:
    tail = name.rsplit("_", 1)[-1]
    return int(tail) if tail.isdigit() else -1


def _standardise(block: np.ndarray, perturbed: list[int]) -> np.ndarray:
    known = ~np.isnan(block).any(axis=1)
    reference = [i for i in perturbed if known[i]] or np.flatnonzero(known).tolist()
    if not reference:
        return np.zeros_like(block, dtype=np.float32)
    centred = block - block[reference].mean(axis=0)
    size = np.sqrt(np.square(centred[reference]).sum(axis=1).mean())
    scaled = centred / (size if size > 0 else 1.0)
    scaled[~known] = 0
    return scaled.astype(np.float32)
