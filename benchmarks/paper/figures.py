"""The pictures of a folder of results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from benchmarks.paper import plots
from benchmarks.paper.folder import APP, PAPER, ResultsFolder
from matplotlib.figure import Figure

from scapp import pl
from scapp.benchmark import by_stratum, calibration, ceilings, paired, summarise

SIMPLE = ("baseline",)


@dataclass(frozen=True)
class Picture:
    """Hold a picture with its caption, and the same in words for those who do not see it."""

    name: str
    caption: str
    alt: str
    figure: Figure


def pictures(folder: ResultsFolder, *, claimed_damage: pd.DataFrame | None = None) -> Iterator[Picture]:
    """Draw all pictures for which a folder has the numbers."""
    yield headline(folder)
    for task in folder.tasks:
        yield ratios(folder, task)
        yield test_sets(folder, task)
    yield from scatter(folder)
    yield from coverage(folder)
    yield from attention(folder)
    yield from network_damage(folder, claimed_damage)


def headline(folder: ResultsFolder) -> Picture:
    """Draw APP beside the simple models, a panel for each task."""
    figure = Figure(figsize=(7.0, 3.0), layout="constrained")
    panels = figure.subplots(1, len(folder.tasks), squeeze=False, gridspec_kw={"wspace": 0.08})[0]
    words = []
    for task, ax in zip(folder.tasks, panels, strict=True):
        rows = folder.of(task)
        shown = [*folder.in_groups(task, *SIMPLE), APP, PAPER]
        summary = summarise(rows[rows["method"].isin(shown)], reference=folder.references[task])
        pl.benchmark_ratios(summary, title=_narrow(folder.title(task)), legend=False, ax=ax, show=False)
        words.append(f"{folder.title(task)}: {_in_words(summary)}")
    return Picture(
        "headline",
        "Mean L2 distance over held-out perturbations relative to a simple model, with 95 % intervals over perturbations.",
        " ".join(words),
        figure,
    )


def ratios(folder: ResultsFolder, task: str) -> Picture:
    """Draw every method of a task."""
    reference = folder.references[task]
    summary = summarise(folder.of(task), reference=reference)
    figure = Figure(figsize=(5.6, 1.2 + 0.19 * len(summary)), layout="constrained")
    pl.benchmark_ratios(
        summary, ceiling=ceilings(folder.of(task)), title=folder.title(task), ax=figure.subplots(), show=False
    )
    return Picture(
        f"ratios_{task}",
        f"{folder.title(task)}: every method, L2 relative to {reference}, with 95 % intervals over perturbations.",
        _in_words(summary),
        figure,
    )


def test_sets(folder: ResultsFolder, task: str) -> Picture:
    """Draw the paper's Figure 3: APP and the strongest others in each split and stratum."""
    reference = folder.references[task]
    summary = summarise(folder.of(task), reference=reference, n_draws=1)
    others = summary[(summary["group"].isin([*SIMPLE, "embedding", "external"])) & (summary["method"] != reference)]
    methods = [m for m in (APP, PAPER) if m in set(summary["method"])] + list(others["method"][:3])
    figure = Figure(figsize=(7.0, 3.0), layout="constrained")
    strata = by_stratum(folder.of(task)[folder.of(task)["method"].isin([*methods, reference])], reference=reference)
    if strata.empty:  # one split, and nothing to divide it by
        strata = summarise(folder.of(task), reference=reference).assign(kind="split", stratum="all")
    plots.by_test_set(strata, methods=methods, title=folder.title(task), ax=figure.subplots())
    of_app = strata[strata["method"] == (APP if APP in methods else methods[0])]
    words = ", ".join(
        f"{k} {s}: {r:.3f}" for k, s, r in zip(of_app["kind"], of_app["stratum"], of_app["ratio"], strict=True)
    )
    return Picture(
        f"test_sets_{task}",
        f"{folder.title(task)}: L2 relative to {reference} in each split, third of effect sizes and number of genes seen "
        "alone in training, as far as there are several; with 95 % intervals over perturbations.",
        f"Ratio of {methods[0]} to {reference}. {words}.",
        figure,
    )


def scatter(folder: ResultsFolder) -> Iterator[Picture]:
    """Draw APP against the reference and the strongest simple model of each task."""
    pairs = []
    for task in folder.tasks:
        if APP not in folder.methods(task):
            continue
        summary = summarise(folder.of(task), n_draws=1)
        simple = summary[summary["group"].isin(SIMPLE)]["method"]
        pairs += [(task, other) for other in dict.fromkeys([folder.references[task], *simple[:1]])]
    if not pairs:
        return
    figure = Figure(figsize=(3.2 * min(len(pairs), 2), 3.7 * ((len(pairs) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(pairs) + 1) // 2, min(len(pairs), 2), squeeze=False).ravel()
    words = []
    for (task, other), ax in zip(pairs, panels, strict=False):
        plots.scatter(folder.of(task), APP, against=other, title=_narrow(folder.title(task)), ax=ax)
        share = paired(folder.of(task), methods=[APP], against=other, n_draws=1)["win_rate"].iloc[0]
        words.append(f"{folder.title(task)}: {APP} is better than {other} on {100 * share:.0f} %.")
    for ax in panels[len(pairs) :]:
        ax.remove()
    caption = "Each held-out perturbation in each split; below the line APP is closer to the observation (blue)."
    yield Picture("scatter", caption, " ".join(words), figure)


def coverage(folder: ResultsFolder) -> Iterator[Picture]:
    """Draw the calibration of the default model."""
    table = calibration(folder.scores)
    rows = table[(table["method"] == APP) & (table["n_largest"] == 0)]
    if rows.empty:
        return
    figure = Figure(figsize=(3.5, 3.5), layout="constrained")
    titles = {task: folder.short(task) for task in folder.tasks}
    plots.calibration(table, labels=titles, ax=figure.subplots())
    words = [
        f"{folder.title(row.task)}: {100 * row.nominal:.0f} % intervals hold {100 * row.empirical:.0f} %."
        for row in rows.itertuples()
    ]
    caption = "Observed values inside the intervals that the default predicts, with 95 % intervals over perturbations."
    yield Picture("calibration", caption, " ".join(words), figure)


def attention(folder: ResultsFolder) -> Iterator[Picture]:
    """Draw the paper's Figure 2."""
    attended = folder.attended()
    if attended.empty:
        return
    panels = attended["panel"].nunique()
    figure = Figure(figsize=(2.4 * panels, 2.8), layout="constrained")
    plots.attention(attended, ax=list(figure.subplots(1, panels, squeeze=False)[0]))
    words = [f"{name}: {', '.join(rows['gene'][:5])}." for name, rows in attended.groupby("perturbation", sort=False)]
    caption = (
        "The ten genes that a prediction attends to most, for the perturbation of each kind with the largest observed "
        "effect in the first split (a single may be one that was trained on). Perturbed genes are red. Attention is what the model reads, not evidence of regulation."
    )
    yield Picture("attention", caption, " ".join(words), figure)


def damage_table(folder: ResultsFolder) -> pd.DataFrame:
    """Compare each damaged network with the whole one, over all tasks."""
    tables = []
    for task in folder.tasks:
        rows = folder.of(task)
        damaged = folder.in_groups(task, "network")
        if damaged and APP in folder.methods(task):
            tables.append(paired(rows, methods=damaged, against=APP))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def network_damage(folder: ResultsFolder, claimed: pd.DataFrame | None = None) -> Iterator[Picture]:
    """Draw Table 4."""
    table = damage_table(folder)
    if table.empty:
        return
    figure = Figure(figsize=(6.0, 3.2), layout="constrained")
    titles = {task: folder.short(task) for task in folder.tasks}
    plots.network_damage(table, labels=titles, claimed=claimed, ax=figure.subplots())
    words = [f"{folder.title(row.task)}, {row.method}: {row.ratio:.3f}." for row in table.itertuples()]
    caption = (
        "L2 with a damaged network relative to that with the whole network, with 95 % intervals over perturbations."
    )
    yield Picture("network_damage", caption, " ".join(words), figure)


def _narrow(title: str) -> str:
    """Put what stands in brackets on a line of its own, for half a page's width."""
    return title.replace(" (", "\n(", 1)


def _in_words(summary: pd.DataFrame) -> str:
    reference = summary["reference"].iloc[0]
    parts = [f"{method} {ratio:.3f}" for method, ratio in zip(summary["method"], summary["ratio"], strict=True)]
    return f"relative to {reference}, {', '.join(parts)}."
