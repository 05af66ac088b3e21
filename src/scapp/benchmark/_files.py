"""The files of a run: one npz a task, method and seed, written whole or not at all, and recognised when still valid."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import scapp

if TYPE_CHECKING:
    from scapp.benchmark._method import Method, Predicted
    from scapp.benchmark._task import Split, Task

PREDICTIONS = "predictions"
RUN = "run.json"
# Those that a prediction depends on.
PACKAGES = ("scapp", "numpy", "scipy", "scikit-learn", "torch", "torch-geometric", "scvi-tools", "lightning")
COSTS = ("fit_seconds", "predict_ms", "parameters", "peak_memory_mb")


def slug(name: str) -> str:
    """The name of a method as a name of a folder: lower case, letters, digits and underscores.

    Parameters
    ----------
    name
        For example ``"APP, 10 % edges removed"``, which becomes ``"app_10_edges_removed"``.
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def unit_path(folder: Path, task: str, method: str, seed: int) -> Path:
    """Where the predictions of a task, method and seed are."""
    return Path(folder) / PREDICTIONS / task / slug(method) / f"{seed}.npz"


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that predictions depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def unit_key(task: Task, split: Split, method: Method) -> dict[str, str]:
    """What a prediction was made of: data and split, options, code, versions. Texts that are equal if nothing changed."""
    return {
        "data": task.fingerprint(split),
        "options": method.fingerprint(),
        "code": _code(method.rooms),
        "versions": json.dumps(versions(), sort_keys=True),
    }


@functools.cache
def _code(rooms: tuple[str, ...]) -> str:
    """A hash of the source of some of scapp's rooms, without comments and docstrings."""
    digest = hashlib.sha256()
    root = Path(scapp.__file__).parent
    for path in sorted(p for room in rooms for p in (root / room).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                node.value.value = ""
        digest.update(f"{path.relative_to(root).as_posix()}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def changed(path: Path, key: Mapping[str, str]) -> str | None:
    """Why the predictions in a file cannot stand for those of a key: None if they can, "" if there is no file."""
    if not path.is_file():
        return ""
    try:
        with np.load(path, allow_pickle=False) as file:
            recorded = json.loads(str(file["key"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return "the file cannot be read"
    different = [name for name, value in key.items() if recorded.get(name) != value]
    return f"{' and '.join(different)} changed" if different else None


def write_unit(
    path: Path,
    task: Task,
    split: Split,
    method: Method,
    predicted: Predicted,
    *,
    peak_memory_mb: float,
    key: Mapping[str, str],
) -> None:
    """Write the predictions of a unit; the file appears under its name only when it is complete."""
    arrays: dict[str, Any] = {
        "labels": np.array(split.test, dtype=str),
        "genes": task.genes,
        "lfc": predicted.lfc,
        "observed": task.observed(split),
        "method": np.array(method.name),
        "group": np.array(method.group),
        "key": np.array(json.dumps(dict(key))),
        "fit_seconds": np.array(predicted.fit_seconds),
        "predict_ms": np.array(predicted.predict_ms),
        "parameters": np.array(predicted.parameters),
        "peak_memory_mb": np.array(peak_memory_mb),
    }
    for name in ("std", "attention_genes", "attention_scores", "single", "single_genes", "single_scores"):
        if getattr(predicted, name) is not None:
            arrays[name] = getattr(predicted, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".npz", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def units(folder: Path, task: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The seed and the arrays of every file of predictions of a task."""
    for path in sorted((Path(folder) / PREDICTIONS / task).glob("*/*.npz")):
        if path.name.startswith("."):
            continue  # left behind by a run that was killed while it wrote
        with np.load(path, allow_pickle=False) as file:
            yield int(path.stem), {name: file[name] for name in file.files}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, path)
