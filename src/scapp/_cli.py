"""The command ``scapp``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scapp

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

DESCRIPTION = "Predict the effects of gene perturbations that nobody has measured."
DEMO = """\
Run scapp's main job from beginning to end: effects from a screen, a network, training, predictions.
A fifth of the combinations and of the single perturbations is held out, predicted and scored.
Without --data a screen is simulated; nothing is downloaded."""
BENCHMARK = """\
Judge methods by how well they predict effects that were held out: all baselines and APP, on your screen (--screen),
on the measured tasks (--data), or on a simulated screen; nothing is downloaded. Prints who won and by how much, and
writes scores.parquet and one figure. Predictions that are in the output folder already are kept, if nothing that they
depend on has changed."""


REPORT = """\
Write one page about a screen: what was read, controls, cells and efficacy of each perturbation, the coverage of the
network, accuracy on held-out perturbations beside baselines and noise ceilings, the strongest predictions with their
probabilities, pairs that interact, and what to measure next. What the data do not allow is said on the page.
Without --data a screen is simulated; nothing is downloaded."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, the arguments of the process if None.

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
    demo = commands.add_parser(
        "demo", help="the whole way on a simulated screen or on yours", description=DEMO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_screen(demo)
    demo.add_argument("--seed", type=int, default=0, help="of simulation and hold-out (default: 0)")
    demo.add_argument("--output", type=Path, default=Path("scapp_demo"), metavar="FOLDER", help="default: scapp_demo")
    demo.add_argument("--overwrite", action="store_true", help="replace the folder if it is there")
    demo.set_defaults(run=_demo)
    _add_report(commands)
    _add_benchmark(commands)
    return parser


def _add_screen(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a screen of the user is read."""
    yours = parser.add_argument_group("your own screen")
    yours.add_argument("--data", type=Path, metavar="FILE.h5ad", help="cells with controls, or effects")
    yours.add_argument("--network", type=Path, metavar="EDGES.tsv", help="table of edges: source, target, weight")
    yours.add_argument(
        "--perturbation-key", default="perturbation", metavar="COLUMN", help="column of obs with the labels"
    )
    yours.add_argument(
        "--control", default="control", metavar="LABEL", help="label of control cells; 'none' for effects"
    )
    yours.add_argument("--layer", metavar="LAYER", help="layer with the values; X if not given")
    yours.add_argument("--batch-key", metavar="COLUMN", help="compare cells with the controls of their batch")
    yours.add_argument("--sep", default="+", help="what joins the genes of a combination (default: +)")
    yours.add_argument("--gene-aliases", type=Path, metavar="FILE", help="table alias_symbol, symbol for renamed genes")


def _add_report(commands: Any) -> None:
    parser = commands.add_parser(
        "report", help="one page about a screen, simulated or yours", description=REPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_screen(parser)
    parser.add_argument("--kind", help="interference, activation, knockout, or a column with it, to judge efficacy")
    parser.add_argument("--splits", type=int, default=2, metavar="N", help="how often perturbations are held out (2)")
    parser.add_argument("--seed", type=int, default=0, help="of simulation and hold-out (default: 0)")
    parser.add_argument(
        "--output", type=Path, default=Path("scapp_report.html"), metavar="FILE", help="default: scapp_report.html"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.set_defaults(run=_report)


def _add_benchmark(commands: Any) -> None:
    parser = commands.add_parser(
        "benchmark", help="methods side by side on effects that were held out", description=BENCHMARK,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    what = parser.add_argument_group("what is predicted")
    what.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="the measured tasks, from a folder of their files; with --screen only its networks are read",
    )
    what.add_argument(
        "--screen", action="append", default=[], metavar="NAME=FILE.h5ad",
        help="cells of norman_2019, adamson_2016, replogle_2022_k562_essential, replogle_2022_rpe1, or under any name",
    )  # fmt: skip
    what.add_argument(
        "--tasks", "--task", dest="task", nargs="+", metavar="TASK", help="only these tasks; 'all' for all"
    )
    what.add_argument("--network", type=Path, metavar="EDGES.tsv", help="network for --screen; else that of --data")
    what.add_argument("--gene-aliases", type=Path, metavar="FILE", help="table alias_symbol, symbol for --network")
    what.add_argument(
        "--batch-key", metavar="COLUMN", help="of --screen: compare cells with the controls of their batch"
    )
    what.add_argument(
        "--context-key",
        metavar="COLUMN",
        help="of --screen: hold out one context after the other too, such as cell lines",
    )
    who = parser.add_argument_group("who predicts")
    who.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="methods, or groups: core, baseline, app, ablation (default: baseline APP)",
    )
    who.add_argument(
        "--embedding", action="append", default=[], metavar="NAME=FILE[:FORMAT]",
        help="a linear decoder on frozen gene embeddings",
    )  # fmt: skip
    who.add_argument(
        "--predictions", action="append", default=[], metavar="NAME[@TASK]=FILE", help="a method that was run elsewhere"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--seeds", type=int, nargs="+", metavar="N", help="only these splits")
    how.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time (default: 1)")
    how.add_argument("--quick", action="store_true", help="one split and the core methods: under two minutes")
    how.add_argument("--no-resume", action="store_true", help="make predictions anew that are there already")
    how.add_argument("--no-progress", action="store_true", help="no progress bar")
    how.add_argument(
        "--report", action="store_true", help="only read the scores of the folder, print and draw them anew"
    )
    how.add_argument("--list", action="store_true", help="list methods and tasks, and stop")
    how.add_argument(
        "--output", type=Path, default=Path("scapp_benchmark"), metavar="FOLDER", help="default: scapp_benchmark"
    )
    parser.set_defaults(run=_benchmark)


def _benchmark(args: argparse.Namespace) -> int:
    from scapp import benchmark

    return benchmark.main(args)


def _report(args: argparse.Namespace) -> int:
    if args.data is None and args.network is not None:
        raise ValueError("--network belongs to --data: the simulation brings its own.")
    from rich.console import Console

    from scapp.report import make_report

    console = Console()
    begin = time.perf_counter()
    path = make_report(
        args.data, args.network, output=args.output, perturbation_key=args.perturbation_key,
        control=None if args.control.lower() == "none" else args.control, layer=args.layer, batch_key=args.batch_key,
        sep=args.sep, aliases=args.gene_aliases, kind=args.kind, n_splits=args.splits, seed=args.seed,
        overwrite=args.overwrite, tell=console.print,
    )  # fmt: skip
    console.print(f"Wrote {path} ({time.perf_counter() - begin:.0f} s in all)", soft_wrap=True)
    return 0


def _demo(args: argparse.Namespace) -> int:
    if (args.data is None) != (args.network is None):
        raise ValueError(
            "--data and --network belong together: a screen needs a network, and the simulation brings its own."
        )
    # Matplotlib, torch and scvi-tools load only now, so that --help and wrong arguments are answered at once.
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
            control = None if args.control.lower() == "none" else args.control
            screen = demo.screen_of(
                args.data, args.network, console.print, perturbation_key=args.perturbation_key, control=control,
                layer=args.layer, batch_key=args.batch_key, sep=args.sep, aliases=args.gene_aliases,
            )  # fmt: skip
        console.print("Training on the perturbations that are not held out …")
        model, predicted, scores = demo.train_and_score(screen, seed=args.seed)
        _print_scores(console, scores)
        written = demo.write(folder, model, predicted, scores)
    console.print("`scapp report` makes one page of such a screen, with what to measure next.")
    console.print(f"Wrote {', '.join(written)} into {args.output} ({time.perf_counter() - begin:.0f} s in all)")
    return 0


def _print_scores(console: Console, scores: pd.DataFrame) -> None:
    from rich.table import Table

    if not len(scores):
        console.print("Fewer than five perturbations of each kind: nothing was held out, so there is nothing to score.")
        return
    table = Table(title="Held-out perturbations, mean over perturbations")
    table.add_column("held out")
    table.add_column("n", justify="right")
    table.add_column("method")
    table.add_column("L2 (less is better)", justify="right")
    table.add_column("Pearson delta (more is better)", justify="right")
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
