"""Regulation and signalling: CollecTRI, DoRothEA and OmniPath, from their files and OmniPath's web service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scapp._checked import checked
from scapp._download import RemoteFile, fetch, small_tables
from scapp._edges import read_edges
from scapp._provenance import check_columns, noted, taxon
from scapp._tables import PathLike, read_table

License = Literal["academic", "commercial"]

_SERVICE = "https://omnipathdb.org/interactions"
_ORGANISMS = ("human", "mouse", "rat")
_SIGNS = ("is_stimulation", "is_inhibition", "consensus_stimulation")
# By how much the confidence in a regulation divides its weight.
LEVELS: Final = {"A": 1, "B": 2, "C": 3, "D": 4}
DATASETS: Final = ("omnipath", "pathwayextra", "kinaseextra", "ligrecextra", "tf_target")
_OTHERS = "Pass a table of another form to scapp.resources.from_table."
_SMALL_COLLECTRI = "collectri_2025-09.csv.gz"
_COLLECTRI = RemoteFile(
    "CollecTRI_regulons.csv",
    "https://zenodo.org/records/8192729/files/CollecTRI_regulons.csv",
    header="source,target,weight",
)


@checked
def collectri(
    *,
    organism: str = "human",
    file: PathLike | None = None,
    folder: PathLike | None = None,
    base_url: str | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return transcription factors and their targets from CollecTRI :cite:p:`MullerDott2023`, signed and directed.

    Parameters
    ----------
    organism
        ``"human"``: the published table; ``"mouse"`` or ``"rat"``: its orthologues, from OmniPath's web service.
    file
        Local copy of the table (columns source, target, weight), used instead of a download.
    folder, base_url, progress_bar
        As in :func:`scapp.datasets.norman_2019_effects`. If the data folder does not have this file but has a
        ``collectri_2025-09.csv.gz`` (:doc:`/data`), that is read.

    Returns
    -------
    One row per edge: ``source`` (the factor), ``target``, ``weight`` (1 for activation, -1 for repression), and the
    other columns of the source. Origin, license, version and date are in ``attrs``.

    Raises
    ------
    ConnectionError
        If the table cannot be fetched.
    ValueError
        If an argument is invalid, or what was sent is another file, empty, or lacks names or weights.
    """
    taxon(organism, _ORGANISMS)
    if file is None and organism != "human":
        remote = _query("collectri", organism, "academic")
        path = fetch(remote, folder=folder, base_url=base_url, progress_bar=progress_bar)
        edges = _by_symbol(path)
        edges.insert(2, "weight", np.where(_signs(edges) < 0, -1, 1))
    else:
        remote = _COLLECTRI
        small = small_tables([_SMALL_COLLECTRI], instead_of=remote, local=file, folder=folder)
        options: dict[str, Any] = {"folder": folder, "base_url": base_url, "progress_bar": progress_bar}
        path = small[0] if small else fetch(remote, local=file, **options)
        edges = read_table(path)
        check_columns(path, edges.columns, ["source", "target", "weight"], "CollecTRI's table", _OTHERS)
        weight = read_edges(edges, var_names=[]).edges["weight"]
        edges["weight"] = weight.astype(np.int64) if (weight % 1 == 0).all() else weight
    return noted(
        edges.drop_duplicates(["source", "target"], ignore_index=True),
        source="CollecTRI",
        license="CC BY 4.0 (Zenodo record 8192729); the repository of the authors is under GPL-3",
        version="Zenodo 8192729" if remote is _COLLECTRI and path.name == remote.name and file is None else "",
        **_about(path, remote, organism),
    )


@checked
def dorothea(
    *,
    organism: str = "human",
    levels: Sequence[str] = ("A", "B", "C"),
    license: License = "academic",
    file: PathLike | None = None,
    folder: PathLike | None = None,
    base_url: str | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return transcription factors and their targets from DoRothEA :cite:p:`GarciaAlonso2019`, signed and directed.

    Parameters
    ----------
    organism
        ``"human"``, ``"mouse"`` or ``"rat"``; the last two by orthology.
    levels
        Levels of confidence, from ``"A"`` (curated) to ``"D"``.
    license
        ``"commercial"`` leaves out resources for academic use only.
    file
        Local copy of the table that the web service sends, used instead of a download.
    folder, base_url, progress_bar
        As in :func:`scapp.datasets.norman_2019_effects`.

    Returns
    -------
    One row per edge: ``source`` (the factor), ``target``, ``weight`` (the sign, divided by 1, 2, 3 or 4 for the levels
    A to D, as in decoupler :cite:p:`BadiaIMompel2022`; edges of unknown sign count as activation) and ``confidence``.
    Origin, license, version and date are in ``attrs``.

    Raises
    ------
    ConnectionError
        If the table cannot be fetched.
    ValueError
        If an argument is invalid, the downloaded table is a different one, or no edge is left.
    """
    levels = sorted({*levels})
    if not levels or not LEVELS.keys() >= set(levels):
        raise ValueError(f"levels must be some of {', '.join(map(repr, LEVELS))}, found {levels}.")
    remote = _query("dorothea", organism, license, dorothea_levels=",".join(levels), fields="dorothea_level")
    path = fetch(remote, local=file, folder=folder, base_url=base_url, progress_bar=progress_bar)
    edges = _by_symbol(path, "dorothea_level")
    edges["confidence"] = edges["dorothea_level"].astype(str).str.split(";").str[0]
    edges = edges[edges["confidence"].isin(levels)]
    if edges.empty:
        raise ValueError(f"{str(path)!r} has no edge of levels={levels}. Ask for other levels, or move the file away.")
    strength = 1 / edges["confidence"].map(LEVELS).to_numpy(dtype=float)
    edges = edges.assign(weight=np.where(_signs(edges) < 0, -1, 1) * strength).sort_values("confidence", kind="stable")
    return noted(
        edges[["source", "target", "weight", "confidence"]].drop_duplicates(["source", "target"], ignore_index=True),
        source="DoRothEA through OmniPath",
        license=f"as the resources allow for {license} use; DoRothEA itself is under GPL-3",
        version="",
        levels=levels,
        **_about(path, remote, organism),
    )


@checked
def omnipath(
    *,
    organism: str = "human",
    datasets: Sequence[str] = ("omnipath",),
    license: License = "academic",
    signed_only: bool = False,
    file: PathLike | None = None,
    folder: PathLike | None = None,
    base_url: str | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return signalling interactions of proteins from OmniPath :cite:p:`Turei2021`, directed, and signed where known.

    Parameters
    ----------
    organism
        ``"human"``, ``"mouse"`` or ``"rat"``; the last two by orthology.
    datasets
        Some of ``"omnipath"`` (curated pathways), ``"pathwayextra"``, ``"kinaseextra"``, ``"ligrecextra"`` and ``"tf_target"``.
    license
        ``"commercial"`` leaves out resources for academic use only.
    signed_only
        Whether to leave out edges that are neither stimulation nor inhibition.
    file
        Local copy of the table that the web service sends, used instead of a download.
    folder, base_url, progress_bar
        As in :func:`scapp.datasets.norman_2019_effects`.

    Returns
    -------
    One row per edge: ``source``, ``target`` (symbols), ``weight`` (-1 for inhibition, otherwise 1), ``sign`` (0 if
    unknown), and the other columns of OmniPath. Origin, license, version and date are in ``attrs``.

    Raises
    ------
    ConnectionError
        If the table cannot be fetched.
    ValueError
        If an argument is invalid, the downloaded table is a different one, or no edge is left.
    """
    chosen = [datasets] if isinstance(datasets, str) else list(dict.fromkeys(datasets))
    if not chosen or not set(chosen) <= set(DATASETS):
        raise ValueError(f"datasets must be some of {', '.join(map(repr, DATASETS))}, found {chosen}.")
    remote = _query(",".join(chosen), organism, license, fields="sources,references,curation_effort,type")
    path = fetch(remote, local=file, folder=folder, base_url=base_url, progress_bar=progress_bar)
    edges = _by_symbol(path)
    sign = _signs(edges)
    edges.insert(2, "weight", np.where(sign < 0, -1, 1))
    edges.insert(3, "sign", sign)
    if signed_only:
        edges = edges[edges["sign"] != 0].reset_index(drop=True)
    if edges.empty:
        raise ValueError(f"OmniPath has no such interactions for datasets={chosen} and organism={organism!r}.")
    return noted(
        edges,
        source="OmniPath",
        license=f"as the resources allow for {license} use; they are named in the column 'sources'",
        version="",
        datasets=chosen,
        **_about(path, remote, organism),
    )


def _about(path: Path, remote: RemoteFile, organism: str) -> dict[str, Any]:
    return {"path": path, "url": remote.url, "directed": True, "organism": organism}


def _query(datasets: str, organism: str, license: str, **options: str) -> RemoteFile:
    """Return a question to the web service, and under which name its answer is kept."""
    number = taxon(organism, _ORGANISMS)
    given = {"datasets": datasets, "organisms": str(number), "license": license, **options}
    query = "&".join(f"{name}={value}" for name, value in given.items())
    named = "_".join([datasets, organism, license, options.get("dorothea_levels", "")]).strip("_").replace(",", "-")
    return RemoteFile(
        f"omnipath_{named}.tsv", f"{_SERVICE}?genesymbols=1&format=tsv&{query}", header="source\ttarget\t"
    )


def _by_symbol(path: Path, *columns: str) -> pd.DataFrame:
    """Return the answer of the web service, with symbols as the ends of edges; UniProt accessions and complexes go by theirs."""
    table = read_table(path)
    check_columns(
        path, table.columns, ["source_genesymbol", "target_genesymbol", *_SIGNS, *columns], "OmniPath's answer", _OTHERS
    )
    ends = {"source": "source_genesymbol", "target": "target_genesymbol"}
    edges = pd.DataFrame({end: table[symbol].astype(str) for end, symbol in ends.items()})
    return edges.join(table.drop(columns=[*ends, *ends.values()], errors="ignore"))


def _signs(edges: pd.DataFrame) -> NDArray[np.int64]:
    """Return 1, -1, or 0 where neither is known; where resources disagree, what most of them say."""
    stimulates, inhibits, mostly = (
        edges[name].astype(str).str.lower().isin(["1", "true"]).to_numpy() for name in _SIGNS
    )
    sign = stimulates.astype(np.int64) - inhibits
    return np.where(stimulates & inhibits, np.where(mostly, 1, -1), sign)
