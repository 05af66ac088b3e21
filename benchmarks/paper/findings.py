"""Sentences that say what the scores say, by rules: no sentence claims what its numbers do not show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from benchmarks.paper.figures import damage_table
from benchmarks.paper.folder import APP, PAPER, ResultsFolder
from benchmarks.paper.tables import METRICS, Table, interval, over_splits, p_value, percent

from scapp.benchmark import calibration, ceilings, paired, summarise

RIVALS = ("baseline", "embedding", "external", "app")
SMALL = 0.01  # a change of L2 that nobody would notice
TOLERATED = {"10 %": 0.01, "25 %": 0.03}
PARTS = {
    "APP, no attention": "attention to measured perturbations",
    "APP, attention alone": "closed form (attention alone in its place)",
    "APP, no known noise": "known noise (one noise for all in its place)",
    "APP, paper, random embeddings": "graph encoder (random embeddings in its place)",
    "APP, paper, identity embeddings": "graph encoder (identity embeddings in its place)",
    "APP, paper, no attention": "attention over genes (plain mean in its place)",
    "APP, paper, MLP decoder": "linear decoder (MLP in its place)",
}
# What the methods of a group are without a part of.
WHOLE = {"ablation": APP, "paper": PAPER}


def p_text(value: float) -> str:
    """Format a p-value inside a sentence."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def listed(names: Sequence[str]) -> str:
    """Join names for a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def change(ratio: float) -> str:
    """Format a ratio as a change in per cent; no minus before a zero."""
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f}"


def rivals(folder: ResultsFolder, task: str) -> list[str]:
    """Return the methods that APP is measured against: all but itself without a part or on a damaged network."""
    return [method for method in folder.in_groups(task, *RIVALS) if method != APP]


def against_reference(folder: ResultsFolder, task: str) -> str:
    """Compare APP with the reference of a task, and against the strongest other method."""
    reference, title = folder.references[task], folder.title(task)
    rows = folder.of(task)
    row = paired(rows, methods=[APP], against=reference).iloc[0]
    verb = {"better": "beats", "worse": "loses to", "unclear": "cannot be told from"}[row["verdict"]]
    text = (
        f"**{title}**: APP {verb} {reference}. Its L2 is {row['ratio']:.3f} of that of {reference} (95 % interval "
        f"{interval(row['ratio_low'], row['ratio_high'])}), and it is the closer one on {percent(row['win_rate'])} of the "
        f"held-out perturbations ({p_text(row['p_value'])})."
    )
    order = summarise(rows[rows["method"].isin(rivals(folder, task))], n_draws=1)
    others = order.loc[(order["group"] != "app") & (order["method"] != reference), "method"]
    if len(others):
        row = paired(rows, methods=[APP], against=others.iloc[0]).iloc[0]
        verb = {"better": "APP beats it", "worse": "it beats APP", "unclear": "the two cannot be told apart"}[
            row["verdict"]
        ]
        text += (
            f" The strongest other method is {row['against']}: {verb} (ratio {row['ratio']:.3f}, "
            f"{interval(row['ratio_low'], row['ratio_high'])}; APP closer on {percent(row['win_rate'])}; "
            f"{p_text(row['p_value'])})."
        )
    return text


def contests(folder: ResultsFolder) -> pd.DataFrame:
    """Compare APP with the best of its rivals by every metric of every task.

    Returns
    -------
    The columns ``task``, ``metric``, ``app``, ``rival``, ``value``, ``won`` (whether APP's mean is the better), ``verdict``
    of the paired test between the two, or how many splits APP is better in where there is one number per split.
    """
    rows = []
    for task in folder.tasks:
        scores = folder.of(task)
        scores = scores[scores["method"].isin([APP, *rivals(folder, task)]) & scores["value"].notna()]
        for metric, (_, better) in METRICS.items():
            of = scores[scores["metric"] == metric]
            if better is None or metric in ("fit_seconds", "predict_ms", "parameters", "peak_memory_mb"):
                continue
            whole = of[of["perturbation"] == ""]
            by_split = metric in set(whole["metric"])
            if APP not in set(of["method"]) or of["method"].nunique() < 2:
                continue
            if by_split:
                table = over_splits(whole, [metric]).set_index("method")["mean"]
            else:
                table = summarise(of, metric=metric, n_draws=1).set_index("method")["mean"]
            others = table.drop(APP)
            rival = str(others.idxmin() if better == "low" else others.idxmax())
            won = table[APP] < others[rival] if better == "low" else table[APP] > others[rival]
            if by_split:
                wide = whole.pivot(index="seed", columns="method", values="value")[[APP, rival]].dropna()
                wins = (wide[APP] < wide[rival]) if better == "low" else (wide[APP] > wide[rival])
                verdict = f"APP better in {int(wins.sum())} of {len(wide)} splits"
            else:
                verdict = str(paired(of, metric=metric, methods=[APP], against=rival).iloc[0]["verdict"])
            rows.append((task, metric, table[APP], rival, others[rival], bool(won), verdict))
    return pd.DataFrame(rows, columns=["task", "metric", "app", "rival", "value", "won", "verdict"])


def where_app_loses(folder: ResultsFolder) -> tuple[str, Table | None]:
    """Say how often APP is the best of all, and list the metrics by which it is not."""
    table = contests(folder)
    clear = int((table["won"] & (table["verdict"] == "better")).sum())
    text = (
        f"By {int(table['won'].sum())} of the {len(table)} combinations of task and metric the mean of APP is better than that "
        f"of every other method; by {clear} of them the paired test against the next best is clear too."
    )
    lost = table[~table["won"]]
    if lost.empty:
        return text + " There is no metric here by which another method is better.", None
    text += (
        f" By the other {len(lost)}, which the table lists, another method is as good or better, other forms of APP among them. "
        "The verdict is that of the paired test of APP against that method."
    )
    frame = pd.DataFrame(
        {
            "task": [folder.short(task) for task in lost["task"]],
            "metric": [METRICS[metric].label for metric in lost["metric"]],
            "APP": [f"{value:.3f}" for value in lost["app"]],
            "best": lost["rival"].to_numpy(),
            "its value": [f"{value:.3f}" for value in lost["value"]],
            "verdict on APP": lost["verdict"].to_numpy(),
        }
    )
    return text, Table("losses", "Where another method is as good or better", frame)


def forms(folder: ResultsFolder) -> str:
    """Compare the paper's form of the model with the reference."""
    verbs = {"better": "beats", "worse": "loses to", "unclear": "cannot be told from"}
    said = []
    for task in folder.tasks:
        against = folder.references[task]
        if {PAPER, against} <= set(folder.methods(task)):
            row = paired(folder.of(task), methods=[PAPER], against=against).iloc[0]
            span = f"{row['ratio']:.3f}, {interval(row['ratio_low'], row['ratio_high'])}"
            said.append(f"on {folder.short(task)} it {verbs[row['verdict']]} {against} (ratio {span})")
    return f"The paper's equations as written (`{PAPER}`): {listed(said)}." if said else ""


def ablations(folder: ResultsFolder) -> pd.DataFrame:
    """Compare each form without a part with the form with it (the default, or the paper's), on every task."""
    tables = []
    for task in folder.tasks:
        for group, whole in WHOLE.items():
            without = folder.in_groups(task, group)
            if without and whole in folder.methods(task):
                tables.append(paired(folder.of(task), methods=without, against=whole).assign(group=group))
    return (
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["task", "method", "verdict", "group"])
    )


def earns_its_place(verdicts: pd.Series) -> str:
    """Say whether the tests show that a part is needed; `verdicts` by the title of the task."""
    helps = list(verdicts.index[verdicts == "worse"])
    hurts = list(verdicts.index[verdicts == "better"])
    if helps and hurts:
        return f"helps on {listed(helps)}, hurts on {listed(hurts)}"
    if helps:
        return "yes" if len(helps) == len(verdicts) else f"yes, on {listed(helps)}"
    return f"no: better without on {listed(hurts)}" if hurts else "not shown: no clear difference"


def parts(folder: ResultsFolder) -> str:
    """Say which parts of the default, and of the paper's form, earn their place."""
    table = ablations(folder)
    if table.empty:
        return "This run has no ablations."
    forms = {"ablation": "the default", "paper": "the paper's form"}
    return "\n\n".join(_parts(folder, rows, forms[str(group)]) for group, rows in table.groupby("group"))


def _parts(folder: ResultsFolder, table: pd.DataFrame, form: str) -> str:
    said: dict[str, list[str]] = {"yes": [], "helps": [], "no": [], "not shown": []}
    for method, rows in table.groupby("method", sort=False):
        verdict = earns_its_place(
            rows.assign(task=[folder.short(t) for t in rows["task"]]).set_index("task")["verdict"]
        )
        kind = next(kind for kind in ("not shown", "no", "helps", "yes") if verdict.startswith(kind))
        said[kind].append(PARTS.get(str(method), str(method).partition(", ")[2]))
    text = []
    if said["yes"]:
        text.append(f"What earns its place in {form}, which is clearly worse without it: {listed(said['yes'])}.")
    if said["helps"]:
        text.append(f"What helps {form} on one task and hurts it on another: {listed(said['helps'])}.")
    if said["not shown"]:
        text.append(
            f"What was not shown to matter in {form}, because no task differs clearly without it: {listed(said['not shown'])}."
        )
        if PARTS["APP, no attention"] in said["not shown"]:
            text.append(
                "Attention stays in the default all the same, since it is the method and what its attention scores are read "
                "from; `APP(adata, attention=False)` leaves it out and predicts as well."
            )
    if said["no"]:
        text.append(
            f"What does not earn its place in {form}, which is clearly better without it: {listed(said['no'])}."
        )
    return " ".join(text)


def network(folder: ResultsFolder) -> str:
    """Say how much a damaged network costs, and whether the network matters at all."""
    table = damage_table(folder)
    if table.empty:
        return "This run has no damaged networks."
    text = []
    for task in folder.tasks:
        rows = table[table["task"] == task]
        worst = []
        for part, most in TOLERATED.items():
            ratio = rows.loc[rows["method"].str.contains(part, regex=False), "ratio"].max()
            if math.isfinite(ratio):
                held = "at most" if ratio - 1 <= most else "more than"
                worst.append(f"{change(ratio)} % with {part} of the edges removed or added ({held} {100 * most:.0f} %)")
        if worst:
            text.append(f"**{folder.title(task)}**: L2 changes by up to {listed(worst)}.")
        for row in rows[rows["method"].str.contains("rewired")].itertuples():
            text.append(_rewired(row.ratio, row.ratio_low, row.ratio_high, row.verdict))
    return " ".join(text)


def _rewired(ratio: float, low: float, high: float, verdict: str) -> str:
    what = {"worse": "it is clearly worse", "better": "it is even better", "unclear": "there is no clear difference"}
    near = max(abs(low - 1), abs(high - 1)) <= SMALL
    matters = "matters" if verdict == "worse" else "does not matter" if near else "is not shown to matter"
    return (
        f"With all edges rewired and all degrees kept {what[verdict]} ({change(ratio)} %, 95 % interval {change(low)} to "
        f"{change(high)} %): which genes are connected {matters} on this task."
    )


def intervals(folder: ResultsFolder) -> str:
    """Say whether predicted intervals hold what they promise."""
    table = calibration(folder.scores)
    table = table[(table["method"] == APP) & (table["nominal"] == 0.8)]
    rows, largest = table[table["n_largest"] == 0], table[table["n_largest"] > 0].set_index("task")
    if rows.empty:
        return "This run has no predicted spread of APP."
    once = over_splits(folder.scores, ["spread_error_spearman"])
    ranks = once[once["method"] == APP].set_index("task")["mean"]
    text = []
    for row in rows.itertuples():
        said = "as promised" if 0.75 <= row.empirical <= 0.85 else "too narrow" if row.empirical < 0.75 else "too wide"
        share = percent(row.empirical)
        text.append(f"**{folder.title(row.task)}**: the 80 % intervals hold {share} of the values, {said}.")
        if row.task in largest.index:
            few = largest.loc[row.task]
            text.append(
                f"Among the {few['n_largest']} genes of each that are predicted to change most: {percent(few['empirical'])}."
            )
        if row.task in ranks:
            text.append(
                f"Over held-out perturbations, spread and error have a rank correlation of {ranks[row.task]:.2f}."
            )
    return " ".join(text)


def interactions(folder: ResultsFolder) -> str:
    """Say whether predictions find genetic interactions better than no change does."""
    table = over_splits(folder.scores, ["gi_auprc"])
    text = []
    for task in folder.tasks:
        means = table[table["task"] == task].set_index("method")["mean"]
        if APP not in means or "no change" not in means:
            continue
        ratio = means[APP] / means["no change"]
        said = "above" if ratio > 1 else "not above"
        best = means[means.index.isin(folder.in_groups(task, "baseline", "embedding", "external"))].idxmax()
        text.append(
            f"**{folder.title(task)}**: the area under the precision-recall curve of APP is {means[APP]:.3f}, {said} that of no "
            f"change, {means['no change']:.3f} ({ratio:.2f} times). The best other method is {best} with {means[best]:.3f}."
        )
    return " ".join(text) or "This run has no scores of genetic interactions."


def duration(folder: ResultsFolder) -> str:
    """Say how long the fits took."""
    seconds = folder.scores.loc[folder.scores["metric"] == "fit_seconds", "value"].dropna()
    if seconds.empty:
        return ""
    return (
        f"The {len(seconds)} fits of this run took {seconds.sum() / 60:.0f} minutes, added up, on a machine with "
        f"{folder.info.get('cores', '?')} cores; `--jobs` runs several at a time."
    )


def noise(folder: ResultsFolder) -> str:
    """Say what is known about noise ceilings."""
    table = ceilings(folder.scores)
    text = []
    unknown = [folder.title(task) for task in folder.tasks if task not in set(table["task"])]
    for row in table[table["method"] == APP].itertuples():
        text.append(
            f"**{folder.title(row.task)}**: noise alone leaves an L2 of {row.ceiling:.2f}; APP closes "
            f"{percent(row.share_closed)} of the gap between no change and that."
        )
    if unknown:
        text.append(
            f"Unknown for {listed(unknown)}: the files hold neither cells nor replicates, so it cannot be said how much of the "
            "remaining error is noise."
        )
    return " ".join(text)


def ratio_cell(row: pd.Series | None) -> str:
    """Format a measured ratio with its interval, for a table."""
    if row is None or not math.isfinite(row["ratio"]):
        return "not measured"
    return f"{row['ratio']:.3f} ({interval(row['ratio_low'], row['ratio_high'])})"
