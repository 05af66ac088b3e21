"""GEARS, run in an environment of its own: cells and labels go there, predictions come back."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from benchmarks.paper.gears_script import NOT_INSTALLED
from scipy import sparse

from scapp._genes import measured_mask, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, format_label, parse_labels, read_perturbations
from scapp._tables import PathLike, existing_file, is_path
from scapp.benchmark import Method, Predicted, Split, Task, read_predictions
from scapp.datasets._tidy import CONTROL, labelled_cells
from scapp.expression import Expression

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOTAL = "total_counts_of_all_genes"
INSTALL = "cell-gears==0.1.2 torch torch-geometric 'scanpy<1.10' 'anndata<0.11' 'scipy<1.13' 'pandas<2' 'numpy<2'"
# What GEARS downloads from Harvard Dataverse where it does not find it.
DOWNLOADS = ("gene2go_all.pkl", "essential_all_data_pert_genes.pkl", "go_essential_all")
MIN_CELLS = 2  # of which GEARS' test of differential expression needs that many
MAX_GENES = 2
LINES_IN_ERROR = 15

logger = logging.getLogger("scapp.paper")  # shown where scapp shows its own messages


def write_gears_script(path: PathLike) -> Path:
    """Write the script that trains GEARS, to run it by hand on another machine.

    It imports gears, anndata and numpy only. Its folder of input is what :func:`run_gears` leaves in `folder`.

    Parameters
    ----------
    path
        Where to write it.

    Returns
    -------
    The path.
    """
    path = Path(path)
    path.write_text(Path(__file__).with_name("gears_script.py").read_text("utf-8"), "utf-8")
    return path


def run_gears(
    cells: AnnData | PathLike,
    split: Mapping[str, Sequence[str]],
    *,
    python: PathLike,
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str = "control",
    sep: str = SEPARATOR,
    layer: str | None = None,
    total_counts_key: str | None = None,
    folder: PathLike | None = None,
    gears_data: PathLike | None = None,
    default_pert_graph: bool = True,
    not_in_graph: Literal["error", "no change"] = "error",
    validation: float = 0.1,
    epochs: int = 20,
    hidden_size: int = 64,
    batch_size: int = 32,
    lr: float = 1e-3,
    device: str = "cpu",
    seed: int = 0,
    timeout: float | None = None,
) -> AnnData:
    """Train GEARS (Roohani et al., 2024) on some perturbations of a screen and predict others.

    GEARS needs pandas below 2 and numpy below 2, and so an environment of its own, whose Python is called with the cells
    of the training perturbations and of the controls; no cell of a held-out perturbation is handed over. A part of the
    training perturbations is set aside for GEARS' choice of the best epoch. Its log is logged line by line and kept in
    ``gears.log``.

    GEARS downloads gene annotations from Harvard Dataverse and unpickles them, in its environment. Where that host
    cannot be reached, put the files into a folder and name it in `gears_data`.

    scapp's tests run this with a stand-in that has the interface of cell-gears 0.1.2, as GEARS cannot be installed beside
    them. With GEARS itself (cell-gears 0.1.2, Python 3.11, pandas 1.5, scanpy 1.9) it was run by hand, on a subset of the
    cells of Norman et al. (2019) with ``default_pert_graph=False``.

    Parameters
    ----------
    cells
        Cells by genes, raw counts or log-normalised; or the path of the h5ad file.
    split
        Labels to train on and to predict, ``{"train": [...], "test": [...]}``, of at most two genes each.
    python
        The Python of the environment that has GEARS.
    perturbation_key, control, sep, layer, total_counts_key
        As in :func:`scapp.pp.pseudobulk`.
    folder
        Where input, log and results are kept; a temporary folder by default.
    gears_data
        Folder with GEARS' own files: ``gene2go_all.pkl``, and for the default graph
        ``essential_all_data_pert_genes.pkl`` and ``go_essential_all/``. What is not there, GEARS downloads.
    default_pert_graph
        Whether to use GEARS' graph of perturbations; otherwise it derives one from the annotations of the genes of this
        screen.
    not_in_graph
        GEARS cannot predict genes that its graph lacks: ``"error"``, or ``"no change"``, which predicts zero and
        marks the rows in ``obs["uninformed"]``.
    validation
        Share of the training perturbations that is set aside, at least one.
    epochs, hidden_size, batch_size, lr
        Of GEARS; the defaults are its own.
    device
        ``"cpu"`` or ``"cuda"``.
    seed
        Of the choice of what is set aside, and of GEARS.
    timeout
        Seconds after which GEARS is stopped.

    Returns
    -------
    One observation per label of ``split["test"]``, in its order, and the measured genes: ``layers["predicted_lfc"]``, the
    predicted mean expression minus the mean of the controls. ``uns["gears"]`` says what GEARS left out.

    Raises
    ------
    ModuleNotFoundError
        If GEARS is not installed in that environment.
    ValueError
        If labels are missing, overlap, have more than two genes or too few cells, or there is no such Python, or GEARS
        cannot predict a label.
    RuntimeError
        If GEARS fails or takes too long; with the end of its log.
    """
    interpreter = shutil.which(os.fspath(python))
    if interpreter is None:
        raise ValueError(
            f"There is no program {os.fspath(python)!r}. Name the Python of the environment that has GEARS."
        )
    if not_in_graph not in ("error", "no change"):
        raise ValueError(f"not_in_graph must be 'error' or 'no change', found {not_in_graph!r}.")
    if is_path(cells):
        cells = read_h5ad(existing_file(cells))
    perturbations = read_perturbations(
        cells, perturbation_key=perturbation_key, control=control, sep=sep, effects_allowed=False
    )
    train, test = _check_split(split, perturbations, sep)
    expression = Expression(cells, layer=layer, total_counts_key=total_counts_key)
    rng = np.random.default_rng(seed)
    n_val = max(1, round(validation * len(train)))
    val = {train[i] for i in rng.permutation(len(train))[:n_val]}
    handed = _cells_for_gears(cells, expression, perturbations, set(train))
    genes = list(handed.var_names)
    task = {
        "name": "scapp",
        "seed": seed,
        "train": ["ctrl", *(_condition(p) for p in train if p not in val)],
        "val": [_condition(p) for p in train if p in val],
        "test": [list(p) for p in test],
        "graph_genes": sorted({*genes, *(gene for p in (*train, *test) for gene in p)}),
        "default_pert_graph": default_pert_graph,
        "epochs": epochs,
        "hidden_size": hidden_size,
        "batch_size": batch_size,
        "lr": lr,
        "device": device,
    }
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(os.fspath(folder)) as place:
        work = Path(place)
        _prepare(work, handed, task, gears_data)
        _call(interpreter, work, timeout)
        return _collect(work, list(split["test"]), test, genes, not_in_graph, perturbation_key)


@dataclass(frozen=True, eq=False)
class GearsMethod(Method):
    """Train GEARS (Roohani et al., 2024) on the cells of the training perturbations.

    Parameters
    ----------
    cells
        For each screen, by the name that :func:`scapp.benchmark.screen` was given, the h5ad file.
    python
        The Python of the environment that has GEARS.
    arguments
        Options of :func:`run_gears`.
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
        """Return the file of the cells of a task."""
        screen = self._screen(task)
        if screen is None:
            raise ValueError(f"GEARS was given no cells for the task {task.name!r}, only for {', '.join(self.cells)}.")
        return self.cells[screen]

    def _screen(self, task: Task) -> str | None:
        return next((name for name in self.cells if task.name.startswith(f"{name}_")), None)

    def predict(self, task: Task, split: Split) -> Predicted:
        begin = time.perf_counter()
        cells, total = cells_for(task, self.path(task))
        found = run_gears(
            cells, {"train": split.train, "test": split.test}, python=os.fspath(self.python), control=CONTROL,
            total_counts_key=total, seed=split.seed, **self.arguments,
        )  # fmt: skip
        lfc = found[list(split.test), list(task.genes)].layers[Key.layers.PREDICTED_LFC]
        return Predicted(np.asarray(lfc, dtype=np.float32), fit_seconds=time.perf_counter() - begin)


def gears_method(cells: Mapping[str, Path | str], *, python: Path | str, **options: Any) -> Method:
    """Take GEARS (Roohani et al., 2024), in an environment of its own, as a method for :func:`run`.

    Parameters
    ----------
    cells
        For each screen, by the name that :func:`screen` was given, the h5ad file. GEARS takes part in the tasks of these
        screens but for seen singles.
    python
        The Python of the environment that has GEARS.
    **options
        Options of :func:`run_gears`, which describes what GEARS needs.

    Returns
    -------
    The method ``"GEARS"``, of the group ``"external"``.

    Raises
    ------
    FileNotFoundError
        If there is no such file of cells.
    """
    for path in cells.values():
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no file {str(path)!r} with the cells for GEARS.")
    files = {name: Path(path) for name, path in cells.items()}
    return GearsMethod("GEARS", "external", cells=files, python=python, arguments=options)


def cells_for(task: Task, path: Path) -> tuple[AnnData, str | None]:
    """Return the cells of a task with its measured genes, and the column with their total counts where they are counts."""
    cells = labelled_cells(path)
    values = cells.X.data if sparse.issparse(cells.X) else np.asarray(cells.X)
    counts = not np.any(values % 1)
    if counts:
        cells.obs[TOTAL] = np.asarray(cells.X.sum(axis=1)).ravel()
    genes = task.effects.var_names[measured_mask(task.effects)]
    return cells[:, genes].copy(), TOTAL if counts else None


def _check_split(
    split: Mapping[str, Sequence[str]], perturbations: list[Perturbation], sep: str
) -> tuple[list[Perturbation], list[Perturbation]]:
    if set(split) != {"train", "test"}:
        raise ValueError(f"split should have the keys 'train' and 'test', found {shorten(map(repr, split)) or 'none'}.")
    parsed = {part: parse_labels(split[part], control=None, sep=sep) for part in ("train", "test")}
    for part, found in parsed.items():
        if len(set(found)) < len(found) or () in found or not found:
            raise ValueError(
                f"split[{part!r}] should name perturbations, each once and without the control; found {len(found)} labels "
                f"of {len(set(found) - {()})} perturbations."
            )
    both = set(parsed["train"]) & set(parsed["test"])
    if both:
        raise ValueError(
            f"These perturbations are to be trained on and held out: {shorten(sorted(map(format_label, both)))}."
        )
    large = [p for p in (*parsed["train"], *parsed["test"]) if len(p) > MAX_GENES]
    if large:
        raise ValueError(f"GEARS knows perturbations of one or two genes, not {shorten(map(format_label, large))}.")
    # GEARS looks for "ctrl" inside of labels.
    odd = sorted({gene for found in parsed.values() for p in found for gene in p if "ctrl" in gene or "+" in gene})
    if odd:
        raise ValueError(f"GEARS cannot tell these gene names from its control label: {shorten(odd)}. Rename them.")
    n_cells = pd.Series(perturbations, dtype=object).value_counts()
    few = [p for p in parsed["train"] if n_cells.get(p, 0) < MIN_CELLS]
    if few:
        raise ValueError(
            f"{len(few)} training perturbation(s) have fewer than {MIN_CELLS} cells: {shorten(map(format_label, few))}."
        )
    return parsed["train"], parsed["test"]


def _condition(genes: Perturbation) -> str:
    """Write a label as GEARS does: ``"KLF1+ctrl"``, ``"CEBPA+KLF1"``."""
    return "+".join(genes) if len(genes) > 1 else f"{genes[0]}+ctrl"


def _cells_for_gears(
    cells: AnnData, expression: Expression, perturbations: list[Perturbation], train: set[Perturbation]
) -> AnnData:
    """Prepare control and training cells as GEARS wants them: log-normalised CSR, ``condition``, ``cell_type``, ``gene_name``."""
    kept = np.array([not p or p in train for p in perturbations], dtype=bool)
    blocks = list(expression.blocks(kept))
    parts = [sparse.csr_matrix(block.values, dtype=np.float32)[kept[block.rows]] for block in blocks]
    # Blocks hold all measured genes of some cells or, of matrices stored by gene, some genes of all cells.
    by_gene = parts[0].shape[1] < len(expression.genes)
    matrix = (sparse.hstack if by_gene else sparse.vstack)(parts, format="csr")
    genes = pd.Index(expression.genes.astype(str), dtype=object)
    names = [_condition(p) if p else "ctrl" for p, keep in zip(perturbations, kept, strict=True) if keep]
    obs = pd.DataFrame(
        {"condition": pd.Categorical(names), "cell_type": pd.Categorical(["cells"] * len(names))},
        index=pd.Index([f"cell{i}" for i in range(len(names))], dtype=object),
    )
    return AnnData(matrix, obs=obs, var=pd.DataFrame({"gene_name": np.array(genes, dtype=object)}, index=genes))


def _prepare(work: Path, cells: AnnData, task: dict[str, Any], gears_data: PathLike | None) -> None:
    (work / "gears").mkdir(parents=True, exist_ok=True)
    # GEARS keeps networks by the name of a split, whatever is in it: those of an earlier run would come back. It keeps
    # one of them in the folder "data" of the working directory, and fails where there is none.
    for kept in (work / "gears" / task["name"], work / "data"):
        shutil.rmtree(kept, ignore_errors=True)
    (work / "data").mkdir()
    for name in ("predictions.npz", "report.json"):
        (work / name).unlink(missing_ok=True)
    if gears_data is not None:
        found = [Path(gears_data) / name for name in DOWNLOADS if (Path(gears_data) / name).exists()]
        if not found:
            raise ValueError(f"The folder {os.fspath(gears_data)!r} has none of GEARS' files: {', '.join(DOWNLOADS)}.")
        for path in found:
            if path.is_dir():
                shutil.copytree(path, work / "gears" / path.name, dirs_exist_ok=True)
            else:
                shutil.copy(path, work / "gears" / path.name)
    cells.write_h5ad(work / "cells.h5ad")
    (work / "split.json").write_text(json.dumps(task, indent=1), encoding="utf-8")
    write_gears_script(work / "run_gears.py")


def _call(interpreter: str, work: Path, timeout: float | None) -> None:
    """Run the script in the other environment; its output is logged line by line."""
    # What leads this Python to its packages would lead the other one to them as well.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    log = work / "gears.log"
    # Output goes through the file, so that a timeout can be kept while GEARS says nothing.
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [interpreter, "-u", "run_gears.py", "."],
            cwd=work, env={**env, "PYTHONIOENCODING": "utf-8"}, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _follow(process, log, timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
    lines = _lines(log.read_bytes().decode(errors="replace"))
    if process.returncode == NOT_INSTALLED:
        raise ModuleNotFoundError(
            f"GEARS cannot be imported by {interpreter}: {lines[-1] if lines else 'it says nothing'}. Install it there:\n"
            f"    {interpreter} -m pip install {INSTALL}"
        )
    if process.returncode:
        raise RuntimeError(
            f"GEARS ended with status {process.returncode}. The end of its log:\n" + "\n".join(lines[-LINES_IN_ERROR:])
        )


def _follow(process: subprocess.Popen[bytes], log: Path, timeout: float | None, pause: float = 0.2) -> None:
    waited = 0.0
    with log.open(encoding="utf-8", errors="replace", newline="") as output:
        rest = ""
        while True:
            try:
                process.wait(pause)
            except subprocess.TimeoutExpired:
                waited += pause
            *whole, rest = (rest + output.read()).split("\n")
            for line in _lines("\n".join(whole)):
                logger.info("GEARS: %s", line)
            if process.returncode is not None:
                return
            if timeout is not None and waited > timeout:
                raise RuntimeError(
                    f"GEARS was stopped after {timeout:g} s, before it had finished. Give it more with timeout=…."
                )


def _lines(text: str) -> list[str]:
    """Return the lines that say something, of progress bars the last state only."""
    shown = (line.rstrip().rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n"))
    return [line for line in shown if line.strip()]


def _collect(
    work: Path,
    labels: list[str],
    test: list[Perturbation],
    genes: list[str],
    not_in_graph: str,
    perturbation_key: str,
) -> AnnData:
    report = json.loads((work / "report.json").read_text(encoding="utf-8"))
    if report["left_out_of_training"]:
        logger.warning(
            "GEARS' graph lacks %d training perturbation(s), which it did not use: %s.",
            len(report["left_out_of_training"]), shorten(report["left_out_of_training"]),
        )  # fmt: skip
    lacking = set(report["not_in_graph"])
    if lacking and not_in_graph == "error":
        raise ValueError(
            f"GEARS' graph lacks genes of {len(lacking)} of the {len(test)} held-out perturbations, which it cannot predict: "
            f"{shorten(sorted(lacking))}. Leave them out, or pass not_in_graph='no change'."
        )
    lfc: NDArray[np.float32] = np.zeros((len(test), len(genes)), dtype=np.float32)
    unknown = np.array([format_label(p) in lacking for p in test])
    if not unknown.all():
        asked = [format_label(p) for p, lacks in zip(test, unknown, strict=True) if not lacks]
        lfc[~unknown], _ = read_predictions(work / "predictions.npz", asked, genes)
    obs = pd.DataFrame(
        {perturbation_key: np.array(labels, dtype=object), Key.obs.UNINFORMED: unknown},
        index=pd.Index(labels, dtype=object),
    )
    var = pd.DataFrame(index=pd.Index(genes, dtype=object))
    return AnnData(obs=obs, var=var, layers={Key.layers.PREDICTED_LFC: lfc}, uns={"gears": report})
