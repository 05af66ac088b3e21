"""Read a screen for its tasks: effects of its cells or as they are given, halves of the cells, and networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp import pp
from scapp._genes import measured_mask
from scapp._keys import Key
from scapp._labels import SEPARATOR, format_label, parse_labels
from scapp._settings import hushed
from scapp._training_effects import read_effects
from scapp.benchmark._task import Kind, Sources, Split, Task
from scapp.datasets import CONTROL, load_h5ad
from scapp.metrics import top_expressed_genes

Halves = tuple[AnnData, AnnData]


class ReadingOptions(TypedDict, total=False):
    """List how a screen is read and split; :func:`scapp.benchmark.doubles` describes the options."""

    network: pd.DataFrame | Path | str | None
    aliases: Path | str | Mapping[str, str] | None
    gene_features: Mapping[str, Mapping[str, Any]] | None
    sources: Sources | None
    perturbation_key: str
    control: str | None
    layer: str | None
    sep: str
    batch_key: str | None
    max_genes: int
    n_scored: int
    n_splits: int
    seed: int


class ScreenOptions(ReadingOptions, total=False):
    """List the options of the functions that make one task of a screen."""

    name: str
    title: str


@dataclass(frozen=True, eq=False)
class Screen:
    """Hold the effects of a screen with canonical labels, and all that its tasks share.

    `split_cells` makes effects from two halves of the cells for a seed; None where the screen has no cells.
    """

    effects: AnnData
    sources: Sources | None
    seeds: tuple[int, ...]
    n_scored: int
    split_cells: Callable[[int], Halves] | None
    name: str
    title: str
    _halves: dict[int, Halves] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, screen: AnnData | Path | str, options: ScreenOptions) -> Screen:
        """Read cells or effects; refuse unknown options and numbers out of range."""
        known = ScreenOptions.__optional_keys__
        unknown = sorted(set(options) - known)
        if unknown:
            raise TypeError(f"Unknown option(s): {', '.join(unknown)}. There are {', '.join(sorted(known))}.")
        n_splits, seed = options.get("n_splits", 5), options.get("seed", 0)
        if n_splits < 1:
            raise ValueError(f"n_splits must be at least 1, found {n_splits}.")
        adata = screen if isinstance(screen, AnnData) else load_h5ad(screen)
        control, max_genes = options.get("control", "control"), options.get("max_genes", 2000)
        key, sep = options.get("perturbation_key", Key.obs.PERTURBATION), options.get("sep", SEPARATOR)
        if control is None:
            effects = _given_effects(adata, key, sep, options.get("layer"))
        else:
            effects = effects_of(adata, options)
        if effects.n_vars > max_genes:
            effects = pp.select_genes(effects, max_genes, control=None)
        genes = effects.var_names

        def split_cells(seed: int) -> Halves:
            # All genes are read, and chosen after: counts are normalised over all of them.
            with hushed("scapp.expression", "scapp.pp"):  # the reading of the whole screen has been reported already
                first, second = (
                    effects_of(half, options)[:, genes].copy() for half in _in_halves(adata, key, options, seed)
                )
            return first, second

        return cls(
            effects=effects,
            sources=_sources(options),
            seeds=tuple(range(seed, seed + n_splits)),
            n_scored=options.get("n_scored", 1000),
            split_cells=None if control is None else split_cells,
            name=options.get("name", ""),
            title=options.get("title", ""),
        )

    @property
    def singles(self) -> tuple[str, ...]:
        """Return the labels of one gene."""
        return tuple(label for label in self.effects.obs_names if SEPARATOR not in label)

    @property
    def combinations(self) -> tuple[str, ...]:
        """Return the labels of several genes."""
        return tuple(label for label in self.effects.obs_names if SEPARATOR in label)

    def halves(self, seed: int) -> Halves | None:
        """Return effects of two halves of the cells, computed once per seed; None without cells."""
        if self.split_cells is not None and seed not in self._halves:
            self._halves[seed] = self.split_cells(seed)
        return self._halves.get(seed)

    def in_both(self, seed: int, labels: Iterable[str]) -> tuple[str, ...]:
        """Return the labels that both halves have."""
        halves = self.halves(seed)
        assert halves is not None
        both = set(halves[0].obs_names) & set(halves[1].obs_names)
        return tuple(label for label in labels if label in both)

    def task(self, name: str, title: str, kind: Kind, splits: tuple[Split, ...], reference: str, note: str) -> Task:
        """Make a task; its name and title are those of the screen, where it has them."""
        measured = measured_mask(self.effects)
        scored, which = np.flatnonzero(measured), "all measured genes scored"
        if Key.var.CONTROL_MEAN in self.effects.var and self.n_scored < len(scored):
            expression = self.effects.var[Key.var.CONTROL_MEAN].to_numpy(dtype=float)
            # Genes that were not measured have no expression, and stand last.
            scored = top_expressed_genes(np.where(measured, expression, -1.0), self.n_scored)
            which = f"the {self.n_scored:,} genes of the highest expression in control cells scored"
        # One division of the cells serves the noise ceiling of all splits; seen singles learn from another in each.
        repeated = kind in ("seen", "context")
        halves = {s.seed: self.halves(s.seed if repeated else self.seeds[0]) for s in splits}
        return Task(
            name=self.name or name,
            title=self.title or title,
            effects=self.effects,
            splits=splits,
            scored=scored,
            reference=reference,
            kind=kind,
            note=f"{note} {which[0].upper()}{which[1:]}, of {int(measured.sum()):,}.",
            sources=self.sources,
            halves={seed: pair for seed, pair in halves.items() if pair is not None} or None,
        )


def effects_of(cells: AnnData, options: ScreenOptions) -> AnnData:
    """Return the effects of cells, named by their labels."""
    key = options.get("perturbation_key", Key.obs.PERTURBATION)
    reading: dict[str, Any] = {
        "perturbation_key": key, "control": options.get("control", CONTROL), "sep": options.get("sep", SEPARATOR),
        "layer": options.get("layer"), "batch_key": options.get("batch_key"), "on_few_cells": "drop",
    }  # fmt: skip
    return _named(pp.pseudobulk(cells, **reading), key)


def _given_effects(adata: AnnData, key: str, sep: str, layer: str | None) -> AnnData:
    layer = layer or Key.layers.LFC
    given = read_effects(adata, layer=layer, perturbation_key=key, sep=sep)
    effects = adata.copy()
    effects.obs[key] = given.labels
    effects.layers[Key.layers.LFC] = given.to_anndata().layers[Key.layers.LFC]
    return _named(effects, key)


def _named(effects: AnnData, key: str) -> AnnData:
    """Put the labels under scapp's own name, and make them the names of the observations."""
    labels = effects.obs[key].astype(str).tolist()
    effects.obs[Key.obs.PERTURBATION] = np.array(labels, dtype=object)
    effects.obs_names = pd.Index(labels)
    return effects


def _in_halves(adata: AnnData, key: str, options: ScreenOptions, seed: int) -> tuple[AnnData, AnnData]:
    """Split the cells into halves within each perturbation (controls too) and, if possible, each batch."""
    labels = parse_labels(
        adata.obs[key].astype(str), control=options.get("control", "control"), sep=options.get("sep", SEPARATOR)
    )
    cells = pd.DataFrame({"label": [format_label(genes) for genes in labels]})
    batch_key = options.get("batch_key")
    cells["batch"] = adata.obs[batch_key].astype(str).to_numpy() if batch_key else ""
    cells["order"] = np.random.default_rng(seed).permutation(len(cells))
    cells = cells.sort_values(["label", "batch", "order"])
    # Cells of a label go alternately to the two halves, sorted by batch, so that each batch is halved.
    second = (cells.groupby("label").cumcount() % 2 == 1).sort_index().to_numpy()
    return adata[~second].copy(), adata[second].copy()


def _sources(options: ScreenOptions) -> Sources | None:
    if options.get("sources") is not None:
        return options["sources"]
    network = options.get("network")
    if network is None:
        if options.get("gene_features"):
            raise ValueError("gene_features also need a network: pass network=….")
        return None
    if isinstance(network, str | Path) and not Path(network).is_file():
        raise FileNotFoundError(f"There is no file {str(network)!r} with the network.")
    return Sources(network, options.get("aliases"), options.get("gene_features") or {})
