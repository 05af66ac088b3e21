"""Public screens by name."""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scapp._checked import checked
from scapp._docs import documented
from scapp._download import RemoteFile, fetch, small_tables
from scapp._keys import Key
from scapp._labels import format_label, parse_labels
from scapp.datasets._tidy import CONTROL, load_h5ad, no_news_of_mudata, tidy, with_columns

if TYPE_CHECKING:
    from mudata import MuData

Folder = str | os.PathLike[str] | None
Screen = Literal["upr", "upr_epistasis", "pilot"]
_Read = TypeVar("_Read")

logger = logging.getLogger(__name__)

_EFFECT_ARRAYS = ("lfc_s", "lfc_d", "sing_labels", "doub_labels", "genes_hvg", "comp_ok")

# scPerturb {cite:p}`Peidli2024`: harmonised files of many screens.
_SCPERTURB = "https://zenodo.org/records/10044268/files"


def _scperturb(name: str, md5: str) -> RemoteFile:
    return RemoteFile(name, f"{_SCPERTURB}/{name}", f"md5:{md5}")


NORMAN_EFFECTS: Final = RemoteFile(
    "norman_effect_bundle.npz",
    "https://raw.githubusercontent.com/MasalaKimchi/cell-state-reachability/"
    "9b7a2b195e5e573c9b8a465cce9e9786e033aaf8/notebooks/cache/norman_effect_bundle.npz",
    "sha256:8979d2ff3ea4e110f0e48f6342d0766c90036fe9876b9de53c93a8a401ec6f12",
)
NORMAN_SUBSET: Final = RemoteFile(
    "devel.h5ad",
    "https://github.com/altoslabs/perturbench/raw/d357dfa/src/perturbench/data/resources/devel.h5ad",
    "sha256:220998f5630c813228c8661c86dd52244b9ac87127511289af90e0d900d8429b",
)
NORMAN: Final = _scperturb("NormanWeissman2019_filtered.h5ad", "c870e6967d91c017d9da827bab183cd6")
ADAMSON: Final = {
    "pilot": _scperturb("AdamsonWeissman2016_GSM2406675_10X001.h5ad", "232f7e3756d41602bbe434b50662a76f"),
    "upr_epistasis": _scperturb("AdamsonWeissman2016_GSM2406677_10X005.h5ad", "8657391920e7f8b3e6fd52745777002a"),
    "upr": _scperturb("AdamsonWeissman2016_GSM2406681_10X010.h5ad", "2fa44ea61a8dd35742af618638ec65fc"),
}
REPLOGLE_RPE1: Final = _scperturb("ReplogleWeissman2022_rpe1.h5ad", "cc7f1ec50aeb3a3e1b4a6cfa713d80fa")
REPLOGLE_ESSENTIAL: Final = _scperturb("ReplogleWeissman2022_K562_essential.h5ad", "d8cba17576d1a8afc0f7d71b79cad0f7")
REPLOGLE_GWPS: Final = _scperturb("ReplogleWeissman2022_K562_gwps.h5ad", "13db594f8f1d2ccb88fec44a13e414dc")
# A long table of the strongest z-scores, from one commit of its repository; no hash of it is published.
REPLOGLE_ZSCORES: Final = RemoteFile(
    "replogle_2022_k562_zscores.parquet",
    "https://raw.githubusercontent.com/rsflinn/truthseq-data/"
    "e8a2100a1bf05e5f4c2f4e3f3268d242132eda6b/replogle_knockdown_effects.parquet",
)
# Unlike scPerturb's file, pertpy's has guides as well as genes; its hash is not published.
PAPALEXI: Final = RemoteFile("papalexi_2021.h5mu", "https://exampledata.scverse.org/pertpy/papalexi_2021.h5mu")
_PAPALEXI_SMALL = "papalexi_2021_counts.h5ad"
_GUIDE_COLUMNS = ("bio_rep", "grna_id", "grna_target", "grna_umi", "grna_umi_total")

# Texts that the docstrings of several screens share.
_FETCHED = """\
folder
    Folder of the file; if None, ``$SCAPP_DATA_DIR`` or else ``scanpy.settings.datasetdir``.
base_url
    Mirror that has the file under its name; ``$SCAPP_DATA_URL`` or else the public host if None.
progress_bar
    Whether to show a progress bar."""
_RAISES = """\
Raises
------
ConnectionError
    If the file cannot be fetched.
ValueError
    If the local or downloaded file is not the published one."""
_CELLS = f"""\
{_FETCHED}
backed
    Leave the counts on disk; :func:`scapp.pp.pseudobulk` reads them in blocks.

Returns
-------
Cells by genes, raw counts in `X`. `obs`: ``perturbation`` (``"control"``, ``"KLF1"``, ``"CEBPA+KLF1"``), ``control``,
``n_perturbed_genes``, ``batch`` where the file has it; then the columns of the source. Cells without a known
perturbation are left out, and how many is logged.

{_RAISES}"""
_fetching = documented({"fetched": _FETCHED, "raises": _RAISES, "cells": _CELLS})


@checked
@_fetching
def norman_2019_effects(*, folder: Folder = None, base_url: str | None = None, progress_bar: bool = True) -> AnnData:
    """Return effects of 104 single and 130 double activations in K562 cells :cite:p:`Norman2019`, a file of 3.4 MB.

    This is the smallest real screen for trying scapp. Others computed the table from the published counts (repository
    MasalaKimchi/cell-state-reachability, MIT license); it has no cells and no standard errors.

    Parameters
    ----------
    {fetched}

    Returns
    -------
    AnnData of shape (234, 2000): perturbations by highly variable genes. `X` and ``layers["lfc"]`` hold the
    log-fold-changes (natural log of counts per million plus one, of the pseudobulk, minus that of the control cells),
    float32. `obs`: ``perturbation``, ``control`` (none is), ``n_perturbed_genes`` and ``both_singles_measured``.

    {raises}

    Examples
    --------
    >>> import scapp
    >>> effects = scapp.datasets.norman_2019_effects()
    >>> scapp.pp.add_network(effects, scapp.resources.string())
    """
    path = fetch(NORMAN_EFFECTS, folder=folder, base_url=base_url, progress_bar=progress_bar)
    arrays = _readable(path, _effect_arrays)
    labels = [str(label) for name in ("sing_labels", "doub_labels") for label in arrays[name]]
    perturbations = parse_labels(labels, control=None)
    lfc = np.vstack([arrays["lfc_s"], arrays["lfc_d"]])
    names = [format_label(genes) for genes in perturbations]
    obs = pd.DataFrame({Key.obs.PERTURBATION: names, Key.obs.CONTROL: False}, index=names)
    obs[Key.obs.N_PERTURBED_GENES] = [len(genes) for genes in perturbations]
    obs["both_singles_measured"] = np.concatenate([np.ones(len(arrays["sing_labels"]), dtype=bool), arrays["comp_ok"]])
    var = pd.DataFrame(index=arrays["genes_hvg"].astype(str))
    return AnnData(lfc, obs=obs, var=var, layers={Key.layers.LFC: lfc.copy()})


@checked
@_fetching
def norman_2019_cells_subset(
    *, folder: Folder = None, base_url: str | None = None, progress_bar: bool = True
) -> AnnData:
    """Return 3,375 cells of the screen of :cite:t:`Norman2019`, a file of 1.1 MB.

    It has 100 control cells, 18 single and 15 double activations, with at most 100 cells each: enough for a first run
    with cells. The file is one of the two screens in the test data of PerturBench (repository altoslabs/perturbench,
    BSD-3-Clause). Some targets have their current symbols; the original ones are in ``obs["perturbation_raw"]``.

    Parameters
    ----------
    {fetched}

    Returns
    -------
    AnnData of shape (3375, 500); `X` is the natural log of counts per 10,000 plus one, sparse, float32. `obs`:
    ``perturbation``, ``control``, ``n_perturbed_genes``, ``batch`` (the 10x lane, from the number after the barcode),
    followed by the columns of the source, including ``ncounts``.

    {raises}
    """
    cells = load_h5ad(fetch(NORMAN_SUBSET, folder=folder, base_url=base_url, progress_bar=progress_bar))
    cells = tidy(cells[cells.obs["dataset"] == "norman19"].copy())
    lane = cells.obs_names.str.extract(r"-(\d+)$", expand=False).to_numpy()
    columns = {name: cells.obs[name] for name in (Key.obs.PERTURBATION, Key.obs.CONTROL, Key.obs.N_PERTURBED_GENES)}
    cells.obs = with_columns(cells.obs, columns | {Key.obs.BATCH: lane})
    cells.X = cells.X.astype(np.float32)
    return cells


@checked
@_fetching
def norman_2019(
    *, folder: Folder = None, base_url: str | None = None, progress_bar: bool = True, backed: bool = False
) -> AnnData:
    """Return all cells of the screen of :cite:t:`Norman2019`, from scPerturb :cite:p:`Peidli2024`, a file of 699 MB.

    The screen activates single genes and pairs of genes in K562 cells.

    Parameters
    ----------
    {cells}
    """
    return _cells(NORMAN, folder, base_url, progress_bar, backed)


@checked(own=("screen",))
@_fetching
def adamson_2016(
    *,
    screen: Screen = "upr",
    folder: Folder = None,
    base_url: str | None = None,
    progress_bar: bool = True,
    backed: bool = False,
) -> AnnData:
    """Return cells of a screen of :cite:t:`Adamson2016`, from scPerturb :cite:p:`Peidli2024`: interference in K562 cells.

    Parameters
    ----------
    screen
        ``"upr"``: genes of the unfolded protein response (GSM2406681, 10X010); ``"upr_epistasis"``: its three sensors alone
        and in combination (GSM2406677, 10X005); ``"pilot"``: few genes (GSM2406675, 10X001).
        Any other value raises a ValueError.
    {cells}
    """
    if screen not in ADAMSON:
        known = ", ".join(map(repr, ADAMSON))
        raise ValueError(f"There is no screen {screen!r} of Adamson et al. 2016; pass screen= one of {known}.")
    return _cells(ADAMSON[screen], folder, base_url, progress_bar, backed)


@checked
@_fetching
def replogle_2022_k562_essential(
    *, folder: Folder = None, base_url: str | None = None, progress_bar: bool = True, backed: bool = False
) -> AnnData:
    """Return cells of the screen of essential genes in K562 of :cite:t:`Replogle2022`, from scPerturb :cite:p:`Peidli2024`.

    Interference with one gene per cell. A file of about 1.5 GB.

    Parameters
    ----------
    {cells}
    """
    return _cells(REPLOGLE_ESSENTIAL, folder, base_url, progress_bar, backed)


@checked
@_fetching
def replogle_2022_rpe1(
    *, folder: Folder = None, base_url: str | None = None, progress_bar: bool = True, backed: bool = False
) -> AnnData:
    """Return cells of the screen of essential genes in RPE1 of :cite:t:`Replogle2022`, from scPerturb :cite:p:`Peidli2024`.

    Interference with one gene per cell. A large file: see `backed`.

    Parameters
    ----------
    {cells}
    """
    return _cells(REPLOGLE_RPE1, folder, base_url, progress_bar, backed)


@checked
@_fetching
def replogle_2022_k562_gwps(
    *, folder: Folder = None, base_url: str | None = None, progress_bar: bool = True, backed: bool = True
) -> AnnData:
    """Return cells of the genome-wide screen in K562 of :cite:t:`Replogle2022`, from scPerturb :cite:p:`Peidli2024`.

    Interference with one gene per cell. The file has several gigabytes and takes more in memory, so it stays on disk
    unless you pass ``backed=False``.

    Parameters
    ----------
    {cells}
    """
    return _cells(REPLOGLE_GWPS, folder, base_url, progress_bar, backed)


@checked
@_fetching
def replogle_2022_k562_zscores(
    *, folder: Folder = None, base_url: str | None = None, progress_bar: bool = True, known_hash: str | None = None
) -> pd.DataFrame:
    """Return z-scores of 6,797 knockdowns in K562 cells :cite:p:`Replogle2022`, a table of 1.5 MB without cells.

    Others computed it from the published screen (repository rsflinn/truthseq-data, MIT license) and kept the entries
    with an absolute z-score of at least 0.5. It is loaded from one commit of that repository; no hash of it is
    published.

    Parameters
    ----------
    {fetched}
    known_hash
        Hash that the file must have, for example ``"sha256:…"``.

    Returns
    -------
    DataFrame with one row per entry: ``knocked_down_gene``, ``affected_gene``, ``z_score`` (float), ``cell_line``.
    Some entries occur twice, and the pseudo knockdown ``"NON-TARGETING_NON-TARGETING"`` is left out.

    Raises
    ------
    ConnectionError
        If the file cannot be fetched.
    ValueError
        If the local or downloaded file is a different one.

    See Also
    --------
    scapp.pp.read_effects : Turns it into effects.

    Examples
    --------
    >>> import scapp
    >>> table = scapp.datasets.replogle_2022_k562_zscores()
    >>> clipped = table.assign(z_score=table["z_score"].clip(-3, 3))
    >>> effects = scapp.pp.read_effects(
    ...     clipped.drop_duplicates(["knocked_down_gene", "affected_gene"]),
    ...     perturbation="knocked_down_gene",
    ...     gene="affected_gene",
    ...     lfc="z_score",
    ...     base="e",
    ...     fill_value=0,
    ... )
    """
    file = replace(REPLOGLE_ZSCORES, known_hash=known_hash)
    path = fetch(file, folder=folder, base_url=base_url, progress_bar=progress_bar)
    table = _readable(path, pd.read_parquet)
    missing = {"knocked_down_gene", "affected_gene", "z_score"} - set(table.columns)
    if missing:
        raise ValueError(
            f"{str(path)!r} has no column {', '.join(map(repr, sorted(missing)))}. Remove the file and try again."
        )
    return table[table["knocked_down_gene"] != "NON-TARGETING_NON-TARGETING"].reset_index(drop=True)


@checked
@_fetching
def papalexi_2021(
    *, folder: Folder = None, base_url: str | None = None, progress_bar: bool = True, known_hash: str | None = None
) -> MuData:
    """Return cells of the ECCITE-seq screen of :cite:t:`Papalexi2021`, from pertpy: knockout in THP-1 cells.

    pertpy's file is used because it has guides as well as genes. No hash of it is published, so only its format can be
    checked: keep the hash that is logged, and pass it in later calls.

    Parameters
    ----------
    {fetched}
    known_hash
        Hash that the file must have, for example ``"sha256:…"``.

    Returns
    -------
    MuData with the modalities of the file. ``mdata["rna"].obs`` has the columns that :func:`norman_2019` describes, its
    labels from ``gene_target``; columns of the source with one of these names are kept as ``"…_source"``.

    Raises
    ------
    ConnectionError
        If the file cannot be fetched.
    ValueError
        If the local or downloaded file is a different one, cannot be read, or has no modality ``"rna"``.
    """
    import mudata
    import pooch

    path = fetch(replace(PAPALEXI, known_hash=known_hash), folder=folder, base_url=base_url, progress_bar=progress_bar)
    with no_news_of_mudata():
        mdata = _readable(path, mudata.read_h5mu)
    if "rna" not in mdata.mod:
        raise ValueError(f"{str(path)!r} has no modality 'rna', but {', '.join(map(repr, mdata.mod))}.")
    if known_hash is None:
        logger.warning(
            "No hash of %s is published, so that it cannot be checked. To be told when it changes, pass "
            "known_hash='sha256:%s'.",
            *(path.name, pooch.file_hash(str(path))),
        )
    rna = tidy(mdata.mod["rna"], perturbation_key="gene_target")
    # Remove cells from all modalities, because scvi-tools requires them to be paired.
    others = {
        name: mod if mod.obs_names.isin(rna.obs_names).all() else mod[mod.obs_names.isin(rna.obs_names)].copy()
        for name, mod in mdata.mod.items()
        if name != "rna"
    }
    with no_news_of_mudata():
        return mudata.MuData({"rna": rna} | others)


@checked
@_fetching
def papalexi_2021_guides(
    *, folder: Folder = None, base_url: str | None = None, progress_bar: bool = True, known_hash: str | None = None
) -> AnnData:
    r"""Return the counts and guides of the cells of :cite:t:`Papalexi2021`, without labels.

    :func:`papalexi_2021` has the labels of the authors; here you make them from the guides. If the data folder holds
    ``papalexi_2021_counts.h5ad`` (3.3 MB, 299 genes, made from the repository Katsevich-Lab/sceptredata, MIT license),
    it is read instead of pertpy's file, which has all genes.

    Parameters
    ----------
    {fetched}
    known_hash
        Hash that pertpy's file must have, for example ``"sha256:…"``.

    Returns
    -------
    Cells by genes, raw counts in `X`, without labels. `obs`: ``bio_rep`` (replicate), ``grna_id`` (the strongest guide of the
    cell, such as ``"STAT2g2"``; ``"NTg1"`` is a control, and ``"unassigned"`` a cell without counts of guides),
    ``grna_target`` (the published label, ``"non-targeting"`` for controls), ``grna_umi`` (counts of that guide) and
    ``grna_umi_total`` (counts of all guides of the cell).

    Raises
    ------
    ConnectionError
        If the file cannot be fetched.
    ValueError
        If the local or downloaded file is a different one, cannot be read, or has no modalities ``"rna"`` and ``"gdo"``.

    See Also
    --------
    scapp.pp.guides_to_perturbations : Makes labels from the guides.

    Examples
    --------
    >>> import scapp
    >>> cells = scapp.datasets.papalexi_2021_guides()
    >>> scapp.pp.guides_to_perturbations(
    ...     cells,
    ...     calls_key="grna_id",
    ...     counts_key="grna_umi",
    ...     total_counts_key="grna_umi_total",
    ...     targets=r"(.+)g\d+",
    ...     min_share=0.8,
    ... )
    """
    small = small_tables([_PAPALEXI_SMALL], instead_of=PAPALEXI, folder=folder)
    if small:
        cells = _readable(small[0], load_h5ad)
        missing = [name for name in _GUIDE_COLUMNS if name not in cells.obs]
        if missing:
            raise ValueError(f"{str(small[0])!r} has no obs column {', '.join(map(repr, missing))}. Move it away.")
        return cells
    mdata = papalexi_2021(folder=folder, base_url=base_url, progress_bar=progress_bar, known_hash=known_hash)
    if "gdo" not in mdata.mod:
        raise ValueError(f"The file has no modality 'gdo' of guides, but {', '.join(map(repr, mdata.mod))}.")
    rna, gdo = mdata.mod["rna"], mdata.mod["gdo"]
    guides = gdo[rna.obs_names].X
    counts = guides.toarray() if sparse.issparse(guides) else np.asarray(guides)
    strongest = gdo.var_names.to_numpy(dtype=object)[counts.argmax(axis=1)]
    target = rna.obs[Key.obs.PERTURBATION].astype(str).replace(CONTROL, "non-targeting")
    obs = {
        "bio_rep": rna.obs[Key.obs.BATCH].to_numpy() if Key.obs.BATCH in rna.obs else "1",
        "grna_id": np.where(counts.any(axis=1), strongest, "unassigned"),
        "grna_target": target.to_numpy(dtype=object),
        "grna_umi": counts.max(axis=1).astype(np.float64),
        "grna_umi_total": counts.sum(axis=1).astype(np.float64),
    }
    return AnnData(rna.X.copy(), obs=pd.DataFrame(obs, index=rna.obs_names), var=rna.var[[]].copy())


def _cells(file: RemoteFile, folder: Folder, base_url: str | None, progress_bar: bool, backed: bool) -> AnnData:
    path = fetch(file, folder=folder, base_url=base_url, progress_bar=progress_bar)
    return tidy(_readable(path, lambda path: load_h5ad(path, backed="r" if backed else None)))


def _effect_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in _EFFECT_ARRAYS}


def _readable(path: Path, read: Callable[[Path], _Read]) -> _Read:
    # Errors that numpy, mudata and h5py raise for damaged files.
    errors = (OSError, KeyError, TypeError, ValueError, EOFError, zlib.error, zipfile.BadZipFile)
    try:
        return read(path)
    except errors as error:
        raise ValueError(
            f"{str(path)!r} cannot be read ({error}). Move it away, so that it is downloaded again."
        ) from error
