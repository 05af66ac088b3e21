"""Runs write one file a fit, go on where they stopped, survive methods that fail; scores are those of the arrays."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import scapp
from scapp import benchmark, metrics
from scapp.benchmark import Method, Predicted, _run, _scores
from scapp.benchmark._run import slug, unit_path

SIMPLE = ["no change", "mean", "additive", "shrunk additive"]


@dataclass(frozen=True, eq=False)
class Broken(Method):
    def applies(self, task):
        return True

    def options(self):
        return {}

    def predict(self, task, split):
        raise RuntimeError("out of luck")


@dataclass(frozen=True, eq=False)
class Oracle(Method):
    """Predicts what is observed, times a factor, and knows by how much it errs."""

    factor: float = 1.0

    def applies(self, task):
        return True

    def options(self):
        return {"factor": self.factor}

    def predict(self, task, split):
        observed = task.observed(split)
        lfc = self.factor * observed
        return Predicted(lfc, std=np.abs(lfc - observed) / 1.2 + 1e-6)


def run(tasks, methods, folder, **options):
    return benchmark.run(tasks, methods, folder=folder, progress_bar=False, **options)


@pytest.fixture(scope="module")
def finished(doubles, unseen, tmp_path_factory):
    """A folder with simple methods on two tasks, and its scores."""
    folder = tmp_path_factory.mktemp("run")
    methods = [*SIMPLE, Oracle("oracle", "external"), Oracle("half", "external", 0.5)]
    assert run([doubles, unseen], methods, folder) == []
    return folder, benchmark.score([doubles, unseen], folder)


def test_each_fit_writes_a_file_without_pickles(finished, doubles):
    folder, _ = finished
    split = doubles.splits[1]
    with np.load(unit_path(folder, "doubles", "shrunk additive", 1), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert arrays["labels"].tolist() == list(split.test)
    assert arrays["genes"].tolist() == doubles.genes.tolist()
    assert arrays["lfc"].dtype == np.float32
    assert arrays["lfc"].shape == arrays["observed"].shape == (10, 50)
    np.testing.assert_array_equal(arrays["observed"], doubles.observed(split))
    assert arrays["fit_seconds"].ndim == 0 and arrays["peak_memory_mb"] > 10
    assert "std" not in arrays


def test_methods_are_left_out_of_tasks_they_say_nothing_about(finished):
    folder, scores = finished
    assert not (folder / "predictions/unseen_singles/additive").exists()
    by_task = scores.groupby("task")["method"].unique().map(set)
    assert by_task["doubles"] == {*SIMPLE, "oracle", "half", "noise ceiling"}
    assert by_task["unseen_singles"] == {"no change", "mean", "oracle", "half", "noise ceiling"}


def test_run_json_says_what_was_run_and_holds_no_paths(finished):
    folder, _ = finished
    text = (folder / "run.json").read_text()
    content = json.loads(text)
    assert content["tasks"]["doubles"] == {
        "title": "Combinations", "reference": "additive", "kind": "combinations", "n_splits": 2, "n_scored": 50,
        "n_train": 28, "n_test": 10, "note": content["tasks"]["doubles"]["note"],
    }  # fmt: skip
    assert content["versions"]["scapp"] == scapp.__version__
    assert content["quick"] is False and content["cores"] >= 1
    assert str(folder) not in text and "/" not in text.replace("doubles/", "")


def test_a_second_run_makes_nothing_again(finished, doubles):
    folder, _ = finished
    path = unit_path(folder, "doubles", "mean", 0)
    before = path.stat().st_mtime_ns
    assert run(doubles, ["mean"], folder) == []
    assert path.stat().st_mtime_ns == before


def test_what_changed_is_made_again_and_said(doubles, tmp_path, caplog, monkeypatch):
    run(doubles, [Oracle("o", "external"), "mean"], tmp_path)
    paths = [unit_path(tmp_path, "doubles", name, 0) for name in ("o", "mean")]
    before = [path.stat().st_mtime_ns for path in paths]

    run(doubles, [Oracle("o", "external", 0.9), "mean"], tmp_path)
    assert "2 earlier prediction file(s) are repeated, because options changed" in caplog.text
    after = [path.stat().st_mtime_ns for path in paths]
    assert after[0] != before[0] and after[1] == before[1]

    monkeypatch.setattr(_run, "versions", lambda: {"scapp": "99"})
    run(doubles, ["mean"], tmp_path)
    assert "because versions changed" in caplog.text
    assert paths[1].stat().st_mtime_ns != before[1]

    paths[1].write_bytes(b"half a file")
    run(doubles, ["mean"], tmp_path)
    assert "because the file cannot be read" in caplog.text
    assert _run.changed(paths[1], {}) is None


def test_other_data_of_the_same_name_are_not_taken_for_the_same(doubles, simulated, tmp_path, caplog):
    run(doubles, ["mean"], tmp_path)
    other = benchmark.doubles(simulated[0], n_splits=2, n_scored=40)
    with pytest.raises(ValueError, match="made for other perturbations, genes or effects"):
        benchmark.score(other, tmp_path)
    run(other, ["mean"], tmp_path)
    assert "because data changed" in caplog.text
    assert len(benchmark.score(other, tmp_path))


def test_without_resume_all_is_made_again(doubles, tmp_path):
    run(doubles, ["mean"], tmp_path)
    path = unit_path(tmp_path, "doubles", "mean", 0)
    before = path.stat().st_mtime_ns
    run(doubles, ["mean"], tmp_path, resume=False)
    assert path.stat().st_mtime_ns != before


def test_a_method_that_fails_does_not_lose_the_others(doubles, tmp_path, caplog):
    failures = run(doubles, [Broken("broken", "external"), "mean"], tmp_path)
    assert [(f.task, f.method, f.seed) for f in failures] == [("doubles", "broken", 0), ("doubles", "broken", 1)]
    assert failures[0].error == "RuntimeError: out of luck"
    assert "in predict" in failures[0].traceback
    assert "doubles, broken, split 0 failed: RuntimeError: out of luck" in caplog.text
    assert unit_path(tmp_path, "doubles", "mean", 1).is_file()
    assert not (tmp_path / "predictions/doubles/broken").exists()


def test_a_write_that_is_interrupted_leaves_no_file(doubles, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(doubles, ["mean"], tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".npz"]


def test_two_processes_predict_what_one_does(doubles, tmp_path):
    assert run(doubles, ["mean", "additive"], tmp_path / "one") == []
    assert run(doubles, ["mean", "additive"], tmp_path / "two", n_jobs=2) == []
    for name in ("mean", "additive"):
        for seed in (0, 1):
            files = [np.load(unit_path(tmp_path / folder, "doubles", name, seed)) for folder in ("one", "two")]
            np.testing.assert_array_equal(files[0]["lfc"], files[1]["lfc"])
    assert run(doubles, ["mean"], tmp_path / "two", n_jobs=2) == []  # nothing left to do


def test_seeds_and_quick_choose_splits(doubles, tmp_path):
    run(doubles, ["mean"], tmp_path / "a", seeds=[1])
    assert [path.name for path in (tmp_path / "a").rglob("*.npz")] == ["1.npz"]
    run(doubles, ["mean"], tmp_path / "b", quick=True)
    assert [path.name for path in (tmp_path / "b").rglob("*.npz")] == ["0.npz"]
    assert json.loads((tmp_path / "b/run.json").read_text())["quick"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": [7]}, r"No task has a split 7; there are \[0, 1\]"),
        ({"n_jobs": 0}, "n_jobs must be at least 1, found 0"),
        ({"methods": []}, "None of the methods"),
    ],
)
def test_runs_that_make_no_sense_are_refused_before_anything_is_written(doubles, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(doubles, options.pop("methods", ["mean"]), tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_names_that_clash_are_refused(doubles, unseen, tmp_path):
    with pytest.raises(ValueError, match="Two tasks have the same name"):
        run([doubles, doubles], ["mean"], tmp_path)
    with pytest.raises(ValueError, match="no task"):
        run([], ["mean"], tmp_path)
    with pytest.raises(ValueError, match="'Mean' and 'mean' would share a folder"):
        run(doubles, [Oracle("Mean", "external"), "mean"], tmp_path)
    with pytest.raises(ValueError, match="None of the methods additive applies to unseen_singles"):
        run(unseen, ["additive"], tmp_path)


def test_folders_are_called_after_methods():
    assert slug("APP, 10 % edges removed") == "app_10_edges_removed"
    assert slug("embedding: scGPT") == "embedding_scgpt"


def test_only_code_counts_not_what_is_said_of_it(tmp_path, monkeypatch):
    def code(text):
        (tmp_path / "room").mkdir(exist_ok=True)
        (tmp_path / "room/a.py").write_text(text)
        monkeypatch.setattr(scapp, "__file__", str(tmp_path / "__init__.py"))
        return _run._code.__wrapped__(("room",))

    first = code('def f(x):\n    """Twice."""\n    return 2 * x\n')
    assert code('def f(x):\n    """Two times."""\n    # why not\n    return 2 * x\n') == first
    assert code('def f(x):\n    """Twice."""\n    return 3 * x\n') != first


def value(scores, metric, method, task="doubles", seed=0):
    rows = scores[(scores["task"] == task) & (scores["method"] == method) & (scores["metric"] == metric)]
    return rows[rows["seed"] == seed]["value"].to_numpy()


def test_scores_are_those_of_the_arrays(finished, doubles):
    folder, scores = finished
    split = doubles.splits[0]
    observed = doubles.observed(split)
    train = doubles.training(split).layers["lfc"][:, doubles.scored]
    lfc = np.load(unit_path(folder, "doubles", "shrunk additive", 0))["lfc"]
    np.testing.assert_allclose(value(scores, "l2", "shrunk additive"), metrics.l2(lfc, observed))
    np.testing.assert_allclose(
        value(scores, "pearson_delta_mean", "shrunk additive"),
        metrics.pearson_delta(lfc, observed, reference=train.mean(axis=0)), atol=1e-6,
    )  # fmt: skip
    single = {label: row for label, row in zip(split.train, train, strict=True) if "+" not in label}
    additive = np.array([sum(single[gene] for gene in label.split("+")) for label in split.test])
    np.testing.assert_allclose(
        value(scores, "gi_auprc", "shrunk additive"), metrics.interaction_auprc(lfc, observed, additive), atol=1e-6
    )
    rows = scores[(scores["task"] == "doubles") & (scores["metric"] == "l2") & (scores["seed"] == 0)]
    rows = rows[rows["method"] == "mean"]
    assert rows["perturbation"].tolist() == list(split.test)
    assert (rows["n_seen"] == 2).all()
    np.testing.assert_allclose(rows["effect_size"], np.linalg.norm(observed, axis=1), rtol=1e-6)
    np.testing.assert_allclose(value(scores, "l2", "no change"), rows["effect_size"])


def test_a_perfect_prediction_has_perfect_scores(finished):
    _, scores = finished
    for task in ("doubles", "unseen_singles"):
        for metric in ("l2", "rmse", "mae", "rank", "weighted_mse"):
            np.testing.assert_allclose(value(scores, metric, "oracle", task), 0, atol=1e-6)
        for metric in (
            "pearson_delta",
            "pearson_delta_mean",
            "cosine",
            "pds",
            "weighted_r2",
            "top_20_overlap",
            "direction_match",
        ):
            np.testing.assert_allclose(value(scores, metric, "oracle", task), 1, atol=1e-6)
    assert value(scores, "gi_auprc", "oracle") == pytest.approx(1)
    assert value(scores, "gi_sign_match", "oracle") == pytest.approx(1)


def test_a_spread_that_is_the_error_is_calibrated_as_planted(finished):
    _, scores = finished
    # Errors are 1.2 times the spread: inside 80 % and 95 % intervals (1.28, 1.96), outside that of 50 % (0.67).
    assert value(scores, "coverage_50", "half").max() == 0
    assert value(scores, "coverage_80", "half").min() == value(scores, "coverage_95", "half").min() == 1
    assert value(scores, "coverage_80_top_20", "half").min() == 1
    assert value(scores, "spread_error_spearman", "half")[0] > 0.8
    assert (value(scores, "spread", "half") > 0).all()
    assert len(value(scores, "coverage_80", "mean")) == 0


def test_mean_collapse_is_seen_beside_the_errors(finished, doubles):
    folder, scores = finished
    assert value(scores, "kept_spread", "mean")[0] == value(scores, "kept_spread", "no change")[0] == 0
    assert value(scores, "kept_spread", "oracle")[0] == pytest.approx(1, abs=1e-6)
    assert value(scores, "kept_spread", "half")[0] == pytest.approx(0.5, abs=1e-6)
    truth = value(scores, "ceiling_kept_spread", "noise ceiling")[0]
    assert 0.5 < truth < 1
    summary = benchmark.summarise(scores).set_index(["task", "method"])["kept_spread"]
    assert summary["doubles", "mean"] == 0
    assert summary["doubles", "half"] == pytest.approx(0.5, abs=1e-6)


def test_what_the_truth_would_keep_of_the_spread_is_that_of_the_simulated_effects(finished, doubles, simulated):
    _, scores = finished
    split = doubles.splits[0]
    truth = np.asarray(simulated[1].effects[list(split.test), doubles.genes].layers["lfc"], dtype=float)
    kept = metrics.kept_spread(truth, doubles.observed(split))
    assert value(scores, "ceiling_kept_spread", "noise ceiling")[0] == pytest.approx(kept, abs=0.05)


def test_genes_that_changed_are_scored_apart(finished, doubles):
    _, scores = finished
    split = doubles.splits[0]
    threshold = doubles.change_threshold(split)
    errors = doubles.effects[list(split.test), doubles.genes].layers["lfc_se"]
    assert threshold == pytest.approx(2 * np.median(errors))
    changed = np.abs(doubles.observed(split)) >= threshold
    np.testing.assert_allclose(value(scores, "changed_share", "oracle"), changed.mean(axis=1))
    for metric in ("changed_auprc", "changed_precision", "changed_recall"):
        np.testing.assert_allclose(value(scores, metric, "oracle"), 1)
    # No change calls nothing, and guesses.
    assert np.isnan(value(scores, "changed_precision", "no change")).all()
    assert (value(scores, "changed_recall", "no change") == 0).all()
    np.testing.assert_allclose(value(scores, "changed_auprc", "no change"), changed.mean(axis=1))
    # Half the effects in the same order, of which fewer are called.
    np.testing.assert_allclose(value(scores, "changed_auprc", "half"), 1)
    assert value(scores, "changed_recall", "half").mean() < 0.9
    without = dataclasses.replace(doubles, effects=doubles.effects.copy())
    del without.effects.layers["lfc_se"]
    observed = np.abs(without.observed(split))
    assert np.mean(observed >= without.change_threshold(split)) == pytest.approx(0.05, abs=0.01)


def test_app_finds_changed_genes_by_its_own_probabilities(doubles, tmp_path):
    run(doubles, ["APP"], tmp_path, seeds=[0])
    with np.load(unit_path(tmp_path, "doubles", "APP", 0)) as file:
        p_change, lfc = file["p_change"].astype(float), file["lfc"]
    assert p_change.shape == lfc.shape and p_change.min() >= 0 and p_change.max() <= 1
    scores = benchmark.score(doubles, tmp_path)
    changed = np.abs(doubles.observed(doubles.splits[0])) >= doubles.change_threshold(doubles.splits[0])
    np.testing.assert_allclose(value(scores, "changed_auprc", "APP"), metrics.changed_genes_auprc(p_change, changed))
    assert value(scores, "changed_auprc", "APP").mean() > 1.3 * changed.mean()


def test_scores_of_all_kinds_come_to_one_scale(finished):
    _, scores = finished
    table = benchmark.calibrated(scores).set_index(["task", "method", "metric"])
    assert (table["share"].xs("mean", level="method").dropna() == 0).all()
    np.testing.assert_allclose(table["share"].xs("oracle", level="method"), 1, atol=1e-6)
    row = table.loc["doubles", "half", "l2"]
    assert row["share"] == pytest.approx((row["null"] - row["mean"]) / row["null"])
    assert 0 < row["share"] < 1 and row["best"] == 0
    # Against the mean of training, that mean has no correlation, so that nothing can be held against it.
    assert benchmark.calibrated(scores, metrics=["pearson_delta_mean"])["share"].isna().all()
    with pytest.raises(ValueError, match="No perfect value of 'spread'"):
        benchmark.calibrated(scores, metrics="spread")
    with pytest.raises(ValueError, match="null=…"):
        benchmark.calibrated(scores, null="nothing")


def test_numbers_over_a_split_have_no_perturbation(finished):
    _, scores = finished
    over = scores[scores["perturbation"] == ""]
    assert set(over["n_seen"]) == {-1} and over["effect_size"].isna().all()
    assert {"fit_seconds", "predict_ms", "parameters", "peak_memory_mb", "gi_auprc", "spread_error_spearman"} <= set(
        over["metric"]
    )
    assert not over[over["task"] == "unseen_singles"]["metric"].str.startswith("gi_").any()


def test_what_is_not_defined_is_nan_and_not_left_out(finished):
    _, scores = finished
    assert np.isnan(value(scores, "pearson_delta", "no change")).all()
    assert np.isnan(value(scores, "pearson_delta_mean", "mean")).all()
    assert len(value(scores, "pearson_delta", "no change")) == 10


def test_the_noise_ceiling_is_near_the_error_of_the_truth(finished, doubles, simulated):
    _, scores = finished
    split = doubles.splits[0]
    truth = simulated[1].effects[list(split.test), doubles.genes].layers["lfc"]
    error = metrics.l2(truth, doubles.observed(split))
    assert value(scores, "ceiling_l2", "noise ceiling").mean() == pytest.approx(error.mean(), rel=0.15)


def test_without_cells_the_ceiling_is_that_of_the_standard_errors(doubles, tmp_path):
    task = dataclasses.replace(doubles, halves=None)
    run(task, ["mean"], tmp_path, seeds=[0])
    ceiling = value(benchmark.score(task, tmp_path), "ceiling_l2", "noise ceiling")
    errors = task.effects[list(task.splits[0].test), task.genes].layers["lfc_se"]
    np.testing.assert_allclose(ceiling, np.sqrt(np.sum(np.square(errors, dtype=float), axis=1)))
    unknown = task.effects.copy()
    del unknown.layers["lfc_se"]
    known = dataclasses.replace(task, effects=unknown, standard_errors=task.effects.layers["lfc_se"])
    np.testing.assert_allclose(known.noise(task.splits[0]), ceiling)
    assert dataclasses.replace(known, standard_errors=None).noise(task.splits[0]) is None


def test_for_seen_singles_the_ceiling_is_that_of_half_the_cells(seen, simulated, tmp_path):
    run(seen, ["additive", "no change"], tmp_path)
    scores = benchmark.score(seen, tmp_path)
    split = seen.splits[0]
    truth = simulated[1].effects[list(split.test), seen.genes].layers["lfc"]
    error = metrics.l2(truth, seen.observed(split))
    ceiling = value(scores, "ceiling_l2", "noise ceiling", "seen_singles")
    assert ceiling.mean() == pytest.approx(error.mean(), rel=0.15)
    # What repeats one half errs by the noise of both.
    repeated = value(scores, "l2", "additive", "seen_singles")
    np.testing.assert_allclose(repeated, np.sqrt(2) * ceiling, rtol=1e-5)


def test_scores_of_other_tasks_in_the_folder_are_kept(doubles, unseen, tmp_path):
    run([doubles, unseen], ["mean"], tmp_path)
    benchmark.score(doubles, tmp_path)
    both = benchmark.score(unseen, tmp_path)
    assert set(both["task"]) == {"doubles", "unseen_singles"}
    assert len(benchmark.score(unseen, tmp_path)) == len(both)
    assert set(json.loads((tmp_path / "run.json").read_text())["tasks"]) == {"doubles", "unseen_singles"}


def test_scores_are_read_as_they_were_written(finished, tmp_path, monkeypatch):
    folder, scores = finished
    pd.testing.assert_frame_equal(benchmark.read_results(folder), scores, check_dtype=False)
    monkeypatch.setattr(_scores.importlib.util, "find_spec", lambda name: None)
    _scores.write_results(tmp_path, scores)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    pd.testing.assert_frame_equal(benchmark.read_results(tmp_path), scores, check_dtype=False)


def test_a_folder_without_scores_or_predictions_says_what_to_run(doubles, tmp_path):
    with pytest.raises(FileNotFoundError, match="scapp benchmark"):
        benchmark.read_results(tmp_path)
    with pytest.raises(ValueError, match="no predictions of 'doubles'"):
        benchmark.score(doubles, tmp_path)


def test_a_predictions_file_takes_part(doubles, tmp_path):
    truth = [doubles.observed(split) for split in doubles.splits]
    labels = [label for split in doubles.splits for label in split.test]
    seeds = [split.seed for split in doubles.splits for _ in split.test]
    path = benchmark.write_predictions(tmp_path / "p.npz", labels, doubles.genes, np.vstack(truth), seed=seeds)
    method = benchmark.predictions_method("elsewhere", path, task="doubles")
    assert run(doubles, [method, "additive"], tmp_path) == []
    scores = benchmark.score(doubles, tmp_path)
    np.testing.assert_allclose(value(scores, "l2", "elsewhere", seed=1), 0, atol=1e-6)
    assert set(scores.loc[scores["method"] == "elsewhere", "group"]) == {"external"}
    incomplete = benchmark.write_predictions(
        tmp_path / "q.npz", labels[1:], doubles.genes, np.vstack(truth)[1:], seed=seeds[1:]
    )
    (failure,) = run(doubles, [benchmark.predictions_method("less", incomplete)], tmp_path)
    assert "1 of the 10 held-out perturbations are missing" in failure.error
    with pytest.raises(FileNotFoundError, match="no.npz"):
        benchmark.predictions_method("none", tmp_path / "no.npz")


@pytest.mark.filterwarnings("ignore")
def test_app_runs_quietly(doubles, tmp_path, capfd):
    assert run(doubles, ["APP"], tmp_path, seeds=[0]) == []
    shown = "".join(capfd.readouterr())
    assert "Seed set" not in shown and "GPU" not in shown
    with np.load(unit_path(tmp_path, "doubles", "APP", 0), allow_pickle=False) as file:
        assert file["std"].shape == (10, 50)
        assert file["parameters"] > 0 and file["fit_seconds"] > 0
    assert _run._peak_memory_mb() > 0


def test_the_progress_bar_moves_on_while_what_a_fit_prints_is_kept_away(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    monkeypatch.setenv("TERM", "xterm")
    with _run._bar(1, 0, True), _run._quiet():
        print("said by a fit")
        time.sleep(0.6)
    shown = capsys.readouterr().out
    assert "said by a fit" not in shown
    assert shown.count("0/1") > 3
