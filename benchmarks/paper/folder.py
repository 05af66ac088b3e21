"""A folder of results: what the runner wrote, read again."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scapp._labels import parse_label
from scapp.benchmark import read_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

APP, PAPER = "APP", "APP, paper"
RUN = "run.json"
KINDS = ("single", "combination", "unseen gene")
SHORT = {"norman_doubles": "doubles", "k562_singles": "unseen genes"}


@dataclass(frozen=True)
class ResultsFolder:
    """Hold scores, and how and on what they were made.

    Parameters
    ----------
    path
        The folder.
    scores
        One row a score.
    info
        ``run.json``: date, versions, cores, and the tasks.
    """

    path: Path
    scores: pd.DataFrame
    info: dict[str, Any]

    @functools.cached_property
    def tasks(self) -> list[str]:
        """Return the tasks with scores, in the order of ``run.json``."""
        scored = set(self.scores["task"])
        return [task for task in self.info["tasks"] if task in scored]

    @property
    def references(self) -> dict[str, str]:
        """Return the method that ratios of each task are relative to."""
        return {task: self.info["tasks"][task]["reference"] for task in self.tasks}

    def title(self, task: str) -> str:
        """Return the title of a task for readers; tasks of the same title are told apart by their names."""
        title = self._titles[task]
        return f"{title} ({task})" if list(self._titles.values()).count(title) > 1 else title

    def short(self, task: str) -> str:
        """Return a short title of a task."""
        return SHORT.get(task, self.title(task))

    def of(self, task: str) -> pd.DataFrame:
        """Return the scores of one task."""
        return self._by_task[task]

    def methods(self, task: str) -> list[str]:
        """Return the methods of one task with scores of L2, in the order of the scores."""
        return list(self._groups[task])

    def in_groups(self, task: str, *groups: str) -> list[str]:
        """Return the methods of one task that belong to one of some groups."""
        return [method for method, group in self._groups[task].items() if group in groups]

    @functools.cached_property
    def _titles(self) -> dict[str, str]:
        return {task: str(about.get("title") or task) for task, about in self.info["tasks"].items()}

    @functools.cached_property
    def _by_task(self) -> dict[str, pd.DataFrame]:
        return {task: self.scores[self.scores["task"] == task] for task in self.tasks}

    @functools.cached_property
    def _groups(self) -> dict[str, dict[str, str]]:
        """Return the group of each method by task."""
        found = {}
        for task, rows in self._by_task.items():
            pairs = rows.loc[rows["metric"] == "l2", ["method", "group"]].drop_duplicates("method")
            found[task] = dict(zip(pairs["method"].map(str), pairs["group"].map(str), strict=True))
        return found

    def predictions(self, task: str, method: str) -> list[Path]:
        """Return the files of predictions of a method, one a split."""
        slug = re.sub(r"[^a-z0-9]+", "_", method.lower()).strip("_")
        files = (self.path / "predictions" / task / slug).glob("[0-9]*.npz")
        return sorted(files, key=lambda file: int(file.stem))

    def attended(self, method: str = APP, n_genes: int = 10) -> pd.DataFrame:
        """Return the most attended genes of a single, a double and an unseen perturbation, where there are such predictions.

        Of each kind the perturbation with the largest observed effect in the first split is taken, so that none is
        chosen by what it shows. Where no measured single is held out it is one of those that were trained on.

        Returns
        -------
        The columns ``panel``, ``perturbation``, ``gene``, ``score`` and ``perturbed``.
        """
        best: dict[str, tuple[float, pd.DataFrame]] = {}
        for task in self.tasks:
            files = self.predictions(task, method)
            if not files:
                continue
            with np.load(files[0], allow_pickle=False) as saved:
                if "attention_genes" not in saved:
                    continue
                arrays = {key: saved[key] for key in saved.files}
            if "single" in arrays:  # what was trained on stands behind any single that was held out
                best.setdefault("single", (0.0, _attended(arrays, "single", n_genes)))
            seen = self.of(task).drop_duplicates("perturbation").set_index("perturbation")["n_seen"]
            for i, label in enumerate(map(str, arrays["labels"])):
                genes = parse_label(label, control=None)
                kind = "combination" if len(genes) > 1 else "unseen gene" if not seen.get(label, 1) else "single"
                size = float(np.linalg.norm(np.nan_to_num(arrays["observed"][i])))
                if kind in best and best[kind][0] >= size:
                    continue
                best[kind] = size, _attended(arrays, kind, n_genes, i)
        ordered = [best[kind][1] for kind in KINDS if kind in best]
        columns = ["panel", "perturbation", "gene", "score", "perturbed"]
        return pd.concat(ordered, ignore_index=True) if ordered else pd.DataFrame(columns=columns)


def _attended(arrays: Mapping[str, np.ndarray], kind: str, n_genes: int, row: int | None = None) -> pd.DataFrame:
    """Return the most attended genes of a held-out perturbation, or of the single that was trained on (`row` None)."""
    own = ("single", "single_genes", "single_scores")
    label, genes, scores = (
        (arrays[key] for key in own)
        if row is None
        else (arrays[key][row] for key in ("labels", "attention_genes", "attention_scores"))
    )
    rows = pd.DataFrame({"gene": genes, "score": scores}).nlargest(n_genes, "score")
    rows.insert(0, "panel", f"{label}\n({kind})")
    rows.insert(1, "perturbation", str(label))
    rows["perturbed"] = rows["gene"].isin(parse_label(str(label), control=None))
    return rows


def read_folder(path: Path | str) -> ResultsFolder:
    """Read a folder of results.

    Raises
    ------
    FileNotFoundError
        If the scores or ``run.json`` are missing.
    ValueError
        If a task with scores is not described, or its reference was not scored.
    """
    path = Path(path)
    scores = read_results(path)
    if not (path / RUN).is_file():
        raise FileNotFoundError(
            f"The folder {str(path)!r} has no {RUN}. Run `python -m benchmarks.paper run --output {path}` first."
        )
    # Categories of what is filtered away would come back in every table.
    for column in ("task", "method", "group", "perturbation", "metric"):
        scores[column] = scores[column].astype(object)
    info = json.loads((path / RUN).read_text(encoding="utf-8"))
    described = info.get("tasks", {})
    for task in pd.unique(scores["task"]):
        reference = described.get(task, {}).get("reference")
        methods = list(pd.unique(scores.loc[scores["task"] == task, "method"]))
        if reference not in methods:
            raise ValueError(
                f"The reference of the task {task!r} in run.json is {reference!r}, which has no scores; methods with scores "
                f"are {', '.join(methods)}. Run the benchmark with the reference among its methods."
            )
    return ResultsFolder(path, scores, info)


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return path


def png(figure: Figure, dpi: int = 160) -> bytes:
    """Return a figure as png, the same bytes whenever it is drawn from the same numbers."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
