"""Networks and gene features of a task, and the damage that may be done to the network first."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scapp import network, pp
from scapp._keys import Key
from scapp.pp._edges import read_edges
from scapp.pp._tables import read_table

if TYPE_CHECKING:
    from anndata import AnnData

# Two columns of names would be told apart from annotations by their titles; this says it outright.
FROM_NETWORK = "network"


@dataclass(frozen=True)
class Damage:
    """Damage to a network before anything is derived from it.

    Parameters
    ----------
    kind
        ``"remove"`` edges, ``"add"`` false ones, or ``"rewire"`` all with the degrees kept.
    fraction
        Share of the edges that is removed or added; of no meaning for ``"rewire"``.
    seed
        Of the choice.
    """

    kind: Literal["remove", "add", "rewire"]
    fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("remove", "add", "rewire"):
            raise ValueError(f"The kind of damage must be 'remove', 'add' or 'rewire', found {self.kind!r}.")

    def apply(self, edges: pd.DataFrame, *, directed: bool) -> pd.DataFrame:
        """The damaged edges, with the columns source, target and weight; all genes of the table are nodes."""
        ends, names = pd.factorize(pd.concat([edges["source"], edges["target"]]), sort=True)
        n = len(edges)
        adjacency = network.edges_to_csr(
            ends[:n], ends[n:], edges["weight"], n_nodes=len(names), directed=directed, duplicates="max"
        )
        if self.kind == "remove":
            damaged = network.remove_edges(adjacency, self.fraction, seed=self.seed)
        elif self.kind == "add":
            damaged = network.add_random_edges(adjacency, self.fraction, seed=self.seed)
        else:
            damaged = network.rewire(adjacency, seed=self.seed)
        index, _ = network.csr_to_edge_index(damaged)
        once = np.ones(index.shape[1], dtype=bool) if directed else index[0] <= index[1]
        source, target = np.asarray(names)[index[:, once]]
        return pd.DataFrame({"source": source, "target": target, "weight": damaged.data[once]})


@dataclass(frozen=True)
class Sources:
    """Where a task's network and gene features come from.

    Parameters
    ----------
    network
        A table of edges or the path of one, as :func:`scapp.pp.add_network` takes it.
    aliases
        Names of genes, as there.
    features
        For each key of `varm` the options of :func:`scapp.pp.add_gene_features`, among them ``features``: a source of
        its own, or ``"network"`` for features that are derived from the network of the task, damaged where that is.
    directed
        Whether the edges have a direction; None takes it from the input.
    channels
        Columns of the table with the weight of each edge by the kind of its evidence: each becomes a network of its own
        beside the whole, as :func:`scapp.pp.add_evidence` has it.
    """

    network: pd.DataFrame | Path | str
    aliases: Path | str | Mapping[str, str] | None = None
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    directed: bool | None = None
    channels: tuple[str, ...] = ()

    @property
    def network_keys(self) -> list[str]:
        """The networks in `varp` that a model reads: those of the channels, and the whole."""
        return [*self.channels, Key.varp.NETWORK]

    def add_to(self, effects: AnnData, damage: Damage | None = None, whole: AnnData | None = None) -> AnnData:
        """A copy of effects with room for unmeasured targets, the network in `varp` and the features in `varm`.

        Parameters
        ----------
        effects
            One observation a perturbation.
        damage
            Done to the network first.
        whole
            What this returns without damage, to take the features from that do not come from the network.
        """
        adata = pp.add_unmeasured_genes(effects, control=None)
        edges, directed = self.network, self.directed
        if damage is not None:
            table = read_edges(edges, var_names=adata.var_names)
            directed = table.directed if directed is None else directed
            edges = damage.apply(table.edges, directed=directed)
        pp.add_network(adata, edges, aliases=self.aliases, directed=directed, control=None)
        for channel in self.channels:
            pp.add_network(
                adata,
                self._channel(channel, edges, damage),
                key_added=channel,
                aliases=self.aliases,
                directed=directed,
                control=None,
            )
        for key, given in self.features.items():
            options = dict(given)
            source = options.pop("features")
            if isinstance(source, str) and source == FROM_NETWORK:
                source, options["kind"] = edges, "network"
            elif whole is not None:
                adata.varm[key] = whole.varm[key]
                continue
            pp.add_gene_features(adata, source, key_added=key, aliases=self.aliases, control=None, **options)
        # What was read, and from where, is of no use to a model, and would be copied into every worker.
        adata.uns.pop(Key.uns.SCAPP, None)
        return adata

    def _channel(self, channel: str, whole: Any, damage: Damage | None) -> pd.DataFrame:
        """The edges of a channel, damaged as the whole network is."""
        table = self.network if isinstance(self.network, pd.DataFrame) else read_table(self.network)
        if channel not in table:
            raise ValueError(
                f"The network has no column {channel!r}; its columns are {', '.join(map(str, table.columns))}."
            )
        ends = list(table.columns[:2])
        edges = table.loc[table[channel] > 0, [*ends, channel]].set_axis(["source", "target", "weight"], axis=1)
        if damage is None:
            return edges
        if damage.kind == "remove":  # an edge that is removed from the whole is removed from all its channels
            kept = {frozenset(pair) for pair in zip(whole["source"], whole["target"], strict=True)}
            pairs = zip(edges["source"], edges["target"], strict=True)
            return edges[[frozenset(pair) in kept for pair in pairs]]
        return damage.apply(edges, directed=bool(self.directed))

    def fingerprint(self) -> str:
        """A hash of the tables or files, and of the options."""
        parts = (self.network, self.aliases, self.features, self.directed, self.channels)
        return hashlib.sha256("|".join(map(_describe, parts)).encode()).hexdigest()


def _describe(value: Any) -> str:
    """A text that changes when what is in a table or file changes, and not when a file moves."""
    if isinstance(value, pd.DataFrame):
        return hashlib.sha256(pd.util.hash_pandas_object(value).to_numpy().tobytes()).hexdigest()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_describe(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, Path) or (isinstance(value, str) and value != FROM_NETWORK):
        return hashlib.sha256(Path(value).read_bytes()).hexdigest() if Path(value).is_file() else str(value)
    return repr(value)
