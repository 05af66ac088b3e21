"""The command ``scapp benchmark``: run methods on tasks, score them, and say which won and by how much."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from scapp.benchmark import _screens
from scapp.benchmark._measured import MEASURED, measured, string_and_annotations
from scapp.benchmark._methods import CORE, Method, choose, embedding_method, methods, predictions_method
from scapp.benchmark._run import PREDICTIONS, RUN, run
from scapp.benchmark._scores import read_results, score
from scapp.benchmark._statistics import ceilings, paired, summarise, verdict
from scapp.benchmark._task import Task
from scapp.datasets import labelled_cells

ALL = "all"
FIGURE = "ratios.png"
# The methods that are compared by default.
DEFAULT = ("baseline", "APP")
N_COLUMNS = 3


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; return 0, or 1 if a method failed."""
    import matplotlib as mpl

    mpl.use("Agg")
    console = Console(highlight=False)
    if args.report:
        conclude(console, args.output)
        return 0
    screens = [_pair(text, "--screen") for text in args.screen]
    embeddings = [_pair(text, "--embedding") for text in args.embedding]
    files = [_pair(text, "--predictions") for text in args.predictions]
    choose(args.methods, quick=args.quick)  # report a misspelt name before anything is read
    begin = time.perf_counter()
    tasks = _tasks(args, screens)
    tasks = tasks if ALL in (args.task or []) else _chosen(tasks, args.task, others=args.data is not None)
    if args.list:
        _list(console, tasks)
        return 0
    for task in tasks:
        console.print(str(task), soft_wrap=True)
    failures = run(
        tasks, _methods(args, embeddings, files, tasks), folder=args.output, seeds=args.seeds, n_jobs=args.jobs,
        resume=not args.no_resume, progress_bar=not args.no_progress, quick=args.quick,
    )  # fmt: skip
    scored = [task for task in tasks if any((args.output / PREDICTIONS / task.name).glob("*/*.npz"))]
    if scored:
        score(scored, args.output)
        conclude(console, args.output, [task.name for task in scored])
    console.print(f"Everything is in {args.output} ({time.perf_counter() - begin:.0f} s).")
    if failures:
        console.print(f"{len(failures)} fit(s) failed; see above. Repeat the command to try them again.", style="red")
    return 1 if failures else 0


def conclude(console: Console, folder: Path, tasks: Sequence[str] | None = None) -> None:
    """Print a table and a verdict for each task of a folder, and draw its figure."""
    scores = read_results(folder)
    path = folder / RUN
    known = json.loads(path.read_text(encoding="utf-8"))["tasks"] if path.is_file() else {}
    names = [name for name in dict.fromkeys(scores["task"]) if tasks is None or name in tasks]
    ratios = []
    for name in names:
        rows, about = scores[scores["task"] == name], known.get(name, {})
        _print_table(console, rows, about.get("title", name), about.get("reference"))
        for sentence in verdict(rows):
            console.print(sentence)
        means = summarise(rows, n_draws=1).set_index("method")
        baselines = means.loc[means["group"] == "baseline", "mean"]
        if "APP" in means.index and len(baselines):
            ratios.append(float(means.loc["APP", "mean"] / baselines.min()))
    compared = np.array(ratios)
    if len(compared) > 1:
        mean = np.exp(np.log(compared).mean())
        console.print(
            f"Over {len(compared)} tasks the L2 of APP is {mean:.3f} of that of the best baseline of each, chosen in "
            f"hindsight (geometric mean; best {compared.min():.3f}, worst {compared.max():.3f}).",
        )
    _draw(scores[scores["task"].isin(names)], known, folder / FIGURE)
    console.print(f"Wrote {folder / FIGURE}", soft_wrap=True)


def _print_table(console: Console, rows: pd.DataFrame, title: str, reference: str | None) -> None:
    """Print the mean L2 of each method, its ratio to the reference, and a comparison with the winner in words."""
    if reference not in set(rows.loc[rows["metric"] == "l2", "method"]):
        reference = None
    summary = summarise(rows, reference=reference, n_draws=1)
    winner = summary["method"].iloc[0]
    words = {winner: "the best"}
    if len(summary) > 1:
        for row in paired(rows, methods=list(summary["method"]), against=winner).itertuples():
            share = f"{100 * abs(row.ratio - 1):.1f} %"
            words[row.method] = "not clear" if row.verdict == "unclear" else f"{share} {row.verdict}"
    n_splits = sorted(set(summary["n_seeds"]))
    of = f" of {n_splits[0]} splits" if len(n_splits) == 1 and n_splits[0] > 1 else ""
    table = Table(title=f"{title}: mean L2 over held-out perturbations{of}")
    table.add_column("method")
    table.add_column("L2", justify="right")
    table.add_column(f"ratio to {reference}" if reference else "", justify="right", no_wrap=True)
    table.add_column("beside the best")
    for column in ("kept", "changed", *(["splits"] if len(n_splits) > 1 else [])):
        table.add_column(column, justify="right")
    auprc = {}
    if (rows["metric"] == "changed_auprc").any():
        auprc = summarise(rows, metric="changed_auprc", n_draws=1).set_index("method")["mean"].to_dict()
    for row in summary.itertuples():
        ratio = "" if reference is None else _digits(row.ratio, 3)
        kept, changed = _digits(row.kept_spread, 2), _digits(auprc.get(row.method, np.nan), 2)
        cells = [row.method, f"{row.mean:.3f}", ratio, words.get(row.method, ""), kept, changed, str(row.n_seeds)]
        table.add_row(*cells[: len(table.columns)], style="bold" if row.method == winner else "")
    console.print(table)
    for sentence in _explain_columns(rows):
        console.print(sentence)


def _digits(value: float, n: int) -> str:
    return f"{value:.{n}f}" if np.isfinite(value) else ""


def _explain_columns(rows: pd.DataFrame) -> list[str]:
    """Explain the columns other than L2 that the table has, and what to compare them with."""
    means = rows.groupby("metric")["value"].mean()
    truth, guessed = means.get("ceiling_kept_spread", np.nan), means.get("changed_share", np.nan)
    said = []
    if "kept_spread" in means:
        best = f"; the truth without its noise would keep {truth:.2f}" if np.isfinite(truth) else ""
        said.append(f"Kept: share of the measured spread between perturbations; 0 if all are predicted alike{best}.")
    if np.isfinite(guessed):
        said.append(f"Changed: area under the precision-recall curve of changed genes; guessing has {guessed:.2f}.")
    return said


def _draw(scores: pd.DataFrame, known: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the ratios of all methods, with a panel for each task that has its reference."""
    from matplotlib.figure import Figure

    from scapp import pl

    l2 = scores[scores["metric"] == "l2"]
    methods = {str(task): set(rows["method"]) for task, rows in l2.groupby("task", sort=False)}
    # Relative to the reference of the task, or to any method if that failed.
    references = {task: known.get(task, {}).get("reference") for task in methods}
    references = {task: of if of in methods[task] else sorted(methods[task])[0] for task, of in references.items()}
    n_columns = min(N_COLUMNS, len(references))
    n_rows = -(-len(references) // n_columns)
    height = 1.2 + 0.19 * max(map(len, methods.values()))
    figure = Figure(figsize=(4.2 * n_columns, height * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for (task, reference), ax in zip(references.items(), panels, strict=False):
        rows = scores[scores["task"] == task]
        title = str(known.get(task, {}).get("title", task)).replace(" (", "\n(")
        summary = summarise(rows, reference=reference)
        pl.benchmark_ratios(summary, ceiling=ceilings(rows), title=title, legend=False, ax=ax, show=False)
    for ax in panels[len(references) :]:
        ax.remove()
    figure.savefig(path, dpi=160)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise ValueError(f"{option} expects NAME=FILE, found {text!r}.")
    return name.strip(), value.strip()


def _tasks(args: argparse.Namespace, screens: Sequence[tuple[str, str]]) -> list[Task]:
    tasks: list[Task] = []
    if args.data is not None:
        if not args.data.is_dir():
            raise FileNotFoundError(
                f"There is no folder {str(args.data)!r}. Name the folder of the benchmark's data with --data."
            )
        # Reading a task takes seconds: only those that were asked for are read.
        every = args.task is None and not screens or ALL in (args.task or [])
        tasks += measured(args.data, [name for name in MEASURED if every or name in (args.task or [])])
    options: _screens.ReadingOptions = {"batch_key": args.batch_key} if args.batch_key else {}
    if args.network is not None:
        options |= {"network": args.network, "aliases": args.gene_aliases}
    elif args.data is not None and screens:
        options["sources"] = string_and_annotations(args.data / "networks")
    if args.context_key and not screens:
        raise ValueError("--context-key works only with --screen. Leave it out, or add --screen.")
    for name, path in screens:
        tasks += _screens.screen(name, path, **options)
        if args.context_key:
            called = {"name": f"{name}_unseen_contexts", "title": f"Unseen contexts, {name}"}
            cells = labelled_cells(path)
            tasks.append(_screens.unseen_contexts(cells, context_key=args.context_key, **options, **called))
    if args.data is None and not screens:
        tasks += _screens.simulated()
    return tasks


def _chosen(tasks: list[Task], asked: Sequence[str] | None, *, others: bool = False) -> list[Task]:
    """Return the tasks with given names; with `others`, the error also names measured tasks that were not read."""
    names = [*dict.fromkeys([*(MEASURED if others else []), *(task.name for task in tasks)])]
    unknown = sorted(set(asked or []) - set(names))
    if unknown:
        raise ValueError(f"There is no task {', '.join(unknown)}; there are {', '.join(names) or 'none'}.")
    return [task for task in tasks if asked is None or task.name in asked]


def _methods(
    args: argparse.Namespace,
    embeddings: Sequence[tuple[str, str]],
    files: Sequence[tuple[str, str]],
    tasks: Sequence[Task],
) -> list[str | Method]:
    # The reference method costs almost nothing, and a table without it says little.
    given: list[str | Method] = [*dict.fromkeys(task.reference for task in tasks)]
    given += args.methods or (CORE if args.quick else DEFAULT)
    for name, value in embeddings:
        path, _, form = value.rpartition(":")
        # A colon may belong to the path, as in C:\embeddings.csv.
        if not path or Path(value).exists() or "/" in form or "\\" in form:
            path, form = value, ""
        given.append(embedding_method(name, path, format=form or None))
    for name, path in files:
        name, at, of = name.partition("@")
        if not at and len(tasks) > 1:
            raise ValueError(
                f"The predictions {name!r} are for one task, but there are {len(tasks)}. Name the task: "
                f"--predictions {name}@{tasks[0].name}={path}"
            )
        method = predictions_method(name, path, task=_chosen(list(tasks), [of] if at else None)[0].name)
        # Read the file before anything is fitted, so that problems with it are reported at once.
        for task in (task for task in tasks if method.applies(task)):
            splits = [split for split in task.splits if args.seeds is None or split.seed in args.seeds]
            for split in splits[:1] if args.quick else splits:
                method.predict(task, split)
        given.append(method)
    return given


def _list(console: Console, tasks: Sequence[Task]) -> None:
    table = Table("method", "group", "options")
    for row in methods().itertuples(index=False):
        table.add_row(*row)
    console.print(table)
    for task in tasks:
        console.print(f"{task} ({task.title})")
