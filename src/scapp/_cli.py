"""The command ``scapp``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scapp

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

DESCRIPTION = "Predict the effects of gene perturbations that have not been measured."
DEMO = """\
Run the whole workflow of scapp: effects from a screen, a network, training, predictions.
A fifth of the combinations and of the single perturbations is held out, predicted and scored.
Without --data, a screen is simulated. Nothing is downloaded."""
BENCHMARK = """\
Compare how well methods predict held-out effects: all baselines and APP, on your screen (--screen), on the measured
tasks (--data), or on a simulated screen. Nothing is downloaded. Prints which method won and by how much, and writes
scores.parquet and one figure. Existing predictions in the output folder are kept, unless something on which they
depend has changed."""


REPORT = """\
Write one page about a screen: what was read, controls, cells and efficacy of each perturbation, coverage of the
network, accuracy on held-out perturbations compared with baselines and noise ceilings, the strongest predictions
with their probabilities, interacting pairs, and what to measure next. The page also says which questions the data
cannot answer. Without --data, a screen is simulated. Nothing is downloaded."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of the process.

    Returns the exit status: 0, 1 if a method of the benchmark failed, or 2 for input that cannot be used.
    """
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        print(f"scapp: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("scapp", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"scapp {scapp.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help: str, description: str, run: Callable[[argparse.Namespace], int]) -> Any:
        formatter = argparse.RawDescriptionHelpFormatter
        added = commands.add_parser(name, help=help, description=description, formatter_class=formatter)
        added.set_defaults(run=run)
        return added

    demo = command("demo", "run the whole workflow on a simulated screen or on yours", DEMO, _demo)
    _add_screen(demo)
    add = demo.add_argument
    add("--seed", type=int, default=0, help="of simulation and hold-out (default: 0)")
    add("--output", type=Path, default=Path("scapp_demo"), metavar="FOLDER", help="default: scapp_demo")
    add("--overwrite", action="store_true", help="replace an existing folder")

    report = command("report", "one page about a screen, simulated or yours", REPORT, _report)
    _add_screen(report)
    add = report.add_argument
    add("--kind", help="interference, activation, knockout, or a column with it, to judge efficacy")
    add("--splits", type=int, default=2, metavar="N", help="number of held-out splits (2)")
    add("--seed", type=int, default=0, help="of simulation and hold-out (default: 0)")
    add("--output", type=Path, default=Path("scapp_report.html"), metavar="FILE", help="default: scapp_report.html")
    add("--overwrite", action="store_true", help="replace an existing file")

    _add_benchmark(command("benchmark", "compare methods on held-out effects", BENCHMARK, _benchmark))
    return parser


def _add_screen(parser: argparse.ArgumentParser) -> None:
    """Add the options for reading a screen of the user."""
    add = parser.add_argument_group("your own screen").add_argument
    add("--data", type=Path, metavar="FILE.h5ad", help="cells with controls, or effects")
    add("--network", type=Path, metavar="EDGES.tsv", help="table of edges: source, target, weight")
    add("--perturbation-key", default="perturbation", metavar="COLUMN", help="column of obs with the labels")
    add("--control", default="control", metavar="LABEL", help="label of control cells; 'none' for effects")
    add("--layer", metavar="LAYER", help="layer with the values; X if not given")
    add("--batch-key", metavar="COLUMN", help="compare cells with the controls of their batch")
    add("--sep", default="+", help="separator between the genes of a combination (default: +)")
    add("--gene-aliases", type=Path, metavar="FILE", help="table alias_symbol, symbol for renamed genes")


def _screen_options(args: argparse.Namespace) -> dict[str, Any]:
    control = None if args.control.lower() == "none" else args.control
    options = {"control": control, "aliases": args.gene_aliases}
    return options | {name: getattr(args, name) for name in ("perturbation_key", "layer", "batch_key", "sep")}


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("prediction tasks").add_argument
    add(
        "--data", type=Path, metavar="FOLDER",
        help="the measured tasks, from a folder of their files; with --screen only its networks are read",
    )  # fmt: skip
    add(
        "--screen", action="append", default=[], metavar="NAME=FILE.h5ad",
        help="cells of norman_2019, adamson_2016, replogle_2022_k562_essential, replogle_2022_rpe1, or under any name",
    )  # fmt: skip
    add("--tasks", "--task", dest="task", nargs="+", metavar="TASK", help="only these tasks; 'all' for all")
    add("--network", type=Path, metavar="EDGES.tsv", help="network for --screen; else that of --data")
    add("--gene-aliases", type=Path, metavar="FILE", help="table alias_symbol, symbol for --network")
    add("--batch-key", metavar="COLUMN", help="for --screen: compare cells with the controls of their batch")
    add(
        "--context-key", metavar="COLUMN",
        help="for --screen: also hold out each context in turn, such as cell lines",
    )  # fmt: skip
    add = parser.add_argument_group("who predicts").add_argument
    add(
        "--methods", nargs="+", metavar="NAME",
        help="methods, or groups: core, baseline, app, ablation (default: baseline APP)",
    )  # fmt: skip
    add(
        "--embedding", action="append", default=[], metavar="NAME=FILE[:FORMAT]",
        help="a linear decoder on frozen gene embeddings",
    )  # fmt: skip
    add(
        "--predictions", action="append", default=[], metavar="NAME[@TASK]=FILE", help="a method that was run elsewhere"
    )
    add = parser.add_argument_group("how").add_argument
    add("--seeds", type=int, nargs="+", metavar="N", help="only these splits")
    add("--jobs", type=int, default=1, metavar="N", help="number of parallel processes (default: 1)")
    add("--quick", action="store_true", help="one split and the core methods: under two minutes")
    add("--no-resume", action="store_true", help="repeat predictions that already exist")
    add("--no-progress", action="store_true", help="no progress bar")
    add("--report", action="store_true", help="only read, print and draw the scores in the folder")
    add("--list", action="store_true", help="list methods and tasks, and stop")
    add("--output", type=Path, default=Path("scapp_benchmark"), metavar="FOLDER", help="default: scapp_benchmark")


def _benchmark(args: argparse.Namespace) -> int:
    from scapp import benchmark

    return benchmark.main(args)


def _report(args: argparse.Namespace) -> int:
    if args.data is None and args.network is not None:
        raise ValueError("--network needs --data, because the simulation has its own network.")
    from rich.console import Console

    from scapp.report import make_report

    console = Console()
    begin = time.perf_counter()
    path = make_report(
        args.data, args.network, output=args.output, kind=args.kind, n_splits=args.splits, seed=args.seed,
        overwrite=args.overwrite, tell=console.print, **_screen_options(args),
    )  # fmt: skip
    console.print(f"Wrote {path} ({time.perf_counter() - begin:.0f} s in all)", soft_wrap=True)
    return 0


def _demo(args: argparse.Namespace) -> int:
    if (args.data is None) != (args.network is None):
        raise ValueError(
            "Pass --data and --network together: a screen needs a network, and the simulation has its own."
        )
    # Import Matplotlib, torch and scvi-tools only here, so that --help and wrong arguments are answered at once.
    import matplotlib as mpl
    from rich.console import Console

    from scapp import _demo as demo

    mpl.use("Agg")
    console = Console()
    begin = time.perf_counter()
    with demo.complete_folder(args.output, overwrite=args.overwrite) as folder:
        if args.data is None:
            screen = demo.simulated_screen(args.seed, console.print)
        else:
            screen = demo.screen_of(args.data, args.network, console.print, **_screen_options(args))
        console.print("Training on the other perturbations …")
        model, predicted, scores = demo.train_and_score(screen, seed=args.seed)
        _print_scores(console, scores)
        written = demo.write(folder, model, predicted, scores)
    console.print("`scapp report` makes a page about such a screen, with suggestions of what to measure next.")
    console.print(f"Wrote {', '.join(written)} into {args.output} ({time.perf_counter() - begin:.0f} s in all)")
    return 0


def _print_scores(console: Console, scores: pd.DataFrame) -> None:
    from rich.table import Table

    if not len(scores):
        console.print("Fewer than five perturbations of each kind: nothing was held out, so there is nothing to score.")
        return
    table = Table(title="Held-out perturbations, mean over perturbations")
    for name in ("held out", "n", "method", "L2 (less is better)", "Pearson delta (more is better)"):
        table.add_column(name, justify="left" if name in ("held out", "method") else "right")
    for kind, rows in scores.groupby("kind", sort=False):
        best = rows.groupby("method")["l2"].mean().idxmin()
        for method, part in rows.groupby("method", sort=False):
            style = "bold" if method == best else ""
            table.add_row(
                str(kind), str(part["perturbation"].nunique()), str(method), f"{part['l2'].mean():.2f}",
                f"{part['pearson_delta'].mean():.2f}", style=style,
            )  # fmt: skip
        table.add_section()
    console.print(table)
    console.print(f"L2 is the distance between predicted and observed log-fold-changes over {scores.attrs['genes']}.")


if __name__ == "__main__":
    sys.exit(main())
