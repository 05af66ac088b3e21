"""Record the origin and license of a table in its ``attrs``."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from scapp._genes import shorten

ORGANISMS = {"human": 9606, "mouse": 10090, "rat": 10116, "zebrafish": 7955, "fly": 7227, "worm": 6239, "yeast": 4932}


def taxon(organism: str, known: tuple[str, ...] = tuple(ORGANISMS)) -> int:
    """Return the NCBI id of an organism; ValueError if the source does not have it."""
    if organism not in known:
        raise ValueError(f"organism must be one of {', '.join(map(repr, known))}, found {organism!r}.")
    return ORGANISMS[organism]


def noted(
    table: pd.DataFrame,
    *,
    source: str,
    license: str,
    version: str,
    path: Path | None = None,
    url: str = "",
    directed: bool | None = None,
    **more: object,
) -> pd.DataFrame:
    """Return the table with its origin in ``attrs``; the date is that of the file, which is when it was downloaded."""
    date = "" if path is None else datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
    origin = {"source": source, "version": version, "license": license, "url": url, "date": date}
    table.attrs = {**origin, **({} if directed is None else {"directed": directed}), **more}
    return table


def origin_of(given: object) -> dict[str, str] | None:
    """Return the origin of a table from `scapp.resources`, as plain text; None for anything else."""
    attrs = given.attrs if isinstance(given, pd.DataFrame) else {}
    return {str(name): str(value) for name, value in attrs.items()} if "license" in attrs else None


def check_columns(path: Path, found: Iterable[object], wanted: Iterable[str], what: str, mend: str) -> None:
    """Raise if a file lacks expected columns."""
    there = list(found)
    missing = [name for name in wanted if name not in there]
    if missing:
        raise ValueError(
            f"{str(path)!r} is not {what}: it has no column {', '.join(map(repr, missing))}, but {shorten(map(repr, there), 20)}. {mend}"
        )
