"""A screen that was read once: its effects, the halves of its cells, and what all tasks of it share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp import pp
from scapp._genes import measured_mask
from scapp._keys import Key
from scapp._perturbations import SEPARATOR, format_label, parse_labels
from scapp.benchmark._sources import Sources
from scapp.benchmark._task import Kind, Split, Task
from scapp.datasets._tidy import load_h5ad
from scapp.metrics import top_expressed_genes

MIN_CELLS = 2  # a standard error needs two
Halves = tuple[AnnData, AnnData]


class ReadingOptions(TypedDict, total=False):
    """How a screen is read and split; :func:`scapp.benchmark.doubles` describes the options."""

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
    """Options of the functions that make one task of a screen."""

    name: str
    title: str


@dataclass(frozen=True, eq=False)
class Screen:
    """Effects of a screen with canonical labels, and what tasks of it share.

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
        """Read cells or effects.

        Raises
        ------
        TypeError
            If an option is unknown.
        ValueError
            If a number is out of range, or the screen cannot be read.
        FileNotFoundError
            If there is no such file.
        """
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
        reading: dict[str, Any] = {
            "perturbation_key": key, "control": control, "sep": sep, "layer": options.get("layer"),
            "batch_key": options.get("batch_key"), "on_few_cells": "drop",
        }  # fmt: skip
        if control is None:
            effects = _given_effects(adata, key, sep, options.get("layer"))
        else:
            effects = _named(pp.pseudobulk(adata, **reading), key)
        if effects.n_vars > max_genes:
            effects = pp.select_genes(effects, max_genes, control=None)
        genes = effects.var_names

        def split_cells(seed: int) -> Halves:
            # All genes are read, and chosen after: counts are normalised over all of them.
            first, second = (
                _named(pp.pseudobulk(half, **reading), key)[:, genes].copy()
                for half in _in_halves(adata, key, options, seed)
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
        """Labels of one gene."""
        return tuple(label for label in self.effects.obs_names if SEPARATOR not in label)

    @property
    def combinations(self) -> tuple[str, ...]:
        """Labels of several genes."""
        return tuple(label for label in self.effects.obs_names if SEPARATOR in label)

    def called(self, name: str, title: str) -> Screen:
        """The same screen, for a task of another name."""
        return replace(self, name=name, title=title)

    def halves(self, seed: int) -> Halves | None:
        """Effects of two halves of the cells, made once for each seed; None where there are no cells."""
        if self.split_cells is not None and seed not in self._halves:
            self._halves[seed] = self.split_cells(seed)
        return self._halves.get(seed)

    def task(self, name: str, title: str, kind: Kind, splits: tuple[Split, ...], reference: str, note: str) -> Task:
        """A task of this screen; its name and title are those of the screen, where it has them."""
        measured = measured_mask(self.effects)
        scored, which = np.flatnonzero(measured), "all measured genes scored"
        if Key.var.CONTROL_MEAN in self.effects.var and self.n_scored < len(scored):
            expression = self.effects.var[Key.var.CONTROL_MEAN].to_numpy(dtype=float)
            # Genes that were not measured have no expression, and stand last.
            scored = top_expressed_genes(np.where(measured, expression, -1.0), self.n_scored)
            which = f"the {self.n_scored:,} genes of the highest expression in control cells scored"
        # One division of the cells serves the noise ceiling of all splits; seen singles learn from another in each.
        halves = {s.seed: self.halves(s.seed if kind == "seen" else self.seeds[0]) for s in splits}
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


def _given_effects(adata: AnnData, key: str, sep: str, layer: str | None) -> AnnData:
    layer = layer or Key.layers.LFC
    if layer not in adata.layers:
        raise ValueError(
            f"The screen has no layer {layer!r}; as control=None says that it holds effects, its log-fold-changes are "
            "expected there. Name their layer with layer=…, or, if these are cells, the control label with control=…."
        )
    if key not in adata.obs:
        raise ValueError(f"adata.obs has no column {key!r} with the perturbations. Name it with perturbation_key=….")
    parsed = parse_labels(adata.obs[key].astype(str), control=None, sep=sep)
    kept = np.array([bool(genes) for genes in parsed])
    effects = adata[kept].copy()
    effects.obs[key] = [format_label(genes) for genes in parsed if genes]
    effects.layers[Key.layers.LFC] = effects.layers[layer].copy()
    effects = _named(effects, key)
    if not effects.obs_names.is_unique:
        twice = effects.obs_names[effects.obs_names.duplicated()].unique()
        raise ValueError(f"Effects have one observation a perturbation; several are called {', '.join(twice[:5])}.")
    return effects


def _named(effects: AnnData, key: str) -> AnnData:
    """Effects with their labels under scapp's own name and as names of the observations."""
    labels = effects.obs[key].astype(str).tolist()
    effects.obs[Key.obs.PERTURBATION] = np.array(labels, dtype=object)
    effects.obs_names = pd.Index(labels)
    return effects


def _in_halves(adata: AnnData, key: str, options: ScreenOptions, seed: int) -> tuple[AnnData, AnnData]:
    """Two halves of the cells, of each perturbation, the controls among them, and as far as it goes of each batch."""
    labels = parse_labels(
        adata.obs[key].astype(str), control=options.get("control", "control"), sep=options.get("sep", SEPARATOR)
    )
    cells = pd.DataFrame({"label": [format_label(genes) for genes in labels]})
    batch_key = options.get("batch_key")
    cells["batch"] = adata.obs[batch_key].astype(str).to_numpy() if batch_key else ""
    cells["order"] = np.random.default_rng(seed).permutation(len(cells))
    cells = cells.sort_values(["label", "batch", "order"])
    # Within a label the cells go by turns to one half and the other; batches stand in a row, so that each is halved.
    second = (cells.groupby("label").cumcount() % 2 == 1).sort_index().to_numpy()
    return adata[~second].copy(), adata[second].copy()


def _sources(options: ScreenOptions) -> Sources | None:
    if options.get("sources") is not None:
        return options["sources"]
    network = options.get("network")
    if network is None:
        if options.get("gene_features"):
            raise ValueError("gene_features need a network beside them: pass network=….")
        return None
    if isinstance(network, str | Path) and not Path(network).is_file():
        raise FileNotFoundError(f"There is no file {str(network)!r} with the network.")
    return Sources(network, options.get("aliases"), options.get("gene_features") or {})
