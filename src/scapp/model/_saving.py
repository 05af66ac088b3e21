"""Models on disk: written whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData

from scapp._checked import checked
from scapp._settings import hushed
from scapp.model._format import arrays, check, rewrite

if TYPE_CHECKING:
    from mudata import MuData

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Where torch writes files; that this is named is all its errors have in common.
TORCH_WRITER = "inline_container.cc"


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
        """Save the model; :meth:`load` needs no training data.

        The files are written under a hidden name and moved to their place when all are whole. ``model.pt`` holds tensors and
        plain values only, which ``torch.load(weights_only=True)`` reads, with a checksum and the version of scapp.

        Parameters
        ----------
        dir_path
            Folder to write; made, with those that hold it, if it is not there.
        prefix
            Put before the names of the files.
        overwrite
            Whether files of an earlier model may be replaced; other files of the folder stay.
        save_anndata
            Whether the AnnData or MuData is saved too.
        save_kwargs
            For :func:`torch.save`.
        **kwargs
            As in :meth:`scvi.model.base.BaseModelClass.save`.

        Raises
        ------
        ValueError
            If the folder exists and `overwrite` is False, or the model has no data to be saved with it.
        OSError
            If the disk is full; what was there before is there still.
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
        """Load a saved model. No code is run from its files, and damaged ones are refused.

        ``convert_legacy_save`` and the hub's own readers are those of scvi-tools, which unpickle: use them on files you trust.

        Parameters
        ----------
        dir_path
            Folder of the model; ``~`` is the home folder.
        adata
            Data with the genes of the training, for `predict` to write into. None: those saved with the model, if any;
            False: none.
        prefix
            As in :meth:`save`.
        *args, **kwargs
            As in :meth:`scvi.model.base.BaseModelClass.load`.

        Raises
        ------
        ValueError
            If there is no model, or its file is damaged, was not written by :meth:`save` or by a later version of scapp, or
            the data beside it were saved with another model.

        See Also
        --------
        save : Write a model.
        """
        if kwargs.get("backup_url") is not None:
            raise TypeError("load() takes no backup_url: download the model first, so that it can be checked.")
        folder = Path(dir_path).expanduser()
        check(folder, prefix or "", with_data=adata is None)
        with hushed("scvi"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Save path contains no saved anndata")
            model = super().load(str(folder), adata, *args, prefix=prefix, **kwargs)  # type: ignore[misc]
        model.history_ = arrays(model.history_)
        return model


@contextmanager
def atomic_write(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder, not made yet, whose files appear in `folder` when the block ends without error.

    Raises
    ------
    OSError
        If the disk is full.
    """
    place = folder.resolve()  # what a link points at is written, and the link stays
    made = [parent for parent in place.parents if not parent.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    parent = place if place.exists() else place.parent
    for left in parent.glob(f".{glob.escape(place.name)}.????????.partial"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    hidden = parent / f".{place.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        yield hidden
        if place.exists():
            for file in hidden.iterdir():
                file.replace(place / file.name)
        else:
            hidden.rename(place)
    except (OSError, RuntimeError) as error:
        if TORCH_WRITER in str(error) or (isinstance(error, OSError) and error.errno in FULL):
            free = shutil.disk_usage(place if place.exists() else place.parent).free
            raise OSError(
                errno.ENOSPC,
                f"{str(place)!r} could not be written, most likely because the disk is full ({free / 1e9:.3g} GB are free). "
                "What was written has been removed. Free some space, or write to another disk",
            ) from error
        raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        for parent in made:
            if not place.exists() and not any(parent.iterdir()):
                parent.rmdir()
