"""Predictions made elsewhere: the files by which any method takes part, and the task that is handed to it."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, format_label, near_matches, parse_labels
from scapp._tables import PathLike, existing_file, find_column, read_table, to_numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from scapp.benchmark._task import Task

SUFFIXES = (".h5ad", ".npz", ".csv", ".csv.gz", ".parquet")
SEED = "seed"
EXPECTED = (
    "Expected one row per perturbation and one column per gene: h5ad (layers['predicted_lfc'] or X, obs['perturbation'], "
    "optionally layers['predicted_lfc_std'] and obs['seed']), npz (labels, genes, lfc, optionally std and seed), or csv "
    "or parquet (first column the perturbation, optionally a column 'seed', the other columns genes). "
    "scapp.benchmark.write_predictions writes all of them."
)


def read_predictions(
    path: PathLike, perturbations: Sequence[str], genes: Sequence[str], *, seed: int | None = None, sep: str = SEPARATOR
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Read predicted log-fold-changes from a file, in the given order.

    Parameters
    ----------
    path
        One of

        - h5ad: ``layers["predicted_lfc"]``, or `X` without this layer; optionally
          ``layers["predicted_lfc_std"]``; labels in ``obs["perturbation"]``, genes in `var_names`;
        - npz: the arrays ``labels``, ``genes``, ``lfc`` and optionally ``std``;
        - csv (also gzipped) or parquet: labels in the first column, each other column a gene.

        If one file holds the predictions for several splits, ``obs["seed"]``, the array ``seed`` or the column ``seed``
        names the split of each row.
    perturbations
        Required labels, with the genes of a label in any order. No other labels are allowed.
    genes
        Required genes, matched by name. Others are ignored, because a model predicts all genes and a task scores some
        of them.
    seed
        The split, for files that hold several.
    sep
        Separator of the genes of the labels in the file.

    Returns
    -------
    Log-fold-changes and, if the file has them, predicted standard deviations: float32 of shape
    (n_perturbations, n_genes).

    Raises
    ------
    ValueError
        If the file is missing, incomplete or of an unknown format; if perturbations or genes are missing, unknown,
        unnamed or occur twice; or if a value is not finite. All problems are listed.
    """
    file = existing_file(path)
    content = _of_seed(_read(file), seed, file)
    problems: list[str] = []
    rows = _find_perturbations(content.labels, perturbations, sep, problems)
    columns = _find_genes(content.genes, genes, problems)
    shape = (len(content.labels), len(content.genes))
    given = {"log-fold-changes": content.lfc, "standard deviations": content.std}
    arrays = {what: np.asarray(values) for what, values in given.items() if values is not None}
    for what, array in arrays.items():
        if array.dtype.kind not in "fiu" or array.shape != shape:
            problems.append(
                f"The {what} are an array of type {array.dtype} and shape {array.shape}, where labels and genes make "
                f"{shape}."
            )
    if not problems:
        arrays = {what: array.astype(np.float64)[np.ix_(rows, columns)] for what, array in arrays.items()}
        for what, array in arrays.items():
            bad = ~(np.abs(array) <= np.finfo(np.float32).max)  # too large for float32 is infinite there
            if bad.any():
                of = [str(perturbations[i]) for i in np.flatnonzero(bad.any(axis=1)).tolist()]
                at = [str(genes[j]) for j in np.flatnonzero(bad.any(axis=0)).tolist()]
                problems.append(
                    f"{int(bad.sum())} {what} are missing, NaN or infinite, in {len(of)} perturbation(s), {shorten(of)}, "
                    f"and {len(at)} gene(s), {shorten(at)}."
                )
        spread = arrays.get("standard deviations")
        if spread is not None and (spread < 0).any():
            problems.append(f"{int((spread < 0).sum())} standard deviations are negative.")
    if problems:
        of_split = "" if seed is None else f" of split {seed}"
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(f"The predictions{of_split} in {str(file)!r} cannot be used:\n{listed}\n{EXPECTED}")
    lfc, *std = (array.astype(np.float32) for array in arrays.values())
    return lfc, std[0] if std else None


def write_predictions(
    path: PathLike,
    labels: Sequence[str],
    genes: Sequence[str],
    lfc: ArrayLike,
    *,
    std: ArrayLike | None = None,
    seed: int | Sequence[int] | None = None,
) -> Path:
    """Write predicted log-fold-changes for :func:`read_predictions` and the benchmark.

    Parameters
    ----------
    path
        File that ends in ``.h5ad``, ``.npz``, ``.csv``, ``.csv.gz`` or ``.parquet``.
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
        If shapes disagree, or the format is unknown or cannot hold `std`.
    """
    file = Path(path)
    suffix = _suffix_of(file)
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
        return file
    if suffix == ".h5ad":
        # Rows of several splits may have the same label; names of observations may not.
        names = labels if seeds is None else [f"{label}/{of}" for label, of in zip(labels, seeds, strict=True)]
        obs = pd.DataFrame({Key.obs.PERTURBATION: np.array(labels, dtype=object)}, index=pd.Index(names, dtype=object))
        if seeds is not None:
            obs[SEED] = seeds
        layers = {Key.layers.PREDICTED_LFC: values} | ({} if spread is None else {Key.layers.PREDICTED_LFC_STD: spread})
        ad.AnnData(obs=obs, var=pd.DataFrame(index=pd.Index(genes, dtype=object)), layers=layers).write_h5ad(file)
        return file
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
    """Write the input that a method outside scapp needs for a task.

    For each split a folder ``<folder>/<task>/<seed>`` is written:

    - ``train.h5ad``: the training effects, with one observation per perturbation, ``layers["lfc"]`` and, if known,
      ``layers["lfc_se"]``. It contains nothing about the held-out perturbations;
    - ``predict.json``: ``perturbations`` to predict, ``genes`` to score, ``task``, ``seed``, and what to return.

    The method writes a predictions file (see :func:`read_predictions`) for each split, or one for all with a column
    ``seed``.

    Parameters
    ----------
    task
        A task of the benchmark.
    folder
        Folder to write to; created if missing.

    Returns
    -------
    The folders, one per split.

    Raises
    ------
    ValueError
        If the folders already exist.
    """
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


@dataclass(frozen=True, eq=False)
class _Content:
    """Hold the content of a file: `lfc` and `std` of shape (n_rows, n_columns), the seed of each row."""

    labels: list[str]
    genes: list[str]
    lfc: Any
    std: Any = None
    seed: Any = None


def _suffix_of(file: Path) -> str:
    suffix = next((suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ValueError(
            f"{str(file)!r} is no predictions file: its name should end in {', '.join(SUFFIXES)}. {EXPECTED}"
        )
    return suffix


def _read(file: Path) -> _Content:
    reader = {".h5ad": _from_h5ad, ".npz": _from_npz}.get(_suffix_of(file), _from_table)
    try:
        return reader(file)
    except (OSError, EOFError, KeyError, UnicodeDecodeError, zipfile.BadZipFile, pd.errors.ParserError) as error:
        raise ValueError(f"{str(file)!r} cannot be read ({error}). Is it complete? {EXPECTED}") from error


def _from_h5ad(file: Path) -> _Content:
    adata = ad.read_h5ad(file)
    values = adata.layers.get(Key.layers.PREDICTED_LFC, adata.X)
    if values is None or Key.obs.PERTURBATION not in adata.obs:
        raise ValueError(
            f"{str(file)!r} has the layers {shorten(key for key in adata.layers if key) or 'none'} and the columns of obs "
            f"{shorten(adata.obs.columns, 8) or 'none'}. {EXPECTED}"
        )
    std = adata.layers.get(Key.layers.PREDICTED_LFC_STD)
    lfc, std = (matrix.toarray() if sparse.issparse(matrix) else matrix for matrix in (values, std))
    return _Content(
        labels=adata.obs[Key.obs.PERTURBATION].astype(str).tolist(),
        genes=adata.var_names.astype(str).tolist(),
        lfc=lfc,
        std=std,
        seed=adata.obs[SEED].to_numpy() if SEED in adata.obs else None,
    )


def _from_npz(file: Path) -> _Content:
    try:
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
    except (ValueError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{str(file)!r} holds objects, not plain arrays, or is no npz file ({error}). Save names as text: "
            "`np.array(labels, dtype=str)`."
        ) from error
    missing = [name for name in ("labels", "genes", "lfc") if name not in arrays]
    if missing:
        raise ValueError(
            f"{str(file)!r} has no array {shorten(missing)}; it has {shorten(arrays) or 'none'}. {EXPECTED}"
        )
    labels, genes = (np.atleast_1d(arrays[name]).astype(str).tolist() for name in ("labels", "genes"))
    return _Content(labels, genes, arrays["lfc"], arrays.get("std"), arrays.get(SEED))


def _from_table(file: Path) -> _Content:
    table = read_table(file)
    if not pd.api.types.is_integer_dtype(table.index.dtype):  # of a parquet file
        table = table.reset_index()
    if not table.shape[1]:
        raise ValueError(f"{str(file)!r} has no columns. {EXPECTED}")
    labels = table.iloc[:, 0].astype(str).tolist()
    table = table.iloc[:, 1:]
    column = find_column(table, [SEED])
    seed = None
    if column is not None:
        seed = table[column].to_numpy()
        table = table.drop(columns=column)
    genes = [str(name) for name in table.columns]
    numbers = table.apply(to_numbers) if table.shape[1] else table
    return _Content(labels, genes, numbers.to_numpy(dtype=np.float64), seed=seed)


def _of_seed(content: _Content, seed: int | None, file: Path) -> _Content:
    """Return the rows of a split, where the file says to which each belongs."""
    if content.seed is None:
        return content
    found = to_numbers(pd.Series(np.asarray(content.seed).ravel()))
    if len(found) != len(content.labels) or found.isna().any():
        raise ValueError(f"The seeds in {str(file)!r} should be one whole number per row. {EXPECTED}")
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
    return _Content([content.labels[i] for i in rows], content.genes, lfc[rows], None if std is None else std[rows])


def _find_perturbations(labels: list[str], wanted: Sequence[str], sep: str, problems: list[str]) -> list[int]:
    """Return the row of each requested perturbation; append problems to the list."""
    asked = parse_labels(wanted, control=None)
    try:
        found = parse_labels(labels, control=None, sep=sep)
    except ValueError as error:
        problems.append(f"A label cannot be read. {error}")
        return []
    row = {genes: i for i, genes in enumerate(found)}
    missing = [format_label(genes) for genes in asked if genes not in row]
    known = set(asked)
    other = [labels[i] for genes, i in row.items() if genes not in known]
    if len(row) < len(found):
        twice = sorted({format_label(genes) or "control" for genes in found if found.count(genes) > 1})
        problems.append(f"{len(twice)} perturbation(s) have several rows: {shorten(twice)}. Keep one of each.")
    if missing:
        problems.append(f"{len(missing)} of the {len(asked)} held-out perturbations are missing: {shorten(missing)}.")
    if other:
        problems.append(
            f"{len(other)} perturbation(s) are not among the {len(asked)} that are held out: {shorten(other)}. Leave them "
            "out, or, if they belong to other splits, name the split of each row in 'seed'."
        )
    return [] if missing else [row[genes] for genes in asked]


def _find_genes(genes: list[str], wanted: Sequence[str], problems: list[str]) -> list[int]:
    """Return the column of each requested gene; append problems to the list."""
    column = {gene: i for i, gene in enumerate(genes)}
    missing = [str(gene) for gene in wanted if gene not in column]
    if len(column) < len(genes):  # a gene that stands there twice and is not scored does no harm
        twice = sorted({gene for gene in set(map(str, wanted)) & set(column) if genes.count(gene) > 1})
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
