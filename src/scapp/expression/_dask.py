"""Summing of the blocks of Dask arrays in the workers that read them.

The blocks are divided into runs, about one for each computing thread. The blocks of a run are added one after another
to the same sums, which do not move; at the end the sums of all runs are joined pairwise, and one total is returned. The
same graph serves the threads of this process and a cluster.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np

from scapp.expression._blocks import Accumulator, BlockTask

# Maximum size of the running sums in each process, in bytes. If one takes more than half of it, one thread adds all
# blocks.
BYTES_OF_SUMS = 2**30


class DaskSum:
    """Running sums that are passed from one task to the next.

    They are updated in place, so `take()` empties the holder. A task that finds it empty has been run twice, and its
    result would be undefined. Only copies are sent to another worker or spilled to disk, never sums that are being
    updated.
    """

    def __init__(self, running: Accumulator | None) -> None:
        self._running = running
        self._lock = Lock()

    def take(self) -> Accumulator:
        """Return the sums and empty the holder; RuntimeError if they were already taken."""
        with self._lock:
            running, self._running = self._running, None
        if running is None:
            raise RuntimeError(
                "A task of Dask that adds up cells was run again after it had failed halfway, so its sums are lost. "
                "See its first error, and start the calculation again."
            )
        return running

    def __reduce__(self) -> tuple[Any, ...]:
        with self._lock:
            return DaskSum, (copy.deepcopy(self._running),)

    def __sizeof__(self) -> int:  # Dask uses this to decide whether to move them
        running = self._running
        return object.__sizeof__(self) + (0 if running is None else running.nbytes)


def add_up(start: Callable[[], Accumulator], jobs: Sequence[tuple[Any, BlockTask]]) -> Accumulator:
    """Return the sums over blocks of one or more Dask arrays, each a `Delayed` and a function for its values.

    `start` returns empty sums, to which the blocks are added.
    """
    from dask.delayed import Delayed
    from dask.task_spec import Task, TaskRef

    name = f"add-up-{uuid.uuid4().hex}"
    tasks: dict[Any, Any] = {}
    ends = []
    for run, members in enumerate(np.array_split(np.arange(len(jobs)), min(_n_runs(start().nbytes), len(jobs)))):
        end: Any = (f"begin-{name}", run)
        tasks[end] = Task(end, _begin, start)
        for k in members.tolist():
            block, job = jobs[k]
            before, end = end, (name, k)
            tasks[end] = Task(end, _add, TaskRef(before), TaskRef(block.key), job)
        ends.append(end)
    while len(ends) > 1:
        one, other, *rest = ends
        joined = (f"join-{name}", len(ends))
        tasks[joined] = Task(joined, _join, TaskRef(one), TaskRef(other))
        ends = [*rest, joined]
    total = f"total-{name}"
    tasks[total] = Task(total, DaskSum.take, TaskRef(ends[0]))
    graphs = {id(block.dask): block.dask for block, _ in jobs}.values()
    reads = {key: task for graph in graphs for key, task in dict(graph).items()}
    return Delayed(total, _with_reads_inside(tasks, reads)).compute()


def _with_reads_inside(tasks: dict[Any, Any], reads: dict[Any, Any]) -> dict[Any, Any]:
    """Return one graph in which each task reads everything that only its block needs.

    Separate reading tasks would run far ahead of the additions, which wait for one another, and their blocks would fill
    the memory.
    """
    from dask.task_spec import DataNode, GraphNode

    needed_by: dict[Any, set[Any]] = {}
    for key, task in (reads | tasks).items():
        for needed in getattr(task, "dependencies", ()):
            needed_by.setdefault(needed, set()).add(key)
    graph = reads.copy()
    for key, task in tasks.items():
        inside, waiting = {key: task}, list(task.dependencies)
        while waiting:
            node = reads.get(waiting.pop())
            if isinstance(node, GraphNode) and not isinstance(node, DataNode) and needed_by[node.key] <= inside.keys():
                inside[node.key] = node
                waiting.extend(node.dependencies)
        graph[key] = task.fuse(*inside.values())
    return graph


def _begin(start: Callable[[], Accumulator]) -> DaskSum:
    return DaskSum(start())


def _add(carried: DaskSum, values: Any, job: BlockTask) -> DaskSum:
    running = carried.take()
    running.add(job, values)
    return DaskSum(running)


def _join(one: DaskSum, other: DaskSum) -> DaskSum:
    running = one.take()
    running.join(other.take())
    return DaskSum(running)


def _n_runs(size: int) -> int:
    """Return the number of sums of this size to run at a time."""
    return sum(min(threads, max(BYTES_OF_SUMS // max(size, 1), 1)) for threads in threads_of_processes())


def threads_of_processes() -> list[int]:
    """Return the number of threads of each worker of the active cluster, or of this process."""
    import dask
    from dask.base import get_scheduler
    from dask.system import CPU_COUNT

    client: Any = getattr(get_scheduler(), "__self__", None)
    if hasattr(client, "nthreads"):
        return list(client.nthreads().values()) or [1]
    return [dask.config.get("num_workers", None) or CPU_COUNT]
