"""Writing of predictions into AnnData, after everything has been computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._genes import shorten
from scapp._keys import Key
from scapp.expression import TARGET_SUM

LARGEST_MEAN = np.log1p(TARGET_SUM)


@dataclass(frozen=True)
class Results:
    """Predictions of n perturbations over all genes; NaN where a gene was not measured.

    Parameters
    ----------
    layers
        Arrays of shape (n, n_vars), float32, by name.
    to_perturbations
        Attention to the measured perturbations, shape (n, n_training); None if there is none.
    obs
        One row per perturbation.
    """

    layers: dict[str, np.ndarray]
    to_perturbations: np.ndarray | None
    obs: pd.DataFrame


def profile_of(
    control_mean: AnnData | pd.Series | np.ndarray, genes: Sequence[str], measured: np.ndarray
) -> np.ndarray:
    """Return the mean expression of control cells over the genes of a model, from any accepted input.

    Raises
    ------
    ValueError
        If the profile lacks a measured gene, names one twice, has the wrong length, or does not look like expression.
    TypeError
        If it does not hold numbers.
    """
    if isinstance(control_mean, AnnData):
        if Key.varm.CONTROL_MEAN in control_mean.varm:
            raise ValueError(
                "These are effects in several contexts, each with its own controls. Take one with "
                "`scapp.pp.select_context(effects, '…')`."
            )
        if Key.var.CONTROL_MEAN not in control_mean.var:
            raise ValueError(
                "This AnnData has no var['control_mean']. Calculate its effects with `scapp.pp.pseudobulk`, or pass the mean "
                "log-normalised expression of its control cells as a Series indexed by gene."
            )
        control_mean = control_mean.var[Key.var.CONTROL_MEAN]
    if isinstance(control_mean, pd.Series):
        if not control_mean.index.is_unique:
            twice = control_mean.index[control_mean.index.duplicated()].unique()
            raise ValueError(f"control_mean names these genes more than once: {shorten(twice)}. Name each once.")
        control_mean = control_mean.reindex(genes)
    try:
        profile = np.asarray(control_mean, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "control_mean must be effects with var['control_mean'], a Series of numbers indexed by gene or an array of numbers, "
            f"found {type(control_mean).__name__}: {error}."
        ) from error
    if profile.shape != (len(genes),):
        raise ValueError(
            f"control_mean has the shape {profile.shape}, expected one value for each of the {len(genes)} genes of the model "
            "(model.genes). Pass a Series indexed by gene."
        )
    absent = np.array(genes, dtype=object)[measured & np.isnan(profile)]
    if len(absent):
        raise ValueError(
            f"control_mean has no value for {len(absent)} of the {int(measured.sum())} measured genes: {shorten(absent)}."
        )
    if (profile < 0).any():
        raise ValueError("control_mean holds negative values: expected mean log1p of counts per 10,000.")
    if np.nanmax(profile) > LARGEST_MEAN:
        raise ValueError(
            f"control_mean reaches {np.nanmax(profile):.4g}, more than log1p(10,000) = {LARGEST_MEAN:.4g} of a gene with all counts: "
            "expected mean log1p of counts per 10,000, as `scapp.pp.pseudobulk` writes it into var['control_mean']."
        )
    return profile


def new_anndata(
    obs: pd.DataFrame,
    genes: Sequence[str],
    measured: np.ndarray,
    control_mean: np.ndarray | None,
    results: Results | None = None,
) -> AnnData:
    """Return predictions as a new AnnData; `X` is the predicted mean expression, if that of the controls is known.

    Without results, `X` and the layers are left out.
    """
    var = pd.DataFrame({Key.var.MEASURED: measured}, index=pd.Index(genes, dtype=object))
    X = None
    if control_mean is not None:
        var[Key.var.CONTROL_MEAN] = control_mean
        if results is not None:
            X = np.maximum(
                control_mean + results.layers[Key.layers.PREDICTED_LFC], 0
            )  # log1p expression cannot be negative
    if results is None:
        return AnnData(X=X, obs=obs, var=var)
    obsm = {}
    if results.to_perturbations is not None:
        obsm[Key.obsm.ATTENTION_TO_PERTURBATIONS] = results.to_perturbations
    return AnnData(X=X, obs=obs, var=var, layers=results.layers, obsm=obsm)
