"""Running methods on tasks: one unit a task, method and seed; in several processes, and going on where it stopped."""

from __future__ import annotations

import contextlib
import datetime
import gc
import io
import logging
import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scapp.benchmark._files import RUN, changed, slug, unit_key, unit_path, versions, write_json, write_unit
from scapp.benchmark._method import Method
from scapp.benchmark._methods import choose
from scapp.benchmark._task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A unit that failed, and how.

    Parameters
    ----------
    task, method, seed
        The unit.
    error
        Type and message.
    traceback
        Where it happened.
    """

    task: str
    method: str
    seed: int
    error: str
    traceback: str


@dataclass(frozen=True)
class Unit:
    """One fit: a task, a method and a seed."""

    task: Task
    method: Method
    seed: int

    def run(self, folder: Path) -> None:
        """Fit, predict and write the file."""
        split = self.task.split(self.seed)
        # Networks are read and features derived before the clock and the measurement of memory begin.
        self.method.prepare(self.task)
        if self.method.torch:  # models of earlier fits hold memory; collecting takes longer than a baseline's fit
            gc.collect()
        _reset_peak_memory()
        predicted = self.method.predict(self.task, split)
        path = unit_path(folder, self.task.name, self.method.name, self.seed)
        key = unit_key(self.task, split, self.method)
        write_unit(path, self.task, split, self.method, predicted, peak_memory_mb=_peak_memory_mb(), key=key)


def run(
    tasks: Task | Iterable[Task],
    methods: Iterable[str | Method] | None = None,
    *,
    folder: Path | str,
    seeds: Iterable[int] | None = None,
    jobs: int = 1,
    resume: bool = True,
    progress: bool = True,
    quick: bool = False,
) -> list[Failure]:
    """Fit methods to the splits of tasks, and write what they predict into a folder.

    Each fit writes one file, ``predictions/<task>/<method>/<seed>.npz``. A method that has nothing to say about a task
    (the additive model about unseen genes) is left out. One that fails does not stop the others.

    Parameters
    ----------
    tasks
        One task or several, with different names.
    methods
        Names or groups of :func:`methods`, ``"core"``, or :class:`Method`; all of them if None.
    folder
        Made if it is not there.
    seeds
        Only these splits; all if None.
    jobs
        Processes at a time, which share the cores. With 1 all runs in this process, with the threads that it has.
    resume
        Whether to keep predictions that are there already, if data, split, options, code and versions are as they were.
    progress
        Whether to show a progress bar.
    quick
        Only the first split of each task, and the core methods if none are named.

    Returns
    -------
    What failed; empty if nothing did.

    Raises
    ------
    ValueError
        If a name or a seed is unknown, two tasks have the same name, or no method applies to any task.
    """
    folder = Path(folder)
    tasks = [tasks] if isinstance(tasks, Task) else list(tasks)
    chosen = choose(methods, quick=quick)
    planned = _plan(tasks, chosen, seeds, quick=quick)
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, found {jobs}.")
    folder.mkdir(parents=True, exist_ok=True)
    waiting = _waiting(planned, folder, resume=resume)
    _write_run(folder, tasks, quick=quick)
    failures: list[Failure] = []
    if jobs > 1:
        for task in {unit.task.name: unit.task for unit in waiting if unit.method.needs_network}.values():
            task.inputs()  # read once here, and handed to the workers
    with _bar(len(planned), len(planned) - len(waiting), progress) as advance:
        results = _here(waiting, folder) if jobs == 1 else _in_processes(waiting, folder, min(jobs, len(waiting) or 1))
        for unit, failure in results:
            advance(f"{unit.task.name}, {unit.method.name}, split {unit.seed}")
            if failure is not None:
                failures.append(failure)
    for failure in failures:
        logger.error("%s, %s, split %d failed: %s", failure.task, failure.method, failure.seed, failure.error)
    return failures


def _plan(tasks: list[Task], methods: list[Method], seeds: Iterable[int] | None, *, quick: bool) -> list[Unit]:
    names = [task.name for task in tasks]
    if not tasks:
        raise ValueError("There is no task to run.")
    if len(set(names)) < len(names):
        raise ValueError(
            f"Two tasks have the same name; the names are {', '.join(names)}. Give each its own with name=…."
        )
    slugs: dict[str, str] = {}
    for method in methods:
        other = slugs.setdefault(slug(method.name), method.name)
        if other != method.name or not slug(method.name):
            raise ValueError(f"The methods {other!r} and {method.name!r} would share a folder. Rename one of them.")
    seeds = None if seeds is None else list(seeds)
    known = {split.seed for task in tasks for split in task.splits}
    unknown = sorted(set(seeds or []) - known)
    if unknown:
        raise ValueError(f"No task has a split {', '.join(map(str, unknown))}; there are {sorted(known)}.")
    planned = []
    for task in tasks:
        mine = [split.seed for split in task.splits if seeds is None or split.seed in seeds]
        # Units of one method stand together: the first of a worker reads the network, the others find it there.
        for method in (method for method in methods if method.applies(task)):
            planned += [Unit(task, method, seed) for seed in (mine[:1] if quick else mine)]
    if not planned:
        raise ValueError(
            f"None of the methods {', '.join(m.name for m in methods)} applies to {', '.join(names)}. Methods that learn "
            "from a network need a task with one: pass network=… when the task is made."
        )
    return planned


def _waiting(planned: list[Unit], folder: Path, *, resume: bool) -> list[Unit]:
    """The units that have yet to run; says why, where there are predictions that cannot be kept."""
    waiting: list[Unit] = []
    reasons: dict[str, list[Unit]] = {}
    for unit in planned:
        path = unit_path(folder, unit.task.name, unit.method.name, unit.seed)
        reason = changed(path, unit_key(unit.task, unit.task.split(unit.seed), unit.method)) if resume else ""
        if reason is None:
            continue
        if reason:
            reasons.setdefault(reason, []).append(unit)
        waiting.append(unit)
    for reason, units in reasons.items():
        logger.info("%d earlier prediction file(s) are made anew, since %s.", len(units), reason)
    if len(waiting) < len(planned):
        logger.info("%d of %d fits are there already and are kept.", len(planned) - len(waiting), len(planned))
    return waiting


def _attempt(unit: Unit, folder: Path) -> Failure | None:
    try:
        with _quiet():
            unit.run(folder)
    except Exception as error:  # noqa: BLE001  one method that fails must not lose the others
        what = f"{type(error).__name__}: {error}"
        return Failure(unit.task.name, unit.method.name, unit.seed, what, traceback.format_exc())
    return None


def _here(waiting: list[Unit], folder: Path) -> Iterator[tuple[Unit, Failure | None]]:
    for unit in waiting:
        yield unit, _attempt(unit, folder)


def _in_processes(waiting: list[Unit], folder: Path, jobs: int) -> Iterator[tuple[Unit, Failure | None]]:
    if not waiting:
        return
    threads = max(1, _cores() // jobs)
    with _threads(threads):  # read by numerical libraries when they load, so before a worker starts
        with ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(waiting, folder, threads),
        ) as pool:
            futures: dict[Future, Unit] = {pool.submit(_work, i): unit for i, unit in enumerate(waiting)}
            pending = set(futures)
            try:
                while pending:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield futures[future], _outcome(future, futures[future])
            finally:
                pool.shutdown(cancel_futures=True)


def _outcome(future: Future, unit: Unit) -> Failure | None:
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001  a worker that was killed, for example for its memory
        what = f"{type(error).__name__}: {error}"
        return Failure(unit.task.name, unit.method.name, unit.seed, what, "")


class _Worker:
    """What a worker process was given once: all units, of which it then gets the numbers."""

    units: Sequence[Unit] = ()
    folder: Path = Path()


def _start(units: Sequence[Unit], folder: Path, threads: int) -> None:
    _Worker.units, _Worker.folder = units, folder
    warnings.filterwarnings("ignore")
    if any(unit.method.torch for unit in units):
        import torch

        torch.set_num_threads(threads)


def _work(number: int) -> Failure | None:
    return _attempt(_Worker.units[number], _Worker.folder)


def _cores() -> int:
    """The cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _threads(n: int) -> Iterator[None]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(n)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what is said of each fit from the terminal; errors are still shown."""
    # Lightning gives its loggers levels of their own when it is imported, which may be in here.
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        # scvi-tools prints why it stopped early.
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _bar(total: int, done: int, shown: bool) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    # A console of its own file: the bar moves on while what a fit prints is kept from the terminal.
    with Progress(*columns, console=Console(file=sys.stdout), disable=not shown) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda text: bar.update(task, advance=1, description=text)


def _reset_peak_memory() -> None:
    """Forget the highest memory so far, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb() -> float:
    """The highest resident memory of this process, in megabytes; NaN where the system does not tell."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _write_run(folder: Path, tasks: list[Task], *, quick: bool) -> None:
    """Say what was run; tasks of earlier runs into the same folder stay."""
    import json

    path = folder / RUN
    earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    content = {
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
        "cores": _cores(),
        "quick": quick,
        "tasks": {**earlier.get("tasks", {}), **{task.name: task.summary() for task in tasks}},
    }
    write_json(path, content)
