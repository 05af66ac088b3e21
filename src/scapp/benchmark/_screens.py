"""Tasks of any screen: its doubles, its unseen singles, its seen singles; and public screens by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

import numpy as np

from scapp import datasets
from scapp._perturbations import parse_labels
from scapp.benchmark._screen import MIN_CELLS, ReadingOptions, Screen, ScreenOptions
from scapp.benchmark._sources import Sources
from scapp.benchmark._task import Kind, Split, Task
from scapp.datasets._labels import CONTROL
from scapp.datasets._tidy import labelled_cells

if TYPE_CHECKING:
    from anndata import AnnData

# What each public screen is called, and which tasks it is made for.
SCREENS: dict[str, tuple[str, tuple[Kind, ...]]] = {
    "norman_2019": ("Norman et al. 2019 (K562, CRISPRa)", ("combinations", "unseen", "seen")),
    "adamson_2016": ("Adamson et al. 2016 (K562, CRISPRi)", ("unseen", "seen")),
    "replogle_2022_k562_essential": ("Replogle et al. 2022 (K562, CRISPRi)", ("unseen", "seen")),
    "replogle_2022_rpe1": ("Replogle et al. 2022 (RPE1, CRISPRi)", ("unseen", "seen")),
}
MIN_COMBINATIONS = 2
MIN_SINGLES = 4
UNSEEN_GENES = 0.25


def doubles(
    screen: AnnData | Path | str, *, test_size: float = 0.5, unseen_genes: float = 0.0, **options: Unpack[ScreenOptions]
) -> Task:
    """Combinations of a screen: some are held out, the others and the singles are trained on.

    Parameters
    ----------
    screen
        Cells with controls, or effects (``control=None``, log-fold-changes in ``layers["lfc"]``), or the path of an
        h5ad file of either. Cells become effects once, with :func:`scapp.pp.pseudobulk`, and give the noise ceiling.
    test_size
        Share of the combinations that is held out.
    unseen_genes
        Share of the genes measured alone that then occur in no training perturbation, neither alone nor in
        combinations. All combinations with such a gene are held out as well, so that scores can be told apart by how
        many genes were seen.
    **options
        Of the screen: `perturbation_key` (``"perturbation"``), `control` (``"control"``), `layer`, `sep` (``"+"``) and
        `batch_key` as in :func:`scapp.pp.pseudobulk`; `max_genes` (2000): the most variable genes, and all perturbed
        ones, are kept; `n_scored` (1000): the genes of the highest mean expression in control cells are scored, or all
        where that is not known. Of the networks: `network` and `aliases` as in :func:`scapp.pp.add_network`;
        `gene_features`: for each key the options of :func:`scapp.pp.add_gene_features`, among them ``"features"``, its
        source, or ``"network"`` for features derived from the network. Without a network only the methods that need
        none take part. Of the splits: `n_splits` (5) and `seed` (0), the seed of the first. `name` and `title` of the
        task.

    Returns
    -------
    A task; ratios are stated to the additive model.

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
    """Single perturbations of a screen: some are held out, the other singles are trained on.

    Parameters
    ----------
    screen
        As in :func:`doubles`.
    test_size
        Share of the singles that is held out.
    **options
        As in :func:`doubles`.

    Returns
    -------
    A task; ratios are stated to the mean of the training perturbations.

    Raises
    ------
    ValueError
        If there are fewer than four singles, or the screen cannot be read.
    FileNotFoundError
        If there is no such file.
    TypeError
        If an option is unknown.
    """
    return _unseen_singles(Screen.read(screen, options), test_size=test_size)


def seen_singles(screen: AnnData | Path | str, **options: Unpack[ScreenOptions]) -> Task:
    """Single perturbations of a screen, whose cells are split in halves: train on one half, predict the other.

    Controls are split as well, so that the two halves share no noise.

    Parameters
    ----------
    screen
        Cells with controls, or the path of an h5ad file of them.
    **options
        As in :func:`doubles`.

    Returns
    -------
    A task; ratios are stated to the additive model, which for a single repeats what the first half measured.

    Raises
    ------
    ValueError
        If `screen` holds effects and no cells, or no single perturbation has four cells.
    FileNotFoundError
        If there is no such file.
    TypeError
        If an option is unknown.
    """
    return _seen_singles(Screen.read(screen, options))


def screen(name: str, path: Path | str, **options: Unpack[ReadingOptions]) -> list[Task]:
    """The tasks of a public screen, from a file that you have.

    The files of scPerturb (``obs["perturbation"]``: ``"A_B"``, ``"control"``), pertpy and GEARS (``obs["condition"]``:
    ``"A+ctrl"``) are understood. Under a name of your own the tasks are those that the perturbations allow.

    Parameters
    ----------
    name
        ``"norman_2019"``, ``"adamson_2016"``, ``"replogle_2022_k562_essential"``, ``"replogle_2022_rpe1"``, or another;
        the names of the tasks begin with it.
    path
        h5ad file of cells.
    **options
        As in :func:`doubles`, but for `name` and `title`. `perturbation_key` is found by its usual names.

    Returns
    -------
    Up to four tasks: doubles, doubles with a quarter of the genes unseen, unseen singles, seen singles.

    Raises
    ------
    ValueError
        If the labels or the controls are not found, or the screen is too small for a task.
    FileNotFoundError
        If there is no such file.
    TypeError
        If an option is unknown.
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
    """Doubles and unseen singles of a simulated screen, so that the benchmark runs for anyone with nothing."""
    cells, truth = datasets.simulated_perturb_seq(**simulation)  # type: ignore[arg-type]
    sources = Sources(truth.network, directed=True)
    read = Screen.read(cells, {"batch_key": "batch", "n_splits": n_splits, "sources": sources})
    tasks = _tasks(read, "simulated", "simulated screen", ("combinations", "unseen"))
    return [task for task in tasks if not task.name.endswith("unseen_genes")]


def _tasks(read: Screen, name: str, title: str, kinds: Sequence[Kind]) -> list[Task]:
    tasks = []
    if "combinations" in kinds:
        tasks.append(_doubles(read.called(f"{name}_doubles", f"Doubles, {title}")))
        partly = read.called(f"{name}_doubles_unseen_genes", f"Doubles with unseen genes, {title}")
        tasks.append(_doubles(partly, unseen_genes=UNSEEN_GENES))
    if "unseen" in kinds:
        tasks.append(_unseen_singles(read.called(f"{name}_unseen_singles", f"Unseen genes, {title}")))
    if "seen" in kinds:
        tasks.append(_seen_singles(read.called(f"{name}_seen_singles", f"Seen singles, {title}")))
    return tasks


def _doubles(read: Screen, *, test_size: float = 0.5, unseen_genes: float = 0.0) -> Task:
    _check_share("test_size", test_size)
    if unseen_genes != 0:
        _check_share("unseen_genes", unseen_genes)
    _enough(read.combinations, MIN_COMBINATIONS, "combinations", "doubles")
    _enough(read.singles, 1, "single perturbations", "doubles")
    splits = tuple(_split_doubles(read, seed, test_size, unseen_genes) for seed in read.seeds)
    unseen = f", and {unseen_genes:.0%} of the genes with all their perturbations" if unseen_genes else ""
    note = f"{test_size:.0%} of the combinations held out{unseen}."
    return read.task("doubles", "Combinations", "combinations", splits, "additive", note)


def _split_doubles(read: Screen, seed: int, test_size: float, unseen_genes: float) -> Split:
    rng = np.random.default_rng(seed)
    parts = dict(zip(read.combinations, parse_labels(read.combinations, control=None), strict=True))
    hidden = set(_draw(read.singles, unseen_genes, rng)) if unseen_genes else set()
    seen = [label for label in read.combinations if not hidden & set(parts[label])]
    _enough(seen, MIN_COMBINATIONS, "combinations of seen genes", f"split {seed} of the doubles")
    held = {*_draw(seen, test_size, rng), *(label for label in read.combinations if hidden & set(parts[label]))}
    train = [label for label in read.singles if label not in hidden] + [label for label in seen if label not in held]
    return Split(seed, tuple(train), tuple(label for label in read.combinations if label in held))


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
        halves = read.halves(seed)
        if halves is None:
            raise ValueError(
                "Seen singles need cells, to split them in halves; this screen holds effects (control=None)."
            )
        both = set(halves[0].obs_names) & set(halves[1].obs_names)
        labels = tuple(label for label in read.singles if label in both)
        _enough(labels, 1, f"single perturbations of {2 * MIN_CELLS} cells or more", "seen singles")
        splits.append(Split(seed, labels, labels))
    note = "Trained on one half of the cells, scored on the other; the additive model repeats the first half."
    return read.task("seen_singles", "Seen singles", "seen", tuple(splits), "additive", note)


def _draw(labels: Sequence[str], share: float, rng: np.random.Generator) -> list[str]:
    """A share of the labels, at least one, and not all."""
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
