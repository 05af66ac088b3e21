"""The table of scores as a file."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pandas as pd

from scapp.benchmark._tidy import check

PARQUET, CSV = "results.parquet", "results.csv"


def read_results(folder: Path | str) -> pd.DataFrame:
    """The scores that a run left in a folder.

    Parameters
    ----------
    folder
        That of :func:`run` and :func:`score`.

    Returns
    -------
    The table that :func:`score` describes.

    Raises
    ------
    FileNotFoundError
        If the folder holds no scores.
    ValueError
        If the file is not a table of scores.
    """
    folder = Path(folder)
    if (folder / PARQUET).is_file():
        table = pd.read_parquet(folder / PARQUET)
    elif (folder / CSV).is_file():
        table = pd.read_csv(
            folder / CSV,
            keep_default_na=False,
            na_values={"value": [""], "effect_size": [""]},
            float_precision="round_trip",
        )
    else:
        raise FileNotFoundError(
            f"The folder {str(folder)!r} holds neither {PARQUET} nor {CSV}. Run `scapp benchmark --output FOLDER` first."
        )
    check(table)
    return table


def write_results(folder: Path, table: pd.DataFrame) -> Path:
    """Write the scores as parquet, or as csv where pyarrow is not installed; whole or not at all."""
    parquet = importlib.util.find_spec("pyarrow") is not None
    path, other = (folder / PARQUET, folder / CSV) if parquet else (folder / CSV, folder / PARQUET)
    scratch = path.with_name(f".{path.name}")
    if parquet:
        table.to_parquet(scratch, index=False)
    else:
        table.to_csv(scratch, index=False)
    os.replace(scratch, path)
    other.unlink(missing_ok=True)  # an older table beside this one would be read in its place
    return path
