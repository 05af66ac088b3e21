"""Tasks of any screen: its doubles, its unseen singles, its seen singles; and public screens by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp import datasets
from scapp._genes import shorten
from scapp._labels import column_of_obs, parse_labels
from scapp._settings import hushed
from scapp.benchmark._reading import Halves, ReadingOptions, Screen, ScreenOptions, effects_of
from scapp.benchmark._task import Kind, Sources, Split, Task
from scapp.datasets import CONTROL, labelled_cells, load_h5ad

# Title of each public screen, and the tasks that it is made for.
SCREENS: dict[str, tuple[str, tuple[Kind, ...]]] = {
    "norman_2019": ("Norman et al. 2019 (K562, CRISPRa)", ("combinations", "unseen", "seen")),
    "adamson_2016": ("Adamson et al. 2016 (K562, CRISPRi)", ("unseen", "seen")),
    "replogle_2022_k562_essential": ("Replogle et al. 2022 (K562, CRISPRi)", ("unseen", "seen")),
    "replogle_2022_rpe1": ("Replogle et al. 2022 (RPE1, CRISPRi)", ("unseen", "seen")),
}
MIN_COMBINATIONS, MIN_SINGLES = 2, 4
MIN_CELLS = 2  # a standard error needs two
UNSEEN_GENES = 0.25
_BATCH_IN_CONTEXT = "_batch_in_context"


def doubles(
    screen: AnnData | Path | str, *, test_size: float = 0.5, unseen_genes: float = 0.0, **options: Unpack[ScreenOptions]
) -> Task:
    """Hold out some combinations of a screen, and train on the rest and the singles.

    Parameters
    ----------
    screen
        Cells with controls, or effects (``control=None``, log-fold-changes in ``layers["lfc"]``), or the path of an
        h5ad file of either. Cells become effects once, with :func:`scapp.pp.pseudobulk`, and give the noise ceiling.
    test_size
        Share of the combinations to hold out.
    unseen_genes
        Share of the genes perturbed alone that are removed from training entirely, alone and in combinations. All
        combinations with such a gene are held out too, so that scores can be compared by the number of seen genes.
    **options
        Reading: `perturbation_key` (``"perturbation"``), `control` (``"control"``), `layer`, `sep` (``"+"``) and
        `batch_key` as in :func:`scapp.pp.pseudobulk`; `max_genes` (2000): the most variable genes, and all perturbed
        ones, are kept; `n_scored` (1000): the genes of the highest mean expression in control cells are scored, or all
        where that is not known. Networks: `network` and `aliases` as in :func:`scapp.pp.add_network`; `gene_features`:
        for each key the options of :func:`scapp.pp.add_gene_features`, among them ``"features"``, its source, or
        ``"network"`` for features derived from the network; or `sources`, a :class:`Sources`. Without a network only
        the methods that need none take part. Splits: `n_splits` (5) and `seed` (0), the seed of the first. `name` and
        `title` of the task.

    Returns
    -------
    A task; ratios are relative to the additive model.

    Raises
    ------
    ValueError
        If there are too few combinations or singles, or the screen cannot be read.
    FileNotFoundError
        If there is no such file.
    TypeError
        If an option is unknown.
    """
    return _doubles(Screen.read(screen, options), test_size=test_size, unseen_genes=unseen_genes)


def unseen_singles(screen: AnnData | Path | str, *, test_size: float = 0.2, **options: Unpack[ScreenOptions]) -> Task:
    """Hold out some single perturbations of a screen, and train on the other singles.

    Parameters
    ----------
    screen
        As in :func:`doubles`.
    test_size
        Share of the singles to hold out.
    **options
        As in :func:`doubles`.

    Returns
    -------
    A task; ratios are relative to the mean of the training perturbations.

    Raises
    ------
    ValueError
        If there are fewer than four singles, or the screen cannot be read.
    """
    return _unseen_singles(Screen.read(screen, options), test_size=test_size)


def seen_singles(screen: AnnData | Path | str, **options: Unpack[ScreenOptions]) -> Task:
    """Split the cells of each single perturbation into halves, train on one half and predict the other.

    Controls are split too, so that the two halves share no noise.

    Parameters
    ----------
    screen
        Cells with controls, or the path of an h5ad file of them.
    **options
        As in :func:`doubles`.

    Returns
    -------
    A task; ratios are relative to the additive model, which for a single repeats the first half.

    Raises
    ------
    ValueError
        If `screen` holds effects instead of cells, or no single perturbation has four cells.
    """
    return _seen_singles(Screen.read(screen, options))


def unseen_contexts(screen: AnnData | Path | str, *, context_key: str, **options: Unpack[ScreenOptions]) -> Task:
    """Hold out each context (cell line, donor or treatment) in turn, and train on the effects in all others.

    The perturbations are the same on both sides: the question is how well effects measured elsewhere transfer to a
    context of which only control cells are known. Each cell is compared with the control cells of its own context and,
    with `batch_key`, of its own batch. The noise ceiling comes from the standard errors in the held-out context.

    Parameters
    ----------
    screen
        Cells with controls in each context, or the path of an h5ad file of them.
    context_key
        Column of `obs` with the context of each cell.
    **options
        As in :func:`doubles`. With `n_splits`, only this many contexts are held out, in alphabetical order starting at
        position `seed`.

    Returns
    -------
    A task with one split for each context, whose number is its seed; the `note` names them. Ratios are relative to the additive
    model, which repeats the mean effect of the other contexts.

    Raises
    ------
    ValueError
        If `screen` holds effects instead of cells, there are fewer than two contexts, no context shares a perturbation
        with the others, or the screen cannot be read.

    See Also
    --------
    scapp.baselines.CarriedOver : Scales the effects of another screen, if some perturbations were measured in this one.

    Examples
    --------
    >>> task = scapp.benchmark.unseen_contexts(cells, context_key="cell_line")
    >>> task.note
    """
    if options.get("control", CONTROL) is None:
        raise ValueError(
            "Held-out contexts need cells, to compare them with controls of their own context (control=None has none)."
        )
    adata = screen if isinstance(screen, AnnData) else load_h5ad(screen)
    column = column_of_obs(adata, context_key, "context_key").astype(str).to_numpy()
    contexts = sorted(set(column))
    if len(contexts) < 2:
        raise ValueError(
            f"Expected cells in two contexts or more, found one in adata.obs[{context_key!r}]: {shorten(map(repr, contexts))}. "
            "Name another column with context_key=…."
        )
    batch_key = options.get("batch_key")
    batch = column
    if batch_key is not None and batch_key != context_key:
        of_cells = column_of_obs(adata, batch_key, "batch_key").astype(str).to_numpy()
        batch = np.array([f"{context} {name}" for context, name in zip(column, of_cells, strict=True)], dtype=object)
    # Only references: the matrices are not copied.
    obs = adata.obs.assign(**{_BATCH_IN_CONTEXT: pd.Categorical(batch)})
    cells = AnnData(X=adata.X, obs=obs, var=adata.var, layers=dict(adata.layers))
    start = options.get("seed", 0)
    chosen = contexts[start : start + options.get("n_splits", len(contexts))]
    reading = cast(ScreenOptions, {**options, "batch_key": _BATCH_IN_CONTEXT, "n_splits": max(len(chosen), 1)})
    read = Screen.read(cells, reading)

    def split_cells(seed: int) -> Halves:
        held = column == contexts[seed]
        with hushed("scapp.expression", "scapp.pp"):
            elsewhere, here = (
                effects_of(cells[rows], reading)[:, read.effects.var_names].copy() for rows in (~held, held)
            )
        return elsewhere, here

    read = replace(read, split_cells=split_cells)
    splits = []
    for context in chosen:
        labels = read.in_both(contexts.index(context), read.effects.obs_names)
        if not labels:
            raise ValueError(
                f"No perturbation of the context {context!r} of adata.obs[{context_key!r}] was measured in another context with enough "
                "cells. Leave these cells out, or name another column with context_key=…."
            )
        splits.append(Split(contexts.index(context), labels, labels))
    if not splits:
        raise ValueError(
            f"There are {len(contexts)} contexts in adata.obs[{context_key!r}], so seed must be below that."
        )
    held = ", ".join(f"{split.seed} {contexts[split.seed]!r} ({len(split.test)})" for split in splits)
    note = f"One context of {context_key!r} held out in each split, with so many perturbations: {held}; trained on all others."
    return read.task("unseen_contexts", "Unseen contexts", "context", tuple(splits), "additive", note)


def screen(name: str, path: Path | str, **options: Unpack[ReadingOptions]) -> list[Task]:
    """Make tasks from your file of a public screen.

    The files of scPerturb (``obs["perturbation"]``: ``"A_B"``, ``"control"``), pertpy and GEARS (``obs["condition"]``:
    ``"A+ctrl"``) are understood. With any other name, the perturbations decide which tasks are made.

    Parameters
    ----------
    name
        ``"norman_2019"``, ``"adamson_2016"``, ``"replogle_2022_k562_essential"``, ``"replogle_2022_rpe1"``, or another
        name; the names of the tasks begin with it.
    path
        h5ad file of cells.
    **options
        As in :func:`doubles`, except `name` and `title`. Common names of `perturbation_key` are recognised.

    Returns
    -------
    Up to four tasks: doubles, doubles with a quarter of the genes unseen, unseen singles, seen singles.

    Raises
    ------
    ValueError
        If the labels or the controls are not found, or the screen is too small for a task.
    """
    cells = labelled_cells(path, perturbation_key=options.get("perturbation_key"), control=options.get("control"))
    chosen = {k: v for k, v in options.items() if k not in ("perturbation_key", "control", "sep")}
    read = Screen.read(cells, cast(ScreenOptions, {**chosen, "control": CONTROL}))
    title, kinds = SCREENS.get(name, (name, None))
    if kinds is None:
        possible: dict[Kind, bool] = {
            "combinations": len(read.combinations) >= MIN_COMBINATIONS and bool(read.singles),
            "unseen": len(read.singles) >= MIN_SINGLES,
            "seen": bool(read.singles),
        }
        kinds = tuple(kind for kind, fits in possible.items() if fits)
    return _tasks(read, name, title, kinds)


def simulated(*, n_splits: int = 5, **simulation: float) -> list[Task]:
    """Make doubles and unseen singles of a simulated screen, so that the benchmark runs without any file."""
    cells, truth = datasets.simulated_perturb_seq(**simulation)  # type: ignore[arg-type]
    sources = Sources(truth.network, directed=True)
    read = Screen.read(cells, {"batch_key": "batch", "n_splits": n_splits, "sources": sources})
    tasks = _tasks(read, "simulated", "simulated screen", ("combinations", "unseen"))
    return [task for task in tasks if not task.name.endswith("unseen_genes")]


def _tasks(read: Screen, name: str, title: str, kinds: Sequence[Kind]) -> list[Task]:
    def called(task: str, title_of_task: str) -> Screen:
        return replace(read, name=f"{name}_{task}", title=f"{title_of_task}, {title}")

    tasks = []
    if "combinations" in kinds:
        tasks.append(_doubles(called("doubles", "Doubles")))
        tasks.append(_doubles(called("doubles_unseen_genes", "Doubles with unseen genes"), unseen_genes=UNSEEN_GENES))
    if "unseen" in kinds:
        tasks.append(_unseen_singles(called("unseen_singles", "Unseen genes")))
    if "seen" in kinds:
        tasks.append(_seen_singles(called("seen_singles", "Seen singles")))
    return tasks


def _doubles(read: Screen, *, test_size: float = 0.5, unseen_genes: float = 0.0) -> Task:
    _check_share("test_size", test_size)
    if unseen_genes != 0:
        _check_share("unseen_genes", unseen_genes)
    _enough(read.combinations, MIN_COMBINATIONS, "combinations", "doubles")
    _enough(read.singles, 1, "single perturbations", "doubles")
    parts = dict(zip(read.combinations, parse_labels(read.combinations, control=None), strict=True))
    splits = []
    for seed in read.seeds:
        rng = np.random.default_rng(seed)
        hidden = set(_draw(read.singles, unseen_genes, rng)) if unseen_genes else set()
        seen = [label for label in read.combinations if not hidden & set(parts[label])]
        _enough(seen, MIN_COMBINATIONS, "combinations of seen genes", f"split {seed} of the doubles")
        held = {*_draw(seen, test_size, rng), *(label for label in read.combinations if hidden & set(parts[label]))}
        train = [label for label in read.singles if label not in hidden]
        train += [label for label in seen if label not in held]
        splits.append(Split(seed, tuple(train), tuple(label for label in read.combinations if label in held)))
    unseen = f", and {unseen_genes:.0%} of the genes with all their perturbations" if unseen_genes else ""
    note = f"{test_size:.0%} of the combinations held out{unseen}."
    return read.task("doubles", "Combinations", "combinations", tuple(splits), "additive", note)


def _unseen_singles(read: Screen, *, test_size: float = 0.2) -> Task:
    _check_share("test_size", test_size)
    _enough(read.singles, MIN_SINGLES, "single perturbations", "unseen singles")
    splits = []
    for seed in read.seeds:
        held = set(_draw(read.singles, test_size, np.random.default_rng(seed)))
        train = tuple(label for label in read.singles if label not in held)
        splits.append(Split(seed, train, tuple(label for label in read.singles if label in held)))
    note = f"{test_size:.0%} of the singles held out; combinations are not used."
    return read.task("unseen_singles", "Unseen genes", "unseen", tuple(splits), "mean", note)


def _seen_singles(read: Screen) -> Task:
    splits = []
    for seed in read.seeds:
        if read.split_cells is None:
            raise ValueError(
                "Seen singles need cells, to split them in halves; this screen holds effects (control=None)."
            )
        labels = read.in_both(seed, read.singles)
        _enough(labels, 1, f"single perturbations of {2 * MIN_CELLS} cells or more", "seen singles")
        splits.append(Split(seed, labels, labels))
    note = "Trained on one half of the cells, scored on the other; the additive model repeats the first half."
    return read.task("seen_singles", "Seen singles", "seen", tuple(splits), "additive", note)


def _draw(labels: Sequence[str], share: float, rng: np.random.Generator) -> list[str]:
    """Draw a share of the labels, at least one, and not all."""
    n = min(max(1, round(share * len(labels))), len(labels) - 1)
    return rng.permutation(np.array(labels, dtype=object))[:n].tolist()


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, found {value!r}.")


def _enough(labels: Sequence[str], n: int, what: str, task: str) -> None:
    if len(labels) < n:
        raise ValueError(
            f"{task[0].upper()}{task[1:]} need at least {n} {what}, and this screen has {len(labels)}. "
            "Choose another task, or read the labels with another perturbation_key=… or sep=…."
        )
