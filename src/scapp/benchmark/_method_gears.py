"""GEARS as a method of the benchmark, run by the Python of an environment that has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import sparse

from scapp._genes import measured_mask
from scapp.benchmark._gears import run_gears
from scapp.benchmark._method import Method, Predicted, timed
from scapp.datasets._labels import CONTROL
from scapp.datasets._tidy import labelled_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from scapp.benchmark._task import Split, Task

TOTAL = "total_counts_of_all_genes"


@dataclass(frozen=True, eq=False)
class GearsMethod(Method):
    """GEARS :cite:p:`Roohani2024`, trained on the cells of the training perturbations.

    Parameters
    ----------
    cells
        For each screen, by the name that :func:`scapp.benchmark.screen` was given, the h5ad file.
    python
        The Python of the environment that has GEARS.
    arguments
        Options of :func:`scapp.benchmark.run_gears`.
    """

    rooms: ClassVar[tuple[str, ...]] = ()
    cells: Mapping[str, Path]
    python: Path | str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def applies(self, task: Task) -> bool:
        # Seen singles are trained on half of the cells of what is predicted.
        return self._screen(task) is not None and task.kind != "seen"

    def options(self) -> dict[str, Any]:
        # What is in the files, gigabytes as a rule, is known by the effects that the task made of them.
        return {**self.arguments, "screens": sorted(self.cells)}

    def path(self, task: Task) -> Path:
        """The file of the cells of a task."""
        screen = self._screen(task)
        if screen is None:
            raise ValueError(f"GEARS was given no cells for the task {task.name!r}, only for {', '.join(self.cells)}.")
        return self.cells[screen]

    def _screen(self, task: Task) -> str | None:
        return next((name for name in self.cells if task.name.startswith(f"{name}_")), None)

    def predict(self, task: Task, split: Split) -> Predicted:
        return timed(lambda: _Gears(self, task, split), task, split)


class _Gears:
    """Trains and predicts in one go, as the other Python does; the time of both is that of the fit."""

    def __init__(self, method: GearsMethod, task: Task, split: Split):
        cells, total = cells_for(task, method.path(task))
        self.predicted = run_gears(
            cells, {"train": split.train, "test": split.test}, python=os.fspath(method.python), control=CONTROL,
            total_counts_key=total, seed=split.seed, **method.arguments,
        )  # fmt: skip

    def predict(self, perturbations: list[str]) -> AnnData:
        return self.predicted[perturbations]


def cells_for(task: Task, path: Path) -> tuple[AnnData, str | None]:
    """The cells of a task with its measured genes, and the column with their total counts where they are counts."""
    cells = labelled_cells(path)
    values = cells.X.data if sparse.issparse(cells.X) else np.asarray(cells.X)
    counts = not np.any(values % 1)
    if counts:
        cells.obs[TOTAL] = np.asarray(cells.X.sum(axis=1)).ravel()
    genes = task.effects.var_names[measured_mask(task.effects)]
    return cells[:, genes].copy(), TOTAL if counts else None
