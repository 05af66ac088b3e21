"""Models on disk: written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData

from scapp._checked import checked

if TYPE_CHECKING:
    from mudata import MuData

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Where torch writes files; that this is named is all its errors have in common.
TORCH_WRITER = "inline_container.cc"


class SavingMixin:
    """How :class:`scapp.model.APP` is saved."""

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
        """Save the model, as scvi-tools does; :meth:`load` needs no training data.

        The files are written under a hidden name and moved to their place when all are whole.

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
            with moved_when_whole(dir_path) as hidden:
                options = {"prefix": prefix, "save_anndata": save_anndata, "save_kwargs": save_kwargs, **kwargs}
                super().save(str(hidden), **options)  # type: ignore[misc]
        finally:
            if backing is not None:  # anndata takes the copy for the file of the user's data
                self.adata.file.filename = backing

    @classmethod
    def load(cls, dir_path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder of the model; ``~`` is the home folder.
        *args, **kwargs
            As in :meth:`scvi.model.base.BaseModelClass.load`.
        """
        return super().load(str(Path(dir_path).expanduser()), *args, **kwargs)  # type: ignore[misc]


@contextmanager
def moved_when_whole(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder, not made yet, whose files appear in `folder` when the block ends without error.

    Raises
    ------
    OSError
        If the disk is full.
    """
    place = folder.resolve()  # what a link points at is written, and the link stays
    made = [parent for parent in place.parents if not parent.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    hidden = (place if place.exists() else place.parent) / f".{place.name}.{uuid.uuid4().hex[:8]}.partial"
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
