"""Read AnnData files, and say of damaged files and of other kinds of files what they are and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import h5py

from scapp._tables import PathLike, check_is_text, is_gzipped

if TYPE_CHECKING:
    from anndata import AnnData

# Groups that other files in HDF5 have, and who reads these files.
_OTHER_FILES = {
    "matrix": ("a 10x or loom file", "`scanpy.read_10x_h5(path)` or `anndata.io.read_loom(path)`, and label its cells"),
    "mod": ("a MuData", "`mudata.read_h5mu(path)`, and pass the modality with the expression, such as mdata['rna']"),
}


def path_of_anndata(given: PathLike) -> Path:
    """Return the path of an h5ad file or a zarr folder, ``~`` for the home folder; ValueError if it is none, or is of another kind."""
    if "://" in str(given):
        raise ValueError(f"{str(given)!r} is an address, expected the path of a file. Download it first.")
    path = Path(given).expanduser()
    if not path.exists():
        raise ValueError(f"There is no file {str(path)!r} (looked in {str(Path.cwd())!r}).")
    if path.is_dir() or not h5py.is_hdf5(path):
        _say_what_it_is(path)
    else:
        with named(path), h5py.File(path, "r") as store:
            for group, (kind, reader) in _OTHER_FILES.items():
                if group in store and not ("obs" in store and "var" in store and group != "mod"):
                    raise ValueError(f"{str(path)!r} is {kind}, where an AnnData is expected. Read it with {reader}.")
    return path


def read_anndata(given: PathLike, *, backed: Literal["r"] | None = None) -> AnnData:
    """Read an h5ad file or a zarr folder; see :func:`path_of_anndata`."""
    import anndata

    path = path_of_anndata(given)
    with named(path, (Exception,)):  # anndata has its own
        return anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path, backed=backed)


@contextmanager
def named(path: Path, errors: tuple[type[Exception], ...] = (OSError, KeyError, TypeError)) -> Iterator[None]:
    """Turn errors in reading an AnnData file into a ValueError with the file, what is wrong, and what mends it."""
    try:
        yield
    except MemoryError:
        raise  # the file may be intact
    except errors as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as an AnnData: it is truncated, damaged or of another kind ({error}). "
            "Expected a .h5ad file or a .zarr folder; fetch or write it again."
        ) from error


def _say_what_it_is(path: Path) -> None:
    """Raise if a path is an intact table, or of another kind that its name or its first bytes reveal."""
    if path.is_dir():
        if any((path / f"matrix.mtx{packed}").exists() for packed in ("", ".gz")):
            raise ValueError(
                f"{str(path)!r} is a folder of Cell Ranger, where an AnnData is expected. Read it with `scanpy.read_10x_mtx(path)`, and "
                "label its cells."
            )
        return
    if is_gzipped(path) and path.name.lower().endswith((".h5ad.gz", ".h5.gz", ".h5mu.gz", ".loom.gz")):
        raise ValueError(f"{str(path)!r} is packed. Unpack it with `gunzip`, and pass the unpacked file.")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv", ".txt", ".tab", ".parquet", ".xlsx")):
        raise ValueError(
            f"{str(path)!r} is a table, where an AnnData of cells is expected. Read effects of perturbations with "
            "`scapp.pp.read_effects(path)`, and counts of cells with `anndata.io.read_csv(path)`."
        )
    if not name.endswith((".h5ad", ".h5", ".zarr")):
        check_is_text(path)
