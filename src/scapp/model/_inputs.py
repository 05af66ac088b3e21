"""From the registry to what the module takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scapp._labels import parse_labels
from scapp.model._fields import ADDED, EFFECTS, FEATURES, GENES, NETWORK
from scapp.model._saving import arrays
from scapp.module import Inputs


@dataclass(frozen=True)
class ModelInputs:
    """Hold what the registry says in the module's terms; nodes are positions among the genes."""

    genes: list[str]
    measured: np.ndarray
    perturbations: list[tuple[int, ...]]
    labels: list[str]
    control_mean: np.ndarray | None
    networks: list[sparse.csr_matrix]
    feature_blocks: list[np.ndarray]
    kinds: list[str] | None
    added: np.ndarray  # which genes came after the training

    @classmethod
    def read(cls, registry: dict) -> ModelInputs:
        """Read the states of all fields."""
        # Of a saved model, arrays are tensors, and arrays of text are lists.
        states = {key: arrays(value["state_registry"]) for key, value in registry["field_registries"].items()}
        genes = list(map(str, states[GENES]["var_names"]))
        node = {gene: i for i, gene in enumerate(genes)}
        effects = states[EFFECTS]
        labels = list(map(str, effects["perturbations"]))
        perturbations = [tuple(node[gene] for gene in p) for p in parse_labels(labels, control=None, genes=genes)]
        shape = (len(genes),) * 2
        networks = [
            sparse.csr_matrix((s["edge_weight"], tuple(s["edge_index"])), shape=shape)
            for s in _numbered(states, NETWORK)
        ]
        blocks = [s["values"] for s in _numbered(states, FEATURES)]
        kinds = list(effects["kinds"]) if "kinds" in effects else None
        measured = states[GENES]["measured"]
        added = np.asarray(states[GENES].get(ADDED, np.zeros(len(genes))), dtype=bool)
        profile = effects.get("control_mean")
        return cls(genes, measured, perturbations, labels, profile, networks, blocks, kinds, added)

    def inputs(self) -> Inputs:
        """Return what the module is made of."""
        return Inputs(
            labels=self.labels,
            perturbations=self.perturbations,
            n_nodes=len(self.genes),
            n_measured=int(self.measured.sum()),
            networks=self.networks,
            features=self.feature_blocks,
            added=self.added if self.added.any() else None,
        )

    def known(self) -> np.ndarray:
        """Return which genes have an edge in any network, or features."""
        found = np.zeros(len(self.genes), dtype=bool)
        for network in self.networks:
            edges = network.tocoo()
            found[edges.row] = found[edges.col] = True
        for block in self.feature_blocks:
            found |= ~np.isnan(block).any(axis=1)
        return found


def _numbered(states: dict, key: str) -> list[dict]:
    return [states[name] for name in sorted(states, key=_number) if name.rsplit("_", 1)[0] == key]


def _number(name: str) -> int:
    tail = name.rsplit("_", 1)[-1]
    return int(tail) if tail.isdigit() else -1
