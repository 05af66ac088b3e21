"""Measure what the page needs, and write it.

python -m benchmarks.paper run --data ../shared/data --jobs 2 --output results
python -m benchmarks.paper page results --published ../shared/data/published
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper.gears import gears_method
from benchmarks.paper.methods import page_methods
from benchmarks.paper.page import write_page

from scapp import benchmark

TASKS = ("norman_doubles", "k562_singles")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m benchmarks.paper``; the status is 1 if a fit failed, and 2 for input that cannot be used."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="fit all methods of the page to the tasks of the paper")
    run.add_argument("--data", type=Path, metavar="FOLDER", help="folder of the measured tasks")
    run.add_argument("--tasks", nargs="+", default=TASKS, metavar="TASK", help=f"default: {' '.join(TASKS)}")
    run.add_argument("--gears", metavar="PYTHON", help="run GEARS on --cells, with the Python of its environment")
    run.add_argument("--cells", metavar="NAME=FILE.h5ad", help="screen of cells whose tasks GEARS takes part in")
    run.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time (default: 1)")
    run.add_argument("--quick", action="store_true", help="only the first split of each task")
    run.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER", help="default: results")
    run.set_defaults(run=_run)
    page = commands.add_parser("page", help="write the page of a folder of results")
    page.add_argument("results", type=Path, metavar="RESULTS", help="folder that the command run wrote")
    page.add_argument("--output", type=Path, metavar="FILE", help="default: RESULTS/page.md")
    page.add_argument("--published", type=Path, metavar="FOLDER", help="source data of the published benchmark")
    page.set_defaults(run=_page)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        parser.exit(2, f"scapp: {error}\n")


def _run(args: argparse.Namespace) -> int:
    tasks = benchmark.measured(args.data, args.tasks) if args.data is not None else []
    methods = page_methods()
    if (args.gears is None) != (args.cells is None):
        raise ValueError("--gears and --cells belong together: GEARS is trained on cells.")
    if args.gears is not None:
        name, _, path = args.cells.partition("=")
        tasks += benchmark.screen(name, path)
        methods.append(gears_method({name: path}, python=args.gears))
    failed = benchmark.run(tasks, methods, folder=args.output, n_jobs=args.jobs, quick=args.quick)
    benchmark.score(tasks, args.output)
    return 1 if failed else 0


def _page(args: argparse.Namespace) -> int:
    for path in write_page(args.results, args.output or args.results / "page.md", args.published):
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
