"""Tasks: effects, splits, scored genes, and the networks that a method may use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scapp import pp
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import parse_labels
from scapp._settings import READERS, hushed
from scapp._tables import read_table

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

Kind = Literal["combinations", "unseen", "seen", "context"]
# Two columns of names would be distinguished from annotations by their titles; this is explicit.
FROM_NETWORK = "network"
# Share of the scored values that count as changes where the noise is not known.
CHANGED_SHARE = 0.05


@dataclass(frozen=True)
class Split:
    """Define the training and the held-out perturbations of a split.

    Parameters
    ----------
    seed
        Number that names the split; it is set as ``scvi.settings.seed`` before each fit.
    train, test
        Canonical labels.
    """

    seed: int
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Sources:
    """Define the network and the gene features of a task.

    Parameters
    ----------
    network
        A table of edges, or its path, in a form that :func:`scapp.pp.add_network` accepts.
    aliases
        Gene aliases, as in :func:`scapp.pp.add_network`.
    features
        For each key of `varm`, the options of :func:`scapp.pp.add_gene_features`. Their ``features`` are a separate
        source, or ``"network"`` for features derived from the network of the task.
    directed
        Whether the edges have a direction; inferred from the input if None.
    channels
        Columns of the table with the weight of each edge by kind of evidence. Each becomes a separate network in
        addition to the whole, as in :func:`scapp.pp.add_evidence`.
    """

    network: pd.DataFrame | Path | str
    aliases: Path | str | Mapping[str, str] | None = None
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    directed: bool | None = None
    channels: tuple[str, ...] = ()

    @property
    def network_keys(self) -> list[str]:
        """Return the keys in `varp` of the channels and of the whole network, which a model reads."""
        return [*self.channels, Key.varp.NETWORK]

    def channel(self, name: str) -> pd.DataFrame:
        """Return the edges of one channel."""
        table = self.network if isinstance(self.network, pd.DataFrame) else read_table(self.network)
        if name not in table:
            raise ValueError(
                f"The network has no column {name!r}; its columns are {', '.join(map(str, table.columns))}."
            )
        edges = table.loc[table[name] > 0, [*table.columns[:2], name]]
        return edges.set_axis(["source", "target", "weight"], axis=1)

    def add_to(self, effects: AnnData) -> AnnData:
        """Return a copy of effects with unmeasured targets as genes, networks in `varp` and features in `varm`."""
        shared: dict[str, Any] = {"aliases": self.aliases, "directed": self.directed, "control": None}
        with hushed(*READERS):  # the reports of the same networks, once for every task
            adata = pp.add_unmeasured_genes(effects, control=None)
            pp.add_network(adata, self.network, **shared)
            # Channels are kinds of evidence for the same edges, which have a direction or not.
            shared["directed"] = pp.report(adata, "network", Key.varp.NETWORK).directed
            for channel in self.channels:
                pp.add_network(adata, self.channel(channel), key_added=channel, **shared)
            for key, given in self.features.items():
                options = dict(given)
                source = options.pop("features")
                if isinstance(source, str) and source == FROM_NETWORK:
                    source, options["kind"] = self.network, "network"
                pp.add_gene_features(adata, source, key_added=key, aliases=self.aliases, control=None, **options)
        # A model does not need the record of the preprocessing, which would be copied into every worker.
        adata.uns.pop(Key.uns.SCAPP, None)
        return adata

    def fingerprint(self) -> str:
        """Return a hash of the tables or files, and of the options."""
        parts = (self.network, self.aliases, self.features, self.directed, self.channels)
        return hashlib.sha256("|".join(map(_describe, parts)).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Task:
    """Hold the effects, splits and scored genes of one prediction task.

    Parameters
    ----------
    name
        Short name without spaces, which names a folder of results.
    title
        One-line title for tables.
    effects
        Effects with one observation per perturbation and no controls: ``layers["lfc"]``, shape (n_perturbations,
        n_vars), with canonical labels as names of the observations. Scored genes have no missing values.
    splits
        At least one; seeds are unique.
    scored
        Indices of the scored genes in ``effects.var_names``.
    reference
        The baseline for ratios: ``"additive"`` or ``"mean"``.
    kind
        ``"combinations"``: combinations are held out. ``"unseen"``: single perturbations are held out whose gene
        occurs nowhere in training. ``"seen"``: train on one half of the cells of each single perturbation, predict
        the effects in the other half. ``"context"``: train on effects in some contexts, such as cell lines, predict the same
        perturbations in another.
    note
        Notes for readers of the results.
    sources
        Network and gene features. Without them, methods that need a network are left out.
    halves
        For each seed, effects from two halves of the cells or, for the kind ``"context"``, effects in the other
        contexts and in the held-out one. Tasks of the kinds ``"seen"`` and ``"context"`` train on the first and predict
        the second; in other tasks they give the noise ceiling.
    score_targets
        Whether the perturbed genes themselves are scored. If not, their observed and predicted changes count as 0.
    standard_errors
        Standard errors in the shape of ``layers["lfc"]`` for the noise ceiling, if the effects have none for methods to
        read.

    Raises
    ------
    ValueError
        If a split is empty, holds out training perturbations, or names a perturbation that is not in `effects`.
    """

    name: str
    title: str
    effects: AnnData
    splits: tuple[Split, ...]
    scored: NDArray[np.intp]
    reference: str
    kind: Kind
    note: str = ""
    sources: Sources | None = None
    halves: Mapping[int, tuple[AnnData, AnnData]] | None = None
    score_targets: bool = True
    standard_errors: NDArray[np.floating] | None = None
    _cache: dict[str, AnnData] = field(default_factory=dict, init=False, repr=False)
    _fingerprints: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in " /\\") or self.name.startswith("."):
            raise ValueError(f"A task's name names a folder: no blanks or slashes, found {self.name!r}.")
        if not self.splits:
            raise ValueError(f"The task {self.name!r} has no splits.")
        if len({split.seed for split in self.splits}) < len(self.splits):
            raise ValueError(f"Two splits of the task {self.name!r} have the same seed.")
        known = set(self.effects.obs_names)
        for split in self.splits:
            where = f"Split {split.seed} of the task {self.name!r}"
            if not split.train or not split.test:
                raise ValueError(
                    f"{where} has {len(split.train)} training and {len(split.test)} held-out perturbations."
                )
            unknown = [label for label in (*split.train, *split.test) if label not in known]
            if unknown:
                raise ValueError(f"{where} names {len(unknown)} perturbations without effects: {shorten(unknown)}.")
            both = set(split.train) & set(split.test)
            if both and not self.is_repeated:
                raise ValueError(f"{where} trains on held-out perturbations: {shorten(sorted(both))}.")
        if self.is_repeated and (self.halves is None or {s.seed for s in self.splits} - set(self.halves)):
            raise ValueError(
                f"The task {self.name!r} of kind {self.kind!r} needs two halves of the cells for each split."
            )

    def __repr__(self) -> str:
        n = [len(split.test) for split in self.splits]
        return (
            f"Task {self.name!r}: {self.effects.n_obs} perturbations, {len(self.splits)} split(s) with {min(n)} to {max(n)} "
            f"predicted, {len(self.scored)} genes scored"
        )

    @property
    def is_repeated(self) -> bool:
        """Return whether perturbations were measured twice, in two halves or contexts: one for training, one for testing."""
        return self.kind in ("seen", "context")

    def held_out(self, split: Split) -> AnnData:
        """Return the effects that contain the held-out ones."""
        if not self.is_repeated:
            return self.effects
        assert self.halves is not None
        return self.halves[split.seed][1]

    @property
    def genes(self) -> NDArray[np.str_]:
        """Return the names of the scored genes."""
        return np.array(self.effects.var_names[self.scored], dtype=str)

    @property
    def knows_noise(self) -> bool:
        """Return whether the effects have standard errors or numbers of cells."""
        return Key.layers.LFC_SE in self.effects.layers or Key.obs.N_CELLS in self.effects.obs

    @property
    def gene_features_key(self) -> tuple[str, ...]:
        """Return the keys of `varm` with gene features for APP."""
        return tuple(self.sources.features) if self.sources else ()

    def split(self, seed: int) -> Split:
        """Return the split of a seed."""
        for split in self.splits:
            if split.seed == seed:
                return split
        raise ValueError(f"The task {self.name!r} has no split {seed}; it has {[split.seed for split in self.splits]}.")

    def inputs(self) -> AnnData:
        """Return the effects with networks in `varp` and gene features in `varm`, over all nodes.

        They are built on the first call and cached, so copy rows and do not modify them.
        """
        if self.sources is None:
            raise ValueError(f"The task {self.name!r} has no network. Pass one when the task is made, with network=….")
        if "inputs" not in self._cache:
            self._cache["inputs"] = self.sources.add_to(self.effects)
        return self._cache["inputs"]

    def training(self, split: Split, *, networks: bool = False) -> AnnData:
        """Return a copy of the training effects with the networks of :meth:`inputs`."""
        train = (self.inputs() if networks else self.effects)[list(split.train)].copy()
        if not self.is_repeated:
            return train
        assert self.halves is not None
        first = self.halves[split.seed][0][list(split.train)]
        columns = train.var_names.get_indexer(first.var_names)
        for layer in (Key.layers.LFC, Key.layers.LFC_SE):
            if layer in train.layers:
                train.layers[layer][:, columns] = first.layers[layer]
        train.X = train.layers[Key.layers.LFC].copy()
        return train

    def observed(self, split: Split) -> NDArray[np.float32]:
        """Return the held-out log-fold-changes over the scored genes, of shape (n_test, n_scored)."""
        values = self.held_out(split)[list(split.test), self.effects.var_names[self.scored]].layers[Key.layers.LFC]
        values = np.array(values, dtype=np.float32)
        return values if self.score_targets else np.where(self.targets(split), np.float32(0), values)

    def targets(self, split: Split) -> NDArray[np.bool_]:
        """Return a mask of the scored genes that each held-out perturbation targets, shape (n_test, n_scored)."""
        genes = self.genes.tolist()
        parsed = parse_labels(split.test, control=None)
        return np.array([[gene in set(parts) for gene in genes] for parts in parsed])

    def noise(self, split: Split) -> NDArray[np.float64] | None:
        """Return the L2 due to noise alone for each held-out perturbation, from its standard errors; None if unknown."""
        known = None if self.kind == "seen" else self._errors(split)
        if known is None:
            return None
        if not self.score_targets:
            known = np.where(self.targets(split), 0, known)
        return np.linalg.norm(known, axis=1) if np.isfinite(known).all() and known.any() else None

    def _errors(self, split: Split) -> NDArray[np.float64] | None:
        """Return the standard errors of the held-out effects, of shape (n_test, n_scored), where they are known."""
        effects = self.held_out(split)
        errors = effects.layers.get(Key.layers.LFC_SE, None if self.is_repeated else self.standard_errors)
        if errors is None:
            return None
        rows = effects.obs_names.get_indexer(list(split.test))
        columns = effects.var_names.get_indexer(self.effects.var_names[self.scored])
        return np.asarray(errors, dtype=np.float64)[np.ix_(rows, columns)]

    def change_threshold(self, split: Split) -> float:
        """Return the threshold for a change of a scored gene in a split.

        It is twice the median standard error of the held-out effects or, if unknown, the level that the largest
        twentieth of their values reaches.
        """
        errors = self._errors(split)
        if errors is not None:
            found = 2 * float(np.nanmedian(errors))
        else:
            found = float(np.quantile(np.abs(self.observed(split)), 1 - CHANGED_SHARE))
        # If hardly anything changes, take the smallest change of all.
        return found if found > 0 else float(np.finfo(np.float32).tiny)

    def n_seen(self, split: Split) -> NDArray[np.intp]:
        """Return the number of genes of each held-out perturbation that were perturbed alone in training."""
        alone = {genes[0] for genes in parse_labels(split.train, control=None) if len(genes) == 1}
        return np.array([sum(g in alone for g in genes) for genes in parse_labels(split.test, control=None)])

    def fingerprint(self, split: Split) -> str:
        """Return a hash of everything besides the method on which the predictions for a split depend."""
        if split.seed in self._fingerprints:
            return self._fingerprints[split.seed]
        digest = hashlib.sha256()
        train = self.training(split)
        for part in (split.train, split.test, tuple(train.var_names), tuple(self.genes), self.kind):
            digest.update(repr(part).encode())
        errors = [train.layers[Key.layers.LFC_SE]] if Key.layers.LFC_SE in train.layers else []
        for values in (train.layers[Key.layers.LFC], self.observed(split), *errors):
            digest.update(np.ascontiguousarray(values, dtype=np.float32).tobytes())
        if self.sources is not None:
            digest.update(self.sources.fingerprint().encode())
        return self._fingerprints.setdefault(split.seed, digest.hexdigest())

    def summary(self) -> dict[str, Any]:
        """Return the record of the task in ``run.json``; numbers of perturbations are means over the splits, rounded."""
        return {
            "title": self.title,
            "reference": self.reference,
            "kind": self.kind,
            "n_splits": len(self.splits),
            "n_scored": len(self.scored),
            "n_train": round(float(np.mean([len(split.train) for split in self.splits]))),
            "n_test": round(float(np.mean([len(split.test) for split in self.splits]))),
            "note": self.note,
        }


def _describe(value: Any) -> str:
    """Return a text that changes with the content of a table or file, and not when a file moves."""
    if isinstance(value, pd.DataFrame):
        return hashlib.sha256(pd.util.hash_pandas_object(value).to_numpy().tobytes()).hexdigest()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_describe(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, Path) or (isinstance(value, str) and value != FROM_NETWORK):
        return hashlib.sha256(Path(value).read_bytes()).hexdigest() if Path(value).is_file() else str(value)
    return repr(value)
