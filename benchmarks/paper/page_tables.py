"""The tables of the page of benchmarks: the paper's claim, the published result and the measurement side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from benchmarks.paper import claims, findings
from benchmarks.paper.claims import DOUBLES, SINGLES
from benchmarks.paper.figures import damage_table
from benchmarks.paper.folder import APP, ResultsFolder
from benchmarks.paper.tables import (
    COSTS,
    INTERACTIONS,
    Table,
    calibration_table,
    decimals,
    methods_table,
    metrics_table,
    number,
    over_splits,
    p_value,
    percent,
    split_table,
)

from scapp.benchmark import calibration, paired

NOTHING = ""
UNMEASURED = "not measured"


def _measured(folder: ResultsFolder, task: str, against: str, method: str = APP) -> pd.Series | None:
    """Compare one method with another, or return None where either was not run."""
    if task not in folder.tasks or not {method, against} <= set(folder.methods(task)):
        return None
    table = paired(folder.of(task), methods=[method], against=against)
    return table.iloc[0] if len(table) else None


def table_1(folder: ResultsFolder, means: pd.DataFrame) -> Table:
    """Compare APP, the best deep-learning model and no change, relative to the models that the paper compares with."""
    rows = []
    for task, against in ((DOUBLES, "additive"), (SINGLES, "linear model"), (SINGLES, "mean")):
        what = {DOUBLES: "doubles", SINGLES: "unseen genes"}[task]
        claim = claims.TABLE_1[task]
        base = claim.get(against)
        screens = ["Norman, doubles"] if task == DOUBLES else ["Replogle K562", "Replogle RPE1", "Adamson"]
        deep = [(screen, best) for screen in screens if (best := claims.published_best(means, screen, against))]
        of_deep = "; ".join(f"{r:.3f} ({name}, {screen})" for screen, (name, r) in deep)
        nothing = claims.published_ratios(means, screens[0], against).get("no change")
        compare = f"relative to {against}"
        app = _measured(folder, task, against)
        tested = NOTHING if app is None else f"{percent(app['win_rate'])}, {findings.p_text(app['p_value'])}"
        rows.append((f"{what}: APP {compare}", _ratio(claim["APP"], base), "", findings.ratio_cell(app), tested))
        embeddings = _best_of(folder, task, ("embedding", "external"))
        deep_row = None if embeddings is None else _measured(folder, task, against, embeddings)
        name = UNMEASURED if deep_row is None else f"{findings.ratio_cell(deep_row)}: {embeddings}"
        deep_claim = _ratio(claim["best deep learning"], base)
        rows.append((f"{what}: best deep-learning or embedding model {compare}", deep_claim, of_deep, name, ""))
        if against != "linear model":
            row = _measured(folder, task, against, "no change")
            published = "" if nothing is None else f"{nothing:.3f}"
            rows.append((f"{what}: no change {compare}", "", published, findings.ratio_cell(row), ""))
    columns = ["what", "claim", "published", "measured (95 % interval)", "APP closer on"]
    return Table("table_1", "Table 1", pd.DataFrame(rows, columns=columns))


def _ratio(value: float, base: float | None) -> str:
    return NOTHING if base is None else f"{value / base:.3f}"


def _best_of(folder: ResultsFolder, task: str, groups: Sequence[str]) -> str | None:
    """Return the method of some groups with the lowest L2."""
    if task not in folder.tasks:
        return None
    rows = folder.of(task)
    rows = rows[rows["group"].isin(list(groups)) & (rows["metric"] == "l2")]
    return str(rows.groupby("method")["value"].mean().idxmin()) if len(rows) else None


def methods(folder: ResultsFolder, task: str, picture: str) -> str:
    table = methods_table(folder.scores, task, folder.references[task], title=folder.title(task))
    every = metrics_table(folder.scores, task, title=folder.title(task))
    return (
        f"### {folder.title(task)}: all methods\n\n{picture}\n\n{table.markdown()}\n\n{table.note}\n\n"
        f"### {folder.title(task)}: all metrics\n\n{every.markdown()}\n\n{every.note}"
    )


def ablations(folder: ResultsFolder) -> str:
    measured = findings.ablations(folder)
    names = list(dict.fromkeys([*measured["method"], *claims.TABLE_2]))
    names.sort(key=lambda name: name in claims.TABLE_2)
    rows = []
    for method in names:
        of = measured[measured["method"] == method].set_index("task")
        row = {
            "form": "paper's" if method in claims.TABLE_2 else "default",
            "part": findings.PARTS.get(method, method.partition(", ")[2]),
        }
        for task in folder.tasks:
            title = folder.short(task)
            claim = claims.claimed(claims.TABLE_2, method, task)
            row[f"{title}: claim"] = f"{claim:.3f}" if claim == claim else ""
            one = of.loc[task] if task in of.index else None
            row[f"{title}: measured"] = findings.ratio_cell(one)
            row[f"{title}: p, Holm"] = NOTHING if one is None else p_value(one["p_holm"])
        titled = of["verdict"].rename(index=folder.short) if len(of) else pd.Series(dtype=object)
        row["earns its place"] = findings.earns_its_place(titled) if len(of) else UNMEASURED
        rows.append(row)
    return Table("table_2", "Table 2", pd.DataFrame(rows)).markdown()


def by_screen(means: pd.DataFrame) -> str:
    """Tabulate the published L2 on each screen of unseen genes, relative to the linear model; nothing without published data."""
    screens = ["Adamson", "Replogle K562", "Replogle RPE1"]
    columns = {screen: claims.published_ratios(means, screen, "linear model") for screen in screens}
    frame = pd.DataFrame({screen: ratios for screen, ratios in columns.items() if len(ratios)})
    if frame.empty:
        return NOTHING
    counts = means[means["method"] == "mean"].set_index("screen")["n"]
    frame = frame.rename(columns={screen: f"{screen} (n = {counts[screen]})" for screen in frame.columns})
    frame = frame.rename_axis("method").reset_index().sort_values(frame.columns[0], kind="stable")
    formats = dict.fromkeys(frame.columns[1:], decimals(3))
    table = Table("published_unseen", "Published", frame, formats=formats, best=dict.fromkeys(formats, "low"))
    return f"Published (another preprocessing), L2 relative to the linear model:\n\n{table.markdown()}\n\nMeasured:"


def table_3(folder: ResultsFolder, means: pd.DataFrame) -> Table:
    """Tabulate the gain over the additive model."""

    def gain(ratio: float | None) -> str:
        return NOTHING if ratio is None else f"{100 * (1 - ratio):+.1f} %"

    claim = claims.TABLE_1[DOUBLES]
    published = claims.published_ratios(means, "Norman, doubles", "additive")
    deep = list(means[(means["screen"] == "Norman, doubles") & means["deep"].astype(bool)]["method"])
    measured = _gains(folder)
    rows = [("APP", gain(claim["APP"] / claim["additive"]), "", measured.get(APP, UNMEASURED))]
    rows.append(("best deep-learning model", gain(claim["best deep learning"] / claim["additive"]), "", ""))
    rows += [(name, "", gain(published.get(name)), "") for name in deep]
    if DOUBLES in folder.tasks:
        rows += [
            (m, "", gain(published.get(m)), measured[m]) for m in findings.rivals(folder, DOUBLES) if m in measured
        ]
    return Table(
        "table_3", "Table 3", pd.DataFrame(rows, columns=["method", "claim", "published", "measured (95 % interval)"])
    )


def _gains(folder: ResultsFolder) -> dict[str, str]:
    """Return what each method gains over the additive model on doubles, with its interval; nothing where that was not run."""
    if DOUBLES not in folder.tasks or "additive" not in folder.methods(DOUBLES):
        return {}
    gains = {}
    for row in paired(folder.of(DOUBLES), against="additive").itertuples():
        value, low, high = (100 * (1 - ratio) for ratio in (row.ratio, row.ratio_high, row.ratio_low))
        gains[row.method] = f"{value:+.1f} % ({low:+.1f} to {high:+.1f})"
    return gains


def damage(folder: ResultsFolder) -> str:
    table = damage_table(folder)
    names = list(dict.fromkeys([*claims.TABLE_4, *(table["method"] if len(table) else [])]))
    rows = []
    for method in names:
        row = {"network": method.partition(", ")[2]}
        for task in folder.tasks:
            of = table[(table["task"] == task) & (table["method"] == method)] if len(table) else table
            claim = claims.claimed(claims.TABLE_4, method, task)
            row[f"{folder.short(task)}: claim"] = f"{claim:.3f}" if claim == claim else ""
            row[f"{folder.short(task)}: measured"] = findings.ratio_cell(of.iloc[0] if len(of) else None)
        rows.append(row)
    return "The ratio is to the whole network.\n\n" + Table("table_4", "Table 4", pd.DataFrame(rows)).markdown()


def table_5(folder: ResultsFolder) -> Table:
    """Tabulate parameters, hours and milliseconds: claimed, published and measured."""
    rows = [(f"{name}, claim", of.millions, of.hours, of.milliseconds) for name, of in claims.TABLE_5.items()]
    rows += [(f"{name}, published (doubles)", "", number(hours), "") for name, hours in claims.PUBLISHED_HOURS.items()]
    costs = over_splits(folder.scores, COSTS)
    for task in folder.tasks:
        mean = costs[(costs["task"] == task) & (costs["method"] == APP)].set_index("metric")["mean"]
        if len(mean):
            parameters, hours = mean.get("parameters", float("nan")) / 1e6, mean.get("fit_seconds", float("nan")) / 3600
            time = f"{number(hours)} ({number(3600 * hours)} s)" if math.isfinite(hours) else NOTHING
            name = f"APP, measured ({folder.short(task)})"
            rows.append((name, number(parameters), time, number(mean.get("predict_ms", float("nan")))))
    columns = ["model", "parameters, millions", "training, hours", "ms per perturbation"]
    return Table("table_5", "Table 5", pd.DataFrame(rows, columns=columns))


def costs(folder: ResultsFolder) -> str:
    parts = [
        f"Everything that was run here, with {folder.info.get('cores', '?')} cores and no graphics card, means over splits:"
    ]
    for task in folder.tasks:
        scores = folder.scores[folder.scores["group"].isin(findings.RIVALS)]
        table = split_table(scores, COSTS, f"{task}_costs", folder.title(task), task=task)
        if table:
            parts.append(f"**{folder.title(task)}**\n\n{table.markdown()}")
    return "\n\n".join(parts) if len(parts) > 1 else NOTHING


def interactions(folder: ResultsFolder) -> str:
    scores = folder.scores[folder.scores["group"].isin(findings.RIVALS)]
    found = [split_table(scores, INTERACTIONS, task, folder.title(task), task=task) for task in folder.tasks]
    return "\n\n".join(f"**{table.caption}**\n\n{table.markdown()}" for table in found if table)


def published_interactions(curves: pd.DataFrame) -> str:
    """Tabulate what the published models detect, by the true positive rate at two rates of false discoveries."""
    at = curves[curves["fdp"].isin([0.3, 0.5])].pivot(index="method", columns="fdp", values="tpr").reset_index()
    at.columns = pd.Index(["method", "TPR at FDP 0.3", "TPR at FDP 0.5"])
    names = list(at.columns[1:])
    table = Table(
        "published_interactions", "Published", at.sort_values(names[0], ascending=False),
        formats=dict.fromkeys(names, decimals(3)), best=dict.fromkeys(names, "high"),
    )  # fmt: skip
    return f"Published (another preprocessing, and interactions called in another way):\n\n{table.markdown()}"


def calibrated(folder: ResultsFolder) -> str:
    rows = calibration(folder.scores)
    rows = rows[rows["group"].isin(findings.RIVALS)]
    table = calibration_table(rows.assign(task=[folder.short(task) for task in rows["task"]]))
    return table.markdown() if table else NOTHING
