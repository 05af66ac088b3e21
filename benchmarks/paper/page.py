"""Write the page that holds the paper's tables and figures against a folder of results.

python -m benchmarks.paper page RESULTS --output docs/benchmarks.md [--published FOLDER]
"""

from __future__ import annotations

from pathlib import Path
from string import Template

import pandas as pd
from benchmarks.paper import claims, findings
from benchmarks.paper import page_tables as tables
from benchmarks.paper.figures import Picture, pictures
from benchmarks.paper.folder import APP, KINDS, ResultsFolder, png, read_folder, write_whole
from benchmarks.paper.published import published_interaction_curves

PICTURES = Path("figures")


def write_page(results_folder: Path | str, output: Path | str, published: Path | str | None = None) -> list[Path]:
    """Write the page of benchmarks, and its pictures into ``figures`` beside it.

    Parameters
    ----------
    results_folder
        What ``scapp benchmark`` wrote.
    output
        The page, in MyST Markdown.
    published
        Folder with the source data of the published benchmark; nothing published is shown if None.

    Returns
    -------
    The files written, the page first. `headline.png` is the picture of the README.

    Raises
    ------
    FileNotFoundError
        If the results are not there.
    ValueError
        If the results hold no scores of APP for a task, or `published` has no published results.
    """
    folder, output = read_folder(results_folder), Path(output)
    without = [task for task in folder.tasks if APP not in folder.methods(task)]
    if without:
        raise ValueError(
            f"There are no scores of {APP!r} for {', '.join(without)}, and the page is about it. Run the benchmark with it."
        )
    means = claims.published_means(None if published is None else Path(published))
    drawn = {picture.name: picture for picture in pictures(folder, claimed_damage=claims.claimed_damage())}
    curves = None if published is None else published_interaction_curves(published)
    page = _page(folder, means, curves, drawn)
    # Pictures first: a page never points at one that is not there.
    files = [write_whole(output.parent / PICTURES / f"{p.name}.png", png(p.figure)) for p in drawn.values()]
    return [write_whole(output, page), *files]


def _page(folder: ResultsFolder, means: pd.DataFrame, curves: pd.DataFrame | None, drawn: dict[str, Picture]) -> str:
    def shown(name: str) -> str:
        """Show a picture with its caption, or nothing."""
        if name not in drawn:
            return tables.NOTHING
        alt = drawn[name].alt.replace("[", "(").replace("]", ")")
        return f"![{alt}]({(PICTURES / name).as_posix()}.png)\n\n*{drawn[name].caption}*"

    versions = folder.info.get("versions", {})
    losses, loss_table = findings.where_app_loses(folder)
    found = {
        "created": str(folder.info.get("created", "at an unknown date"))[:10],
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or "unknown versions",
        "quick": "\n**This was a quick run**, with fewer splits or methods: not for citing.\n"
        if folder.info.get("quick")
        else "",
        "headline": shown("headline"),
        "summary": "\n".join(f"- {findings.against_reference(folder, task)}" for task in folder.tasks),
        "tasks": "\n".join(_task(folder, task) for task in folder.tasks),
        "table_1": tables.table_1(folder, means).markdown(),
        "methods": "\n\n".join(tables.methods(folder, task, shown(f"ratios_{task}")) for task in folder.tasks),
        "scatter": shown("scatter"),
        "table_2": tables.ablations(folder),
        "parts": findings.parts(folder),
        "attention": _attention(folder, shown("attention")),
        "table_3_figure": tables.by_screen(means),
        "test_sets": "\n\n".join(shown(f"test_sets_{task}") for task in folder.tasks),
        "table_3": tables.table_3(folder, means).markdown(),
        "table_4": tables.damage(folder),
        "network": findings.network(folder),
        "damage": shown("network_damage"),
        "table_5": tables.table_5(folder).markdown(),
        "costs": tables.costs(folder),
        "forms": findings.forms(folder),
        "losses": losses,
        "loss_table": loss_table.markdown() if loss_table else "",
        "interactions": findings.interactions(folder),
        "interactions_table": tables.interactions(folder),
        "interactions_published": tables.NOTHING if curves is None else tables.published_interactions(curves),
        "intervals": findings.intervals(folder),
        "calibration": "\n\n".join(part for part in (tables.calibrated(folder), shown("calibration")) if part),
        "noise": findings.noise(folder),
        "duration": findings.duration(folder),
    }
    template = Path(__file__).with_name("page.md").read_text(encoding="utf-8")
    text = Template(template).substitute(found)
    while "\n\n\n" in text:  # what a missing part leaves
        text = text.replace("\n\n\n", "\n\n")
    return text


def _task(folder: ResultsFolder, task: str) -> str:
    about = folder.info["tasks"][task]
    n_splits = folder.of(task)["seed"].nunique()
    counts = f"{n_splits} split{'s' * (n_splits != 1)}, {_count(about.get('n_train'))} perturbations to train on and "
    counts += f"{_count(about.get('n_test'))} held out, {_count(about.get('n_scored'))} scored genes"
    note = str(about.get("note", "")).strip()
    return f"- **{folder.title(task)}** (`{task}`; relative to {folder.references[task]}): {counts}. {note}".rstrip()


def _count(value: object) -> str:
    """Format a count, with thousands apart."""
    return f"{value:,}" if isinstance(value, int) else str(value if value is not None else "?")


def _attention(folder: ResultsFolder, picture: str) -> str:
    missing = [kind for kind in KINDS if not folder.attended()["panel"].str.contains(f"({kind})", regex=False).any()]
    lacks = f"This run has none of these: {findings.listed(missing)}." if missing else tables.NOTHING
    return "\n\n".join(part for part in (lacks, picture) if part)
