"""Predictions of any number of perturbations, written in batches to a zarr file that appears when it is complete."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import zarr
from anndata import AnnData
from numcodecs import Blosc
from rich.progress import track

from scapp._checked import checked
from scapp._files import put_folder
from scapp._genes import over_all_genes
from scapp._keys import Key
from scapp._settings import settings
from scapp._warn import warn_user
from scapp.model._prediction import PredictionMixin
from scapp.model._results import new_anndata
from scapp.module import Wanted

VALUES_IN_CHUNK = 2**21  # 8 MB of float32: few files, and a slice of a few rows does not read much
# Floats compress better if bytes of equal significance are grouped; lz4 keeps up with the model.
COMPRESSOR = Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE)


def rows_in_chunk(n_vars: int) -> int:
    """Return the number of rows per chunk of a layer, which should be written together."""
    return max(1, VALUES_IN_CHUNK // max(n_vars, 1))


def check_place(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return the path if it can be written to.

    Raises
    ------
    FileNotFoundError
        If its parent folder does not exist.
    FileExistsError
        If the path exists and may not be overwritten.
    """
    place = Path(path).expanduser()
    if place.is_symlink():
        place = place.resolve()  # write to the target of a link, and keep the link
    if not place.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(place.parent)!r} to write {place.name!r} into. Create it first."
        )
    if place.exists() and not overwrite:
        raise FileExistsError(f"{str(place)!r} exists already. Pass overwrite=True to replace it, or another path.")
    if place.exists() and not ((place / ".zgroup").exists() or (place / "zarr.json").exists()):
        raise FileExistsError(f"{str(place)!r} exists and is no zarr store, so it is not replaced. Pass another path.")
    return place


@contextmanager
def new_store(
    place: Path, adata: AnnData, layers: Sequence[str], dtype: str, *, overwrite: bool
) -> Iterator[dict[str, Any]]:
    """Yield arrays to fill, one per layer, of a store that appears at `place` if the block ends without error.

    Until then it has a hidden name in the same folder. If anything fails, it is removed, and an earlier store at
    `place` is kept.

    Parameters
    ----------
    place
        Path from :func:`check_place`.
    adata
        Everything except the layers.
    layers, dtype
        Names and type of the layers, each in the shape of `adata`.
    overwrite
        Whether to replace an existing store.

    Raises
    ------
    OSError
        If the disk is full.
    """
    n_bytes = len(layers) * adata.n_obs * adata.n_vars * (2 if dtype == "float16" else 4)
    free = shutil.disk_usage(place.parent).free
    if n_bytes > free:
        warn_user(
            f"{str(place)!r} takes {_gigabytes(n_bytes)} before compression, and {_gigabytes(free)} are free there.",
        )
    hidden = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        group = zarr.open_group(hidden, mode="w", zarr_format=2)  # the format that all versions of anndata read
        ad.io.write_elem(group, "/", adata)
        options: dict[str, Any] = {
            "shape": adata.shape,
            "chunks": (min(rows_in_chunk(adata.n_vars), adata.n_obs), adata.n_vars),
            "dtype": dtype,
            "compressors": COMPRESSOR,
            "attributes": {"encoding-type": "array", "encoding-version": "0.2.0"},
        }
        yield {name: group["layers"].create_array(name, **options) for name in layers}
        zarr.consolidate_metadata(group.store)
        put_folder(hidden, place, overwrite=overwrite)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"The disk is full: writing {str(place)!r} takes up to {_gigabytes(n_bytes)}. What was written of it has been "
            "removed. Free some space, write to another disk, ask for fewer layers or perturbations, or pass "
            "dtype='float16'",
        ) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)  # nothing is left to remove once it has been moved


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.3g} GB"


class StreamingMixin(PredictionMixin):
    """Predict into files; a part of :class:`scapp.model.APP`."""

    @checked(own=("perturbations",))
    def predict_to_zarr(
        self,
        path: str | os.PathLike[str],
        perturbations: Iterable[str],
        *,
        std: bool = True,
        p_change: bool = False,
        attention: bool = False,
        kind: str | None = None,
        dtype: Literal["float32", "float16"] = "float32",
        overwrite: bool = False,
        progress_bar: bool = True,
    ) -> None:
        """Predict any number of perturbations into a zarr file, batch by batch.

        The file holds the AnnData that :meth:`predict` returns, without `X`. It is written under a hidden name in the
        folder of `path` and moved there when it is complete. Memory does not grow with the number of perturbations,
        except for their names; the effects and random walks of the genes that occur are computed once.

        Parameters
        ----------
        path
            Folder to write, usually ``….zarr``; its parent folder must exist.
        perturbations
            Labels, as in :meth:`predict`; may be a generator.
        std
            Whether to write ``layers["predicted_lfc_std"]``.
        p_change
            Whether to write ``layers["p_change"]``, with the threshold that the noise of the screen supports.
        attention
            Whether to write ``layers["attention"]``, which takes about 50 % more time.
        kind
            As in :meth:`predict`.
        dtype
            Type of the layers; ``"float16"`` halves the file and keeps three digits.
        overwrite
            Whether to replace an existing zarr file.
        progress_bar
            Whether to show a progress bar.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        FileExistsError
            If `path` exists, and `overwrite` is False or it is not a zarr file.
        FileNotFoundError
            If the parent folder of `path` does not exist.
        OSError
            If the disk is full. No half-written file is left, and an existing file is kept.
        ValueError, TypeError
            For labels that :meth:`predict` refuses; nothing is written then.

        Examples
        --------
        Predict all pairs of some genes, then read the first hundred:

        >>> pairs = map("+".join, itertools.combinations(genes, 2))
        >>> model.predict_to_zarr("pairs.zarr", pairs)
        >>> zarr.open("pairs.zarr")["layers/predicted_lfc"][:100]
        """
        self.check_trained()
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be 'float32' or 'float16', found {dtype!r}.")
        place = check_place(path, overwrite=overwrite)
        names, parsed = self.read_perturbations(perturbations)
        r, obs = self._registered, self._grouped(self.describe_perturbations(names, parsed))
        skeleton = new_anndata(obs, r.genes, r.measured, r.control_mean)
        threshold = self._threshold(None)
        skeleton.uns[Key.uns.SCAPP] = {Key.uns.PREDICTION: self._provenance(threshold)}
        wanted = Wanted(std=std, change=threshold if p_change else None, attention=attention)
        size = rows_in_chunk(skeleton.n_vars)
        layers = {
            Key.layers.PREDICTED_LFC: True,
            Key.layers.PREDICTED_LFC_STD: std,
            Key.layers.P_CHANGE: p_change,
            Key.layers.ATTENTION: attention,
        }
        names_of_layers = [name for name, asked in layers.items() if asked]
        found = self.predictions(parsed, wanted, kind=kind, batch_size=size)
        n_batches = -(-len(parsed) // size)
        with new_store(place, skeleton, names_of_layers, dtype, overwrite=overwrite) as arrays:
            for rows, values in track(
                found, description="Predicting", total=n_batches, disable=not progress_bar or settings.is_silent
            ):
                for name, array in arrays.items():
                    value = values[name]
                    array[rows] = value if name == Key.layers.ATTENTION else over_all_genes(value, r.measured)
