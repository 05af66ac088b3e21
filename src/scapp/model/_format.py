"""The file of a saved model: tensors and plain values with a checksum, so that reading it runs no code."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

FORMAT = 1
ENTRY = "scapp"
FRAME = "__table__"
MODEL, DATA = "model.pt", ("adata.h5ad", "mdata.h5mu")


def rewrite(folder: Path, prefix: str, save_kwargs: dict[str, Any]) -> None:
    """Write the file that scvi-tools has just written again, without anything that has to be unpickled as an object.

    Parameters
    ----------
    folder
        Holds the model, and perhaps its data.
    prefix
        Stands before the names of the files.
    save_kwargs
        For :func:`torch.save`.
    """
    path = folder / f"{prefix}{MODEL}"
    content = plain(torch.load(path, weights_only=False, map_location="cpu"))
    data = {name: _hash_of_file(folder / f"{prefix}{name}") for name in DATA if (folder / f"{prefix}{name}").is_file()}
    version = importlib.metadata.version("scapp")
    entry = {"format": FORMAT, "version": version, "data": data}
    torch.save({**content, ENTRY: {**entry, "checksum": checksum({**content, ENTRY: entry})}}, path, **save_kwargs)


def check(folder: Path, prefix: str, *, with_data: bool) -> None:
    """Refuse a file that is damaged, holds objects, or was written by a later scapp; no code of it is run.

    Parameters
    ----------
    folder
        Holds the model.
    prefix
        Stands before the names of the files.
    with_data
        Whether the data beside it are to be loaded too, and must be those that were saved with the model.

    Raises
    ------
    ValueError
        Naming what is wrong with which file.
    """
    path = folder / f"{prefix}{MODEL}"
    if not path.is_file():
        raise ValueError(
            f"There is no saved model {str(path)!r}. Name the folder that `model.save(folder)` has written."
        )
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        entry = dict(content[ENTRY])
        expected = entry.pop("checksum")
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} is damaged, or was not saved by `APP.save`: it holds more than tensors and plain values, or cannot be "
            f"read ({type(error).__name__}). Nothing of it was run. Save the model again."
        ) from error
    if entry.get("format") != FORMAT:
        raise ValueError(
            f"{str(path)!r} was saved by scapp {entry.get('version')} in the format {entry.get('format')}; this scapp reads the "
            f"format {FORMAT}. Update scapp, or save the model with this one."
        )
    if checksum({**content, ENTRY: entry}) != expected:
        raise ValueError(f"{str(path)!r} is damaged: its checksum is not that of its content. Copy or save it again.")
    nan = [name for name, value in content["model_state_dict"].items() if _has_nan(value)]
    if nan:
        raise ValueError(
            f"The weights {', '.join(nan[:5])} of {str(path)!r} hold NaN. Train the model again, and save it."
        )
    for name, expected in entry["data"].items() if with_data else ():
        data = folder / f"{prefix}{name}"
        if data.is_file() and _hash_of_file(data) != expected:
            raise ValueError(
                f"{str(data)!r} was not saved with {str(path)!r}, or is damaged. Pass the training data with adata=…, or save both "
                "again with save_anndata=True."
            )


def plain(value: Any) -> Any:
    """Return a value as tensors, containers, text and numbers: arrays become tensors or lists of text, tables dictionaries.

    Raises
    ------
    TypeError
        For objects that have no such form.
    """
    if value is None or isinstance(value, str | bool | int | float | Tensor):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf":
            return torch.from_numpy(np.ascontiguousarray(value))
        return [plain(each) for each in value.ravel().tolist()]
    if isinstance(value, pd.DataFrame):
        columns = {str(name): plain(column.to_numpy()) for name, column in value.items()}
        return {FRAME: str(value.index.name or ""), "index": plain(value.index.to_numpy()), "columns": columns}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(each) for each in value) if type(value) in (list, tuple) else list(map(plain, value))
    raise TypeError(f"A {type(value).__name__} cannot be saved with a model: {value!r:.80}.")


def arrays(value: Any) -> Any:
    """Return what :func:`plain` made of arrays and tables as arrays and tables again; lists of text stay."""
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, Mapping):
        if FRAME in value:
            columns = {name: arrays(column) for name, column in value["columns"].items()}
            return pd.DataFrame(columns, index=pd.Index(arrays(value["index"]), name=value[FRAME] or None))
        return {key: arrays(each) for key, each in value.items()}
    return value


def checksum(value: Any) -> str:
    """Return the SHA-256 of a plain value, the same on every machine."""
    digest = hashlib.sha256()
    _add(value, digest)
    return digest.hexdigest()


def _add(value: Any, digest: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value):
            digest.update(f"{{{key!r}".encode())
            _add(value[key], digest)
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for each in value:
            _add(each, digest)
    else:
        digest.update(repr(value).encode())


def _has_nan(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any())


def _hash_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
