"""Published results, of other methods on another preprocessing, as ratios to the baseline that was published with them.

The tables are the source data of Ahlmann-Eltze et al. (2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scapp._genes import shorten
from scapp._labels import format_label, parse_labels
from scapp._tables import existing_file, to_numbers

if TYPE_CHECKING:
    from scapp._tables import PathLike

NOTE = "another preprocessing"
# In these, perturbations were embedded by the effects of all perturbations of the screen itself, held-out ones included.
SEES_TEST = {
    "replogle_k562_essential": "lpm_k562PertEmb",
    "replogle_rpe1_essential": "lpm_rpe1PertEmb",
}
SEES_TEST_NOTE = f"{NOTE}; sees the held-out effects, an upper reference and no method"
# Held-out perturbations: the authors pool both, and stopped some models early on the second.
HELD_OUT = ("test", "val")
GI = "norman_doubles_gi_tpr_fdp.csv.gz"
COLUMNS = ["dataset_name", "seed", "method", "perturbation", "train", "l2"]
NAMES = {
    "no_change": "no change",
    "additive_model": "additive",
    "mean": "mean",
    "gears": "GEARS",
    "scgpt": "scGPT",
    "scfoundation": "scFoundation",
    "geneformer": "Geneformer",
    "scbert": "scBERT",
    "uce": "UCE",
    "uce33": "UCE, 33 layers",
    "cpa": "CPA",
    "lpm_selftrained": "linear model",
    "lpm_randomPertEmb": "linear model, random perturbation embedding",
    "lpm_randomGeneEmb": "linear model, random gene embedding",
    "lpm_scgptGeneEmb": "linear model, scGPT gene embedding",
    "lpm_scFoundationGeneEmb": "linear model, scFoundation gene embedding",
    "lpm_gearsPertEmb": "linear model, GEARS perturbation embedding",
    "lpm_k562PertEmb": "linear model, K562 perturbation embedding",
    "lpm_rpe1PertEmb": "linear model, RPE1 perturbation embedding",
}


@dataclass(frozen=True)
class _Panel:
    """Describe a published table: its file, the kind of what is held out, and the baseline that it is stated to."""

    name: str
    file: str
    baseline: str


PANELS = (
    _Panel("doubles", "norman_doubles_l2.csv.gz", "additive_model"),
    _Panel("unseen singles", "unseen_singles_l2.csv.gz", "mean"),
    _Panel("unseen singles, embeddings", "unseen_singles_embeddings_l2.csv.gz", "mean"),
)


def published_results(folder: PathLike, *, n_bootstrap: int = 2000, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """Compute L2 of the published methods, relative to their own baseline on the same perturbations.

    The ratio is the mean L2 of a method over the held-out perturbations of all splits divided by that of the additive
    model (doubles) or of the mean (unseen singles). Perturbations of a table for which a method has no value in a split
    are left out there for all methods. Intervals are percentiles of a bootstrap that draws perturbations, each with all
    its splits.

    Parameters
    ----------
    folder
        Holds ``norman_doubles_l2.csv.gz``, ``unseen_singles_l2.csv.gz`` or ``unseen_singles_embeddings_l2.csv.gz``, the
        source data of Ahlmann-Eltze et al. (2025); those that are absent are left out.
    n_bootstrap, seed, level
        Draws of the bootstrap, their seed, and the share that the interval covers.

    Returns
    -------
    One row a panel, data set and method, the best first: ``panel``, ``dataset``, ``method``, ``reference``, ``l2``,
    ``reference_l2``, ``ratio``, ``ratio_low``, ``ratio_high``, ``wins`` (share of scores below those of the reference),
    ``n_perturbations``, ``n_scores`` (perturbations times splits) and ``note``.

    Raises
    ------
    ValueError
        If none of the files is there, or one lacks columns, its baseline or finite values, or has a score twice.
    """
    root = Path(folder)
    panels = [panel for panel in PANELS if (root / panel.file).is_file()]
    if not panels:
        there = shorten(sorted(path.name for path in root.iterdir())) if root.is_dir() else "no such folder"
        raise ValueError(
            f"{str(root)!r} should hold published results, {' or '.join(panel.file for panel in PANELS)}; found "
            f"{there or 'nothing'}."
        )
    rows = []
    for panel in panels:
        scores = _read_scores(root / panel.file, panel.baseline)
        for dataset, of_dataset in scores.groupby("dataset_name", sort=True):
            table = of_dataset.pivot(index=["seed", "perturbation"], columns="method", values="l2").dropna()
            if table.empty:
                raise ValueError(
                    f"{panel.file!r} has no held-out perturbation of {dataset!r} for which every method has a score."
                )
            found = _ratios(
                table, panel.baseline, SEES_TEST.get(str(dataset)), n_bootstrap=n_bootstrap, seed=seed, level=level
            )
            found.insert(0, "dataset", dataset)
            found.insert(0, "panel", panel.name)
            rows.append(found)
    return pd.concat(rows, ignore_index=True)


def published_interaction_curves(folder: PathLike) -> pd.DataFrame:
    """Read how many genetic interactions of the Norman doubles the published methods detect.

    Parameters
    ----------
    folder
        Holds ``norman_doubles_gi_tpr_fdp.csv.gz``, of Ahlmann-Eltze et al. (2025).

    Returns
    -------
    One row per method and ``fdp`` (false discovery proportion, 0 to 1 in steps of 0.01): ``method``, ``fdp``, ``tpr`` (true
    positive rate) and ``note``.

    Raises
    ------
    ValueError
        If the file is missing, or lacks columns, or holds no rates.
    """
    file = existing_file(Path(folder) / GI)
    table = _read(file, ["method", "fdp", "tpr"])
    if not table[["fdp", "tpr"]].apply(lambda rates: rates.between(0, 1)).all(axis=None):
        raise ValueError(f"{str(file)!r} should hold rates from 0 to 1 in 'fdp' and 'tpr'.")
    table = table[["method", "fdp", "tpr"]].sort_values(["method", "fdp"], ignore_index=True)
    return table.assign(method=table["method"].map(_display), note=NOTE)


def _read(file: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, float_precision="round_trip")
    except (OSError, EOFError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{str(file)!r} cannot be read ({error}). Is it complete?") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(
            f"{str(file)!r} lacks the column(s) {shorten(map(repr, missing))}; it has {shorten(map(repr, table.columns), 10)}."
        )
    return table


def _read_scores(file: Path, baseline: str) -> pd.DataFrame:
    scores = _read(file, COLUMNS)
    scores = scores.loc[scores["train"].isin(HELD_OUT), COLUMNS]
    bad = ~np.isfinite(to_numbers(scores["l2"]))
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} values of 'l2' in {str(file)!r} are not finite, of {shorten(scores.loc[bad, 'perturbation'])}."
        )
    # "A+B" and "B+A", "A+ctrl" and "A" are one perturbation.
    scores["perturbation"] = [format_label(genes) for genes in parse_labels(scores["perturbation"], control=None)]
    twice = scores.duplicated(["dataset_name", "seed", "method", "perturbation"])
    if twice.any():
        raise ValueError(
            f"{int(twice.sum())} scores are twice in {str(file)!r}, of {shorten(scores.loc[twice, 'perturbation'])}."
        )
    for dataset, methods in scores.groupby("dataset_name")["method"]:
        if baseline not in set(methods):
            raise ValueError(
                f"{str(file)!r} has no {baseline!r}, the baseline, on {dataset!r}; it has {shorten(methods.unique(), 20)}."
            )
    return scores


def _ratios(
    table: pd.DataFrame, baseline: str, sees_test: str | None, *, n_bootstrap: int, seed: int, level: float
) -> pd.DataFrame:
    """Compute ratios of the means of columns to that of the baseline, with intervals clustered by perturbation."""
    values = table.to_numpy(dtype=np.float64)
    reference = list(table.columns).index(baseline)
    cluster, names = pd.factorize(table.index.get_level_values("perturbation"))
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, cluster, values)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_bootstrap)
    drawn = draws @ sums
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(drawn / drawn[:, [reference]], [tail, 100 - tail], axis=0)
    mean = values.mean(axis=0)
    return pd.DataFrame(
        {
            "method": [_display(name) for name in table.columns],
            "reference": _display(baseline),
            "l2": mean,
            "reference_l2": mean[reference],
            "ratio": mean / mean[reference],
            "ratio_low": low,
            "ratio_high": high,
            "wins": (values < values[:, [reference]]).mean(axis=0),
            "n_perturbations": len(names),
            "n_scores": len(values),
            "note": [SEES_TEST_NOTE if name == sees_test else NOTE for name in table.columns],
        }
    ).sort_values("ratio", ignore_index=True)


def _display(method: str) -> str:
    return NAMES.get(method, method)
