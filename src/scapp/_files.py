"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The part of torch that writes files; its name is all that torch's errors on writing have in common.
TORCH_WRITER = "inline_container.cc"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch file beside `path` to be written, which takes its place when the block ends without error."""
    scratch = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def atomic_write(folder: Path) -> Iterator[Path]:
    """Yield the path of a hidden folder, not created yet, whose files move into `folder` if the block ends without error.

    Raises
    ------
    OSError
        If the disk is full.
    """
    place = folder.resolve()  # write to the target of a link, and keep the link
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


def put_folder(folder: Path, place: Path, *, overwrite: bool) -> None:
    """Move a folder to its place; what is to be replaced there stays if that fails."""
    if not (overwrite and place.exists()):
        folder.rename(place)
        return
    old = place.with_name(f"{folder.name}.old")
    place.rename(old)
    try:
        folder.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old)
