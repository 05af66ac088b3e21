"""The page says what the numbers say, and nothing else."""

from __future__ import annotations

import json
import re
import shutil

import pandas as pd
import pytest
from benchmarks.paper import claims, findings
from benchmarks.paper.__main__ import main
from benchmarks.paper.claims import DOUBLES, SINGLES
from benchmarks.paper.folder import read_folder, write_whole
from benchmarks.paper.page import write_page


@pytest.fixture(scope="module")
def folder(results_folder):
    return read_folder(results_folder)


@pytest.fixture(scope="module")
def page(results_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("docs") / "benchmarks.md"
    write_page(results_folder, output)
    return output


@pytest.fixture
def no_drawing(monkeypatch):
    """Pictures take long to render, and most tests read the text."""
    monkeypatch.setattr("benchmarks.paper.page.png", lambda figure: b"")


@pytest.fixture
def changed(planted, write_folder, tmp_path):
    """A folder in which scores of a method and task are multiplied."""

    def change(method: str, factor: float, task: str | None = None, metric: str = "l2"):
        scores = planted.copy()
        rows = (scores["method"] == method) & (scores["metric"] == metric)
        rows &= True if task is None else scores["task"] == task
        scores.loc[rows, "value"] *= factor
        return read_folder(write_folder(tmp_path / "changed", scores))

    return change


def test_what_the_paper_claims_is_stated_as_its_ratios():
    assert claims.TABLE_1[DOUBLES]["APP"] / claims.TABLE_1[DOUBLES]["additive"] == pytest.approx(0.964, abs=5e-4)
    assert claims.TABLE_1[SINGLES]["APP"] / claims.TABLE_1[SINGLES]["linear model"] == 0.975
    assert claims.claimed(claims.TABLE_2, "APP, paper, random embeddings", SINGLES) == pytest.approx(4.5 / 3.9)
    assert pd.isna(claims.claimed(claims.TABLE_2, "APP, no known noise", DOUBLES))
    damage = claims.claimed_damage().set_index(["task", "method"])["ratio"]
    assert damage[DOUBLES, "APP, 25 % edges added"] == pytest.approx(5.7 / 5.3)


def test_published_ratios_are_those_of_the_source_data(shared_data):
    means = claims.published_means(shared_data / "published")
    assert claims.published_best(means, "Norman, doubles", "additive") == (
        "Geneformer",
        pytest.approx(1.2577, abs=1e-4),
    )
    assert claims.published_ratios(means, "Norman, doubles", "additive")["no change"] == pytest.approx(2.0307, abs=1e-4)
    best = claims.published_best(means, "Replogle K562", "linear model")
    assert best == ("GEARS", pytest.approx(4.0787 / 4.0970, abs=1e-4))
    assert means.set_index(["screen", "method"]).loc[("Replogle RPE1", "mean"), "n"] == 413


def test_app_beats_loses_or_cannot_be_told_from_the_reference_as_the_scores_say(folder, changed):
    assert "**Doubles (Norman 2019)**: APP beats additive." in findings.against_reference(folder, DOUBLES)
    assert "APP loses to additive." in findings.against_reference(changed("APP", 1.5), DOUBLES)
    assert "APP cannot be told from additive." in findings.against_reference(changed("APP", 1.25), DOUBLES)


def test_the_strongest_other_method_is_named_with_what_it_does(folder, changed):
    assert "strongest other method is pair kernel: APP beats it" in findings.against_reference(folder, DOUBLES)
    better = findings.against_reference(changed("pair kernel", 0.9), DOUBLES)
    assert "strongest other method is pair kernel: it beats APP" in better


def test_every_metric_by_which_another_method_is_better_is_listed(folder, changed):
    text, table = findings.where_app_loses(folder)
    rows = table.frame.set_index(["task", "metric"])
    assert rows.loc[("unseen genes", "discrimination score"), ["best", "verdict on APP"]].tolist() == [
        "kernel ridge",
        "worse",
    ]
    assert "L2" not in [metric for _, metric in rows.index]
    assert f"By the other {len(rows)}," in text
    lost = findings.where_app_loses(changed("linear model", 0.1, task=DOUBLES))[1].frame.set_index(["task", "metric"])
    assert lost.loc[("doubles", "L2"), "best"] == "linear model"


def test_nothing_is_listed_where_app_is_the_best_by_all(planted, write_folder, tmp_path):
    scores = planted[planted["method"].isin(["APP", "additive", "mean"]) & (planted["metric"] == "l2")]
    text, table = findings.where_app_loses(read_folder(write_folder(tmp_path / "f", scores)))
    assert table is None
    assert "no metric here by which another method is better" in text


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["worse", "worse"], "yes"),
        (["worse", "unclear"], "yes, on doubles"),
        (["unclear", "unclear"], "not shown: no clear difference"),
        (["unclear", "better"], "no: better without on singles"),
        (["better", "better"], "no: better without on doubles and singles"),
        (["worse", "better"], "helps on doubles, hurts on singles"),
    ],
)
def test_a_part_earns_its_place_only_if_the_default_is_worse_without_it(verdicts, said):
    assert findings.earns_its_place(pd.Series(verdicts, ["doubles", "singles"])) == said


def test_other_forms_of_the_model_are_judged_by_their_scores(folder, changed):
    paper = findings.forms(folder)
    assert paper.startswith("The paper's equations as written")
    assert "on doubles it loses to additive (ratio 1.2" in paper
    assert "on unseen genes it beats mean (ratio 0.9" in paper
    assert "on doubles it beats additive" in findings.forms(changed("APP, paper", 0.5))


def test_parts_are_sorted_by_what_was_planted(folder):
    default, paper = findings.parts(folder).split("\n\n")
    earns, matters, hurts = default.split("What ")[1:]
    assert earns.startswith("earns its place in the default") and "closed form" in earns
    assert matters.startswith("was not shown to matter") and "attention" in matters
    assert "attention=False" in matters
    assert hurts.startswith("does not earn its place") and "known noise" in hurts
    assert paper.startswith("What earns its place in the paper's form") and "random embeddings" in paper


def test_damage_is_held_against_one_and_three_per_cent(folder, changed):
    text = findings.network(folder)
    assert re.search(r"\*\*Doubles.*?up to \+0.\d % with 10 % of the edges removed or added \(at most 1 %\)", text)
    assert re.search(r"rewired.*clearly worse \(\+7.\d %", text)
    assert "there is no clear difference (+0" in text
    assert "which genes are connected is not shown to matter on this task" in text
    worse = findings.network(changed("APP, 25 % edges removed", 1.2, task=SINGLES))
    assert re.search(r"\+2\d.\d % with 25 % of the edges removed or added \(more than 3 %\)", worse)


def test_intervals_are_called_narrow_or_wide_outside_75_to_85_per_cent(folder, changed):
    assert findings.intervals(folder).count("79 % of the values, as promised") == 2
    assert findings.intervals(folder).count("Among the 20 genes of each that are predicted to change most: 62 %.") == 2
    assert "too narrow" in findings.intervals(changed("APP", 0.5, metric="coverage_80"))
    assert "too wide" in findings.intervals(changed("APP", 1.2, metric="coverage_80"))


def test_the_time_of_the_fits_is_added_up(folder, planted):
    minutes = planted.loc[planted["metric"] == "fit_seconds", "value"].sum() / 60
    assert f"took {minutes:.0f} minutes, added up" in findings.duration(folder)


def test_interactions_are_compared_with_no_change(folder, changed):
    assert "0.300, above that of no change, 0.200 (1.50 times)" in findings.interactions(folder)
    assert "0.150, not above that of no change" in findings.interactions(changed("APP", 0.5, metric="gi_auprc"))


def test_ceilings_are_unknown_unless_measured(folder, planted, write_folder, tmp_path):
    assert "Unknown for Doubles (Norman 2019) and Unseen genes" in findings.noise(folder)
    l2 = planted[(planted["method"] == "APP") & (planted["metric"] == "l2") & (planted["task"] == DOUBLES)]
    ceiling = l2.assign(method="noise ceiling", group="ceiling", metric="ceiling_l2", value=l2["value"] / 2)
    with_ceiling = read_folder(write_folder(tmp_path / "f", pd.concat([planted, ceiling], ignore_index=True)))
    assert "APP closes 58 % of the gap" in findings.noise(with_ceiling)  # (1.35 - .8) / (1.35 - .4)
    assert "noise ceiling" not in with_ceiling.methods(DOUBLES)
    assert "Unknown for Unseen genes" in findings.noise(with_ceiling)


def test_page_has_every_table_and_figure_of_the_paper_and_all_its_pictures(page):
    text = page.read_text()
    headings = re.findall(r"^## (.*)", text, re.M)
    for name in ("Table 1", "Table 2", "Figure 2", "Figure 3", "Table 3", "Table 4", "Table 5"):
        assert sum(heading.startswith(name) for heading in headings) == 1
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(shown) == 9
    assert all((page.parent / path).stat().st_size > 5000 for path in shown)
    for part in ("(Zhao and Wu, 2025)", "2026-11-25", "| doubles: APP relative to additive | 0.964 |"):
        assert part in text
    assert "$" not in text


@pytest.mark.usefixtures("no_drawing")
def test_page_is_the_same_when_written_again(results_folder, page, tmp_path):
    assert write_page(results_folder, tmp_path / "benchmarks.md")[0].read_bytes() == page.read_bytes()


@pytest.mark.usefixtures("no_drawing")
def test_published_results_stand_beside_ours_and_are_marked(results_folder, shared_data, tmp_path, page):
    text = write_page(results_folder, tmp_path / "b.md", shared_data / "published")[0].read_text()
    assert "1.258 (Geneformer, Norman, doubles)" in text
    assert "another preprocessing" in text
    assert "| Geneformer |  | -25.8 % |" in text
    assert "| no change | **0.097** | **0.272** |" in text
    assert "(Geneformer" not in page.read_text()


@pytest.mark.usefixtures("no_drawing")
def test_a_run_of_one_task_without_ablations_makes_a_page_that_says_so(planted, write_folder, tmp_path):
    methods = ["no change", "mean", "linear model", "APP"]
    scores = planted[(planted["task"] == SINGLES) & planted["method"].isin(methods) & (planted["seed"] == 1)]
    folder = write_folder(tmp_path / "quick", scores)
    info = json.loads((folder / "run.json").read_text()) | {"quick": True}
    (folder / "run.json").write_text(json.dumps(info))
    text = write_page(folder, tmp_path / "b.md")[0].read_text()
    assert "This was a quick run" in text
    assert "This run has no ablations." in text
    assert "This run has no damaged networks." in text
    assert "| doubles: APP relative to additive | 0.964 |  | not measured |" in text
    assert "This run has none of these: single and combination." in text


@pytest.mark.usefixtures("no_drawing")
def test_page_without_app_is_refused(planted, write_folder, tmp_path):
    folder = write_folder(tmp_path / "f", planted[planted["group"] == "baseline"])
    with pytest.raises(ValueError, match="no scores of 'APP' for norman_doubles, k562_singles"):
        write_page(folder, tmp_path / "b.md")
    assert not (tmp_path / "b.md").exists()


def test_a_folder_without_results_is_refused(results_folder, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="scores.parquet"):
        read_folder(tmp_path)
    shutil.copy(results_folder / "scores.parquet", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no run\.json"):
        read_folder(tmp_path)
    info = json.loads((results_folder / "run.json").read_text())
    info["tasks"][DOUBLES]["reference"] = "Additive"
    (tmp_path / "run.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="task 'norman_doubles' in run.json is 'Additive', which has no scores"):
        read_folder(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["page", str(tmp_path), "--output", str(tmp_path / "b.md")])
    assert stopped.value.code == 2
    assert "'Additive'" in capsys.readouterr().err


def test_a_folder_without_published_data_is_named(results_folder, tmp_path):
    with pytest.raises(ValueError, match=r"should hold published results, norman_doubles_l2\.csv\.gz"):
        write_page(results_folder, tmp_path / "b.md", tmp_path)


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.txt", "old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_whole(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_attention_is_of_the_largest_observed_effect(folder, planted):
    attended = folder.attended(n_genes=4)
    first = planted[(planted["seed"] == 1) & (planted["metric"] == "l2")]
    for task, panel in ((DOUBLES, "combination"), (SINGLES, "unseen gene")):
        of = first[first["task"] == task]
        label = of.loc[of["effect_size"].idxmax(), "perturbation"]
        rows = attended[attended["panel"] == f"{label}\n({panel})"]
        assert len(rows) == 4
        assert rows["score"].is_monotonic_decreasing
        assert set(rows.loc[rows["perturbed"], "gene"]) <= set(label.split("+"))
    # No measured single is held out, so the panel is of one that was trained on.
    assert attended["panel"].iloc[0] == "G07\n(single)"
    assert attended.loc[attended["perturbation"] == "G07", "gene"].tolist() == ["G07", "G08", "G09", "G10"]


def test_tasks_of_the_same_title_are_told_apart(tmp_path, planted, write_folder):
    names = {task: f"mine_{i}" for i, task in enumerate(planted["task"].unique())}
    folder = write_folder(tmp_path / "results", planted)
    planted.assign(task=planted["task"].map(names)).to_parquet(folder / "scores.parquet")
    info = json.loads((folder / "run.json").read_text())
    info["tasks"] = {new: info["tasks"][task] | {"title": "Unseen genes"} for task, new in names.items()}
    (folder / "run.json").write_text(json.dumps(info))
    read = read_folder(folder)
    assert sorted(map(read.title, read.tasks)) == [f"Unseen genes ({name})" for name in sorted(names.values())]
