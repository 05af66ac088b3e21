"""Run methods on tasks: one fit per task, method and seed, in several processes, resuming where it stopped."""

from __future__ import annotations

import ast
import contextlib
import datetime
import functools
import gc
import hashlib
import importlib.metadata
import io
import json
import logging
import multiprocessing
import os
import re
import sys
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import progress
from rich.console import Console

import scapp
from scapp._files import replacing
from scapp.benchmark._check_split import check_split
from scapp.benchmark._methods import Method, choose
from scapp.benchmark._task import Task

PREDICTIONS, RUN = "predictions", "run.json"
# Packages that a prediction depends on.
PACKAGES = ("scapp", "numpy", "scipy", "scikit-learn", "torch", "torch-geometric", "scvi-tools", "lightning")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Record a fit that failed: task, method and seed, the error with its type, and the traceback."""

    task: str
    method: str
    seed: int
    error: str
    traceback: str


@dataclass(frozen=True)
class Fit:
    """Name one fit: a task, a method and a seed."""

    task: Task
    method: Method
    seed: int

    def path(self, folder: Path) -> Path:
        """Return the file of its predictions."""
        return unit_path(folder, self.task.name, self.method.name, self.seed)

    def key(self) -> dict[str, str]:
        """Describe everything on which the predictions depend, as texts that are equal if nothing changed."""
        return {
            "data": self.task.fingerprint(self.task.split(self.seed)),
            "options": self.method.fingerprint(),
            "code": _code(self.method.rooms),
            "versions": json.dumps(versions(), sort_keys=True),
        }

    def failure(self, error: BaseException, trace: str) -> Failure:
        """Return the record of an error."""
        return Failure(self.task.name, self.method.name, self.seed, f"{type(error).__name__}: {error}", trace)

    def run(self, folder: Path) -> None:
        """Fit, predict and write the file."""
        split = self.task.split(self.seed)
        # Networks are read and features derived before the clock and the measurement of memory begin.
        self.method.prepare(self.task)
        if self.method.torch:  # models of earlier fits hold memory; collecting takes longer than a baseline's fit
            gc.collect()
        with contextlib.suppress(OSError):  # forget the highest memory so far, where the system can (Linux)
            Path("/proc/self/clear_refs").write_text("5")
        predicted = self.method.predict(self.task, split)
        arrays: dict[str, Any] = {
            "labels": np.array(split.test, dtype=str),
            "genes": self.task.genes,
            "lfc": predicted.lfc,
            "observed": self.task.observed(split),
            "method": self.method.name,
            "group": self.method.group,
            "key": json.dumps(self.key()),
            "fit_seconds": predicted.fit_seconds,
            "predict_ms": predicted.predict_ms,
            "parameters": predicted.parameters,
            "peak_memory_mb": _peak_memory_mb(),
            **predicted.extra,
        }
        if predicted.std is not None:
            arrays["std"] = predicted.std
        path = self.path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch, scratch.open("wb") as file:
            np.savez_compressed(file, **arrays)


def run(
    tasks: Task | Iterable[Task],
    methods: Iterable[str | Method] | None = None,
    *,
    folder: Path | str,
    seeds: Iterable[int] | None = None,
    n_jobs: int = 1,
    resume: bool = True,
    progress_bar: bool = True,
    quick: bool = False,
) -> list[Failure]:
    """Fit methods to the splits of tasks, and write their predictions into a folder.

    Each fit writes one file, ``predictions/<task>/<method>/<seed>.npz``. A method that cannot predict a task (such as
    the additive model for unseen genes) is left out, and one that fails does not stop the others. Before the first fit,
    :func:`check_split` warns of problems that would inflate the scores.

    Parameters
    ----------
    tasks
        One task or several, with different names.
    methods
        Names or groups of :func:`methods`, ``"core"``, or :class:`Method`; all of them if None.
    folder
        Folder to write to; created if missing.
    seeds
        Splits to run; all if None.
    n_jobs
        Number of parallel processes, which share the cores. With 1, everything runs in this process with its threads.
    resume
        Whether to keep existing predictions if data, split, options, code and versions have not changed.
    progress_bar
        Whether to show a progress bar.
    quick
        Whether to run only the first split of each task, and the core methods if none are named.

    Returns
    -------
    The fits that failed; empty if none did.

    Raises
    ------
    ValueError
        If a name or a seed is unknown, two tasks have the same name, or no method applies to any task.
    """
    folder = Path(folder)
    tasks = [tasks] if isinstance(tasks, Task) else list(tasks)
    planned = _plan(tasks, choose(methods, quick=quick), seeds, quick=quick)
    if n_jobs < 1:
        raise ValueError(f"n_jobs must be at least 1, found {n_jobs}.")
    for task in tasks:
        check_split(task)
    folder.mkdir(parents=True, exist_ok=True)
    waiting = _waiting(planned, folder, resume=resume)
    _write_run(folder, tasks, quick=quick)
    if n_jobs > 1:
        for task in {fit.task.name: fit.task for fit in waiting if fit.method.needs_network}.values():
            task.inputs()  # read once here, and handed to the workers
    failures: list[Failure] = []
    with _bar(len(planned), len(planned) - len(waiting), progress_bar) as advance:
        results = (
            ((fit, _attempt(fit, folder)) for fit in waiting)
            if n_jobs == 1 or not waiting
            else _in_processes(waiting, folder, min(n_jobs, len(waiting)))
        )
        for fit, failure in results:
            advance(f"{fit.task.name}, {fit.method.name}, split {fit.seed}")
            if failure is not None:
                failures.append(failure)
    for failure in failures:
        logger.error("%s, %s, split %d failed: %s", failure.task, failure.method, failure.seed, failure.error)
    return failures


def slug(name: str) -> str:
    """Return the name of a method as a name of a folder: ``"APP, paper"`` becomes ``"app_paper"``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def unit_path(folder: Path, task: str, method: str, seed: int) -> Path:
    """Return the file of the predictions of a task, method and seed."""
    return Path(folder) / PREDICTIONS / task / slug(method) / f"{seed}.npz"


def units(folder: Path, task: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield the seed and the arrays of every file of predictions of a task."""
    for path in sorted((Path(folder) / PREDICTIONS / task).glob("*/*.npz")):
        if path.name.startswith("."):
            continue  # left behind by a run that was killed while it wrote
        with np.load(path, allow_pickle=False) as file:
            yield int(path.stem), {name: file[name] for name in file.files}


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of the packages that predictions depend on."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def changed(path: Path, key: Mapping[str, str]) -> str | None:
    """Say why the predictions in a file cannot stand for those of a key: None if they can, "" if there is no file."""
    if not path.is_file():
        return ""
    try:
        with np.load(path, allow_pickle=False) as file:
            recorded = json.loads(str(file["key"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return "the file cannot be read"
    different = [name for name, value in key.items() if recorded.get(name) != value]
    return f"{' and '.join(different)} changed" if different else None


@functools.cache
def _code(rooms: tuple[str, ...]) -> str:
    """Return a hash of the source of some of scapp's folders, without comments and docstrings."""
    digest = hashlib.sha256()
    root = Path(scapp.__file__).parent
    for path in sorted(p for room in rooms for p in (root / room).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            match node:
                case ast.Expr(value=ast.Constant(value=str()) as text):
                    text.value = ""
        digest.update(f"{path.relative_to(root).as_posix()}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def _plan(tasks: list[Task], methods: list[Method], seeds: Iterable[int] | None, *, quick: bool) -> list[Fit]:
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
        # Group the fits of one method, so that each worker reads the network only once.
        for method in (method for method in methods if method.applies(task)):
            planned += [Fit(task, method, seed) for seed in (mine[:1] if quick else mine)]
    if not planned:
        raise ValueError(
            f"None of the methods {', '.join(m.name for m in methods)} applies to {', '.join(names)}. Methods that learn "
            "from a network need a task with one: pass network=… when the task is made."
        )
    return planned


def _waiting(planned: list[Fit], folder: Path, *, resume: bool) -> list[Fit]:
    """Return the fits that still have to run; log why existing predictions cannot be kept."""
    reasons = [changed(fit.path(folder), fit.key()) if resume else "" for fit in planned]
    waiting = [fit for fit, reason in zip(planned, reasons, strict=True) if reason is not None]
    for reason, n in Counter(filter(None, reasons)).items():
        logger.info("%d earlier prediction file(s) are repeated, because %s.", n, reason)
    if len(waiting) < len(planned):
        logger.info("%d of %d fits are there already and are kept.", len(planned) - len(waiting), len(planned))
    return waiting


def _attempt(fit: Fit, folder: Path) -> Failure | None:
    try:
        with _quiet():
            fit.run(folder)
    except Exception as error:  # noqa: BLE001  one method that fails must not lose the others
        return fit.failure(error, traceback.format_exc())
    return None


def _in_processes(waiting: list[Fit], folder: Path, n_jobs: int) -> Iterator[tuple[Fit, Failure | None]]:
    threads = max(1, _cores() // n_jobs)
    with (
        _threads(threads),  # read by numerical libraries when they load, so before a worker starts
        ProcessPoolExecutor(
            n_jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(waiting, folder, threads),
        ) as pool,
    ):
        futures: dict[Future, Fit] = {pool.submit(_work, i): fit for i, fit in enumerate(waiting)}
        pending = set(futures)
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    fit = futures[future]
                    error = future.exception()  # a worker that was killed, for example for its memory
                    yield fit, future.result() if error is None else fit.failure(error, "")
        finally:
            pool.shutdown(cancel_futures=True)


class _Worker:
    """Hold the list of all fits in a worker process, which then receives only their numbers."""

    fits: Sequence[Fit] = ()
    folder: Path = Path()


def _start(fits: Sequence[Fit], folder: Path, threads: int) -> None:
    _Worker.fits, _Worker.folder = fits, folder
    warnings.filterwarnings("ignore")
    if any(fit.method.torch for fit in fits):
        import torch

        torch.set_num_threads(threads)


def _work(number: int) -> Failure | None:
    return _attempt(_Worker.fits[number], _Worker.folder)


def _cores() -> int:
    """Count the cores that this process may use, which in a container are fewer than the machine has."""
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
    """Keep the messages of each fit from the terminal; errors are still shown."""
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
    columns = (
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.description}"),
    )
    # A separate console keeps the bar moving while the output of a fit is hidden from the terminal.
    with progress.Progress(*columns, console=Console(file=sys.stdout), disable=not shown) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda text: bar.update(task, advance=1, description=text)


def _peak_memory_mb() -> float:
    """Return the peak resident memory of this process in megabytes; NaN if the system does not report it."""
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
    """Record the run; tasks from earlier runs in the same folder are kept."""
    path = folder / RUN
    earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    content = {
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
        "cores": _cores(),
        "quick": quick,
        "tasks": {**earlier.get("tasks", {}), **{task.name: task.summary() for task in tasks}},
    }
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
