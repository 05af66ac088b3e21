"""A folder of results as a report: Markdown or HTML, tables as csv, and pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scapp.benchmark._figures import Picture, damage_table, pictures
from scapp.benchmark._findings import WHOLE
from scapp.benchmark._folder import APP, ResultsFolder, png, read_folder, write_whole
from scapp.benchmark._statistics import calibration, ceilings, paired
from scapp.benchmark._tables import (
    COSTS,
    INTERACTIONS,
    Table,
    calibration_table,
    comparison_table,
    methods_table,
    metrics_table,
    paired_table,
    split_table,
)

# The end of a file's name for each group of ablations.
SHORT = {"ablation": "ablations", "paper": "ablations_of_paper"}
STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
table { border-collapse: collapse; margin: 1.5rem 0 .3rem; display: block; overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ccc; text-align: left; font-weight: normal; white-space: nowrap; }
thead th { border-bottom: 2px solid #111; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.note, figcaption { font-size: 13px; color: #444; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; }"""


def report(folder: Path | str, *, formats: Sequence[str] = ("md", "html")) -> list[Path]:
    """Write what a folder of results says beside the results.

    Parameters
    ----------
    folder
        What ``scapp benchmark`` wrote: ``results.parquet``, ``run.json`` and ``predictions``.
    formats
        "md" for ``report.md``, "html" for ``report.html``, which holds its pictures.

    Returns
    -------
    The files written: the reports, ``tables/*.csv`` and ``figures/*.png``. Each is whole at any time.

    Raises
    ------
    FileNotFoundError
        If the folder has no results.
    ValueError
        If a format is unknown, or the results do not fit their description.
    """
    if unknown := [name for name in formats if name not in ("md", "html")]:
        raise ValueError(f"Unknown format {', '.join(map(repr, unknown))}; choose of 'md' and 'html'.")
    results = read_folder(folder)
    listed = tables(results)
    drawn = [(picture, png(picture.figure)) for picture in pictures(results)]
    written = [write_whole(results.path / "tables" / f"{table.name}.csv", table.csv()) for table in listed]
    written += [write_whole(results.path / "figures" / f"{picture.name}.png", data) for picture, data in drawn]
    if "md" in formats:
        written.append(write_whole(results.path / "report.md", _markdown(results, listed, [p for p, _ in drawn])))
    if "html" in formats:
        written.append(write_whole(results.path / "report.html", _html(results, listed, drawn)))
    return written


def ablation_table(folder: ResultsFolder, task: str, group: str) -> Table | None:
    """The default, or the paper's form, without each of its parts, against the whole."""
    whole, without = WHOLE[group], folder.in_groups(task, group)
    if not without or whole not in folder.methods(task):
        return None
    compared = paired(folder.of(task), methods=without, against=whole)
    caption = f"{folder.title(task)}: {whole} without a part, against {whole}"
    return comparison_table(compared, f"{task}_{SHORT[group]}", caption)


def tables(folder: ResultsFolder) -> list[Table]:
    """All tables for which a folder has the numbers."""
    found: list[Table | None] = []
    for task in folder.tasks:
        title = folder.title(task)
        found.append(methods_table(folder.scores, task, folder.references[task], title=title))
        found.append(metrics_table(folder.scores, task, title=title))
        if APP in folder.methods(task):
            found.append(paired_table(folder.scores, task, APP, title=title))
        found += [ablation_table(folder, task, group) for group in WHOLE]
        found.append(
            split_table(
                folder.scores,
                INTERACTIONS,
                f"{task}_interactions",
                f"{title}: detection of genetic interactions",
                task=task,
            )
        )
    damage = damage_table(folder)
    for task in folder.tasks if len(damage) else []:
        rows = damage[damage["task"] == task]
        if len(rows):
            caption = f"{folder.title(task)}: {APP} with a damaged network, against the whole one"
            found.append(comparison_table(rows, f"{task}_network", caption))
    found.append(calibration_table(_titled(folder, calibration(folder.scores))))
    limits = _titled(folder, ceilings(folder.scores))
    if len(limits):
        found.append(
            Table("ceilings", "Share of the gap between no change and the noise ceiling that is closed", limits)
        )
    found.append(
        split_table(
            _titled(folder, folder.scores), COSTS, "costs", f"Cost, measured with {folder.info.get('cores', '?')} cores"
        )
    )
    return [table for table in found if table is not None]


def _titled(folder: ResultsFolder, table: pd.DataFrame) -> pd.DataFrame:
    """The same with short titles in place of the names of tasks."""
    return table.assign(task=[folder.short(task) for task in table["task"]])


def _header(folder: ResultsFolder) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in folder.info.get("versions", {}).items())
    lines = [f"Measured {folder.info.get('created', 'at an unknown date')} with {versions or 'unknown versions'}."]
    if folder.info.get("quick"):
        lines.append("This was a quick run: fewer splits and methods, good for a look and not for citing.")
    for task in folder.tasks:
        about = folder.info["tasks"][task]
        size = f"{folder.of(task)['seed'].nunique()} splits, {about.get('n_scored', '?')} scored genes"
        lines.append(f"{folder.title(task)}: {size}. {about.get('note', '')}".strip())
    return lines


def _markdown(folder: ResultsFolder, listed: list[Table], drawn: list[Picture]) -> str:
    parts = ["# Benchmark", *_header(folder)]
    for table in listed:
        parts += [f"## {table.caption}", table.markdown(), table.note]
    parts.append("## Pictures")
    for picture in drawn:
        parts += [f"![{picture.alt}](figures/{picture.name}.png)", picture.caption]
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(folder: ResultsFolder, listed: list[Table], drawn: list[tuple[Picture, bytes]]) -> str:
    parts = [f"<p>{html.escape(line)}</p>" for line in _header(folder)]
    parts += [table.html() for table in listed]
    for picture, data in drawn:
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        parts.append(
            f'<figure><img src="{source}" alt="{html.escape(picture.alt, quote=True)}">'
            f"<figcaption>{html.escape(picture.caption)}</figcaption></figure>"
        )
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>scapp benchmark</title>\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<main>\n<h1>Benchmark</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )
