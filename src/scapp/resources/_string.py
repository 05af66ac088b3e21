"""STRING, with the channels of evidence that are wanted."""

from __future__ import annotations

import csv
import gzip
import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scapp._checked import checked
from scapp._download import RemoteFile, fetch, small_tables
from scapp._provenance import check_columns, noted, taxon
from scapp._settings import settings
from scapp._tables import PathLike, bounded, is_gzipped, read_table

logger = logging.getLogger(__name__)

_OTHERS = "Pass a table of another form to scapp.resources.from_table."

CHANNELS: Final = (
    "neighborhood", "fusion", "cooccurence", "coexpression", "experimental", "database", "textmining",
)  # fmt: skip
NO_TEXTMINING: Final = CHANNELS[:-1]
# The probability that two proteins chosen at random interact; every channel holds it, and a combination must hold it once.
PRIOR: Final = 0.041
_STRING: Final[dict[str, Any]] = {"source": "STRING", "license": "CC BY 4.0", "directed": False}
_ROWS = 1_000_000
_HOST = "https://stringdb-downloads.org/download"
# A table of human edges with symbols, the lowest score in it, and what its columns are called here.
_SMALL, _SMALL_FROM = "string_v12_no_textmining.tsv.gz", 400
_SMALL_COLUMNS = {"combined_score": "weight", "experiments": "experimental"}


@checked(own=("min_score",))
def string(
    *,
    organism: str = "human",
    channels: Sequence[str] = NO_TEXTMINING,
    min_score: int = 400,
    version: str = "12.0",
    file: PathLike | None = None,
    info_file: PathLike | None = None,
    folder: PathLike | None = None,
    base_url: str | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    r"""Return the functional associations of proteins from STRING :cite:p:`Szklarczyk2023`, by default without text mining.

    The scores of the chosen channels are combined as in STRING :cite:p:`vonMering2005`: with the prior
    :math:`p = 0.041` and :math:`s_c' = \max(s_c - p, 0) / (1 - p)`,

    .. math:: s = p + (1 - p) \Bigl(1 - \prod_c (1 - s_c')\Bigr).

    The file with the channels lacks the homology scores by which STRING lowers co-occurrence and text mining of
    homologous proteins, whose score can therefore be higher than STRING's own.

    Parameters
    ----------
    organism
        ``"human"``, ``"mouse"``, ``"rat"``, ``"zebrafish"``, ``"fly"``, ``"worm"`` or ``"yeast"``.
    channels
        Some of ``"neighborhood"``, ``"fusion"``, ``"cooccurence"`` (as STRING spells it), ``"coexpression"``,
        ``"experimental"``, ``"database"`` and ``"textmining"``; by default all except the last, because text mining
        favours well-studied genes, and may include the results of the screen to be predicted.
    min_score
        Minimum combined score of an edge, from 0 to 1000. STRING calls 400 medium and 700 high confidence.
    version
        Version of STRING.
    file, info_file
        Local copies of ``TAXON.protein.links.detailed.vVERSION.txt.gz`` and ``TAXON.protein.info.vVERSION.txt.gz``,
        instead of downloading it.
    folder, base_url, progress_bar
        As in :func:`scapp.datasets.norman_2019_effects`. For human the files have about 120 MB; with the default channels
        and a `min_score` of 400 or more, ``string_v12_no_textmining.tsv.gz`` (:doc:`/data`) is read where it lies in the folder of data without them.

    Returns
    -------
    One row per pair, undirected: ``source`` and ``target`` (STRING's preferred names, mostly gene symbols), ``weight`` (the
    combined score, 0 to 1000), and the score in each channel. Source, license, version and date are in ``attrs``.

    Raises
    ------
    ConnectionError
        If a file cannot be fetched.
    ValueError
        If an argument is invalid; a file is not from STRING, is damaged or is of another species; most proteins have no
        name; or no edge is left.

    Examples
    --------
    >>> import scapp
    >>> string = scapp.resources.string(channels=["experimental", "database"])
    >>> scapp.pp.add_network(effects, string)
    """
    number = taxon(organism)
    channels = _checked(channels)
    check_score(min_score)
    options: dict[str, Any] = {"folder": folder, "base_url": base_url, "progress_bar": progress_bar}
    links = _file(number, "links.detailed", version, "protein1 protein2 ")
    info = _file(number, "info", version, "#string_protein_id\t")
    as_published = number == 9606 and set(channels) == set(NO_TEXTMINING) and version == "12.0"
    if as_published and min_score >= _SMALL_FROM:
        if small := small_tables([_SMALL], instead_of=links, local=file, folder=folder):
            return _read_small(small[0], min_score)
    links_path, info_path = fetch(links, local=file, **options), fetch(info, local=info_file, **options)
    names = _read_names(info_path, number)
    found = _read_links(links_path, number, channels, min_score, progress_bar)
    proteins = pd.unique(found[["protein1", "protein2"]].to_numpy(dtype=object).ravel())
    n_named = int(pd.Index(proteins).isin(names.index).sum())
    if 2 * n_named < len(proteins):  # such edges would fit no gene
        raise ValueError(
            f"Only {n_named} of the {len(proteins)} proteins of {str(links_path)!r} have a name in {str(info_path)!r}. Take both "
            "files of one version and species."
        )
    edges = _named(found, names, channels)
    if edges.empty:
        raise ValueError(
            f"No pair has a score of min_score={min_score} or more in {', '.join(channels)}. Lower min_score."
        )
    about: dict[str, Any] = {"path": links_path, "url": links.url, "organism": organism, "channels": list(channels)}
    return noted(edges, version=version, min_score=min_score, **about, **_STRING)


def _read_small(path: Path, min_score: int) -> pd.DataFrame:
    """Return the edges of the small table, in which channels of little evidence have no column of their own."""
    table = read_table(path)
    wanted = ["source", "target", "combined_score", "coexpression", "experiments", "database"]
    check_columns(
        path, table.columns, wanted, "the small table of STRING", "Remove it, so that STRING's is downloaded."
    )
    edges = table[table["combined_score"] >= min_score].rename(columns=_SMALL_COLUMNS)
    if edges.empty:
        raise ValueError(f"No pair of {str(path)!r} has a score of min_score={min_score} or more. Lower min_score.")
    about: dict[str, Any] = {"path": path, "organism": "human", "min_score": min_score, "file": path.name}
    channels = [name for name in CHANNELS if name in edges]
    return noted(edges.reset_index(drop=True), version="12.0", channels=channels, **about, **_STRING)


def check_score(min_score: float) -> None:
    """Raise unless a combined score is on the scale of STRING's files, from 0 to 1000."""
    if not 0 <= min_score <= 1000:
        raise ValueError(f"min_score must lie between 0 and 1000, found {min_score!r}.")
    if 0 < min_score < 1:
        raise ValueError(
            f"min_score={min_score!r} is on the scale of STRING's web page, from 0 to 1; that of its files goes to 1000. Pass "
            f"min_score={round(min_score * 1000)}."
        )


def combined_score(scores: NDArray[np.integer]) -> NDArray[np.int64]:
    """Combine scores from 0 to 1000, (n_pairs, n_channels), into one for each pair; 0 where no channel has any. See :func:`string`."""
    own = np.maximum(scores / 1000 - PRIOR, 0) / (1 - PRIOR)
    together = PRIOR + (1 - PRIOR) * (1 - np.prod(1 - own, axis=1))
    # STRING cuts decimals off; what rounding error took from a whole number is given back first.
    return np.where(np.any(scores > 0, axis=1), np.floor(together * 1000 + 1e-6), 0).astype(np.int64)


def _file(number: int, what: str, version: str, header: str) -> RemoteFile:
    name = f"{number}.protein.{what}.v{version}.txt.gz"
    return RemoteFile(name, f"{_HOST}/protein.{what}.v{version}/{name}", header=header)


def _checked(channels: Sequence[str]) -> list[str]:
    channels = [channels] if isinstance(channels, str) else list(dict.fromkeys(channels))
    unknown = [channel for channel in channels if channel not in CHANNELS]
    if unknown or not channels:
        raise ValueError(
            f"channels must be some of {', '.join(map(repr, CHANNELS))}, found {', '.join(map(repr, unknown)) or 'none'}."
        )
    return channels


def _read_names(path: Path, number: int) -> pd.Series:
    columns = ["#string_protein_id", "preferred_name"]
    _check_head(path, number, "\t", columns)
    with _reading(path), _opened(path) as file:
        # Descriptions of proteins hold quotation marks that are no quotes of the table.
        table = pd.read_csv(file, sep="\t", usecols=columns, dtype=str, na_filter=False, quoting=csv.QUOTE_NONE)
    return pd.Series(table[columns[1]].to_numpy(), index=table[columns[0]])


def _read_links(path: Path, number: int, channels: list[str], min_score: int, progress_bar: bool) -> pd.DataFrame:
    """Return pairs with a sufficient score, reading in blocks because the file has millions of pairs."""
    _check_head(path, number, " ", ["protein1", "protein2", *channels])
    kept = []
    dtype = {"protein1": str, "protein2": str} | dict.fromkeys(channels, np.int16)
    with _reading(path), _opened(path, progress_bar) as file:
        blocks = pd.read_csv(
            file, sep=" ", usecols=list(dtype), dtype=dtype, na_filter=False, chunksize=_ROWS,
            float_precision="round_trip",
        )  # fmt: skip
        for block in blocks:
            weight = combined_score(block[channels].to_numpy())
            strong = (weight >= min_score) & (weight > 0)
            kept.append(block[strong].assign(weight=weight[strong]))
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=["protein1", "protein2", "weight"])


def _named(links: pd.DataFrame, names: pd.Series, channels: list[str]) -> pd.DataFrame:
    """Return pairs by name, once each: the file lists them in both directions."""
    called = [links[end].map(names).fillna(links[end]).astype(str) for end in ("protein1", "protein2")]
    ends = np.sort(np.column_stack(called), axis=1)
    edges = pd.DataFrame({"source": ends[:, 0], "target": ends[:, 1]}, dtype=object)
    edges = edges.assign(**{name: links[name].to_numpy() for name in ("weight", *channels)})
    edges = edges.sort_values("weight", ascending=False, kind="stable")
    repeated = edges.duplicated(["source", "target"])
    proteins = np.sort(links[["protein1", "protein2"]].to_numpy(dtype=str), axis=1)
    n_pairs = len(pd.DataFrame(proteins).drop_duplicates())
    if n_pairs > (~repeated).sum():
        logger.info(
            "%d pair(s) of proteins have the names of another; the stronger counts.", n_pairs - (~repeated).sum()
        )
    return edges[~repeated].sort_values(["source", "target"], ignore_index=True)


@contextmanager
def _opened(path: Path, progress_bar: bool = False) -> Iterator[IO[bytes]]:
    """Yield the file, unpacked, with a bar of how much of it was read."""
    from rich.console import Console
    from rich.progress import open as open_with_progress

    bar = open_with_progress(
        path, "rb", description=path.name, console=Console(stderr=True), disable=not progress_bar or settings.is_silent
    )
    with bar as packed:
        if is_gzipped(path):
            with bounded(path, gzip.GzipFile(fileobj=packed)) as file:
                yield file
        else:
            yield packed


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read to its end ({str(error).strip()}). Move it away, so that it is downloaded again."
        ) from error


def _check_head(path: Path, number: int, sep: str, wanted: list[str]) -> None:
    """Raise if a file has not the columns that are wanted, or is of another species, by its first protein."""
    with _reading(path), _opened(path) as file:
        head = pd.read_csv(file, sep=sep, nrows=1, dtype=str, na_filter=False, quoting=csv.QUOTE_NONE)
    check_columns(path, head.columns, wanted, "the file of STRING that was expected", _OTHERS)
    protein = str(head[wanted[0]].iloc[0]) if len(head) else ""
    if protein and not protein.startswith(f"{number}."):
        raise ValueError(
            f"{str(path)!r} is of another species: its proteins are named like {protein!r}, and those of the species that was "
            f"asked for begin with '{number}.'. Pass organism=… as the file has it, or the file of that species."
        )
