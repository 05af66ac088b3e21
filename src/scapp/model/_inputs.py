"""Conversion of the registry into the inputs of the module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from scapp._labels import parse_labels
from scapp.model._fields import ADDED, EFFECTS, FEATURES, GENES, NETWORK
from scapp.model._saving import arrays
from scapp.module import Inputs


@dataclass(frozen=True, kw_only=True)
class ModelInputs(Inputs):
    """Hold the inputs of the module, and what else the registry says about the genes and perturbations."""

    added: np.ndarray
    genes: list[str]
    measured: np.ndarray
    control_mean: np.ndarray | None
    kinds: list[str] | None

    @classmethod
    def read(cls, registry: dict) -> Self:
        """Read the states of all fields."""
        # In a saved model, arrays are tensors, and arrays of text are lists.
        states = {key: arrays(value["state_registry"]) for key, value in registry["field_registries"].items()}
        genes = list(map(str, states[GENES]["var_names"]))
        node = {gene: i for i, gene in enumerate(genes)}
        effects, measured = states[EFFECTS], states[GENES]["measured"]
        labels = list(map(str, effects["perturbations"]))
        shape = (len(genes),) * 2
        return cls(
            labels=labels,
            perturbations=[tuple(node[gene] for gene in p) for p in parse_labels(labels, control=None, genes=genes)],
            n_nodes=len(genes),
            n_measured=int(measured.sum()),
            networks=[
                sparse.csr_matrix((s["edge_weight"], tuple(s["edge_index"])), shape=shape)
                for s in _numbered(states, NETWORK)
            ],
            features=[s["values"] for s in _numbered(states, FEATURES)],
            added=np.asarray(states[GENES].get(ADDED, np.zeros(len(genes))), dtype=bool),
            genes=genes,
            measured=measured,
            control_mean=effects.get("control_mean"),
            kinds=list(effects["kinds"]) if "kinds" in effects else None,
        )

    def known(self) -> np.ndarray:
        """Return a mask of the genes that have an edge in any network, or features."""
        found = np.zeros(len(self.genes), dtype=bool)
        for network in self.networks:
            edges = network.tocoo()
            found[edges.row] = found[edges.col] = True
        for block in self.features:
            found |= ~np.isnan(block).any(axis=1)
        return found


def _numbered(states: dict, key: str) -> list[dict]:
    """Return the states of ``key_0``, ``key_1`` and so on, in the order of their numbers."""
    numbers = sorted(int(name.removeprefix(f"{key}_")) for name in states if name.startswith(f"{key}_"))
    return [states[f"{key}_{number}"] for number in numbers]
