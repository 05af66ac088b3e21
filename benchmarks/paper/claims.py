"""What the paper claims and what the field has published, as ratios, to stand beside what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from benchmarks.paper.published import published_results

DOUBLES, SINGLES = "norman_doubles", "k562_singles"


class Costs(NamedTuple):
    """Hold a row of the paper's Table 5, as ranges."""

    millions: str
    hours: str
    milliseconds: str


# Tables 1 to 4 of Zhao and Wu (2025), whose text calls its results fabricated: L2 of each method and task.
TABLE_1 = {
    DOUBLES: {"APP": 5.3, "additive": 5.5, "best deep learning": 6.1},
    SINGLES: {"APP": 3.9, "linear model": 4.0, "best deep learning": 4.3},
}
TABLE_2 = {
    "APP, paper, random embeddings": {DOUBLES: 5.8, SINGLES: 4.5},
    "APP, paper, identity embeddings": {DOUBLES: 5.7, SINGLES: 4.4},
    "APP, paper, no attention": {DOUBLES: 5.6, SINGLES: 4.2},
    "APP, paper, MLP decoder": {DOUBLES: 5.4, SINGLES: 4.1},
}
TABLE_4 = {
    "APP, 10 % edges removed": {DOUBLES: 5.4, SINGLES: 4.0},
    "APP, 25 % edges removed": {DOUBLES: 5.6, SINGLES: 4.2},
    "APP, 10 % edges added": {DOUBLES: 5.4, SINGLES: 4.0},
    "APP, 25 % edges added": {DOUBLES: 5.7, SINGLES: 4.3},
}
TABLE_5 = {
    "APP": Costs("0.5 to 1.0", "0.5 to 1.5", "10 to 50"),
    "scFoundation + decoder": Costs("50 to 100", "10 to 20", "500 to 1,000"),
    "scBERT + decoder": Costs("100 to 200", "15 to 30", "700 to 1,500"),
    "Geneformer + decoder": Costs("500 to 1,000", "30 to 60", "1,000 to 2,000"),
}
# Run times of the published benchmark on the doubles, in hours (its supplementary table of resources).
PUBLISHED_HOURS = {"GEARS": 8_306 / 3600, "scGPT": 13_631 / 3600, "scFoundation": 250_557 / 3600}

DEEP = ("GEARS", "scGPT", "scFoundation", "Geneformer", "scBERT", "UCE", "CPA")
SIMPLE = ("additive", "no change", "mean", "linear model")
SCREENS = {
    "norman_from_scfoundation": "Norman, doubles",
    "adamson": "Adamson",
    "replogle_k562_essential": "Replogle K562",
    "replogle_rpe1_essential": "Replogle RPE1",
}


def claimed(table: dict[str, dict[str, float]], method: str, task: str) -> float:
    """Return a claim of Table 2 or 4 as a ratio to the claim for APP; NaN where there is none."""
    return table.get(method, {}).get(task, float("nan")) / TABLE_1[task]["APP"] if task in TABLE_1 else float("nan")


def claimed_damage() -> pd.DataFrame:
    """Return Table 4 as ratios to the claim for the whole network."""
    rows = [(task, method, claimed(TABLE_4, method, task)) for method, of in TABLE_4.items() for task in of]
    return pd.DataFrame(rows, columns=["task", "method", "ratio"])


def published_means(folder: Path | None) -> pd.DataFrame:
    """Read the mean L2 of each method in the published benchmark.

    Parameters
    ----------
    folder
        That of :func:`published_results`; None for no rows.

    Returns
    -------
    The columns ``screen``, ``method``, ``l2``, ``n`` and ``deep`` (whether it is a deep-learning model).

    Raises
    ------
    ValueError
        If the folder has no published results.
    """
    columns = ["screen", "method", "l2", "n", "deep"]
    if folder is None:
        return pd.DataFrame(columns=columns)
    found = published_results(folder, n_bootstrap=1)
    found = found[found["panel"].isin(["doubles", "unseen singles"]) & found["method"].isin([*DEEP, *SIMPLE])]
    found = found.assign(screen=found["dataset"].map(SCREENS), n=found["n_scores"], deep=found["method"].isin(DEEP))
    return found[columns].reset_index(drop=True)


def published_ratios(means: pd.DataFrame, screen: str, reference: str) -> pd.Series:
    """Compute L2 of the published methods on a screen relative to one of them, by method."""
    rows = means[means["screen"] == screen].set_index("method")["l2"]
    return rows / rows[reference] if reference in rows else rows.iloc[:0]


def published_best(means: pd.DataFrame, screen: str, reference: str) -> tuple[str, float] | None:
    """Return the best published deep-learning model on a screen, and its ratio; None where nothing is known."""
    deep = means[(means["screen"] == screen) & means["deep"].astype(bool)]["method"]
    ratios = published_ratios(means, screen, reference).reindex(list(deep)).dropna()
    return (str(ratios.idxmin()), float(ratios.min())) if len(ratios) else None
