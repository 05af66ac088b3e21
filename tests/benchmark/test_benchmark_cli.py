"""``scapp benchmark``: runs for anyone with nothing, on a user's files, and says what is wrong with them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from scapp import benchmark
from scapp._cli import main
from scapp.benchmark import _measured, _screens, verdict

SIMPLE = ["no change", "mean", "additive"]


@pytest.fixture
def small(monkeypatch, doubles, unseen):
    """Let the command take a small screen for the simulated one."""
    monkeypatch.setattr(_screens, "simulated", lambda: [doubles, unseen])


def command(*args, methods=SIMPLE):
    return main(["benchmark", "--no-progress", *(["--methods", *methods] if methods else []), *map(str, args)])


def test_with_nothing_given_a_simulated_screen_is_run_scored_and_judged(small, tmp_path, capsys):
    folder = tmp_path / "out"
    assert command("--quick", "--output", folder) == 0
    names = {path.name for path in folder.iterdir()}
    assert names == {"scores.parquet", "run.json", "ratios.png", "predictions"}
    scores = benchmark.read_results(folder)
    assert set(scores["method"]) == {*SIMPLE, "noise ceiling"}
    assert set(scores["task"]) == {"doubles", "unseen_singles"}
    assert json.loads((folder / "run.json").read_text())["quick"] is True
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("ratio to additive", "ratio to mean", "1.000", "won. The next best is", "ratios.png"):
        assert part in shown
    for part in (
        "the truth without its noise would keep 0.",
        "precision-recall curve of changed genes; guessing has 0.",
    ):
        assert part in shown


def test_the_simulated_tasks_are_doubles_and_unseen_singles():
    tasks = _screens.simulated(n_splits=1, n_genes=100, n_regulators=22, n_singles=18, n_doubles=20)
    assert [task.name for task in tasks] == ["simulated_doubles", "simulated_unseen_singles"]
    assert all(task.sources is not None for task in tasks)
    matrix = tasks[0].inputs().varp["network"]
    assert abs(matrix - matrix.T).nnz > 0


def test_a_second_command_keeps_what_is_there_and_adds_to_it(small, tmp_path, capsys):
    assert command("--seeds", 0, "--output", tmp_path, "--task", "doubles") == 0
    file = tmp_path / "predictions/doubles/mean/0.npz"
    before = file.stat().st_mtime_ns
    assert command("--output", tmp_path, "--task", "doubles", methods=[*SIMPLE, "shrunk additive"]) == 0
    assert file.stat().st_mtime_ns == before
    scores = benchmark.read_results(tmp_path)
    assert set(scores["seed"]) == {0, 1}
    assert "shrunk additive" in set(scores["method"])
    assert command("--output", tmp_path, "--task", "doubles", "--no-resume") == 0
    assert file.stat().st_mtime_ns != before


def test_the_reference_is_run_even_if_it_was_not_asked(small, tmp_path):
    assert command("--quick", "--output", tmp_path, methods=["no change"]) == 0
    scores = benchmark.read_results(tmp_path)
    assert {"additive", "mean", "no change"} <= set(scores["method"])


def test_scores_can_be_judged_anew_without_a_run(small, tmp_path, capsys):
    assert command("--quick", "--output", tmp_path) == 0
    (tmp_path / "ratios.png").unlink()
    said = capsys.readouterr().out
    assert command("--report", "--output", tmp_path) == 0
    assert (tmp_path / "ratios.png").is_file()
    again = capsys.readouterr().out
    assert "won. The next best is" in again and set(again.splitlines()) <= set(said.splitlines())
    assert command("--report", "--output", tmp_path / "empty") == 2
    assert "scores.parquet" in capsys.readouterr().err


@pytest.fixture(scope="module")
def planted_folder(planted, tmp_path_factory):
    """Scores of the default methods, in which APP has 0.80 / 0.837 and 0.92 / 0.935 of the L2 of the best baseline."""
    folder = tmp_path_factory.mktemp("planted")
    planted[planted["group"].isin(["baseline", "app"])].to_parquet(folder / "scores.parquet")
    return folder


def test_the_verdict_says_who_won_by_how_much_and_how_surely(planted_folder, capsys):
    assert command("--report", "--output", planted_folder, methods=None) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "APP won. The next best is pair kernel: the L2 of APP is 0.9" in shown
    assert "APP won. The next best is kernel ridge: the L2 of APP is 0.98" in shown
    assert "a clear difference (p < 0.001)" in shown
    assert (
        "Over 2 tasks the L2 of APP is 0.968" in shown and "of the best baseline of each, chosen in hindsight" in shown
    )


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1.1, "pair kernel won. The next best is APP"),
        (0.837 / 0.8, "No method clearly won"),
        (2, "APP is number 10 of 10, behind pair kernel: the L2 of APP is 1.9"),
    ],
)
def test_the_verdict_names_what_beats_app(planted, factor, said):
    rows = planted[(planted["task"] == "norman_doubles") & planted["group"].isin(["baseline", "app"])]
    rows = rows[(rows["metric"] == "l2") & (rows["method"] != "APP, paper")].copy()
    rows.loc[rows["method"] == "APP", "value"] *= factor
    sentences = " ".join(verdict(rows))
    assert said.replace("10 of 10", f"{rows['method'].nunique()} of {rows['method'].nunique()}") in sentences


def test_screens_embeddings_and_predictions_from_files_take_part(simulated, network, tmp_path):
    simulated[0].write_h5ad(tmp_path / "cells.h5ad")
    network.to_csv(tmp_path / "edges.tsv", sep="\t", index=False)
    genes = sorted({*network["source"], *network["target"]})
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(len(genes), 4)), index=pd.Index(genes, name="gene"))
    table.columns = [f"d{i}" for i in range(4)]
    table.to_csv(tmp_path / "embedding.csv")
    (task,) = [
        task
        for task in benchmark.screen("mine", tmp_path / "cells.h5ad", batch_key="batch")
        if task.name == "mine_unseen_singles"
    ]
    split = task.splits[0]
    benchmark.write_predictions(tmp_path / "theirs.npz", split.test, task.genes, task.observed(split), seed=0)
    files = [
        "--screen", f"mine={tmp_path / 'cells.h5ad'}", "--network", tmp_path / "edges.tsv", "--batch-key", "batch",
        "--embedding", f"table={tmp_path / 'embedding.csv'}:table",
        "--predictions", f"theirs@mine_unseen_singles={tmp_path / 'theirs.npz'}",
    ]  # fmt: skip
    asked = ["--task", "mine_unseen_singles", "--seeds", 0, "--output", tmp_path / "out"]
    assert command(*files, *asked) == 0
    scores = benchmark.read_results(tmp_path / "out")
    groups = scores.drop_duplicates("method").set_index("method")["group"]
    assert groups["embedding: table"] == "embedding" and groups["theirs"] == "external"
    theirs = scores[(scores["method"] == "theirs") & (scores["metric"] == "l2")]
    np.testing.assert_allclose(theirs["value"], 0, atol=1e-6)


def test_contexts_of_a_screen_are_held_out_where_their_column_is_named(simulated, network, tmp_path):
    cells = simulated[0].copy()
    cells.obs["line"] = np.where(np.arange(cells.n_obs) % 2, "A", "B")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    network.to_csv(tmp_path / "edges.tsv", sep="\t", index=False)
    files = [
        "--screen",
        f"mine={tmp_path / 'cells.h5ad'}",
        "--network",
        tmp_path / "edges.tsv",
        "--context-key",
        "line",
    ]
    asked = ["--task", "mine_unseen_contexts", "--quick", "--methods", "mean", "--output", tmp_path / "out"]
    assert command(*files, *asked) == 0
    scores = benchmark.read_results(tmp_path / "out")
    assert set(scores["task"]) == {"mine_unseen_contexts"}
    assert {"mean", "additive"} <= set(scores["method"])


def test_a_method_that_fails_is_told_and_the_others_are_scored(small, tmp_path, capsys, monkeypatch):
    from scapp import baselines

    def broken(self, training):
        raise RuntimeError("[out] of luck")

    monkeypatch.setattr(baselines.NoChange, "_fit", broken)
    assert command("--quick", "--output", tmp_path) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "RuntimeError: [out] of luck" in shown and "2 fit(s) failed" in shown
    assert {"mean", "additive"} <= set(benchmark.read_results(tmp_path)["method"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--screen", "norman"], "--screen expects NAME=FILE, found 'norman'"),
        (["--screen", "norman_2019=no.h5ad"], "no file 'no.h5ad'"),
        (["--data", "nowhere"], "no folder 'nowhere'"),
        (["--context-key", "line"], "--context-key works only with --screen"),
        (["--task", "triples"], "no task triples; there are doubles, unseen_singles"),
        (["--seeds", "9"], "No task has a split 9"),
        (["--jobs", "0"], "jobs must be at least 1"),
        (["--embedding", "x=no.csv"], "no.csv"),
        (["--predictions", "x@doubles=no.npz"], "no file of predictions 'no.npz'"),
        (["--predictions", "x=no.npz"], "Name the task: --predictions x@doubles=no.npz"),
        (["--predictions", "x@triples=no.npz"], "no task triples"),
    ],
)
def test_wrong_arguments_are_one_message_and_leave_nothing_behind(small, tmp_path, capsys, arguments, message):
    assert command(*arguments, "--output", tmp_path / "out") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_an_unknown_method_is_told_before_anything_is_read(tmp_path, capsys):
    assert command("--data", tmp_path / "nowhere", methods=["aditive"]) == 2
    assert "Did you mean 'additive'" in capsys.readouterr().err


def test_a_predictions_file_that_does_not_fit_is_refused_with_a_list_before_anything_is_fitted(
    small, doubles, tmp_path, capsys
):
    split = doubles.splits[0]
    lfc = doubles.observed(split).copy()
    lfc[3, 2] = np.nan
    benchmark.write_predictions(tmp_path / "p.npz", [*split.test[1:], "X+Y"], doubles.genes, lfc)
    given = ["--predictions", f"x@doubles={tmp_path / 'p.npz'}", "--seeds", 0, "--output", tmp_path / "out"]
    assert command(*given) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "1 of the 10 held-out perturbations are missing" in error and "X+Y" in error
    assert not (tmp_path / "out").exists()


def test_the_command_lists_methods_and_tasks(small, tmp_path, capsys):
    assert command("--list", "--output", tmp_path / "out", methods=None) == 0
    shown = capsys.readouterr().out
    for part in ("shrunk additive", "APP, no known noise", "unseen_singles"):
        assert part in shown
    assert not (tmp_path / "out").exists()


def test_measured_tasks_are_all_or_those_asked(monkeypatch, doubles, unseen, tmp_path, capsys):
    def read(name):
        return lambda folder: dataclasses.replace(unseen, name=name)

    for name in _measured.MEASURED:
        monkeypatch.setitem(_measured.MEASURED, name, read(name))
    names = list(_measured.MEASURED)
    for asked, expected in (
        ([], names),
        (["--tasks", names[4]], [names[4]]),
        (["--task", names[4]], [names[4]]),
        (["--tasks", "all"], names),
    ):
        assert command("--data", tmp_path, "--list", *asked) == 0
        shown = capsys.readouterr().out
        assert [name for name in names if f"Task '{name}'" in shown] == expected
    assert command("--data", tmp_path, "--task", "triples") == 2
    assert "no task triples; there are norman_doubles, " in capsys.readouterr().err


def test_the_real_tasks_are_run_by_the_name_of_their_folder(shared_data, tmp_path):
    data = ["--data", shared_data, "--task", "norman_doubles", "--seeds", 1, "--output", tmp_path]
    assert command(*data) == 0
    scores = benchmark.read_results(tmp_path)
    rows = scores[(scores["metric"] == "l2") & (scores["perturbation"] != "")]
    mean = rows.groupby("method")["value"].mean()
    assert mean["no change"] / mean["additive"] == pytest.approx(1.398, abs=0.0005)
