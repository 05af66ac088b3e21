"""Predictions made elsewhere: the files by which any method takes part, and the task that is handed to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scapp._genes import shorten
from scapp._keys import Key
from scapp._perturbations import SEPARATOR, format_label, near_matches, parse_labels
from scapp.benchmark._predictions_formats import EXPECTED, SEED, Content, read, suffix_of, write_h5ad
from scapp.pp._tables import PathLike, existing_file, to_numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scapp.benchmark._task import Task


def read_predictions(
    path: PathLike,
    perturbations: Sequence[str],
    genes: Sequence[str],
    *,
    seed: int | None = None,
    sep: str = SEPARATOR,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Predicted log-fold-changes from a file, in the order that is asked.

    Parameters
    ----------
    path
        One of

        - h5ad: ``layers["predicted_lfc"]``, or `X` where there is no such layer; optionally
          ``layers["predicted_lfc_std"]``; labels in ``obs["perturbation"]``, genes in `var_names`;
        - npz: the arrays ``labels``, ``genes``, ``lfc`` and optionally ``std``;
        - csv (also gzipped) or parquet: labels in the first column, each other column a gene.

        Where one file holds the predictions of several splits, ``obs["seed"]``, the array ``seed`` or the column
        ``seed`` names the split of each row.
    perturbations
        Labels that must be there, the genes of a label in any order. No others may be.
    genes
        Genes that must be there, found by name. Others may be, and are passed over: a model predicts all genes, of which
        a task scores some.
    seed
        The split, for files that hold several.
    sep
        What joins the genes of the labels in the file.

    Returns
    -------
    Log-fold-changes and, if the file has them, predicted standard deviations: float32 of shape
    (n_perturbations, n_genes).

    Raises
    ------
    ValueError
        If the file is missing, incomplete or of an unknown format, or if perturbations or genes are missing, unknown,
        without names or there twice, or a value is not finite. All that is found is listed.
    """
    file = existing_file(path)
    content = read(file)
    content = _of_seed(content, seed, file)
    problems: list[str] = []
    rows = _find_perturbations(content.labels, perturbations, sep, problems)
    columns = _find_genes(content.genes, genes, problems)
    shape = (len(content.labels), len(content.genes))
    lfc = _check_matrix(content.lfc, shape, "log-fold-changes", problems)
    std = None if content.std is None else _check_matrix(content.std, shape, "standard deviations", problems)
    if not problems:
        lfc = lfc[np.ix_(rows, columns)]
        _check_finite(lfc, perturbations, genes, "log-fold-changes", problems)
        if std is not None:
            std = std[np.ix_(rows, columns)]
            _check_finite(std, perturbations, genes, "standard deviations", problems)
            if (std < 0).any():
                problems.append(f"{int((std < 0).sum())} standard deviations are negative.")
    if problems:
        of_split = "" if seed is None else f" of split {seed}"
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(f"The predictions{of_split} in {str(file)!r} cannot be used:\n{listed}\n{EXPECTED}")
    return lfc.astype(np.float32), None if std is None else std.astype(np.float32)


def write_predictions(
    path: PathLike,
    labels: Sequence[str],
    genes: Sequence[str],
    lfc: ArrayLike,
    *,
    std: ArrayLike | None = None,
    seed: int | Sequence[int] | None = None,
) -> Path:
    """Write predicted log-fold-changes so that :func:`read_predictions` and the benchmark read them.

    Parameters
    ----------
    path
        Ends in ``.h5ad``, ``.npz``, ``.csv``, ``.csv.gz`` or ``.parquet``.
    labels
        Perturbations, the rows.
    genes
        Genes, the columns.
    lfc
        Predicted log-fold-changes (natural log of counts per 10,000 plus one, against control) of shape
        (n_labels, n_genes).
    std
        Predicted standard deviations of the same shape; h5ad and npz only.
    seed
        The split of all rows, or of each.

    Returns
    -------
    The path.

    Raises
    ------
    ValueError
        If shapes disagree, the format is not known or cannot hold `std`.
    """
    file = Path(path)
    suffix = suffix_of(file)
    labels, genes = [str(label) for label in labels], [str(gene) for gene in genes]
    values = np.asarray(lfc, dtype=np.float32)
    spread = None if std is None else np.asarray(std, dtype=np.float32)
    shape = (len(labels), len(genes))
    for name, array in (("lfc", values), ("std", spread)):
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} should have the shape {shape} of labels and genes, found {array.shape}.")
    if spread is not None and suffix not in (".h5ad", ".npz"):
        raise ValueError(f"A {suffix} file cannot hold standard deviations. Write an h5ad or npz file.")
    seeds = None if seed is None else np.broadcast_to(np.asarray(seed, dtype=np.int64), len(labels))
    if suffix == ".npz":
        arrays: dict[str, Any] = {"labels": np.array(labels, str), "genes": np.array(genes, str), "lfc": values}
        arrays |= {} if spread is None else {"std": spread}
        arrays |= {} if seeds is None else {SEED: seeds}
        np.savez_compressed(file, **arrays)
    elif suffix == ".h5ad":
        write_h5ad(file, labels, genes, values, spread, seeds)
    else:
        table = pd.DataFrame(values, columns=genes)
        if seeds is not None:
            table.insert(0, SEED, seeds)
        table.insert(0, Key.obs.PERTURBATION, labels)
        if suffix == ".parquet":
            table.to_parquet(file, index=False)
        else:
            table.to_csv(file, index=False)
    return file


def export_task(task: Task, folder: PathLike) -> list[Path]:
    """Write what a method outside scapp needs to take part in a task.

    For each split a folder ``<folder>/<task>/<seed>`` is written:

    - ``train.h5ad``: the training effects, one observation a perturbation, ``layers["lfc"]`` and, where it is known,
      ``layers["lfc_se"]``. Nothing of the held-out perturbations is in it;
    - ``predict.json``: ``perturbations`` to predict, ``genes`` that are scored, ``task``, ``seed``, and what to hand back.

    The method writes a predictions file (see :func:`read_predictions`) for each split, or one for all with a column
    ``seed``.

    Parameters
    ----------
    task
        A task of the benchmark.
    folder
        Where to write; made if absent.

    Returns
    -------
    The folders, one a split.

    Raises
    ------
    ValueError
        If there are such folders already.
    """
    import anndata as ad

    root = Path(folder) / task.name
    folders = [root / str(split.seed) for split in task.splits]
    there = [str(path) for path in folders if path.exists()]
    if there:
        raise ValueError(f"These folders are there already: {shorten(there)}. Remove them, or name another folder.")
    for split, path in zip(task.splits, folders, strict=True):
        train = task.training(split)
        layers = {name: train.layers[name] for name in (Key.layers.LFC, Key.layers.LFC_SE) if name in train.layers}
        path.mkdir(parents=True)
        # Only what describes the training perturbations: X, uns and the rest may know more.
        ad.AnnData(obs=train.obs.copy(), var=train.var.copy(), layers=layers).write_h5ad(path / "train.h5ad")
        wanted = {
            "task": task.name,
            "seed": split.seed,
            "perturbations": list(split.test),
            "genes": [str(gene) for gene in task.genes],
            "hand_back": EXPECTED,
        }
        (path / "predict.json").write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    return folders


def _of_seed(content: Content, seed: int | None, file: Path) -> Content:
    """The rows of a split, where the file says to which each belongs."""
    if content.seed is None:
        return content
    found = to_numbers(pd.Series(np.asarray(content.seed).ravel()))
    if len(found) != len(content.labels) or found.isna().any():
        raise ValueError(f"The seeds in {str(file)!r} should be one whole number a row. {EXPECTED}")
    seeds = sorted({int(value) for value in found})
    if seed is None:
        if len(seeds) > 1:
            raise ValueError(
                f"{str(file)!r} holds the predictions of the splits {shorten(seeds)}. Say which with seed=…."
            )
        return content
    rows = np.flatnonzero(found.to_numpy() == seed)
    if not len(rows):
        raise ValueError(
            f"{str(file)!r} has no predictions of split {seed}; it has those of {shorten(seeds) or 'none'}."
        )
    lfc, std = np.asarray(content.lfc), content.std
    if any(array.ndim != 2 or len(array) != len(found) for array in (lfc, np.asarray(lfc if std is None else std))):
        raise ValueError(f"The matrices in {str(file)!r} should have a row for each of {len(found)} labels. {EXPECTED}")
    return Content([content.labels[i] for i in rows], content.genes, lfc[rows], None if std is None else std[rows])


def _find_perturbations(labels: list[str], wanted: Sequence[str], sep: str, problems: list[str]) -> list[int]:
    asked = parse_labels(wanted, control=None)
    try:
        found = parse_labels(labels, control=None, sep=sep)
    except ValueError as error:
        problems.append(f"A label cannot be read. {error}")
        return []
    row = {genes: i for i, genes in enumerate(found)}
    twice = (
        {format_label(genes) or "control" for genes in found if found.count(genes) > 1} if len(row) < len(found) else ()
    )
    missing = [format_label(genes) for genes in asked if genes not in row]
    known = set(asked)
    other = [labels[i] for genes, i in row.items() if genes not in known]
    if twice:
        problems.append(f"{len(twice)} perturbation(s) have several rows: {shorten(sorted(twice))}. Keep one of each.")
    if missing:
        problems.append(f"{len(missing)} of the {len(asked)} held-out perturbations are missing: {shorten(missing)}.")
    if other:
        problems.append(
            f"{len(other)} perturbation(s) are not among the {len(asked)} that are held out: {shorten(other)}. Leave them "
            "out, or, if they belong to other splits, name the split of each row in 'seed'."
        )
    return [] if missing else [row[genes] for genes in asked]


def _find_genes(genes: list[str], wanted: Sequence[str], problems: list[str]) -> list[int]:
    column = {gene: i for i, gene in enumerate(genes)}
    missing = [str(gene) for gene in wanted if gene not in column]
    if len(column) < len(genes):
        # A gene twice that is not scored harms nobody.
        scored = set(map(str, wanted))
        twice = sorted({gene for gene in scored.intersection(column) if genes.count(gene) > 1})
        if twice:
            problems.append(f"{len(twice)} scored gene(s) have several columns: {shorten(twice)}.")
    if not missing:
        return [column[str(gene)] for gene in wanted]
    if genes and all(gene.isdigit() for gene in genes):
        problems.append(
            f"The {len(genes)} genes are numbered ({shorten(genes, 3)}), not named: their order could be any. Name them."
        )
    else:
        like = near_matches(missing[0], genes, n=1) if len(genes) < 50_000 else []
        hint = f" Is {missing[0]!r} called {like[0]!r}?" if like else ""
        problems.append(
            f"{len(missing)} of the {len(wanted)} scored genes are missing: {shorten(missing)}. The file has {len(genes)} "
            f"genes: {shorten(genes) or 'none'}.{hint}"
        )
    return []


def _check_matrix(values: Any, shape: tuple[int, int], what: str, problems: list[str]) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" or array.shape != shape:
        problems.append(
            f"The {what} are an array of type {array.dtype} and shape {array.shape}, where labels and genes make {shape}."
        )
        return np.empty((0, 0))
    return array.astype(np.float64)


def _check_finite(
    values: NDArray[np.float64], labels: Sequence[str], genes: Sequence[str], what: str, problems: list[str]
) -> None:
    # Too large for float32 is infinite there.
    bad = ~(np.abs(values) <= np.finfo(np.float32).max)
    if bad.any():
        rows = [str(labels[i]) for i in np.flatnonzero(bad.any(axis=1)).tolist()]
        columns = [str(genes[j]) for j in np.flatnonzero(bad.any(axis=0)).tolist()]
        problems.append(
            f"{int(bad.sum())} {what} are missing, NaN or infinite, in {len(rows)} perturbation(s), {shorten(rows)}, and "
            f"{len(columns)} gene(s), {shorten(columns)}."
        )
