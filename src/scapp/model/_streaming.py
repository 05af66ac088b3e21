"""Predictions of any number of perturbations, written as they are made."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal

from rich.progress import track

from scapp._checked import checked
from scapp._keys import Key
from scapp._settings import settings
from scapp.model._prediction import PredictionMixin
from scapp.model._results import new_anndata, over_all_genes
from scapp.model._store import check_place, new_store, rows_in_chunk
from scapp.module import Wanted


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

        The file is the AnnData that :meth:`predict` returns, without `X`. It is written under a hidden name beside `path` and
        moved there when it is whole. Memory does not grow with the number of perturbations but for their names; the
        effects and random walks of the genes that occur are computed once.

        Parameters
        ----------
        path
            Folder to write, usually ``….zarr``; the folder that holds it must exist.
        perturbations
            Labels, as in :meth:`predict`; a generator will do.
        std
            Whether to write ``layers["predicted_lfc_std"]``.
        p_change
            Whether to write ``layers["p_change"]``, with the threshold that the noise of the screen supports.
        attention
            Whether to write ``layers["attention"]``. It costs half as much time again.
        kind
            As in :meth:`predict`.
        dtype
            Type of the layers; ``"float16"`` halves the file and keeps three digits.
        overwrite
            Whether to replace a zarr file that is there.
        progress_bar
            Whether to show a progress bar.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        FileExistsError
            If there is something at `path`, and `overwrite` is false or it is no zarr file.
        FileNotFoundError
            If the folder that is to hold `path` does not exist.
        OSError
            If the disk is full. Nothing half-written is left, and a file that was to be replaced is as it was.
        ValueError, TypeError
            For labels that :meth:`predict` refuses, before anything is written.

        Examples
        --------
        All pairs of some genes, and the first hundred of them read again:

        >>> pairs = map("+".join, itertools.combinations(genes, 2))
        >>> model.predict_to_zarr("pairs.zarr", pairs)
        >>> zarr.open("pairs.zarr")["layers/predicted_lfc"][:100]
        """
        self._check_trained()
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be 'float32' or 'float16', found {dtype!r}.")
        place = check_place(path, overwrite=overwrite)
        names, parsed = self._read_labels(perturbations)
        r, obs = self._registered, self._grouped(self._describe(names, parsed))
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
