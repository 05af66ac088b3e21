"""Saving and loading of models as tensors and plain values with a checksum, so that files cannot run code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from scapp._checked import checked
from scapp._files import atomic_write
from scapp._settings import hushed

if TYPE_CHECKING:
    from mudata import MuData

FORMAT = 1
ENTRY = "scapp"
FRAME = "__table__"
MODEL, DATA = "model.pt", ("adata.h5ad", "mdata.h5mu")


def rewrite(folder: Path, prefix: str, save_kwargs: dict[str, Any]) -> None:
    """Rewrite the file that scvi-tools has just written, without any objects that would have to be unpickled.

    Parameters
    ----------
    folder
        Folder of the model, and perhaps its data.
    prefix
        Prefix of the file names.
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
    """Refuse a file that is damaged, holds objects, or was written by a later scapp, without running any code in it.

    Parameters
    ----------
    folder
        Holds the model.
    prefix
        Prefix of the file names.
    with_data
        Whether the data in the folder will be loaded too, so that they must be those saved with the model.

    Raises
    ------
    ValueError
        With the file and the problem.
    """
    path = folder / f"{prefix}{MODEL}"
    if not path.is_file():
        raise ValueError(
            f"There is no saved model {str(path)!r}. Name the folder that `model.save(folder)` has written."
        )
    try:
        _check_entries(path)
        content = torch.load(path, weights_only=True, map_location="cpu")
        entry = dict(content[ENTRY])
        expected = entry.pop("checksum")
        found = checksum({**content, ENTRY: entry})
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
    if found != expected:
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


def _check_entries(path: Path) -> None:
    """Raise if an entry of the archive is not as it was written: torch would allocate whatever a damaged size asks for."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)


def plain(value: Any) -> Any:
    """Convert a value to tensors, containers, text and numbers; arrays become tensors or lists, tables dictionaries.

    Raises
    ------
    TypeError
        If the value cannot be converted.
    """
    if isinstance(value, Tensor):
        return value.contiguous()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf":
            return torch.from_numpy(np.array(value, order="C"))  # a copy: arrays of pandas 3 cannot be written to
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
    """Convert the output of :func:`plain` back to arrays and tables; lists of text stay lists."""
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
        # A damaged shape could ask for more memory than there is.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"A tensor of shape {tuple(value.shape)} has more values than its storage.")
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


class SavingMixin:
    """Save and load :class:`scapp.model.APP`."""

    adata: AnnData | MuData | None

    @checked
    def save(
        self,
        dir_path: str | os.PathLike[str],
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        save_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Save the model. :meth:`load` does not need the training data.

        The files are written under a hidden name and moved into place when all are complete. ``model.pt`` holds only
        tensors and plain values, which ``torch.load(weights_only=True)`` can read, with a checksum and the version of
        scapp.

        Parameters
        ----------
        dir_path
            Folder to write to; created with its parents if missing.
        prefix
            Prefix of the file names.
        overwrite
            Whether to replace the files of an earlier model; other files in the folder are kept.
        save_anndata
            Whether to save the AnnData or MuData too.
        save_kwargs
            For :func:`torch.save`.
        **kwargs
            As in :meth:`scvi.model.base.BaseModelClass.save`.

        Raises
        ------
        ValueError
            If the folder exists and `overwrite` is False, or data should be saved but the model has none.
        OSError
            If the disk is full; existing files are not lost.
        """
        dir_path = Path(dir_path).expanduser()
        if dir_path.exists() and not overwrite:
            raise ValueError(f"{str(dir_path)!r} exists already. Pass overwrite=True, or name another folder.")
        if save_anndata and self.adata is None:
            raise ValueError(
                "This model was loaded without its data. Pass save_anndata=False, or load it with adata=…."
            )
        backing = self.adata.filename if isinstance(self.adata, AnnData) else None
        try:
            with atomic_write(dir_path) as hidden:
                options = {"prefix": prefix, "save_anndata": save_anndata, "save_kwargs": save_kwargs, **kwargs}
                super().save(str(hidden), **options)  # type: ignore[misc]
                rewrite(hidden, prefix or "", save_kwargs or {})
        finally:
            if backing is not None:  # anndata takes the copy for the file of the user's data
                self.adata.file.filename = backing

    @classmethod
    def load(
        cls,
        dir_path: str | os.PathLike[str],
        adata: AnnData | MuData | bool | None = None,
        *args: Any,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a saved model, without running code from its files. Damaged files are refused.

        ``convert_legacy_save`` and the readers of the hub are those of scvi-tools, which unpickle, so use them only on
        files that you trust.

        Parameters
        ----------
        dir_path
            Folder of the model; ``~`` is expanded.
        adata
            Data with the training genes, for `predict` to write into. None uses those saved with the model, if any;
            False uses none.
        prefix
            As in :meth:`save`.
        *args, **kwargs
            As in :meth:`scvi.model.base.BaseModelClass.load`.

        Raises
        ------
        TypeError
            If `adata` is a path.
        ValueError
            If there is no model; if its file is damaged, or was not written by :meth:`save`, or was written by a later
            version of scapp; or if the data in the folder were saved with another model.

        See Also
        --------
        save : Write a model.
        """
        if kwargs.get("backup_url") is not None:
            raise TypeError("load() takes no backup_url: download the model first, so that it can be checked.")
        if isinstance(adata, str | os.PathLike):
            raise TypeError(
                f"adata of APP.load must be an AnnData, found the path {os.fspath(adata)!r}. Read it first: "
                f"`APP.load(folder, adata=anndata.read_h5ad({os.fspath(adata)!r}))`."
            )
        folder = Path(dir_path).expanduser()
        check(folder, prefix or "", with_data=adata is None)
        with hushed("scvi"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Save path contains no saved anndata")
            model = super().load(str(folder), adata, *args, prefix=prefix, **kwargs)  # type: ignore[misc]
        model.history_ = arrays(model.history_)
        return model
