"""What ``scapp benchmark`` does: run methods on tasks, score them, and show who is ahead."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ALL = "all"

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from scapp.benchmark._method import Method
    from scapp.benchmark._task import Task


def main(args: argparse.Namespace) -> int:
    """Run the subcommand.

    Returns
    -------
    0, or 1 if a method failed.
    """
    # Imported here, so that --help and wrong arguments are answered at once.
    import matplotlib as mpl
    from rich.console import Console

    from scapp import benchmark
    from scapp.benchmark._methods import choose

    mpl.use("Agg")
    console = Console()
    if args.report:
        _write_report(console, args.output)
        return 0
    screens, embeddings = (
        [_pair(text, "--screen") for text in args.screen],
        [_pair(e, "--embedding") for e in args.embedding],
    )
    files = [_pair(text, "--predictions") for text in args.predictions]
    choose(args.methods, quick=args.quick)  # a misspelt name is told before anything is read
    begin = time.perf_counter()
    tasks = _tasks(args, screens)
    tasks = tasks if ALL in (args.task or []) else _chosen(tasks, args.task, others=args.data is not None)
    if args.list:
        _list(console, tasks)
        return 0
    for task in tasks:
        console.print(str(task), highlight=False, soft_wrap=True)
    methods = _methods(args, embeddings, files, tasks)
    if args.gears is not None:
        if not screens:
            raise ValueError("--gears needs cells: name a screen with --screen NAME=FILE.h5ad.")
        methods.append(benchmark.gears_method(dict(screens), python=args.gears))
    failures = benchmark.run(
        tasks, methods, folder=args.output, seeds=args.seeds, jobs=args.jobs, resume=not args.no_resume,
        progress=not args.no_progress, quick=args.quick,
    )  # fmt: skip
    scored = [task for task in tasks if any((args.output / "predictions" / task.name).glob("*/*.npz"))]
    if scored:
        scores = benchmark.score(scored, args.output)
        for task in scored:
            _print_ratios(console, scores, task)
        try:
            _write_report(console, args.output)
        except ValueError as error:  # too little was run for a report; the predictions and scores are there
            console.print(f"No report: {error}", style="yellow", markup=False)
    console.print(f"All of it is in {args.output} ({time.perf_counter() - begin:.0f} s in all)", highlight=False)
    if failures:
        console.print(f"{len(failures)} fit(s) failed, as said above. The same command tries them again.", style="red")
    return 1 if failures else 0


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise ValueError(f"{option} expects NAME=FILE, found {text!r}.")
    return name.strip(), value.strip()


def _tasks(args: argparse.Namespace, screens: Sequence[tuple[str, str]]) -> list[Task]:
    from scapp import benchmark
    from scapp.benchmark._measured import FIRST, MEASURED, string_and_annotations
    from scapp.benchmark._screen import ReadingOptions
    from scapp.benchmark._screens import simulated

    tasks: list[Task] = []
    if args.data is not None:
        if not args.data.is_dir():
            raise FileNotFoundError(
                f"There is no folder {str(args.data)!r}. Name that of the benchmark's data with --data."
            )
        # Reading a task takes seconds: those that were not asked are left.
        asked = FIRST if args.task is None else MEASURED if ALL in args.task else args.task
        tasks += benchmark.measured(args.data, [name for name in MEASURED if name in asked])
    options: ReadingOptions = {"batch_key": args.batch_key} if args.batch_key else {}
    if args.network is not None:
        options |= {"network": args.network, "aliases": args.gene_aliases}
    elif args.data is not None and screens:
        options["sources"] = string_and_annotations(args.data / "networks")
    for name, path in screens:
        tasks += benchmark.screen(name, path, **options)
    if args.data is None and not screens:
        tasks += simulated()
    return tasks


def _chosen(tasks: list[Task], asked: Sequence[str] | None, *, others: bool = False) -> list[Task]:
    """The tasks of some names; with `others` a message names the measured tasks beside those that were read."""
    from scapp.benchmark._measured import MEASURED

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
    from scapp.benchmark._methods import choose, embedding_method, predictions_method

    # What ratios are stated to costs next to nothing, and a table without it says little.
    given: list[str | Method] = [*dict.fromkeys(task.reference for task in tasks)]
    given += args.methods or choose(None, quick=args.quick)
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
                f"The predictions {name!r} are of one task, and there are {len(tasks)}. Say which: "
                f"--predictions {name}@{tasks[0].name}={path}"
            )
        method = predictions_method(name, path, task=_chosen(list(tasks), [of] if at else None)[0].name)
        _refuse_unfit(method, tasks, args)
        given.append(method)
    return given


def _refuse_unfit(method: Method, tasks: Sequence[Task], args: argparse.Namespace) -> None:
    """Read a file of predictions once before anything is fitted, so that what is wrong with it is told at once."""
    for task in tasks:
        if method.applies(task):
            splits = [split for split in task.splits if args.seeds is None or split.seed in args.seeds]
            for split in splits[:1] if args.quick else splits:
                method.predict(task, split)


def _list(console: Console, tasks: Sequence[Task]) -> None:
    from rich.table import Table

    from scapp import benchmark

    table = Table("method", "group", "options")
    for row in benchmark.methods().itertuples(index=False):
        table.add_row(*row)
    console.print(table)
    for task in tasks:
        console.print(f"{task} ({task.title})", highlight=False)


def _print_ratios(console: Console, scores: pd.DataFrame, task: Task) -> None:
    """Mean L2 of each method and its ratio to the reference, over the splits that both have."""
    from rich.table import Table

    rows = scores[(scores["task"] == task.name) & (scores["metric"] == "l2")]
    by_split = rows.groupby(["method", "seed"], sort=False)["value"].mean().unstack("seed")
    table = Table(title=f"{task.title}: mean L2 over held-out perturbations")
    table.add_column("method")
    for column in ("L2", f"ratio to {task.reference}", "splits"):
        table.add_column(column, justify="right")
    reference = by_split.loc[task.reference] if task.reference in by_split.index else None
    best = by_split.mean(axis=1).idxmin()
    for method, values in by_split.iterrows():
        ratio = ""
        if reference is not None:
            both = values.notna() & reference.notna()
            ratio = f"{values[both].mean() / reference[both].mean():.3f}" if both.any() else ""
        style = "bold" if method == best else ""
        table.add_row(str(method), f"{values.mean():.3f}", ratio, str(int(values.notna().sum())), style=style)
    console.print(table)


def _write_report(console: Console, folder: Path) -> None:
    from scapp import benchmark

    for path in benchmark.report(folder):
        if path.parent == folder:
            console.print(f"Wrote {path}", highlight=False, soft_wrap=True)
